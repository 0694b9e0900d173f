"""What HDF5 believes of texts of any length, looked at before it does.

An HDF5 file holds such a text as a reference of 16 bytes: its length, and where it is in a heap of
texts. The library takes the memory that the length says, up to 4 GiB, before it looks there; and
version 2.0 loops for ever over a heap whose entries do not fill it. So references and the heaps
that they name are read here by themselves, after the HDF5 File Format Specification 3.0: references
of a dataset from its chunks, those of an attribute from the header of its object (sections III.E,
IV.A.1 and IV.A.2.m), at the moment when texts are to be read.
"""

from __future__ import annotations

import itertools
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

if TYPE_CHECKING:
    import io

_REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("number", "<u4")])
_ATTRIBUTE, _CONTINUED = 0x0C, 0x10
_MOST_BLOCKS = 1_000  # parts of an object's header
_HEAP = b"GCOL\1\0\0\0"
_HEAD = 16  # bytes of a heap before its entries
_SEARCHED = 16 << 20  # bytes at either end of a member

Read = Callable[[int, int], bytes]


def check_dataset(dataset: Any) -> None:
    """Check the texts of a dataset that are of any length.

    Parameters
    ----------
    dataset : h5py.h5d.DatasetID

    Raises
    ------
    ValueError
        They say that together they are longer than the file; or the dataset's chunks are damaged,
        or compressed by other filters than deflate.
    OSError
        A heap of them is damaged.
    """
    file = h5py.h5i.get_file_id(dataset)
    if (read := _reader(file)) is not None:
        _check(file, read, _references(dataset, read))


def check_attribute(held: h5py.File | h5py.Group | h5py.Dataset, name: str) -> None:
    """Check the texts of an attribute that are of any length, as :func:`check_dataset` does.

    One of so many attributes that they lie outside the header of their object is not looked at.

    Parameters
    ----------
    held : h5py.File, Group or Dataset
        What has the attribute.
    name : str
    """
    file = h5py.h5i.get_file_id(held.id)
    if (read := _reader(file)) is None:
        return
    header = h5py.h5o.get_info(held.id).addr + _base(file)
    try:
        for data in _attributes(read, header, _base(file)):
            found, start = _name_of(data)
            if found == name.encode():
                _check(file, read, data[start:])
    except struct.error as error:
        raise ValueError("the header of its attributes is damaged") from error


def check_member(member: io.IOBase) -> None:
    """Check heaps of texts in an HDF5 file that is a part of another file.

    Nobody gives its bytes by their place once HDF5 has opened it, so all heaps in its first and
    last 16 MiB are checked.

    Raises
    ------
    OSError
        A heap is damaged.
    """
    size = member.seek(0, os.SEEK_END)
    for start, end in ((0, min(size, _SEARCHED)), (max(_SEARCHED, size - _SEARCHED), size)):
        member.seek(start)
        data = member.read(max(0, end - start))
        places = [match.start() for match in re.finditer(re.escape(_HEAP), data)]
        heaps = [data[at : at + _size_of(data[at : at + _HEAD])] for at in places]
        if end < size and heaps and len(heaps[-1]) < _size_of(heaps[-1]):
            del heaps[-1]  # it ends behind what was read
        _check_heaps(heaps)


