"""Members of a zip archive that a stranger may have made, read from their places."""

from __future__ import annotations

import io
import zipfile
from typing import BinaryIO

from vggfeat.files import LARGEST_RATIO
from vggfeat.sections import Section

_HEADER = 30  # bytes of a local header before the name
_SHOWN = 100  # characters of a name
_LARGEST = 1 << 33  # bytes of a compressed member that is unpacked into memory


def open_archive(file: BinaryIO) -> zipfile.ZipFile:
    """Open an archive for reading, whose members must lie apart from one another.

    Parameters
    ----------
    file : binary file
        At any place.

    Raises
    ------
    ValueError
        Some bytes are more than one member's: few of them would unpack to very many.
    zipfile.BadZipFile
        It is no archive, or damaged.
    """
    archive = zipfile.ZipFile(file)
    end = archive.start_dir
    for info in sorted(archive.infolist(), key=lambda one: one.header_offset, reverse=True):
        if info.header_offset + _HEADER + info.compress_size > end:
            raise ValueError(f"its member {info.filename[:_SHOWN]} overlaps what follows it.")
        end = info.header_offset
    return archive


def read(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Return a small member.

    Parameters
    ----------
    archive : zipfile.ZipFile
        The archive.
    name : str
        Of the member.
    most : int
        Bytes that it may have.

    Raises
    ------
    KeyError
        There is no such member.
    ValueError
        It is larger, or of another size than the archive says.
    """
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"its member {name} is compressed otherwise than by deflate.")
    with archive.open(info) as member:  # by no means more than it says: that may be a lie
        data = member.read(min(most, info.file_size) + 1)
    if len(data) > most:
        raise ValueError(f"its member {name} has more than {most:,} bytes.")
    if len(data) != info.file_size:
        raise ValueError(f"its member {name} is damaged.")
    return data


def opened(archive: zipfile.ZipFile, file: BinaryIO, name: str) -> Section | io.BytesIO:
    """Return a member as a file that can be read in any order.

    Parameters
    ----------
    archive : zipfile.ZipFile
        The archive.
    file : binary file
        The same.
    name : str
        Of the member.

    Raises
    ------
    KeyError
        There is no such member.
    ValueError
        The archive is damaged, or the member is compressed and too large for memory.
    """
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        if info.file_size > min(_LARGEST, LARGEST_RATIO * info.compress_size + (1 << 20)):
            raise ValueError(f"its member {name} is compressed, and too large for that.")
        return io.BytesIO(read(archive, name, _LARGEST))
    file.seek(info.header_offset)
    header = file.read(_HEADER)
    if len(header) < _HEADER or not header.startswith(b"PK\x03\x04"):
        raise ValueError("it is truncated or damaged.")
    names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    start = info.header_offset + _HEADER + names
    if start + info.file_size > file.seek(0, io.SEEK_END):
        raise ValueError("it is truncated or damaged.")
    return Section(file, start, info.file_size)
