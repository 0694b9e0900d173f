"""Naming images by their nearest neighbours: what features know without any training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_BLOCK = 1 << 22  # numbers in a block of float64 vectors: 32 MiB
_ROWS = 1024  # most vectors in a block, so that a block of similarities stays small too
_STEPS = 1 << 30  # similarities are told apart in steps of one over this, from -1 to 1
_LOWER = 0xFFFFFFFF  # lower half of a key, see _nearest


def knn_accuracy(
    X_train: npt.ArrayLike,
    y_train: npt.ArrayLike,
    X_test: npt.ArrayLike,
    y_test: npt.ArrayLike,
    *,
    k: int = 10,
    normalize: bool = True,
) -> float:
    """Return the share of test rows that their nearest training rows name rightly.

    The k training rows most similar to a test row vote for their classes, each with one voice; of
    equal classes the one whose voters are more similar in sum wins, then the lower class. The
    search is exact: similarities are computed in float64 and rounded to 1e-9 of the largest
    possible one, so that equally near rows count as such wherever they stand; the first of them
    vote. Beyond the four arrays it takes less than 256 MiB, for vectors of up to 4 million numbers.

    Parameters
    ----------
    X_train, X_test : array_like of shape (n, d), (m, d)
        Finite features.
    y_train, y_test : array_like of shape (n,), (m,)
        Classes: integers or strings.
    k : int
        How many neighbours vote, at least 1; all training rows where there are fewer.
    normalize : bool
        Compare by the cosine, where a row of zeros is as near to every other; without, by the
        inner product.

    Returns
    -------
    float
        In 0..1.

    Raises
    ------
    ProbeError
        `k` is below 1, or there are no rows to learn from or to test on.
    ValueError
        The shapes do not fit one another, or values are not finite or too large to compare.
    """
    train, test = np.asarray(X_train), np.asarray(X_test)
    known, true = np.asarray(y_train), np.asarray(y_test)
    _check(train, known, test, true, k)
    classes, votes = np.unique(known, return_inverse=True)
    sizes, lengths = _lengths(train), _lengths(test)
    if not normalize:
        sizes = np.full_like(sizes, sizes.max())
    right = 0
    for block in _blocks(test):
        # Dividing a query by its length changes all its similarities alike, and so no vote.
        queries = _divided(test[block], lengths[block])
        rows, similarities = _nearest(queries, train, sizes, k)
        named = classes[_winners(votes[rows], similarities, len(classes))]
        right += int(np.count_nonzero(named == true[block]))
    return right / len(true)


def _check(
    train: npt.NDArray[Any],
    known: npt.NDArray[Any],
    test: npt.NDArray[Any],
    true: npt.NDArray[Any],
    k: int,
) -> None:
    if k < 1:
        raise ProbeError(f"{k} neighbours; give at least 1, such as 10.")
    shapes = f"features {train.shape} and {test.shape}, classes {known.shape} and {true.shape}"
    if (
        train.ndim != 2
        or test.ndim != 2
        or train.shape[1] != test.shape[1]
        or known.shape != train.shape[:1]
        or true.shape != test.shape[:1]
    ):
        raise ValueError(f"training and test rows do not fit one another: {shapes}")
    if not (len(train) and len(test)):
        raise ProbeError(
            f"Neighbours need rows to learn from and rows to test on; given are {shapes}."
        )


def _blocks(X: npt.NDArray[Any]) -> Iterator[slice]:
    step = max(1, min(_ROWS, _BLOCK // max(1, X.shape[1])))
    return (slice(start, start + step) for start in range(0, len(X), step))


def _lengths(X: npt.NDArray[Any]) -> Array:
    """Return the Euclidean length of each row (n, d), 1 for rows of zeros."""
    lengths = np.empty(len(X))
    for block in _blocks(X):
        vectors = np.array(X[block], np.float64)
        largest = np.abs(vectors).max(axis=1, initial=0)
        largest[largest == 0] = 1
        with np.errstate(invalid="ignore", over="ignore"):  # told below
            vectors /= largest[:, None]  # squares of the raw values might overflow
            lengths[block] = largest * np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    lengths[lengths == 0] = 1
    if not np.isfinite(lengths).all():
        row = int(np.flatnonzero(~np.isfinite(lengths))[0])
        raise ValueError(f"features are not finite, or too large to compare, as in row {row}")
    return lengths


def _divided(X: npt.NDArray[Any], lengths: Array) -> Array:
    return np.asarray(np.array(X, np.float64) / lengths[:, None])


def _nearest(
    queries: Array, train: npt.NDArray[Any], sizes: Array, k: int
) -> tuple[Integers, Integers]:
    """Find the nearest training rows of each query.

    Parameters
    ----------
    queries : ndarray of float64, shape (q, d)
        Of length 1 at most.
    train : ndarray of shape (n, d)
        Training rows.
    sizes : ndarray of float64, shape (n,)
        What each is divided by; its own length, or more.
    k : int
        How many to find.

    Returns
    -------
    rows : ndarray of int64, shape (q, min(k, n))
        Of equally near ones the lower.
    similarities : ndarray of int64, same shape
        In steps of 1 / :data:`_STEPS`.
    """
    best = np.empty((len(queries), 0), np.int64)
    for block in _blocks(train):
        # (q, d) x (d, b) -> (q, b)
        products = queries @ _divided(train[block], sizes[block]).T
        similarities = np.rint(products * _STEPS).astype(np.int64)
        # The upper half of a key is the similarity; the lower half counts rows down, so that of
        # equally near rows the lower has the greater key.
        rows = np.arange(block.start, block.start + products.shape[1], dtype=np.int64)
        keys = np.concatenate([best, (similarities << 32) | (_LOWER - rows)], axis=1)
        if keys.shape[1] > k:
            keys.partition(keys.shape[1] - k, axis=1)
        best = keys[:, -k:].copy()
    return _LOWER - (best & _LOWER), best >> 32


def _winners(votes: Integers, similarities: Integers, classes: int) -> Integers:
    """Count voices (q, k) of `classes` classes; return the class that wins, (q,)."""
    size = len(votes) * classes
    places = (np.arange(len(votes))[:, None] * classes + votes).ravel()
    voices = np.bincount(places, minlength=size).reshape(-1, classes)
    # Sums of integers this small are exact in float64, in whatever order.
    sums = np.bincount(places, similarities.ravel(), minlength=size).reshape(-1, classes)
    most = voices == voices.max(axis=1, keepdims=True)
    return np.asarray(np.where(most, sums, -np.inf).argmax(axis=1))
