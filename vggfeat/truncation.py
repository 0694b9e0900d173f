"""Files whose end is missing, where the user accepts what is there of them.

Pillow has a switch for all threads at once (``LOAD_TRUNCATED_IMAGES``); here each image is decided
for itself, so that a decoder that refuses may run beside one that accepts.

A JPEG is given the end that it lacks, and its decoder fills the rest, in grey mostly, as viewers
do. In PNG, GIF, TIFF, BMP and other formats that Pillow decodes row by row the missing rows stay
black, or transparent and so white. WebP, AVIF, HEIC, JPEG 2000 and what other decoders than Pillow
read are refused.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image

if TYPE_CHECKING:
    from vggfeat.tiff import Header

REFUSE, ACCEPT = "refuse", "accept"
TRUNCATED = (REFUSE, ACCEPT)
"""What may be done with truncated images."""

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
        None where the file is not truncated, of another format, or holds not even a part of the
        picture: one that is of a single colour throughout.
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
    ends = image.getextrema()
    bands = [ends] if isinstance(ends[0], int | float) else ends
    return image if any(low != high for low, high in bands) else None


def _ends_early(
    image: Image.Image, stream: BinaryIO, error: Exception, header: Header | None
) -> bool:
    if header is not None:
        return header.truncated
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return True
    # A PNG that ends between two chunks fails for lack of the next one.
    return image.format == "PNG" and isinstance(error, SyntaxError) and not stream.read(1)
