"""A layer of a store of parts, indexed as one dataset of HDF5 is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
_BLOCK_BYTES = 64 << 20


class PartedColumn:
    """Features of one layer over all parts; nothing is read before it is indexed.

    Parameters
    ----------
    shape : tuple of int
        (N, D) or (N, C, H, W).
    dtype : dtype
        The type that features are stored in.
    read : callable
        Given ascending row numbers, each once, returns their features.

    Notes
    -----
    Takes what h5py takes along the rows: a number, a slice, numbers in ascending order or not, a
    mask; further indices apply to the rows that were read.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        read: Callable[[Rows], npt.NDArray[Any]],
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self._read = read

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that all rows take."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis:
            first, rest = slice(None), [first, *rest]
        if isinstance(first, int | np.integer):
            row = int(first) + len(self) * (first < 0)
            if not 0 <= row < len(self):
                raise IndexError(f"row {first} of {len(self)} rows")
            values = self._read(np.array([row], np.int64))[0]
            return values[tuple(rest)] if rest else values
        rows = np.arange(len(self), dtype=np.int64)[np.asarray(first) if _listed(first) else first]
        distinct, back = np.unique(rows, return_inverse=True)
        values = self._read(distinct)
        if not np.array_equal(distinct, rows):
            values = values[back]
        return values[(slice(None), *rest)] if rest else values

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        step = max(1, _BLOCK_BYTES // max(1, self.nbytes // max(1, len(self))))
        for first in range(0, len(self), step):
            yield from self[first : first + step]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        del copy  # it is always one
        values: npt.NDArray[Any] = self[:]
        return values if dtype is None else values.astype(dtype)

    def __repr__(self) -> str:
        return f"<PartedColumn of shape {self.shape}, type {self.dtype}>"


def _listed(key: Any) -> bool:
    return not isinstance(key, slice)
