"""What HDF5 believes of texts of any length, looked at before it does.

An HDF5 file holds such a text as a reference of 16 bytes: its length, and where it is in a heap of
texts. The library takes the memory that the length says, up to 4 GiB, before it looks there; and
version 2.0 loops for ever over a heap whose entries do not fill it. So references and the heaps
that they name are read here by themselves, after the HDF5 File Format Specification 3.0: references
of a dataset from its chunks, those of an attribute from the header of its object (sections III.E,
IV.A.1 and IV.A.2.m), at the moment when texts are to be read. What lies elsewhere (attributes
outside the header, which HDF5 keeps for objects of more than eight of them, texts that fill what
was not written) is refused: no program that vggfeat reads files of puts texts there.
"""

from __future__ import annotations

import itertools
import os
import struct
import weakref
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

if TYPE_CHECKING:
    import io

_REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("number", "<u4")])
_ATTRIBUTE, _CONTINUED, _ELSEWHERE = 0x0C, 0x10, 0x15
_SHARED = 0x02  # of a message's flags: it lies where several objects share it
_MOST_BLOCKS = 1_000  # parts of an object's header
_HEAP = b"GCOL\1\0\0\0"
_HEAD = 16  # bytes of a heap before its entries
_FILLED = 2  # H5D_FILL_VALUE_USER_DEFINED
_NOWHERE = b"\xff" * 8  # an address of nothing

Read = Callable[[int, int], bytes]

_members: weakref.WeakValueDictionary[int, io.IOBase] = weakref.WeakValueDictionary()
"""Open HDF5 files that are parts of other files, by the number that HDF5 gives an open file."""


def register_member(file: h5py.File, member: io.IOBase) -> None:
    """Note where the bytes of an open file are that is a part of another file.

    Parameters
    ----------
    file : h5py.File
        As h5py opened it; it holds `member` until it is closed.
    member : binary file
        Its bytes.
    """
    _members[h5py.h5o.get_info(file.id).fileno] = member


def check_dataset(dataset: Any) -> None:
    """Check the texts of a dataset that are of any length.

    Parameters
    ----------
    dataset : h5py.h5d.DatasetID

    Raises
    ------
    ValueError
        They say that together they are longer than the file; or the dataset's chunks are damaged,
        or compressed by other filters than deflate; or its references lie in its header, or fill
        what was not written.
    OSError
        A heap of them is damaged.
    """
    file = h5py.h5i.get_file_id(dataset)
    read = _reader(file)
    _check(file, read, _references(dataset, read))


def check_attribute(holder: h5py.File | h5py.Group | h5py.Dataset, name: str) -> None:
    """Check the texts of an attribute that are of any length, as :func:`check_dataset` does.

    Parameters
    ----------
    holder : h5py.File, Group or Dataset
        What has the attribute.
    name : str

    Raises
    ------
    ValueError, OSError
        As for :func:`check_dataset`; or the attribute lies outside the header of its object.
    """
    file = h5py.h5i.get_file_id(holder.id)
    read, base = _reader(file), _base(file)
    checked = 0
    try:
        for data in _attributes(read, h5py.h5o.get_info(holder.id).addr + base, base):
            stored_name, start = _name_of(data)
            if stored_name == name.encode():
                _check(file, read, data[start:])
                checked += 1
    except struct.error as error:
        raise ValueError("the header of its attributes is damaged") from error
    if not checked:
        raise ValueError(
            f"its attribute {name!r} lies outside the header of its object, where texts of any "
            "length are not looked for. Write the file without libver='latest'"
        )


def _check(file: Any, read: Read, data: bytes) -> None:
    """Check texts by their references."""
    size = file.get_filesize()
    whole = data[: len(data) // _REFERENCE.itemsize * _REFERENCE.itemsize]
    references = np.frombuffer(whole, _REFERENCE)
    length = int(references["length"].sum(dtype=np.uint64))
    if length > size:
        raise ValueError(f"its texts say they are {length:,} bytes long, in a file of {size:,}")
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


def _reader(file: Any) -> Read:
    """Return what reads an open file's bytes."""
    size = file.get_filesize()
    if file.get_access_plist().get_driver() == h5py.h5fd.SEC2:
        descriptor = file.get_vfd_handle()
        return lambda start, count: os.pread(descriptor, min(count, size), start)
    member: Any = _members[h5py.h5o.get_info(file).fileno]

    def read(start: int, count: int) -> bytes:
        member.seek(start)
        data: bytes = member.read(min(count, size))
        return data

    return read


def _base(file: Any) -> int:
    """Return where the addresses of a file count from."""
    return int(file.get_create_plist().get_userblock())


def _references(dataset: Any, read: Read) -> bytes:
    """Read the references of a dataset."""
    made = dataset.get_create_plist()
    if made.get_layout() == h5py.h5d.COMPACT:
        raise ValueError("its texts lie in its header, where they are not looked for")
    if made.fill_value_defined() == _FILLED:
        raise ValueError("a text fills what was not written")
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


def _attributes(read: Read, address: int, base: int) -> list[bytes]:
    """Return the messages of an object's header that hold its attributes."""
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
    messages: list[bytes] = []
    for _ in range(_MOST_BLOCKS):
        if not waiting:
            return messages
        start, size = waiting.pop(0)
        block, at = read(start, size), 0
        head_size = struct.calcsize(form) + ordered
        while at + head_size <= len(block):
            kind, length, flags = struct.unpack_from(form, block, at)
            data = block[at + head_size : at + head_size + length]
            if kind == _ATTRIBUTE and not flags & _SHARED:
                messages.append(data)
            elif kind == _ATTRIBUTE or (
                kind == _ELSEWHERE and data[2 + 2 * (data[1] & 1) :][:8] != _NOWHERE
            ):
                return []  # HDF5 then looks outside the header
            elif kind == _CONTINUED:
                there, count = struct.unpack_from("<QQ", data)
                waiting.append((base + there + ends[0], max(0, count - sum(ends))))
            at += head_size + length
    return []


def _name_of(data: bytes) -> tuple[bytes, int]:
    """Return the name of an attribute, and where in its message its values begin."""
    version, _, *sizes = struct.unpack_from("<BBHHH", data)
    at = 9 if version == 3 else 8
    padded = [-(-size // 8) * 8 if version == 1 else size for size in sizes]
    name = data[at : at + sizes[0]].rstrip(b"\0")
    return name, list(itertools.accumulate(padded, initial=at))[-1]
