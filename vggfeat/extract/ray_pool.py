"""Workers on a Ray cluster, each busy with one part: lost ones are replaced, parts tried again."""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from vggfeat.errors import ClusterError, DeviceError, ImageError, StoreLockedError, VggfeatError
from vggfeat.extract.part_queue import ATTEMPTS, PartQueue
from vggfeat.extract.parts import PartResult, PartsJob
from vggfeat.extract.ray_slots import Slot, slots_of
from vggfeat.progress import Progress, bars
from vggfeat.store import DONE, FeatureStore
from vggfeat.store.parts.working import note_failure

_log = logging.getLogger(__name__)

_TICK = 0.5  # seconds between looks at what has happened
_LOOK = 2.0  # seconds between looks at the cluster's nodes
_POLLS = 50  # questions to workers a second, all together
_TELL = 60.0  # seconds without any worker, after which the user is told
_GIVE_UP = 120.0  # seconds without any node
_REASON = 300  # characters of what Ray says


@dataclass
class _Worker:
    """A worker, and what it was told to do."""

    slot: Slot
    actor: Any
    task: Any
    """Reference to what it is doing; None where it has nothing to do."""
    part: int | None = None
    """The part that it computes; None while it prepares itself."""
    poll: Any = None


@dataclass
class PoolRun:
    """What a pool did.

    Attributes
    ----------
    results : list of PartResult
        Of the parts that are done.
    failed : dict of int to str
        Parts that are not, and why.
    seconds : float
        From the first worker's being ready to the end.
    """

    results: list[PartResult] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0


