"""Small pictures that travel inside a page."""

from __future__ import annotations

import base64
import io
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image, ImageDraw

from vggfeat.errors import ImageError, SourceError
from vggfeat.images import MAX_PIXELS, Reading, as_image, decoded
from vggfeat.rgb import FULL, MINMAX
from vggfeat.sources import Known, Originals, OtherImageError, OutsideSourceError
from vggfeat.truncation import ACCEPT

ImageSource = str | os.PathLike[str] | BinaryIO | Image.Image | Callable[[], Any] | None
"""Where a thumbnail comes from: a path, a binary file, a Pillow image, a function that returns
one of these when the thumbnail is drawn, or None where there is nothing to show."""

SIDE = 240
"""Longest side of thumbnails in pixels: sharp at 120 on a display of double density."""

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

_log = logging.getLogger(__name__)
_told: set[tuple[str, type]] = set()  # of which sources the log has said why images are missing


@dataclass(frozen=True, slots=True)
class Picture:
    """A thumbnail as a page shows it.

    Attributes
    ----------
    uri : str
        A ``data:image/jpeg`` URI.
    width, height : int
        In pixels.
    missing : bool
        Whether the original could not be read, and a tile that says so stands for it.
    """

    uri: str
    width: int
    height: int
    missing: bool = False


def thumbnail(image: ImageSource, side: int = SIDE) -> str:
    """Return an image made small, as a data URI.

    Parameters
    ----------
    image : ImageSource
        Upright by its EXIF orientation afterwards, with its aspect ratio kept, never enlarged.
    side : int
        Longest side in pixels.

    Returns
    -------
    str
        A ``data:image/jpeg`` URI; that of a drawn tile where the image cannot be read.
    """
    return picture(image, side).uri


def picture(image: ImageSource, side: int = SIDE) -> Picture:
    """As :func:`thumbnail`, with its size and whether the original was there."""
    try:
        small = shrunk(image, side)
    except Exception as error:  # whatever happened to an original, a page is made
        _log.debug("No thumbnail: %s", error)
        return Picture(_jpeg_uri(missing_tile(side)), side, side, missing=True)
    return Picture(_jpeg_uri(small), *small.size)


def originals(
    root: str, roots: Sequence[str | os.PathLike[str]] = ()
) -> Callable[[str], ImageSource]:
    """Return what gives the original of a stored path, opened only when its thumbnail is drawn.

    The first image of a source that lies outside it is told in the log, with the remedy.

    Parameters
    ----------
    root : str
        The source that a store was made from, as ``store.provenance.run.source``.
    roots : sequence of path
        See :class:`vggfeat.sources.Originals`.
    """
    opened = Originals([root], roots)
    return lambda path: original(opened, root, path)


def originals_of(
    store: FeatureTable, roots: Sequence[str | os.PathLike[str]] = ()
) -> Callable[[str], ImageSource]:
    """As :func:`originals`, of a store that may have several sources and may be closed by then."""
    opened = stored_originals(store, roots)
    first = opened.sources[0]
    several = len(opened.sources) > 1
    places = dict(zip(store.paths.tolist(), store.origins(), strict=True)) if several else {}
    return lambda path: original(opened, places.get(path, first), path)


def stored_originals(
    store: FeatureTable, roots: Sequence[str | os.PathLike[str]] = ()
) -> Originals:
    """Return what opens the originals of a store, which knows their bytes, also when it is closed.

    Raises
    ------
    SourceError
        See :class:`vggfeat.sources.Originals`.
    """
    sources = [one.text for one in store.sources]
    if not roots:
        return Originals(sources)
    digests = (digest.tobytes() if digest.any() else b"" for digest in store.digests)
    files = map(Known, store.file_sizes.tolist(), digests)
    return Originals(sources, roots, dict(zip(store.paths.tolist(), files, strict=True)))


def original(opened: Originals, source: str, path: str) -> ImageSource:
    """Return what opens an original when its thumbnail is drawn.

    The log tells why the first image of a source is missing, with the remedy.

    Parameters
    ----------
    opened : Originals
    source, path : str
        See :meth:`vggfeat.sources.Originals.open`.
    """
    return partial(_original, opened, source, path)


def _original(opened: Originals, source: str, path: str) -> BinaryIO:
    try:
        return opened.open(source, path)
    except (OutsideSourceError, OtherImageError, SourceError) as error:
        if (source, type(error)) not in _told:
            _log.warning("%s", error)
        _told.add((source, type(error)))
        raise


def shrunk(source: ImageSource, side: int, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return an image made small, as :func:`thumbnail` does; whatever is wrong with it raises.

    To be seen suffices what is there of a truncated image, and any range of values.
    """
    try:
        return _shrunk(source, side, max_pixels, FULL)
    except ImageError:
        return _shrunk(source, side, max_pixels, MINMAX)


def _shrunk(source: ImageSource, side: int, max_pixels: int, value_range: str) -> Image.Image:
    how: Reading = {"max_pixels": max_pixels, "truncated": ACCEPT, "value_range": value_range}
    with ExitStack() as stack:
        value: Any = source
        if callable(source):
            value = source()
            if hasattr(value, "read"):
                stack.callback(value.close)
        if isinstance(value, str | os.PathLike) or hasattr(value, "read"):
            whole = stack.enter_context(decoded(value, **how))
        else:
            whole = as_image(value, **how)
        scale = min(1.0, side / max(whole.size))
        width, height = (max(1, round(length * scale)) for length in whole.size)
        return whole.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


@lru_cache(maxsize=8)
def missing_tile(side: int) -> Image.Image:
    """Draw a grey tile with a crossed-out landscape, for light and dark pages alike."""
    scale = 4  # drawn larger and reduced, since Pillow's lines have no soft edges
    unit = side * scale / 100
    tile = Image.new("RGB", (side * scale, side * scale), (138, 143, 148))
    draw = ImageDraw.Draw(tile)
    line = (214, 217, 220)
    width = max(1, round(2.4 * unit))

    def at(*points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(x * unit, y * unit) for x, y in points]

    draw.rounded_rectangle(at((27, 32), (73, 68)), 4 * unit, outline=line, width=width)
    draw.ellipse(at((56, 39), (63, 46)), outline=line, width=width)
    draw.line(at((29, 63), (42, 48), (51, 58), (57, 52), (71, 64)), line, width, joint="curve")
    draw.line(at((24, 74), (76, 26)), (138, 143, 148), round(7 * unit))
    draw.line(at((26, 75), (74, 27)), line, width)
    return tile.resize((side, side), Image.Resampling.LANCZOS)


def png_picture(png: bytes, density: int) -> Picture:
    """Return a PNG file as it is, shown at `density` of its pixels to one of the page's."""
    with Image.open(io.BytesIO(png)) as image:
        width, height = image.size
    return Picture(png_uri(png), width // density, height // density)


def png_uri(png: bytes) -> str:
    """Return a PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _jpeg_uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
