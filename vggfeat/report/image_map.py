"""A map of images as a picture: thumbnails at their places, dots where there is no room."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from vggfeat.errors import PlotError
from vggfeat.progress import Progress, silent
from vggfeat.report.canvas import DENSITY, LARGEST, Canvas, picture_destination
from vggfeat.report.colouring import Group, groups
from vggfeat.report.placing import Places
from vggfeat.report.text import percent
from vggfeat.report.thumbnails import ImageSource, shrunk

if TYPE_CHECKING:
    from vggfeat.analysis import ImageMap
    from vggfeat.report.figure import PageFigure

NAMES = {"pca": "principal components", "tsne": "t-SNE", "umap": "UMAP"}
"""What a person calls the methods."""

ColourBy = Literal["label", "split", "group"]
COLOUR_BY: tuple[ColourBy, ...] = get_args(ColourBy)
"""What the colours of a map say of its images."""

SMALLEST = (800, 700)
"""Least width and height of a map in pixels."""

# In pixels of the page.
_EDGE, _HEAD, _LEGEND, _ROW, _AXIS = 28, 80, 200, 23, 22
_THUMBNAIL, _FRAME, _GAP = 38, 2, 2
_THREADS = 4  # that decode thumbnails
_ROUNDS = 5  # of replacing images that cannot be read by others


@dataclass(frozen=True, slots=True)
class DrawnMap:
    """What a picture of a map shows.

    Attributes
    ----------
    path : Path
        The file.
    images : int
        Number of images on it, as thumbnails and as dots.
    thumbnails : int
        How many are thumbnails.
    unreadable : int
        How many were to be thumbnails and could not be read; they are dots.
    groups : dict of str to int
        The legend: names, and the number of images of that colour.
    """

    path: Path
    images: int
    thumbnails: int
    unreadable: int
    groups: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values, without the file."""
        return {
            "images": self.images,
            "thumbnails": self.thumbnails,
            "unreadable": self.unreadable,
            "groups": self.groups,
        }


def plot_map(
    path: str | os.PathLike[str],
    image_map: ImageMap,
    *,
    images: Callable[[str], ImageSource] = lambda _path: None,
    title: str = "",
    thumbnails: int = 300,
    size: tuple[int, int] = (2400, 1800),
    colour_by: ColourBy = "label",
    dark: bool = False,
    progress: Progress = silent,
) -> DrawnMap:
    """Draw a map of images.

    Each thumbnail is centred exactly on its image's point, and none hides another: images are
    asked in a random order (from the map's seed), and one whose thumbnail would touch an earlier
    one is a dot. Frames and dots have the colour of the image's class, or of its split or group.
    One unit is as long upwards as to the right.

    Parameters
    ----------
    path : path
        The file to make or replace; ``.png``, ``.svg`` or ``.pdf``.
    image_map : ImageMap
        From :func:`vggfeat.analysis.image_map`.
    images : callable
        Gives the original of a stored path, see :func:`~vggfeat.report.originals`.
    title : str
        The heading, such as the store's name.
    thumbnails : int
        At most so many; 0 for dots alone.
    size : (int, int)
        Width and height in pixels, at least 800 x 700; more leaves room for more thumbnails.
    colour_by : {"label", "split", "group"}
        What the colours say.
    dark : bool
        Light on dark instead of dark on light.
    progress : Progress
        Told of thumbnails.

    Returns
    -------
    DrawnMap

    Raises
    ------
    PlotError
        The size is too small or too large, the name's end is no kind of picture, or the map has
        no splits or groups to colour by.
    VggfeatError
        The file cannot be written.
    """
    picture_destination(path)
    canvas, counted = _picture(
        image_map, images, title, thumbnails, size, colour_by, dark=dark, progress=progress
    )
    return DrawnMap(canvas.save(path), *counted)


def draw_map(
    image_map: ImageMap,
    *,
    images: Callable[[str], ImageSource] = lambda _path: None,
    title: str = "",
    thumbnails: int = 300,
    size: tuple[int, int] = (2400, 1800),
    colour_by: ColourBy = "label",
    dark: bool = False,
    progress: Progress = silent,
) -> PageFigure:
    """Draw what :func:`plot_map` writes, as a figure that a notebook shows.

    Parameters
    ----------
    image_map, images, title, thumbnails, size, colour_by, dark, progress :
        See :func:`plot_map`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    PlotError
        The size is too small or too large, or the map has no splits or groups to colour by.
    """
    canvas, _ = _picture(
        image_map, images, title, thumbnails, size, colour_by, dark=dark, progress=progress
    )
    return canvas.figure


