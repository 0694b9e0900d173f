"""What lies where in one zip file, and reading it from there.

A zip may come from a stranger: none of its members shares bytes with another, none unpacks to more
than deflate can make of it, and what is unpacked is checked against the size and the checksum that
the archive states.
"""

from __future__ import annotations

import calendar
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

from vggfeat.errors import ImageError, SourceError
from vggfeat.files import IMAGE_EXTENSIONS, LARGEST_RATIO, encode_path, extension
from vggfeat.sections import Section
from vggfeat.sources.members import Location, Members, clean, hidden
from vggfeat.storage.places import Inner, Place, State, check_unchanged, held
from vggfeat.zip_members import open_archive

LARGEST = 1 << 30
"""Bytes of the largest member that is unpacked: more than any image within the limit of pixels."""

_HEADER = struct.Struct("<4s22xHH")  # of a member: signature, lengths of its name and extra field
_BLOCK = 1 << 20
_DAMAGED = "damaged: it is not what the archive says of it"
_ENCRYPTED = 1
_METHODS = {1: "shrink", 6: "implode", 9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard",
            95: "XZ", 97: "WavPack", 98: "PPMd", 99: "AES"}  # fmt: skip
_UNLIKE = frozenset({
    ".csv", ".gz", ".htm", ".html", ".ipynb", ".js", ".json", ".jsonl", ".mat", ".md", ".npy",
    ".npz", ".parquet", ".pdf", ".pkl", ".py", ".tsv", ".txt", ".xml", ".yaml", ".yml",
})  # fmt: skip
"""Extensions of members that are not looked into: annotations lie by the thousand beside images."""


