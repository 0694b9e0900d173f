"""Decoders that come with the extra ``vggfeat[formats]``, each loaded when a file first needs it.

An extra never changes a number: what Pillow reads rightly is always read by Pillow, and these read
what it does not. Without them such files are refused with the remedy, and called by their name:
damaged is only what no decoder reads.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from vggfeat.errors import ImageError
from vggfeat.rgb import Samples, array_to_rgb

if TYPE_CHECKING:
    from collections.abc import Callable

    from vggfeat.tiff import Header

REMEDY = "pip install 'vggfeat[formats]'"


_JPEG_LS = 0xF7
_FRAMES = {*range(0xC0, 0xD0), _JPEG_LS} - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class Frame:
    """The size of a JPEG in pixels, the bits of its values, and whether it is a JPEG-LS."""

    width: int
    height: int
    bits: int
    is_ls: bool

    def __str__(self) -> str:
        """Return what it is called."""
        return f"{self.bits}-bit JPEG file"


def missing(what: str) -> ImageError:
    """Return the error for a sound file of a kind that needs the extra."""
    return ImageError(f"{what}, which Pillow does not read: {REMEDY}")


def open_heif(stream: BinaryIO) -> Image.Image:
    """Open an HEIC or HEIF file, whose primary image it is; nothing is decoded yet.

    Its own rotation is applied on decoding, and an EXIF orientation, which says the same once more,
    is not left in it.

    Raises
    ------
    ImageError
        pillow-heif is not installed.
    SyntaxError
        libheif cannot read the file.
    """
    try:
        pillow_heif: Any = import_module("pillow_heif")
    except ImportError:
        raise missing("HEIC file") from None
    image: Image.Image = pillow_heif.HeifImageFile(stream)
    return image


def develop(stream: BinaryIO, check: Callable[[int, int], None]) -> Image.Image:
    """Develop a camera's raw file in full size, upright, as 8-bit sRGB.

    `check` is told width and height before any pixel is decoded, and raises at too many.
    White balance is the camera's, brightness LibRaw's own (its 99th percentile is white), the
    mosaic is interpolated by AHD, and nothing else is done.

    Raises
    ------
    ImageError
        rawpy is not installed, or LibRaw cannot develop the file.
    """
    rawpy = _rawpy()
    try:
        with rawpy.imread(stream) as raw:
            sizes = raw.sizes
            check(sizes.iwidth, sizes.iheight)
            rgb = raw.postprocess(
                use_camera_wb=True,
                output_color=rawpy.ColorSpace.sRGB,
                output_bps=8,
                half_size=False,
                demosaic_algorithm=rawpy.DemosaicAlgorithm.AHD,
            )
    except rawpy.LibRawError as error:
        raise ImageError(f"camera raw file that LibRaw cannot develop: {_text(error)}") from error
    return Image.fromarray(np.ascontiguousarray(rgb))


def raw_size(stream: BinaryIO) -> tuple[int, int]:
    """Return width and height of a developed raw file; see :func:`develop`."""
    rawpy = _rawpy()
    try:
        with rawpy.imread(stream) as raw:
            sizes = raw.sizes
            turned = sizes.flip in (5, 6)
            return (sizes.iheight, sizes.iwidth) if turned else (sizes.iwidth, sizes.iheight)
    except rawpy.LibRawError as error:
        raise ImageError(f"camera raw file that LibRaw cannot develop: {_text(error)}") from error


def read_tiff(stream: BinaryIO, header: Header, value_range: str) -> Image.Image:
    """Read the first page of a TIFF that Pillow does not read, not yet turned.

    Raises
    ------
    ImageError
        tifffile is not installed, nor reads the file; or see :func:`vggfeat.rgb.array_to_rgb`.
    """
    if not header.colours:
        raise ImageError(f"{header}, of which no conversion to RGB is known: give 1, 3 or 4 bands")
    try:
        tifffile: Any = import_module("tifffile")
    except ImportError:
        raise missing(str(header)) from None
    log = logging.getLogger("tifffile")
    if log.level == logging.NOTSET:  # what it complains of becomes the image's reason
        log.setLevel(logging.CRITICAL)
    if header.truncated:
        raise ImageError("truncated TIFF file")
    try:
        stream.seek(0)
        with tifffile.TiffFile(stream, name="image.tif") as file:
            page = file.pages[0]
            array = page.asarray(maxworkers=1)
            colormap = page.colormap
    except Exception as error:  # it raises nearly anything on damaged files
        if "imagecodecs" in str(error):  # which it wants for this compression
            raise missing(str(header)) from None
        raise ImageError(f"damaged {header} file: {_text(error)}") from error
    if header.planar and header.samples > 1:
        array = np.moveaxis(array, 0, -1)  # (C, H, W) -> (H, W, C)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.shape != (header.height, header.width, header.samples):
        raise ImageError(f"damaged {header} file: its pixels have the shape {array.shape}")
    samples = Samples(header.bits, white_is_zero=header.white_is_zero)
    if header.photometric == 3:
        return _through(colormap, array[:, :, 0])
    return array_to_rgb(array, header.colours, header.alpha, value_range, samples)


def frame_of(data: bytes) -> Frame | None:
    """Find what a JPEG says of its pixels; None where it says nothing that can be read."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            height, width = (int.from_bytes(data[n : n + 2], "big") for n in (at + 5, at + 7))
            return Frame(width, height, data[at + 4], marker == _JPEG_LS)
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def read_jpeg(data: bytes, frame: Frame, value_range: str) -> Image.Image:
    """Read a JPEG of 12 bits, not yet turned.

    Raises
    ------
    ImageError
        imagecodecs is not installed, nor reads the file; or see :func:`vggfeat.rgb.array_to_rgb`.
    """
    try:
        imagecodecs: Any = import_module("imagecodecs")
    except ImportError:
        raise missing(str(frame)) from None
    if not data.rstrip(b"\0").endswith(b"\xff\xd9"):  # of which libjpeg only warns
        raise ImageError("truncated JPEG file")
    try:
        array = imagecodecs.jpeg_decode(data)
    except Exception as error:  # each codec has its own
        raise ImageError(f"damaged {frame}: {_text(error)}") from error
    array = array[:, :, None] if array.ndim == 2 else array
    if array.shape[:2] != (frame.height, frame.width) or array.shape[2] not in (1, 3):
        raise ImageError(f"{frame} of shape {array.shape}, of which no conversion to RGB is known")
    return array_to_rgb(array, array.shape[2], 0, value_range, Samples(frame.bits))


def exif_orientation(data: bytes) -> int:
    """Return the EXIF orientation of a JPEG that Pillow does not open; 1 where it has none."""
    start = data.find(b"Exif\0\0")
    exif = Image.Exif()
    try:
        exif.load(data[start : start + (1 << 16)] if start >= 0 else b"")
        return int(exif.get(0x0112, 1))
    except Exception:  # a broken block is not a broken image
        return 1


def _through(colormap: Any, places: np.ndarray[Any, Any]) -> Image.Image:
    """Look colours up in a TIFF's palette of shape (3, 2^bits), 16-bit; Pillow keeps 8 as well."""
    if colormap is None or places.max() >= colormap.shape[1]:
        raise ImageError("damaged TIFF file: its palette lacks colours that it uses")
    palette = (colormap >> 8).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(palette.T[places]))


def _rawpy() -> Any:
    try:
        return import_module("rawpy")
    except ImportError:
        raise missing("camera raw file") from None


def _text(error: Exception) -> str:
    text = error.args[0] if error.args else ""
    text = text.decode(errors="replace") if isinstance(text, bytes) else str(error)
    return text or type(error).__name__
