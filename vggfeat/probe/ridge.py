"""Ridge regression in scikit-learn's manner, for one number an image or tens of thousands."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from numbers import Integral
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from vggfeat.errors import ProbeError
from vggfeat.metrics.regression import pearson_scores, r2_scores
from vggfeat.norms import unit_length
from vggfeat.progress import Progress, silent
from vggfeat.solver.held_out import HeldOut
from vggfeat.solver.ridge import BLOCK, Score, fit_ridge
from vggfeat.solver.rows import Positions, Reader, Rows, moments

Scoring = Literal["r2", "pearson"]

GRID = tuple(float(10 ** (step / 2)) for step in range(-4, 11))
"""Candidates for ``alpha``, 0.01 to 100,000 in half decades, in units of the rows' mean squared
distance from their mean: the choice does not depend on how features are scaled or shifted."""

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]
_SCORES: dict[str, Score] = {"r2": r2_scores, "pearson": pearson_scores}
_log = logging.getLogger(__name__)


class RidgeProbe(RegressorMixin, MultiOutputMixin, BaseEstimator):
    """Ridge regression whose penalty each target chooses for itself.

    For a target y it minimises |y - X w - b|^2 + alpha |w|^2. It is
    :class:`sklearn.linear_model.RidgeCV` of each target, all solved together.

    Parameters
    ----------
    alphas : array_like of shape (p,) or float, optional
        Penalties to choose from, above 0, as scikit-learn's; a single one is taken as it is. By
        default :data:`GRID` times the rows' mean squared distance from their mean.
    normalize : bool
        Scale each row to length 1 first, as :class:`~vggfeat.LinearProbe` does by default. Not so
        here: how strongly an image makes features respond may tell a number, if not a class.
    standardize : bool
        Divide each feature by its standard deviation over the training rows, after `normalize`;
        features that are constant stay as they are. Not by default, since the features of a layer
        have one unit, and those that seldom respond would count as much as all others. `coef_` is
        of the features as given.
    fit_intercept : bool
        Whether there is an intercept; it is not penalised.
    cv : int, "loo", splitter or iterable of (train, held out)
        What chooses alpha: a number of folds, 2 or more, drawn at random, whole groups where
        :meth:`fit` knows `groups`; each row by itself; or parts that are given, of which each
        must train on all rows that it does not hold out.
    scoring : {"r2", "pearson"}
        What the chosen alpha has most of on held-out rows: the mean over parts of R2 or of
        Pearson's r, or, for ``"loo"``, that of all rows' predictions together (for R2 the choice
        of RidgeCV's default).
    random_state : int, RandomState or None
        Of the folds that are drawn.

    Attributes
    ----------
    alpha_ : float or ndarray of shape (t,)
        The penalty used.
    best_score_ : float or ndarray of shape (t,)
        Its score on held-out rows; NaN where there was nothing to choose, for constant targets,
        and where each part was constant.
    scores_ : ndarray of shape (p,) or (p, t)
        Of all penalties, in the order of `alphas_`.
    alphas_ : ndarray of shape (p,)
        The grid.
    coef_ : ndarray of shape (d,) or (t, d)
        float32 where features are float32, else float64.
    intercept_ : float or ndarray of shape (t,)
    n_features_in_ : int
        d, the length of a row.

    Notes
    -----
    Targets may be unknown (NaN) in some rows, which are then left out of them: targets that are
    known in the same rows are solved together, each such set by itself, 32 sets at most.

    Products with targets have the precision of the features; all that decides how exact they are
    is float64 (:mod:`vggfeat.solver.held_out`). What memory it takes: :mod:`vggfeat.solver.ridge`.

    Examples
    --------
    >>> import numpy as np
    >>> from vggfeat import RidgeProbe
    >>> X = np.random.default_rng(0).normal(size=(100, 20))
    >>> Y = X[:, :3] + 0.1
    >>> RidgeProbe(cv=5).fit(X, Y).predict(X[:2]).shape
    (2, 3)
    """

    def __init__(
        self,
        alphas: float | npt.ArrayLike | None = None,
        *,
        normalize: bool = False,
        standardize: bool = False,
        fit_intercept: bool = True,
        cv: Any = 5,
        scoring: Scoring = "r2",
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.alphas = alphas
        self.normalize = normalize
        self.standardize = standardize
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.scoring = scoring
        self.random_state = random_state

    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        groups: npt.ArrayLike | None = None,
        name: str | None = None,
        progress: Progress = silent,
    ) -> Self:
        """Choose each target's penalty, then train on all rows.

        Parameters
        ----------
        X : array_like of shape (n, d)
            Finite features, a row an image. float32 stays float32.
        y : array_like of shape (n,) or (n, t)
            Numbers to predict; NaN leaves the row out of that target.
        groups : array_like of shape (n,), optional
            Of which group, such as a patient, each row is; no group is on both sides of a fold.
        name : str, optional
            What warnings call these features, such as their layer.
        progress : Progress
            Called with the share of the work that was done since the last call; the shares sum
            to 1.

        Raises
        ------
        ProbeError
            A parameter is out of its range, parts are not as `cv` says, a target is known in
            fewer than two rows, or targets are unknown in too many different sets of rows.
        ValueError
            `X` is not a finite matrix, or `y` does not fit it.
        """
        rows = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        targets = self._targets(y, rows)
        return self._fit(
            Rows(unit_length(rows) if self.normalize else rows),
            targets,
            groups,
            rows.dtype,
            name,
            progress,
        )

    def fit_reader(
        self,
        X: Reader,
        y: npt.ArrayLike,
        *,
        groups: npt.ArrayLike | None = None,
        name: str | None = None,
        progress: Progress = silent,
    ) -> Self:
        """Train as :meth:`fit` does, on rows that need not fit into memory.

        Parameters
        ----------
        X : Reader of shape (n, d)
            Such as an :class:`h5py.Dataset` or :class:`numpy.memmap`. Finite rows are read in
            blocks of some 64 MiB: where n <= d anew for each thousand targets, else anew for each
            penalty and fold.
        y, groups, name, progress :
            As for :meth:`fit`.
        """
        self.n_features_in_ = X.shape[1]
        targets = self._targets(y, np.empty((X.shape[0], 0)))
        dtype = np.asarray(X[0:1]).dtype
        working = np.float32 if dtype in (np.float32, np.float16) else np.float64
        return self._fit(
            Rows(X, normalize=self.normalize), targets, groups, working, name, progress
        )

    def predict(self, X: npt.ArrayLike) -> Floats:
        """Return the predicted numbers of each row of `X` (n, d) as an array (n,) or (n, t)."""
        check_is_fitted(self, "coef_")
        rows = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        rows = unit_length(rows) if self.normalize else rows
        return np.asarray(rows @ self.coef_.T + self.intercept_)

    def target_scores(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Array:
        """Return R2 of each target, (t,), on rows `X` (n, d); NaN where a target is constant.

        :func:`vggfeat.metrics.score_targets` has intervals, and Pearson's r.
        """
        predicted = self.predict(X).reshape(len(np.asarray(y)), -1)
        return r2_scores(np.asarray(y, np.float64).reshape(predicted.shape), predicted)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = True
        return tags

    def _targets(self, y: npt.ArrayLike, rows: npt.NDArray[Any]) -> Floats:
        if y is None:
            raise ValueError("RidgeProbe requires y to be passed, but the target y is None.")
        found = check_array(
            y,
            dtype=[np.float64, np.float32],
            ensure_2d=False,
            ensure_all_finite="allow-nan",
            input_name="y",
        )
        if found.ndim > 2 or (found.ndim == 2 and not found.shape[1]):
            raise ValueError(f"y has shape {found.shape}; give (n,) or (n, t).")
        check_consistent_length(rows, found)
        return np.asarray(found)

    def _fit(
        self,
        rows: Rows,
        y: Floats,
        groups: npt.ArrayLike | None,
        dtype: npt.DTypeLike,
        name: str | None,
        progress: Progress,
    ) -> Self:
        if self.scoring not in _SCORES:
            raise ProbeError(f"scoring is {self.scoring!r}; give one of {', '.join(_SCORES)}.")
        scales = np.ones(rows.shape[1])
        if self.standardize:
            deviations = _deviations(rows)
            scales[deviations > 0] = deviations[deviations > 0]
            rows = Rows(_Scaled(rows, scales))
        mean, square = moments(rows)
        spread = float(square - mean @ mean)
        spread = spread if spread > 1e-12 * square else float(square)  # rows that are all equal
        rows.unit = float(np.sqrt(spread)) or 1.0
        self.alphas_ = self._grid(rows.unit**2)
        held_out = None
        if len(self.alphas_) > 1:
            held_out = self._held_out(len(y), groups)
        found = fit_ridge(
            rows,
            y.reshape(len(y), -1),
            self.alphas_ / rows.unit**2,
            held_out,
            _SCORES[self.scoring],
            intercept=self.fit_intercept,
            dtype=dtype,
            block=BLOCK,
            progress=progress,
        )
        coef = found.coef
        coef /= (rows.unit * scales).astype(coef.dtype)
        chosen = np.abs(self.alphas_[:, None] / rows.unit**2 - found.penalty).argmin(axis=0)
        alpha, scores, intercept = self.alphas_[chosen], found.scores, found.intercept
        best = scores[chosen, np.arange(len(chosen))]
        self.alpha_: float | Array
        self.best_score_: float | Array
        self.intercept_: float | Array
        if y.ndim == 1:
            self.alpha_, self.best_score_ = float(alpha[0]), float(best[0])
            self.coef_, self.intercept_ = coef[0], float(intercept[0])
            self.scores_ = scores[:, 0]
        else:
            self.alpha_, self.best_score_, self.scores_ = alpha, best, scores
            self.coef_, self.intercept_ = coef, intercept
        self._warn(chosen, best, name)
        return self

    def _grid(self, unit: float) -> Array:
        if self.alphas is None:
            return np.array(GRID) * unit
        try:
            grid = np.unique(np.asarray(self.alphas, np.float64))
        except (TypeError, ValueError):
            grid = np.empty(0)
        if not grid.size or not (np.isfinite(grid) & (grid > 0)).all():
            raise ProbeError(f"alphas is {self.alphas!r}; give numbers above 0, or None.")
        return grid

    def _held_out(self, n: int, groups: npt.ArrayLike | None) -> HeldOut | None:
        """Return the rows of each part, from `cv`; None for each row by itself."""
        named = None if groups is None else np.asarray(groups)
        if named is not None and named.shape != (n,):
            raise ProbeError(f"There are {named.shape} groups for {n} rows; give one a row.")
        if isinstance(self.cv, str):
            if self.cv != "loo":
                raise ProbeError(f'cv is {self.cv!r}; give a number of folds, "loo", or parts.')
            if named is not None:
                raise ProbeError('cv is "loo", which parts groups; give a number of folds.')
            return None
        given: Iterable[Any]
        if isinstance(self.cv, Integral):
            folds = int(self.cv)
            most = n // 2 if named is None else len(np.unique(named))
            if folds < 2 or most < 2:
                raise ProbeError(
                    f"cv is {folds} for {n} rows{'' if named is None else f' of {most} groups'}; "
                    "give 2 folds or more, each with 2 rows or a group at least, or one alpha."
                )
            if folds > most:
                _log.warning("cv is %d, but %d folds are all that can be held out.", folds, most)
            from sklearn.model_selection import GroupKFold, KFold

            drawn: Any = KFold if named is None else GroupKFold
            state = check_random_state(self.random_state)
            splitter = drawn(min(folds, most), shuffle=True, random_state=state)
            given = splitter.split(np.empty((n, 0)), groups=named)
        elif hasattr(self.cv, "split"):
            given = self.cv.split(np.empty((n, 0)), groups=named)
        else:
            given = self.cv
        return [_held_out_rows(part, n) for part in given]

    def _warn(self, chosen: Positions, best: Array, name: str | None) -> None:
        scored = np.isfinite(best)
        label = f"{name}: " if name else ""
        if len(self.alphas_) > 1 and not scored.all():
            _log.warning(
                "%s%d of %d targets are constant, or constant in each part held out: they have no "
                "score, and the largest alpha.",
                label,
                int((~scored).sum()),
                len(best),
            )
        for end, word in ((0, "smallest"), (len(self.alphas_) - 1, "largest")):
            share = np.mean(chosen[scored] == end) if scored.any() else 0
            if len(self.alphas_) > 1 and share > 0.5 and (end == 0 or (best[scored] > 0.01).any()):
                _log.warning(
                    "%s%.0f %% of targets choose the %s alpha, %.3g; try a wider grid.",
                    label,
                    100 * share,
                    word,
                    self.alphas_[end],
                )


class _Scaled:
    """Rows, each feature divided by a number; a :class:`~vggfeat.solver.rows.Reader`."""

    def __init__(self, rows: Rows, scales: Array) -> None:
        self.rows, self.scales, self.shape = rows, scales, rows.shape

    def __getitem__(self, where: slice) -> Array:
        return np.asarray(self.rows.take(np.arange(self.shape[0])[where]) / self.scales)


def _deviations(rows: Rows) -> Array:
    """Return the standard deviation of each feature, exactly 0 where it is constant."""
    mean, squares = moments(rows)[0], np.zeros(rows.shape[1])
    low, high = np.full(rows.shape[1], np.inf), np.full(rows.shape[1], -np.inf)
    for _, X in rows.blocks():
        squares += ((X - mean) ** 2).sum(axis=0)
        low, high = np.minimum(low, X.min(axis=0)), np.maximum(high, X.max(axis=0))
    return np.where(low < high, np.sqrt(squares / rows.shape[0]), 0)


def _held_out_rows(part: Any, n: int) -> Positions:
    train, held_out = (np.unique(np.arange(n)[np.asarray(each)]) for each in part)
    both = np.bincount(train, minlength=n) + np.bincount(held_out, minlength=n)
    if not len(train) or not len(held_out) or (both != 1).any():
        raise ProbeError(
            f"A part trains on {len(train)} rows and holds out {len(held_out)} of {n}; each row "
            "must be in one of them. Leave out other rows beforehand, or take KFold, GroupKFold "
            "or PredefinedSplit."
        )
    return held_out