class RayPool:
    """Workers for the parts of one store; used in a ``with`` statement, which ends them.

    Parameters
    ----------
    ray : module
        Ray, connected.
    kind : type
        The class of workers, :class:`~vggfeat.extract.on_ray.PartWorker`.
    job : PartsJob
        The store.
    """

    def __init__(self, ray: Any, kind: type, job: PartsJob) -> None:
        self._ray, self._job = ray, job
        self._kind = ray.remote(kind)
        self._workers: dict[Slot, _Worker] = {}
        self._unfit: dict[Slot, str] = {}
        self._attempts: Counter[Slot] = Counter()
        self._device = job.extractor.device
        self._facts: Any = None
        self._ready = 0.0
        self._told: set[str] = set()
        self._looked = -_LOOK
        self._began = self._seen = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for slot in list(self._workers):
            self._drop(slot)

    def run(self, numbers: Sequence[int], progress: Progress | bool | None) -> PoolRun:
        """Compute parts.

        Parameters
        ----------
        numbers : sequence of int
            Which.
        progress : bool or Progress, optional
            As for :meth:`~vggfeat.FeatureExtractor.extract`.

        Raises
        ------
        ImageError
            An image cannot be read, and the job is to stop then.
        ClusterError
            No worker can work.
        """
        queue, run = PartQueue(numbers), PoolRun()
        with _Bar.shown_as(self._job.plan.waiting(), numbers, progress) as bar:
            while len(queue) or self.at_work:
                self._staff(len(queue))
                self._assign(queue)
                self._wait(queue, run, bar)
        run.seconds = time.monotonic() - (self._ready or self._began)
        run.failed = queue.failed
        for number, why in queue.failed.items():
            note_failure(self._job.plan.path, self._job.plan.manifest, number, why)
        if queue.left:
            _log.warning(
                "%d parts are being written by other processes and were left to them: %s.",
                len(queue.left), "; ".join(itertools.islice(queue.left.values(), 3)),
            )  # fmt: skip
        run.results = [self._recounted(one, queue.lost) for one in run.results]
        return run

    @property
    def at_work(self) -> dict[Slot, int]:
        """Which part each worker computes at this moment; those without one are left out."""
        return {slot: one.part for slot, one in self._workers.items() if one.part is not None}

    def _staff(self, waiting: int) -> None:
        """Have as many workers as there is work and room for."""
        idle = [slot for slot, one in self._workers.items() if one.task is None]
        for slot in idle[waiting:]:
            self._drop(slot)  # others may use what it keeps
        now = time.monotonic()
        if now < self._looked + _LOOK:
            return
        self._looked = now
        slots = self._slots()
        if slots or self._workers:
            self._seen = now
        elif now > self._seen + _GIVE_UP:
            raise ClusterError(
                "The Ray cluster has no node with CPUs or GPUs left. What is done is kept: start "
                "nodes, and run the same command again."
            )
        hopeful = [slot for slot in slots if slot not in self._unfit]
        if slots and not hopeful and not self._workers:
            slot, why = next(iter(self._unfit.items()))
            raise ClusterError(f"No worker can compute. On {slot.host}: {why}")
        for slot in hopeful:
            if slot not in self._workers and len(self._workers) < waiting + len(self.at_work):
                self._hire(slot)
        if self._facts is None and now > self._began + _TELL:
            self._warn(
                "No worker is ready yet: Ray may be waiting for CPUs or GPUs that others use (`ray "
                "status` tells). Ctrl-C gives up."
            )

    def _slots(self) -> list[Slot]:
        """Return the slots of the cluster as it is; CPUs never go on where GPUs began, or GPUs."""
        try:
            slots = slots_of(self._ray.nodes(), self._device)
        except DeviceError:
            if self._facts is None:
                raise
            return []  # all nodes with a GPU are gone, and may come back
        if slots:
            self._device = "cuda" if slots[0].gpus else "cpu"
        return slots

    def _hire(self, slot: Slot) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # Two calls at a time: a part, and the question how far it is. A worker that ends is
        # replaced here and not by Ray, which would look for it on a node that is gone.
        there = NodeAffinitySchedulingStrategy(slot.node, soft=False)
        found = self._job.plan
        actor = self._kind.options(
            num_cpus=slot.cpus, num_gpus=slot.gpus, scheduling_strategy=there,
            max_concurrency=2, max_restarts=0,
        ).remote(
            self._job.extractor, str(found.path), found.manifest.id,
            stop=self._job.stop, cpus=slot.cpus,
        )  # fmt: skip
        self._workers[slot] = _Worker(slot, actor, actor.prepare.remote())

    def _drop(self, slot: Slot) -> None:
        with suppress(Exception):  # it is gone already
            self._ray.kill(self._workers.pop(slot).actor)

    def _assign(self, queue: PartQueue) -> None:
        for one in self._workers.values():
            if one.task is None and (number := queue.take()) is not None:
                one.part, one.task = number, one.actor.compute.remote(number)

    def _wait(self, queue: PartQueue, run: PoolRun, bar: _Bar) -> None:
        """Wait a little, and take note of what has happened."""
        period = max(1.0, len(self._workers) / _POLLS)
        for one in self._workers.values():
            if one.part is not None and one.poll is None:
                one.poll = one.actor.images.remote(period)
        tasks = {one.task: one for one in self._workers.values() if one.task is not None}
        polls = {one.poll: one for one in self._workers.values() if one.poll is not None}
        references = [*tasks, *polls]
        if not references:
            time.sleep(_TICK)
            return
        ready, _ = self._ray.wait(references, num_returns=1, timeout=_TICK)
        # What else is there already is taken along.
        ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        for reference in ready:
            if reference in polls:
                polls[reference].poll = None
                with suppress(self._ray.exceptions.RayError):  # its task says so, too
                    bar.at(*self._ray.get(reference))
        for reference in ready:
            if reference in tasks:
                self._finish(tasks[reference], queue, run, bar)

    def _finish(self, worker: _Worker, queue: PartQueue, run: PoolRun, bar: _Bar) -> None:
        number, reference = worker.part, worker.task
        worker.part = worker.task = None
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if number is None:
                self._not_prepared(worker.slot, error, cause)
            else:
                self._part_failed(worker.slot, queue, number, error, cause)
                bar.again(number)
            return
        if number is None:
            self._prepared(result)
            return
        run.results.append(result[0])
        bar.end(number)
        for text in result[1]:
            self._warn(text)

    def _prepared(self, facts: Any) -> None:
        if self._facts is None:
            self._facts, self._ready = facts, time.monotonic()
        theirs, ours = facts.deciding(), self._facts.deciding()
        if differing := [name for name in ours if ours[name] != theirs.get(name)]:
            values = ", ".join(f"{name} {ours[name]} and {theirs.get(name)}" for name in differing)
            self._warn(
                f"Workers are not alike ({self._facts.host} and {facts.host}: {values}): the last "
                "bits of features may differ from part to part."
            )

    def _not_prepared(self, slot: Slot, error: Exception, cause: Exception | None) -> None:
        self._drop(slot)
        self._attempts[slot] += 1
        if isinstance(cause, VggfeatError) or self._attempts[slot] >= ATTEMPTS:
            why = self._unfit[slot] = reason_of(error)
            self._warn(f"{slot.host} takes no part: {why}")

    def _part_failed(
        self,
        slot: Slot,
        queue: PartQueue,
        number: int,
        error: Exception,
        cause: Exception | None,
    ) -> None:
        if isinstance(cause, StoreLockedError):
            queue.locked(number, str(cause))
            return
        if isinstance(cause, ImageError) and self._job.stop:
            raise cause
        lost = not isinstance(error, self._ray.exceptions.RayTaskError)
        if lost or not isinstance(cause, VggfeatError | OSError):
            self._drop(slot)  # whatever it was may be wrong with all of the process
        why = reason_of(error)
        again = queue.again(number, why, lost=lost)
        _log.warning(
            "Part %d failed on %s%s: %s", number, slot.host,
            ", and is tried again" if again else f" in {ATTEMPTS} attempts, and is left", why,
        )  # fmt: skip

    def _warn(self, text: str) -> None:
        """Tell the user something once."""
        if text not in self._told:
            self._told.add(text)
            _log.warning("%s", text)

    def _recounted(self, result: PartResult, lost: set[int]) -> PartResult:
        """Count also what was computed by workers that were lost."""
        if result.part not in lost:
            return result
        part = self._job.plan.manifest.parts[result.part]
        rows = self._job.plan.pending
        rows = rows[(rows >= part.first) & (rows < part.end)]
        with FeatureStore(self._job.plan.path) as store:
            computed = int(np.count_nonzero(store.status[rows] == DONE))
        return replace(result, tried=len(rows), computed=computed)


