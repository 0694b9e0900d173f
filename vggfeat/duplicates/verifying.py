"""Whether one picture is a copy of another, by their pixels.

Both are laid over one another (:mod:`vggfeat.duplicates.aligning`) and compared in windows of 8 x
8 pixels, four apart, at the coarser one's resolution, 512 pixels on the longer side at most, and
what passes for a copy again at 1,024; where their resolutions differ, at three quarters of that,
since it is not known how one was resized. Each channel of the second is first brought to the
first's tones by the monotone curve that fits best (medians of 32 bins, made monotone by weighted
squares), so that a brighter copy is one. With d the root mean square of what is left of luma in a
window, D the median of d over the picture, at most 16, and t the root of the mean of both
variances in the window, a window disagrees to the degree

    r = d / (4 + 3 D + t / 2)

in grey levels. JPEG's losses raise d everywhere, so they raise D too; a word, a face or a hand
that differs raises d where it is. Colour is compared by means over 16 x 16 pixels, as a colour has
less resolution than luma in JPEGs: r of a window is at least its difference / (24 + 3 D).

A *copy* has no window with r above 1 (1.2 in the second look), and the fit explains 90 % of the
first's variance. What is correlated below 0.7 at 48 pixels, or explained below 70 %, or shares
less than 35 % of either, or has width and height scaled by more than 1.3 to one another, is
*different*. All else is *unsure*: another frame of a burst, a form filled in otherwise, a
retouched photo. Structure and contrast are compared as in SSIM (Wang et al., IEEE TIP 2004), whose
mean over a picture would forgive what differs in one place only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from vggfeat.duplicates.aligning import SIDE, Floats, Picture, Placing, grid, placed

Outcome = Literal["copy", "unsure", "different"]

WORST = 1.0
"""Greatest disagreement of any window of a copy."""
EXPLAINED = 0.9
"""Least share of variance that the fit explains in a copy."""
ALIKE = 0.7
"""Least correlation, at 48 pixels, of pictures that are not plainly different."""
RELATED = 0.7
"""Least share of variance that the fit explains where they are not plainly different."""

_CLOSER = 2 * SIDE  # what pictures are kept at, see Picture
_WORST_CLOSER = 1.2  # there; JPEG's losses are not averaged away, and those of copies reached 1.09
_LEAST_SIDE = 24  # pixels of the overlap
_WINDOW, _EVERY, _COLOUR = 8, 4, 16
_FLOOR, _NOISE, _MOST_NOISE, _TEXTURE, _TINT = 4.0, 3.0, 16.0, 0.5, 24.0
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_BINS = 32
_AS_FINE = 1.1  # ratio up to which resolutions are as good as equal
_COARSER = 0.75  # of the coarser one's resolution, at which others are compared
_DARK, _LIGHT = 4, 250  # at and beyond these a channel may have been cut off
_OVERLAP = 0.35  # share of one of the two, at least, that the other shows as well
_SQUEEZE = 1.3  # ratio of the scales of width and height
_FLAT = 2.0  # grey levels of deviation of a picture that shows nothing
_BORDER = 6.0  # grey levels by which a border deviates
_MARGIN = 0.01  # share of a picture's area that may lie beyond the other
_TONES = 4.0  # grey levels of tones that are called different


@dataclass(frozen=True, slots=True)
class Beyond:
    """What of a picture lies outside its overlap with another.

    Attributes
    ----------
    share : float
        Of its area.
    border : bool
        Whether that is of one colour.
    """

    share: float
    border: bool

    @property
    def more(self) -> bool:
        """Whether it shows something that the other does not."""
        return self.share > _MARGIN and not self.border


@dataclass(frozen=True, slots=True)
class Verification:
    """What a comparison by pixels has found.

    Attributes
    ----------
    outcome : {"copy", "unsure", "different"}
        See the module.
    worst : float
        Greatest disagreement of a window, 1 and above for none of a copy; infinite where nothing
        could be compared.
    explained : float
        Share of the first's variance.
    placing : Placing
        How the second lies in the first.
    beyond : tuple of Beyond
        What only the first shows, and only the second.
    finer : float
        Pixels of the second for one of the first, along the side where that is less.
    lighter : float
        Grey levels by which the second is lighter on the average, negative where darker.
    cut_off : float
        Share of pixels that are pure black or white in a channel in the second, less that of
        the first.
    where : tuple of float
        The window that disagrees most: left, upper, right and lower border in shares of the first.
    """

    outcome: Outcome
    worst: float
    explained: float
    placing: Placing
    beyond: tuple[Beyond, Beyond]
    finer: float
    lighter: float
    cut_off: float
    where: tuple[float, float, float, float]


def compared(first: Picture, second: Picture) -> Verification:
    """Say whether the second picture is a copy of the first, see the module for how."""
    placing, other = placed(first, second)
    size = grid(first, other, placing, SIDE)
    found = _compared(first, other, placing, size)
    closer = grid(first, other, placing, _CLOSER)
    if found.outcome != "copy" or max(closer) < _AS_FINE * max(size):
        return found
    # What differs in one letter of small type is seen at the pictures' own resolution alone.
    second_look = _compared(first, other, placing, closer, _WORST_CLOSER)
    return found if second_look.outcome == "copy" else second_look


def _compared(
    first: Picture,
    other: Picture,
    placing: Placing,
    size: tuple[int, int],
    most: float = WORST,
) -> Verification:
    """Compare two pictures that were laid over one another at one resolution."""
    finer = _finer(first, other, placing)
    if not 1 / _AS_FINE < finer < _AS_FINE:  # one was resized by a filter that is not ours
        size = round(_COARSER * size[0]), round(_COARSER * size[1])
    box, box_second = placing.inside(size)
    a = first.cut(box, size, grey=False)
    b = other.cut(box_second, size, grey=False)
    luma = a @ _LUMA
    beyond = _beyond(first, placing.first), _beyond(other, placing.second)
    outcome: Outcome
    if min(size) < _LEAST_SIDE or min(float(luma.std()), float((b @ _LUMA).std())) < _FLAT:
        outcome = "unsure" if _shows_little(first) or _shows_little(other) else "different"
        nothing = (0.0, 0.0, 1.0, 1.0)
        return Verification(outcome, np.inf, 0.0, placing, beyond, 1.0, 0.0, 0.0, nothing)
    fitted = np.stack([_toned(a[..., c], b[..., c]) for c in range(3)], axis=-1)
    rest = a - fitted
    # What was cut off may have been anything beyond.
    rest[(b >= _LIGHT) & (rest > 0)] = 0
    rest[(b <= _DARK) & (rest < 0)] = 0
    disagreement = _disagreement(luma, fitted @ _LUMA, rest)
    explained = 1 - float(np.mean((rest @ _LUMA) ** 2)) / max(float(luma.var()), 1e-6)
    worst = float(disagreement.max())
    outcome = _outcome(placing.likeness, explained, worst, most)
    if min(one.share for one in beyond) > 1 - _OVERLAP or _squeezed(first, other, placing):
        outcome = "different"
    return Verification(
        outcome, worst, explained, placing, beyond,
        finer, float((b - a).mean()), _cut_off(b) - _cut_off(a),
        _where(disagreement, box, size),
    )  # fmt: skip


def _squeezed(first: Picture, second: Picture, placing: Placing) -> bool:
    """Say whether width and height are scaled too differently for a copy."""
    x, y = placing.scale * second.size / np.array(first.size)
    return not 1 / _SQUEEZE < x / y < _SQUEEZE


def _shows_little(picture: Picture) -> bool:
    """Say whether a picture is too small, or too much of one colour, to be told from others."""
    return min(picture.size) < _LEAST_SIDE or float(np.asarray(picture.grey).std()) < _FLAT


def _outcome(likeness: float, explained: float, worst: float, most: float) -> Outcome:
    if likeness < ALIKE or explained < RELATED:
        return "different"
    return "copy" if worst <= most and explained >= EXPLAINED else "unsure"


def _toned(a: Floats, b: Floats) -> Floats:
    """Return `b` by the monotone curve that makes it most like `a`."""
    x, y = b.ravel(), a.ravel()
    whole = (x > _DARK) & (x < _LIGHT)
    if whole.mean() > 0.02:
        x, y = x[whole], y[whole]
    which = np.minimum((x * (_BINS / 256)).astype(np.int64), _BINS - 1)
    order = np.argsort(which, kind="stable")
    counts = np.bincount(which, minlength=_BINS)
    least = min(20, int(counts.max()))
    knots = []
    for part_x, part_y in zip(*(np.split(v[order], np.cumsum(counts)[:-1]) for v in (x, y)),
                              strict=True):  # fmt: skip
        if len(part_x) >= least:
            knots.append((float(part_x.mean()), float(np.median(part_y)), len(part_x)))
    at, medians, weights = map(np.array, zip(*knots, strict=True))
    return np.interp(b, at, _monotone(medians, weights)).astype(np.float32)


def _monotone(
    values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the nearest ascending values, by weighted squares."""
    from scipy.optimize import isotonic_regression

    return np.asarray(isotonic_regression(values, weights=weights).x)


def _disagreement(luma: Floats, fitted: Floats, rest: Floats) -> Floats:
    """Return r of each window, (rows, columns)."""
    grey = rest @ _LUMA
    d = np.sqrt(np.maximum(_means(grey**2, _WINDOW), 0))
    variances = [_means(x * x, _WINDOW) - _means(x, _WINDOW) ** 2 for x in (luma, fitted)]
    t = np.sqrt(np.maximum(sum(variances) / 2, 0))
    noise = _NOISE * min(float(np.median(d)), _MOST_NOISE)
    tint = np.abs([_means(rest[..., c] - grey, _COLOUR) for c in (0, 2)]).max(axis=0)
    found = np.maximum(d / (_FLOOR + noise + _TEXTURE * t), tint / (_TINT + noise))
    return np.asarray(found, np.float32)


def _means(values: Floats, window: int) -> Floats:
    from scipy.ndimage import uniform_filter

    means = uniform_filter(values, window, mode="nearest")
    half = _WINDOW // 2
    return np.asarray(means[half : 1 - half : _EVERY, half : 1 - half : _EVERY])


def _where(
    disagreement: Floats, box: npt.NDArray[np.float64], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    row, column = np.unravel_index(int(disagreement.argmax()), disagreement.shape)
    corner = np.array([column, row]) * _EVERY
    span = box[1] - box[0]
    start, end = (box[0] + span * np.clip((corner + n) / size, 0, 1) for n in (0, _WINDOW))
    return float(start[0]), float(start[1]), float(end[0]), float(end[1])


def _finer(first: Picture, second: Picture, placing: Placing) -> float:
    a = (placing.first[1] - placing.first[0]) * first.size
    b = (placing.second[1] - placing.second[0]) * second.size
    return float((b / np.maximum(a, 1e-6)).max())


def _cut_off(pixels: Floats) -> float:
    return float(((pixels >= _LIGHT) | (pixels <= _DARK)).any(axis=-1).mean())


def _beyond(picture: Picture, box: npt.NDArray[np.float64]) -> Beyond:
    """Look at what lies outside a box."""
    small = np.asarray(picture.grey.resize((128, 128)), np.float32)
    (left, upper), (right, lower) = np.rint(box * 128).astype(int)
    outside = np.ones((128, 128), np.bool_)
    outside[max(upper - 1, 0) : lower + 1, max(left - 1, 0) : right + 1] = False
    share = 1 - float(np.prod(box[1] - box[0]))
    deviation = float(small[outside].std()) if outside.any() else 0.0
    return Beyond(share, deviation < _BORDER)
