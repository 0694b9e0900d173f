"""What a measured number, or the difference of two, is worth."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.metrics.answers import right_answers
from vggfeat.metrics.clusters import exchange_p, numbered, resampled
from vggfeat.metrics.ranking import APKind, Ranking, mean_average_precision, rankings


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over splits and how far it can be trusted.

    Attributes
    ----------
    mean : float
        Of the n values.
    sd : float
        Their standard deviation (with n - 1), which papers print after the +- sign.
    low, high : float
        Confidence interval of the mean.
    level : float
        Its level, such as 0.95.
    n : int
        Number of values.
    """

    mean: float
    sd: float
    low: float
    high: float
    level: float
    n: int

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """How two methods differ in their answers about the same images.

    Attributes
    ----------
    only_first, only_second : int
        Images that only the first, or only the second, names rightly.
    difference : float
        The first's accuracy less the second's.
    p : float
        Two-sided p-value of the exact McNemar test; small values speak against methods that are
        equally often right.
    """

    only_first: int
    only_second: int
    difference: float
    p: float

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much one method's mean average precision is above another's.

    Attributes
    ----------
    first, second : float
        Their mean average precisions.
    difference : float
        The first less the second.
    low, high : float
        Confidence interval of the difference.
    p : float
        Two-sided: twice the share of samples in which the difference is not on the side it is on,
        at most 1. It is never below 2 / (`samples` + 1).
    level : float
        Of the interval, such as 0.95.
    samples : int
        Number of samples that had images of at least one class.
    seed : int
        That they were drawn with.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    level: float
    samples: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)


def mean_interval(
    values: npt.ArrayLike, level: float = 0.95, *, test_to_train: float = 0.0
) -> Interval:
    """Return the mean over splits with Student's t interval.

    For a paired comparison of two methods on the same splits, give their differences: they differ
    where the interval leaves out 0.

    Random splits of one data set share most of their training images, so that their scores vary
    less than those of new data would; `test_to_train` corrects for that.

    Parameters
    ----------
    values : array_like of shape (n,)
        One score a split, at least two.
    level : float
        Above 0 and below 1.
    test_to_train : float
        Test images per training image of a split. The variance of the mean becomes
        ``(1 / n + test_to_train) * sd ** 2``: Nadeau and Bengio, "Inference for the
        Generalization Error", Machine Learning 52 (2003). 0 is the plain interval of
        independent values.

    Returns
    -------
    Interval

    Raises
    ------
    ProbeError
        Fewer than two values, one that is not finite, or a parameter out of its range.
    """
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1 or len(scores) < 2 or not np.isfinite(scores).all():
        raise ProbeError(f"Scores are {scores.tolist()}; an interval needs two or more numbers.")
    _check_level(level)
    if not (math.isfinite(test_to_train) and test_to_train >= 0):
        raise ProbeError(f"test_to_train is {test_to_train}; give a number from 0 on.")
    from scipy.stats import t

    n, mean, sd = len(scores), float(scores.mean()), float(scores.std(ddof=1))
    quantile = float(t.ppf((1 + level) / 2, n - 1))
    reach = quantile * sd * math.sqrt(1 / n + test_to_train)
    return Interval(mean, sd, mean - reach, mean + reach, level, n)


def compare_answers(
    y: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
) -> Disagreement:
    """Compare two methods' answers about the same test images, by the exact McNemar test.

    Only images that one of them names rightly tell anything. Were the methods equally often
    right, each such image would be either's with even odds; the p-value is the binomial
    probability of a division at least as uneven (McNemar, Psychometrika 12, 1947; the exact
    form). It holds for one split; over several use :func:`mean_interval` of the differences.

    Parameters
    ----------
    y, first, second : array_like of shape (n,)
        True classes, and those that either method predicts.
    groups : array_like of shape (n,), optional
        The group of each image. Then the p-value is that of exchanging the methods' answers to
        whole groups, see :func:`vggfeat.metrics.clusters.exchange_p`.

    Returns
    -------
    Disagreement

    Raises
    ------
    ProbeError
        The shapes differ, there is no answer, or all images are of one group.
    """
    from scipy.stats import binomtest

    ours, theirs = right_answers(y, first), right_answers(y, second)
    one, other = int(np.sum(ours & ~theirs)), int(np.sum(theirs & ~ours))
    difference = (one - other) / len(ours)
    if groups is not None:
        p = exchange_p(ours.astype(int) - theirs, numbered(groups, len(ours)))
    else:
        p = float(binomtest(one, one + other).pvalue) if one + other else 1.0
    return Disagreement(one, other, difference, p)


def compare_rankings(
    y: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    kind: APKind = "all-point",
    groups: npt.ArrayLike | None = None,
    *,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Compare two methods' mean average precision on the same test images, by a paired bootstrap.

    Samples of n images are drawn from the n test images with replacement; both methods are scored
    on each, with all classes (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993,
    chapter 13: the percentile interval). It tells what other test images would change, not what
    other training images would.

    Parameters
    ----------
    y, first, second : array_like of shape (n, K)
        Labels and either method's scores, as for :func:`mean_average_precision`.
    kind : str
        As there.
    groups : array_like of shape (n,), optional
        The group of each image; whole groups are drawn then.
    samples : int
        Number of samples, at least 1. A class without a present image in a sample is left out of
        its means, a sample without any present image is left out.
    level : float
        Above 0 and below 1.
    seed : int
        The same seed draws the same samples.

    Returns
    -------
    Difference

    Raises
    ------
    ProbeError
        As there, or a parameter is out of its range.
    """
    _check_level(level)
    if samples < 1:
        raise ProbeError(f"{samples} samples were requested; give at least 1.")
    ours, theirs = (mean_average_precision(y, scores, kind) for scores in (first, second))
    both = [rankings(y, scores) for scores in (first, second)]
    n = len(np.asarray(y))
    of = None if groups is None else numbered(groups, n)
    drawn: list[npt.NDArray[np.float64]] = []
    for counts in resampled(n, samples, seed, of):
        one, other = (_mean_of_classes(each, kind, counts) for each in both)
        drawn.append(one - other)
    differences = np.concatenate(drawn)
    differences = differences[np.isfinite(differences)]
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    beyond = 1 + min(np.sum(differences <= 0), np.sum(differences >= 0))
    p = min(1.0, 2 * float(beyond) / (len(differences) + 1))
    return Difference(
        first=ours,
        second=theirs,
        difference=ours - theirs,
        low=float(low),
        high=float(high),
        p=p,
        level=level,
        samples=len(differences),
        seed=seed,
    )


def _mean_of_classes(
    classes: list[Ranking], kind: APKind, counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return each sample's mean average precision over the classes it has; NaN for none."""
    each = np.stack([ranking.average_precision(kind, counts) for ranking in classes])
    defined = np.isfinite(each).sum(axis=0)
    return np.asarray(np.where(defined, np.nansum(each, axis=0) / np.maximum(defined, 1), np.nan))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ProbeError(f"The level is {level}; give a number above 0 and below 1, such as 0.95.")
