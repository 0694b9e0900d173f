"""One image: decoded, turned upright, made 8-bit RGB as :mod:`vggfeat.rgb` says.

An animation gives its first frame. JPEGs are decoded in full, never by ``draft``, which would
change numbers: a grey or RGB JPEG gives exactly ``Image.open(file).convert("RGB")``, turned
upright by its EXIF orientation.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, TypedDict, Unpack

import numpy as np
from PIL import Image

from vggfeat.arrays import from_array, from_tensor
from vggfeat.decoders import raw_size
from vggfeat.decoding import (
    FIRST_ON_ITS_SIDE,
    Decoding,
    Tally,
    look,
    one_line,
    open_image,
    reason_of,
    silence_pillow,
    upright,
)
from vggfeat.errors import ImageError
from vggfeat.files import open_regular
from vggfeat.rgb import AS_PILLOW_SAYS, FULL, to_rgb
from vggfeat.signatures import RAW
from vggfeat.truncation import REFUSE

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MAX_PIXELS",
    "Reading",
    "Tally",
    "as_image",
    "decode",
    "decoded",
    "size_of",
    "to_rgb",
]

MAX_PIXELS = 178_956_970
"""Largest image decoded, in pixels: Pillow's own bound for a decompression bomb."""


class Reading(TypedDict, total=False):
    """How image files become pixels: keyword arguments of :func:`decode`."""

    max_pixels: int
    truncated: str
    value_range: str


def decode(
    file: str | os.PathLike[str] | BinaryIO,
    *,
    tally: Tally | None = None,
    **reading: Unpack[Reading],
) -> Image.Image:
    """Decode an image file.

    Parameters
    ----------
    file : path or binary file
        A file object is read from its start and left open.
    tally : Tally, optional
        Counts accepted truncated images and images with several pages.
    max_pixels : int
        Larger images are refused by their header, before any pixel is decoded.
    truncated : str
        ``"refuse"`` files whose end is missing, or ``"accept"`` what is there; see
        :mod:`vggfeat.truncation`.
    value_range : str
        Which values of more than 8 bits become 0..255: ``"full"``, ``"minmax"`` or
        ``"LOW:HIGH"``; see :mod:`vggfeat.rgb`.

    Returns
    -------
    PIL.Image.Image
        The first frame, turned upright by its EXIF orientation, in mode ``"RGB"``.

    Raises
    ------
    ImageError
        Whatever is wrong with the file, as one printable line of at most 200 characters.
    """
    with decoded(file, tally=tally, **reading) as image:
        return image


@contextmanager
def decoded(
    file: str | os.PathLike[str] | BinaryIO,
    *,
    max_pixels: int = MAX_PIXELS,
    truncated: str = REFUSE,
    value_range: str = FULL,
    tally: Tally | None = None,
) -> Iterator[Image.Image]:
    """Give :func:`decode`'s image for the length of a ``with`` block.

    Of images above :data:`vggfeat.decoding.HUGE_PIXELS` only one is decoded and used at a time,
    over all threads, which bounds memory: keep the block short and do the shrinking inside. Blocks
    with such images must not be nested.
    """
    with ExitStack() as stack:
        if isinstance(file, (str, os.PathLike)):
            file = stack.enter_context(open_regular(file))
        decoding = Decoding(max_pixels, truncated, value_range, tally or Tally(), stack)
        yield decoding.image(file)


def size_of(stream: BinaryIO, *, upright: bool = True) -> tuple[int, int]:
    """Return width and height of an image in pixels, as it says itself.

    Parameters
    ----------
    stream : binary file
    upright : bool
        Turned by its EXIF orientation, for which Pillow decodes most PNGs whole, since it may
        stand at their end. Without it the header alone is read.

    Raises
    ------
    ImageError
        It is no image that can be read.
    """
    silence_pillow()
    try:
        kind, header = look(stream)
        if kind == RAW:
            return raw_size(stream)
        if header is not None and header.sane:
            turned = upright and header.orientation >= FIRST_ON_ITS_SIDE
            return (header.height, header.width) if turned else (header.width, header.height)
        with open_image(stream, kind) as image:
            width, height = image.size
            try:
                turned = upright and image.getexif().get(0x0112, 1) >= FIRST_ON_ITS_SIDE
            except Exception:  # as in upright
                turned = False
            return (height, width) if turned else (width, height)
    except ImageError:
        raise
    except Exception as error:  # as in Decoding
        raise ImageError(one_line(reason_of(error, "", (0, 0), MAX_PIXELS))) from error


def as_image(
    value: Any,
    *,
    max_pixels: int = MAX_PIXELS,
    truncated: str = REFUSE,
    value_range: str = FULL,
) -> Image.Image:
    """Return any of the forms that Python users hold images in as upright 8-bit RGB.

    Parameters
    ----------
    value : path, binary file, PIL image, array or tensor
        Arrays are uint8 of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), channels in the
        order R, G, B, alpha; torch tensors are uint8 of shape (1, H, W) or (3, H, W).
    max_pixels, truncated, value_range :
        Of files, as for :func:`decode`; the range of Pillow images too.

    Returns
    -------
    PIL.Image.Image
        Mode ``"RGB"``.

    Raises
    ------
    ImageError
        The file cannot be decoded, or type, dtype or shape is none of these.
    """
    if isinstance(value, Image.Image):
        silence_pillow()
        try:
            value.load()
            return upright(value, value_range, AS_PILLOW_SAYS)
        except ImageError:
            raise
        except Exception as error:  # a lazily opened file may fail here in any of Pillow's ways
            raise ImageError(one_line(reason_of(error, "", value.size, MAX_PIXELS))) from error
    if isinstance(value, np.ndarray):
        return from_array(value, value.shape)
    if hasattr(value, "detach") and hasattr(value, "cpu"):  # a tensor, without importing torch
        return from_tensor(value)
    if isinstance(value, (str, os.PathLike)) or hasattr(value, "read"):
        return decode(value, max_pixels=max_pixels, truncated=truncated, value_range=value_range)
    raise ImageError(
        f"Got {type(value).__name__} as an image; allowed are a path, a binary file, a PIL image, "
        "a uint8 array (H, W[, 1|3|4]) or a uint8 tensor (1|3, H, W)."
    )
