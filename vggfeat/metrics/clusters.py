"""What groups of images, such as a patient's, change: they are drawn and exchanged as wholes.

Images of one group are alike, so that they are worth less than as many images of different groups.
Intervals and tests that take images for independent are then too sure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError

Counts = npt.NDArray[np.int64]
SAMPLES = 2000
_EXACT = 16  # groups up to which all exchanges are tried
_DRAWN = 20_000
_CELLS = 1 << 18  # of a block of samples and images, to bound memory


def numbered(groups: npt.ArrayLike, count: int) -> Counts:
    """Return a number from 0 on for the group of each of `count` images.

    Raises
    ------
    ProbeError
        There are not as many, or they are of one group.
    """
    labels = np.asarray(groups)
    if labels.shape != (count,):
        raise ProbeError(f"Groups are of shape {labels.shape}, for {count} images.")
    numbers = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    if numbers.max(initial=0) < 1:
        raise ProbeError(
            "All test images are of one group; nothing tells how groups differ. Test on images of "
            "two groups or more, or leave the groups out (`vggfeat extract --group-by none`)."
        )
    return numbers


def resampled(
    count: int, samples: int, seed: int, groups: Counts | None = None
) -> Iterator[Counts]:
    """Draw images, or whole groups of them, with replacement.

    Parameters
    ----------
    count : int
        Number n of images.
    samples : int
        How many samples to draw.
    seed : int
        The same seed draws the same samples.
    groups : ndarray of int64, shape (n,), optional
        See :func:`numbered`; as many groups are drawn as there are (the cluster bootstrap: Davison
        and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8).

    Yields
    ------
    ndarray of int64, shape (b, n)
        How often each image is in each of a block of samples.
    """
    rng = np.random.default_rng(seed)
    units = count if groups is None else int(groups.max()) + 1
    block = max(1, _CELLS // count)
    for start in range(0, samples, block):
        draws = rng.integers(units, size=(min(block, samples - start), units))
        drawn = np.stack([np.bincount(row, minlength=units) for row in draws])
        yield drawn if groups is None else drawn[:, groups]


def bootstrap_interval(
    statistic: Callable[[Counts], npt.NDArray[np.float64]],
    count: int,
    groups: Counts,
    level: float,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile interval of a statistic over samples of whole groups.

    Parameters
    ----------
    statistic : callable
        Given counts (b, n) returns (b,) values; NaN where a sample has none.
    count, groups, samples, seed :
        See :func:`resampled`.
    level : float
        Above 0 and below 1.
    """
    parts = [statistic(counts) for counts in resampled(count, samples, seed, groups)]
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def exchange_p(differences: npt.ArrayLike, groups: Counts, *, seed: int = 0) -> float:
    """Return how often chance sets two methods as far apart, if groups could be exchanged.

    Under the hypothesis that the methods are equally good, their answers to all images of a group
    could as well be the other's. The p-value is the share of such exchanges with a sum of
    differences as far from 0. All are tried where at most 16 groups differ; else 20,000 are drawn,
    and the one at hand counts with them. Where each image is a group of its own this is McNemar's
    exact test.

    Parameters
    ----------
    differences : array_like of shape (n,)
        What one method has on an image more than the other.
    groups : ndarray of int64, shape (n,)
        See :func:`numbered`.
    seed : int
        Of what is drawn.
    """
    sums = np.bincount(groups, weights=np.asarray(differences, np.float64))
    sums = sums[sums != 0]
    if not len(sums):
        return 1.0
    limit = abs(sums.sum()) * (1 - 1e-12)
    if len(sums) <= _EXACT:
        signs = 1 - 2 * ((np.arange(1 << len(sums))[:, None] >> np.arange(len(sums))) & 1)
        return float(np.mean(np.abs(signs @ sums) >= limit))
    rng = np.random.default_rng(seed)
    beyond, block = 0, max(1, _CELLS // len(sums))
    for start in range(0, _DRAWN, block):
        signs = rng.integers(2, size=(min(block, _DRAWN - start), len(sums))) * 2 - 1
        beyond += int(np.sum(np.abs(signs @ sums) >= limit))
    return (1 + beyond) / (1 + _DRAWN)
