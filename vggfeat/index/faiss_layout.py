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
from typing import BinaryIO

KNOWN = "Flat, SQ, PQ, PQ...fs, HNSW and IVF over these, and PCA, OPQ, RR, ITQ or Pad before them"
"""What is known, for messages."""

_DEEPEST = 6  # structures within structures
_LARGEST_BITS = 16
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
            width = self._product_quantizer(d)
            self._require(self._vector(1) == width * count, "its codes are not all there")
            self._values("<i?i")
        elif kind == "IPfs":
            width = self._product_quantizer(d)
            _, block, _, padded, parts = self._values("<iiiqq")
            self._require(
                block > 0 and padded >= count and padded % block == 0, "its blocks do not fit"
            )
            self._require(
                self._vector(1) == padded * parts // 2 and parts >= 2 * width - 1,
                "its codes are not all there",
            )
        elif kind in ("IHNf", "IHNp", "IHNs"):
            self._hnsw(count)
            self._require(self.index(depth + 1) == (d, count), "its vectors are not all there")
        elif kind == "IxPT":
            self._transformed(d, count, depth)
        else:
            self._ivf(kind, d, depth)
        return d, count

    def _hnsw(self, count: int) -> None:
        for width in (8, 4):
            self._vector(width)
        levels, offsets = self._vector(4), self._vector(8)
        self._vector(4)
        self._values("<iiiii")
        self._require(levels == count and offsets == count + 1, "its graph is not all there")

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
            mapped = self._vector(4)
        elif kind == "Viqt" and depth < 2:
            self._vector(4)
            self._values("<?")
            self._transformation(depth + 1)
            self._transformation(depth + 1)
        else:
            raise LayoutError(f"its transformation {kind!r} is not one of {KNOWN}")
        before, after, trained = self._values("<ii?")
        if not depth:  # those within others need not be used
            self._require(trained and before > 0 and after > 0, "a transformation is not trained")
            if lengths is not None:
                fits = lengths[0] == before * after and (not biased or lengths[1] == after)
                self._require(fits, "a transformation is not all there")
            elif kind == "RmDT":
                self._require(mapped == after, "a transformation is not all there")
        return before, after

    def _ivf(self, kind: str, d: int, depth: int) -> None:
        lists, _ = self._values("<qq")
        inner = self.index(depth + 1)
        self._require(inner == (d, lists), "its lists have not all a centroid")
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
            width = self._product_quantizer(d)
            self._require(given == width, "its codes are of another length")
        else:
            self._values("<?qiqiq")
            width = 0
            self._product_quantizer(d)
        self._inverted_lists(lists, width)

    def _inverted_lists(self, lists: int, width: int) -> None:
        kind = self._fourcc()
        if kind == "ilar" and width:
            number, code = self._values("<qq")
            form = self._fourcc()
            self._require((number, code) == (lists, width), "its lists do not fit")
            sizes = self._numbers()
            if form == "full":
                self._require(len(sizes) == lists, "its lists are not all there")
                entries = sum(sizes)
            elif form == "sprs" and len(sizes) % 2 == 0:
                self._require(all(0 <= one < lists for one in sizes[::2]), "its lists do not fit")
                entries = sum(sizes[1::2])
            else:
                raise LayoutError(f"its lists are of the form {form!r}")
            if min(sizes, default=0) < 0:
                raise LayoutError("its lists have fewer than no vectors")
            self._skip(entries * (code + 8))
        elif kind == "ilbl" and not width:
            number, _, each, block = self._values("<qqqq")
            self._require(number == lists and each > 0 and block > 0, "its lists do not fit")
            for _ in range(number):
                entries = self._vector(8)
                held = self._vector(1)
                self._require(held == -(-entries // each) * block, "its lists are not all there")
        else:
            raise LayoutError(
                f"its inverted lists {kind!r} do not lie in it as vggfeat writes them"
            )

    def _scalar_quantizer(self, d: int) -> int:
        """Walk a scalar quantiser; return the bytes of a code."""
        kind, _, _, numbers, _ = self._values("<iifqq")
        self._vector(4)
        if kind not in _SQ_BITS or numbers != d:
            raise LayoutError(f"its scalar quantiser is of type {kind}, for {numbers} numbers")
        return (d * _SQ_BITS[kind] + 7) // 8

    def _product_quantizer(self, d: int) -> int:
        """Walk a product quantiser; return the bytes of a code."""
        numbers, parts, bits = self._values("<qqq")
        if numbers != d or parts < 1 or d % parts or not 1 <= bits <= _LARGEST_BITS:
            raise LayoutError(f"its product quantiser is {parts} x {bits} for {numbers} numbers")
        self._require(self._vector(4) == d << bits, "its code books are not all there")
        return (parts * bits + 7) // 8

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
        start = self._file.tell()
        count = self._vector(8)
        end = self._file.tell()
        self._file.seek(start)
        found = list(self._values(f"<8x{count}q"))
        self._file.seek(end)
        return found

    def _skip(self, count: int) -> None:
        if not 0 <= count <= self._size - self._file.tell():
            raise LayoutError("it is cut short")
        self._file.seek(count, os.SEEK_CUR)


_INDEXES = frozenset({
    *("IxF2", "IxFI", "IxSQ", "IxPq", "IPfs", "IHNf", "IHNp", "IHNs"),
    *("IxPT", "IwFl", "IwSq", "IwPQ", "IwPf"),
})  # fmt: skip
