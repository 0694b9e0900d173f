"""Rows of contiguous HDF5 datasets written in place, without the HDF5 library.

The library keeps metadata in memory and writes it when it likes, so a kill can catch a file
between two states. Bytes inside datasets that are already allocated carry no metadata: writing
them with the operating system's own calls cannot make a file unreadable.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import StoreLockedError
from vggfeat.failures import writing
from vggfeat.locking import share

BLOCK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Region:
    """Where a dataset's values lie in the file.

    Attributes
    ----------
    offset : int
        Byte in the file at which row 0 begins.
    rows : int
        Number of rows.
    row_bytes : int
        Size of one row.
    """

    offset: int
    rows: int
    row_bytes: int


class RowFile:
    """A store opened for writing rows.

    Parameters
    ----------
    path : Path
        The file.
    regions : dict of str to Region
        Its datasets by name.
    """

    def __init__(self, path: Path, regions: dict[str, Region]) -> None:
        self.path = path
        self.regions = regions
        self._seeking = threading.Lock()
        with writing(path):
            self._file = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))

    def share(self) -> None:
        """Keep HDF5 writers out and let HDF5 readers in, as the HDF5 library's locks do.

        Raises
        ------
        StoreLockedError
            Another program has the file open for writing through the HDF5 library.
        """
        if not share(self._file):
            raise StoreLockedError(
                f"{self.path} is open for writing in another program. Close it there first."
            )

    def write(self, name: str, row: int, data: npt.NDArray[Any] | bytes) -> None:
        """Write consecutive rows of one dataset from `row` on.

        Raises
        ------
        StoreError
            The disk is full, or does not take the bytes for another reason.
        """
        region = self.regions[name]
        view = memoryview(data).cast("B") if isinstance(data, bytes) else _bytes_of(data)
        if row < 0 or row * region.row_bytes + len(view) > region.rows * region.row_bytes:
            raise IndexError(f"{len(view)} bytes at row {row} of {name} are outside its rows")
        self.write_at(region.offset + row * region.row_bytes, view)

    def write_at(self, offset: int, data: memoryview | bytes) -> None:
        """Write bytes at a place in the file."""
        view = memoryview(data)
        with writing(self.path, len(view)):
            while view:
                count = self._write_some(offset, view)
                view, offset = view[count:], offset + count

    def read(self, name: str, row: int = 0, count: int = 1) -> bytes:
        """Read consecutive rows of one dataset."""
        region = self.regions[name]
        with self._seeking:
            os.lseek(self._file, region.offset + row * region.row_bytes, os.SEEK_SET)
            return os.read(self._file, count * region.row_bytes)

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        with writing(self.path):
            os.fsync(self._file)

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write_some(self, offset: int, view: memoryview) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self._file, view, offset)
        with self._seeking:
            os.lseek(self._file, offset, os.SEEK_SET)
            return os.write(self._file, view)


def runs_of(rows: npt.NDArray[np.int64], limit: int = 1 << 62) -> Iterator[slice]:
    """Cut rows into runs of consecutive ones.

    Parameters
    ----------
    rows : ndarray of int64, shape (n,)
        Row numbers.
    limit : int
        Longest run to give.

    Yields
    ------
    slice
        Positions in `rows`; ``rows[slice]`` are consecutive numbers.
    """
    if not len(rows):
        return
    ends = np.append(np.flatnonzero(np.diff(rows) != 1) + 1, len(rows))
    start = 0
    for end in ends.tolist():
        for first in range(start, end, limit):
            yield slice(first, min(first + limit, end))
        start = end


def _bytes_of(data: npt.NDArray[Any]) -> memoryview:
    return memoryview(np.ascontiguousarray(data).reshape(-1).view(np.uint8).data)
