"""Rows of a dataset as float32 vectors, and their checksums."""

from __future__ import annotations

import zlib
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

_GAP = 8  # reading over a gap of so few rows is faster than reading twice


def read_rows(
    dataset: h5py.Dataset, rows: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32]
) -> None:
    """Read rows in as few pieces as sensible.

    Parameters
    ----------
    dataset : h5py.Dataset, shape (N, ...)
        Features.
    rows : ndarray of int64, shape (n,)
        Row numbers, in any order, also repeated.
    vectors : ndarray of float32, shape (n, D)
        Takes the rows, flattened.
    """
    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    breaks = np.flatnonzero(np.diff(ascending) > _GAP) + 1
    for part in np.split(np.arange(len(rows)), breaks):
        low, high = int(ascending[part[0]]), int(ascending[part[-1]])
        if (np.diff(ascending[part]) == 1).all() and (order[part] == part).all():
            # (n, C * H * W) seen as (n, C, H, W), which HDF5 fills, converting to float32
            target = vectors[part[0] : part[-1] + 1].reshape(-1, *dataset.shape[1:])
            dataset.read_direct(target, np.s_[low : high + 1])
        else:
            span = dataset[low : high + 1].reshape(high - low + 1, -1)
            vectors[order[part]] = span[ascending[part] - low]


def checksums(features: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    """Return the CRC-32 (that of zlib and PNG) of each row's little-endian bytes.

    Parameters
    ----------
    features : ndarray, shape (n, ...)
        Rows in the type they are stored in.

    Returns
    -------
    ndarray of uint32, shape (n,)
    """
    little = np.ascontiguousarray(features, dtype=features.dtype.newbyteorder("<"))
    return np.array([zlib.crc32(row) for row in little], dtype="<u4")
