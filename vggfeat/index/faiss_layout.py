"""The layout of FAISS's files, read before FAISS reads them.

A FAISS file may hold inverted lists that lie in another file, which FAISS then maps and writes
into. So a file is first walked here from its first byte to its last: it must be made of nothing but
the structures below, and each vector in it must lie in the file. What is not known is refused, in
building as in reading.
"""

from __future__ import annotations

import io
import os
import struct
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

KNOWN = "Flat, SQ, PQ, PQ...fs, HNSW and IVF over these, and PCA, OPQ, RR, ITQ or Pad before them"
"""What is known, for messages."""

_DEEPEST = 6  # structures within structures
_LARGEST_BITS = 16
_MOST_LEVELS = 64  # of a graph
_LARGEST_EFFORT = 1 << 14  # vectors that a search of a graph keeps, some 16 bytes for each
_SQ_BITS = {0: 8, 1: 4, 2: 8, 3: 4, 4: 16, 5: 8, 6: 6, 7: 16, 8: 8}
"""Bits for a number, by FAISS's type of a scalar quantiser."""


class LayoutError(ValueError):
    """A file is made of other structures, or not as it says."""


def check(file: BinaryIO, *, trained: bool = True) -> None:
    """Walk a file of FAISS's.

    Parameters
    ----------
    file : binary file
        At its start.
    trained : bool
        Refuse what is not trained, and lengths that do not fit one another.

    Raises
    ------
    LayoutError
        It is of a structure that is not known, is cut short, or is longer than its structures.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    walk = _Walk(file, size, trained)
    walk.index(0)
    if file.tell() != size:
        raise LayoutError(f"{size - file.tell()} bytes follow its structures")


def check_bytes(data: bytes) -> None:
    """Walk an empty structure as FAISS writes it; LayoutError where it is not known."""
    check(io.BytesIO(data), trained=False)


class _Walk:
    def __init__(self, file: BinaryIO, size: int, trained: bool) -> None:
        self._file, self._size, self._trained = file, size, trained

    def index(self, depth: int) -> tuple[int, int]:
        """Walk a structure; return its numbers a vector, and its vectors."""
        if depth > _DEEPEST:
            raise LayoutError("its structures lie too deep in one another")
        kind = self._fourcc()
        if kind not in _INDEXES:
            raise LayoutError(f"its structure {kind!r} is not one of {KNOWN}")
        d, count, _, _, trained, metric = self._values("<iqqq?i")
        if d < 1 or count < 0 or metric not in (0, 1):
            raise LayoutError(f"it says {count} vectors of {d} numbers, measure {metric}")
        self._require(trained, "it is not trained")
        if kind in ("IxF2", "IxFI"):
            self._require(self._vector(4) == d * count, "its vectors are not all there")
        elif kind == "IxSQ":
            width = self._scalar_quantizer(d)
            self._require(self._vector(1) == width * count, "its codes are not all there")
        elif kind == "IxPq":
            width = _bytes(*self._product_quantizer(d))
            self._require(self._vector(1) == width * count, "its codes are not all there")
            way, signs, _ = self._values("<i?i")
            self._require(way == 0 and not signs, "it searches in another way than vggfeat's")
        elif kind == "IPfs":
            parts, bits = self._product_quantizer(d)
            way, block, batch, padded, even = self._values("<iiiqq")
            self._require(not way and not batch, "it searches in another way than vggfeat's")
            self._require(
                block > 0 and block % 32 == 0 and padded == -(-count // block) * block,
                "its blocks do not fit",
            )
            self._require(
                bits == 4 and even == _even(parts) and self._vector(1) == padded * even // 2,
                "its codes are not all there",
            )
        elif kind in ("IHNf", "IHNp", "IHNs"):
            self._hnsw(count)
            self._require(self.index(depth + 1) == (d, count), "its vectors are not all there")
        elif kind == "IxPT":
            self._transformed(d, count, depth)
        else:
            self._ivf(kind, d, count, depth)
        return d, count

    def _hnsw(self, count: int) -> None:
        """Walk a graph; what FAISS itself compares, numbers of vectors say, is left to it."""
        chances = self._vector(8)
        room = self._array("<i4")  # of all levels up to each
        levels, offsets = self._array("<i4"), self._array("<i8")
        links = self._vector(4)
        start = self._file.tell() - 4 * links
        entry, highest, *efforts, _ = self._values("<iiiii")
        if not self._trained:
            return
        self._require(
            len(levels) == count and len(offsets) == count + 1, "its graph is not all there"
        )
        self._require(
            len(room) == chances + 1
            and chances <= _MOST_LEVELS
            and not room[0]
            and (np.diff(room) > 0).all()
            and (count == 0 or (levels.min() > 0 and levels.max() <= chances))
            and offsets[0] == 0
            and offsets[-1] == links
            and (np.diff(offsets) == room[levels]).all(),
            "the levels of its graph do not fit one another",
        )
        self._require(
            (0 <= entry < count and highest == levels[entry] - 1 == levels.max() - 1)
            if count
            else (entry, highest) == (-1, -1),
            "its graph is entered where it may not be",
        )
        self._require(
            all(0 < one <= _LARGEST_EFFORT for one in efforts),
            f"its efforts {efforts} are not 1 to {_LARGEST_EFFORT}",
        )
        end = self._file.tell()
        for node in np.flatnonzero(levels > 1).tolist():
            self._file.seek(start + 4 * int(offsets[node] + room[1]))
            size = int(room[levels[node]] - room[1])
            linked = np.frombuffer(self._file.read(4 * size), "<i4")
            level = np.searchsorted(room, room[1] + np.arange(size), "right")
            known = (linked >= 0) & (linked < count)
            self._require(
                (levels[linked[known]] >= level[known]).all(), "its graph links to lower levels"
            )
        self._file.seek(end)

    def _transformed(self, d: int, count: int, depth: int) -> None:
        (number,) = self._values("<i")
        if not 0 <= number <= _DEEPEST:
            raise LayoutError(f"it has {number} transformations")
        width = d
        for _ in range(number):
            before, after = self._transformation(0)
            self._require(before == width, "its transformations do not fit one another")
            width = after
        self._require(self.index(depth + 1) == (width, count), "what it transforms does not fit")

    def _transformation(self, depth: int) -> tuple[int, int]:
        kind = self._fourcc()
        lengths: tuple[int, int] | None = None
        biased = 0
        if kind in ("rrot", "Pcam", "LTra", "Viqm"):
            if kind == "Pcam":
                self._values("<ff?i")
                for _ in range(3):
                    self._vector(4)
            elif kind == "Viqm":
                self._values("<ii")
            (biased,) = self._values("<?")
            lengths = self._vector(4), self._vector(4)
        elif kind == "RmDT":
            mapped = self._array("<i4")
        elif kind == "Viqt" and not depth:
            mean = self._vector(4)
            self._values("<?")
            self._transformation(depth + 1)
            inner = self._transformation(depth + 1)  # which is what is applied
        else:
            raise LayoutError(f"its transformation {kind!r} is not one of {KNOWN}")
        before, after, trained = self._values("<ii?")
        self._require(before > 0 and after > 0, "a transformation is of nothing")
        if lengths is not None and (not depth or lengths[0]):  # within others, some are not used
            fits = lengths[0] == before * after and lengths[1] == (after if biased else lengths[1])
            self._require(fits, "a transformation is not all there")
        if not depth:
            self._require(trained, "a transformation is not trained")
        if kind == "RmDT":
            fits = len(mapped) == after and bool(((mapped >= -1) & (mapped < before)).all())
            self._require(fits, "a transformation is not all there")
        elif kind == "Viqt":
            fits = mean == before and inner == (before, after)
            self._require(fits, "a transformation is not all there")
        return before, after

    def _ivf(self, kind: str, d: int, count: int, depth: int) -> None:
        lists, _ = self._values("<qq")
        inner = self.index(depth + 1)
        self._require(inner == (d, lists), "its lists have not all a centroid")
        self._require(8 * count <= self._size, "its vectors are not all there")
        direct = self._values("<B")[0]
        if direct > 1:
            raise LayoutError("it maps its vectors by a table, which vggfeat never writes")
        self._vector(8)
        if kind == "IwFl":
            width = 4 * d
        elif kind == "IwSq":
            width = self._scalar_quantizer(d)
            given, _ = self._values("<q?")
            self._require(given == width, "its codes are of another length")
        elif kind == "IwPQ":
            _, given = self._values("<?q")
            width = _bytes(*self._product_quantizer(d))
            self._require(given == width, "its codes are of another length")
        else:
            _, given, block, even, way, batch = self._values("<?qiqiq")
            parts, bits = self._product_quantizer(d)
            self._require(not way and not batch, "it searches in another way than vggfeat's")
            self._require(
                bits == 4 and even == _even(parts) and given == _bytes(parts, bits) and block > 0,
                "its codes are of another length",
            )
            self._blocks(lists, count, block, block * even // 2)
            return
        self._inverted_lists(lists, count, width)

    def _blocks(self, lists: int, count: int, each: int, block: int) -> None:
        """Walk inverted lists of blocks, of so many vectors and so many bytes each."""
        if self._fourcc() != "ilbl":
            raise LayoutError("its inverted lists are not of blocks, as its codes are")
        number, _, *found = self._values("<qqqq")
        self._require(
            number == lists and found == [each, block] and each % 32 == 0, "its lists do not fit"
        )
        seen = np.zeros(count if self._trained else 0, np.bool_)
        for _ in range(number):
            own = self._array("<i8")
            self._note(own, seen)
            self._require(
                self._vector(1) == -(-len(own) // each) * block, "its lists are not all there"
            )

    def _inverted_lists(self, lists: int, count: int, width: int) -> None:
        kind = self._fourcc()
        if kind == "ilar":
            number, code = self._values("<qq")
            form = self._fourcc()
            self._require((number, code) == (lists, width), "its lists do not fit")
            sizes = self._numbers()
            if form == "full":
                self._require(len(sizes) == lists, "its lists are not all there")
                entries = sizes
            elif form == "sprs" and len(sizes) % 2 == 0:
                self._require(all(0 <= one < lists for one in sizes[::2]), "its lists do not fit")
                entries = sizes[1::2]
            else:
                raise LayoutError(f"its lists are of the form {form!r}")
            if min(sizes, default=0) < 0:
                raise LayoutError("its lists have fewer than no vectors")
            seen = np.zeros(count if self._trained else 0, np.bool_)
            for own in entries:
                self._skip(own * code)
                start = self._file.tell()
                self._skip(8 * own)
                self._file.seek(start)
                self._note(np.frombuffer(self._file.read(8 * own), "<i8"), seen)
        else:
            raise LayoutError(
                f"its inverted lists {kind!r} do not lie in it as vggfeat writes them"
            )

    def _note(self, ids: npt.NDArray[np.integer[Any]], seen: npt.NDArray[np.bool_]) -> None:
        """Refuse vectors of a list that there are not, or that are in lists twice."""
        if not self._trained or not len(ids):
            return
        self._require(
            ids.min() >= 0 and ids.max() < len(seen), "its lists have vectors that it does not have"
        )
        self._require(
            not seen[ids].any() and len(np.unique(ids)) == len(ids), "its lists have a vector twice"
        )
        seen[ids] = True

    def _scalar_quantizer(self, d: int) -> int:
        """Walk a scalar quantiser; return the bytes of a code."""
        kind, _, _, numbers, code = self._values("<iifqq")
        learnt = self._vector(4)
        if kind not in _SQ_BITS or numbers != d:
            raise LayoutError(f"its scalar quantiser is of type {kind}, for {numbers} numbers")
        width = (d * _SQ_BITS[kind] + 7) // 8
        self._require(
            code == width and learnt == (2 if kind in (2, 3) else 2 * d * (kind in (0, 1, 6))),
            "its scalar quantiser is not all there",
        )
        return width

    def _product_quantizer(self, d: int) -> tuple[int, int]:
        """Walk a product quantiser; return the parts of a code, and the bits of each."""
        numbers, parts, bits = self._values("<qqq")
        if numbers != d or parts < 1 or d % parts or not 1 <= bits <= _LARGEST_BITS:
            raise LayoutError(f"its product quantiser is {parts} x {bits} for {numbers} numbers")
        self._require(self._vector(4) == d << bits, "its code books are not all there")
        return parts, bits

    def _require(self, right: object, reason: str) -> None:
        if self._trained and not right:
            raise LayoutError(reason)

    def _values(self, form: str) -> tuple[int, ...]:
        size = struct.calcsize(form)
        data = self._file.read(size)
        if len(data) != size:
            raise LayoutError("it is cut short")
        return struct.unpack(form, data)

    def _fourcc(self) -> str:
        return self._file.read(4).decode("latin-1")

    def _vector(self, width: int) -> int:
        """Walk over an array of items of so many bytes; return how many there are."""
        (count,) = self._values("<Q")
        self._skip(count * width)
        return count

    def _numbers(self) -> list[int]:
        """Read an array of int64."""
        found: list[int] = self._array("<i8").tolist()
        return found

    def _array(self, kind: str) -> npt.NDArray[np.integer[Any]]:
        """Read an array."""
        width = np.dtype(kind).itemsize
        size = self._vector(width) * width
        self._file.seek(-size, os.SEEK_CUR)
        return np.frombuffer(self._file.read(size), kind)

    def _skip(self, count: int) -> None:
        if not 0 <= count <= self._size - self._file.tell():
            raise LayoutError("it is cut short")
        self._file.seek(count, os.SEEK_CUR)


def _bytes(parts: int, bits: int) -> int:
    """Return the bytes of a code of a product quantiser."""
    return (parts * bits + 7) // 8


def _even(number: int) -> int:
    return number + number % 2


_INDEXES = frozenset({
    *("IxF2", "IxFI", "IxSQ", "IxPq", "IPfs", "IHNf", "IHNp", "IHNs"),
    *("IxPT", "IwFl", "IwSq", "IwPQ", "IwPf"),
})  # fmt: skip