def _picture(
    image_map: ImageMap,
    images: Callable[[str], ImageSource],
    title: str,
    thumbnails: int,
    size: tuple[int, int],
    colour_by: ColourBy,
    *,
    dark: bool,
    progress: Progress,
) -> tuple[Canvas, tuple[int, int, int, dict[str, int]]]:
    """Draw a map; return it, and what a :class:`DrawnMap` says of it."""
    if min(size[0] - SMALLEST[0], size[1] - SMALLEST[1]) < 0 or max(size) > LARGEST:
        raise PlotError(
            f"A map of {size[0]} x {size[1]} pixels; give from {SMALLEST[0]} x {SMALLEST[1]} to "
            f"{LARGEST:,} x {LARGEST:,}, such as 2400 x 1800."
        )
    canvas = Canvas(size[0] // DENSITY, size[1] // DENSITY, dark=dark)
    multi_label = image_map.multi_label and colour_by == "label"
    what = "class" if colour_by == "label" else colour_by
    labels = _coloured(image_map, colour_by)
    shared = groups(labels, multi_label=multi_label, dark=dark, what=what)
    points = _heading(canvas, image_map, title)
    order = np.random.default_rng(image_map.projection.seed).permutation(len(points))
    small, unreadable = _thumbnails(
        points, order.tolist(), [images(name) for name in image_map.paths], thumbnails,
        progress,
    )  # fmt: skip
    _dots(canvas, points, shared, set(small))
    _frames(canvas, points, shared, small)
    _legend(canvas, shared, what, multi_label)
    shown = f"{len(small):,} as thumbnails, none hiding another" if small else "no thumbnails"
    said = [f"{len(points):,} images", shown]
    said += _left_out(image_map, unreadable)
    canvas.sentences(_EDGE, canvas.height - 16, said, canvas.width - 2 * _EDGE)
    counts = {group.name: len(group.members) for group in shared}
    return canvas, (len(points), len(small), unreadable, counts)


def check_colour_by(colour_by: ColourBy, splits: object, groups: object) -> None:
    """Refuse colours for splits or groups that there are none of.

    Parameters
    ----------
    colour_by : {"label", "split", "group"}
    splits, groups : object
        Those of a store or map; None where it has none.

    Raises
    ------
    PlotError
        It has none, or `colour_by` is unknown.
    """
    if colour_by not in COLOUR_BY:
        raise PlotError(f"Unknown colours {colour_by!r}. Known ones: {', '.join(COLOUR_BY)}.")
    if colour_by == "split" and splits is None:
        raise PlotError(
            "The store has no splits to colour by. Extract again with --split, or colour by label."
        )
    if colour_by == "group" and groups is None:
        raise PlotError(
            "The store has no groups to colour by. Extract again with --groups or --group-by, or "
            "colour by label."
        )


def _coloured(image_map: ImageMap, colour_by: ColourBy) -> Sequence[Sequence[str]]:
    """Return the names that decide each image's colour."""
    check_colour_by(colour_by, image_map.splits, image_map.groups)
    if colour_by == "label":
        return image_map.labels
    names = image_map.splits if colour_by == "split" else image_map.groups
    return [(name,) if name else () for name in names or ()]


def _left_out(image_map: ImageMap, unreadable: int) -> list[str]:
    left = image_map.left_out
    reasons = {
        "could not be read again and are dots": unreadable,
        "left out at random": left.not_sampled,
        "left out without features": left.not_done,
        "left out with features that are not finite": left.not_finite,
    }
    return [f"{count:,} {why}" for why, count in reasons.items() if count]


def _heading(canvas: Canvas, image_map: ImageMap, title: str) -> npt.NDArray[np.float64]:
    """Write the head and the axes; return the points (n, 2) in pixels of the page."""
    made, method = image_map.projection, image_map.projection.method
    width = canvas.width - 2 * _EDGE
    name = f"{title}: " if title else ""
    canvas.fitted(_EDGE, 40, f"{name}{image_map.layer}", width, size=20, weight="bold")
    told = [f"{NAMES[method]} of features of length 1"]
    if made.settings:
        told += [f"{key} {value:g}" for key, value in made.settings.items()]
        told += [f"seed {made.seed}", "near images are alike; far distances mean little"]
    tones = canvas.tones
    canvas.fitted(_EDGE, 62, "  ·  ".join(told), width, size=13, color=tones.faint)

    left, top = _EDGE + (_AXIS if made.explained else 0), _HEAD
    right = canvas.width - _EDGE - _LEGEND
    bottom = canvas.height - 46 - (_AXIS if made.explained else 0)
    canvas.box(left, top, right - left, bottom - top, edgecolor=tones.line, fill=False, linewidth=1)
    if made.explained:
        first, second = (f"{percent(share)} of the variance" for share in made.explained)
        style: dict[str, Any] = {"size": 12, "color": tones.faint, "ha": "center", "va": "center"}
        canvas.text((left + right) / 2, bottom + 14, f"first component, {first}", **style)
        canvas.text(
            _EDGE + 6, (top + bottom) / 2, f"second component, {second}", rotation=90, **style
        )
    return _placed(image_map.coordinates, (left, top, right, bottom))


def _placed(
    coordinates: npt.NDArray[np.float64], box: tuple[float, float, float, float]
) -> npt.NDArray[np.float64]:
    """Fit coordinates into a box with equal units and room for thumbnails at its edges."""
    room = _THUMBNAIL / 2 + _FRAME + 6
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    space = np.array([box[2] - box[0], box[3] - box[1]]) - 2 * room
    extent = np.maximum(high - low, np.finfo(np.float64).tiny)
    scale = float((space / extent).min()) if (high > low).any() else 0.0
    middle = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    centred = (coordinates - (low + high) / 2) * scale
    return np.asarray(middle + centred * (1, -1))  # the page's y goes down


def _thumbnails(
    points: npt.NDArray[np.float64],
    order: Sequence[int],
    sources: Sequence[ImageSource],
    most: int,
    progress: Progress,
) -> tuple[dict[int, Image.Image], int]:
    """Read thumbnails of images that have room; return them, and how many could not be read."""
    places = Places(points, _THUMBNAIL + 2 * _FRAME + _GAP)
    small: dict[int, Image.Image] = {}
    failed: set[int] = set()
    waiting = [number for number in order if sources[number] is not None]
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in range(_ROUNDS):
            taken = places.take(waiting, most - len(small))
            before, total = len(small), len(small) + len(taken)
            for number, read in zip(
                taken, pool.map(_read, [sources[n] for n in taken]), strict=True
            ):
                if read is None:
                    failed.add(number)
                    places.give_back(number)
                else:
                    small[number] = read
                progress("thumbnails", int(read is not None), total)
            tried = set(taken)
            waiting = [number for number in waiting if number not in tried]
            if len(small) - before == len(taken):
                break
    return small, len(failed)


def _read(source: ImageSource) -> Image.Image | None:
    try:
        return shrunk(source, _THUMBNAIL * DENSITY)
    except Exception:  # whatever happened to an original, a map is made
        return None


def _dots(
    canvas: Canvas, points: npt.NDArray[np.float64], shared: Sequence[Group], but: set[int]
) -> None:
    radius = min(4.0, max(1.4, 120 / np.sqrt(len(points))))
    # The rarest class lies on top, so that none vanishes beneath others.
    named = [group for group in shared if group.is_class]
    for group in [group for group in reversed(shared) if not group.is_class] + named:
        at = points[[number for number in group.members if number not in but]]
        canvas.axes.scatter(
            at[:, 0], at[:, 1], s=(2 * radius * 0.72) ** 2, c=group.colour, marker=group.shape,
            linewidths=0, alpha=0.85, zorder=2,
        )  # fmt: skip


def _frames(
    canvas: Canvas,
    points: npt.NDArray[np.float64],
    shared: Sequence[Group],
    small: dict[int, Image.Image],
) -> None:
    colours = {number: group.colour for group in shared for number in group.members}
    for number, image in small.items():
        width, height = image.width / DENSITY, image.height / DENSITY
        # Rounded to the picture's pixels, so that the thumbnail's are drawn as they are.
        x, y = np.round((points[number] - (width / 2, height / 2)) * DENSITY) / DENSITY
        canvas.box(
            x - _FRAME, y - _FRAME, width + 2 * _FRAME, height + 2 * _FRAME,
            facecolor=colours[number], zorder=3,
        )  # fmt: skip
        canvas.image(image, x, y, width, height, zorder=4)


def _legend(canvas: Canvas, shared: Sequence[Group], what: str, multi_label: bool) -> None:
    left = canvas.width - _EDGE - _LEGEND + 22
    right = canvas.width - _EDGE
    faint = canvas.tones.faint
    y = _HEAD + 12.0
    labelled = any(group.is_class for group in shared)
    heads = [what, "(of several, the rarest here)"] if multi_label else [what]
    for head in heads if labelled else ["colour"]:
        canvas.text(left, y, head, size=12, color=faint)
        y += 17
    y += 8
    for group in shared:
        canvas.axes.plot(
            [left + 6], [y - 4.5], marker=group.shape, markersize=8, color=group.colour,
            markeredgewidth=0, linestyle="none",
        )  # fmt: skip
        count = canvas.text(right, y, f"{len(group.members):,}", size=12, ha="right", color=faint)
        room = right - left - 28 - canvas.measured(count)
        tone = canvas.tones.ink if group.is_class else faint
        canvas.fitted(left + 20, y, group.name, room, size=13, color=tone)
        y += _ROW
