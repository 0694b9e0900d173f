"""What a measured number, or the difference of two, is worth."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.metrics.answers import right_answers
from vggfeat.metrics.clusters import exchange_p, numbered


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
    check_level(level)
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


def check_level(level: float) -> None:
    """Refuse a level of confidence that is out of its range."""
    if not 0 < level < 1:
        raise ProbeError(f"The level is {level}; give a number above 0 and below 1, such as 0.95.")
