"""How long texts of any length say they are, read before HDF5 takes the memory for them.

An HDF5 file holds a text of any length as a reference of 16 bytes: its length, and where it is. The
library believes the length, of up to 4 GiB, before it looks there. So these references are read
here by themselves, after the HDF5 File Format Specification 3.0: those of datasets from their
chunks, those of attributes from the header of their object (sections IV.A.1, IV.A.2.m and VII).
"""

from __future__ import annotations

import itertools
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np

_REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("number", "<u4")])
_ATTRIBUTE, _CONTINUED = 0x0C, 0x10
_MOST_BLOCKS = 1_000  # parts of an object's header

Read = Callable[[int, int], bytes]


def dataset_lengths(dataset: Any) -> int | None:
    """Return the bytes of a dataset's texts together, or None where they cannot be told.

    Parameters
    ----------
    dataset : h5py.h5d.DatasetID
        Of texts of any length.

    Raises
    ------
    ValueError
        Its chunks are damaged, or compressed by other filters than HDF5's own.
    """
    read = _reader(dataset)
    count = int(np.prod(dataset.shape, dtype=np.int64))
    if read is None or not count:
        return None
    made = dataset.get_create_plist()
    if made.get_layout() == h5py.h5d.CONTIGUOUS:
        offset = dataset.get_offset()
        return 0 if offset is None else _sum(read(offset, count * _REFERENCE.itemsize))
    if made.get_layout() != h5py.h5d.CHUNKED:
        return None
    total = 0
    each = int(np.prod(made.get_chunk(), dtype=np.int64)) * _REFERENCE.itemsize
    for number in range(dataset.get_num_chunks()):
        chunk = dataset.get_chunk_info(number)
        data = read(chunk.byte_offset, chunk.size)
        total += _sum(_unpacked(data, made, chunk.filter_mask, each))
    return total


def attribute_lengths(held: Any, name: str) -> int | None:
    """Return the bytes of an attribute's texts together, or None where they cannot be told.

    Parameters
    ----------
    held : h5py.File, Group or Dataset
        What has the attribute, which is of texts of any length.
    name : str
    """
    read = _reader(held.id)
    if read is None:
        return None
    address = h5py.h5o.get_info(held.id).addr + held.file.userblock_size
    try:
        for data in _attributes(read, address):
            found, start = _name_of(data)
            if found == name.encode():
                return _sum(data[start:])
    except struct.error:
        return None
    return None  # one of so many attributes that they lie elsewhere


def _sum(references: bytes) -> int:
    whole = references[: len(references) // _REFERENCE.itemsize * _REFERENCE.itemsize]
    return int(np.frombuffer(whole, _REFERENCE)["length"].sum(dtype=np.uint64))


def _reader(held: Any) -> Read | None:
    """Return what reads the file's bytes; None where it is no plain file of the system."""
    file = h5py.h5i.get_file_id(held)
    if file.get_access_plist().get_driver() != h5py.h5fd.SEC2:
        return None
    descriptor = file.get_vfd_handle()
    return lambda start, count: os.pread(descriptor, count, start)


def _unpacked(data: bytes, made: Any, mask: int, size: int) -> bytes:
    """Undo the filters of a chunk, in their opposite order."""
    for number in reversed(range(made.get_nfilters())):
        code = made.get_filter(number)[0]
        if mask >> number & 1:
            continue
        if code == h5py.h5z.FILTER_DEFLATE:
            try:
                data = zlib.decompressobj().decompress(data, size + 4)
            except zlib.error as error:
                raise ValueError(f"its texts are damaged: {error}") from error
        elif code == h5py.h5z.FILTER_SHUFFLE:
            whole = np.frombuffer(data, np.uint8)[: len(data) // 16 * 16]
            data = whole.reshape(16, -1).T.tobytes()
        elif code == h5py.h5z.FILTER_FLETCHER32:
            data = data[:-4]
        else:
            raise ValueError("its texts are compressed by another filter than deflate")
    return data


def _attributes(read: Read, address: int) -> Iterator[bytes]:
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
                waiting.append((there + ends[0], max(0, count - sum(ends))))
            at += head_size + length


def _name_of(data: bytes) -> tuple[bytes, int]:
    """Return the name of an attribute, and where in its message its values begin."""
    version, _, *sizes = struct.unpack_from("<BBHHH", data)
    at = 9 if version == 3 else 8
    padded = [-(-size // 8) * 8 if version == 1 else size for size in sizes]
    name = data[at : at + sizes[0]].rstrip(b"\0")
    return name, list(itertools.accumulate(padded, initial=at))[-1]
