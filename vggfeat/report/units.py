"""What units respond to, as a picture: a row of images for each unit."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from vggfeat.errors import PlotError
from vggfeat.progress import Progress, silent
from vggfeat.report.canvas import DENSITY, LARGEST, Canvas, picture_destination
from vggfeat.report.colour_scale import written
from vggfeat.report.text import percent
from vggfeat.report.thumbnails import ImageSource, missing_tile, shrunk

if TYPE_CHECKING:
    from vggfeat.analysis import UnitsReport
    from vggfeat.analysis.units import Unit, UnitActivation
    from vggfeat.report.figure import PageFigure

# In pixels of the page.
_EDGE, _HEAD, _NAMES, _TILE, _STEP, _BETWEEN, _ROW = 28, 112, 190, 84, 92, 26, 116
_THREADS = 4  # that decode thumbnails

_WHY = {
    "variance": "those that differ most between images",
    "sparseness": "those that respond to the fewest images",
    "asked for": "those asked for",
}


def plot_units(
    path: str | os.PathLike[str],
    report: UnitsReport,
    *,
    images: Callable[[str], ImageSource] = lambda _path: None,
    title: str = "",
    dark: bool = False,
    progress: Progress = silent,
) -> Path:
    """Draw the images that excite units most beside those that excite them least.

    Under each image stands the unit's value for it. Where the store has labels, a unit also says
    which class most of its most exciting images are of. Images that are no longer there are
    grey tiles.

    Parameters
    ----------
    path : path
        The file to make or replace; ``.png``, ``.svg`` or ``.pdf``.
    report : UnitsReport
        From :func:`vggfeat.analysis.unit_responses`.
    images : callable
        Gives the original of a stored path, see :func:`~vggfeat.report.originals`.
    title : str
        The heading, such as the store's name.
    dark : bool
        Light on dark instead of dark on light.
    progress : Progress
        Told of thumbnails.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    PlotError
        There are too many units for a picture, or the name's end is no kind of picture.
    VggfeatError
        The file cannot be written.
    """
    picture_destination(path)
    return _picture(report, images, title, dark=dark, progress=progress).save(path)


def draw_units(
    report: UnitsReport,
    *,
    images: Callable[[str], ImageSource] = lambda _path: None,
    title: str = "",
    dark: bool = False,
    progress: Progress = silent,
) -> PageFigure:
    """Draw what :func:`plot_units` writes, as a figure that a notebook shows.

    Parameters
    ----------
    report, images, title, dark, progress :
        See :func:`plot_units`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    PlotError
        There are too many units for a picture.
    """
    return _picture(report, images, title, dark=dark, progress=progress).figure


def _picture(
    report: UnitsReport,
    images: Callable[[str], ImageSource],
    title: str,
    *,
    dark: bool,
    progress: Progress,
) -> Canvas:
    most = max((len(unit.most) for unit in report.units), default=0)
    least = max((len(unit.least) for unit in report.units), default=0)
    width = 2 * _EDGE + _NAMES + (most + least) * _STEP + (_BETWEEN if least else 0)
    height = _HEAD + _ROW * len(report.units) + 40
    if max(width, height) * DENSITY > LARGEST:
        fitting = (LARGEST // DENSITY - _HEAD - 40) // _ROW
        raise PlotError(
            f"{len(report.units)} units with {most + least} images each make a picture of "
            f"{width * DENSITY:,} x {height * DENSITY:,} pixels; at most {fitting} units, and "
            f"{LARGEST:,} pixels to a side, fit."
        )
    canvas = Canvas(width, height, dark=dark)
    small = _thumbnails(report, images, progress)
    left = _EDGE + _NAMES
    _heading(canvas, report, title)
    canvas.text(left, _HEAD - 14, "responds most to", size=13, weight="bold")
    right = left + most * _STEP + _BETWEEN
    if least:
        canvas.text(right, _HEAD - 14, "and least to", size=13, weight="bold")
    for number, unit in enumerate(report.units):
        y = _HEAD + number * _ROW
        _name(canvas, unit, report, y)
        _tiles(canvas, unit.most, small, left, y)
        _tiles(canvas, unit.least, small, right, y)
    said = [f"{report.images:,} images compared"]
    said += [f"{report.not_done:,} left out without features"] * bool(report.not_done)
    said += [f"{report.not_finite:,} left out with features that are not finite"] * bool(
        report.not_finite
    )
    canvas.sentences(_EDGE, height - 16, said, width - 2 * _EDGE)
    return canvas


def _heading(canvas: Canvas, report: UnitsReport, title: str) -> None:
    width = canvas.width - 2 * _EDGE
    name = f"{title}: " if title else ""
    canvas.fitted(_EDGE, 40, f"{name}{report.layer}", width, size=20, weight="bold")
    values = {"": "", "none": ", by their largest value in an image"}
    pooled = values.get(report.pooling, f", by their {report.pooling} pooling over an image")
    told = f"{len(report.units):,} of {report.total:,} {_kind(report)}s{pooled}  ·  "
    told += _WHY.get(report.interest, report.interest)
    canvas.fitted(_EDGE, 62, told, width, size=13, color=canvas.tones.faint)


def _kind(report: UnitsReport) -> str:
    return "channel" if report.pooling in ("none", "avg", "max") else "unit"


def _name(canvas: Canvas, unit: Unit, report: UnitsReport, y: float) -> None:
    room, faint = _NAMES - 22, canvas.tones.faint
    canvas.text(_EDGE, y + 18, f"{_kind(report)} {unit.number}", size=15, weight="bold")
    lines = [
        f"mean {written(unit.mean)} ± {written(unit.deviation)}",
        f"above 0 for {percent(unit.positive)}",
    ]
    for number, line in enumerate(lines):
        canvas.fitted(_EDGE, y + 38 + 17 * number, line, room, size=12, color=faint)
    names = Counter(name for one in unit.most for name in one.labels)
    if names:
        name, count = max(names.items(), key=lambda item: (item[1], item[0]))
        ending = f", {count} of {len(unit.most)}"
        canvas.fitted(_EDGE, y + 75, f"{name}{ending}", room, size=13)


def _tiles(
    canvas: Canvas,
    excited: Sequence[UnitActivation],
    small: dict[str, Image.Image],
    left: float,
    y: float,
) -> None:
    for number, one in enumerate(excited):
        image, x = small[one.path], left + number * _STEP
        width, height = image.width / DENSITY, image.height / DENSITY
        across = round((_TILE - width) / 2 * DENSITY) / DENSITY
        down = round((_TILE - height) / 2 * DENSITY) / DENSITY
        canvas.image(image, x + across, y + down, width, height)
        canvas.text(
            x + _TILE / 2, y + _TILE + 15, written(one.value), size=11, ha="center",
            color=canvas.tones.faint,
        )  # fmt: skip


def _thumbnails(
    report: UnitsReport, images: Callable[[str], ImageSource], progress: Progress
) -> dict[str, Image.Image]:
    paths = {one.path: None for unit in report.units for one in (*unit.most, *unit.least)}
    small = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for path, image in zip(paths, pool.map(_read, map(images, paths)), strict=True):
            small[path] = image
            progress("thumbnails", 1, len(paths))
    return small


def _read(source: ImageSource) -> Image.Image:
    try:
        return shrunk(source, _TILE * DENSITY)
    except Exception:  # whatever happened to an original, a picture is made
        return missing_tile(_TILE * DENSITY)
