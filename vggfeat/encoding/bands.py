"""Banded ridge regression: all layers together, each with a penalty of its own.

Ridge regression with a penalty a / g_l for layer l is ridge regression on the sum of the layers'
products with weights g_l, which sum to 1. Weights are drawn from Dirichlet distributions and the
best are kept, target by target, by the held-out parts of the training images (Nunez-Elizalde, Huth
& Gallant, NeuroImage 197, 2019; the search is that of Dupre la Tour, Eickenberg, Nunez-Elizalde &
Gallant, "Feature-space selection with banded ridge regression", NeuroImage 264, 2022, and of
himalaya's ``MultipleKernelRidgeCV``). Each layer's products are first divided by their trace, so
that a weight says how much of the variance of features is the layer's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vggfeat.encoding.folds import Fold
from vggfeat.encoding.regression import (
    Kernel,
    Scoring,
    held_out_scores,
    penalties_of,
    predict,
    training_targets,
)
from vggfeat.progress import Progress, part_of, silent
from vggfeat.solver.ridge import best_of

Array = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]

CONCENTRATIONS = (0.1, 1.0)
"""Of the Dirichlet distributions: few layers that count, and all mixtures alike."""


@dataclass(frozen=True, slots=True, eq=False)
class BandedFit:
    """What a fold gave for t targets and l layers.

    Attributes
    ----------
    weights : ndarray of float64, shape (l, t)
    alpha : ndarray of float64, shape (t,)
        Of the weighted sum of products, each of mean diagonal 1.
    score : ndarray of float64, shape (t,)
        Of the held-out parts.
    parts : ndarray of float32, shape (l, f, t)
        What each layer adds to the predictions, less the training images' mean response.
    offset : ndarray of float64, shape (t,)
        That mean.
    """

    weights: Array
    alpha: Array
    score: Array
    parts: Matrix
    offset: Array


def candidates(layers: int, count: int, seed: int = 0) -> Array:
    """Return sets of weights: each layer alone, all alike, then `count` that are drawn.

    Returns
    -------
    ndarray of float64, shape (layers + 1 + count, layers)
        Each row sums to 1.
    """
    rng = np.random.default_rng(seed)
    drawn = [
        rng.dirichlet(np.full(layers, CONCENTRATIONS[at % len(CONCENTRATIONS)]))
        for at in range(count)
    ]
    return np.concatenate([np.eye(layers), np.full((1, layers), 1 / layers), *map(_row, drawn)])


def fit_banded(
    products: Sequence[Array],
    Y: Matrix,
    fold: Fold,
    weights: Array,
    *,
    alphas: Sequence[float] | None = None,
    scoring: Scoring = "r2",
    progress: Progress = silent,
) -> BandedFit:
    """Choose weights and penalty of each target, and predict a fold's test images.

    Parameters
    ----------
    products : sequence of ndarray of float64, each (n, n)
        Inner products of images, a layer each.
    Y : ndarray of float32, shape (n, t)
    fold : Fold
    weights : ndarray of float64, shape (g, l)
        Sets of weights to choose from.
    alphas : sequence of float, optional
        Penalties to choose from, of the weighted sum; :data:`~vggfeat.probe.ridge.GRID` by default.
    scoring, progress :
        As for :func:`~vggfeat.encoding.regression.fit_kernel`.
    """
    kernels = [Kernel(K, fold) for K in products]
    penalties = penalties_of(alphas, 1.0, len(fold.train))
    targets = training_targets(Y, fold)
    t = Y.shape[1]
    score, chosen = np.full(t, -np.inf), np.zeros((2, t), np.int64)
    share = 0.9 / len(weights)
    for number, row in enumerate(weights):
        K = _sum(row, [kernel.train for kernel in kernels])
        scores = held_out_scores(K, targets, fold, penalties, scoring, part_of(progress, share))
        best = best_of(scores)
        found = scores[best, np.arange(t)]
        better = np.where(np.isfinite(found), found, -np.inf) > score
        score[better] = found[better]
        chosen[0, better], chosen[1, better] = number, best[better]
        if number == 0:
            chosen[1, ~better] = best[~better]
    parts = np.zeros((len(kernels), len(fold.test), t), np.float32)
    for number in np.unique(chosen[0]):
        row, where = weights[number], np.flatnonzero(chosen[0] == number)
        used = [at for at in range(len(kernels)) if row[at] > 0]
        predict(
            _sum(row, [kernel.train for kernel in kernels]),
            [row[at] * kernels[at].test for at in used],
            targets,
            penalties,
            chosen[1, where],
            [parts[at] for at in used],
            where,
        )
    progress("encoding", 0.1, 1)
    return BandedFit(
        weights[chosen[0]].T.copy(),
        penalties[chosen[1]],
        np.where(np.isfinite(score), score, np.nan),
        parts,
        targets.offset,
    )


def _sum(weights: Array, products: Sequence[Array]) -> Array:
    total = np.zeros_like(products[0])
    for weight, K in zip(weights, products, strict=True):
        if weight > 0:
            total += weight * K
    return total


def _row(values: Array) -> Array:
    return values[None, :]
