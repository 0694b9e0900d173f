"""Where the vectors of an index come from: a store, or other indexes. They come in blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from vggfeat.index.preparing import Integers, Metric, Vectors, prepare_vectors
from vggfeat.index.rows import Rows, rows_of
from vggfeat.index.settings import LeftOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vggfeat.feature_table import FeatureTable
    from vggfeat.whitening import Whitening

_BLOCK_BYTES = 2 << 20  # of float32; bringing them into their form takes about six times that

_NOT_FINITE, _ZERO = 1, 2  # why a row is left out


def block_bytes(dimension: int) -> int:
    """Return how many bytes a block of vectors takes, of so many numbers each."""
    return 4 * dimension * _block_rows(dimension)


def _block_rows(dimension: int) -> int:
    return max(256, _BLOCK_BYTES // (4 * dimension))


class VectorSource(Protocol):
    """Vectors that can be read by number, again and again."""

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""

    @property
    def positions(self) -> Integers:
        """Numbers of the vectors there may be, ascending."""

    def blocks(self, positions: Integers) -> Iterator[tuple[Integers, Vectors]]:
        """Give those of `positions` that can be compared, as they are compared; and which."""

    def rows(self, positions: Integers) -> Rows:
        """Say whose vectors these are."""


class StoreVectors:
    """Rows of a layer of a store that are done.

    Parameters
    ----------
    store : FeatureTable
    layer : str
        Canonical name.
    metric : {"cosine", "l2", "ip"}
    whitening : Whitening, optional
        Applied to all.
    chosen : ndarray of int64, optional
        Rows of the store, ascending; all that are done by default.
    """

    def __init__(
        self,
        store: FeatureTable,
        layer: str,
        metric: Metric,
        whitening: Whitening | None = None,
        chosen: Integers | None = None,
    ) -> None:
        self.store = store
        self.layer = layer
        self.metric: Metric = metric
        self.whitening = whitening
        self.width = store.dimension(layer)
        self.positions: Integers = np.flatnonzero(store.done) if chosen is None else chosen
        self._not_done = len(store) - int(store.done.sum())
        self._why_not = np.zeros(len(store), np.uint8)

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return self.width if self.whitening is None else self.whitening.dimension

    @property
    def left_out(self) -> LeftOut:
        """What was left out of the blocks given so far."""
        not_finite, zero = (int((self._why_not == why).sum()) for why in (_NOT_FINITE, _ZERO))
        return LeftOut(self._not_done, not_finite, zero)

    def blocks(self, positions: Integers) -> Iterator[tuple[Integers, Vectors]]:
        """Give rows of the store; see :class:`VectorSource`."""
        size = _block_rows(self.width)
        for rows, X in self.store.blocks(self.layer, positions, size=size):
            ready = prepare_vectors(X, self.metric, self.whitening)
            self._why_not[rows[ready.not_finite]] = _NOT_FINITE
            self._why_not[rows[ready.zero]] = _ZERO
            yield rows[ready.kept], ready.vectors.astype(np.float32)

    def rows(self, positions: Integers) -> Rows:
        """Say whose vectors these are."""
        return rows_of(self.store, self.layer, positions)


class IndexVectors:
    """Vectors that indexes hold, one index behind the other.

    Parameters
    ----------
    parts : sequence of (vectors, ids)
        Vectors of an index, and which of them to take.
    rows : Rows
        What is known of all that are taken.
    """

    def __init__(self, parts: Sequence[tuple[Vectors, Integers]], rows: Rows) -> None:
        self._parts = parts
        self._rows = rows
        self.dimension = int(parts[0][0].shape[1])
        self.positions: Integers = np.arange(len(rows))

    def blocks(self, positions: Integers) -> Iterator[tuple[Integers, Vectors]]:
        """Give vectors as they are kept; see :class:`VectorSource`."""
        size = _block_rows(self.dimension)
        start = 0
        for vectors, taken in self._parts:
            mine = positions[(positions >= start) & (positions < start + len(taken))]
            for first in range(0, len(mine), size):
                part = mine[first : first + size]
                yield part, np.ascontiguousarray(vectors[taken[part - start]])
            start += len(taken)

    def rows(self, positions: Integers) -> Rows:
        """Say whose vectors these are."""
        return self._rows.taken(positions)


class ChangedVectors:
    """Another source, each block changed by a function.

    Parameters
    ----------
    source : VectorSource
    change : callable
        Takes vectors (n, d), and gives as many.
    """

    def __init__(self, source: VectorSource, change: Callable[[Vectors], Vectors]) -> None:
        self._source = source
        self._change = change
        self.dimension = source.dimension
        self.positions = source.positions

    def blocks(self, positions: Integers) -> Iterator[tuple[Integers, Vectors]]:
        """Give changed vectors; see :class:`VectorSource`."""
        for own, vectors in self._source.blocks(positions):
            yield own, self._change(vectors)

    def rows(self, positions: Integers) -> Rows:
        """Say whose vectors these are."""
        return self._source.rows(positions)


def among(positions: Integers, some: Integers) -> npt.NDArray[np.bool_]:
    """Return which of `positions`, ascending, are in `some`, ascending."""
    if not len(some):
        return np.zeros(len(positions), np.bool_)
    at = np.minimum(np.searchsorted(some, positions), len(some) - 1)
    return np.asarray(some[at] == positions)
