"""Ridge regression of many targets in one fold: each chooses its penalty, then others are tested.

By the inner products of images where features are long (:class:`Kernel`), and by the features
themselves where images are many (:func:`fit_features`). No coefficients of features are made.

Bytes taken by a fold, beside products and targets, for n training images, f tested ones and t
targets: those that :mod:`vggfeat.solver.ridge` says for choosing, and 24 n^2 + 8 f n + 4 n t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vggfeat.encoding.folds import Fold
from vggfeat.errors import EncodingError
from vggfeat.metrics.regression import pearson_scores, r2_scores
from vggfeat.probe.ridge import GRID
from vggfeat.progress import Progress, part_of, silent
from vggfeat.solver.held_out import FewRows, Targets, blocks
from vggfeat.solver.ridge import BLOCK, SMALLEST, Score, best_of, fit_ridge, scores_of
from vggfeat.solver.rows import Rows

Scoring = Literal["r2", "pearson"]
Array = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]

SCORES: dict[str, Score] = {"r2": r2_scores, "pearson": pearson_scores}
_CHOOSING = 0.85  # share of the work, more or less


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """What a fold gave for t targets.

    Attributes
    ----------
    alpha : ndarray of float64, shape (t,)
        The penalty that each chose, as scikit-learn's.
    score : ndarray of float64, shape (t,)
        Of the held-out parts of the training images; NaN where there is none.
    predicted : ndarray of float32, shape (f, t)
        Of the test images, less the targets' offsets.
    """

    alpha: Array
    score: Array
    predicted: Matrix


class Kernel:
    """Products of a fold's images, less the mean of those that train, in a unit of their own.

    Parameters
    ----------
    K : ndarray of float64, shape (n, n)
        Inner products of all images, from any origin.
    fold : Fold

    Attributes
    ----------
    train : ndarray of float64, shape (m, m)
        Of the training images; the mean of the diagonal is 1, or all are 0.
    test : ndarray of float64, shape (f, m)
        Of test with training images.
    unit : float
        What products were divided by: the mean squared distance of training rows from their mean.
    """

    def __init__(self, K: Array, fold: Fold) -> None:
        train, test = K[np.ix_(fold.train, fold.train)], K[np.ix_(fold.test, fold.train)]
        means = train.mean(axis=0)
        test -= test.mean(axis=1, keepdims=True)
        test -= means - means.mean()
        train -= means[:, None]
        train -= means - means.mean()
        spread, square = float(np.trace(train)), float(np.trace(K))
        if not np.isfinite(square):
            raise EncodingError("Features hold NaN or infinite values; leave these images out.")
        # what is left of rows that are all equal is rounding
        self.unit = spread / len(train) if spread > 1e-12 * square else 1.0
        self.train, self.test = train / self.unit, test / self.unit

    def penalties(self, alphas: Sequence[float] | None) -> Array:
        """Return the grid in this kernel's unit, ascending; :data:`GRID` by default."""
        return penalties_of(alphas, self.unit, len(self.train))


def penalties_of(alphas: Sequence[float] | None, unit: float, n: int) -> Array:
    """Return penalties in units of the rows' mean squared distance from their mean, ascending.

    Raises
    ------
    EncodingError
        One is not above 0, or so small that rounding would decide.
    """
    if alphas is None:
        return np.array(GRID)
    grid = np.unique(np.asarray(alphas, np.float64))
    if not grid.size or not (np.isfinite(grid) & (grid > 0)).all():
        raise EncodingError(f"alphas are {alphas!r}; give numbers above 0.")
    if grid[0] < SMALLEST * n * unit:
        raise EncodingError(
            f"A penalty is {grid[0]:.3g}, where rounding decides: give {SMALLEST * n * unit:.3g} "
            "or more."
        )
    return np.asarray(grid / unit)


def fit_kernel(
    kernel: Kernel,
    Y: Matrix,
    fold: Fold,
    *,
    alphas: Sequence[float] | None = None,
    scoring: Scoring = "r2",
    progress: Progress = silent,
) -> Fit:
    """Choose each target's penalty by a fold's held-out parts, and predict its test images.

    Parameters
    ----------
    kernel : Kernel
        Of this fold.
    Y : ndarray of float32, shape (n, t)
        Targets of all images.
    fold : Fold
    alphas : sequence of float, optional
        Penalties to choose from.
    scoring : {"r2", "pearson"}
        What the chosen one has most of, as a mean over the held-out parts.
    progress : Progress
        Told shares of the work.
    """
    penalties = kernel.penalties(alphas)
    targets = training_targets(Y, fold)
    scores = held_out_scores(
        kernel.train, targets, fold, penalties, scoring, part_of(progress, _CHOOSING)
    )
    best = best_of(scores)
    found = np.empty((len(fold.test), Y.shape[1]), np.float32)
    predict(kernel.train, [kernel.test], targets, penalties, best, [found])
    progress("encoding", 1 - _CHOOSING, 1)
    chosen = scores[best, np.arange(len(best))]
    return Fit(penalties[best] * kernel.unit, chosen, found + targets.offset.astype(np.float32))


