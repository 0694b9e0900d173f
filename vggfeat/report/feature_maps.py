"""What a layer makes of one image, as a picture."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import PlotError
from vggfeat.report.canvas import DENSITY, LARGEST, Canvas, picture_destination
from vggfeat.report.colour_scale import BELOW, FROM_ZERO, ColourScale, written
from vggfeat.report.text import percent

if TYPE_CHECKING:
    from vggfeat.report.figure import PageFigure

Values = npt.NDArray[np.floating[Any]]

# In pixels of the page.
_EDGE, _TOP, _BIG, _STEP, _HEAD = 28, 84, 250, 26, 24
_TILE, _NAME, _COLUMNS = 122, 22, 6
_SCALE = 58  # width of a scale of colours with its numbers
_LINE = 22  # height of a bar of a unit

_SIGNAL = "#ff8c1a"


@dataclass(frozen=True, slots=True)
class DrawnChannel:
    """A channel or unit that a picture shows.

    Attributes
    ----------
    number : int
        Its number in the layer.
    strength : float
        What it was chosen by: of a channel the root mean square of its positive part, of a unit
        its value.
    largest, smallest : float
        Of its values.
    name : str
        Of a class, where the unit is one's and it is known.
    """

    number: int
    strength: float
    largest: float
    smallest: float
    name: str = ""


@dataclass(frozen=True, slots=True)
class FeatureMaps:
    """What a picture of a layer's activation shows.

    Attributes
    ----------
    layer : str
        Its name.
    shape : tuple of int
        The activation's, (C, H, W) or (D,).
    channels : tuple of DrawnChannel
        Channels or units, the strongest first.
    """

    layer: str
    shape: tuple[int, ...]
    channels: tuple[DrawnChannel, ...]

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "layer": self.layer,
            "shape": list(self.shape),
            "channels": [asdict(one) for one in self.channels],
        }


def plot_feature_maps(
    path: str | os.PathLike[str],
    values: npt.ArrayLike,
    image: npt.ArrayLike,
    layer: str,
    *,
    channels: int = 18,
    names: Sequence[str] = (),
    title: str = "",
    dark: bool = False,
) -> FeatureMaps:
    """Draw what one layer makes of one image.

    Of a map: the image as the network sees it, the mean over all channels, where on the image the
    layer responds (the mean over channels of the positive part, which is what a ReLU lets
    through), and the channels that respond most strongly, by the root mean square of their
    positive part. All channels share one scale of colours, which holds every value shown; 0 is
    marked on it, and has the tone of the ground. Cells are drawn as they are, unsmoothed.

    Of a vector: the image, and the units with the largest values as bars.

    Parameters
    ----------
    path : path
        The file to make or replace; ``.png``, ``.svg`` or ``.pdf``.
    values : array_like of shape (C, H, W) or (D,)
        The layer's activation, as ``FeatureExtractor(layers="conv3_2:none")`` gives it.
    image : array_like of uint8, shape (h, w, 3)
        The network's input, as ``FeatureExtractor.inputs`` gives it.
    layer : str
        Name of the layer.
    channels : int
        At most so many channels, or units.
    names : sequence of str
        What the D units of a vector stand for, where that is known: classes.
    title : str
        The heading, such as the image's name.
    dark : bool
        Light on dark instead of dark on light.

    Returns
    -------
    FeatureMaps
        What is on it.

    Raises
    ------
    PlotError
        Values or image are of another shape, or not finite, `channels` is below 1 or more than a
        picture holds, or the name's end is no kind of picture.
    VggfeatError
        The file cannot be written.
    """
    picture_destination(path)
    canvas, drawn = _picture(values, image, layer, channels, names, title, dark=dark)
    canvas.save(path)
    return drawn


def draw_feature_maps(
    values: npt.ArrayLike,
    image: npt.ArrayLike,
    layer: str,
    *,
    channels: int = 18,
    names: Sequence[str] = (),
    title: str = "",
    dark: bool = False,
) -> PageFigure:
    """Draw what :func:`plot_feature_maps` writes, as a figure that a notebook shows.

    Parameters
    ----------
    values, image, layer, channels, names, title, dark :
        See :func:`plot_feature_maps`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    PlotError
        Values or image are of another shape, or not finite, or `channels` is below 1 or more than
        a picture holds.
    """
    canvas, _ = _picture(values, image, layer, channels, names, title, dark=dark)
    return canvas.figure


def _picture(
    values: npt.ArrayLike, image: npt.ArrayLike, layer: str, channels: int, names: Sequence[str],
    title: str, *, dark: bool,
) -> tuple[Canvas, FeatureMaps]:  # fmt: skip
    maps, pixels = np.asarray(values, np.float64), np.asarray(image, np.uint8)
    if maps.ndim not in (1, 3) or not maps.size:
        raise PlotError(
            f"{layer} of shape {maps.shape}; allowed are maps (C, H, W) and vectors (D,)."
        )
    if not np.isfinite(maps).all():
        raise PlotError(f"{layer} holds values that are not finite; other weights may help.")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise PlotError(f"An image of shape {pixels.shape}; give uint8 pixels (h, w, 3).")
    if channels < 1:
        raise PlotError(f"{channels} channels; give 1 or more.")
    draw = _draw_maps if maps.ndim == 3 else _draw_units
    count = min(channels, len(maps))
    canvas, drawn = draw(maps, pixels, layer, count, names, title, dark)
    return canvas, FeatureMaps(layer, maps.shape, tuple(drawn))


def strongest(values: Values, count: int) -> npt.NDArray[np.int64]:
    """Return the numbers of the channels (C, H, W) or units (D,) that respond most strongly.

    Channels go by the root mean square of their positive part, units by their value; of equal
    ones the lower number comes first.
    """
    return np.argsort(-_strengths(values), kind="stable")[:count]


def _strengths(values: Values) -> Values:
    if values.ndim == 1:
        return values
    positive = np.maximum(values, 0)
    return np.asarray(np.sqrt((positive**2).mean(axis=(1, 2))))


def _draw_maps(
    values: Values, image: npt.NDArray[np.uint8], layer: str, count: int,
    _names: Sequence[str], title: str, dark: bool,
) -> tuple[Canvas, list[DrawnChannel]]:  # fmt: skip
    numbers = strongest(values, count)
    rows = math.ceil(count / _COLUMNS)
    width = 2 * _EDGE + 3 * _BIG + 2 * _STEP + _SCALE
    grid = _TOP + _HEAD + _BIG + 64
    height = grid + rows * (_TILE + _NAME) + 44
    _check_size(width, height, count)
    canvas = Canvas(width, height, dark=dark)
    shape = " x ".join(map(str, values.shape))
    _heading(canvas, title, layer, f"{shape} values: {_summary(values)}")
    _three(canvas, values, image, dark)

    canvas.text(
        _EDGE, grid - 16, _counted(count, len(values), "channels"), size=14, weight="bold",
    )  # fmt: skip
    shown = values[numbers]
    tones = ColourScale(float(shown.min()), float(shown.max()), dark)
    strengths = _strengths(values)
    for place, number in enumerate(numbers.tolist()):
        row, column = divmod(place, _COLUMNS)
        x, y = _EDGE + column * (_TILE + 9), grid + row * (_TILE + _NAME)
        canvas.image(values[number], x, y, *_fitted(image.shape, _TILE), **tones.style)
        canvas.text(x, y + _TILE + 14, str(number), size=12, weight="bold")
        strength = f"{strengths[number]:.3g}"
        canvas.text(
            x + _TILE, y + _TILE + 14, strength, size=11, ha="right", color=canvas.tones.faint
        )
    right = canvas.width - _EDGE - _SCALE + 2
    tones.draw(canvas, right, grid, min(rows * (_TILE + _NAME) - _NAME, 2 * _TILE + _NAME))
    canvas.sentences(
        _EDGE, height - 16,
        ["below each channel its number and the root mean square of its positive part"],
        width - 2 * _EDGE,
    )  # fmt: skip
    return canvas, [_drawn(values, int(number), float(strengths[number])) for number in numbers]


def _three(canvas: Canvas, values: Values, image: npt.NDArray[np.uint8], dark: bool) -> None:
    """Draw the image, the mean over channels, and the image where the layer responds."""
    places = [_EDGE, _EDGE + _BIG + _STEP, _EDGE + 2 * (_BIG + _STEP) + _SCALE]
    heads = ["What the network sees", f"Mean of {len(values)} channels", "Where it responds"]
    y = _TOP + _HEAD
    for x, head in zip(places, heads, strict=True):
        canvas.text(x, _TOP + 12, head, size=14, weight="bold")
    size = _fitted(image.shape, _BIG)
    canvas.image(image, places[0], y, *size)
    mean = values.mean(axis=0)
    tones = ColourScale(float(mean.min()), float(mean.max()), dark)
    canvas.image(mean, places[1], y, *size, **tones.style)
    tones.draw(canvas, places[1] + _BIG + 10, y, _BIG)
    canvas.image(_overlay(values, image), places[2], y, *size)
    faint: dict[str, Any] = {"size": 11, "color": canvas.tones.faint}
    height, width = image.shape[:2]
    canvas.text(places[0], y + _BIG + 16, f"{width} x {height} pixels", **faint)
    across, down = values.shape[2], values.shape[1]
    canvas.text(places[1], y + _BIG + 16, f"{across} x {down} places", **faint)
    told = "orange: mean of channels' positive parts"
    canvas.fitted(places[2], y + _BIG + 16, told, _BIG, **faint)


def _overlay(values: Values, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the image in grey, coloured where channels respond: most at the maximum."""
    from PIL import Image

    response = np.maximum(values, 0).mean(axis=0)
    most = response.max()
    share = (response / most if most > 0 else response).astype(np.float32)
    size = (image.shape[1], image.shape[0])
    smooth = np.asarray(Image.fromarray(share).resize(size, Image.Resampling.BILINEAR))
    grey = np.repeat(np.asarray(Image.fromarray(image).convert("L"))[:, :, None], 3, axis=2)
    signal = np.array([int(_SIGNAL[at : at + 2], 16) for at in (1, 3, 5)])
    weight = 0.7 * np.clip(smooth, 0, 1)[:, :, None]
    dimmed = 0.25 * 255 + 0.75 * grey.astype(np.float64)
    return np.asarray(np.rint((1 - weight) * dimmed + weight * signal), np.uint8)


