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
from collections import Counter
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO, TypedDict

import numpy as np
from PIL import Image, UnidentifiedImageError

from vggfeat.arrays import from_array, from_tensor
from vggfeat.decoders import develop, missing, open_heif, raw_size, read_tiff
from vggfeat.errors import ImageError
from vggfeat.files import RAW, SIGNATURE_BYTES, open_regular, sniff, system_reason
from vggfeat.rgb import AS_PILLOW_SAYS, FULL, Samples, to_rgb
from vggfeat.tiff import Header, read_header
from vggfeat.truncation import ACCEPT, REFUSE, what_is_there

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "HUGE_PIXELS",
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

HUGE_PIXELS = 25_000_000
"""Images with more pixels are decoded one at a time, whatever the number of threads."""

# Only these, since others run programs (EPS: Ghostscript) or hold no pictures. TGA has no
# signature, so it comes last.
_FORMATS = (
    "JPEG", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM",
    "ICO", "PCX", "SGI", "TGA",
)  # fmt: skip

_FIRST_ON_ITS_SIDE = 5  # EXIF orientations from here on swap width and height
_REASON_LENGTH = 200
_PILLOW = re.compile(r"PIL\.")
_huge_turn = threading.Lock()


class Reading(TypedDict, total=False):
    """How image files become pixels: keyword arguments of :func:`decode`."""

    max_pixels: int
    truncated: str
    value_range: str


class Tally:
    """Counts what was met on the way; any thread may add.

    ``truncated`` images were accepted though their end is missing; of ``pages`` images, which hold
    several or are animated, the first was taken.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, what: str) -> None:
        """Count one more."""
        with self._turn:
            self._counts[what] += 1

    def __getitem__(self, what: str) -> int:
        """Return how many were counted."""
        return self._counts[what]


def decode(
    file: str | os.PathLike[str] | BinaryIO,
    *,
    max_pixels: int = MAX_PIXELS,
    truncated: str = REFUSE,
    value_range: str = FULL,
    tally: Tally | None = None,
) -> Image.Image:
    """Decode an image file.

    Parameters
    ----------
    file : path or binary file
        A file object is read from its start and left open.
    max_pixels : int
        Larger images are refused by their header, before any pixel is decoded.
    truncated : str
        ``"refuse"`` files whose end is missing, or ``"accept"`` what is there; see
        :mod:`vggfeat.truncation`.
    value_range : str
        Which values of more than 8 bits become 0..255: ``"full"``, ``"minmax"`` or
        ``"LOW:HIGH"``; see :mod:`vggfeat.rgb`.
    tally : Tally, optional
        Is told of accepted truncated images and of images with several pages.

    Returns
    -------
    PIL.Image.Image
        The first frame, turned upright by its EXIF orientation, in mode ``"RGB"``.

    Raises
    ------
    ImageError
        Whatever is wrong with the file, as one printable line of at most 200 characters.
    """
    how: Reading = {"max_pixels": max_pixels, "truncated": truncated, "value_range": value_range}
    with decoded(file, **how, tally=tally) as image:
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

    Of images above :data:`HUGE_PIXELS` only one is decoded and used at a time, over all threads,
    which bounds memory: keep the block short and do the shrinking inside. Blocks with such images
    must not be nested.
    """
    with ExitStack() as stack:
        if isinstance(file, (str, os.PathLike)):
            file = stack.enter_context(open_regular(file))
        decoding = _Decoding(max_pixels, truncated, value_range, tally or Tally(), stack)
        yield decoding.image(file)


def size_of(stream: BinaryIO) -> tuple[int, int]:
    """Return width and height of an image, turned upright, in pixels, from its header alone.

    Raises
    ------
    ImageError
        It is no image that can be read.
    """
    _silence_pillow()
    try:
        kind, header = _look(stream)
        if kind == RAW:
            return raw_size(stream)
        if header is not None and header.sane:
            turned = header.orientation >= _FIRST_ON_ITS_SIDE
            return (header.height, header.width) if turned else (header.width, header.height)
        with _open(stream, kind) as image:
            width, height = image.size
            try:
                turned = image.getexif().get(0x0112, 1) >= _FIRST_ON_ITS_SIDE
            except Exception:  # as in _upright
                turned = False
            return (height, width) if turned else (width, height)
    except ImageError:
        raise
    except Exception as error:  # as in _Decoding
        raise ImageError(_one_line(_reason(error, "", (0, 0), MAX_PIXELS))) from error


def _look(stream: BinaryIO) -> tuple[str, Header | None]:
    """Return what kind of file it is by its first bytes, and what a TIFF says of itself."""
    stream.seek(0)
    head = stream.read(SIGNATURE_BYTES)
    if not head:
        raise ImageError("empty file")
    kind = sniff(head)
    header = read_header(stream) if kind == "TIFF" else None
    stream.seek(0)
    return (RAW if header is not None and header.raw else kind), header


