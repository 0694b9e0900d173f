"""Comparisons of representations as pictures: a matrix, or scores beside a noise ceiling."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import PlotError
from vggfeat.report.canvas import DENSITY, LARGEST, Canvas, picture_destination
from vggfeat.report.colour_scale import ColourScale, written
from vggfeat.report.text import short_names, shortened

if TYPE_CHECKING:
    from vggfeat.representations import Comparison, Fits, How, Title

_EDGE, _HEAD, _FOOT, _NAME = 28, 84, 44, 150
_COLOURS = {False: ("#2b6d8c", "#c2571a", "#3d8043", "#7a4fa0"),
            True: ("#67b2cf", "#f0a060", "#7cc48a", "#c0a0e0")}  # fmt: skip


def similarity_name(how: How) -> str:
    """Return how representations were compared, as a heading says it."""
    if how.by_kernels:
        kernel = "linear kernel" if how.similarity == "cka" else "RBF kernel"
        return f"{'debiased' if how.debiased else 'biased'} CKA, {kernel}"
    names = {"pearson": "Pearson's r", "spearman": "Spearman's rank correlation",
             "tau-a": "Kendall's tau a"}  # fmt: skip
    return f"{names[how.similarity]} of {how.dissimilarity} RDMs"


def titles_of(titles: Sequence[Title], paths: Sequence[str]) -> list[str]:
    """Return names of representations: with their store where there are several."""
    names = short_names(list(paths))
    several = len({one.source for one in titles}) > 1
    return [f"{names[one.source]}: {one.layer}" if several else one.layer for one in titles]


def plot_comparison(path: str | os.PathLike[str], found: Comparison, *, dark: bool = False) -> Path:
    """Draw how alike each two representations are, as a matrix.

    Of two stores or files the first's are rows and the second's columns; else each is both.

    Parameters
    ----------
    path : path
        The file to make or replace; ``.png``, ``.svg`` or ``.pdf``.
    found : Comparison
        From :func:`vggfeat.representations.compare`.
    dark : bool
        Light on dark instead of dark on light.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    PlotError
        There are too many for a picture, or the name's end is no kind of picture.
    VggfeatError
        The file cannot be written.
    """
    picture_destination(path)
    return draw_comparison(found, dark=dark).save(path)


def draw_comparison(found: Comparison, *, dark: bool = False) -> Canvas:
    """Draw what :func:`plot_comparison` writes."""
    rows, columns = sides(found)
    names = titles_of(found.titles, [one.path for one in found.sources])
    values = found.values[np.ix_(rows, columns)]
    if len(found.sources) == 2 and len(rows) < len(found.titles):
        names = [one.layer for one in found.titles]
    cell = int(min(64, max(16, 620 / max(values.shape))))
    room = 24 + 7 * min(22, max(len(name) for name in names))
    width = max(2 * _EDGE + room + cell * len(columns) + 70, 420)
    height = _HEAD + room + cell * len(rows) + _FOOT
    if max(width, height) * DENSITY > LARGEST:
        raise PlotError(f"{len(names)} representations are too many for a picture.")
    canvas = Canvas(width, height, dark=dark)
    scale = ColourScale(min(0.0, float(np.nanmin(values, initial=0))), 1.0, dark)
    name = similarity_name(found.how)
    across = width - 2 * _EDGE
    canvas.fitted(_EDGE, 38, name[:1].upper() + name[1:], across, size=20, weight="bold")
    text = f"{found.images:,} {'classes' if found.by == 'class' else 'images'}"
    if len(found.sources) == 2 and len(rows) < len(found.titles):
        first, second = (Path(one.path).name for one in found.sources)
        text += f"; rows {first}, columns {second}"
    canvas.fitted(_EDGE, 60, text, across, size=13, color=canvas.tones.faint)
    x, y = _EDGE + room, _HEAD + room
    canvas.image(values, x, y, cell * len(columns), cell * len(rows), **scale.style)
    size = min(13.0, cell * 0.72)
    for place, number in enumerate(rows):
        canvas.text(
            x - 8, y + (place + 0.5) * cell, _short(names[number]), size=size, ha="right",
            va="center",
        )  # fmt: skip
    for place, number in enumerate(columns):
        canvas.text(
            x + (place + 0.5) * cell, y - 8, _short(names[number]), size=size, ha="center",
            va="bottom", rotation=90,
        )  # fmt: skip
    if cell >= 30:
        _numbers(canvas, values, x, y, cell, scale)
    scale.draw(canvas, x + cell * len(columns) + 16, y, min(cell * len(rows), 160))
    return canvas


def sides(found: Comparison) -> tuple[list[int], list[int]]:
    """Return which representations are rows and columns of a matrix that people read."""
    everything = list(range(len(found.titles)))
    if len(found.sources) != 2:
        return everything, everything
    first = [k for k in everything if found.titles[k].source == 0]
    return first, [k for k in everything if k not in first]


def _short(name: str) -> str:
    return shortened(name, 22)


def _numbers(
    canvas: Canvas, values: npt.NDArray[Any], x: float, y: float, cell: int, scale: ColourScale
) -> None:
    cmap, norm = scale.style["cmap"], scale.style["norm"]
    for (row, column), value in np.ndenumerate(values):
        ground = cmap(norm(value)) if np.isfinite(value) else (1, 1, 1)
        light = float(np.asarray(ground[:3]) @ (0.299, 0.587, 0.114))
        text = f"{value:.2f}".replace("-", "−") if np.isfinite(value) else "–"
        canvas.text(
            x + (column + 0.5) * cell, y + (row + 0.5) * cell, text, size=min(13.0, cell * 0.3),
            ha="center", va="center", color="#0d2634" if light > 0.52 else "#f6fafb", zorder=5,
        )  # fmt: skip


def plot_fits(path: str | os.PathLike[str], found: Fits, *, dark: bool = False) -> Path:
    """Draw how well representations account for targets, with intervals and the noise ceiling.

    A ring instead of a dot marks those that may well be as good as the best.

    Parameters, result and errors are those of :func:`plot_comparison`, for the result of
    :func:`vggfeat.representations.compare_to`.
    """
    picture_destination(path)
    return draw_fits(found, dark=dark).save(path)


def draw_fits(found: Fits, *, dark: bool = False) -> Canvas:
    """Draw what :func:`plot_fits` writes."""
    names = titles_of([one.title for one in found.layers], [one.path for one in found.sources])
    step = 26
    width, bottom = 860, _HEAD + step * len(names) + 14
    height = bottom + 34 + _FOOT
    if max(width, height) * DENSITY > LARGEST:
        raise PlotError(f"{len(names)} representations are too many for a picture.")
    canvas = Canvas(width, height, dark=dark)
    name, room = similarity_name(found.how), width - 2 * _EDGE
    canvas.fitted(_EDGE, 38, name[:1].upper() + name[1:], room, size=20, weight="bold")
    what = "classes" if found.by == "class" else "images"
    goal = Path(found.sources[-1].path).name
    text = f"to {goal} ({len(found.targets)} of it), {found.images:,} {what}"
    canvas.fitted(_EDGE, 60, text, room, size=13, color=canvas.tones.faint)
    x, span = _EDGE + _NAME + 20, width - 2 * _EDGE - _NAME - 40
    ends = [v for one in found.layers for v in (one.low, one.high, one.value)]
    ends = [v for v in [*ends, *(found.ceiling or ())] if np.isfinite(v)] or [0.0, 1.0]
    low, high = min(0.0, *ends), max(0.0, *ends)
    high = high if high > low else low + 1

    def across(value: float) -> float:
        return x + (value - low) / (high - low) * span

    _ground(canvas, found, across, low, high, bottom)
    apart = found.from_best()
    for number, one in enumerate(found.layers):
        y = _HEAD + step * (number + 0.5)
        colour = _COLOURS[dark][one.title.source % len(_COLOURS[dark])]
        canvas.text(x - 14, y, _short(names[number]), size=13, ha="right", va="center")
        if not np.isfinite(one.value):
            continue
        if np.isfinite(one.low):
            start = across(one.low)
            canvas.box(start, y - 1, across(one.high) - start, 2, facecolor=colour, zorder=4)
        alike = number != found.best and not apart[number] < 0.05
        canvas.axes.plot(
            [across(one.value)], [y], marker="o", markersize=7, color=colour, zorder=5,
            markerfacecolor=canvas.tones.paper if alike else colour, markeredgewidth=1.6,
        )  # fmt: skip
    said = ["95 % intervals; a ring: not told apart from the best"]
    if found.ceiling:
        ceiling = " to ".join(written(value) for value in found.ceiling)
        said.append(f"grey: noise ceiling, {ceiling}")
    canvas.sentences(_EDGE, height - 14, said, room)
    return canvas


def _ground(
    canvas: Canvas,
    found: Fits,
    across: Callable[[float], float],
    low: float,
    high: float,
    bottom: float,
) -> None:
    """Draw the axis, and the noise ceiling as a band."""
    from matplotlib.ticker import MaxNLocator

    if found.ceiling:
        start, end = (across(value) for value in found.ceiling)
        canvas.box(
            start, _HEAD, max(end - start, 1.5), bottom - _HEAD, facecolor=canvas.tones.line,
            zorder=1,
        )  # fmt: skip
    for value in MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(low, high):
        if low - 1e-9 <= value <= high + 1e-9:
            at = across(float(value))
            canvas.box(at - 0.5, _HEAD, 1, bottom - _HEAD, facecolor=canvas.tones.line, zorder=2)
            canvas.text(
                at, bottom + 16, written(round(float(value), 9)), size=12, ha="center",
                color=canvas.tones.faint,
            )  # fmt: skip
