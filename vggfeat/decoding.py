"""The way of one image from a file's bytes to upright 8-bit RGB, whatever decodes it."""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections import Counter
from contextlib import ExitStack
from functools import cache
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from vggfeat.decoders import (
    develop,
    exif_orientation,
    frame_of,
    missing,
    open_heif,
    read_jpeg,
    read_tiff,
)
from vggfeat.errors import ImageError
from vggfeat.files import system_reason
from vggfeat.rgb import AS_PILLOW_SAYS, FULL, Samples, to_rgb
from vggfeat.signatures import LONG_SIGNATURE_BYTES, RAW, SIGNATURE_BYTES, sniff, unreadable
from vggfeat.tiff import Header, read_header
from vggfeat.truncation import ACCEPT, what_is_there

HUGE_PIXELS = 25_000_000
"""Images with more pixels are decoded one at a time, whatever the number of threads."""

# Only these, since others run programs (EPS: Ghostscript) or hold no pictures. TGA has no
# signature, so it comes last.
_FORMATS = (
    "JPEG", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM",
    "ICO", "PCX", "SGI", "TGA",
)  # fmt: skip

FIRST_ON_ITS_SIDE = 5  # EXIF orientations from here on swap width and height
_REASON_LENGTH = 200
_PILLOW = re.compile(r"PIL\.")
_huge_turn = threading.Lock()


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


class Decoding:
    """One image on its way from a file's bytes to pixels."""

    def __init__(
        self, max_pixels: int, truncated: str, value_range: str, tally: Tally, stack: ExitStack
    ) -> None:
        self._max_pixels, self._truncated, self._range = max_pixels, truncated, value_range
        self._tally, self._stack = tally, stack
        self._kind, self._size, self._has_turn = "", (0, 0), False

    def image(self, stream: BinaryIO) -> Image.Image:
        """Decode; whatever is wrong with the file raises ImageError."""
        silence_pillow()
        try:
            if not stream.seekable():
                stream = io.BytesIO(stream.read())
            self._kind, header = look(stream)
            if self._kind == RAW:
                if header is not None and header.truncated:
                    raise ImageError("truncated camera raw file")
                return develop(stream, self._check)
            if header is not None:
                rgb = self._tiff(stream, header)
                if header.pages:
                    self._tally.add("pages")
                return rgb
            self._check_depth(stream)
            try:
                return self._with_pillow(stream, AS_PILLOW_SAYS)
            except UnidentifiedImageError:
                return self._unusual(stream)
        except ImageError as error:
            raise ImageError(one_line(str(error))) from error
        except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
            reason = reason_of(error, self._kind, self._size, self._max_pixels)
            raise ImageError(one_line(reason)) from error

    def _tiff(self, stream: BinaryIO, header: Header) -> Image.Image:
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

    def _unusual(self, stream: BinaryIO) -> Image.Image:
        """Decode what Pillow does not know, or say what it is."""
        stream.seek(0)
        if self._kind != "JPEG":
            raise ImageError(unreadable(stream.read(LONG_SIGNATURE_BYTES), self._kind))
        data = stream.read()
        frame = frame_of(data)
        if frame is not None and frame.is_ls:
            raise ImageError("JPEG-LS file, which is not read: convert it to PNG or TIFF")
        if frame is None or frame.bits == 8:
            raise ImageError(unreadable(data[:LONG_SIGNATURE_BYTES], self._kind))
        self._check(frame.width, frame.height)
        return _turned(read_jpeg(data, frame, self._range), exif_orientation(data))

    def _with_tifffile(self, stream: BinaryIO, header: Header) -> Image.Image:
        self._check(header.width, header.height)
        return _turned(read_tiff(stream, header, self._range), header.orientation)

    def _with_pillow(
        self, stream: BinaryIO, samples: Samples, header: Header | None = None
    ) -> Image.Image:
        stream.seek(0)
        with open_image(stream, self._kind) as image:
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
                rgb = upright(partial, self._range, samples)
                self._tally.add("truncated")
            else:
                rgb = upright(image, self._range, samples)
            if header is None and self._kind != "MPO":  # whose others are previews of the first
                if self._kind == "GIF" and rgb is image:
                    rgb = image.copy()  # asking a GIF seeks in it
                if _animated(image):
                    self._tally.add("pages")
            return rgb

    def _check(self, width: int, height: int) -> None:
        self._size = width, height
        pixels = width * height
        if pixels > self._max_pixels:
            raise ImageError(_too_large(f"{width} x {height}", self._max_pixels))
        if pixels > HUGE_PIXELS and not self._has_turn:  # another decoder may ask again
            self._stack.enter_context(_huge_turn)
            self._has_turn = True

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


def look(stream: BinaryIO) -> tuple[str, Header | None]:
    """Return what kind of file it is by its first bytes, and what a TIFF says of itself."""
    stream.seek(0)
    head = stream.read(SIGNATURE_BYTES)
    if not head:
        raise ImageError("empty file")
    kind = sniff(head)
    header = read_header(stream) if kind == "TIFF" else None
    stream.seek(0)
    return (RAW if header is not None and header.raw else kind), header


def open_image(stream: BinaryIO, kind: str) -> Image.Image:
    """Open an image for Pillow's ``load``, of the kind that :func:`look` says."""
    if kind == "HEIC":
        return open_heif(stream)
    if kind == "AVIF" and "AVIF" not in _formats():
        raise missing("AVIF file")
    return Image.open(stream, formats=_formats())


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


def upright(image: Image.Image, value_range: str, samples: Samples) -> Image.Image:
    """Return a loaded image as 8-bit RGB, turned as its EXIF orientation says."""
    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:  # EXIF is parsed by Pillow in Python; a broken block is not a broken image
        orientation = 1
    return _turned(to_rgb(image, value_range, samples), orientation)


def _turned(rgb: Image.Image, orientation: Any) -> Image.Image:
    turn = _TURNS.get(orientation)
    if turn is None:
        return rgb
    turned = rgb.transpose(turn)
    turned.info = {}  # its EXIF would turn it once more
    return turned


def silence_pillow() -> None:
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


def reason_of(error: Exception, kind: str, size: tuple[int, int], max_pixels: int) -> str:
    """Say what Pillow's error means for an image of a kind and size."""
    text = str(error)
    if isinstance(error, Image.DecompressionBombError):
        pixels = re.search(r"\((\d+) pixels\)", text)
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # Pillow refuses above twice its own setting
        shown = f"{int(pixels[1]):,}" if pixels else "too many"
        return _too_large(shown, min(max_pixels, limit))
    if isinstance(error, UnidentifiedImageError):
        return unreadable(b"", kind)
    if isinstance(error, MemoryError):
        return f"not enough memory for {size[0]} x {size[1]} pixels"
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return f"truncated {kind or 'image'} file"
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read: {system_reason(error)}"
    return f"damaged {kind or 'image'} file: {text or type(error).__name__}"


def one_line(text: str) -> str:
    """Return a reason as one printable line of bounded length."""
    line = " ".join(text.split()).encode("ascii", "backslashreplace").decode()
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    return line if len(line) <= _REASON_LENGTH else line[: _REASON_LENGTH - 3] + "..."