def _draw_units(
    values: Values, image: npt.NDArray[np.uint8], layer: str, count: int,
    names: Sequence[str], title: str, dark: bool,
) -> tuple[Canvas, list[DrawnChannel]]:  # fmt: skip
    numbers = strongest(values, count)
    known = list(names) if len(names) == len(values) else []
    width, top = 960, _TOP + _HEAD
    height = max(top + _BIG + 70, top + count * _LINE + 50)
    _check_size(width, height, count)
    canvas = Canvas(width, height, dark=dark)
    _heading(canvas, title, layer, f"{len(values):,} values: {_summary(values)}")
    canvas.text(_EDGE, _TOP + 12, "What the network sees", size=14, weight="bold")
    canvas.image(image, _EDGE, top, *_fitted(image.shape, _BIG))
    told = f"{image.shape[1]} x {image.shape[0]} pixels"
    canvas.text(_EDGE, top + _BIG + 16, told, size=11, color=canvas.tones.faint)

    left = _EDGE + _BIG + 36
    what = _counted(count, len(values), "classes" if known else "units")
    canvas.text(left, _TOP + 12, what, size=14, weight="bold")
    digits = 9 * len(str(numbers.max()))
    room = digits + (190 if known else 10)
    start, end = left + room + 12, width - _EDGE - 64
    low, high = min(0.0, float(values[numbers].min())), max(0.0, float(values[numbers].max()))
    scale = (end - start) / (high - low) if high > low else 0.0
    zero = start - low * scale
    for place, number in enumerate(numbers.tolist()):
        y, value = top + place * _LINE, float(values[number])
        canvas.text(left + digits, y + 14, str(number), size=12, ha="right")
        if known:
            canvas.fitted(left + digits + 12, y + 14, known[number], room - digits - 12, size=13)
        colour = FROM_ZERO[dark][3] if value >= 0 else BELOW[dark][3]
        canvas.box(
            min(zero, zero + value * scale), y + 3, abs(value) * scale, _LINE - 7, facecolor=colour
        )
        at = max(zero, zero + value * scale) + 6
        canvas.text(at, y + 14, written(value), size=12, color=canvas.tones.faint)
    canvas.box(zero - 0.5, top, 1, count * _LINE, facecolor=canvas.tones.faint, zorder=4)
    return canvas, [
        _drawn(values, int(n), float(values[n]), known[n] if known else "")
        for n in numbers.tolist()
    ]


