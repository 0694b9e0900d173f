"""Workers that mutate and use files, and what became of each case.

A worker is a process that takes case after case. One that dies, takes too long, or takes too much
memory is a fault of its case; another takes its place. Linux only: its ``/proc`` tells the memory.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random
from typing import Any

import click

from fuzzing.kinds import Kind, Step
from vggfeat.errors import VggfeatError
from vggfeat.malloc import return_freed_blocks

WORKS, REFUSED, FAULT = "works", "refused", "fault"
_OTHERS = 3  # steps after the first that are done with a case
_HARD = 4 << 30  # bytes of memory at which a worker is ended at once
_fork = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes
    ----------
    case : int
    result : {"works", "refused", "fault"}
    reason : str
        Of a refusal or a fault.
    place : str
        Where a fault was raised; faults of one place are told once.
    seconds : float
    memory : int
        Bytes that the use took at its most, beyond what the process had.
    size : int
        Bytes of the files.
    """

    case: int
    result: str
    reason: str = ""
    place: str = ""
    seconds: float = 0.0
    memory: int = 0
    size: int = 0


class BrokenKindError(Exception):
    """A genuine file cannot be made or used: nothing can be told by damaged ones."""


def outcomes(
    kind: Kind, cases: Sequence[int], seed: int, *, seconds: float, workers: int
) -> Iterator[Outcome]:
    """Try cases of a kind, in any order.

    Parameters
    ----------
    kind : Kind
    cases : sequence of int
        Each says, with `seed`, all that is done.
    seed : int
    seconds : float
        Limit of time for one case.
    workers : int
        Processes at a time.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        folder = Path(place)
        genuine = folder / "genuine"
        genuine.mkdir()
        _apart(kind.make, genuine)
        waiting = list(cases)[::-1]
        running = {}
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    worker = _Worker(kind, folder, seed, seconds)
                    worker.give(waiting.pop())
                    running[worker.connection] = worker
                for connection in wait(list(running), timeout=0.05):
                    worker = running[connection]  # type: ignore[index]
                    outcome = worker.outcome()
                    if outcome is None:  # the time it took to make the file is the fuzzer's
                        worker.begin()
                        continue
                    yield outcome
                    if outcome.result == FAULT or not waiting:
                        worker.end()
                        del running[connection]  # type: ignore[arg-type]
                    else:
                        worker.give(waiting.pop())
                for worker in running.values():
                    worker.limit()
        finally:
            for worker in running.values():
                worker.end()


def tried(
    kind: Kind, folder: Path, case: int, seed: int, made: Callable[[], object] = lambda: None
) -> Outcome:
    """Try one case in this process: mutate a copy of ``folder/genuine``, and use it.

    `made` is called in between.
    """
    place = folder / f"case-{os.getpid()}"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder / "genuine", place)
    try:
        steps = prepared(kind, place, case, seed) if case >= 0 else kind.steps
    except Exception as error:  # of the fuzzer itself
        return Outcome(case, FAULT, f"not mutated: {error!r}"[:300], _place(error))
    size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    made()
    before = _memory_before()
    start = time.perf_counter()
    result, reason, where = WORKS, "", ""
    for step in steps:
        try:
            step(place / kind.path)
        except (VggfeatError, click.ClickException) as error:
            # A message must be one that can be printed.
            result, reason = REFUSED, f"{type(error).__name__}: {error}".encode().decode()
            if step is steps[0]:
                break
        except Exception as error:
            where = _place(error)
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            result, reason = FAULT, f"{text} in {where} ({_name(step)})"
            break
    seconds = time.perf_counter() - start
    memory = _memory_since(before)
    if result != FAULT and memory > kind.allowed(size):
        result, where = FAULT, "memory"
        reason = f"took {memory / 2**20:,.0f} MiB for {size:,} bytes"
    return Outcome(case, result, reason, where, seconds, memory, size)


def prepared(kind: Kind, place: Path, case: int, seed: int) -> Sequence[Step]:
    """Mutate genuine files; return which steps are done with them: the first, and a few others."""
    random = Random(f"{seed} {kind.name} {case}")
    random.choice(kind.mutations)(place, random)
    others = random.sample(kind.steps[1:], min(_OTHERS, len(kind.steps) - 1))
    return kind.steps[0], *others


class _Worker:
    def __init__(self, kind: Kind, folder: Path, seed: int, seconds: float) -> None:
        self.connection, theirs = _fork.Pipe()
        self._seconds, self._died = seconds, ""
        self._process = _fork.Process(
            target=_work, args=(kind, folder, seed, theirs, self.connection), daemon=True
        )
        self._process.start()
        theirs.close()
        self._case, self._made, self._since = -1, False, time.monotonic()
        ready = self.connection.poll(120) and self.outcome()
        if not ready or ready.result != WORKS:
            self.end()
            raise BrokenKindError(f"{kind.name}: its genuine file is refused: {ready}")

    def give(self, case: int) -> None:
        """Let it try a case."""
        self._case, self._made, self._since = case, False, time.monotonic()
        with suppress(BrokenPipeError):
            self.connection.send(case)

    def begin(self) -> None:
        """Count the time of its case from now on."""
        self._made, self._since = True, time.monotonic()

    def outcome(self) -> Outcome | None:
        """Return what it says, None where its file is made; or how it died."""
        try:
            said: Outcome | None = self.connection.recv()
            return said
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode or 0
            reason = self._died or (
                f"died by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
            )
            return Outcome(self._case, FAULT, reason, reason, time.monotonic() - self._since)

    def limit(self) -> None:
        """End it where it takes too long or too much."""
        if self._made and time.monotonic() - self._since > self._seconds:
            self._died = f"took more than {self._seconds:.0f} s"
        elif _field(self._process.pid, "VmRSS") > _HARD:
            self._died = "took more than 4 GiB"
        if self._died:
            self._process.kill()

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def _work(kind: Kind, folder: Path, seed: int, mine: Connection, theirs: Connection) -> None:
    """Try the genuine file, which takes up what is taken up but once; then what is given."""
    theirs.close()
    _quiet()
    with suppress(EOFError, KeyboardInterrupt):
        tried(kind, folder, -1, seed)
        gc.collect()
        gc.freeze()
        mine.send(tried(kind, folder, -1, seed))
        while True:
            mine.send(tried(kind, folder, mine.recv(), seed, lambda: mine.send(None)))
    os._exit(0)


def _quiet() -> None:
    """Send what libraries print to nowhere, and let each thread pool have one thread."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _apart(make: Any, *arguments: object) -> None:
    """Do something in a process of its own, so that no thread pool is there when workers fork."""
    process = _fork.Process(target=make, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise BrokenKindError("the genuine file cannot be made")


def _memory_before() -> tuple[int, int, int]:
    """Return resident and virtual memory now, and the peak of the latter so far."""
    gc.collect()
    return_freed_blocks()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # begins the peak of resident memory anew
    return _field(None, "VmRSS"), _field(None, "VmSize"), _field(None, "VmPeak")


def _memory_since(before: tuple[int, int, int]) -> int:
    """Return the most bytes that were taken since, also such that nothing was written to.

    Those are seen where the peak of virtual memory has risen; a case in which it rises too far is
    a fault, after which another worker begins anew.
    """
    resident, virtual, peak = before
    now = _field(None, "VmPeak")
    return max(_field(None, "VmHWM") - resident, now - virtual if now > peak else 0, 0)


def _field(process: int | None, name: str) -> int:
    """Return a figure of ``/proc/PID/status`` in bytes; 0 of a process that is gone."""
    try:
        for line in Path(f"/proc/{process or 'self'}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return 0


def _place(error: BaseException) -> str:
    """Return the line of vggfeat's that was running."""
    lines = traceback.extract_tb(error.__traceback__)
    ours = [line for line in lines if f"{os.sep}vggfeat{os.sep}" in line.filename] or lines
    return f"{ours[-1].filename.rpartition(f'vggfeat{os.sep}')[2]}:{ours[-1].lineno}"


def _name(step: Any) -> str:
    return getattr(step, "__name__", str(step))