@dataclass
class _Bar:
    """One bar over the images of all parts."""

    report: Progress
    waiting: dict[int, int]
    total: int
    shown: Counter[int] = field(default_factory=Counter)
    before: Counter[int] = field(default_factory=Counter)

    @classmethod
    @contextmanager
    def shown_as(
        cls, waiting: dict[int, int], numbers: Sequence[int], progress: Progress | bool | None
    ) -> Iterator[_Bar]:
        total = sum(waiting.get(number, 0) for number in numbers)
        with bars("img", progress, leave=True) as report:
            if total:
                report("", 0, total)
            yield cls(report, waiting, total)

    def at(self, number: int, images: int) -> None:
        """Show how many images of a part its present attempt has done."""
        images += self.before[number]
        more = min(images, self.waiting.get(number, 0)) - self.shown[number]
        if more > 0:
            self.shown[number] += more
            self.report("", more, self.total)

    def again(self, number: int) -> None:
        """Count on where an attempt has failed: what it did is kept."""
        self.before[number] = self.shown[number]

    def end(self, number: int) -> None:
        """Show a part as done."""
        self.at(number, self.waiting.get(number, 0))


def reason_of(error: Exception) -> str:
    """Return in one line why a call on Ray failed."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, VggfeatError | OSError) and str(cause):
        return str(cause)
    if cause is not None:
        return f"{type(cause).__name__}: {' '.join(str(cause).split())}"[:_REASON]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "creation task" in str(error) or "failed to import" in str(error):
        return f"{lines[-1][:_REASON]} Is vggfeat installed there, in the same version?"
    for line in lines:
        _, sign, detail = line.partition("Worker exit detail: ")
        if sign:
            return f"its worker process ended ({detail.partition('. Some common')[0][:_REASON]})"
    return (lines[0] if lines else type(error).__name__)[:_REASON]
