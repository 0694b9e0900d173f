"""Mean responses to images, and how far repeats agree: what a model can explain at most.

The noise ceiling is that of the Natural Scenes Dataset (Allen et al., "A massive 7T fMRI dataset to
bridge cognitive neuroscience and artificial intelligence", Nature Neuroscience 25, 2022, Methods,
"Noise ceiling estimation"). With the noise variance s_n^2, which is the variance of an image's
repeats, pooled over images, and the signal variance s_s^2, which is the variance of all trials less
s_n^2 (at least 0), the largest share of variance of mean responses that can be explained is

    s_s^2 / (s_s^2 + s_n^2 mean(1 / k)),

k being the number of repeats behind each mean. Allen et al. write it with ncsnr = s_s / s_n, in
percent, and, for images with one to three repeats, with the mean of 1 / k that stands here. The
square root is the largest correlation.

Split-half reliability is the correlation over images of the means of two random halves of their
repeats, with the correction of Spearman (British Journal of Psychology 3, 1910, 271-295) and Brown
(the same volume, 296-322) to the full number of repeats, q times as many: q r / (1 + (q - 1) r).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.encoding.matching import Matched
from vggfeat.encoding.responses import Responses
from vggfeat.errors import EncodingError
from vggfeat.progress import Progress, silent

Array = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]

SPLITS = 25
"""Random halves of which reliability is the mean."""

_BLOCK_BYTES = 64 << 20  # of trials in float64 that are held at a time


@dataclass(frozen=True, slots=True, eq=False)
class Averages:
    """Mean responses to n images of t targets, and what repeats tell of them.

    Attributes
    ----------
    mean : ndarray of float32, shape (n, t)
        Means over an image's trials, less `offset`.
    offset : ndarray of float64, shape (t,)
        The mean over images, taken away so that float32 keeps what varies.
    repeats : ndarray of int64, shape (n,)
        Trials of each image.
    fewer : dict of int to ndarray of int32, shape (n,)
        The same of targets, by their column, that were not measured in all of them.
    noise, total : ndarray of float64, shape (t,)
        Variance within repeats of an image, and of all trials; NaN without repeats.
    reliability : ndarray of float64, shape (t,)
        Corrected split-half reliability of mean responses; NaN without repeats.
    reasons : dict of int to str
        Why targets, by their column, take no part.
    splits : int
        Random halves behind `reliability`.
    """

    mean: npt.NDArray[np.float32]
    offset: Array
    repeats: Positions
    fewer: dict[int, npt.NDArray[np.int32]]
    noise: Array
    total: Array
    reliability: Array
    reasons: dict[int, str]
    splits: int

    @property
    def repeated(self) -> bool:
        """Whether any image has two trials or more."""
        return bool((self.repeats > 1).any())

    def ceiling(self, images: Positions | None = None) -> Array:
        """Return the largest share of variance of mean responses that can be explained.

        Parameters
        ----------
        images : ndarray of int64, optional
            To which images the responses are; all by default.

        Returns
        -------
        ndarray of float64, shape (t,)
            In 0..1; NaN without repeats, and for targets that take no part.
        """
        which: Any = slice(None) if images is None else images
        share = np.full(len(self.total), (1 / self.repeats[which]).mean())
        for target, repeats in self.fewer.items():
            share[target] = (1 / repeats[which]).mean()
        signal = np.maximum(self.total - self.noise, 0)
        below = signal + self.noise * share
        found = np.full(len(below), np.nan)
        np.divide(signal, below, out=found, where=below > 0)
        return found


def averaged(
    responses: Responses,
    images: Matched,
    *,
    splits: int = SPLITS,
    seed: int = 0,
    progress: Progress = silent,
) -> Averages:
    """Average trials by image, some targets at a time.

    Parameters
    ----------
    responses : Responses
    images : Matched
        From :func:`~vggfeat.encoding.matching.matched`.
    splits : int
        Random halves for reliability.
    seed : int
        Of these halves; they are the same for all targets.
    progress : Progress
        Told of targets.

    Raises
    ------
    EncodingError
        A target is infinite somewhere, or is known in some images and not in others.
    """
    kept = np.flatnonzero(images.image >= 0)
    order = kept[np.argsort(images.image[kept], kind="stable")]
    repeats = images.repeats
    starts = np.concatenate([[0], np.cumsum(repeats)[:-1]])
    n, t = len(repeats), responses.trials.shape[1]
    halves = _halves(repeats, splits, seed)
    mean = np.empty((n, t), np.float32)
    offset, noise, total = np.zeros(t), np.full(t, np.nan), np.full(t, np.nan)
    reliability = np.full(t, np.nan)
    reasons: dict[int, str] = {}
    fewer: dict[int, npt.NDArray[np.int32]] = {}
    step = max(1, _BLOCK_BYTES // (8 * max(1, len(images.image))))
    for first in range(0, t, step):
        where = slice(first, min(first + step, t))
        Y = np.asarray(responses.trials.columns(where), np.float64)[order]
        _check(Y, images.image[order], n, first, responses, reasons)
        known = ~np.isnan(Y)
        counts = np.add.reduceat(known, starts, axis=0, dtype=np.int64)
        centre = np.where(known, Y, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        Y -= centre
        np.copyto(Y, 0, where=~known)
        sums = np.add.reduceat(Y, starts, axis=0)
        means = sums / np.maximum(counts, 1)
        middle = means.mean(axis=0)
        mean[:, where], offset[where] = means - middle, centre + middle
        if halves:
            off = np.where(known, Y - np.repeat(means, repeats, axis=0), 0)
            freedom = np.maximum(counts - 1, 0).sum(axis=0)
            noise[where] = np.divide(
                (off**2).sum(axis=0), freedom, out=np.full(Y.shape[1], np.nan), where=freedom > 0
            )
            trials = known.sum(axis=0)
            spread = (Y**2).sum(axis=0) - Y.sum(axis=0) ** 2 / np.maximum(trials, 1)
            total[where] = spread / np.maximum(trials - 1, 1)
            reliability[where] = _reliability(Y, known, counts[repeats > 1], halves)
            for k in np.flatnonzero(~known.all(axis=0)).tolist():
                if first + k not in reasons:
                    fewer[first + k] = counts[:, k].astype(np.int32)
        progress("averaging", where.stop - where.start, t)
    out = np.array(sorted(reasons), np.int64)
    mean[:, out] = 0
    for values in (noise, total, reliability):
        values[out] = np.nan
    return Averages(mean, offset, repeats, fewer, noise, total, reliability, reasons, splits)


def _check(
    Y: Array, image: Positions, n: int, first: int, responses: Responses, reasons: dict[int, str]
) -> None:
    """Refuse what cannot be averaged, and note targets that take no part."""
    names = responses.names
    if np.isinf(Y).any():
        at = first + int(np.flatnonzero(np.isinf(Y).any(axis=0))[0])
        raise EncodingError(f"{responses.origin}: target {names[at]!r} is infinite in a trial.")
    missing = np.isnan(Y)
    if missing.any():
        for k in np.flatnonzero(missing.any(axis=0)):
            seen = np.bincount(image[~missing[:, k]], minlength=n) > 0
            if not seen.any():
                reasons[first + int(k)] = "it was measured in no trial"
            elif not seen.all():
                raise EncodingError(
                    f"{responses.origin}: target {names[first + k]!r} is unknown (NaN) in all "
                    f"trials of {int((~seen).sum()):,} of {n:,} images. Leave out the target, or "
                    "these trials."
                )
    filled = np.where(missing, np.inf, Y).min(axis=0) == np.where(missing, -np.inf, Y).max(axis=0)
    for k in np.flatnonzero(filled):
        reasons.setdefault(first + int(k), "it is constant")


def _halves(repeats: Positions, splits: int, seed: int) -> list[tuple[Any, Any]]:
    """Return pairs of matrices (h, m), which add up trials of images in random halves.

    Trials are sorted by image; those of images with an odd number of them lose one at random. Fewer
    than three images with repeats have no halves: the correlation of two would be -1 or 1.
    """
    from scipy.sparse import csr_array

    several = np.flatnonzero(repeats > 1)
    if len(several) < 3:
        return []
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(len(repeats)), repeats)
    starts = np.concatenate([[0], np.cumsum(repeats)[:-1]])
    half, place = repeats[image] // 2, np.cumsum(repeats > 1) - 1
    found = []
    for _ in range(splits):
        rank = np.empty(len(image), np.int64)
        rank[np.lexsort((rng.random(len(image)), image))] = np.arange(len(image)) - starts[image]
        sides = []
        for side in (0, 1):
            trials = np.flatnonzero((rank // np.maximum(half, 1) == side) & (half > 0))
            where = (place[image[trials]], trials)
            shape = (len(several), len(image))
            sides.append(csr_array((np.ones(len(trials)), where), shape=shape))
        found.append((sides[0], sides[1]))
    return found


def _reliability(
    Y: Array, known: npt.NDArray[np.bool_], several: Positions, halves: list[tuple[Any, Any]]
) -> Array:
    """Return the corrected reliability of each target, the mean over random halves.

    `several`, (h, t), is how many trials of images with repeats are known.
    """
    all_known = bool(known.all())
    total, longer, images = np.zeros((3, Y.shape[1]))
    for pair in halves:
        sums = [side @ Y for side in pair]
        if all_known:
            counts = [np.asarray(side.sum(axis=1)).reshape(-1, 1) for side in pair]
        else:
            counts = [side @ known.astype(np.float64) for side in pair]
        both = np.broadcast_to((counts[0] > 0) & (counts[1] > 0), sums[0].shape)
        a, b = (part / np.maximum(count, 1) for part, count in zip(sums, counts, strict=True))
        total += _correlation(a, b, both)
        images += both.sum(axis=0)
        longer += np.where(both, 2 * several / np.maximum(counts[0] + counts[1], 1), 0).sum(axis=0)
    r = total / len(halves)
    longer /= np.maximum(images, 1)
    return np.asarray(longer * r / (1 + (longer - 1) * r))


def _correlation(a: Array, b: Array, both: npt.NDArray[np.bool_]) -> Array:
    count = np.maximum(both.sum(axis=0), 1)
    a, b = (np.where(both, x, 0) for x in (a, b))
    a, b = (np.where(both, x - x.sum(axis=0) / count, 0) for x in (a, b))
    size = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    found: Any = np.full(a.shape[1], np.nan)
    np.divide((a * b).sum(axis=0), size, out=found, where=size > 0)
    return np.asarray(found)
