"""Rows of features as the solvers read them: block by block, so that they may live in a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vggfeat.norms import unit_length

Floats = npt.NDArray[np.floating[Any]]
Positions = npt.NDArray[np.int64]

BLOCK_BYTES = 64 << 20
"""Size of a block in float64; few are held at a time."""


_CACHE_NUMBERS = 1 << 18


def rows_a_block(width: int) -> int:
    """Return how many rows of `width` numbers a block holds: one at least."""
    return max(1, BLOCK_BYTES // (8 * width))


def row_blocks(n: int, columns: int) -> list[slice]:
    """Return n rows of `columns` scores in blocks that a processor's cache holds."""
    step = max(1, _CACHE_NUMBERS // max(1, columns))
    return [slice(first, min(first + step, n)) for first in range(0, n, step)]


class Reader(Protocol):
    """What rows are read from: an array, a :class:`numpy.memmap`, an :class:`h5py.Dataset`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, (n, d)."""

    def __getitem__(self, rows: slice, /) -> Any:
        """Return rows from one position to another, as an array."""


class Rows:
    """Some rows of a matrix of features, all divided by one number.

    Parameters
    ----------
    X : array or Reader of shape (N, d)
        Where the rows are.
    chosen : ndarray of int64, shape (n,), optional
        Which of them, ascending; all by default.
    normalize : bool
        Whether each row is scaled to length 1 when it is read.
    unit : float
        What the rows are divided by.
    """

    def __init__(
        self,
        X: Reader,
        chosen: Positions | None = None,
        *,
        normalize: bool = False,
        unit: float = 1.0,
    ) -> None:
        self.X = X
        self.chosen = np.arange(X.shape[0]) if chosen is None else chosen
        self.normalize = normalize
        self.unit = unit
        self.shape = (len(self.chosen), X.shape[1])

    def subset(self, positions: Positions) -> Rows:
        """Return the rows at `positions` among these, which must ascend."""
        return Rows(self.X, self.chosen[positions], normalize=self.normalize, unit=self.unit)

    def blocks(self, dtype: npt.DTypeLike = np.float64) -> Iterator[tuple[slice, Floats]]:
        """Yield all rows in order.

        Yields
        ------
        where : slice
            Their positions, of 0..n.
        block : ndarray of `dtype`, shape (b, d)
        """
        step = rows_a_block(self.shape[1])
        for first in range(0, self.shape[0], step):
            where = slice(first, min(first + step, self.shape[0]))
            yield where, self._read(self.chosen[where], dtype)

    def take(self, positions: Positions, dtype: npt.DTypeLike = np.float64) -> Floats:
        """Return the rows at `positions`, ascending, as one array."""
        return self._read(self.chosen[positions], dtype)

    def _read(self, rows: Positions, dtype: npt.DTypeLike) -> Floats:
        where = _as_slice(rows)
        if isinstance(where, slice):
            block = np.asarray(self.X[where])
        elif isinstance(self.X, np.ndarray):
            block = self.X[where]
        else:  # files read a span faster than single rows
            block = np.empty((len(rows), self.shape[1]), np.asarray(self.X[0:0]).dtype)
            step = rows_a_block(self.shape[1])
            first = 0
            while first < len(rows):
                last = int(np.searchsorted(rows, rows[first] + step))
                start = int(rows[first])
                span = np.asarray(self.X[start : int(rows[last - 1]) + 1])
                block[first:last] = span[rows[first:last] - start]
                first = last
        if self.normalize:
            block = unit_length(block)
        block = block.astype(dtype, copy=False)
        return block if self.unit == 1 else np.asarray(block / block.dtype.type(self.unit))


def moments(rows: Rows) -> tuple[npt.NDArray[np.float64], float]:
    """Return the rows' mean (d,) and their mean squared length, in one pass."""
    total, squares = np.zeros(rows.shape[1]), 0.0
    for _, block in rows.blocks():
        total += block.sum(axis=0)
        squares += float(np.einsum("ij,ij->", block, block))
    return total / rows.shape[0], squares / rows.shape[0]


def _as_slice(rows: Positions) -> slice | Positions:
    """Return consecutive positions as a slice, which copies nothing."""
    if not len(rows):
        return slice(0, 0)
    if rows[-1] - rows[0] == len(rows) - 1:
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows
