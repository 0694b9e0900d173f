"""Where one picture lies in another: turned, mirrored, resized, cropped.

First the whole frames are compared in all eight orientations, small; where they do not fit, one
is looked for in the other over scales and places, by normalised cross-correlation with overlap
masks (Padfield, "Masked object registration in the Fourier domain", IEEE TIP 2012). The best
hypothesis is refined from coarse to fine by Gauss-Newton steps on scale and shift (Lucas and
Kanade 1981).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 512
"""Longest side, in pixels, at which pictures are compared."""

Floats = npt.NDArray[np.float32]
Shares = npt.NDArray[np.float64]
"""Left and upper, right and lower border in shares of width and height, shape (2, 2)."""

_SMALL = 32  # pixels of whole frames that are compared in all orientations
_COARSE = 48  # longest side of the picture in which another is looked for
_STEP = 1.05  # between scales: half a step moves a border by less than a pixel of `_COARSE`
_STEPS = 9  # scales on either side of 1: from 0.64 to 1.55
_LEAST_OVERLAP = 0.4  # of the smaller of two
_FINE = (96, 192, 384)
_ITERATIONS = 8
_REFINED = 6  # hypotheses of whole frames that are refined
_HOPEFUL = 0.6  # likeness from which on a whole frame is
_HOPELESS = 0.5  # likeness below which nothing is refined any further
_SURE = 0.95  # likeness from which on no part is looked for
_BORDER = 12  # grey levels that a border of one colour may vary by
_LEAST_CONTENT = 0.3  # share of width and height that a border leaves at least
_FRAMES = 3
_EDGE = 1.5  # pixels at the border of an overlap that mix with what is beyond
_WHOLE: Shares = np.array([[0.0, 0.0], [1.0, 1.0]])
_SETTLED = 0.02  # pixels by which a step still moves the corners
_ASPECT = 1.25  # frames whose sides differ more are not laid over one another whole

_TURNS: tuple[tuple[str, Image.Transpose | None], ...] = (
    ("", None),
    ("mirrored", Image.Transpose.FLIP_LEFT_RIGHT),
    ("turned by 180°", Image.Transpose.ROTATE_180),
    ("upside down, mirrored", Image.Transpose.FLIP_TOP_BOTTOM),
    ("turned by 90°", Image.Transpose.ROTATE_90),
    ("turned by 270°", Image.Transpose.ROTATE_270),
    ("mirrored, turned by 90°", Image.Transpose.TRANSPOSE),
    ("mirrored, turned by 270°", Image.Transpose.TRANSVERSE),
)
_SWAPPING = frozenset({
    Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSPOSE, Image.Transpose.TRANSVERSE,
})  # fmt: skip
_UPRIGHT = 2  # orientations in which a part is looked for: as it is, and mirrored


class Picture:
    """A decoded image as comparisons want it: at most twice :data:`SIDE` pixels long.

    Parameters
    ----------
    image : PIL.Image.Image
        RGB, upright.

    Attributes
    ----------
    size : tuple of int
        Width and height of `image`.
    """

    def __init__(self, image: Image.Image, size: tuple[int, int] | None = None) -> None:
        self.size = size or image.size
        factor = max(image.size) // (2 * SIDE)
        self.image = image.reduce(factor) if factor > 1 else image.copy()
        self._turned: dict[Image.Transpose, Picture] = {}

    def turned(self, turn: Image.Transpose | None) -> Picture:
        """Return it in another orientation."""
        if turn is None:
            return self
        if turn not in self._turned:
            size = self.size[::-1] if turn in _SWAPPING else self.size
            self._turned[turn] = Picture(self.image.transpose(turn), size)
        return self._turned[turn]

    @cached_property
    def grey(self) -> Image.Image:
        """Its luma."""
        return self.image.convert("L")

    @cached_property
    def frames(self) -> list[tuple[Shares, Floats]]:
        """What may be laid over another picture, from largest to smallest.

        The whole frame, and what is inside a border of one colour, and inside a second one (a
        page on a dark ground has white margins). Each as of :meth:`cut`, with the `_SMALL`
        squared pixels in it, of mean 0 and length 1.
        """
        boxes = [_WHOLE]
        while len(boxes) < _FRAMES and (inner := self._inside(boxes[-1])) is not None:
            boxes.append(inner)
        return [(box, _unit(_part(self.grey, box, (_SMALL, _SMALL)))) for box in boxes]

    def _inside(self, box: Shares) -> Shares | None:
        """Return a box without its border of one colour, or None where it has none."""
        pixels = np.asarray(self.grey, np.int16)
        size = np.array(pixels.shape[::-1])
        (left, upper), (right, lower) = np.rint(box * size).astype(int)
        part = pixels[upper:lower, left:right]
        away = np.abs(part - int(part[0, 0])) > _BORDER
        found = [np.flatnonzero(away.any(axis=axis)) for axis in (0, 1)]
        if not all(map(len, found)):
            return None
        start, end = (np.array([one[which] for one in found]) for which in (0, -1))
        inner = (np.array([start, end + 1]) + np.array([left, upper])) / size
        narrower = inner[1] - inner[0] < box[1] - box[0] - 1e-9
        return inner if narrower.any() and (inner[1] - inner[0]).min() > _LEAST_CONTENT else None

    def cut(self, box: Shares, size: tuple[int, int], *, grey: bool) -> Floats:
        """Return a part of it, resized without aliasing, float32 (h, w) or (h, w, 3).

        Parameters
        ----------
        box : ndarray, shape (2, 2)
            Left and upper, right and lower border, in shares 0..1 of width and height.
        size : tuple of int
            Width and height of what is returned.
        grey : bool
            Luma rather than R, G, B.
        """
        if not grey:
            return _part(self.image, box, size)
        share = max(float((box[1] - box[0]).max()), 0.1)
        return _part(self._near(max(size) / share), box, size)

    def _near(self, side: float) -> Image.Image:
        """Return its luma, halved as long as it stays three times as large as needed."""
        image = self._halves[-1]
        for one in self._halves:
            if max(one.size) < 3 * side:
                break
            image = one
        return image if max(image.size) >= 3 * side else self._halves[0]

    @cached_property
    def _halves(self) -> list[Image.Image]:
        images = [self.grey]
        while max(images[-1].size) > 2 * _SMALL:
            images.append(images[-1].reduce(2))
        return images


@dataclass(frozen=True, slots=True)
class Placing:
    """How a picture lies in another.

    Attributes
    ----------
    turn : str
        What has to be done to the picture first; empty for nothing.
    scale, shift : ndarray, shape (2,)
        A point at the share ``u`` of the first picture's width and height is at
        ``scale * u + shift`` of the second's, once turned.
    likeness : float
        Correlation of luma over the overlap, in -1..1, at 48 pixels.
    """

    turn: str
    scale: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]
    likeness: float

    @property
    def first(self) -> npt.NDArray[np.float64]:
        """The overlap in shares of the first picture, as of :meth:`Picture.cut`."""
        ends = np.sort(np.stack([-self.shift, 1 - self.shift]) / self.scale, axis=0)
        return np.clip(ends, 0, 1)

    def inside(self, size: tuple[int, int]) -> tuple[Shares, Shares]:
        """Return the overlap in shares of both, without `_EDGE` pixels at its borders.

        Parameters
        ----------
        size : tuple of int
            Width and height of the overlap in pixels.
        """
        first = self.first
        inset = _EDGE / np.array(size) * (first[1] - first[0])
        box = np.stack([first[0] + inset, first[1] - inset])
        return box, np.clip(self.scale * box + self.shift, 0, 1)

    @property
    def second(self) -> npt.NDArray[np.float64]:
        """The overlap in shares of the second picture."""
        return np.clip(self.scale * self.first + self.shift, 0, 1)


def _part(image: Image.Image, box: Shares, size: tuple[int, int]) -> Floats:
    (left, upper), (right, lower) = np.clip(box, 0, 1) * image.size
    part = image.resize(size, Image.Resampling.BILINEAR, box=(left, upper, right, lower))
    return np.asarray(part, np.float32)


def orientation(name: str) -> Image.Transpose | None:
    """Return what turns a picture as :attr:`Placing.turn` names it; None for nothing."""
    return dict(_TURNS)[name]


def placed(first: Picture, second: Picture) -> tuple[Placing, Picture]:
    """Find how the second picture lies in the first, as well as it can.

    Returns
    -------
    Placing
        The best hypothesis, refined; whether it is right is for
        :func:`vggfeat.duplicates.verifying.compared` to say.
    Picture
        The second picture, turned.
    """
    found = _whole(first, second)
    if not found or found[0].placing.likeness < _SURE:
        for name, turn in _TURNS[:_UPRIGHT]:
            other = second.turned(turn)
            found.append(_hypothesis(first, other, _searched(first, other, name)))
    best = max(found, key=lambda one: one.placing.likeness)
    if best.placing.likeness < _HOPELESS:
        return best.placing, best.other
    fine = _fine(first, best.other, best.placing)
    if (best.start.first != _WHOLE).any() or (best.start.second != _WHOLE).any():
        # Close to a border the coarse levels may lead astray where its own edge was exact.
        fine = max(fine, _fine(first, best.other, best.start), key=lambda one: one.likeness)
    return replace(fine, likeness=best.placing.likeness), best.other


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    """A placing as it was guessed, refined at coarse levels, and the second picture, turned."""

    start: Placing
    placing: Placing
    other: Picture


def _hypothesis(first: Picture, other: Picture, start: Placing) -> _Hypothesis:
    return _Hypothesis(start, _level(first, other, start, _COARSE), other)


def _fine(first: Picture, other: Picture, placing: Placing) -> Placing:
    for side in _FINE:
        placing = _level(first, other, placing, side)
    return placing


def _whole(first: Picture, second: Picture) -> list[_Hypothesis]:
    """Lay frames over one another whole, and without their borders, in the best orientation."""
    options = []
    for name, turn in _TURNS:
        other = second.turned(turn)
        for (a, small_a), (b, small_b) in product(first.frames, other.frames):
            sides = (a[1] - a[0]) * first.size / ((b[1] - b[0]) * other.size)
            if 1 / _ASPECT < sides[0] / sides[1] < _ASPECT:
                scale = (b[1] - b[0]) / (a[1] - a[0])
                likeness = float((small_a * small_b).sum())
                options.append((Placing(name, scale, b[0] - scale * a[0], likeness), other))
    options.sort(key=lambda one: -one[0].likeness)
    refined = [
        _hypothesis(first, other, placing)
        for placing, other in options[:_REFINED]
        if placing.likeness > _HOPEFUL
    ]
    return sorted(refined, key=lambda one: -one.placing.likeness)


def _searched(first: Picture, second: Picture, turn: str) -> Placing:
    """Look for one picture in the other over scales and places."""
    unit = _COARSE / max(*first.size, *second.size)
    a = _shrunk(first, unit)
    best = Placing(turn, np.ones(2), np.zeros(2), -1.0)
    for step in range(-_STEPS, _STEPS + 1):
        # Both at once where they differ much in size: half the scale each would be no better.
        b = _shrunk(second, unit * _STEP**step * _usual(first, second))
        likeness, (dy, dx) = _correlated(a, b)
        if likeness > best.likeness:
            ha, wa = a.shape
            hb, wb = b.shape
            scale = np.array([wa / wb, ha / hb])
            best = Placing(turn, scale, -np.array([dx / wb, dy / hb]), likeness)
    return best


def _usual(first: Picture, second: Picture) -> float:
    """Return the scale at which the second has the first's size, by the root of their areas."""
    return float(np.sqrt(np.prod(first.size) / np.prod(second.size)))


def _shrunk(picture: Picture, scale: float) -> Floats:
    size = tuple(max(8, round(scale * side)) for side in picture.size)
    small = picture.grey.resize((size[0], size[1]), Image.Resampling.BOX)
    return np.asarray(small, np.float32) - 128


def _correlated(a: Floats, b: Floats) -> tuple[float, tuple[int, int]]:
    """Return the best correlation over overlaps, and by how much `b` is moved down and right."""
    from scipy.fft import irfft2, next_fast_len, rfft2

    full = tuple(n + m - 1 for n, m in zip(a.shape, b.shape, strict=True))
    shape = tuple(next_fast_len(n, real=True) for n in full)
    stack_a = rfft2(np.stack([np.ones_like(a), a, a * a]), shape)
    stack_b = rfft2(np.stack([np.ones_like(b), b, b * b])[:, ::-1, ::-1], shape)
    pairs = ((0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (0, 2))
    products = np.stack([stack_a[i] * stack_b[j] for i, j in pairs])
    n, sa, sb, ab, aa, bb = irfft2(products, shape)[:, : full[0], : full[1]]
    n = np.maximum(n, 1)
    va, vb = aa - sa * sa / n, bb - sb * sb / n
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (ab - sa * sb / n) / np.sqrt(np.maximum(va, 0) * np.maximum(vb, 0))
    flat = (va < 4 * n) | (vb < 4 * n)  # less than two grey levels of deviation
    found[flat | (n < _LEAST_OVERLAP * min(a.size, b.size))] = -1
    y, x = np.unravel_index(int(found.argmax()), found.shape)
    return float(found[y, x]), (int(y) - b.shape[0] + 1, int(x) - b.shape[1] + 1)


def _level(first: Picture, second: Picture, placing: Placing, side: int) -> Placing:
    """Improve scale and shift at one size, as long as the pictures become more alike."""
    best = replace(placing, likeness=-1.0)
    for _ in range(_ITERATIONS):
        size = grid(first, second, placing, side)
        a = _unit(first.cut(placing.first, size, grey=True))
        b = _unit(second.cut(placing.second, size, grey=True))
        likeness = float((a * b).sum())
        if likeness <= best.likeness:
            break
        best = replace(placing, likeness=likeness)
        step = _step(a, b)
        placing = _moved(placing, step, size)
        if not _sound(placing):
            break
        corners = np.abs([step[:, 1], step[:, 1] + step[:, 0] * size])
        if corners.max() < _SETTLED:
            break
    return best


def _step(a: Floats, b: Floats) -> npt.NDArray[np.float64]:
    """Return by how much to stretch and shift, (x and y, 2), for `b` to fall on `a`."""
    gy, gx = np.gradient(b)
    height, width = b.shape
    x = np.arange(width, dtype=np.float32)[None, :] + 0.5
    y = np.arange(height, dtype=np.float32)[:, None] + 0.5
    columns = [gx * x, gx, gy * y, gy, b]
    J = np.stack([column.ravel() for column in columns], axis=1).astype(np.float64)
    normal = J.T @ J
    normal += np.diag(1e-6 * np.diag(normal) + 1e-12)
    found = np.linalg.solve(normal, J.T @ (a - b).ravel().astype(np.float64))
    return np.asarray(found[:4].reshape(2, 2))


def _moved(placing: Placing, step: npt.NDArray[np.float64], size: tuple[int, int]) -> Placing:
    first, second = placing.first, placing.second
    span = second[1] - second[0]
    scale = span * (1 + step[:, 0]) / np.maximum(first[1] - first[0], 1e-6)
    shift = second[0] + step[:, 1] / np.array(size) * span - scale * first[0]
    return Placing(placing.turn, scale, shift, placing.likeness)


def _sound(placing: Placing) -> bool:
    spans = [*(placing.first[1] - placing.first[0]), *(placing.second[1] - placing.second[0])]
    return bool(np.isfinite(placing.scale).all()) and min(spans) > 0.25


def grid(first: Picture, second: Picture, placing: Placing, side: int) -> tuple[int, int]:
    """Return width and height for comparing the overlap: no finer than either, `side` at most."""
    a = (placing.first[1] - placing.first[0]) * first.size
    b = (placing.second[1] - placing.second[0]) * second.size
    size = np.minimum(a, b)
    size = size * min(1.0, side / float(size.max()))
    return max(8, round(size[0])), max(8, round(size[1]))


def _unit(values: npt.NDArray[Any]) -> Floats:
    centred = values.astype(np.float32) - values.mean(dtype=np.float64)
    return np.asarray(centred / max(float(np.sqrt((centred**2).sum())), 1e-6), np.float32)
