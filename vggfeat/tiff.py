"""What a TIFF file says of itself, which decides who can decode it.

Pillow reads many TIFFs, not all of those it opens rightly, and cameras' raw files look like TIFF.
The few tags that tell are read here, from classic and big files of either byte order.
"""

from __future__ import annotations

import io
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["Header", "read_header"]

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _ORIENTATION, _SAMPLES, _STRIP_BYTES, _PLANAR = 273, 274, 277, 279, 284
_TILES, _TILE_BYTES, _FOLDERS, _FORMAT = 324, 325, 330, 339
_SUBFILE, _EXTRAS, _DNG, _PRIVATE = 254, 338, 50706, 50740

_SIZES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MOST_ENTRIES, _MOST_FOLDERS, _MOST_VALUES = 4096, 24, 1 << 20

_MOSAICS = {32803, 34892}  # photometric: colour filter array, linear raw
_CAMERAS = {262, 32767, 32769, 32770, 34713, 65000, 65535}  # compressions of cameras' makers

_PHOTOMETRICS = {
    0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab", 9: "Lab",
    10: "Lab", 32844: "LogL", 32845: "LogLuv",
}  # fmt: skip
_COMPRESSIONS = {
    34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA", 34933: "PNG", 34934: "JPEG XR",
    50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL",
}  # fmt: skip
_PLAIN = {1, 5, 8, 32773, 32946}  # none, LZW, deflate, PackBits, deflate again
_PILLOWS = _PLAIN | {2, 3, 4, 6, 7, 34925, 50000}
_UINT, _INT, _FLOAT = 1, 2, 3

