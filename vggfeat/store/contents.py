"""What a store holds besides features, as one value in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from vggfeat.labels.targets import Targets
from vggfeat.provenance import Provenance, RunInfo, SourcePlace

FORMAT = "vggfeat"
FORMAT_VERSION = 2
STATUSES = ("pending", "done", "failed")
ERROR_BYTES = 256
DIGEST_BYTES = 16
_BYTE, _LONG = np.dtype("u1"), np.dtype("<i8")
IMAGES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "status": (_BYTE, ()),
    "error": (h5py.string_dtype("utf-8", ERROR_BYTES), ()),
    "size": (_LONG, ()),
    "mtime_ns": (_LONG, ()),
}
"""Fixed-size columns of ``/images`` since format 1: type, and shape of a row."""
SINCE_2: dict[str, tuple[Any, tuple[int, ...]]] = {
    "ctime_ns": (_LONG, ()),
    "digest": (_BYTE, (DIGEST_BYTES,)),
    "present": (_BYTE, ()),
    "source": (np.dtype("<i4"), ()),
}
"""Those that format 2 added."""


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
    sizes, mtimes, ctimes : ndarray of int64, shape (N,)
        Bytes, modification time and time of the last change (ns since 1970) of each image's
        file when it was read; a `ctimes` of 0 says that times prove nothing.
    digests : ndarray of uint8, shape (N, 16)
        Of the bytes that were decoded, see :func:`vggfeat.sources.reading.digest_of`; zeros where
        unknown.
    present : ndarray of bool, shape (N,)
        Whether the image was in its source when that was last listed.
    source : ndarray of int32, shape (N,)
        Which of `sources` the image belongs to.
    status : ndarray of uint8, shape (N,)
        :data:`PENDING`, :data:`DONE` or :data:`FAILED`.
    errors : ndarray of bytes (256 wide), shape (N,)
        UTF-8 reasons of failed rows.
    targets, splits, groups : Targets or None
        Labels, where there are any; and the split and the group of each image, one or none.
    runs : list of RunInfo
        Runs so far, oldest first.
    sources : list of SourcePlace
        Where images come from; never empty.
    version : int
        Of the format that this was read from.
    part : str
        Of a part: the ``id`` of its store and its number, as ``ID/17``; empty otherwise.
    """

    provenance: Provenance
    shapes: dict[str, tuple[int, ...]]
    paths: list[str]
    sizes: npt.NDArray[np.int64]
    mtimes: npt.NDArray[np.int64]
    ctimes: npt.NDArray[np.int64]
    digests: npt.NDArray[np.uint8]
    present: npt.NDArray[np.bool_]
    source: npt.NDArray[np.int32]
    status: npt.NDArray[np.uint8]
    errors: npt.NDArray[np.bytes_]
    targets: Targets | None = None
    splits: Targets | None = None
    groups: Targets | None = None
    runs: list[RunInfo] = field(default_factory=list)
    sources: list[SourcePlace] = field(default_factory=lambda: [SourcePlace()])
    version: int = FORMAT_VERSION
    part: str = ""

    @property
    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The fixed-size columns of ``/images`` by name, in their types."""
        values = {
            "status": self.status,
            "error": self.errors,
            "size": self.sizes,
            "mtime_ns": self.mtimes,
            "ctime_ns": self.ctimes,
            "digest": self.digests,
            "present": self.present,
            "source": self.source,
        }
        return {name: values[name].astype(kind) for name, (kind, _) in (IMAGES | SINCE_2).items()}

    def taken(self, rows: npt.NDArray[np.int64]) -> Contents:
        """Return it with some of its rows only, in that order."""
        return replace(
            self,
            paths=[self.paths[row] for row in rows.tolist()],
            sizes=self.sizes[rows],
            mtimes=self.mtimes[rows],
            ctimes=self.ctimes[rows],
            digests=self.digests[rows],
            present=self.present[rows],
            source=self.source[rows],
            status=self.status[rows],
            errors=self.errors[rows],
            targets=self.targets and self.targets.taken(rows),
            splits=self.splits and self.splits.taken(rows),
            groups=self.groups and self.groups.taken(rows),
        )

    @property
    def named(self) -> dict[str, Targets | None]:
        """Labels, splits and groups, by the name of their attribute."""
        return {"targets": self.targets, "splits": self.splits, "groups": self.groups}

    @property
    def dtype(self) -> np.dtype[Any]:
        """The features' type, little-endian."""
        return np.dtype(self.provenance.config.dtype).newbyteorder("<")

    def bytes_needed(self) -> int:
        """Return about how large the file will be (exact but for HDF5's own few KiB)."""
        row = sum(math.prod(shape) * self.dtype.itemsize + 4 for shape in self.shapes.values())
        for kind, shape in (IMAGES | SINCE_2).values():
            row += int(kind.itemsize) * math.prod(shape)
        row += 48  # a path's pointer and heap entry
        row += sum(each.values[:1].nbytes for each in self.named.values() if each is not None)
        paths = sum(len(path.encode()) for path in self.paths)
        return row * len(self.paths) + paths + (64 << 10)
