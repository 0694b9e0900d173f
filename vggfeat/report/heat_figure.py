"""Heat maps as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from vggfeat.errors import PlotError
from vggfeat.report.canvas import DENSITY, LARGEST, Canvas, picture_destination
from vggfeat.report.colour_scale import written
from vggfeat.report.heat import AGAINST, FAVOUR, STRONGEST, coloured, reach_of, rectangle
from vggfeat.report.thumbnails import ImageSource, missing_tile, shrunk

if TYPE_CHECKING:
    from vggfeat.analysis import HeatMap
    from vggfeat.report.figure import PageFigure

_EDGE, _SIDE, _GAP, _SCALE, _BAR = 28, 300, 22, 84, 12
_TOP, _HEAD, _LINE, _FOOT = 78, 22, 17, 54
_GREY = 0xC9  # what lies beneath a scale's colours


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One photograph of a picture, with or without a map over it.

    Attributes
    ----------
    heading : str
    image : ImageSource
    map : HeatMap, optional
    lines : sequence of str
        What stands below.
    """

    heading: str
    image: ImageSource
    map: HeatMap | None = None
    lines: Sequence[str] = ()


def plot_heat(
    path: str | os.PathLike[str],
    panels: Sequence[Panel],
    *,
    title: str,
    subtitle: str,
    unit: str,
    dark: bool = False,
) -> Path:
    """Draw photographs with heat maps over them, on one scale of colours.

    Parameters
    ----------
    path : path
        Ends in .png, .svg or .pdf.
    panels : sequence of Panel
        From left to right; at least one has a map.
    title, subtitle : str
    unit : str
        What the scale's numbers are.
    dark : bool
        Light on dark.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    PlotError
        No kind of picture has the name's end, or it would be too wide.
    """
    target = picture_destination(path)
    return _picture(panels, title, subtitle, unit, dark=dark).save(target)


def draw_heat(
    panels: Sequence[Panel], *, title: str, subtitle: str, unit: str, dark: bool = False
) -> PageFigure:
    """Draw what :func:`plot_heat` writes, as a figure that a notebook shows.

    Parameters
    ----------
    panels, title, subtitle, unit, dark :
        See :func:`plot_heat`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    PlotError
        It would be too wide.
    """
    return _picture(panels, title, subtitle, unit, dark=dark).figure


def _picture(
    panels: Sequence[Panel], title: str, subtitle: str, unit: str, *, dark: bool
) -> Canvas:
    maps = [one.map for one in panels if one.map is not None]
    reach = reach_of(*maps)
    shown = [_photo(one.image) for one in panels]
    highest = max(_fitted(one.size)[1] for one in shown)
    lines = max(len(one.lines) for one in panels)
    width = 2 * _EDGE + len(panels) * (_SIDE + _GAP) + _SCALE
    if width * DENSITY > LARGEST:
        raise PlotError(
            f"{len(panels)} photographs side by side make {width * DENSITY:,} pixels; "
            f"{LARGEST:,} are the most. Give fewer classes."
        )
    top = _TOP + _HEAD
    height = round(top + highest + 12 + lines * _LINE + _FOOT)
    canvas = Canvas(width, height, dark=dark)
    canvas.fitted(_EDGE, 40, title, width - 2 * _EDGE, size=20, weight="bold")
    canvas.fitted(_EDGE, 62, subtitle, width - 2 * _EDGE, size=13, color=canvas.tones.faint)
    for number, (panel, photo) in enumerate(zip(panels, shown, strict=True)):
        x = _EDGE + number * (_SIDE + _GAP)
        canvas.fitted(x, _TOP + 12, panel.heading, _SIDE, size=14, weight="bold")
        across, down = _fitted(photo.size)
        pixels = np.asarray(photo) if panel.map is None else _blended(photo, panel.map, reach)
        canvas.image(pixels, x, top, across, down, interpolation="bilinear")
        if panel.map is not None:
            _marks(canvas, panel.map, x, top, across, down)
        for row, line in enumerate(panel.lines):
            y = top + highest + 18 + row * _LINE
            canvas.fitted(x, y, line, _SIDE, size=12, color=canvas.tones.faint)
    dense = [one.density() for one in maps]
    low, high = min(float(one.min()) for one in dense), max(float(one.max()) for one in dense)
    _scale(canvas, width - _EDGE - _SCALE + 8, top, min(highest, _SIDE), low, high, reach)
    parts = [
        "orange speaks for it, blue against it",
        unit,
        "+: the most; frame: 80 % of all for it",
    ]
    canvas.sentences(_EDGE, height - 16, parts, width - 2 * _EDGE)
    return canvas


def _photo(image: ImageSource) -> Image.Image:
    try:
        return shrunk(image, _SIDE * DENSITY)
    except Exception:  # whatever happened to an original, the picture is made
        return missing_tile(_SIDE)


def _blended(photo: Image.Image, found: HeatMap, reach: float) -> npt.NDArray[np.uint8]:
    """Return a photograph in grey with a map's colours over it, (h, w, 3)."""
    grey = np.asarray(photo.convert("L"), np.float64)[:, :, None]
    under = 0.25 * 255 + 0.75 * grey
    colours = Image.fromarray(coloured(found, reach)).resize(photo.size, Image.Resampling.BILINEAR)
    over = np.asarray(colours, np.float64)
    weight = over[..., 3:] / 255
    return np.asarray(np.rint((1 - weight) * under + weight * over[..., :3]), np.uint8)


def _marks(canvas: Canvas, found: HeatMap, x: float, y: float, across: float, down: float) -> None:
    box = found.box()
    if box is None:
        return
    place = rectangle(box, found.size)
    at = (x + place.left * across / 100, y + place.top * down / 100)
    size = (place.width * across / 100, place.height * down / 100)
    for colour, thickness in (("#1d2329", 3.0), ("#ffffff", 1.6)):
        canvas.box(*at, *size, fill=False, edgecolor=colour, linewidth=thickness, zorder=5)
    right, below = found.peak
    for colour, weight in (("#ffffff", 3.5), ("#1d2329", 1.5)):
        canvas.axes.plot(
            [x + right * across], [y + below * down], marker="+", markersize=9,
            markeredgewidth=weight, color=colour, zorder=6,
        )  # fmt: skip


def _scale(
    canvas: Canvas, x: float, y: float, height: float, low: float, high: float, reach: float
) -> None:
    """Draw the scale of colours, the largest value above, with 0 marked."""
    low, high = min(low, 0.0), max(high, 0.0)
    span = (high - low) or 1.0
    values = np.linspace(high, low, 256)[:, None, None]
    weight = STRONGEST * np.clip(np.abs(values) / reach, 0, 1)
    colours = np.where(values >= 0, np.array(FAVOUR), np.array(AGAINST))
    pixels = np.rint((1 - weight) * _GREY + weight * colours).astype(np.uint8)
    canvas.image(pixels, x, y, _BAR, height)
    zero = y + height * high / span
    ticks: list[tuple[float, float, dict[str, Any]]] = [(0.0, zero, {"weight": "bold"})]
    ticks += [
        (value, at, {})
        for value, at in ((high, y), (low, y + height))
        if value and abs(at - zero) >= 14
    ]
    for value, at, style in ticks:
        canvas.box(x, at - 0.75, _BAR + 4, 1.5, facecolor=canvas.tones.ink, zorder=4)
        canvas.text(x + _BAR + 7, at, written(value), size=11, va="center", **style)


def _fitted(size: tuple[int, int]) -> tuple[float, float]:
    width, height = size
    return width * _SIDE / max(size), height * _SIDE / max(size)
