"""TIFF files of many kinds, and a camera's raw file, written with nothing of vggfeat's."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

Tags = dict[int, tuple[str, tuple[Any, ...]]]


def tiff(
    data: bytes,
    width: int,
    height: int,
    bits: tuple[int, ...] = (8,),
    *,
    photometric: int = 1,
    kind: int = 1,
    planes: int = 1,
    big: bool = False,
    order: str = "<",
    more: Tags | None = None,
    pages: int = 1,
    tags_first: bool = False,
) -> bytes:
    """Return a TIFF of one strip a plane; `more` are further tags: type and values by number."""
    samples = len(bits)
    strip = len(data) // planes
    head = 16 if big else 8
    if tags_first:
        whole = tiff(data, width, height, bits, photometric=photometric, kind=kind, more=more)
        tail = len(whole) - head - len(data) - len(data) % 2
        head += tail
    strips = tuple(head + strip * plane for plane in range(planes))
    tags: Tags = {
        256: ("I", (width,)), 257: ("I", (height,)), 258: ("H", bits), 259: ("H", (1,)),
        262: ("H", (photometric,)), 273: ("I", strips), 277: ("H", (samples,)),
        278: ("I", (height,)), 279: ("I", (strip,) * planes),
        284: ("H", (2 if planes > 1 else 1,)), 339: ("H", (kind,) * samples),
        **(more or {}),
    }  # fmt: skip
    first = head + len(data) + len(data) % 2
    if tags_first:
        return struct.pack("<2sHI", b"II", 42, 8) + _folder(tags, 8, False, "<", True) + data
    out = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    out += struct.pack(order + "HHQ", 8, 0, first) if big else struct.pack(order + "I", first)
    out += data + bytes(len(data) % 2)
    for page in range(pages):
        out += _folder(tags, len(out), big, order, last=page == pages - 1)
    return out


def _folder(tags: Tags, at: int, big: bool, order: str, last: bool) -> bytes:
    count, offset, field = ("Q", "Q", 8) if big else ("H", "I", 4)
    size = struct.calcsize(order + count) + len(tags) * (20 if big else 12) + field
    table, beyond = struct.pack(order + count, len(tags)), b""
    for tag in sorted(tags):
        kind, values = tags[tag]
        raw = struct.pack(f"{order}{len(values)}{kind[0]}", *values)
        number = {"B": 1, "H": 3, "I": 4, "i": 9}[kind[0]]
        amount = len(values)
        if kind[1:]:  # rationals: "I/" and "i/"
            number, amount = {"I": 5, "i": 10}[kind[0]], len(values) // 2
        table += struct.pack(order + "HH" + offset, tag, number, amount)
        if len(raw) <= field:
            table += raw.ljust(field, b"\0")
        else:
            table += struct.pack(order + offset, at + size + len(beyond))
            beyond += raw + bytes(len(raw) % 2)
    return table + struct.pack(order + offset, 0 if last else at + size + len(beyond)) + beyond


def packed(values: np.ndarray[Any, Any], bits: int) -> bytes:
    """Return rows of values of `bits` bits each, most significant first, rows on whole bytes."""
    shifts = np.arange(bits - 1, -1, -1)
    rows = (values[..., None].astype(int) >> shifts & 1).reshape(len(values), -1).astype(np.uint8)
    return np.packbits(rows, axis=1).tobytes()


def dng(rgb: np.ndarray[Any, Any]) -> bytes:
    """Return a DNG (linear sensor values, 14 bits, RGGB) of linear RGB in 0..1, shape (H, W, 3)."""
    height, width = rgb.shape[:2]
    mosaic = np.empty((height, width), "<u2")
    for y, x, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        mosaic[y::2, x::2] = np.rint(rgb[y::2, x::2, channel] * 16383)
    # XYZ to the camera's colours: those of linear sRGB.
    matrix = (32406, -15372, -4986, -9689, 18758, 415, 557, -2040, 10570)
    more: Tags = {
        274: ("H", (1,)), 271: ("B", tuple(b"Test\0")), 272: ("B", tuple(b"Camera\0")),
        33421: ("H", (2, 2)), 33422: ("B", (0, 1, 1, 2)), 50706: ("B", (1, 4, 0, 0)),
        50708: ("B", tuple(b"Test Camera\0")), 50714: ("H", (0,)), 50717: ("I", (16383,)),
        50721: ("i/", tuple(n for value in matrix for n in (value, 10000))),
        50728: ("I/", (1, 1, 1, 1, 1, 1)), 50778: ("H", (21,)),
    }  # fmt: skip
    return tiff(mosaic.tobytes(), width, height, (16,), photometric=32803, more=more)
