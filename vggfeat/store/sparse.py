"""A file in memory that takes no room where nothing was written.

The HDF5 library may crash the whole process when a disk fills up under it (2.0 does, on closing).
So it never writes to one: it lays a store out in here, features of many GiB included, and the few
MiB that it did write go to the disk through calls that fail in an orderly way.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

_PAGE = 1 << 16


class SparseFile(io.RawIOBase):
    """A readable, writable, seekable file whose unwritten parts read as zeros."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self._at = 0
        self.size = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, which may lie behind the end."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def truncate(self, size: int | None = None) -> int:
        """Set the size; growing costs nothing."""
        self.size = self._at if size is None else size
        return self.size

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as the file goes."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self.size - self._at))
        for page, start, stop, first in self._cut(count):
            data = self._pages.get(page)
            length = stop - start
            view[first : first + length] = data[start:stop] if data else bytes(length)
        self._at += count
        return count

    def write(self, data: Any) -> int:
        """Write all of `data`."""
        view = memoryview(data).cast("B")
        for page, start, stop, first in self._cut(len(view)):
            target = self._pages.setdefault(page, bytearray(_PAGE))
            target[start:stop] = view[first : first + stop - start]
        self._at += len(view)
        self.size = max(self.size, self._at)
        return len(view)

    def written(self) -> Iterator[tuple[int, memoryview]]:
        """Yield offset and bytes of all parts that were written, and zeros around them."""
        for page in sorted(self._pages):
            offset = page * _PAGE
            yield offset, memoryview(self._pages[page])[: max(0, self.size - offset)]

    def _cut(self, count: int) -> Iterator[tuple[int, int, int, int]]:
        """Cut the next `count` bytes at pages: page, from, to in it, and place in the bytes."""
        first = 0
        while first < count:
            page, start = divmod(self._at + first, _PAGE)
            stop = min(_PAGE, start + count - first)
            yield page, start, stop, first
            first += stop - start
