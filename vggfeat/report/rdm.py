"""RDMs as a picture: a panel a layer, with classes along the edges."""

from __future__ import annotations

import math
import os
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vggfeat.errors import PlotError
from vggfeat.report.canvas import DENSITY, LARGEST, Canvas, picture_destination
from vggfeat.report.colour_scale import FROM_ZERO, written
from vggfeat.report.colouring import groups
from vggfeat.report.text import counted, shortened

if TYPE_CHECKING:
    from vggfeat.representations.picturing import PicturedRDMs

# In pixels of the page.
_EDGE, _HEAD, _FOOT, _GAP, _BAND, _TITLE, _SCALE = 28, 84, 40, 34, 7, 24, 92
_LINE = 12.5  # that a name beside the edge takes
_NAMES = 130  # width of the names


def plot_rdms(path: str | os.PathLike[str], rdms: PicturedRDMs, *, dark: bool = False) -> Path:
    """Draw RDMs side by side.

    Images of one class lie together; a band along the left and upper edges has a colour a class,
    and the classes' names stand beside it as far as there is room. Each panel has colours of its
    own, whose scale says its ends: the 1st and 99th percentiles of the values off the diagonal.

    Parameters
    ----------
    path : path
        The file to make or replace; ``.png``, ``.svg`` or ``.pdf``.
    rdms : PicturedRDMs
        From :func:`vggfeat.representations.picturing.pictured`.
    dark : bool
        Light on dark instead of dark on light.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    PlotError
        There are too many RDMs for a picture, or the name's end is no kind of picture.
    VggfeatError
        The file cannot be written.
    """
    picture_destination(path)
    return draw_rdms(rdms, dark=dark).save(path)


def draw_rdms(rdms: PicturedRDMs, *, dark: bool = False) -> Canvas:
    """Draw what :func:`plot_rdms` writes."""
    count = len(rdms.titles)
    columns = min(count, 1 if count == 1 else 2 if count <= 4 else 3 if count <= 9 else 6)
    side = {1: 560, 2: 400, 3: 300}.get(columns, 190)
    rows = math.ceil(count / columns)
    labelled = any(rdms.classes)
    left = _EDGE + (_NAMES if labelled else 0) + _BAND + 4
    step = side + _BAND + _GAP + _SCALE
    width = left + columns * step - _GAP + _EDGE
    height = _HEAD + rows * (side + _TITLE + _GAP + _BAND) + _FOOT
    if max(width, height) * DENSITY > LARGEST:
        raise PlotError(f"{count} RDMs are too many for a picture. Take fewer --layers.")
    canvas = Canvas(width, height, dark=dark)
    _heading(canvas, rdms)
    limits = _limits(rdms)
    for number, title in enumerate(rdms.titles):
        x = left + number % columns * step
        y = _HEAD + number // columns * (side + _TITLE + _GAP + _BAND) + _TITLE + _BAND
        canvas.fitted(x, y - _BAND - 9, title, side, size=15, weight="bold")
        _panel(canvas, rdms.values[number], limits[number], x, y, side, dark)
        if labelled:
            _bands(canvas, rdms, x, y, side, dark, names=number % columns == 0)
    noun = ("class", "classes") if rdms.by == "class" else ("image", "images")
    said = [counted(rdms.total, *noun)]
    if len(rdms.classes) < rdms.total:
        said[0] = f"a random {len(rdms.classes):,} of {rdms.total:,} {noun[1]}"
    said.append("colours of each end at its 1st and 99th percentiles; the diagonal is 0")
    canvas.sentences(_EDGE, height - 14, said, width - 2 * _EDGE)
    return canvas


def _heading(canvas: Canvas, rdms: PicturedRDMs) -> None:
    width = canvas.width - 2 * _EDGE
    measure = rdms.measure or "given"
    canvas.fitted(
        _EDGE, 38, f"{measure[:1].upper()}{measure[1:]} distances", width, size=20, weight="bold"
    )
    what = "means of classes" if rdms.by == "class" else "images"
    text = f"{Path(rdms.source).name}: each two {what}; the darker, the more unlike"
    if canvas.tones.paper != "#ffffff":
        text = text.replace("darker", "lighter")
    canvas.fitted(_EDGE, 60, text, width, size=13, color=canvas.tones.faint)


def _limits(rdms: PicturedRDMs) -> list[tuple[float, float]]:
    """Return where the colours of each panel end."""
    found = []
    for values in rdms.values:
        off = values[~np.eye(len(values), dtype=bool)]
        low, high = (float(v) for v in np.percentile(off, [1, 99]))
        found.append((low, high if high > low else low + 1.0))
    return found


def _panel(
    canvas: Canvas, values: Any, limits: tuple[float, float], x: float, y: float, side: int,
    dark: bool,
) -> None:  # fmt: skip
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    style = {
        "cmap": LinearSegmentedColormap.from_list("distance", FROM_ZERO[dark]),
        "norm": Normalize(*limits, clip=True),
    }
    smooth = "nearest" if len(values) <= side * DENSITY else "antialiased"
    canvas.image(values, x, y, side, side, interpolation=smooth, **style)
    canvas.box(x, y, side, side, fill=False, edgecolor=canvas.tones.line, linewidth=1, zorder=4)
    steps = np.linspace(limits[1], limits[0], 128)[:, None]
    height = min(side, 160)
    canvas.image(steps, x + side + 12, y, 10, height, **style)
    for value, at in ((limits[1], y + 5), (limits[0], y + height)):
        canvas.text(x + side + 28, at, written(value), size=11, va="center")


def _bands(
    canvas: Canvas, rdms: PicturedRDMs, x: float, y: float, side: int, dark: bool, *, names: bool
) -> None:
    """Draw a band a class along both edges; name classes on the left as far as there is room."""
    coloured = groups([(name,) if name else () for name in rdms.classes], dark=dark)
    colours = {member: group.colour for group in coloured for member in group.members}
    cell, at, free = side / len(rdms.classes), 0, y - 2.0
    for name, run in groupby(rdms.classes):
        length = len(list(run))
        colour, extent, start = colours[at], length * cell, at * cell
        canvas.box(x - _BAND - 2, y + start, _BAND, extent, facecolor=colour, zorder=3)
        canvas.box(x + start, y - _BAND - 2, extent, _BAND, facecolor=colour, zorder=3)
        middle = y + start + extent / 2
        if names and name and middle - _LINE / 2 >= free:
            canvas.text(
                x - _BAND - 8, middle, shortened(name, 20), size=11, ha="right", va="center"
            )
            free = middle + _LINE / 2
        at += length
