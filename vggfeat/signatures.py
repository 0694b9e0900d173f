"""What a file's first bytes say of its kind."""

from __future__ import annotations

import re

_Table = tuple[tuple[str, re.Pattern[bytes]], ...]

SIGNATURE_BYTES = 64
"""How many first bytes :func:`sniff` needs."""

RAW = "RAW"
"""What :func:`sniff` calls cameras' raw files, but those that only their tags tell from TIFF."""

_SIGNATURES = (
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("WEBP", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    # "BM" alone begins many a text: ask for the reserved zeros and a known header size as well.
    ("BMP", re.compile(rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL)),
    (
        RAW,
        re.compile(
            rb"II\*\0....CR\x02|.{4}ftypcrx |FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|\0MRM|FOVb"
            rb"|II\x1a\0\0\0HEAPCCDR",
            re.DOTALL,
        ),
    ),
    ("TIFF", re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+")),
    ("AVIF", re.compile(rb".{4}ftyp(avi[fs]|(mif1|msf1|miaf).{4}(.{4}){0,11}avi[fs])", re.DOTALL)),
    ("HEIC", re.compile(rb".{4}ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL)),
    ("JPEG 2000", re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51")),
    ("PPM", re.compile(rb"P[1-6]\s+(#|\d+\s+\d+\s)")),
)

LONG_SIGNATURE_BYTES = 512
"""How many first bytes :func:`unreadable` looks at."""

_IMAGES = (
    ("JPEG XL file", re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n")),
    ("JPEG XR file", re.compile(rb"II\xbc[\x00\x01]")),
    ("Photoshop file", re.compile(rb"8BPS\x00[\x01\x02]")),
    ("OpenEXR file", re.compile(rb"v/1\x01")),
    ("Radiance HDR file", re.compile(rb"#\?(RADIANCE|RGBE)")),
    ("FITS file", re.compile(rb"SIMPLE  =")),
    ("DICOM file", re.compile(rb".{128}DICM", re.DOTALL)),
    ("DDS file", re.compile(rb"DDS ")),
    ("NIfTI file", re.compile(rb".{344}n[i+]1\x00", re.DOTALL)),
    ("SVG drawing", re.compile(rb"\s*(<\?xml.*)?<svg", re.DOTALL | re.IGNORECASE)),
)
_NO_IMAGES = (
    ("video", re.compile(rb".{4}ftyp|\x1aE\xdf\xa3|RIFF....AVI ", re.DOTALL)),
    ("PDF document", re.compile(rb"%PDF-")),
    ("PostScript document", re.compile(rb"%!PS|\xc5\xd0\xd3\xc6")),
    ("web page", re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)),
    ("zip archive", re.compile(rb"PK\x03\x04")),
    ("gzip archive", re.compile(rb"\x1f\x8b")),
)
_LFS = re.compile(rb"version https://git-lfs\.github\.com/")
_WRECKED_PNG = re.compile(rb".{0,24}IHDR", re.DOTALL)


def sniff(head: bytes) -> str:
    """Name the image format that a file's first :data:`SIGNATURE_BYTES` announce, or ``""``."""
    return _first(_SIGNATURES, head)


def unreadable(head: bytes, kind: str) -> str:
    """Say why no decoder knows a file.

    Parameters
    ----------
    head : bytes
        Its first :data:`LONG_SIGNATURE_BYTES`.
    kind : str
        What :func:`sniff` says.
    """
    if kind:
        return f"damaged {kind} file"
    if _LFS.match(head):
        return "pointer of Git LFS in the image's stead: run git lfs pull"
    if _WRECKED_PNG.match(head):
        return "damaged PNG file: its signature is wrong, as after a transfer as text"
    if what := _first(_IMAGES, head):
        return f"{what}, which is not read: convert it to PNG or TIFF"
    if what := _first(_NO_IMAGES, head):
        return f"{what}, not an image"
    return "not an image that Pillow can read"


def _first(table: _Table, head: bytes) -> str:
    return next((name for name, signature in table if signature.match(head)), "")
