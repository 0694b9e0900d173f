"""The file of an index's vectors: a matrix of little-endian float32, row after row, nothing else.

``numpy.fromfile(path, "<f4").reshape(-1, d)`` reads it. It is only ever appended to: what lies
beyond the vectors that the catalogue counts was being written when a run was killed.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SearchError
from vggfeat.index.named_files import descriptor, open_plain

Vectors = npt.NDArray[np.float32]
_BLOCK_BYTES = 8 << 20


class VectorWriter:
    """Appends vectors to a file.

    Parameters
    ----------
    path : Path
        Made where there is none.
    dimension : int
        Numbers d of a vector.
    count : int
        Vectors that are there already; what lies beyond them is cut off.

    Attributes
    ----------
    written : int
        Vectors that were appended.
    crc32 : int
        CRC-32 of their bytes.
    """

    def __init__(self, path: Path, dimension: int, count: int = 0) -> None:
        self.written = 0
        self.crc32 = 0
        self._path = path
        self._file = descriptor(path, os.O_RDWR | (0 if count else os.O_CREAT))
        os.ftruncate(self._file, 4 * dimension * count)
        os.lseek(self._file, 0, os.SEEK_END)

    def write(self, vectors: Vectors) -> None:
        """Append vectors, shape (n, d)."""
        view = _bytes(vectors)
        self.crc32 = zlib.crc32(view, self.crc32)
        self.written += len(vectors)
        while view:
            view = view[os.write(self._file, view) :]

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        os.fsync(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


def opened(path: Path, count: int, dimension: int, mapped: bool) -> Vectors:
    """Open the first vectors of a file, shape (count, dimension).

    Parameters
    ----------
    mapped : bool
        Leave them on the disk, from where the operating system brings what is looked at;
        otherwise read them into memory.

    Raises
    ------
    SearchError
        The file is missing, or shorter than so many vectors.
    """
    needed = 4 * count * dimension
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size < needed:
            raise SearchError(
                f"{path} was cut short: it has {size} bytes, and {count} vectors of {dimension} "
                f"numbers take {needed}. Copy the index again, or build it anew."
            )
        if mapped:
            mapping = np.memmap(file, "<f4", "r", shape=(count, dimension))
            return np.asarray(mapping).view(np.ndarray)
        return np.fromfile(file, "<f4", count * dimension).reshape(count, dimension)


def check(path: Path, vectors: Vectors, parts: Sequence[tuple[int, int]]) -> None:
    """Compare vectors with the CRC-32 of each part of them.

    Raises
    ------
    SearchError
        A part has another one.
    """
    start = 0
    for count, crc32 in parts:
        if _crc32(vectors[start : start + count]) != crc32:
            raise SearchError(
                f"{path} is damaged: vectors {start} to {start + count - 1} do not have their "
                "CRC-32. Copy the index again from where it came, or build it anew."
            )
        start += count


def _crc32(vectors: Vectors) -> int:
    crc32, step = 0, max(1, _BLOCK_BYTES // (4 * vectors.shape[1]))
    for start in range(0, len(vectors), step):
        crc32 = zlib.crc32(_bytes(vectors[start : start + step]), crc32)
    return crc32


def _bytes(vectors: Vectors) -> memoryview:
    return memoryview(np.ascontiguousarray(vectors, "<f4").data).cast("B")
