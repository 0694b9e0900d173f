"""Reading a store, lazily."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from vggfeat import hdf5
from vggfeat.failures import reading
from vggfeat.feature_table import FAILED, FeatureTable
from vggfeat.labels import Targets
from vggfeat.progress import Progress, silent
from vggfeat.provenance import Provenance, RunInfo, SourcePlace
from vggfeat.store.contents import DIGEST_BYTES, Contents
from vggfeat.store.opening import (
    open_hdf5,
    read_column,
    read_contents,
    read_provenance,
    read_runs,
    read_sources,
    read_targets,
)
from vggfeat.store.vectors import read_rows
from vggfeat.store.verification import VerifyReport, verify

Rows = npt.NDArray[np.int64]


def open_features(path: str | os.PathLike[str]) -> FeatureTable:
    """Open features for probes, indexes, evaluations and reports, however they are kept.

    Raises
    ------
    StoreError
        As :class:`FeatureStore` says.
    """
    return FeatureStore(path)


class FeatureStore(FeatureTable):
    """A store opened for reading; use it in a ``with`` statement.

    Nothing is read before it is needed, and a running writer is not disturbed: a store may be
    looked at while it fills.

    Parameters
    ----------
    path : path
        The file that ``vggfeat extract`` made, or the folder of a store of parts, for which this
        gives a :class:`~vggfeat.store.parts.PartedStore`.

    Attributes
    ----------
    path : Path
        The file or folder.
    provenance : Provenance
        Every setting that changes the features, and how they were computed.

    Raises
    ------
    StoreError
        There is no file, or it is damaged, of another kind, or of a newer format.

    Notes
    -----
    ``len(store)`` is its number of rows, and so is ``len(store[layer])``; ``layer in store`` says
    whether it has a layer. As with pandas, length is in rows, and columns are looked for.

    Threads may share one until it is closed; their reads take turns. It does not pickle: send its
    path.

    Examples
    --------
    >>> with FeatureStore("photos.h5") as store:  # doctest: +SKIP
    ...     X, y = store.xy("relu7")
    """

    def __new__(cls, path: str | os.PathLike[str]) -> FeatureStore:
        """Choose the class by what is there, as :class:`pathlib.Path` does by the system."""
        from vggfeat.store.parts import PartedStore, is_parted

        return super().__new__(PartedStore if cls is FeatureStore and is_parted(path) else cls)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = open_hdf5(self.path)
        self.provenance: Provenance = read_provenance(self._file, self.path)

    def close(self) -> None:
        """Close the file; datasets taken from it become unusable."""
        self._file.close()

    def __len__(self) -> int:
        """Return the number of rows, done or not, also of images that have left the source."""
        return int(self._dataset("images/path").shape[0])

    def __getitem__(self, layer: str) -> Any:
        """Return a layer's features as an HDF5 dataset: row i belongs to image i.

        Parameters
        ----------
        layer : str
            Canonical name or an alias such as ``"fc2"`` or ``"features.28"``.

        Returns
        -------
        h5py.Dataset
            (N, D), or (N, C, H, W) of layers that were not pooled; NaN where not done. Of parts a
            :class:`~vggfeat.store.parts.column.PartedColumn`, which is indexed in the same way.

        Raises
        ------
        LayerError
            The store has no such layer; the message lists those it has.
        """
        return self._dataset(f"features/{self.layer(layer)}")

    def shape(self, layer: str) -> tuple[int, ...]:
        """Return the shape of one row of a layer: (D,), or (C, H, W) where it was not pooled."""
        return tuple(int(size) for size in self[layer].shape[1:])

    def checksums(self, layer: str) -> npt.NDArray[np.uint32]:
        """Return the CRC-32 of each row of a layer, uint32, shape (N,)."""
        with reading(self.path):
            return np.asarray(self._file[f"checksums/{self.layer(layer)}"][:], np.uint32)

    def read_rows(self, layer: str, rows: Rows, vectors: npt.NDArray[np.float32]) -> None:
        """Read rows, in any order and also repeated, into `vectors`, (n, D); done or not."""
        dataset = self[layer]
        with reading(self.path):
            read_rows(dataset, rows, vectors)

    @cached_property  # a file keeps its labels, and texts take a look at all of it
    def targets(self) -> Targets | None:
        """Classes and which of them each image shows, read-only; None without labels."""
        with reading(self.path):
            targets = read_targets(self._file)
        return _read_only(targets) if targets is not None and targets.classes else None

    @cached_property
    def splits(self) -> Targets | None:
        """The split of each image, such as train and test, read-only; None where there are none."""
        return self._column("splits")

    @cached_property
    def groups(self) -> Targets | None:
        """The group of each image, such as its patient, read-only; None where there are none."""
        return self._column("groups")

    @cached_property
    def paths(self) -> npt.NDArray[np.object_]:
        """Images as text objects, shape (N,): relative to the source, '/'-separated."""
        with reading(self.path):
            return np.array(hdf5.texts(self._file["images/path"]), dtype=object)

    @property
    def status(self) -> npt.NDArray[np.uint8]:
        """Status at this moment, uint8, shape (N,): 0 pending, 1 done, 2 failed."""
        with reading(self.path):
            return np.asarray(self._file["images/status"][:], dtype=np.uint8)

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which images were in their source when that was last listed, bool, shape (N,)."""
        with reading(self.path):
            if "images/present" not in self._file:  # format 1
                return np.ones(len(self), np.bool_)
            return np.asarray(self._file["images/present"][:] == 1)

    @property
    def file_sizes(self) -> npt.NDArray[np.int64]:
        """Bytes of each image's file when it was read, int64, shape (N,)."""
        with reading(self.path):
            return np.asarray(self._file["images/size"][:], np.int64)

    @property
    def digests(self) -> npt.NDArray[np.uint8]:
        """Digest of the bytes that were decoded, uint8, shape (N, 16); zeros where unknown."""
        with reading(self.path):
            if "images/digest" not in self._file:  # format 1
                return np.zeros((len(self), DIGEST_BYTES), np.uint8)
            return np.asarray(self._file["images/digest"][:], np.uint8)

    @cached_property
    def sources(self) -> list[SourcePlace]:
        """Where the images come from."""
        with reading(self.path):
            return read_sources(self._file)

    def source_numbers(self, rows: Sequence[int] | Rows | None = None) -> npt.NDArray[np.int32]:
        """Return which of :attr:`sources` each of `rows` (all by default) belongs to."""
        with reading(self.path):
            if "images/source" in self._file:
                numbers = np.asarray(self._file["images/source"][:], np.int32)
            else:  # format 1
                numbers = np.zeros(len(self), np.int32)
        return numbers if rows is None else numbers[np.asarray(rows, np.int64)]

    @property
    def runs(self) -> list[RunInfo]:
        """The runs that made the store, oldest first."""
        with reading(self.path):
            return read_runs(self._file)

    def failures(self) -> list[tuple[str, str]]:
        """Return path and reason of each failed image of the source, in row order."""
        rows = np.flatnonzero((self.status == FAILED) & self.present)
        return list(zip(self.paths[rows].tolist(), self.errors(rows), strict=True))

    def errors(self, rows: Sequence[int] | Rows) -> list[str]:
        """Return why each of `rows` failed; empty where it did not."""
        status, reasons = self.status, []
        with reading(self.path):
            for row in rows:
                raw = self._file["images/error"][int(row)] if status[row] == FAILED else b""
                reasons.append(raw.decode(errors="replace"))
        return reasons

    def contents(self) -> Contents:
        """Return all that the store holds but features and checksums, as it is at this moment."""
        return read_contents(self._file, self.path)

    def verify(self, progress: Progress = silent) -> VerifyReport:
        """Read everything again and compare it with the checksums; see :func:`verify`."""
        return verify(self._file, self.path, progress)

    def to_json(self) -> dict[str, Any]:
        """Return what the store holds and how it was made, JSON-ready, as `vggfeat info` does."""
        layers = [
            {
                "layer": name,
                "pooling": pooling,
                "shape": list(self[name].shape),
                "dtype": self[name].dtype.name,
                "bytes": int(self[name].nbytes),
            }
            for name, pooling in self.provenance.config.layers.items()
        ]
        targets = self.targets
        labels = None
        if targets is not None:
            labels = {
                "kind": "multi-label" if targets.multi_label else "single-label",
                "origin": str(targets.origin),
                "classes": list(targets.classes),
            }
        return {
            "store": str(self.path),
            "rows": len(self),
            **self.counts(),
            "left": int((~self.present).sum()),
            "layers": layers,
            "labels": labels,
            "splits": None if self.splits is None else self.splits.counts(self.present),
            "groups": None if self.groups is None else len(self.groups.counts(self.present)),
            "deciding": self.provenance.config.to_json(),
            "happened": self.provenance.run.to_json(),
            "sources": [source._asdict() for source in self.sources],
            "runs": [run.to_json() for run in self.runs],
            "failures": [{"path": path, "reason": reason} for path, reason in self.failures()],
        }

    def _column(self, group: str) -> Targets | None:
        with reading(self.path):
            column = read_column(self._file, group)
        return _read_only(column) if column is not None and column.known.any() else None

    def _dataset(self, name: str) -> h5py.Dataset:
        with reading(self.path):
            return self._file[name]


def _read_only(targets: Targets) -> Targets:
    targets.values.setflags(write=False)
    return targets
