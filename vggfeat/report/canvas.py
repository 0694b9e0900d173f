"""A figure measured in pixels, and its file."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vggfeat.errors import PlotError
from vggfeat.report.page import destination, write_whole
from vggfeat.report.text import shortened

DENSITY = 2
"""Pixels of a picture for each pixel of the page, so that it is sharp on good displays."""

SUFFIXES = (".png", ".svg", ".pdf")
"""Kinds of pictures by the ends of their names."""

LARGEST = 20_000
"""Longest side of a picture in pixels."""

_INCH = 100  # of the page's pixels
_POINT = 72 / _INCH  # of one of the page's pixels


@dataclass(frozen=True, slots=True)
class Tones:
    """Colours that a picture has beside those of its data.

    Attributes
    ----------
    paper, ink, faint, line : str
        The ground, text, what is of less weight, and fine lines.
    """

    paper: str
    ink: str
    faint: str
    line: str


TONES = {
    False: Tones("#ffffff", "#2b3238", "#68727b", "#d5d9dd"),
    True: Tones("#1b1f23", "#e3e7ea", "#98a3ad", "#3c444c"),
}
"""Dark on light, and light on dark."""


class Canvas:
    """A matplotlib figure with one set of axes, whose unit is the page's pixel.

    Parameters
    ----------
    width, height : int
        In the page's pixels; the picture has :data:`DENSITY` times as many.
    dark : bool
        Light on dark instead of dark on light.

    Attributes
    ----------
    axes : matplotlib.axes.Axes
        x goes to the right, y down from the upper edge.
    tones : Tones
    """

    def __init__(self, width: int, height: int, *, dark: bool = False) -> None:
        from vggfeat.report.figure import PageFigure

        self.width, self.height, self.tones = width, height, TONES[dark]
        paper = self.tones.paper
        self.figure = PageFigure(width / _INCH, height / _INCH, paper, tight=False)
        self.axes: Any = self.figure.add_axes((0, 0, 1, 1), facecolor=self.tones.paper)
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(height, 0)
        self.axes.axis("off")

    def text(self, x: float, y: float, text: str, *, size: float = 13, **style: Any) -> Any:
        """Write text, `size` pixels high; names may hold anything."""
        given = {"color": self.tones.ink, "va": "baseline", "ha": "left"} | style
        return self.axes.text(x, y, text, fontsize=size * _POINT, parse_math=False, **given)

    def fitted(self, x: float, y: float, text: str, width: float, **style: Any) -> Any:
        """Write text, its middle left out as far as needed to take at most `width` pixels."""
        written = self.text(x, y, text, **style)
        length = len(text)
        while length > 3 and self.measured(written) > width:
            length -= max(1, length // 12)
            written.set_text(shortened(text, length))
        return written

    def sentences(
        self, x: float, y: float, parts: Sequence[str], width: float, *, size: float = 12
    ) -> int:
        """Write parts one after the other on as many lines as they need; `y` is the last one's.

        Returns
        -------
        int
            Number of lines.
        """
        lines: list[str] = []
        for part in parts:
            longer = f"{lines[-1]}  ·  {part}" if lines else part
            probe = self.text(x, y, longer, size=size)
            if lines and self.measured(probe) <= width:
                lines[-1] = longer
            else:
                lines.append(part)
            probe.remove()
        for number, line in enumerate(reversed(lines)):
            at = y - 1.45 * size * number
            self.fitted(x, at, line, width, size=size, color=self.tones.faint)
        return len(lines)

    def measured(self, text: Any) -> float:
        """Return the width of a written text in pixels of the page."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            return float(text.get_window_extent().width) / DENSITY

    def image(
        self, pixels: Image.Image | np.ndarray[Any, Any], x: float, y: float, width: float,
        height: float, **style: Any,
    ) -> Any:  # fmt: skip
        """Draw pixels, or values with `cmap` and `norm`, into a rectangle, as hard-edged cells."""
        given = {"interpolation": "nearest", "aspect": "auto", "zorder": 3} | style
        limits = self.axes.axis()
        extent = (x, x + width, y + height, y)
        drawn = self.axes.imshow(np.asarray(pixels), extent=extent, **given)
        self.axes.axis(limits)
        return drawn

    def box(self, x: float, y: float, width: float, height: float, **style: Any) -> None:
        """Draw a rectangle."""
        from matplotlib.patches import Rectangle

        given = {"linewidth": 0, "zorder": 2} | style
        given["linewidth"] *= _POINT
        self.axes.add_patch(Rectangle((x, y), width, height, **given))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture in the format of its name's end, whole or not at all."""
        target = picture_destination(path)
        kind = target.suffix.lower()[1:]
        file = io.BytesIO()
        # Without time and random names, the same picture is the same file.
        metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
        import matplotlib

        with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "vggfeat"}):
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            self.figure.savefig(
                file, format=kind, dpi=_INCH * DENSITY, facecolor=self.tones.paper,
                metadata=metadata[kind],
            )  # fmt: skip
        return write_whole(target, file.getvalue())


def picture_destination(path: str | os.PathLike[str]) -> Path:
    """Return where a picture will be written; ask before long work that it shows.

    Raises
    ------
    PlotError
        Its name's end is no kind of picture.
    VggfeatError
        Its folder does not exist, or the path is a folder.
    """
    target = destination(path)
    if target.suffix.lower() not in SUFFIXES:
        raise PlotError(
            f"{target} ends in {target.suffix or 'nothing'!r}, which is no kind of picture here. "
            f"Give a name that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}."
        )
    return target
