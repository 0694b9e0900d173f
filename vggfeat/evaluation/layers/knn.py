"""Naming images by their nearest neighbours: what features know without any training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.evaluation.layers.nearest import METRICS, STEPS, Metric, nearest
from vggfeat.progress import Progress, silent
from vggfeat.solver.rows import Reader

Integers = npt.NDArray[np.int64]
Rows = npt.ArrayLike | Reader


def knn_accuracy(
    X_train: Rows,
    y_train: npt.ArrayLike,
    X_test: Rows,
    y_test: npt.ArrayLike,
    *,
    k: int = 10,
    metric: Metric = "cosine",
) -> float:
    """Return the share of test rows that their nearest training rows name rightly.

    Parameters
    ----------
    X_train, y_train, X_test, k, metric :
        See :func:`knn_answers`.
    y_test : array_like of shape (m,)
        Classes: integers or strings.

    Returns
    -------
    float
        In 0..1.

    Raises
    ------
    ProbeError, ValueError
        As there.
    """
    true = np.asarray(y_test)
    if true.shape != (len(true),) or len(true) != _reader(X_test).shape[0]:
        raise ValueError(
            f"{_reader(X_test).shape[0]} test rows and classes {true.shape} do not fit one another"
        )
    (named,) = knn_answers(X_train, y_train, X_test, k=[k], metric=metric)
    return float(np.count_nonzero(named == true) / len(true))


def knn_answers(
    X_train: Rows,
    y_train: npt.ArrayLike,
    X_test: Rows | None = None,
    *,
    k: Sequence[int] = (10,),
    metric: Metric = "cosine",
    temperature: float | None = None,
    class_weight: Literal["balanced"] | None = None,
    progress: Progress = silent,
) -> npt.NDArray[Any]:
    """Name rows by the vote of their nearest training rows.

    The k training rows most similar to a row vote for their classes, each with one voice; of
    equal classes the one whose voters are more similar in sum wins, then the lower class. Of
    equally near rows the first ones vote; see :func:`~vggfeat.evaluation.layers.nearest.nearest`.

    Parameters
    ----------
    X_train : array_like or Reader of shape (n, d)
        Finite features. What is no list is read in blocks: an :class:`h5py.Dataset` need not fit
        into memory.
    y_train : array_like of shape (n,)
        Classes: integers or strings.
    X_test : array_like or Reader of shape (m, d), optional
        The rows to name. By default the training rows, each by all others: leave-one-out.
    k : sequence of int
        How many neighbours vote, each at least 1; all training rows where there are fewer.
    metric : {"cosine", "l2", "ip"}
        What makes rows near.
    temperature : float, optional
        Above 0; voters then have exp(cosine / temperature) voices instead of one, and k hardly
        matters once it is large. Only for the cosine. 0.07 is usual: Wu et al., "Unsupervised
        Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018; Caron et al.,
        "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021.
    class_weight : {"balanced"}, optional
        Divide the voices for a class by its number of training rows, so that common classes do
        not win for being common. Each row's class counts, also where that row is left out.
    progress : Progress
        Told of rows that were named.

    Returns
    -------
    ndarray of shape (len(k), m)
        Classes, in the type of `y_train`, for each k in the order given.

    Raises
    ------
    ProbeError
        A parameter is out of its range, or there are too few rows to learn from or to test on.
    ValueError
        The shapes do not fit one another, or values are not finite or too large to compare.
    """
    train, known = _reader(X_train), np.asarray(y_train)
    test = None if X_test is None else _reader(X_test)
    check_vote(k, metric, temperature)
    _check_shapes(train, known, test)
    classes, votes, counts = np.unique(known, return_inverse=True, return_counts=True)
    sizes = counts if class_weight == "balanced" else np.ones_like(counts)
    requested = train if test is None else test
    named = np.empty((len(k), requested.shape[0]), np.int64)
    for block, rows, similarities in nearest(test, train, max(k), metric):
        for at, voters in enumerate(k):
            near = np.s_[:, :voters]
            named[at, block] = _winners(votes[rows[near]], similarities[near], sizes, temperature)
        progress("naming", len(rows), requested.shape[0])
    return np.asarray(classes[named])


def knn_scores(
    X_train: Rows,
    Y_train: npt.ArrayLike,
    X_test: Rows | None = None,
    *,
    k: Sequence[int] = (10,),
    metric: Metric = "cosine",
    temperature: float | None = None,
    progress: Progress = silent,
) -> npt.NDArray[np.float64]:
    """Score rows for each of several classes by how many of their nearest training rows show it.

    The score is the share of voices that show the class among those of the k nearest training rows
    of which it is known (the confidence of BRkNN: Spyromitros, Tsoumakas and Vlahavas, "An
    Empirical Study of Lazy Multilabel Classification Algorithms", SETN 2008). Weighing present and
    absent rows of a class, as a balanced classifier does, would change no class's ranking.

    Parameters
    ----------
    Y_train : array_like of shape (n, K)
        1 where the class is present, 0 where it is absent, NaN where that is not known.
    X_train, X_test, k, metric, temperature, progress :
        See :func:`knn_answers`.

    Returns
    -------
    ndarray of float64, shape (len(k), m, K)
        In 0..1. Where a class is known of none of the k rows, its share among all training rows of
        which it is known.

    Raises
    ------
    ProbeError, ValueError
        As there, or a class is known of no row.
    """
    train, Y = _reader(X_train), np.asarray(Y_train, np.float64)
    test = None if X_test is None else _reader(X_test)
    check_vote(k, metric, temperature)
    _check_shapes(train, Y[:, 0] if Y.ndim == 2 and Y.shape[1] else Y, test)
    known, present = np.isfinite(Y).astype(np.float64), (Y == 1).astype(np.float64)
    if not known.any(axis=0).all():
        raise ProbeError("Some class is known of no training row. Leave its column out.")
    usual = present.sum(axis=0) / known.sum(axis=0)
    requested = train if test is None else test
    scores = np.empty((len(k), requested.shape[0], Y.shape[1]))
    for block, rows, similarities in nearest(test, train, max(k), metric):
        voices = _voices(similarities, temperature)
        last = np.minimum(k, rows.shape[1]) - 1
        for column in range(Y.shape[1]):
            shown, of = (
                np.cumsum(voices * flags[rows, column], axis=1)[:, last]
                for flags in (present, known)
            )
            share = np.divide(shown, of, out=np.full_like(of, usual[column]), where=of > 0)
            scores[:, block, column] = share.T  # (q, len(k)) -> (len(k), q)
        progress("naming", len(rows), requested.shape[0])
    return scores


def _reader(X: Rows) -> Reader:
    return cast("Reader", X) if hasattr(X, "shape") else np.asarray(X)


def check_vote(k: Sequence[int], metric: Metric, temperature: float | None) -> None:
    """Refuse parameters of :func:`knn_answers` that are out of their range."""
    if not k or min(k) < 1:
        raise ProbeError(f"{min(k, default=0)} neighbours; give at least 1, such as 10.")
    if metric not in METRICS:
        raise ProbeError(f"Unknown metric {metric!r}. Known ones: {', '.join(METRICS)}.")
    if temperature is not None and not (
        metric == "cosine" and temperature > 0 and math.isfinite(temperature)
    ):
        raise ProbeError(
            f"The temperature is {temperature} with the metric {metric}; give a number above 0, "
            "such as 0.07, and the cosine, or leave it out."
        )


def _check_shapes(train: Reader, known: npt.NDArray[Any], test: Reader | None) -> None:
    shapes = [train.shape, train.shape if test is None else test.shape]
    given = f"features {shapes[0]} and {shapes[1]}, classes {known.shape}"
    if (
        any(len(shape) != 2 for shape in shapes)
        or shapes[0][1] != shapes[1][1]
        or known.shape != shapes[0][:1]
    ):
        raise ValueError(f"training and test rows do not fit one another: {given}")
    if shapes[0][0] < (2 if test is None else 1) or not shapes[1][0]:
        raise ProbeError(f"Neighbours need rows to learn from and rows to test on; given: {given}.")


def _winners(
    votes: Integers, similarities: Integers, sizes: Integers, temperature: float | None
) -> Integers:
    """Count voices (q, k), divided by the `sizes` of K classes; return the class that wins, (q,).

    Quotients of whole numbers are rounded correctly, so that equal ones are equal.
    """
    classes = len(sizes)
    size = len(votes) * classes
    cells = (np.arange(len(votes))[:, None] * classes + votes).ravel()
    if temperature is not None:
        voices = _voices(similarities, temperature)
        sums = np.bincount(cells, voices.ravel(), size).reshape(-1, classes) / sizes
        return np.asarray(sums.argmax(axis=1))
    counts = np.bincount(cells, minlength=size).reshape(-1, classes) / sizes
    # Sums of integers this small are exact in float64, in whatever order.
    sums = np.bincount(cells, similarities.ravel(), minlength=size).reshape(-1, classes) / sizes
    most = counts == counts.max(axis=1, keepdims=True)
    return np.asarray(np.where(most, sums, -np.inf).argmax(axis=1))


def _voices(similarities: Integers, temperature: float | None) -> npt.NDArray[np.float64]:
    """Return what each neighbour's voice counts, (q, k): 1 for the most similar row's."""
    if temperature is None:
        return np.ones(similarities.shape)
    cosines = similarities / (STEPS * temperature)
    return np.asarray(np.exp(cosines - cosines[:, :1]))
