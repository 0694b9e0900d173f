"""Squared Euclidean distances between rows, in blocks, exact to a stated relative error.

All dissimilarities here are squared Euclidean distances of rows that were prepared for it: the
correlation distance is half that of rows centred and scaled to length 1, and so on. They are taken
from products, |a - b|² = |a|² + |b|² - 2 a·b, which loses digits where rows are alike. Therefore
products are summed in float64, and pairs that lose more than :data:`NEAR` are computed again from
their differences. With d features, a result r that is kept in float32 is off by at most

    r (2**-24 + 2 (d + 4) 2**-53 / NEAR),

which is 2e-7 r for d = 4,096 and 5e-7 r for d = 25,088 (Higham, "Accuracy and Stability of
Numerical Algorithms", 2002, section 3.1, for the product; a Euclidean distance, the root, is off by
half of the second term). It holds for pairs that differ at all by what float32 features tell apart;
equal rows are at 0. Products summed in float32 would be off by up to d 2**-24 of the rows' lengths,
2e-4 for d = 4,096, however near two rows are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Matrix = npt.NDArray[Any]

NEAR = 2.0**-16
"""Share of |a|² + |b|² below which a squared distance is computed from the rows' difference."""

_BLOCK = 1024  # rows and columns of a product
_STRIP = 1 << 23  # numbers of a strip
_DIFFERENCES = 1 << 22  # numbers of differences that are computed at a time


@dataclass(frozen=True, slots=True, eq=False)
class PreparedRows:
    """Rows that become float64 block by block: ``(X - shift - offsets) * scales``.

    Attributes
    ----------
    X : ndarray of float, shape (n, d)
    shift : ndarray of float64, shape (d,), or None
        Subtracted from each row.
    offsets, scales : ndarray of float64, shape (n,), or None
        Subtracted from the numbers of each row, and by what these are multiplied.
    """

    X: Matrix
    shift: Floats | None = None
    offsets: Floats | None = None
    scales: Floats | None = None

    def __len__(self) -> int:
        return len(self.X)

    def block(self, part: slice) -> Floats:
        """Return some rows, float64, (m, d)."""
        rows = np.array(self.X[part], np.float64)
        if self.shift is not None:
            rows -= self.shift
        if self.offsets is not None:
            rows -= self.offsets[part, None]
        if self.scales is not None:
            rows *= self.scales[part, None]
        return rows


def squared_distances(rows: PreparedRows, block: int | None = None) -> Iterator[tuple[int, Floats]]:
    """Yield squared Euclidean distances, strip by strip.

    Parameters
    ----------
    rows : PreparedRows
        n rows.
    block : int, optional
        Rows of a strip; by default up to 1,024, fewer where it would be above 64 MiB.

    Yields
    ------
    first : int
        Number of the strip's first row.
    strip : ndarray of float64, shape (m, n - first)
        Distances of rows first..first + m from rows first..n. Equal rows, and a row and itself, are
        at 0.
    """
    n = len(rows)
    block = block or max(64, min(_BLOCK, _STRIP // max(1, n)))
    squares = np.concatenate(
        [_squares(rows.block(slice(at, at + block))) for at in range(0, n, block)]
    )
    for first in range(0, n, block):
        ours = rows.block(slice(first, first + block))
        strip = np.empty((len(ours), n - first))
        for start in range(first, n, block):
            part = slice(start, start + block)
            theirs = ours if start == first else rows.block(part)
            lengths = squares[first : first + block, None] + squares[part]
            distances = lengths - 2 * (ours @ theirs.T)
            _refine(distances, lengths, ours, theirs)
            strip[:, start - first : start - first + block] = distances
        diagonal = np.arange(len(ours))
        strip[diagonal, diagonal] = 0
        yield first, strip


def _squares(rows: Floats) -> Floats:
    return np.asarray(np.einsum("ij,ij->i", rows, rows))


def column_means(X: Matrix) -> Floats:
    """Return the mean of each column, float64, (d,), block by block."""
    total = np.zeros(X.shape[1])
    for at in range(0, len(X), _BLOCK):
        total += X[at : at + _BLOCK].sum(axis=0, dtype=np.float64)
    return total / max(1, len(X))


def _refine(distances: Floats, lengths: Floats, ours: Floats, theirs: Floats) -> None:
    """Compute the distances of pairs that are near one another from their differences."""
    first, second = np.nonzero(distances < NEAR * lengths)
    most = max(1, _DIFFERENCES // ours.shape[1])
    for at in range(0, len(first), most):
        i, j = first[at : at + most], second[at : at + most]
        distances[i, j] = _squares(ours[i] - theirs[j])


def condensed(strip: Floats) -> Floats:
    """Return a strip's values above the diagonal, row after row, as ``pdist`` of SciPy has them."""
    return np.concatenate([row[k + 1 :] for k, row in enumerate(strip)])


def pairs_before(row: int, count: int) -> int:
    """Return where a row's pairs with later ones begin among those of `count` rows."""
    return row * count - row * (row + 1) // 2


def condition_count(pairs: int) -> int | None:
    """Return of how many rows so many pairs are; None where of no number."""
    count = round((1 + (1 + 8 * pairs) ** 0.5) / 2)
    return count if count * (count - 1) // 2 == pairs and count >= 2 else None


def square(vector: Matrix) -> Matrix:
    """Return a condensed RDM (pairs,) as a symmetric matrix (n, n) with zeros on its diagonal."""
    count = condition_count(len(vector))
    if count is None:
        raise ValueError(f"{len(vector)} values are no pairs of any number of rows")
    whole = np.zeros((count, count), vector.dtype)
    whole[np.triu_indices(count, 1)] = vector
    return whole + whole.T