def training_targets(Y: Matrix, fold: Fold) -> Targets:
    """Return the targets of a fold's training images, and their means."""
    own = Y[fold.train]
    return Targets(own, own.mean(axis=0, dtype=np.float64))


def held_out_scores(
    K: Array,
    targets: Targets,
    fold: Fold,
    penalties: Array,
    scoring: Scoring,
    progress: Progress = silent,
) -> Array:
    """Return the mean score of a fold's held-out parts, (p, t); NaN for constant targets."""
    t = targets.Y.shape[1]
    few = FewRows(K, targets, fold.held_out, intercept=True, dtype=np.float32, block=BLOCK)
    scores = scores_of(few(penalties), penalties, len(fold.held_out), t, SCORES[scoring], progress)
    scores[:, targets.Y.min(axis=0) == targets.Y.max(axis=0)] = np.nan
    return scores


def predict(
    K: Array,
    across: Sequence[Array],
    targets: Targets,
    penalties: Array,
    best: Positions,
    found: Sequence[Matrix],
    where: Positions | None = None,
) -> None:
    """Predict test images from training ones, each target with its penalty.

    Parameters
    ----------
    K : ndarray of float64, shape (m, m)
        Products of training images, less their mean.
    across : sequence of ndarray of float64, each (f, m)
        Products of test with training images: of all features, or of parts of them, whose
        predictions add up.
    targets : Targets
        Of the training images.
    penalties : ndarray of float64, shape (p,)
    best : ndarray of int64, shape (b,)
        Which penalty each target takes.
    found : sequence of ndarray of float32, each (f, t)
        Written to, less the targets' offsets.
    where : ndarray of int64, shape (b,), optional
        Which targets; all by default.
    """
    from scipy.linalg import cho_factor, cho_solve

    every = np.arange(len(best)) if where is None else where
    for number in np.unique(best):
        A = K.copy()
        A[np.diag_indices(len(A))] += penalties[number]
        factor = cho_factor(A, lower=True, overwrite_a=True, check_finite=False)
        applied = [cho_solve(factor, B.T, check_finite=False).T.astype(np.float32) for B in across]
        del A, factor
        columns = every[best == number]
        for some in blocks(len(columns), BLOCK):
            chosen = columns[some]
            Y = targets.Y[:, chosen] - targets.offset[chosen].astype(np.float32)
            for P, into in zip(applied, found, strict=True):
                into[:, chosen] = P @ Y


def fit_features(
    X: Matrix,
    Y: Matrix,
    fold: Fold,
    *,
    alphas: Sequence[float] | None = None,
    scoring: Scoring = "r2",
    progress: Progress = silent,
) -> Fit:
    """Do as :func:`fit_kernel` by features (n, d) themselves, where images are many."""
    train = X[fold.train]
    mean = train.mean(axis=0, dtype=np.float64)
    centred = train - mean.astype(np.float32)
    squares: Any = np.einsum("ij,ij->", centred, centred, dtype=np.float64)
    total = float(np.einsum("ij,ij->", train, train, dtype=np.float64))
    if not np.isfinite(total):
        raise EncodingError("Features hold NaN or infinite values; leave these images out.")
    unit = float(squares) / len(train) if squares > 1e-12 * total else 1.0
    penalties = penalties_of(alphas, unit, len(train))
    targets = training_targets(Y, fold)
    solved = fit_ridge(
        Rows(centred, unit=float(np.sqrt(unit))),
        targets.Y,
        penalties,
        fold.held_out,
        SCORES[scoring],
        dtype=np.float32,
        progress=lambda _stage, more, total: progress("encoding", more, total),
    )
    best = np.abs(penalties[:, None] - solved.penalty).argmin(axis=0)
    tested = (X[fold.test] - mean.astype(np.float32)) / np.float32(np.sqrt(unit))
    predicted = tested @ solved.coef.T
    predicted += solved.intercept.astype(np.float32)
    return Fit(penalties[best] * unit, solved.scores[best, np.arange(len(best))], predicted)
