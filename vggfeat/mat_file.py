"""MAT-files of version 5, as MATLAB and Octave write them with ``-v6`` and ``-v7``.

After a header of 128 bytes a file is a sequence of elements: a type, a number of bytes, and the
bytes, filled up to a multiple of eight (MathWorks, "MAT-File Format"). A variable is an element of
type 14, which holds others: flags, dimensions, name, and values or the elements of a cell array or
a struct; one of type 15 is such a variable, compressed by zlib.

It is read here, rather than by scipy, since a stranger may have made it: scipy takes memory for as
many cells as the dimensions say (8 GB for a file of 184 bytes), and overflows the stack where cells
lie within cells. To look through a file before scipy reads it would take as long as to read it.
Here each size is compared with the bytes that are left, depth and number of variables are bounded,
and the checksum of what is compressed must be right.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from vggfeat.files import LARGEST_RATIO

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
"""numpy's type of each type of element that holds numbers."""

_CODINGS = {1: "utf-8", 2: "utf-8", 16: "utf-8", 4: "utf-16", 17: "utf-16", 18: "utf-32"}
_CELL, _STRUCT, _CHAR, _OPAQUE = 1, 2, 4, 17
_NUMERIC = range(6, 16)  # classes of arrays: double, single, and the integers
_COMPLEX = 0x800

_DEEPEST = 16  # cells and structs within one another; MatConvNet's have 6
_MOST = 20_000  # variables, cells and fields of a file; a VGG's has some 3,000
_MOST_DIMENSIONS = 32
_LONGEST_NAME = 4096  # bytes
_LONGEST_NAMES = 1 << 16  # bytes of all names of a struct's fields
_LONGEST_TEXT = 1 << 16  # bytes
_PIECE = 1 << 18  # bytes that are read or unpacked at a time


def read(path: Path, names: Collection[str] | None) -> dict[str, Any]:
    """Read some of a file's variables.

    Parameters
    ----------
    path : Path
        The file.
    names : collection of str, optional
        Of the variables; those that are not there are left out. None for all.

    Returns
    -------
    dict of str to Any
        By name. Numbers are arrays in MATLAB's shape, of the type that they are stored in; text is
        str, cell arrays are lists in MATLAB's order, structs are dictionaries, and arrays of
        structs lists of them. Whatever else there is (complex and sparse numbers, functions,
        objects, text of more than 64 KiB) is None.

    Raises
    ------
    ValueError
        It is no such file, is damaged, or says that it holds more than it does.
    OSError
        It cannot be read.
    """
    variables: dict[str, Any] = {}
    with path.open("rb") as file:
        header = file.read(_HEADER)
        if len(header) < _HEADER or header[126:] not in (b"IM", b"MI"):
            raise ValueError("it is no MAT-file of version 5.")
        order = "<" if header[126:] == b"IM" else ">"
        version = np.frombuffer(header[124:126], f"{order}u2")[0]
        if version == 0x200:
            raise ValueError("it is of version 7.3. In MATLAB or Octave, save it again with -v7.")
        reader = _Reader(order)
        for source in _variables(file, order):
            name, value = reader.variable(source, names)
            if names is None or name in names:
                variables[name] = value
    return variables


class _Source(Protocol):
    """The bytes of one variable, read once from the first to the last.

    Attributes
    ----------
    left : int
        Bytes to come, at most.
    """

    left: int

    def fill(self, view: memoryview) -> None:
        """Read on; ValueError where there are too few bytes."""

    def skip(self, count: int) -> None:
        """Pass over some bytes."""

    def finish(self) -> None:
        """See that all was read, and right."""


