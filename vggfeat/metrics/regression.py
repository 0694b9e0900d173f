"""How well numbers are predicted: R2 and Pearson's r of each of many targets, and their intervals.

A column is a target. A score that does not exist is NaN with its reason, never 0 or 1: a target
that is constant has no R2, and neither it nor a constant prediction has an r. Rows whose target is
NaN are left out of that target alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.metrics.certainty import check_level
from vggfeat.metrics.clusters import resampled

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]

BLOCK_BYTES = 64 << 20
"""Of the bootstrap's scores that are held at a time; sums of a block take some seven times that."""

_ROWS = 256  # float32 sums of no more rows are summed further in float64
_ROUNDING = 1e-12  # a variance is 0 where it is no more than this share of the mean square


@dataclass(frozen=True, slots=True, eq=False)
class TargetScores:
    """R2 and r of each of t targets, with confidence intervals.

    The intervals tell what other test images (or groups) of the same kind would change, not what
    other training images would.

    Attributes
    ----------
    r2, r2_low, r2_high : ndarray of float64, shape (t,)
        Coefficients of determination, at most 1; NaN where there is none.
    r, r_low, r_high : ndarray of float64, shape (t,)
        Pearson's correlations, in -1..1; NaN where there is none.
    n : ndarray of int64, shape (t,)
        Rows that were scored.
    reasons : dict of int to str
        Why targets, by their column, lack R2, r or an interval.
    level : float
        Of the intervals, such as 0.95.
    samples : int
        Of the bootstrap.
    groups : int, optional
        How many groups were drawn from; None where images were.
    seed : int
        That the samples were drawn with.
    """

    r2: Array
    r2_low: Array
    r2_high: Array
    r: Array
    r_low: Array
    r_high: Array
    n: npt.NDArray[np.int64]
    reasons: dict[int, str]
    level: float
    samples: int
    groups: int | None
    seed: int

    def text(self, name: Literal["r2", "r"], target: int) -> str:
        """Return a target's score with its interval, as ``0.512 [0.450, 0.570]``; - for none."""
        value, low, high = (getattr(self, name + end)[target] for end in ("", "_low", "_high"))
        if not np.isfinite(value):
            return "-"
        return f"{value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if np.isfinite(low) else "")


def r2_scores(y: npt.ArrayLike, predicted: npt.ArrayLike) -> Array:
    """Return R2 of each target, 1 - sum (y - p)^2 / sum (y - mean y)^2.

    Parameters
    ----------
    y, predicted : array_like of shape (n, t)
        Finite numbers. float32 is subtracted in float32; sums are float64.

    Returns
    -------
    ndarray of float64, shape (t,)
        At most 1, unbounded below; NaN where all `y` are equal.
    """
    truth, guess = _columns(y, predicted)
    total = column_sums(_squared(truth - _means(truth)))
    wrong = column_sums(_squared(truth - guess))
    found = 1 - np.divide(wrong, total, out=np.full(len(total), np.nan), where=total > 0)
    found[_constant(truth)] = np.nan
    return np.asarray(found)


def pearson_scores(y: npt.ArrayLike, predicted: npt.ArrayLike) -> Array:
    """Return Pearson's correlation of each target with its prediction.

    Parameters
    ----------
    y, predicted : array_like of shape (n, t)
        As for :func:`r2_scores`.

    Returns
    -------
    ndarray of float64, shape (t,)
        In -1..1; NaN where all `y`, or all predictions, are equal.
    """
    truth, guess = _columns(y, predicted)
    constant = _constant(truth) | _constant(guess)
    truth, guess = truth - _means(truth), guess - _means(guess)
    size = np.sqrt(column_sums(truth * truth) * column_sums(guess * guess))
    found = np.full(len(size), np.nan)
    np.divide(column_sums(truth * guess), size, out=found, where=(size > 0) & ~constant)
    return np.asarray(np.clip(found, -1, 1))


def fisher_interval(r: npt.ArrayLike, n: npt.ArrayLike, level: float = 0.95) -> tuple[Array, Array]:
    """Return the interval of a correlation by Fisher's z, tanh(artanh r -+ q / sqrt(n - 3)).

    It holds for independent rows that are normal in both numbers (Fisher, Metron 1, 1921); for
    rows in groups take :func:`score_targets`.

    Parameters
    ----------
    r : array_like of shape (t,)
        Correlations.
    n : array_like of shape () or (t,)
        Rows that they are of.
    level : float
        Above 0 and below 1.

    Returns
    -------
    low, high : ndarray of float64, shape (t,)
        NaN where `r` is, and where `n` is below 4.

    Raises
    ------
    ProbeError
        `level` is out of its range, or a correlation is.
    """
    _check(level, 1)
    from scipy.stats import norm

    values, rows = np.broadcast_arrays(np.asarray(r, np.float64), np.asarray(n, np.float64))
    if (np.abs(values) > 1).any():
        raise ProbeError(f"A correlation is {np.nanmax(np.abs(values))}; they lie in -1..1.")
    spread = np.full(values.shape, np.nan)
    np.divide(
        norm.ppf((1 + level) / 2), np.sqrt(np.maximum(rows - 3, 0)), out=spread, where=rows > 3
    )
    with np.errstate(divide="ignore"):  # a correlation of 1 has the interval 1..1
        z = np.arctanh(values)
    return np.tanh(z - spread), np.tanh(z + spread)