def _check(file: Any, read: Read, data: bytes) -> None:
    """Check texts by their references."""
    size = file.get_filesize()
    whole = data[: len(data) // _REFERENCE.itemsize * _REFERENCE.itemsize]
    references = np.frombuffer(whole, _REFERENCE)
    told = int(references["length"].sum(dtype=np.uint64))
    if told > size:
        raise ValueError(f"its texts say they are {told:,} bytes long, in a file of {size:,}")
    heaps: list[bytes] = []
    for address in np.unique(references["heap"][references["length"] > 0]).tolist():
        head = read(address + _base(file), _HEAD) if address < size else b""
        if head[:8] != _HEAP:
            raise OSError("its texts lie in no heap")
        heaps.append(read(address + _base(file), min(_size_of(head), size)))
    _check_heaps(heaps)


def _size_of(head: bytes) -> int:
    """Return how long a heap says it is."""
    return int.from_bytes(head[8:_HEAD], "little")


def _check_heaps(heaps: Sequence[bytes]) -> None:
    """Refuse heaps that are not as long as they say, or that their entries do not fill.

    A heap has a head of 16 bytes with its size, and then entries: a number, a count, a size, and
    the text up to a multiple of 8 bytes. Entry 0 is the room at the end; its size counts its head.
    """
    refusal = OSError("a heap of texts is damaged")
    sizes = np.array([len(heap) for heap in heaps], np.int64)
    if any(len(heap) < _HEAD or len(heap) != _size_of(heap) or len(heap) % 8 for heap in heaps):
        raise refusal
    words = np.frombuffer(b"".join(heaps), "<u8")
    ends = np.cumsum(sizes)
    at = ends - sizes + _HEAD
    while len(at := at[more := at + 16 <= ends]):  # all heaps at a time, an entry of each
        ends = ends[more]
        number, length = words[at >> 3] & 0xFFFF, words[(at >> 3) + 1]
        taken = np.where(number > 0, ((length + 7) & ~np.uint64(7)) + 16, length)
        room = (ends - at).astype(np.uint64)
        if ((length > room) | (taken > room) | (taken == 0) | (taken & 7 > 0)).any():
            raise refusal
        at = at + taken.astype(np.int64)


def _reader(file: Any) -> Read | None:
    """Return what reads a file's bytes; None where it is no plain file of the system."""
    if file.get_access_plist().get_driver() != h5py.h5fd.SEC2:
        return None
    descriptor = file.get_vfd_handle()
    return lambda start, count: os.pread(descriptor, count, start)


def _base(file: Any) -> int:
    """Return where the addresses of a file count from."""
    return int(file.get_create_plist().get_userblock())


def _references(dataset: Any, read: Read) -> bytes:
    """Read the references of a dataset."""
    made = dataset.get_create_plist()
    if made.get_layout() == h5py.h5d.CHUNKED:
        size = int(np.prod(made.get_chunk(), dtype=np.int64)) * _REFERENCE.itemsize
        places = [dataset.get_chunk_info(number) for number in range(dataset.get_num_chunks())]
        pieces = (dataset.read_direct_chunk(place.chunk_offset) for place in places)
        return b"".join(_unpacked(data, mask, made, size) for mask, data in pieces)
    offset = dataset.get_offset()  # None where nothing was written
    size = int(np.prod(dataset.shape, dtype=np.int64)) * _REFERENCE.itemsize
    return b"" if offset is None else read(offset, size)


def _unpacked(data: bytes, mask: int, made: Any, size: int) -> bytes:
    """Undo the filters of a chunk, in their opposite order."""
    for number in reversed(range(made.get_nfilters())):
        code = made.get_filter(number)[0]
        if mask >> number & 1:
            continue
        if code == h5py.h5z.FILTER_DEFLATE:
            try:
                data = zlib.decompressobj().decompress(data, size)
            except zlib.error as error:
                raise ValueError(f"its texts are damaged: {error}") from error
        elif code == h5py.h5z.FILTER_SHUFFLE:
            whole = np.frombuffer(data, np.uint8)[: len(data) // 16 * 16]
            data = whole.reshape(16, -1).T.tobytes()
        else:
            raise ValueError("its texts are compressed by another filter than deflate")
    return data


def _attributes(read: Read, address: int, base: int) -> Iterator[bytes]:
    """Give the messages of an object's header that hold its attributes."""
    head = read(address, 16)
    if head[:4] == b"OHDR":
        flags = head[5]
        at = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        size = int.from_bytes(read(address + at, width), "little")
        waiting = [(address + at + width, size)]
        form, ordered, ends = "<BHB", 2 if flags & 0x04 else 0, (4, 4)
    else:
        (size,) = struct.unpack_from("<I", head, 8)
        waiting, form, ordered, ends = [(address + 16, size)], "<HHB3x", 0, (0, 0)
    for _ in range(_MOST_BLOCKS):
        if not waiting:
            return
        start, size = waiting.pop(0)
        block, at = read(start, size), 0
        head_size = struct.calcsize(form) + ordered
        while at + head_size <= len(block):
            kind, length, _flags = struct.unpack_from(form, block, at)
            data = block[at + head_size : at + head_size + length]
            if kind == _ATTRIBUTE:
                yield data
            elif kind == _CONTINUED:
                there, count = struct.unpack_from("<QQ", data)
                waiting.append((base + there + ends[0], max(0, count - sum(ends))))
            at += head_size + length


def _name_of(data: bytes) -> tuple[bytes, int]:
    """Return the name of an attribute, and where in its message its values begin."""
    version, _, *sizes = struct.unpack_from("<BBHHH", data)
    at = 9 if version == 3 else 8
    padded = [-(-size // 8) * 8 if version == 1 else size for size in sizes]
    name = data[at : at + sizes[0]].rstrip(b"\0")
    return name, list(itertools.accumulate(padded, initial=at))[-1]
