"""One image: decoded, turned upright, made 8-bit RGB as :mod:`vggfeat.rgb` says.

An animation gives its first frame. JPEGs are decoded in full, never by ``draft``, which would
change numbers: a grey or RGB JPEG gives exactly ``Image.open(file).convert("RGB")``, turned
upright by its EXIF orientation.
"""

from __future__ import annotations

import io
import os
import re
import threading
import warnings
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from vggfeat.errors import ImageError
from vggfeat.files import SIGNATURE_BYTES, open_regular, sniff, system_reason
from vggfeat.rgb import to_rgb

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["HUGE_PIXELS", "MAX_PIXELS", "as_image", "decode", "decoded", "size_of", "to_rgb"]

MAX_PIXELS = 178_956_970
"""Largest image decoded, in pixels: Pillow's own bound for a decompression bomb."""

HUGE_PIXELS = 25_000_000
"""Images with more pixels are decoded one at a time, whatever the number of threads."""

# Only these, since others run programs (EPS: Ghostscript) or hold no pictures. HEIF is there when
# the user has registered pillow-heif. TGA has no signature, so it comes last.
_FORMATS = (
    "JPEG", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "AVIF", "HEIF", "JPEG2000", "PPM",
    "ICO", "PCX", "SGI", "TGA",
)  # fmt: skip

_FIRST_ON_ITS_SIDE = 5  # EXIF orientations from here on swap width and height
_REASON_LENGTH = 200
_PILLOW = re.compile(r"PIL\.")
_huge_turn = threading.Lock()

_Pixels = np.ndarray[Any, np.dtype[Any]]


def decode(file: str | os.PathLike[str] | BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image file.

    Parameters
    ----------
    file : path or binary file
        A file object is read from its start and left open.
    max_pixels : int
        Larger images are refused by their header, before any pixel is decoded.

    Returns
    -------
    PIL.Image.Image
        The first frame, turned upright by its EXIF orientation, in mode ``"RGB"``.

    Raises
    ------
    ImageError
        Whatever is wrong with the file, as one printable line of at most 200 characters.
    """
    with decoded(file, max_pixels=max_pixels) as image:
        return image


@contextmanager
def decoded(
    file: str | os.PathLike[str] | BinaryIO, *, max_pixels: int = MAX_PIXELS
) -> Iterator[Image.Image]:
    """Give :func:`decode`'s image for the length of a ``with`` block.

    Of images above :data:`HUGE_PIXELS` only one is decoded and used at a time, over all threads,
    which bounds memory: keep the block short and do the shrinking inside. Blocks with such images
    must not be nested.
    """
    with ExitStack() as stack:
        if isinstance(file, (str, os.PathLike)):
            file = stack.enter_context(open_regular(file))
        yield _decode(file, max_pixels, stack)


def size_of(stream: BinaryIO) -> tuple[int, int]:
    """Return width and height of an image, turned upright, in pixels, from its header alone.

    Raises
    ------
    ImageError
        It is no image that can be read.
    """
    _silence_pillow()
    try:
        with Image.open(stream, formats=_formats()) as image:
            width, height = image.size
            try:
                turned = image.getexif().get(0x0112, 1) >= _FIRST_ON_ITS_SIDE
            except Exception:  # as in _upright
                turned = False
            return (height, width) if turned else (width, height)
    except Exception as error:  # as in _decode
        raise ImageError(_one_line(_reason(error, "", (0, 0), MAX_PIXELS))) from error


def _decode(stream: BinaryIO, max_pixels: int, stack: ExitStack) -> Image.Image:
    _silence_pillow()
    kind, size = "", (0, 0)
    try:
        if not stream.seekable():
            stream = io.BytesIO(stream.read())
        stream.seek(0)
        head = stream.read(SIGNATURE_BYTES)
        if not head:
            raise ImageError("empty file")
        kind = sniff(head)
        stream.seek(0)
        with Image.open(stream, formats=_formats()) as image:
            kind, size = image.format or kind, image.size
            pixels = size[0] * size[1]
            if pixels > max_pixels:
                raise ImageError(_too_large(f"{size[0]} x {size[1]}", max_pixels))
            if pixels > HUGE_PIXELS:
                stack.enter_context(_huge_turn)
            image.load()
            return _upright(image)
    except ImageError:
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        raise ImageError(_one_line(_reason(error, kind, size, max_pixels))) from error


def as_image(value: Any) -> Image.Image:
    """Return any of the forms that Python users hold images in as upright 8-bit RGB.

    Parameters
    ----------
    value : path, binary file, PIL image, array or tensor
        Arrays are uint8 of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), channels in the
        order R, G, B, alpha; torch tensors are uint8 of shape (1, H, W) or (3, H, W).

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
        _silence_pillow()
        try:
            value.load()
            return _upright(value)
        except ImageError:
            raise
        except Exception as error:  # a lazily opened file may fail here in any of Pillow's ways
            raise ImageError(_one_line(_reason(error, "", value.size, MAX_PIXELS))) from error
    if isinstance(value, np.ndarray):
        return _from_array(value, value.shape)
    if hasattr(value, "detach") and hasattr(value, "cpu"):  # a tensor, without importing torch
        return _from_tensor(value)
    if isinstance(value, (str, os.PathLike)) or hasattr(value, "read"):
        return decode(value)
    raise ImageError(
        f"Got {type(value).__name__} as an image; allowed are a path, a binary file, a PIL image, "
        "a uint8 array (H, W[, 1|3|4]) or a uint8 tensor (1|3, H, W)."
    )


