"""Reading a store, lazily."""

from __future__ import annotations

import difflib
import math
import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from vggfeat import hdf5
from vggfeat.errors import LayerError, StoreError
from vggfeat.labels import Origin, as_floats, from_signs
from vggfeat.layers import ARCHITECTURES
from vggfeat.progress import Progress, silent
from vggfeat.provenance import Provenance, RunInfo
from vggfeat.store.contents import DIGEST_BYTES, DONE, FAILED, SourcePlace, count
from vggfeat.store.describing import describe
from vggfeat.store.failures import reading
from vggfeat.store.opening import (
    open_hdf5,
    read_origin,
    read_provenance,
    read_runs,
    read_sources,
)
from vggfeat.store.vectors import read_rows

if TYPE_CHECKING:
    from vggfeat.store.verification import VerifyReport

Rows = npt.NDArray[np.int64]
_BLOCK_BYTES = 64 << 20


class FeatureStore:
    """A store opened for reading; use it in a ``with`` statement.

    Nothing is read before it is asked for, and a running writer is not disturbed: a store may be
    looked at while it fills.

    Parameters
    ----------
    path : path
        The file that ``vggfeat extract`` made.

    Attributes
    ----------
    path : Path
        The file.
    provenance : Provenance
        What decides the numbers, and how they came about.
    layers : tuple of str
        Canonical names of the layers it holds.

    Raises
    ------
    StoreError
        There is no file, or it is damaged, of another kind, or of a newer format.

    Notes
    -----
    Threads may share one until it is closed; their reads take turns. It does not pickle: send its
    path.

    Examples
    --------
    >>> with FeatureStore("photos.h5") as store:  # doctest: +SKIP
    ...     X, y = store.xy("relu7")
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = open_hdf5(self.path)
        self.provenance: Provenance = read_provenance(self._file, self.path)
        self.layers: tuple[str, ...] = tuple(self.provenance.config.layers)
        self._paths: npt.NDArray[np.object_] | None = None
        self._row_numbers: dict[str, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; datasets taken from it become unusable."""
        self._file.close()

    def __len__(self) -> int:
        """Return the number of rows, done or not, also of images that have left the source."""
        return int(self._dataset("images/path").shape[0])

    def __contains__(self, layer: object) -> bool:
        try:
            return isinstance(layer, str) and bool(self.layer(layer))
        except LayerError:
            return False

    __iter__ = None  # a store is neither a sequence of rows nor a mapping of layers

    def __getitem__(self, layer: str) -> h5py.Dataset:
        """Return a layer's features as an HDF5 dataset: row i belongs to image i.

        Parameters
        ----------
        layer : str
            Canonical name or an alias such as ``"fc2"`` or ``"features.28"``.

        Returns
        -------
        h5py.Dataset
            (N, D), or (N, C, H, W) of layers that were not pooled; NaN where not done.

        Raises
        ------
        LayerError
            The store has no such layer; the message lists those it has.
        """
        return self._dataset(f"features/{self.layer(layer)}")

    def checksums(self, layer: str) -> h5py.Dataset:
        """Return the CRC-32 of each row of a layer, (N,) uint32."""
        return self._dataset(f"checksums/{self.layer(layer)}")

    def layer(self, name: str) -> str:
        """Return the canonical name of one of the store's layers; LayerError where it has none."""
        network = ARCHITECTURES.get(self.provenance.config.model)
        key = str(name).strip()
        if key not in self.layers and network is not None:
            key = network.canonical(key)
        if key not in self.layers:
            near = difflib.get_close_matches(key, self.layers, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise LayerError(
                f"{self.path} has no layer {name!r}; it has {', '.join(self.layers)}. {hint}"
                "Take one of these, or extract a store with --layers."
            )
        return key

    @property
    def has_labels(self) -> bool:
        """Whether the store knows classes."""
        return "labels/targets" in self._file and len(self._dataset("labels/classes")) > 0

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return self.has_labels and self._dataset("labels/targets").ndim == 2

    @property
    def labels(self) -> npt.NDArray[Any]:
        """Targets, read anew at each access.

        (N,) int32 class numbers, -1 unknown; or (N, K) int8, 1 present, 0 absent, -1 left out or
        unknown.

        Raises
        ------
        StoreError
            The store has no labels.
        """
        if not self.has_labels:
            raise StoreError(
                f"{self.path} has no labels. Run `vggfeat extract` again with --labels FILE.csv, "
                "or on a folder with one sub-folder a class; what is done is not done again."
            )
        with reading(self.path):
            values = self._dataset("labels/targets")[:]
            return from_signs(values) if values.ndim == 2 else np.asarray(values)

    def stored_labels(self) -> npt.NDArray[Any]:
        """Return the targets as the file has them, right or wrong: of several labels, 1, -1, 0."""
        with reading(self.path):
            return np.asarray(self._dataset("labels/targets")[:])

    @property
    def classes(self) -> list[str]:
        """Class names by number; empty where the store has no labels."""
        with reading(self.path):
            return hdf5.texts(self._file["labels/classes"]) if self.has_labels else []

    @property
    def label_origin(self) -> Origin:
        """Where the labels came from, as far as the store says."""
        with reading(self.path):
            return read_origin(self._file) if self.has_labels else Origin()

    @property
    def paths(self) -> npt.NDArray[np.object_]:
        """Images as text objects, shape (N,): relative to the source, '/'-separated."""
        if self._paths is None:
            with reading(self.path):
                self._paths = np.array(hdf5.texts(self._file["images/path"]), dtype=object)
        return self._paths

    @property
    def status(self) -> npt.NDArray[np.uint8]:
        """Status at this moment, uint8, shape (N,): 0 pending, 1 done, 2 failed."""
        with reading(self.path):
            return np.asarray(self._file["images/status"][:], dtype=np.uint8)

    @property
    def done(self) -> npt.NDArray[np.bool_]:
        """Which rows hold features of images that are in the source, bool, shape (N,)."""
        return np.equal(self.status, DONE) & self.present

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

    @property
    def sources(self) -> list[SourcePlace]:
        """Where the images come from."""
        with reading(self.path):
            return read_sources(self._file)

    def origins(self, rows: Sequence[int] | Rows | None = None) -> list[str]:
        """Return where rows' images are: what :func:`vggfeat.sources.open_stored` takes.

        Parameters
        ----------
        rows : sequence of int, optional
            Row numbers; all by default.

        Returns
        -------
        list of str
            A folder or archive; ``name=folder`` in a store of several sources.
        """
        texts = [one.text for one in self.sources]
        return [texts[number] for number in self.source_numbers(rows).tolist()]

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

    @property
    def latest(self) -> RunInfo:
        """The circumstances of the last run, with where the images are now as its source."""
        last = self.runs[-1] if self.runs else self.provenance.run
        return replace(last, source=", ".join(one.text for one in self.sources))

    def counts(self) -> dict[str, int]:
        """Return how many images are ``done``, ``failed`` and ``pending`` at this moment.

        Those that have left the source are none of them; see :attr:`present`.
        """
        return count(self.status[self.present])

    def failures(self) -> list[tuple[str, str]]:
        """Return path and reason of each failed image of the source, in row order."""
        rows = np.flatnonzero((self.status == FAILED) & self.present)
        return list(zip(self.paths[rows].tolist(), self.errors(rows), strict=True))

    def error(self, row: int) -> str:
        """Return why a row failed; empty where it did not."""
        return self.errors(np.array([row]))[0]

    def errors(self, rows: Sequence[int] | Rows) -> list[str]:
        """Return why each of `rows` failed; empty where it did not."""
        status, found = self.status, []
        with reading(self.path):
            for row in rows:
                raw = self._file["images/error"][int(row)] if status[row] == FAILED else b""
                found.append(raw.decode(errors="replace"))
        return found

    def row(self, path: str) -> int:
        """Return the row of an image; StoreError where the store has none of that path.

        Accents count alike in both forms of Unicode, composed and decomposed.
        """
        if self._row_numbers is None:
            self._row_numbers = {name: i for i, name in enumerate(self.paths)}
        try:
            return self._row_numbers[path]
        except KeyError:
            form = unicodedata.normalize("NFC", path)
            for name, number in self._row_numbers.items():  # as macOS writes accents, or not
                if not name.isascii() and unicodedata.normalize("NFC", name) == form:
                    return number
            raise StoreError(
                f"{self.path} has no image {path!r}. Paths are relative to the extracted source "
                f"({self.provenance.run.source}), with '/' between folders."
            ) from None

    def rows_of(self, paths: Sequence[str]) -> Rows:
        """Return the rows of several images, int64, in the order asked for."""
        return np.array([self.row(path) for path in paths], dtype=np.int64)

    def blocks(
        self, layer: str, rows: Sequence[int] | Rows | None = None, size: int = 1024
    ) -> Iterator[tuple[Rows, npt.NDArray[np.float32]]]:
        """Read a layer in blocks, as vectors.

        Parameters
        ----------
        layer : str
            Name or alias.
        rows : sequence of int, optional
            Which rows, in which order; all done ones by default.
        size : int
            Most rows in a block; fewer where rows are large (a block stays below 64 MiB).

        Yields
        ------
        rows : ndarray of int64, shape (n,)
            Row numbers.
        features : ndarray of float32, shape (n, D)
            Their features; maps (C, H, W) flattened to C * H * W.

        Raises
        ------
        StoreError
            One of `rows` is not done.
        """
        dataset = self[layer]
        chosen = self._done_rows(rows)
        width = math.prod(dataset.shape[1:])
        size = max(1, min(size, _BLOCK_BYTES // (4 * width)))
        for first in range(0, len(chosen), size):
            block = np.empty((len(chosen[first : first + size]), width), dtype=np.float32)
            with reading(self.path):
                read_rows(dataset, chosen[first : first + size], block)
            yield chosen[first : first + size], block

    def matrix(
        self, layer: str, rows: Sequence[int] | Rows | None = None
    ) -> tuple[Rows, npt.NDArray[np.float32]]:
        """Read a layer as one matrix in memory.

        Returns
        -------
        rows : ndarray of int64, shape (n,)
            Row numbers.
        X : ndarray of float32, shape (n, D)
            Their features; see :meth:`blocks`.
        """
        chosen = self._done_rows(rows)
        whole = np.empty((len(chosen), math.prod(self[layer].shape[1:])), dtype=np.float32)
        first = 0
        for _, block in self.blocks(layer, chosen):
            whole[first : first + len(block)] = block
            first += len(block)
        return chosen, whole

    def xy(self, layer: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
        """Read what a classifier learns from: the rows that are done and labelled, in row order.

        Parameters
        ----------
        layer : str
            Name or alias.

        Returns
        -------
        X : ndarray of float32, shape (n, D)
            Features; maps (C, H, W) are vectors of length C * H * W.
        y : ndarray
            (n,) int64, positions in :attr:`classes`. Where images may have several labels,
            (n, K) float64: 1 present, 0 absent, NaN left out. As
            :class:`~vggfeat.probe.LinearProbe` takes them.

        Raises
        ------
        StoreError
            The store has no labels.
        LayerError
            The store has no such layer.
        """
        labels = self.labels
        known = labels >= 0 if labels.ndim == 1 else (labels >= 0).any(axis=1)
        rows, X = self.matrix(layer, np.flatnonzero(self.done & known))
        return X, labels[rows].astype(np.int64) if labels.ndim == 1 else as_floats(labels[rows])

    def verify(self, progress: Progress = silent) -> VerifyReport:
        """Read everything again and compare it with the checksums; see :func:`verify`."""
        from vggfeat.store.verification import verify

        return verify(self, progress)

    def to_json(self) -> dict[str, Any]:
        """Return what the store holds and how it was made, JSON-ready, as `vggfeat info` does."""
        return describe(self)

    def _done_rows(self, rows: Sequence[int] | Rows | None) -> Rows:
        done = self.done
        if rows is None:
            return np.flatnonzero(done).astype(np.int64)
        chosen = np.asarray(rows, dtype=np.int64).reshape(-1)
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(done)):
            raise StoreError(f"{self.path} has rows 0 to {len(done) - 1}; others were asked for.")
        if not done[chosen].all():
            row = int(chosen[~done[chosen]][0])
            state = {DONE: "no longer in its source", FAILED: "failed and has no features"}.get(
                int(self.status[row]), "pending and has no features"
            )
            raise StoreError(
                f"{self.path}: row {row} ({self.paths[row]!r}) is {state}. "
                "Leave it out, or run `vggfeat extract` again."
            )
        return chosen

    def _dataset(self, name: str) -> h5py.Dataset:
        with reading(self.path):
            return self._file[name]
