"""Mean average precision over samples of the test images: how sure it is, and differences.

Both scores of a comparison are taken on the same samples, so that a score's samples, once drawn,
serve for its interval and for all its comparisons.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.metrics.certainty import check_level
from vggfeat.metrics.clusters import numbered, resampled
from vggfeat.metrics.ranking import APKind, Ranking, mean_average_precision, rankings
from vggfeat.metrics.shares import Share

Floats = npt.NDArray[np.float64]


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


@dataclass(frozen=True, slots=True, eq=False)
class SampledPrecision:
    """Mean average precision on test images, and on samples of them.

    Samples of n images are drawn from the n test images with replacement (Efron and Tibshirani,
    "An Introduction to the Bootstrap", 1993). They tell what other test images would change, not
    what other training images would.

    Attributes
    ----------
    value : float
        On the test images, in 0..1.
    samples : ndarray of float64, shape (s,)
        On the samples; NaN for one without any present image.
    n : int
        Number of test images.
    seed : int
        That the samples were drawn with.
    """

    value: float
    samples: Floats
    n: int
    seed: int

    @classmethod
    def of(
        cls,
        y: npt.ArrayLike,
        scores: npt.ArrayLike,
        kind: APKind = "all-point",
        groups: npt.ArrayLike | None = None,
        *,
        samples: int = 1000,
        seed: int = 0,
    ) -> Self:
        """Score the test images and samples of them.

        Parameters
        ----------
        y, scores : array_like of shape (n, K)
            Labels and scores, as for :func:`~vggfeat.metrics.mean_average_precision`.
        kind : str
            As there.
        groups : array_like of shape (n,), optional
            The group of each image; whole groups are drawn then.
        samples : int
            Number of samples, at least 1. A class without a present image in a sample is left
            out of its mean.
        seed : int
            The same seed draws the same samples.

        Raises
        ------
        ProbeError
            As there, or there are no samples.
        """
        if samples < 1:
            raise ProbeError(f"{samples} samples were requested; give at least 1.")
        value = mean_average_precision(y, scores, kind)
        n = len(np.asarray(y))
        of, classes = None if groups is None else numbered(groups, n), rankings(y, scores)
        drawn = [
            _mean_of_classes(classes, kind, counts) for counts in resampled(n, samples, seed, of)
        ]
        return cls(value, np.concatenate(drawn), n, seed)

    def interval(self, level: float = 0.95) -> Share:
        """Return the score with the bootstrap's standard interval, from the samples' deviation.

        Not the percentile interval: samples hold images several times, which lifts their average
        precision, so that percentiles may even leave the score itself out. For the same reason few
        test images lift every average precision, and the interval is of the score on other test
        sets as large as this one, not on unlimited images.

        Raises
        ------
        ProbeError
            The level is not above 0 and below 1.
        """
        check_level(level)
        from scipy.stats import norm

        deviation = float(np.nanstd(self.samples)) * float(norm.ppf((1 + level) / 2))
        low, high = self.value - deviation, self.value + deviation
        return Share(self.value, max(low, 0.0), min(high, 1.0), level, self.n)

    def against(self, other: SampledPrecision, level: float = 0.95) -> Difference:
        """Compare with another score on the same samples, by the percentile interval.

        This one is the first. What lifts the average precisions of samples lifts both alike.

        Raises
        ------
        ProbeError
            The samples are others, or the level is out of its range.
        """
        check_level(level)
        if (self.n, self.seed, self.samples.shape) != (other.n, other.seed, other.samples.shape):
            raise ProbeError("Scores on different samples cannot be compared; draw both alike.")
        differences = self.samples - other.samples
        differences = differences[np.isfinite(differences)]
        low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
        beyond = 1 + min(np.sum(differences <= 0), np.sum(differences >= 0))
        return Difference(
            first=self.value,
            second=other.value,
            difference=self.value - other.value,
            low=float(low),
            high=float(high),
            p=min(1.0, 2 * float(beyond) / (len(differences) + 1)),
            level=level,
            samples=len(differences),
            seed=self.seed,
        )


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
    check_level(level)
    ours, theirs = (
        SampledPrecision.of(y, scores, kind, groups, samples=samples, seed=seed)
        for scores in (first, second)
    )
    return ours.against(theirs, level)


def _mean_of_classes(
    classes: list[Ranking], kind: APKind, counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return each sample's mean average precision over the classes it has; NaN for none."""
    each = np.stack([ranking.average_precision(kind, counts) for ranking in classes])
    defined = np.isfinite(each).sum(axis=0)
    return np.asarray(np.where(defined, np.nansum(each, axis=0) / np.maximum(defined, 1), np.nan))
