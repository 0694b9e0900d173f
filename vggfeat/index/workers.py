"""Who encodes the ranges of an index: processes of this machine, or a Ray cluster.

Each is given a list of tasks and gives their shards as they are done; what a task is, it does not
know.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Protocol

from vggfeat.errors import SearchError
from vggfeat.index.shards import RangeTask, Shard, encode
from vggfeat.processors import usable_cores
from vggfeat.ray_tasks import run_tasks

_ATTEMPTS = 3


class Workers(Protocol):
    """Encodes ranges."""

    def encoded(self, tasks: Sequence[RangeTask]) -> Iterator[Shard]:
        """Give the shard of each task, in any order.

        Raises
        ------
        SearchError
            One cannot be done, tried again as it may be.
        """


@dataclass(frozen=True, slots=True)
class LocalWorkers:
    """Processes of this machine, which share its processors.

    They are programs of their own, so that a script needs no guard of its main module.

    Parameters
    ----------
    count : int
        How many.
    """

    count: int

    def encoded(self, tasks: Sequence[RangeTask]) -> Iterator[Shard]:
        """Give the shard of each task; one that fails is tried again, in a new process, twice."""
        waiting: queue.SimpleQueue[RangeTask] = queue.SimpleQueue()
        for task in tasks:
            waiting.put(task)
        done: queue.SimpleQueue[Shard | BaseException] = queue.SimpleQueue()
        count = min(self.count, len(tasks))
        programs = [_Program(max(1, usable_cores() // count)) for _ in range(count)]
        threads = [
            threading.Thread(target=_work, args=(program, waiting, done)) for program in programs
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in tasks:
                result = done.get()
                if isinstance(result, BaseException):
                    raise result
                yield result
        finally:
            for program in programs:
                program.end()
            for thread in threads:
                thread.join()


def _work(
    program: _Program,
    waiting: queue.SimpleQueue[RangeTask],
    done: queue.SimpleQueue[Shard | BaseException],
) -> None:
    try:
        while True:
            try:
                task = waiting.get_nowait()
            except queue.Empty:
                return
            done.put(program.encoded(task))
    except BaseException as error:
        done.put(error)


class _Program:
    """A process that encodes, started when it is needed, and anew where it failed."""

    def __init__(self, threads: int) -> None:
        self._told = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._command = [sys.executable, "-m", "vggfeat.index.encode_ranges", str(threads)]
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._ended = False

    def encoded(self, task: RangeTask) -> Shard:
        """Give the shard of a task."""
        reason = ""
        for _ in range(_ATTEMPTS):
            process = self._started()
            if process is None:
                break
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(f"{json.dumps(asdict(task))}\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except OSError:  # it is gone
                line = ""
            answer = json.loads(line) if line.endswith("\n") else {}
            if "error" not in answer and answer:
                return Shard(**answer)
            self._stop()
            reason = answer.get("error") or self._last_words(process)
        raise SearchError(
            f"A process that encodes vectors failed {_ATTEMPTS} times: {reason.rstrip('.')}. Build "
            "the index with fewer --workers, or without."
        )

    def _last_words(self, process: subprocess.Popen[str]) -> str:
        self._told.seek(0)
        lines = self._told.read().split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return f"it ended with status {process.returncode} ({last})"

    def _started(self) -> subprocess.Popen[str] | None:
        with self._lock:
            if self._process is None and not self._ended:
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=self._told, text=True,
                )  # fmt: skip
            return self._process

    def end(self) -> None:
        """Stop it for good, also from another thread."""
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()
        self._stop()
        self._told.close()

    def _stop(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with suppress(OSError):  # of a process that ended before it had read its task
                    pipe.close()


@dataclass(frozen=True, slots=True)
class RayWorkers:
    """Tasks of a Ray cluster, each on one CPU, whose nodes all see the folder of the index.

    Parameters
    ----------
    address : str, optional
        Of the cluster, as ``"auto"`` or ``"ray://head:10001"``; by default Ray is started on this
        machine for the time being.
    """

    address: str | None = None

    def encoded(self, tasks: Sequence[RangeTask]) -> Iterator[Shard]:
        """Give the shard of each task; where a node or a disk failed, it is tried again."""
        for _, shard in run_tasks(encode, tasks, address=self.address, retries=_ATTEMPTS - 1):
            yield shard
