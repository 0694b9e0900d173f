"""Making the files of an index from vectors that come in blocks; memory stays bounded."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vggfeat.index import shards, structures
from vggfeat.index.folder import fresh, write_faiss
from vggfeat.index.memory_limits import room, to_build, within_limits
from vggfeat.index.searching import Searcher
from vggfeat.index.settings import Files, Settings
from vggfeat.index.shards import Shard, can_be_united
from vggfeat.index.structures import FLAT
from vggfeat.index.tuning import QUERIES, Truth, tune
from vggfeat.index.vector_sources import among
from vggfeat.index.vectors import VectorWriter, opened
from vggfeat.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from vggfeat.index.kinds import Plan
    from vggfeat.index.preparing import Integers, Metric, Vectors
    from vggfeat.index.vector_sources import VectorSource
    from vggfeat.index.workers import Workers

# Fewer held-out queries would measure nothing: such structures search everything.
_LEAST_HELD_OUT = 20
_EVERYTHING = 1 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Built:
    """What was written.

    Attributes
    ----------
    files : Files
    settings : Settings
        Without the time.
    positions : ndarray of int64
        Numbers in the source of the vectors, in the order of their file.
    longest : float
        Length of the longest.
    """

    files: Files
    settings: Settings
    positions: Integers
    longest: float


def construct(
    folder: Path,
    source: VectorSource,
    plan: Plan,
    metric: Metric,
    *,
    recall: float,
    progress: Progress,
    seed: int = 0,
    workers: Workers | None = None,
) -> Built:
    """Write vectors and structure into a folder, and tune the search.

    Some vectors are held out while the others go in, and serve as queries to tune the search
    with; then they follow at the end.

    Parameters
    ----------
    folder : Path
        Takes the files.
    source : VectorSource
        Gives the vectors; read up to four times, and in full once.
    plan : Plan
        What to build.
    metric : {"cosine", "l2", "ip"}
    recall : float
        To tune the search for.
    progress : callable
        See :class:`vggfeat.progress.Progress`.
    seed : int
        Of the choice of held-out vectors and of the sample to train on.
    workers : Workers, optional
        Encode the vectors, where they can; the index is the same.
    """
    needed, mapped = needed_to_build(plan, source), 4 * len(source.positions) * source.dimension
    with within_limits(needed, "Building this index", mapped=mapped):
        if plan.factory == FLAT:
            return flat(folder, source, progress)
        rng = np.random.default_rng(seed)
        held_out = _some(source.positions, _held_out(source), rng)
        others = source.positions[~among(source.positions, held_out)]
        structure = structures.make(plan.factory, source.dimension, metric)
        if not structure.is_trained:
            sample = _gathered(
                source, _some(others, plan.sample, rng), "reading a sample", progress
            )
            if not len(sample):
                return flat(folder, source, progress)
            progress("training", 0, 1)
            structures.train(structure, sample)
            progress("training", 1, 1)
            del sample
        truth = Truth(_gathered(source, held_out, "", progress), metric)

        def settled(vectors: Vectors, longest: float) -> Settings:
            if len(truth.queries) < _LEAST_HELD_OUT or len(vectors) <= truth.k:
                return Settings(plan.factory, structures.effort_limits(structure)[1], _EVERYTHING)
            progress("tuning", 0, 1)
            order = np.arange(len(vectors))
            tuning = tune(Searcher(vectors, metric, longest, order, structure), truth, recall)
            progress("tuning", 1, 1)
            return Settings(plan.factory, tuning.setting.effort, tuning.setting.candidates, tuning)

        return fill(
            folder, source, structure, settled, progress=progress, held_out=held_out, truth=truth,
            workers=workers if _useful(workers, plan, structure) else None,
        )  # fmt: skip


def _useful(workers: Workers | None, plan: Plan, structure: Any) -> bool:
    """Return whether workers are to encode for a structure, and tell where they cannot."""
    if workers is None:
        return False
    if not can_be_united(structure):
        _log.warning(
            "%s has no inverted lists, and cannot be put together of parts: vectors are added one "
            "after another. Workers can build --kind ivf and ivfpq.", plan.factory,
        )  # fmt: skip
        return False
    if room() is not None:
        _log.warning("The memory of this process is limited (ulimit): it encodes alone.")
        return False
    return True


def needed_to_build(plan: Plan, source: VectorSource) -> int:
    """Return the most bytes that building allocates; see :mod:`vggfeat.index.memory_limits`."""
    return to_build(plan, len(source.positions), source.dimension, queries=_held_out(source))


def _held_out(source: VectorSource) -> int:
    return min(QUERIES, len(source.positions) // 10)


def fill(
    folder: Path,
    source: VectorSource,
    structure: Any,
    settings: Settings | Callable[[Vectors, float], Settings],
    *,
    progress: Progress,
    held_out: Integers | None = None,
    truth: Truth | None = None,
    workers: Workers | None = None,
) -> Built:
    """Write vectors and put them into a trained structure.

    Parameters
    ----------
    folder, source, progress :
        See :func:`construct`.
    structure : faiss.Index
        Empty, but trained.
    settings : Settings or callable
        How to search; or what finds that out, from all vectors but those held out and the length
        of the longest.
    held_out : ndarray of int64, optional
        Numbers of vectors that follow at the end, when the settings are known.
    truth : Truth, optional
        Looks at all others.
    workers : Workers, optional
        Encode all others, once they are in their file.
    """
    held_out = np.empty(0, np.int64) if held_out is None else held_out
    filling = _Filling(fresh(folder, "vectors"), source.dimension, structure)
    with filling.writer as writer:
        total = len(source.positions)
        progress("adding", 0, total)
        for positions, vectors in source.blocks(source.positions):
            inside = ~among(positions, held_out)
            if truth is not None:
                truth.update(vectors[inside], writer.written)
            filling.add(positions[inside], vectors[inside], encode=workers is None)
            progress("adding", len(positions), total)
        if workers is not None:
            writer.sync()
            _add_by(workers, folder, filling, structure, progress)
        if callable(settings):
            matrix = opened(filling.path, writer.written, source.dimension, mapped=True)
            settings = settings(matrix, filling.longest)
        for positions, vectors in source.blocks(held_out):
            filling.add(positions, vectors)
        progress("writing", 0, 1)
        writer.sync()
    name, size, crc32 = write_faiss(folder, structure)
    progress("writing", 1, 1)
    files = Files(filling.path.name, source.dimension, filling.parts, name, size, crc32)
    return Built(files, settings, filling.positions, filling.longest)


def _add_by(
    workers: Workers, folder: Path, filling: _Filling, structure: Any, progress: Progress
) -> None:
    """Let workers encode what is in the file of vectors, and put it into a structure."""
    place = folder / "shards"
    place.mkdir()
    try:
        ranges = shards.tasks(place, structure, filling.path, filling.dimension, filling.blocks)
        done: dict[int, Shard] = {}
        progress("encoding", 0, filling.writer.written)
        for shard in workers.encoded(ranges):
            done[shard.number] = shard
            progress("encoding", shard.count, filling.writer.written)
        progress("uniting", 0, 1)
        shards.unite(structure, [done[task.number] for task in ranges])
        progress("uniting", 1, 1)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def append(
    path: Path, files: Files, source: VectorSource, structure: Any, progress: Progress
) -> tuple[tuple[tuple[int, int], ...], Integers, float]:
    """Append vectors to a file and a structure; return parts, positions and greatest length."""
    adding = _Filling(path, files.dimension, structure, files.count)
    with adding.writer:
        total = len(source.positions)
        progress("adding", 0, total)
        for positions, vectors in source.blocks(source.positions):
            adding.add(positions, vectors)
            progress("adding", len(positions), total)
        adding.writer.sync()
    return adding.parts, adding.positions, adding.longest


class _Filling:
    """Vectors on their way into a file and a structure."""

    def __init__(self, path: Path, dimension: int, structure: Any, count: int = 0) -> None:
        self.path = path
        self.dimension = dimension
        self.blocks: list[int] = []
        self.writer = VectorWriter(path, dimension, count)
        self.longest = 0.0
        self._structure = structure
        self._positions: list[Integers] = [np.empty(0, np.int64)]

    def add(self, positions: Integers, vectors: Vectors, *, encode: bool = True) -> None:
        if not len(positions):
            return
        self.writer.write(vectors)
        self.blocks.append(len(vectors))
        if encode and self._structure is not None:
            with structures.refusing("add to"):
                self._structure.add(vectors)
        lengths = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
        self.longest = max(self.longest, float(np.sqrt(lengths.max())))
        self._positions.append(positions)

    @property
    def positions(self) -> Integers:
        return np.concatenate(self._positions)

    @property
    def parts(self) -> tuple[tuple[int, int], ...]:
        return ((self.writer.written, self.writer.crc32),) if self.writer.written else ()


def flat(folder: Path, source: VectorSource, progress: Progress) -> Built:
    """Write vectors for exact search, which needs nothing else."""
    path = fresh(folder, "vectors")
    files = Files(path.name, source.dimension, ())
    parts, positions, longest = append(path, files, source, None, progress)
    return Built(Files(path.name, source.dimension, parts), Settings(), positions, longest)


def _gathered(source: VectorSource, positions: Integers, stage: str, progress: Progress) -> Vectors:
    """Return some vectors as one matrix."""
    matrix = np.empty((len(positions), source.dimension), np.float32)
    count = 0
    for kept, vectors in source.blocks(positions):
        matrix[count : count + len(kept)] = vectors
        count += len(kept)
        if stage:
            progress(stage, len(kept), len(positions))
    return matrix[:count]


def _some(positions: Integers, count: int, rng: np.random.Generator) -> Integers:
    """Draw some of them, ascending."""
    if count >= len(positions):
        return positions
    return np.sort(rng.choice(positions, count, replace=False, shuffle=False))