def _drawn(values: Values, number: int, strength: float, name: str = "") -> DrawnChannel:
    own = values[number]
    return DrawnChannel(number, strength, float(own.max()), float(own.min()), name)


def _check_size(width: int, height: int, count: int) -> None:
    if max(width, height) * DENSITY > LARGEST:
        raise PlotError(
            f"{count} channels make a picture of {width * DENSITY:,} x {height * DENSITY:,} "
            f"pixels; {LARGEST:,} to a side are the most. Give fewer channels."
        )


def _heading(canvas: Canvas, title: str, layer: str, told: str) -> None:
    width = canvas.width - 2 * _EDGE
    name = f"{title}: {layer}" if title else layer
    canvas.fitted(_EDGE, 40, name, width, size=20, weight="bold")
    canvas.fitted(_EDGE, 62, told, width, size=13, color=canvas.tones.faint)


def _counted(count: int, total: int, what: str) -> str:
    if count == total:
        return f"All {what}, strongest first"
    return f"The {count:,} strongest of {total:,} {what}"


def _fitted(shape: tuple[int, ...], side: float) -> tuple[float, float]:
    """Return width and height of something (h, w, ...) whose longer side becomes `side`."""
    height, width = shape[:2]
    return width * side / max(width, height), height * side / max(width, height)


def _summary(values: Values) -> str:
    return (
        f"from {written(float(values.min()))} to {written(float(values.max()))}, "
        f"mean {written(float(values.mean()))}, {percent(float((values > 0).mean()))} above 0"
    )
