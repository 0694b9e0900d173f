"""The values of a graph's tensors, read from their places in the file or in one beside it.

A file may name others that hold its values. Only plain ones in its own folder are read, and only
after their size was found to be enough: what a name might lead to else, a file knows better than
its user.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vggfeat.weights.onnx.messages import BFLOAT16, DTYPES, FLOAT16, Model, Tensor

_SLAB = 1 << 22  # bytes read at a time where values change their places
_LONGEST_INTEGER = 10  # bytes
_MOST_READS = 1 << 16  # of tensors, while a file is open; a VGG has some 100


class Values:
    """Reads tensors from their places, in the file or in those beside it.

    Parameters
    ----------
    path : Path
        The ``.onnx`` file.
    file : binary file
        The same, open.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._reads = 0

    def check(self, tensor: Tensor) -> None:
        """See that a tensor's values are there, without reading them.

        Raises
        ------
        ValueError
            They are not as many as its shape says, or of a type that is not known.
        """
        if tensor.kind not in DTYPES:
            raise ValueError(f"tensor {tensor.name!r} is of ONNX's type {tensor.kind}.")
        count, size = math.prod(tensor.shape), np.dtype(DTYPES[tensor.kind]).itemsize
        if tensor.location:
            held = sibling(self._path, tensor).stat().st_size - tensor.offset
            length = count * size if tensor.length is None else tensor.length
            if tensor.offset < 0 or length != count * size or length > held:
                raise ValueError(
                    f"tensor {tensor.name!r} of shape {tensor.shape} has {min(length, held):,} "
                    f"bytes in {tensor.location}."
                )
            return
        held = sum(stop - start for start, stop in tensor.places)
        fitting = count <= held <= count * _LONGEST_INTEGER
        if not fitting if tensor.integers else held != count * size:
            raise ValueError(
                f"tensor {tensor.name!r} of shape {tensor.shape} has {held:,} bytes of values."
            )

    def read(self, tensor: Tensor, dims: Sequence[int], order: Sequence[int]) -> NDArray[Any]:
        """Return a tensor's values, arranged anew.

        Parameters
        ----------
        tensor : Tensor
            What is read.
        dims : sequence of int
            The shape that it is taken to have.
        order : sequence of int
            Which of these axes becomes the first, the second and so on.

        Returns
        -------
        ndarray
            In memory of its own; bfloat16 becomes float32.
        """
        self.check(tensor)
        self._reads += 1
        if self._reads > _MOST_READS:
            raise ValueError("its graph computes too many constants.")
        if tensor.integers:
            raw = self._integers(tensor)
            return np.ascontiguousarray(_floats(raw, tensor).reshape(dims).transpose(order))
        if list(order) == list(range(len(dims))):
            return _floats(self._rows(tensor, 0, math.prod(dims)), tensor).reshape(dims)
        kind = "<f4" if tensor.kind == BFLOAT16 else DTYPES[tensor.kind]
        made = np.empty([dims[axis] for axis in order], kind)
        stored = made.transpose(np.argsort(order))  # the same memory, axes as in the file
        row = math.prod(dims[1:])
        step = max(1, _SLAB // max(1, row * np.dtype(kind).itemsize))
        for start in range(0, dims[0], step):
            stop = min(start + step, dims[0])
            values = _floats(self._rows(tensor, start * row, stop * row), tensor)
            stored[start:stop] = values.reshape(stop - start, *dims[1:])
        return made

    def _rows(self, tensor: Tensor, start: int, stop: int) -> NDArray[Any]:
        """Read some of the values, in the file's order."""
        dtype = np.dtype(DTYPES[tensor.kind])
        if tensor.location:
            with self._open(sibling(self._path, tensor)) as file:
                file.seek(tensor.offset + start * dtype.itemsize)
                return _exactly(np.fromfile(file, dtype, stop - start), stop - start)
        if len(tensor.places) == 1:
            self._file.seek(tensor.places[0][0] + start * dtype.itemsize)
            return _exactly(np.fromfile(self._file, dtype, stop - start), stop - start)
        whole = np.frombuffer(b"".join(self._bytes(tensor)), dtype)  # one at a time, or in parts
        return _exactly(whole[start:stop].copy(), stop - start)

    def _bytes(self, tensor: Tensor) -> list[bytes]:
        parts = []
        for start, stop in tensor.places:
            self._file.seek(start)
            parts.append(self._file.read(stop - start))
        return parts

    def _integers(self, tensor: Tensor) -> NDArray[Any]:
        """Decode variable-length integers, all at once."""
        raw = np.frombuffer(b"".join(self._bytes(tensor)), np.uint8)
        ends = np.flatnonzero(raw < 0x80) + 1
        _exactly(ends, math.prod(tensor.shape))
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        lengths = ends - starts
        if len(raw) and (ends[-1] != len(raw) or lengths.max() > _LONGEST_INTEGER):
            raise ValueError(f"tensor {tensor.name!r} holds what are no integers.")
        values = np.zeros(len(ends), np.uint64)
        for place in range(int(lengths.max(initial=0))):
            held = place < lengths
            part = (raw[starts[held] + place] & 0x7F).astype(np.uint64)
            values[held] |= part << np.uint64(7 * place)
        signed = values.view(np.int64)
        if tensor.kind in (FLOAT16, BFLOAT16):  # these integers are their bits
            return signed.astype("<u2").view(DTYPES[tensor.kind])
        return signed.astype(DTYPES[tensor.kind])

    def _open(self, path: Path) -> BinaryIO:
        return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb")


def sibling(path: Path, tensor: Tensor) -> Path:
    """Return the file that holds a tensor's values, if it is a plain one beside the model's.

    Raises
    ------
    ValueError
        It is none.
    """
    name = tensor.location
    plain = name == Path(name).name and name not in (".", "..") and "\\" not in name
    if not plain or "\0" in name or ":" in name:
        raise ValueError(
            f"tensor {tensor.name!r} lies in {name!r}; only files in the same folder are read."
        )
    beside = path.with_name(name)
    if not beside.exists() and not beside.is_symlink():
        raise ValueError(
            f"tensor {tensor.name!r} lies in {name}, which is not there. Keep the two files in one "
            "folder."
        )
    if not stat.S_ISREG(beside.lstat().st_mode):
        raise ValueError(f"tensor {tensor.name!r} lies in {name}, which is no plain file.")
    return beside


def siblings(path: Path, model: Model) -> list[Path]:
    """Return the files beside a model's that hold some of its tensors, sorted by their names.

    Raises
    ------
    ValueError
        One is no plain file there.
    """
    return sorted({sibling(path, one) for one in model.tensors.values() if one.location})


def _exactly(array: NDArray[Any], count: int) -> NDArray[Any]:
    if len(array) != count:
        raise ValueError("it is truncated.")
    return array


def _floats(raw: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    """Return values as numbers that numpy knows: a bfloat16 is the upper half of a float32."""
    if tensor.kind != BFLOAT16:
        return raw
    return (raw.astype("<u4") << np.uint32(16)).view("<f4")