def _from_array(array: _Pixels, shape: tuple[int, ...]) -> Image.Image:
    if array.dtype != np.uint8:
        raise ImageError(
            f"Got an array of {array.dtype}; images are uint8 with values 0..255. "
            "Convert it, as by (x * 255).round().astype('uint8') for floats in 0..1."
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        hint = ""
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            hint = " Move the channels to the end: x.transpose(1, 2, 0)."
        raise ImageError(
            f"Got an array of shape {shape}; allowed are (H, W) and (H, W, 1|3|4).{hint}"
        )
    if 0 in array.shape:
        raise ImageError(f"Got an array of shape {shape}, which has no pixels.")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]  # (H, W, 1) -> (H, W)
    return to_rgb(Image.fromarray(np.ascontiguousarray(array)))


def _from_tensor(tensor: Any) -> Image.Image:
    shape = tuple(tensor.shape)
    if str(tensor.dtype) != "torch.uint8":
        raise ImageError(
            f"Got a tensor of {tensor.dtype}; images are torch.uint8 with values 0..255. "
            "Convert it, as by (x * 255).round().to(torch.uint8) for floats in 0..1."
        )
    if len(shape) != 3 or shape[0] not in (1, 3):
        hint = ""
        if len(shape) == 3 and shape[2] in (1, 3):
            hint = " Move the channels to the front: x.permute(2, 0, 1)."
        elif len(shape) == 4:
            hint = " Give a batch as a list of its images: list(x)."
        raise ImageError(
            f"Got a tensor of shape {shape}; allowed are (1, H, W) and (3, H, W).{hint}"
        )
    array = tensor.detach().cpu().permute(1, 2, 0).numpy()  # (C, H, W) -> (H, W, C)
    return _from_array(array, shape)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation (tag 0x0112) other than 1, upright."""


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(0x0112, 1))
    except Exception:  # EXIF is parsed by Pillow in Python; a broken block is not a broken image
        turn = None
    rgb = to_rgb(image)
    if turn is None:
        return rgb
    turned = rgb.transpose(turn)
    turned.info = {}  # its EXIF would turn it once more
    return turned


def _silence_pillow() -> None:
    """Keep Pillow's warnings about damaged files off the terminal: a store has the reasons.

    The filters are set for the process, since ``catch_warnings`` is not safe among threads, and
    looked for each time, since somebody's ``catch_warnings`` may have taken them away.
    """
    for category in (UserWarning, RuntimeWarning):
        if ("ignore", None, category, _PILLOW, 0) not in warnings.filters:
            warnings.filterwarnings("ignore", category=category, module=_PILLOW.pattern)


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _too_large(size: str, limit: int) -> str:
    return f"too large: {size} pixels, where the limit is {limit:,}"


def _reason(error: Exception, kind: str, size: tuple[int, int], max_pixels: int) -> str:
    text = str(error)
    if isinstance(error, Image.DecompressionBombError):
        pixels = re.search(r"\((\d+) pixels\)", text)
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # Pillow refuses above twice its own setting
        shown = f"{int(pixels[1]):,}" if pixels else "too many"
        return _too_large(shown, min(max_pixels, limit))
    if isinstance(error, UnidentifiedImageError):
        if kind == "HEIC":
            return "HEIC file, which Pillow cannot read: convert it to JPEG, or use pillow-heif"
        return f"damaged {kind} file" if kind else "not an image that Pillow can read"
    if isinstance(error, MemoryError):
        return f"not enough memory for {size[0]} x {size[1]} pixels"
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return f"truncated {kind or 'image'} file"
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read: {system_reason(error)}"
    return f"damaged {kind or 'image'} file: {text or type(error).__name__}"


def _one_line(text: str) -> str:
    line = " ".join(text.split()).encode("ascii", "backslashreplace").decode()
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    return line if len(line) <= _REASON_LENGTH else line[: _REASON_LENGTH - 3] + "..."