_Folder = dict[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Header:
    """The first page of a TIFF file.

    Attributes
    ----------
    width, height : int
        In pixels, as stored.
    bits : int
        Of each sample; 0 where they differ.
    samples : int
        Of each pixel.
    kind : int
        SampleFormat: 1 unsigned, 2 signed, 3 floating point, others.
    photometric, compression, orientation : int
        The tags' values.
    planar : bool
        Whether samples lie apart.
    alpha : int
        What the first sample beside the colours is: 2 alpha, 1 premultiplied alpha, 0 neither.
    big_endian_big : bool
        Whether it is a BigTIFF in big-endian order.
    pages : bool
        Whether more pages follow, other than smaller copies.
    raw : bool
        Whether it is a camera's raw file, of which plain readers show a preview.
    end : int
        Where the pixels' last byte should lie in the file, plus one; of a raw file, of all pages.
    size : int
        Bytes of the file.
    """

    width: int
    height: int
    bits: int
    samples: int
    kind: int
    photometric: int
    compression: int
    orientation: int
    planar: bool
    alpha: int
    big_endian_big: bool
    pages: bool
    raw: bool
    end: int
    size: int

    @property
    def truncated(self) -> bool:
        """Whether the file ends before its pixels do."""
        return self.end > self.size

    @property
    def white_is_zero(self) -> bool:
        """Whether 0 means white (MinIsWhite)."""
        return self.photometric == 0

    @property
    def wide(self) -> bool:
        """Whether values have more than 8 bits."""
        return self.bits > 8

    @property
    def sane(self) -> bool:
        """Whether the tags could be those of a picture."""
        kinds = {_UINT: range(1, 65), _INT: (8, 16, 32, 64), _FLOAT: (16, 24, 32, 64)}
        known = self.bits in kinds.get(self.kind, range(1, 129)) or not self.bits
        return known and self.width > 0 and self.height > 0 and 0 < self.samples <= 4096

    @property
    def plain(self) -> bool:
        """Whether its compression is one that every reader knows, so that failing means damage."""
        return self.compression in _PLAIN

    @property
    def colours(self) -> int:
        """Samples of a pixel that are its colour; 0 where no conversion to RGB is known."""
        if self.kind not in (_UINT, _INT, _FLOAT):
            return 0
        if self.photometric in (0, 1):
            return 1 if self.samples == 1 or (self.samples == 2 and self.alpha in (1, 2)) else 0
        if self.photometric == 6 and self.compression not in (6, 7) and not self._usual:
            return 0
        return {2: 3, 3: 1, 5: 4, 6: 3, 8: 3 if self._usual else 0}.get(self.photometric, 0)

    @property
    def _usual(self) -> bool:
        return self.kind == _UINT and self.bits == 8

    @property
    def pillow_is_right(self) -> bool:
        """Whether Pillow, where it opens the file, gives the values that are in it.

        Of planes with 16 bits it mixes bytes, signed bytes it takes for unsigned, and of 12 bits in
        a JPEG it gives others.
        """
        if self.big_endian_big or self.compression not in _PILLOWS or not self.colours:
            return False
        if self.kind == _UINT and self.bits in (1, 2, 4, 8):
            return True
        grey = self.samples == 1 and self.photometric in (0, 1)
        if self.compression == 7:
            return False
        if self.kind == _UINT and self.bits == 12:
            return grey and self.compression == 1
        if self.kind == _UINT and self.bits == 16:
            return grey or (not self.planar and self.photometric in (2, 5))
        wide = (_UINT, 32), (_INT, 16), (_INT, 32), (_FLOAT, 32)
        return grey and (self.kind, self.bits) in wide

    def __str__(self) -> str:
        """Return a few words, such as ``12-bit RGB TIFF``."""
        kind = {_INT: " signed", _FLOAT: " floating point"}.get(self.kind, "")
        kind = " complex" if self.kind in (5, 6) else kind
        colour = _PHOTOMETRICS.get(self.photometric, f"photometric {self.photometric}")
        if colour == "grey" and self.samples > 2:
            colour = f"{self.samples}-band"
        words = [f"{self.bits or 'mixed'}-bit{kind} {colour}"]
        words += ["planar"] * (self.planar and self.samples > 1)
        if self.compression in _COMPRESSIONS:
            words.append(f"{_COMPRESSIONS[self.compression]}-compressed")
        return " ".join([*words, "big-endian BigTIFF" if self.big_endian_big else "TIFF"])


def read_header(stream: BinaryIO) -> Header | None:
    """Read a TIFF's tags; None where they cannot be read. The stream is left anywhere."""
    try:
        return _Reader(stream).header()
    except (struct.error, ValueError, OSError, OverflowError, IndexError, KeyError):
        return None


class _Reader:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._size = stream.seek(0, os.SEEK_END)
        head = self._bytes(0, 16)
        self._order = {b"II": "<", b"MM": ">"}[head[:2]]
        self._big = self._unpack("H", head[2:4])[0] == 43
        self._first = self._unpack("Q", head[8:16])[0] if self._big else self._offset(4)
        self._phase_one = head[8:12] in (b"IIII", b"MMMM")

    def header(self) -> Header:
        folders = self._folders()
        first = folders[0]
        copies = [folder.get(_SUBFILE, (0,))[0] & 1 for folder in folders[1:]]
        pages = not all(copies)
        inner = [offset for folder in folders for offset in folder.get(_FOLDERS, ())]
        for offset in inner[:_MOST_FOLDERS]:
            with suppress(struct.error, ValueError, OSError):
                folders.append(self._folder(offset)[0])
        raw = _DNG in first or _PRIVATE in first or self._phase_one
        raw |= any(folder.get(_PHOTOMETRIC, (0,))[0] in _MOSAICS for folder in folders)
        raw |= any(folder.get(_COMPRESSION, (1,))[0] in _CAMERAS for folder in folders)
        bits = first.get(_BITS, (1,))
        end = max(_end(folder) for folder in (folders if raw else folders[:1]))
        return Header(
            width=first[_WIDTH][0],
            height=first[_HEIGHT][0],
            bits=bits[0] if len(set(bits)) == 1 else 0,
            samples=first.get(_SAMPLES, (1,))[0],
            kind=first.get(_FORMAT, (_UINT,))[0],
            photometric=first.get(_PHOTOMETRIC, (1,))[0],
            compression=first.get(_COMPRESSION, (1,))[0],
            orientation=first.get(_ORIENTATION, (1,))[0],
            planar=first.get(_PLANAR, (1,))[0] == 2,
            alpha=first.get(_EXTRAS, (0,))[0],
            big_endian_big=self._big and self._order == ">",
            pages=pages,
            raw=raw,
            end=end,
            size=self._size,
        )

    def _folders(self) -> list[_Folder]:
        """Return the first pages' folders; that of the first page must be whole."""
        folder, following = self._folder(self._first)
        folders, seen = [folder], {0, self._first}
        with suppress(struct.error, ValueError, OSError):
            while following not in seen and len(folders) < _MOST_FOLDERS:
                seen.add(following)
                folder, following = self._folder(following)
                folders += [folder] * (_WIDTH in folder)
        return folders

    def _folder(self, at: int) -> tuple[_Folder, int]:
        """Return a folder's numbers by tag, and where the next one lies; 0 for none."""
        wide = 8 if self._big else 2
        (count,) = self._unpack("Q" if self._big else "H", self._bytes(at, wide))
        if not 0 < count <= _MOST_ENTRIES:
            raise ValueError(f"{count} tags")
        size = 20 if self._big else 12
        table = self._bytes(at + wide, count * size)
        found: _Folder = {}
        for start in range(0, len(table), size):
            tag, kind = self._unpack("HH", table[start : start + 4])
            if kind in _SIZES:
                found.setdefault(tag, self._values(kind, table[start + 4 : start + size]))
        return {tag: values for tag, values in found.items() if values}, self._following(
            at + wide + count * size
        )

    def _following(self, at: int) -> int:
        try:
            return self._offset(at)
        except (struct.error, ValueError):
            return 0

    def _values(self, kind: int, entry: bytes) -> tuple[int, ...]:
        half = len(entry) // 2
        (count,) = self._unpack("Q" if self._big else "I", entry[:half])
        length = count * struct.calcsize("<" + _SIZES[kind])
        if count > _MOST_VALUES:
            return ()
        if length > half:
            (at,) = self._unpack("Q" if self._big else "I", entry[half:])
            try:
                data = self._bytes(at, length)
            except ValueError:
                return ()
        else:
            data = entry[half : half + length]
        return self._unpack(_SIZES[kind] * count if count < 64 else f"{count}{_SIZES[kind]}", data)

    def _offset(self, at: int) -> int:
        kind = "Q" if self._big else "I"
        return self._unpack(kind, self._bytes(at, struct.calcsize("<" + kind)))[0]

    def _bytes(self, at: int, count: int) -> bytes:
        if not 0 <= at <= self._size:
            raise ValueError(f"byte {at} of {self._size}")
        self._stream.seek(at, io.SEEK_SET)
        data = self._stream.read(count)
        if len(data) < count:
            raise ValueError(f"{len(data)} of {count} bytes at {at}")
        return data

    def _unpack(self, kinds: str, data: bytes) -> tuple[int, ...]:
        return struct.unpack(self._order + kinds, data)


def _end(folder: _Folder) -> int:
    """Return where the last byte of a page's pixels should lie, plus one."""
    offsets = folder.get(_TILES) or folder.get(_STRIPS, ())
    counts = folder.get(_TILE_BYTES) or folder.get(_STRIP_BYTES, ())
    return max((at + count for at, count in zip(offsets, counts, strict=False)), default=0)