def _open(stream: BinaryIO, kind: str) -> Image.Image:
    if kind == "HEIC":
        return open_heif(stream)
    if kind == "AVIF" and "AVIF" not in _formats():
        raise missing("AVIF file")
    return Image.open(stream, formats=_formats())


class _Decoding:
    """One image on its way from a file's bytes to pixels."""

    def __init__(
        self, max_pixels: int, truncated: str, value_range: str, tally: Tally, stack: ExitStack
    ) -> None:
        self._max_pixels, self._truncated, self._range = max_pixels, truncated, value_range
        self._tally, self._stack = tally, stack
        self._kind, self._size = "", (0, 0)

    def image(self, stream: BinaryIO) -> Image.Image:
        """Decode; whatever is wrong with the file raises ImageError."""
        _silence_pillow()
        try:
            if not stream.seekable():
                stream = io.BytesIO(stream.read())
            self._kind, header = _look(stream)
            if self._kind == RAW:
                if header is not None and header.truncated:
                    raise ImageError("truncated camera raw file")
                return develop(stream, self._check)
            if header is None:
                self._check_depth(stream)
                return self._with_pillow(stream, AS_PILLOW_SAYS)
            return self._tiff(stream, header)
        except ImageError as error:
            raise ImageError(_one_line(str(error))) from error
        except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
            reason = _reason(error, self._kind, self._size, self._max_pixels)
            raise ImageError(_one_line(reason)) from error

    def _tiff(self, stream: BinaryIO, header: Header) -> Image.Image:
        if header.pages:
            self._tally.add("pages")
        narrowed = header.bits > 8 and header.colours > 1  # by Pillow, to the upper 8 bits
        if header.sane and not (header.pillow_is_right and (self._range == FULL or not narrowed)):
            return self._with_tifffile(stream, header)
        samples = Samples(
            bits=header.bits,
            unsigned=header.kind == 1 and header.bits == 32,
            white_is_zero=header.white_is_zero,
        )
        try:
            return self._with_pillow(stream, samples, header)
        except UnidentifiedImageError:
            if not header.sane:
                raise
            return self._with_tifffile(stream, header)
        except OSError as error:
            if header.truncated:
                raise ImageError("truncated TIFF file") from error
            if header.plain or error.errno is not None:
                raise
            return self._with_tifffile(stream, header)

    def _with_tifffile(self, stream: BinaryIO, header: Header) -> Image.Image:
        self._check(header.width, header.height)
        rgb = read_tiff(stream, header, self._range)
        turn = _TURNS.get(header.orientation)
        return rgb if turn is None else rgb.transpose(turn)

    def _with_pillow(
        self, stream: BinaryIO, samples: Samples, header: Header | None = None
    ) -> Image.Image:
        stream.seek(0)
        with _open(stream, self._kind) as image:
            self._kind = image.format or self._kind
            self._check(*image.size)
            try:
                image.load()
            except Exception as error:
                if self._truncated != ACCEPT:
                    raise
                partial = what_is_there(image, stream, error, header)
                if partial is None:
                    raise
                rgb = _upright(partial, self._range, samples)
                self._tally.add("truncated")
            else:
                rgb = _upright(image, self._range, samples)
            if header is None and self._kind != "MPO":  # whose others are previews of the first
                rgb = rgb.copy() if rgb is image else rgb  # asking a GIF seeks in it
                if _animated(image):
                    self._tally.add("pages")
            return rgb

    def _check(self, width: int, height: int) -> None:
        self._size = width, height
        pixels = width * height
        if pixels > self._max_pixels:
            raise ImageError(_too_large(f"{width} x {height}", self._max_pixels))
        if pixels > HUGE_PIXELS:
            self._stack.enter_context(_huge_turn)

    def _check_depth(self, stream: BinaryIO) -> None:
        """Refuse a value range where Pillow gives only the upper 8 bits of 16."""
        if self._range == FULL or self._kind != "PNG":
            return
        head = stream.read(SIGNATURE_BYTES)
        if head[24:25] == b"\x10" and head[25:26] in (b"\2", b"\4", b"\6"):
            raise ImageError(
                "16-bit PNG with colour or alpha, of which Pillow reads 8 bits: a value range "
                "cannot be applied; convert it to TIFF"
            )


def _animated(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged second frame is no matter here
        return False


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
        _silence_pillow()
        try:
            value.load()
            return _upright(value, value_range, AS_PILLOW_SAYS)
        except ImageError:
            raise
        except Exception as error:  # a lazily opened file may fail here in any of Pillow's ways
            raise ImageError(_one_line(_reason(error, "", value.size, MAX_PIXELS))) from error
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


def _upright(image: Image.Image, value_range: str, samples: Samples) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(0x0112, 1))
    except Exception:  # EXIF is parsed by Pillow in Python; a broken block is not a broken image
        turn = None
    rgb = to_rgb(image, value_range, samples)
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
