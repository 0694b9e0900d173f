"""A part of a file, as a file: what members of archives are read by."""

from __future__ import annotations

import io
from typing import Any, BinaryIO


class Section(io.RawIOBase):
    """A part of a file, as a file.

    Parameters
    ----------
    file : binary file
        What holds it; nobody else may read from it meanwhile.
    start, size : int
        Where the part lies, in bytes.
    """

    def __init__(self, file: BinaryIO | io.RawIOBase, start: int, size: int) -> None:
        super().__init__()
        self._file: Any = file
        self._start, self._size, self._at = start, size, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in the part."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move in the part, never before its start."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise ValueError(f"negative seek position {origin + offset}")
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read on, to the end of the part at most."""
        view = memoryview(buffer)[: max(0, self._size - self._at)]
        self._file.seek(self._start + self._at)
        count: int = self._file.readinto(view) or 0
        self._at += count
        return count
