"""Files whose end is missing, where the user accepts what is there of them.

Pillow has a switch for all threads at once (``LOAD_TRUNCATED_IMAGES``); here each image is decided
for itself, so that a decoder that refuses may run beside one that accepts.

A JPEG is given the end that it lacks, and its decoder fills the rest, in grey mostly, as viewers
do. In PNG, GIF, TIFF, BMP and other formats that Pillow decodes row by row the missing rows (of a
compressed TIFF: strips) stay black, or transparent and so white. At least half of the rows must be
there. WebP, AVIF, HEIC, JPEG 2000 and what other decoders than Pillow read are refused.
"""

from __future__ import annotations

import io
from collections import Counter
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from vggfeat.tiff import Header

REFUSE, ACCEPT = "refuse", "accept"
TRUNCATED = (REFUSE, ACCEPT)
"""What may be done with truncated images."""

_AT_ONCE = 256  # rows

_END = b"\xff\xd9"
_ROW_BY_ROW = {"PNG", "GIF", "TIFF", "BMP", "DIB", "PPM", "PCX", "SGI", "TGA"}


def what_is_there(
    image: Image.Image, stream: BinaryIO, error: Exception, header: Header | None
) -> Image.Image | None:
    """Return an image as far as its file goes.

    Parameters
    ----------
    image : PIL.Image.Image
        Whose ``load`` raised `error`.
    stream : binary file
        What it was opened from.
    error : Exception
    header : Header, optional
        Of a TIFF.

    Returns
    -------
    PIL.Image.Image or None
        None where the file is not truncated, of another format, or lacks more than half of its
        rows: where so many have one and the same colour throughout.
    """
    if not _ends_early(image, stream, error, header):
        return None
    if image.format in ("JPEG", "MPO"):
        stream.seek(0)
        image = Image.open(io.BytesIO(stream.read() + _END), formats=("JPEG",))
    elif image.format in _ROW_BY_ROW:
        image.tile = []  # type: ignore[attr-defined]  # the rows read so far are kept
    else:
        return None
    try:
        image.load()
    except Exception:  # a header that is cut short, say
        return None
    return image if _plain_rows(image) <= image.height / 2 else None


def _plain_rows(image: Image.Image) -> int:
    """Count rows that have the same single colour, as those have which a decoder fills in.

    They need not lie at the end: BMPs begin at the bottom, and interlaced files come in turns.
    """
    colours: Counter[bytes] = Counter()
    for top in range(0, image.height, _AT_ONCE):
        strip = image.crop((0, top, image.width, min(image.height, top + _AT_ONCE)))
        values = np.asarray(strip)
        for row in values.reshape(len(values), image.width, -1):
            if (row == row[0]).all():
                colours[row[0].tobytes()] += 1
    return max(colours.values(), default=0)


def _ends_early(
    image: Image.Image, stream: BinaryIO, error: Exception, header: Header | None
) -> bool:
    if header is not None:
        return header.truncated
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return True
    # A PNG that ends between two chunks fails for lack of the next one.
    return image.format == "PNG" and isinstance(error, SyntaxError) and not stream.read(1)
