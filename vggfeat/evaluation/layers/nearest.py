"""Exact search for the nearest rows, in blocks, so that neither side need fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from vggfeat.norms import row_norms
from vggfeat.solver.rows import Reader

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Metric = Literal["cosine", "l2", "ip"]
METRICS: tuple[Metric, ...] = get_args(Metric)
"""What makes rows near, see :func:`nearest`."""

STEPS = 1 << 30
"""Similarities are told apart in steps of one over this, from -1 to 1."""

_BLOCK = 1 << 22  # numbers in a block of float64 vectors: 32 MiB
_ROWS = 1024  # most vectors in a block, so that a block of similarities stays small too
_LOWER = 0xFFFFFFFF  # lower half of a key, see _best
_NEVER = np.iinfo(np.int64).min


def nearest(
    queries: Reader | None, train: Reader, k: int, metric: Metric = "cosine"
) -> Iterator[tuple[slice, Integers, Integers]]:
    """Find the training rows nearest to each query.

    The search is exact: similarities are computed in float64 and rounded to 1e-9 of the largest
    possible one, so that equally near rows count as such wherever they stand. Beyond the rows
    themselves it takes less than 256 MiB, for vectors of up to 4 million numbers. Rows that are
    in a file are read once for each block of queries.

    Parameters
    ----------
    queries : array or Reader of shape (m, d), optional
        Finite. By default the training rows themselves, each of which then leaves itself out.
    train : array or Reader of shape (n, d)
        Finite.
    k : int
        How many to find, at least 1.
    metric : {"cosine", "l2", "ip"}
        The cosine, where a row of zeros is as near to every other; the Euclidean distance; the
        inner product.

    Yields
    ------
    block : slice
        Which of the queries.
    rows : ndarray of int64, shape (q, min(k, n))
        Nearest first, of equally near ones the lower first; n - 1 at most where each leaves itself
        out.
    similarities : ndarray of int64, same shape
        In steps of 1 / :data:`STEPS`: the cosine; the inner product of the query, divided by its
        length, with a row, divided by the longest row's; or minus the squared distance, divided
        by the square of the longest row's length plus the query's, both from the rows' mean.

    Raises
    ------
    ValueError
        Values are not finite or too large to compare.
    """
    shift = _mean(train) if metric == "l2" else None
    sizes = _lengths(train, shift)
    query_sizes = sizes if queries is None else _lengths(queries, shift)
    if metric != "cosine":
        sizes = np.full_like(sizes, sizes.max())
    if metric == "l2":
        query_sizes = np.full_like(query_sizes, sizes[0])
    k = min(k, train.shape[0] - (queries is None))
    searched = train if queries is None else queries
    for block in _blocks(searched):
        # Dividing a query by its length changes all its similarities alike, and so no order.
        vectors = _vectors(searched, block, query_sizes[block], shift)
        itself = block.start if queries is None else None
        keys = _best(vectors, train, sizes, k, shift, itself)
        keys = np.sort(keys, axis=1)[:, ::-1]
        yield block, _LOWER - (keys & _LOWER), keys >> 32


def _best(
    queries: Array, train: Reader, sizes: Array, k: int, shift: Array | None, itself: int | None
) -> Integers:
    """Return the greatest keys of each query, (q, k), in no order.

    The upper half of a key is the similarity; the lower half counts rows down, so that of equally
    near rows the lower has the greater key.
    """
    best = np.empty((len(queries), 0), np.int64)
    squares = np.einsum("qd,qd->q", queries, queries)
    for block in _blocks(train):
        vectors = _vectors(train, block, sizes[block], shift)
        products = queries @ vectors.T  # (q, d) x (d, b) -> (q, b)
        if shift is not None:
            products *= 2
            products -= squares[:, None] + np.einsum("bd,bd->b", vectors, vectors)
            products /= np.square(1 + np.sqrt(squares))[:, None]
        similarities = np.rint(products * STEPS).astype(np.int64)
        rows = np.arange(block.start, block.start + products.shape[1], dtype=np.int64)
        fresh = (similarities << 32) | (_LOWER - rows)
        if itself is not None:
            fresh[np.arange(itself, itself + len(queries))[:, None] == rows] = _NEVER
        keys = np.concatenate([best, fresh], axis=1)
        if keys.shape[1] > k:
            keys.partition(keys.shape[1] - k, axis=1)
        best = keys[:, -k:].copy()
    return best


def _blocks(X: Reader) -> Iterator[slice]:
    count, width = X.shape
    step = max(1, min(_ROWS, _BLOCK // max(1, width)))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _vectors(X: Reader, block: slice, sizes: Any, shift: Array | None) -> Array:
    vectors = np.array(X[block], np.float64)
    if shift is not None:
        vectors -= shift
    return np.asarray(vectors / sizes[:, None])


def _mean(X: Reader) -> Array:
    total = np.zeros(X.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):  # told by _lengths
        for block in _blocks(X):
            total += np.asarray(X[block], np.float64).sum(axis=0) / X.shape[0]
    return total


def _lengths(X: Reader, shift: Array | None) -> Array:
    """Return the Euclidean length of each row (n, d), 1 for rows of zeros."""
    lengths = np.empty(X.shape[0])
    for block in _blocks(X):
        with np.errstate(invalid="ignore", over="ignore"):  # told below
            vectors = np.array(X[block], np.float64)
            if shift is not None:
                vectors -= shift
            lengths[block] = row_norms(vectors)
    lengths[lengths == 0] = 1
    if not np.isfinite(lengths).all():
        row = int(np.flatnonzero(~np.isfinite(lengths))[0])
        raise ValueError(f"features are not finite, or too large to compare, as in row {row}")
    return lengths
