"""A confusion matrix as a picture and in a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vggfeat.report.text import shortened, shown
from vggfeat.report.thumbnails import png_uri

if TYPE_CHECKING:
    from vggfeat.report.figure import PageFigure

_COLOURS = {
    False: ("#f3f1ea", "#cfdfe6", "#78aac0", "#2b6d8c", "#123d55"),
    True: ("#22272c", "#24414f", "#2d6f8d", "#67b2cf", "#d3effa"),
}
_PAPER = {False: "#ffffff", True: "#1b1f23"}
_INK = {False: "#4c555e", True: "#b3bcc4"}
_COUNTS_FROM = 19.0  # side of a cell in pixels from which a count fits
_GAMMA = 0.65  # lifts small shares, so that a single confusion is seen among many classes
_LABEL = 12.0  # pixels that a line of labels takes
_NAMED = 150  # classes up to which each is named, however wide the picture gets
DENSITY = 2
"""Pixels of the picture for each pixel of the page."""


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """Images of one class that were taken for another.

    Attributes
    ----------
    true, named : str
        The class they are of, and the one they were taken for.
    count, of : int
        How many, of all images of the class.
    """

    true: str
    named: str
    count: int
    of: int


def confusion_matrix(matrix: ArrayLike, classes: Sequence[str], *, dark: bool = False) -> bytes:
    """Return :func:`draw_confusion` as a PNG file."""
    return draw_confusion(matrix, classes, dark=dark).png()


def draw_confusion(matrix: ArrayLike, classes: Sequence[str], *, dark: bool = False) -> PageFigure:
    """Draw a confusion matrix.

    Colour grows with the share of the row, so that small classes are as visible as large ones; the
    numbers are counts, left out where they are 0 and where cells are too small for them. Up to 150
    classes each is named; with more, every second, third, ...

    Parameters
    ----------
    matrix : array_like of shape (K, K)
        Number of images by true class (row) and predicted class (column).
    classes : sequence of str
        Names of the K classes; K from 1 to some hundreds.
    dark : bool
        Light on dark instead of dark on light. The picture has a ground of its own, so that it
        is readable on any page.

    Returns
    -------
    PageFigure

    Raises
    ------
    ValueError
        `matrix` is not square, or `classes` does not fit it.
    """
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    from vggfeat.report.figure import PageFigure

    counts = np.asarray(matrix)
    size = len(counts)
    if counts.shape != (size, size) or size != len(classes) or not size:
        raise ValueError(f"a matrix of shape {counts.shape} does not fit {len(classes)} classes")
    cell = min(max(52.0, 260 / size), 980 / size) if size > 4 else 84.0
    if size <= _NAMED:
        cell = max(cell, _LABEL)
    side = cell * size / 100  # inches, at 100 of the page's pixels each
    ink, paper = _INK[dark], _PAPER[dark]
    share = shares(counts)

    figure = PageFigure(side, side, paper)
    axes = figure.add_axes((0, 0, 1, 1))
    colours = LinearSegmentedColormap.from_list("share", _COLOURS[dark])
    tone = PowerNorm(_GAMMA, 0, 1)
    axes.imshow(share, cmap=colours, norm=tone, interpolation="nearest", aspect="equal")
    _label(axes, classes, cell, ink)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if size <= 60:  # fine lines of the ground between cells
        edges = np.arange(size + 1) - 0.5
        axes.set_xticks(edges, minor=True)
        axes.set_yticks(edges, minor=True)
        axes.grid(which="minor", color=paper, linewidth=min(1.2, cell / 24))
    axes.tick_params(which="both", length=0)
    if cell >= _COUNTS_FROM:
        _write_counts(axes, counts, colours(tone(share)), cell)

    return figure


def confusion_view(matrix: ArrayLike, classes: Sequence[str]) -> dict[str, Any]:
    """Return both pictures of a confusion matrix and what it shows, as templates take them."""
    light = confusion_matrix(matrix, classes)
    # A PNG's size stands in its header: big-endian, 4 bytes each.
    width, height = (int.from_bytes(light[at : at + 4]) // DENSITY for at in (16, 20))
    return {
        "light": png_uri(light),
        "dark": png_uri(confusion_matrix(matrix, classes, dark=True)),
        "width": width,
        "height": height,
        "alt": describe_confusion(matrix, classes),
        "pairs": confused_pairs(matrix, classes, 20),
    }


def shares(matrix: ArrayLike) -> NDArray[np.float64]:
    """Divide each row by its sum; rows without images stay 0."""
    counts = np.asarray(matrix, np.float64)
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def confused_pairs(matrix: ArrayLike, classes: Sequence[str], most: int) -> list[ConfusedPair]:
    """List the commonest confusions.

    Parameters
    ----------
    matrix, classes :
        As for :func:`confusion_matrix`.
    most : int
        At most so many; those of equal count by the order of their classes.
    """
    counts = np.array(matrix)
    totals = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    return [
        ConfusedPair(classes[true], classes[said], int(counts[true, said]), int(totals[true]))
        for true, said in (divmod(int(at), len(counts)) for at in order)
        if counts[true, said]
    ]


def describe_confusion(matrix: ArrayLike, classes: Sequence[str], most: int = 3) -> str:
    """Say what a confusion matrix shows, for those who cannot see the picture.

    Parameters
    ----------
    matrix, classes :
        As for :func:`confusion_matrix`.
    most : int
        How many of the commonest confusions are named.
    """
    counts = np.asarray(matrix)
    right, total = int(np.trace(counts)), int(counts.sum())
    confused = [
        f"{shown(pair.true)} taken for {shown(pair.named)} ({pair.count})"
        for pair in confused_pairs(counts, classes, most)
    ]
    text = f"Confusion matrix of {len(classes)} classes: {right} of {total} images named rightly"
    return f"{text}; most often confused: {', '.join(confused)}." if confused else f"{text}."


def _label(axes: Any, classes: Sequence[str], cell: float, ink: str) -> None:
    step = max(1, math.ceil(_LABEL / cell))
    at = range(0, len(classes), step)
    names = [shortened(classes[k], 22) for k in at]
    points = min(9.5, 72 / 100 * 0.78 * cell * step)
    longest = max(len(name) for name in names)
    upright = longest * points * 0.62 * 100 / 72 > cell * step
    plain: dict[str, Any] = {"fontsize": points, "color": ink, "parse_math": False}
    axes.set_xticks(at, names, rotation=90 if upright else 0, **plain)
    axes.set_yticks(at, names, **plain)
    axes.set_xlabel("named as", color=ink, fontsize=9.5, labelpad=8)
    axes.set_ylabel("true class", color=ink, fontsize=9.5, labelpad=8)


def _write_counts(axes: Any, counts: NDArray[Any], grounds: NDArray[Any], cell: float) -> None:
    widest = max(2, len(f"{counts.max():g}"))
    points = min(11.0, 72 / 100 * cell * 1.25 / (widest + 0.6))
    for row, column in np.argwhere(counts):
        light = float(grounds[row, column, :3] @ (0.299, 0.587, 0.114))
        axes.text(
            column, row, f"{counts[row, column]:g}", ha="center", va="center_baseline",
            fontsize=points, color="#0d2634" if light > 0.52 else "#f6fafb",
        )  # fmt: skip
