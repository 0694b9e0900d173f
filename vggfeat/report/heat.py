"""Heat maps over photographs, as pages and pictures show them.

The photograph is grey underneath. Orange is what speaks for a score, blue what speaks against it:
the two that people with any kind of colour blindness tell apart; 0 is clear, and the colour's
strength grows in proportion to the value. A sign tells the place of the most, and a scale the
values.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from vggfeat.report.colour_scale import written
from vggfeat.report.thumbnails import ImageSource, Picture, picture, png_uri

if TYPE_CHECKING:
    from vggfeat.analysis import HeatMap
    from vggfeat.regions import Region

FAVOUR, AGAINST = (232, 89, 12), (28, 126, 214)
"""Colours of what speaks for a score, and against it."""

STRONGEST = 0.85
"""Opacity of the value that is farthest from 0."""

_UNSEEN = (110, 116, 122, 150)
_SIDE = 128  # pixels of an overlay; browsers make it larger, and smooth
_APART = 0.09  # of the scale's height, between its numbers


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A part of a picture, in percent of its sides."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Tick:
    """A number beside a scale, and its place in percent from above."""

    text: str
    at: float


@dataclass(frozen=True, slots=True)
class Heat:
    """A heat map as a page shows it: a photograph, what lies over it, and a scale.

    Attributes
    ----------
    photo : Picture
        The photograph, or a tile that says that it is missing.
    overlay : str
        A ``data:image/png`` URI of the colours.
    alt : str
        The map in words.
    box : Rectangle or None
        The suggested box.
    box_text : str
        The same in pixels, as ``--box`` takes it; empty for none.
    peak : tuple of float
        Where most speaks for the score, in percent.
    ticks : tuple of Tick
        Numbers beside the scale.
    gradient : str
        The scale's colours from above, as CSS.
    partial : bool
        Whether the network did not see all of the photograph.
    """

    photo: Picture
    overlay: str
    alt: str
    box: Rectangle | None
    box_text: str
    peak: tuple[float, float]
    ticks: tuple[Tick, ...]
    gradient: str
    partial: bool


def reach_of(*maps: HeatMap) -> float:
    """Return the value that has the strongest colour where maps share a scale, per 1 % of area."""
    largest = max(float(np.abs(one.density()).max()) for one in maps)
    return largest or 1.0


def coloured(found: HeatMap, reach: float) -> npt.NDArray[np.uint8]:
    """Return the colours of a map, (h, w, 4) of RGBA."""
    dense = found.density()
    opacity = STRONGEST * np.clip(np.abs(dense) / reach, 0, 1)
    colours = np.zeros((*dense.shape, 4), np.uint8)
    colours[..., :3] = np.where(dense[..., None] >= 0, FAVOUR, AGAINST)
    colours[..., 3] = np.rint(255 * opacity)
    colours[~found.seen] = _UNSEEN
    return colours


def overlay_png(found: HeatMap, reach: float) -> bytes:
    """Return the colours of a map as a small PNG, to be laid over its image at any size."""
    whole = Image.fromarray(coloured(found, reach))
    scale = _SIDE / max(whole.size)
    width, height = (max(1, round(side * scale)) for side in whole.size)
    file = io.BytesIO()
    whole.resize((width, height), Image.Resampling.BOX).save(file, "PNG", optimize=True)
    return file.getvalue()


def heat(
    found: HeatMap,
    image: ImageSource,
    what: str,
    *,
    reach: float | None = None,
    side: int = 640,
) -> Heat:
    """Make a heat map ready for a page.

    Parameters
    ----------
    found : HeatMap
    image : ImageSource
        The image that it is of.
    what : str
        What the map is of, for those who do not see it.
    reach : float, optional
        See :func:`reach_of`; by default the map's own.
    side : int
        Longest side of the photograph in pixels.
    """
    own = reach_of(found)
    reach = reach or own
    dense = found.density()
    ticks, gradient = scale(float(dense.min()), float(dense.max()), reach)
    box = found.box()
    x, y = found.peak
    return Heat(
        photo=picture(image, side),
        overlay=png_uri(overlay_png(found, reach)),
        alt=f"{what}: {in_words(found, box)}",
        box=None if box is None else rectangle(box, found.size),
        box_text="" if box is None else str(box),
        peak=(100 * x, 100 * y),
        ticks=ticks,
        gradient=gradient,
        partial=not found.seen.all(),
    )


def scale(low: float, high: float, reach: float) -> tuple[tuple[Tick, ...], str]:
    """Return the numbers and the colours (CSS) of a scale, the largest value above.

    Parameters
    ----------
    low, high : float
        The least and the largest value; the scale holds 0 in any case.
    reach : float
        The value that has the strongest colour.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        high = reach
    span = high - low
    zero = high / span
    ends = [(value, at) for value, at in ((high, 0.0), (low, 1.0)) if value]
    told = [Tick(written(value), 100 * at) for value, at in ends if abs(at - zero) > _APART]
    ticks = (*told, Tick("0", 100 * zero))
    top, bottom = (STRONGEST * min(1.0, abs(value) / reach) for value in (high, low))
    favour, against = (" ".join(map(str, colour)) for colour in (FAVOUR, AGAINST))
    stops = (
        f"rgb({favour} / {top:.3f}) 0%, rgb({favour} / 0) {100 * zero:.2f}%, "
        f"rgb({against} / 0) {100 * zero:.2f}%, rgb({against} / {bottom:.3f}) 100%"
    )
    return ticks, f"linear-gradient(to bottom, {stops})"


def rectangle(box: Region, size: tuple[int, int]) -> Rectangle:
    """Return a box of an image in percent."""
    left, upper, right, lower = box.within(*size)
    width, height = size
    return Rectangle(
        100 * left / width, 100 * upper / height,
        100 * (right - left) / width, 100 * (lower - upper) / height,
    )  # fmt: skip


def in_percent(box: Region, size: tuple[int, int]) -> str:
    """Return a box of an image as ``--box`` takes it, in percent."""
    place = rectangle(box, size)
    parts = place.left, place.top, place.width, place.height
    return ",".join(f"{part:.4g}%" for part in parts)


def in_words(found: HeatMap, box: Region | None) -> str:
    """Say where a map has what, given its suggested box."""
    if box is None:
        return "nothing speaks for it"
    x, y = (100 * at for at in found.peak)
    place = rectangle(box, found.size)
    return (
        f"most speaks for it {x:.0f} % from the left and {y:.0f} % from the top; "
        f"{found.share_within(box):.0%} of all that does lies between {place.left:.0f} and "
        f"{place.left + place.width:.0f} % from the left, {place.top:.0f} and "
        f"{place.top + place.height:.0f} % from the top"
    )
