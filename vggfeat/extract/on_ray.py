"""A store of parts computed on a Ray cluster: Ray holds workers, each is given part after part.

Numbers of parts go out and counts come back. Images and features never pass Ray's object store:
a worker reads images itself and writes the part's file itself, so that all nodes have to see the
sources and the store under the same paths.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vggfeat.errors import StoreError
from vggfeat.extract.parts import PartResult, PartsJob, in_parts, plan_parts, summarise
from vggfeat.extract.ray_pool import RayPool
from vggfeat.extract.ray_slots import slots_of
from vggfeat.extract.requested import Request, Sources, name_of, source_of
from vggfeat.ray_tasks import connected
from vggfeat.store.parts import is_parted
from vggfeat.store.parts.planning import usual_part_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vggfeat.extract.extractor import FeatureExtractor
    from vggfeat.extract.summary import ExtractSummary

LOCAL = "local"
_PARTS_EACH = 4  # parts for a worker, where their size is chosen here: the last ends soon
_LEAST_ROWS = 500


def extract_on_ray(
    extractor: FeatureExtractor,
    source: Sources,
    store: str | os.PathLike[str],
    request: Request,
    *,
    address: str,
    parts: Sequence[int] | None,
    part_rows: int | None,
) -> ExtractSummary:
    """Do what :meth:`FeatureExtractor.extract` says, on Ray.

    Parameters
    ----------
    extractor : FeatureExtractor
        Computes features.
    source, store, parts, part_rows
        As for :meth:`FeatureExtractor.extract`. Where `part_rows` is not given and the store is
        new, parts are made so small that each worker gets about four.
    request : Request
        Its other options.
    address : str
        ``"local"``, or as for :func:`~vggfeat.ray_tasks.connected`.

    Raises
    ------
    ClusterError
        There is no Ray, or no worker can work.
    VggfeatError
        As :meth:`FeatureExtractor.extract` raises.
    """
    extractor = _travelling(extractor)
    with ExitStack() as stack:
        ray: Any = None

        def connect() -> Any:
            return ray or stack.enter_context(connected(None if address == LOCAL else address))

        new = request.overwrite or not is_parted(store)
        if new and parts is None:
            source = source_of(source)
            if part_rows is None:
                if not in_parts(store, len(source.entries)):
                    raise StoreError(
                        f"{os.fspath(store)} would be one file, and Ray fills a folder of parts. "
                        "Give a name that ends in .store or /; or say --part-rows."
                    )
                ray = connect()
                workers = len(slots_of(ray.nodes(), extractor.device))
                part_rows = _spread(len(source.entries), workers, extractor)
        job = plan_parts(
            extractor, source, store, request, part_rows=part_rows, known=parts is not None
        )
        chosen = job.chosen(parts)
        if not chosen:
            return summarise(job, [])
        ray = connect()
        with RayPool(ray, PartWorker, job) as pool:
            run = pool.run(chosen, request.progress)
    return replace(
        summarise(job, run.results, run.seconds), failed_parts=sorted(run.failed.items())
    )


def _travelling(extractor: FeatureExtractor) -> FeatureExtractor:
    """Return an extractor that finds its weights' file also where another folder is current."""
    return replace(extractor, weights=extractor.resolved_weights.spec)


def _spread(images: int, workers: int, extractor: FeatureExtractor) -> int | None:
    """Return how many rows a part of a new store has, so that no worker is idle."""
    usual = usual_part_rows(extractor.shapes, extractor.dtype)
    if workers < 2:
        return None
    return min(usual, max(_LEAST_ROWS, -(-images // (_PARTS_EACH * workers))))


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a worker says of itself: whoever compares them sees whether features may differ.

    Attributes
    ----------
    host : str
        Its machine.
    device, engine : str
        What computes.
    versions : dict of str to str
        Of packages that numbers come from.
    """

    host: str
    device: str
    engine: str
    versions: dict[str, str]

    def deciding(self) -> dict[str, str]:
        """Return what the last bits of features depend on."""
        return {"device": self.device, "engine": self.engine, **self.versions}


class PartWorker:
    """What Ray runs: one network, and one part at a time.

    Parameters
    ----------
    extractor : FeatureExtractor
        Pickled without its network.
    store : str
        The folder.
    store_id : str
        The manifest's id: another machine may have another store under the same path.
    stop : bool
        As in :class:`PartsJob`.
    cpus : int
        How many this worker has.
    """

    def __init__(
        self, extractor: FeatureExtractor, store: str, store_id: str, *, stop: bool, cpus: int
    ) -> None:
        workers = extractor.workers or min(8, max(1, cpus))
        self._extractor = replace(extractor, workers=workers)
        self._store, self._id, self._stop = store, store_id, stop
        self._job: PartsJob | None = None
        self._now = (-1, 0)

    def prepare(self) -> WorkerFacts:
        """Open the store and its sources, and load the network; raise VggfeatError where not."""
        job = PartsJob.of_store(self._extractor, self._store, stop=self._stop)
        if job.plan.manifest.id != self._id:
            raise StoreError(
                f"{self._store} is another store on this machine. All nodes have to see one store "
                "under one path, as on a shared drive."
            )
        run = self._extractor.run_info(name_of(job.images), job.plan.manifest.rows)
        self._job = job
        return WorkerFacts(socket.gethostname(), run.device, run.engine, dict(run.versions))

    def compute(self, number: int) -> tuple[PartResult, list[str]]:
        """Compute a part; return also what was logged as a warning meanwhile."""
        assert self._job is not None
        self._now = (number, 0)
        with _warnings() as told:
            return self._job.run(number, self._count), told

    def images(self, seconds: float) -> tuple[int, int]:
        """Return the number of the present part and how many images of it are done, after a while.

        It runs beside :meth:`compute`, in a thread of its own.
        """
        time.sleep(seconds)
        return self._now

    def _count(self, _stage: str, more: float, _total: float) -> None:
        number, images = self._now
        self._now = number, images + int(more)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect the warnings of vggfeat's log, which nobody sees on another machine."""
    told: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("vggfeat")
    log.addHandler(handler)
    try:
        yield told
    finally:
        log.removeHandler(handler)