class _Plain:
    """Bytes that lie in the file as they are."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self.left = file, size

    def fill(self, view: memoryview) -> None:
        if self._file.readinto(view) != len(view):  # type: ignore[attr-defined]
            raise ValueError("it is truncated.")
        self.left -= len(view)

    def skip(self, count: int) -> None:
        self._file.seek(count, 1)
        self.left -= count

    def finish(self) -> None:
        """All is right: the size is that of the variable."""


class _Compressed:
    """Bytes that are unpacked as they are read."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._stored = file, size
        self._stream, self._piece = zlib.decompressobj(), b""
        self.left = size * LARGEST_RATIO

    def fill(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            made = self._more(len(view) - done)
            view[done : done + len(made)] = made
            done += len(made)

    def skip(self, count: int) -> None:
        while count:
            count -= len(self._more(count))

    def finish(self) -> None:
        if self._unpacked(1) or not self._stream.eof:
            raise ValueError("it is damaged: a variable is not as large as it says.")

    def _more(self, most: int) -> bytes:
        made = self._unpacked(min(most, _PIECE))
        if not made:
            raise ValueError("it is truncated.")
        self.left -= len(made)
        return made

    def _unpacked(self, most: int) -> bytes:
        """Return up to so many bytes; none at the end."""
        while not self._stream.eof:
            given = self._piece
            if not given:
                given = self._file.read(min(self._stored, _PIECE))
                self._stored -= len(given)
            made = self._stream.decompress(given, most)
            self._piece = self._stream.unconsumed_tail
            if made or not given:
                return made
        return b""


def _variables(file: BinaryIO, order: str) -> Iterator[_Source]:
    """Give the bytes of each variable of a file."""
    at, end = _HEADER, file.seek(0, 2)
    while at < end:
        file.seek(at)
        tag = file.read(8)
        if len(tag) < 8:
            raise ValueError("it is truncated.")
        kind, size = np.frombuffer(tag, f"{order}u4").tolist()
        if size > end - at - 8:
            raise ValueError("it is truncated.")
        if kind == _COMPRESSED:
            yield _Compressed(file, size)
        elif kind == _MATRIX:
            file.seek(at)
            yield _Plain(file, 8 + size)
        else:
            raise ValueError(f"it has no variable at byte {at}.")
        at += 8 + size


class _Reader:
    """Reads variables. An element's end is told as the bytes that its source has left there.

    Parameters
    ----------
    order : str
        Of bytes: ``"<"`` or ``">"``.
    """

    def __init__(self, order: str) -> None:
        self._order, self._count = order, 0

    def variable(self, source: _Source, names: Collection[str] | None) -> tuple[str, Any]:
        """Return a variable's name, and its value where that is one of `names`, or all are."""
        end = self._opened(source, 0)
        if end == source.left:
            return "", None
        flags, shape, name = self._head(source, end)
        if names is not None and name not in names:
            return name, None
        value = self._value(source, end, flags, shape, 0)
        source.finish()
        return name, value

    def _element(self, source: _Source, outer: int, depth: int) -> Any:
        """Return the value of a cell or a field."""
        if depth > _DEEPEST:
            raise ValueError(f"it holds cells within cells, more than {_DEEPEST} deep.")
        end = self._opened(source, outer)
        if end == source.left:
            return np.empty((0, 0))
        flags, shape, _ = self._head(source, end)
        return self._value(source, end, flags, shape, depth)

    def _opened(self, source: _Source, outer: int) -> int:
        """Read the tag of a variable, cell or field; return where it ends."""
        self._count += 1
        if self._count > _MOST:
            raise ValueError(f"it holds more than {_MOST:,} variables, cells and fields.")
        kind, size, small = self._tag(source, outer)
        if kind != _MATRIX or small is not None:
            raise ValueError(f"it is damaged: there is an element of type {kind} for an array.")
        return source.left - size

    def _head(self, source: _Source, end: int) -> tuple[int, list[int], str]:
        """Return flags (the class in the lowest byte), dimensions and name."""
        flags_and_class = self._numbers(source, end, 8)
        flags = int(flags_and_class[0]) if len(flags_and_class) == 2 else 0
        shape: list[int] = []
        if flags & 0xFF != _OPAQUE:  # objects say no dimensions
            shape = [int(size) for size in self._numbers(source, end, 4 * _MOST_DIMENSIONS)]
            if len(shape) < 2 or min(shape) < 0:
                raise ValueError(f"it is damaged: it has an array of shape {tuple(shape)}.")
        name = self._numbers(source, end, _LONGEST_NAME).tobytes()
        return flags, shape, name.decode("utf-8", "replace")

    def _value(self, source: _Source, end: int, flags: int, shape: list[int], depth: int) -> Any:
        """Return what stands behind a head, and pass on to the end."""
        value: Any = None
        kind, count = flags & 0xFF, math.prod(shape)
        if kind == _CELL:
            self._check_count(source, end, count)
            value = [self._element(source, end, depth + 1) for _ in range(count)]
        elif kind == _STRUCT:
            value = self._struct(source, end, count, depth)
        elif kind == _CHAR:
            value = self._text(source, end)
        elif kind in _NUMERIC and not flags & _COMPLEX:
            value = self._numbers(source, end, source.left - end)
            if value.size != count:
                raise ValueError(
                    f"it is damaged: an array of shape {tuple(shape)} has {value.size:,} values."
                )
            value = value.reshape(shape, order="F")
        source.skip(source.left - end)
        return value

    def _struct(self, source: _Source, end: int, count: int, depth: int) -> Any:
        length = int(self._numbers(source, end, 4).sum())
        raw = self._numbers(source, end, _LONGEST_NAMES).tobytes()
        if length < 1 or len(raw) % length:
            raise ValueError("it is damaged: a struct's fields have no names.")
        fields = [
            raw[at : at + length].partition(b"\0")[0].decode("utf-8", "replace")
            for at in range(0, len(raw), length)
        ]
        self._check_count(source, end, count * max(1, len(fields)))
        structs = [
            {name: self._element(source, end, depth + 1) for name in fields} for _ in range(count)
        ]
        return structs[0] if count == 1 else structs

    def _check_count(self, source: _Source, end: int, count: int) -> None:
        """Refuse more elements than there can be: the least takes a tag."""
        if 8 * count > source.left - end:
            raise ValueError(
                f"it is damaged: {count:,} cells or fields are to lie in {source.left - end:,} "
                "bytes."
            )

    def _text(self, source: _Source, end: int) -> str | None:
        kind, size, small = self._tag(source, end)
        if kind not in _CODINGS or size > _LONGEST_TEXT:
            return None
        coding = _CODINGS[kind]
        if coding != "utf-8":
            coding += "-le" if self._order == "<" else "-be"
        return self._data(source, end, size, small).tobytes().decode(coding, "replace")

    def _numbers(self, source: _Source, end: int, most: int) -> NDArray[Any]:
        """Read an element of numbers, of no more bytes than are expected."""
        kind, size, small = self._tag(source, end)
        native = np.dtype(_NUMBERS.get(kind, "V1"))
        if kind not in _NUMBERS or size > most or size % native.itemsize:
            raise ValueError(f"it is damaged: there are {size:,} bytes of type {kind}.")
        stored = np.dtype(f"{self._order}{_NUMBERS[kind]}")
        return self._data(source, end, size, small).view(stored).astype(native, copy=False)

    def _tag(self, source: _Source, end: int) -> tuple[int, int, NDArray[np.uint8] | None]:
        """Return an element's type and size, and its bytes where they are part of the tag."""
        if source.left - end < 8:
            raise ValueError("it is truncated or damaged.")
        tag = np.empty(8, np.uint8)
        source.fill(tag.data)
        kind, size = tag.view(f"{self._order}u4").tolist()
        small = None
        if kind >> 16:
            kind, size = kind & 0xFFFF, kind >> 16
            small = tag[4 : 4 + size]
        if size > (4 if small is not None else source.left - end):
            raise ValueError(f"it is damaged: an element says that it has {size:,} bytes.")
        return kind, size, small

    def _data(
        self, source: _Source, end: int, size: int, small: NDArray[np.uint8] | None
    ) -> NDArray[np.uint8]:
        """Return an element's bytes, and pass over what fills them up to a multiple of eight."""
        if small is not None:
            return small
        data = np.empty(size, np.uint8)
        source.fill(data.data)
        source.skip(min(-size % 8, source.left - end))
        return data