def score_targets(
    y: npt.ArrayLike,
    predicted: npt.ArrayLike,
    *,
    groups: npt.ArrayLike | None = None,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> TargetScores:
    """Return R2 and r of each target with percentile intervals of a bootstrap.

    Images, or whole groups of them, are drawn with replacement, as many as there are (Efron and
    Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13). All targets share the
    samples. Scores depend on seven sums a target alone, so that a sample is one product of how
    often each image (or group) was drawn with the sums of each.

    Parameters
    ----------
    y, predicted : array_like of shape (n,) or (n, t)
        True and predicted numbers; NaN in `y` leaves the row out of that target.
    groups : array_like of shape (n,), optional
        Of which group, such as a patient, each row is. Where a target's known rows are all of one
        group it has no interval.
    samples : int
        Number of samples, at least 1; 0 for no intervals. Those in which a target or its
        prediction is constant are left out of its interval.
    level : float
        Above 0 and below 1.
    seed : int
        The same seed draws the same samples.

    Returns
    -------
    TargetScores

    Raises
    ------
    ProbeError
        Shapes differ, a number is infinite, a prediction is NaN, or a parameter is out of its
        range.
    """
    truth, guess = (
        np.asarray(each, np.float64).reshape(len(np.asarray(each)), -1) for each in (y, predicted)
    )
    if truth.shape != guess.shape or not len(truth):
        raise ProbeError(
            f"Targets are {truth.shape} and predictions {guess.shape}; give both alike."
        )
    if np.isinf(truth).any() or not np.isfinite(guess).all():
        raise ProbeError(
            "Targets hold infinite numbers, or predictions numbers that are not finite."
        )
    _check(level, samples if samples else 1)
    n, t = truth.shape
    codes, units = np.arange(n), n
    if groups is not None:
        names, codes = np.unique(np.asarray(groups), return_inverse=True)
        units, codes = len(names), codes.ravel()
        if len(codes) != n:
            raise ProbeError(f"There are {len(codes)} groups for {n} rows; give one a row.")
    counts = np.concatenate([np.ones((1, units)), *resampled(units, samples, seed)])
    found = np.empty((6, t))  # R2 and r, each with its lower and upper limit
    rows = np.empty(t, np.int64)
    reasons: dict[int, str] = {}
    step = max(1, BLOCK_BYTES // (8 * max(len(counts), n)))
    for first in range(0, t, step):
        where = slice(first, min(first + step, t))
        parts, constant = _sums(truth[:, where], guess[:, where], codes, units)
        r2, r = _from_sums([counts @ part for part in parts])
        rows[where] = parts[0].sum(axis=0)
        # what is constant in all rows has no score, whatever rounding says
        r2[:, constant[0]] = r[:, constant[0] | constant[1]] = np.nan
        for k, score in enumerate((r2, r)):
            found[3 * k, where] = score[0]
            found[3 * k + 1 : 3 * k + 3, where] = _quantiles(score[1:], level)
        # samples of one group are all the same, and no interval
        alone = (parts[0] > 0).sum(axis=0) < 2
        found.reshape(2, 3, t)[:, 1:, first + np.flatnonzero(alone)] = np.nan
        for j in np.flatnonzero(constant.any(axis=0) | alone):
            reasons[first + int(j)] = (
                f"{rows[first + j]} rows are known"
                if rows[first + j] < 2
                else "the target is constant"
                if constant[0, j]
                else "the prediction is constant: there is no r"
                if constant[1, j]
                else "its rows are all of one group: there is no interval"
            )
    return TargetScores(
        r2=found[0],
        r2_low=found[1],
        r2_high=found[2],
        r=found[3],
        r_low=found[4],
        r_high=found[5],
        n=rows,
        reasons=reasons,
        level=level,
        samples=samples,
        groups=None if groups is None else units,
        seed=seed,
    )


def sampled_scores(
    y: npt.ArrayLike, predicted: npt.ArrayLike, counts: npt.NDArray[np.int64]
) -> tuple[Array, Array]:
    """Return R2 and r of each target on samples of the rows, as :func:`score_targets` draws them.

    Parameters
    ----------
    y, predicted : array_like of shape (n, t)
        Finite numbers.
    counts : ndarray of int64, shape (s, n)
        How often each row is in each sample.

    Returns
    -------
    r2, r : ndarray of float64, shape (s, t)
        NaN where a target, for r also its prediction, is constant in a sample.
    """
    truth, guess = (np.asarray(each, np.float64) for each in (y, predicted))
    parts, _ = _sums(truth, guess, np.arange(len(truth)), len(truth))
    drawn = counts.astype(np.float64)
    return _from_sums([drawn @ part for part in parts])


def column_sums(Z: Floats) -> Array:
    """Return the sums of columns (n, t) in float64, quickly where they are float32.

    Runs of 256 rows are summed in the type of `Z`: float32 terms of one sign are off by less than
    256 * 6e-8 of the sum, and 6e-7 is usual.
    """
    total = np.zeros(Z.shape[1])
    for first in range(0, len(Z), _ROWS):
        total += Z[first : first + _ROWS].sum(axis=0)
    return total


def _columns(y: npt.ArrayLike, predicted: npt.ArrayLike) -> tuple[Floats, Floats]:
    truth, guess = np.asarray(y), np.asarray(predicted)
    if truth.shape != guess.shape or truth.ndim != 2 or not len(truth):
        raise ProbeError(
            f"Targets are {truth.shape} and predictions {guess.shape}; both must be (n, t)."
        )
    return truth, guess


def _squared(Z: Floats) -> Floats:
    return np.asarray(np.square(Z, out=Z))


def _means(Z: Floats) -> Floats:
    return np.asarray(column_sums(Z) / len(Z)).astype(Z.dtype)


def _constant(Z: Floats) -> npt.NDArray[np.bool_]:
    return np.asarray(Z.min(axis=0) == Z.max(axis=0))


def _sums(
    y: Array, p: Array, codes: npt.NDArray[np.int64], units: int
) -> tuple[list[Array], npt.NDArray[np.bool_]]:
    """Return seven sums a unit, each (units, t), and which of y and p are constant, (2, t).

    They are of 1, y, p, y^2, p^2, y p and (y - p)^2, of numbers less their means.
    """
    known = np.isfinite(y)
    many = np.maximum(known.sum(axis=0), 1)
    constant, centred = [], []
    for Z in (y, p):
        constant.append(
            np.where(known, Z, np.inf).min(axis=0) >= np.where(known, Z, -np.inf).max(axis=0)
        )
        Z = np.where(known, Z, 0)
        centred.append(np.where(known, Z - Z.sum(axis=0) / many, 0))
    a, b = centred
    wrong = np.where(known, y - p, 0)
    terms = [known.astype(np.float64), a, b, a * a, b * b, a * b, wrong * wrong]
    if units == len(y) and np.array_equal(codes, np.arange(units)):
        return terms, np.stack(constant)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(units))
    return [np.add.reduceat(term[order], starts, axis=0) for term in terms], np.stack(constant)


def _from_sums(sums: list[Array]) -> tuple[Array, Array]:
    """Return R2 and r, (samples, t), from sums of these shapes; NaN where there is none."""
    n, a, b, aa, bb, ab, wrong = sums
    n = np.maximum(n, 1)
    total, spread = aa - a * a / n, bb - b * b / n
    varied = total > _ROUNDING * aa
    r2 = 1 - np.divide(wrong, total, out=np.full(a.shape, np.nan), where=varied)
    varied &= spread > _ROUNDING * bb
    size = np.sqrt(np.where(varied, total * spread, 1))
    r = np.where(varied, (ab - a * b / n) / size, np.nan)
    return np.asarray(r2), np.clip(r, -1, 1)


def _quantiles(scores: Array, level: float) -> Array:
    """Return both ends of the interval of each column, (2, t); NaN where it has no scores."""
    ends = [(1 - level) / 2, (1 + level) / 2]
    found = np.full((2, scores.shape[1]), np.nan)
    if not len(scores):
        return found
    missing = np.isnan(scores)
    whole, some = ~missing.any(axis=0), missing.any(axis=0) & ~missing.all(axis=0)
    found[:, whole] = np.quantile(scores[:, whole], ends, axis=0)
    if some.any():
        found[:, some] = np.nanquantile(scores[:, some], ends, axis=0)
    return found


def _check(level: float, samples: int) -> None:
    check_level(level)
    if samples < 1:
        raise ProbeError(f"{samples} samples were requested; give at least 1, or 0 for none.")
