"""A statistic of pairs of images on other images: its variance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vggfeat.metrics.clusters import resampled
from vggfeat.progress import Progress, silent

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
_FEWEST = 4  # different images of a sample


@dataclass(frozen=True, slots=True, eq=False)
class Resampled:
    """A statistic on samples of images, and without each image (or group) in turn.

    A bootstrap of what is told from pairs of images has too large a variance. Where V1 is the
    variance that single images give, and V2 that of pairs beyond their images, other images would
    give V1 + V2, the jackknife has V1 + 2 V2 (Efron and Stein, "The Jackknife Estimate of
    Variance", Annals of Statistics 9, 1981) and the bootstrap V1 + 3 V2, since a pair's weight is
    the product of two independent ones of mean 1 and mean square 2. Twice the one less the other is
    taken.

    Attributes
    ----------
    drawn : ndarray of float64, shape (b, ...)
        On samples.
    without : ndarray of float64, shape (u, ...)
        Without each of u units.
    """

    drawn: Floats
    without: Floats

    def covariance(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return the corrected covariance of the last axis, and that of the jackknife.

        Parameters
        ----------
        weights : ndarray of float64, shape (k,)
            A contrast of the second axis, (b, k, s) to (b, s).
        """
        used = weights != 0
        drawn = np.einsum("k,bks->bs", weights[used], self.drawn[:, used])
        without = np.einsum("k,uks->us", weights[used], self.without[:, used])
        units = len(without)
        drawn, without = (one[np.isfinite(one).all(axis=1)] for one in (drawn, without))
        if len(drawn) < 2 or len(without) < max(2, units):
            nothing = np.full((drawn.shape[1],) * 2, np.nan)
            return nothing, nothing
        jackknife = (
            (units - 1) ** 2 / units * np.cov(without, rowvar=False).reshape(2 * (drawn.shape[1],))
        )
        bootstrap = units / (units - 1) * np.cov(drawn, rowvar=False).reshape(jackknife.shape)
        return np.asarray(2 * jackknife - bootstrap), np.asarray(jackknife)


def corrected_variance(corrected: float, jackknife: float) -> float:
    """Return a variance within what V1 + V2 may be where V1 + 2 V2 is known."""
    return min(max(corrected, jackknife / 2), jackknife)


def resample(
    count: int,
    statistic: Callable[[Counts], Floats],
    *,
    samples: int,
    seed: int,
    groups: Counts | None = None,
    progress: Progress = silent,
) -> Resampled:
    """Take a statistic on samples of images or groups, and without each in turn.

    Parameters
    ----------
    count : int
        Images.
    statistic : callable
        Given how often each image counts, int64 (n,), returns an array.
    samples, seed, groups :
        See :func:`~vggfeat.metrics.clusters.resampled`. Samples have four different images or more.
    """
    number = np.arange(count) if groups is None else groups
    units = int(number.max()) + 1
    drawn = [
        one
        for block in resampled(count, samples, seed, groups)
        for one in block
        if np.count_nonzero(one) >= _FEWEST
    ]
    left = [(number != unit).astype(np.int64) for unit in range(units)]
    found = []
    for counts in [*drawn, *left]:
        found.append(statistic(counts))
        progress("bootstrap", 1, len(drawn) + units)
    each = np.array(found)
    return Resampled(each[: len(drawn)], each[len(drawn) :])


def deviation(each: Floats) -> Floats:
    """Return the standard deviation over the first axis, of what is finite."""
    known = np.isfinite(each)
    count = known.sum(axis=0)
    mean = np.where(known, each, 0).sum(axis=0) / np.maximum(count, 1)
    squares = np.where(known, (each - mean) ** 2, 0).sum(axis=0)
    return np.asarray(np.sqrt(np.where(count > 1, squares / np.maximum(count - 1, 1), np.nan)))
