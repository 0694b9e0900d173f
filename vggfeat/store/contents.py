"""What a store holds besides features, as one value in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from vggfeat.provenance import Happened, Provenance
from vggfeat.store.targets import Targets

FORMAT = "vggfeat"
FORMAT_VERSION = 1
PENDING, DONE, FAILED = 0, 1, 2
STATUSES = ("pending", "done", "failed")
ERROR_BYTES = 256
IMAGES: dict[str, tuple[Any, int]] = {
    "status": (np.dtype("u1"), 1),
    "error": (h5py.string_dtype("utf-8", ERROR_BYTES), ERROR_BYTES),
    "size": (np.dtype("<i8"), 8),
    "mtime_ns": (np.dtype("<i8"), 8),
}
"""Fixed-size columns of ``/images``: type, and bytes a row."""


@dataclass(frozen=True, slots=True)
class Contents:
    """All of a store but its features and their checksums.

    Attributes
    ----------
    provenance : Provenance
        As in the root attribute.
    shapes : dict of str to tuple of int
        One row's shape by layer.
    paths : list of str
        The images, N of them.
    sizes, mtimes : ndarray of int64, shape (N,)
        Bytes and modification time (ns since 1970) of each image's file.
    status : ndarray of uint8, shape (N,)
        :data:`PENDING`, :data:`DONE` or :data:`FAILED`.
    errors : ndarray of bytes (256 wide), shape (N,)
        UTF-8 reasons of failed rows.
    targets : Targets or None
        Labels, where there are any.
    runs : list of Happened
        Runs so far, oldest first.
    """

    provenance: Provenance
    shapes: dict[str, tuple[int, ...]]
    paths: list[str]
    sizes: npt.NDArray[np.int64]
    mtimes: npt.NDArray[np.int64]
    status: npt.NDArray[np.uint8]
    errors: npt.NDArray[np.bytes_]
    targets: Targets | None = None
    runs: list[Happened] = field(default_factory=list)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The features' type, little-endian."""
        return np.dtype(self.provenance.deciding.dtype).newbyteorder("<")

    def bytes_needed(self) -> int:
        """Return about how large the file will be (exact but for HDF5's own few KiB)."""
        row = sum(math.prod(shape) * self.dtype.itemsize + 4 for shape in self.shapes.values())
        row += sum(size for _, size in IMAGES.values()) + 48  # a path's pointer and heap entry
        if self.targets is not None:
            row += self.targets.values[:1].nbytes
        paths = sum(len(path.encode()) for path in self.paths)
        return row * len(self.paths) + paths + (64 << 10)


def count(status: npt.NDArray[np.uint8]) -> dict[str, int]:
    """Return how many rows are ``done``, ``failed`` and ``pending``."""
    codes = {"done": DONE, "failed": FAILED, "pending": PENDING}
    return {name: int((status == code).sum()) for name, code in codes.items()}