@dataclass(frozen=True, slots=True)
class ZipLocation(Location):
    """Where a member lies in a zip file.

    Attributes
    ----------
    start, end : int
        Of its header, and of what comes after its last byte: where the next member begins.
    packed : int
        Bytes that it takes in the archive.
    method : int
        How they are compressed.
    crc : int
        CRC-32 of the unpacked bytes.
    """

    start: int
    end: int
    packed: int
    method: int
    crc: int

    def open(self) -> BinaryIO:
        """Unpack the member, and check what comes out; see :meth:`Location.open`."""
        if self.reason:
            raise ImageError(self.reason)
        # Header, name and extra field take at most so much, where something lies between members.
        most = _HEADER.size + 2 * 0xFFFF + self.packed
        part = self.place.part(self.start, min(self.end - self.start, most), self.state)
        try:
            packed = self._packed(part)
            if self.method == zipfile.ZIP_STORED:
                self._check(_blocks(packed))
                packed.seek(0)
                return io.BufferedReader(packed)
            file = held(self._checked(_inflated(packed, self.size)))
            try:
                check_unchanged(part)
            except BaseException:
                file.close()
                raise
        except BaseException:
            part.close()
            raise
        part.close()
        return file

    def peek(self, count: int) -> bytes:
        """Return the first bytes; none where the member cannot be read."""
        if self.reason:
            return b""
        most = _HEADER.size + 2 * 0xFFFF + min(self.packed, 4 * count + 1024)
        try:
            with self.place.part(self.start, min(self.end - self.start, most), self.state) as part:
                packed = self._packed(part, whole=False)
                if self.method == zipfile.ZIP_STORED:
                    return packed.read(count) or b""
                return zlib.decompressobj(-zlib.MAX_WBITS).decompress(
                    packed.read(4 * count + 1024) or b"", count
                )
        except (ImageError, zlib.error):
            return b""

    def _packed(self, part: BinaryIO, *, whole: bool = True) -> Inner:
        """Find the compressed bytes: they begin behind a header whose size it says itself."""
        header = part.read(_HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(b"PK\x03\x04"):
            raise ImageError(_DAMAGED)
        _, name, extra = _HEADER.unpack(header)
        start = _HEADER.size + name + extra
        if whole and self.start + start + self.packed > self.end:
            raise ImageError(_DAMAGED)
        return Inner(part, start, self.packed)

    def _check(self, blocks: Iterator[bytes]) -> None:
        for _ in self._checked(blocks):
            pass

    def _checked(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        size = crc = 0
        for block in blocks:
            size, crc = size + len(block), zlib.crc32(block, crc)
            yield block
        if (size, crc) != (self.size, self.crc):
            raise ImageError(_DAMAGED)


class ZipMembers(Members):
    """The images in one zip file.

    Parameters
    ----------
    place : Place
        The file.

    Raises
    ------
    SourceError
        It cannot be read, is no zip file, or is made to unpack to more than was packed.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        try:
            with place.open() as file:
                state = place.state(file)
                with open_archive(file) as archive:
                    infos, end = archive.infolist(), archive.start_dir
        except zipfile.BadZipFile as error:
            raise SourceError(
                f"{place.name!r} is not a zip archive, or incomplete: {_said(error)}. Fetch it "
                "again; of one in several pieces (.z01, .zip) join them first: zip -s 0."
            ) from error
        except (ImageError, OSError, ValueError, NotImplementedError, struct.error) as error:
            raise SourceError(f"Cannot read {place.name!r}: {_said(error)}.") from error
        order = sorted(infos, key=lambda one: one.header_offset)
        ends = {id(one): after.header_offset for one, after in pairwise(order)}
        for info in infos:
            self._take(info, place, state, ends.get(id(info), end))

    def _take(self, info: zipfile.ZipInfo, place: Place, state: State, end: int) -> None:
        name = clean(_name(info))
        if info.is_dir() or name.endswith("/") or not name or hidden(name):
            return
        location = ZipLocation(
            place, state, info.file_size, _mtime(info), _reason(info), info.header_offset, end,
            info.compress_size, info.compress_type, info.CRC,
        )  # fmt: skip
        if location.reason and extension(name) in IMAGE_EXTENSIONS:
            self.add(encode_path(name), location)
        elif extension(name) in _UNLIKE:
            self.left_out += 1
        else:
            self.take(name, location, location.peek)


def _name(info: zipfile.ZipInfo) -> str:
    """Return a member's name: UTF-8, as Macs and Linux write it also where they do not say so."""
    name = info.filename
    if not info.flag_bits & 0x800 and not name.isascii():
        with suppress(UnicodeEncodeError, UnicodeDecodeError):  # then Windows wrote it
            name = name.encode("cp437").decode("utf-8")
    # Windows tools of old wrote its own slashes.
    return name.replace("\\", "/") if info.create_system == 0 else name


def _reason(info: zipfile.ZipInfo) -> str:
    """Say why a member cannot be read; empty where it can."""
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0  # Unix
    if kind not in (0, stat.S_IFREG):
        return "a symbolic link" if kind == stat.S_IFLNK else "not a file but a device or FIFO"
    if info.flag_bits & _ENCRYPTED:
        return "encrypted: unpack the archive with its password, and give the folder"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        method = _METHODS.get(info.compress_type, f"method {info.compress_type}")
        return f"compressed by {method}: unpack the archive, and give the folder"
    stored = info.compress_type == zipfile.ZIP_STORED
    if info.header_offset < 0 or (stored and info.compress_size != info.file_size):
        return _DAMAGED
    if info.file_size > min(LARGEST, LARGEST_RATIO * info.compress_size + _BLOCK):
        return f"unpacks to {info.file_size:,} bytes, more than an image has"
    return ""


def _mtime(info: zipfile.ZipInfo) -> int:
    """Return a member's time as if it were UTC, since zips keep no time zone; 0 for none."""
    try:
        return max(0, calendar.timegm((*info.date_time, 0, 1, 0))) * 1_000_000_000
    except (ValueError, OverflowError):
        return 0


def _blocks(file: Section) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def _inflated(file: Section, size: int) -> Iterator[bytes]:
    """Unpack deflated bytes to no more than `size` and one."""
    left = size + 1
    unpack = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for block in _blocks(file):
            while block and left > 0 and not unpack.eof:
                data = unpack.decompress(block, min(left, _BLOCK))
                block, left = unpack.unconsumed_tail, left - len(data)
                yield data
        if left > 0:
            yield unpack.flush()[:left]
    except zlib.error as error:
        raise ImageError(_DAMAGED) from error


def _said(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
