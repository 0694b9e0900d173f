"""All parts of a store as one table."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from vggfeat.errors import StoreError
from vggfeat.failures import reading
from vggfeat.feature_table import DONE, FAILED, PENDING
from vggfeat.labels import Targets
from vggfeat.progress import Progress, silent
from vggfeat.provenance import Provenance, RunInfo, SourcePlace
from vggfeat.storage.urls import is_remote
from vggfeat.store.contents import DIGEST_BYTES, ERROR_BYTES, IMAGES, SINCE_2, Contents
from vggfeat.store.opening import read_part, read_provenance, read_runs
from vggfeat.store.parts.column import PartedColumn
from vggfeat.store.parts.folder import PartsFolder, parts_folder
from vggfeat.store.parts.manifest import Manifest, Part, digest_of_paths
from vggfeat.store.parts.states import Standing, standing
from vggfeat.store.reader import FeatureStore
from vggfeat.store.vectors import read_rows
from vggfeat.store.verification import Problem, VerifyReport, verify

Rows = npt.NDArray[np.int64]
_OPEN = 64  # files that are open at a time
_OF_PARTS = ("status", "error", "size", "mtime_ns", "ctime_ns", "digest")


class PartedStore(FeatureStore):
    """A store of parts opened for reading: a folder with a manifest, and a file for each part.

    It is what :class:`~vggfeat.store.FeatureStore` gives for such a folder, and reads as one. Files
    of parts are opened when their rows are needed. Parts that nobody has computed yet are pending
    rows; one that was finished and is gone, cut short or of another store is an error.

    Parameters
    ----------
    path : path
        The folder.

    Attributes
    ----------
    path : Path
        The folder.
    manifest : Manifest
        Which images are in which part.
    provenance : Provenance
        Every setting that changes the features, and the run that made the store.

    Raises
    ------
    StoreError
        There is no such store; the manifest, a marker or the list of images is damaged; or a
        finished part is not there or has another size.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._folder = parts_folder(path)
        self.path = self._folder.place if is_remote(os.fspath(path)) else Path(path)
        self._lock = threading.RLock()
        self._opened: OrderedDict[int, h5py.File] = OrderedDict()
        self._closed = False
        self.manifest: Manifest
        self.manifest, self._images = _newest(self._folder)
        self.provenance = Provenance(self.manifest.config, self.manifest.planned)
        try:
            self.standing()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            self._closed = True
            self._images.close()
            while self._opened:
                self._opened.popitem()[1].close()

    def __len__(self) -> int:
        """Return the number of rows, done or not, also of images that have left the source."""
        return self.manifest.rows

    def __getitem__(self, layer: str) -> PartedColumn:
        """Return a layer's features, indexed as a dataset of HDF5 is: row i belongs to image i.

        Raises
        ------
        LayerError
            The store has no such layer; the message lists those it has.
        """
        name = self.layer(layer)
        shape = (len(self), *self.manifest.shapes[name])
        dtype = np.dtype(self.manifest.config.dtype)
        return PartedColumn(shape, dtype, lambda rows: self._stored(name, rows, shape, dtype))

    def standing(self) -> Standing:
        """Return how each part stands at this moment, by what lies in the folder.

        Raises
        ------
        StoreError
            A finished part is not there, or is not as it was; or a marker is damaged.
        """
        with self._lock:
            before = self.__dict__.get("_standing")
            self._standing = standing(self._folder, self.manifest, before)
            return self._standing.checked()

    def shape(self, layer: str) -> tuple[int, ...]:
        """Return the shape of one row of a layer: (D,), or (C, H, W) where it was not pooled."""
        return self.manifest.shapes[self.layer(layer)]

    def checksums(self, layer: str) -> npt.NDArray[np.uint32]:
        """Return the CRC-32 of each row of a layer, uint32, shape (N,); 0 where not computed."""
        name = self.layer(layer)
        sums = np.zeros(len(self), np.uint32)
        for part, file in self._files():
            sums[part.first : part.end] = file[f"checksums/{name}"][:]
        return sums

    def read_rows(self, layer: str, rows: Rows, vectors: npt.NDArray[np.float32]) -> None:
        """Read rows, in any order and also repeated, into `vectors`, (n, D); done or not."""
        name = self.layer(layer)
        for part, positions in self._by_part(rows):
            local = rows[positions] - part.first
            adjacent = positions[-1] - positions[0] == len(positions) - 1
            block = vectors[positions[0] : positions[-1] + 1]
            if not adjacent:
                block = np.empty((len(positions), vectors.shape[1]), np.float32)
            with self._file(part) as file:
                if file is None:
                    block.fill(np.nan)
                else:
                    read_rows(file[f"features/{name}"], local, block)
            if not adjacent:
                vectors[positions] = block

    @cached_property
    def targets(self) -> Targets | None:
        """Classes and which of them each image shows, read-only; None without labels."""
        return self._images.targets

    @cached_property
    def splits(self) -> Targets | None:
        """The split of each image, such as train and test, read-only; None where there are none."""
        return self._images.splits

    @cached_property
    def groups(self) -> Targets | None:
        """The group of each image, such as its patient, read-only; None where there are none."""
        return self._images.groups

    @cached_property
    def paths(self) -> npt.NDArray[np.object_]:
        """Images as text objects, shape (N,): relative to the source, '/'-separated."""
        paths = self._images.paths
        self._check_list(paths)
        return paths

    @cached_property
    def listed(self) -> Contents:
        """What the list of images says, by itself."""
        listed = self._images.contents()
        self._check_list(listed.paths)
        return listed

    @property
    def status(self) -> npt.NDArray[np.uint8]:
        """Status at this moment, uint8, shape (N,): 0 pending, 1 done, 2 failed."""
        now = self.standing()
        status = np.full(len(self), PENDING, np.uint8)
        for part in self.manifest.parts:
            span = slice(part.first, part.end)
            if now.whole(part):
                status[span] = DONE
            elif now.begun(part):
                with self._file(part) as file:
                    if file is not None:
                        status[span] = file["images/status"][:]
        return status

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which images were in their source when that was last listed, bool, shape (N,)."""
        return self._images.present

    @property
    def file_sizes(self) -> npt.NDArray[np.int64]:
        """Bytes of each image's file when it was read, or listed, int64, shape (N,)."""
        sizes = self._images.file_sizes
        for part, file in self._files():
            sizes[part.first : part.end] = file["images/size"][:]
        return sizes

    @property
    def digests(self) -> npt.NDArray[np.uint8]:
        """Digest of the bytes that were decoded, uint8, shape (N, 16); zeros where unknown."""
        digests = np.zeros((len(self), DIGEST_BYTES), np.uint8)
        for part, file in self._files():
            digests[part.first : part.end] = file["images/digest"][:]
        return digests

    @cached_property
    def sources(self) -> list[SourcePlace]:
        """Where the images come from."""
        return self._images.sources

    def source_numbers(self, rows: Sequence[int] | Rows | None = None) -> npt.NDArray[np.int32]:
        """Return which of :attr:`sources` each of `rows` (all by default) belongs to."""
        return self._images.source_numbers(rows)

    @property
    def runs(self) -> list[RunInfo]:
        """The runs that made the parts, oldest first; each once."""
        now = self.standing()
        runs: list[RunInfo] = []
        for part in self.manifest.parts:
            marker = now.markers.get(part.number)
            if marker is not None and marker.finished:
                runs += marker.runs
            elif now.begun(part):
                with self._file(part) as file:
                    runs += [] if file is None else read_runs(file)
        distinct = {run.start + run.end + str(run): run for run in runs}
        return [distinct[key] for key in sorted(distinct)]

    def errors(self, rows: Sequence[int] | Rows) -> list[str]:
        """Return why each of `rows` failed; empty where it did not."""
        chosen = np.asarray(rows, np.int64)
        reasons = [""] * len(chosen)
        for part, positions in self._by_part(chosen):
            with self._file(part) as file:
                if file is None:
                    continue
                status, errors = file["images/status"][:], file["images/error"]
                for at in positions.tolist():
                    local = int(chosen[at]) - part.first
                    if status[local] == FAILED:
                        reasons[at] = errors[local].decode(errors="replace")
        return reasons

    def contents(self) -> Contents:
        """Return all that the store holds but features and checksums, as it is at this moment."""
        listed = self.listed
        columns = {name: values.copy() for name, values in listed.columns.items()}
        for part, file in self._files():
            for name in _OF_PARTS:
                kind = (IMAGES | SINCE_2)[name][0]
                columns[name][part.first : part.end] = file[f"images/{name}"][:].astype(kind)
        return replace(
            listed,
            provenance=self.provenance,
            shapes=dict(self.manifest.shapes),
            sizes=columns["size"],
            mtimes=columns["mtime_ns"],
            ctimes=columns["ctime_ns"],
            digests=columns["digest"],
            status=columns["status"],
            errors=columns["error"].astype(f"S{ERROR_BYTES}"),
            runs=self.runs,
        )

    def verify(self, progress: Progress = silent) -> VerifyReport:
        """Read everything again and compare it with the checksums; see :func:`verify`."""
        total = len(self.layers) * int((self.status == DONE).sum())
        checked = dict.fromkeys(self.layers, 0)
        problems: list[Problem] = []
        damaged: list[Rows] = []
        for part, file in self._files():
            name = self._folder.named(part.file)
            report = verify(file, name, lambda stage, more, _: progress(stage, more, total))
            with reading(name):
                paths = [path.decode() for path in file["images/path"][:]]
            if digest_of_paths(paths) != part.digest:
                problems.append(
                    Problem(part.file, "", "its images are not those that the manifest has")
                )
            problems += report.problems
            damaged.append(report.damaged + part.first)
            for layer, count in report.checked.items():
                checked[layer] += count
        rows = np.concatenate(damaged) if damaged else np.empty(0, np.int64)
        return VerifyReport(checked, problems, rows)

    def to_json(self) -> dict[str, Any]:
        """Return what the store holds and how it was made, JSON-ready, as `vggfeat info` does."""
        now = self.standing()
        finished = sum(now.finished(part) for part in self.manifest.parts)
        return super().to_json() | {
            "parts": {
                "parts": len(self.manifest.parts),
                "finished": finished,
                "part_rows": self.manifest.part_rows,
            }
        }

    def _check_list(self, paths: Iterable[str]) -> None:
        if digest_of_paths(paths) != self.manifest.digest:
            raise StoreError(
                f"{self._folder.named(self.manifest.images)} is not the list of images that "
                "the manifest names. Copy the store again from where it came."
            )

    def _stored(
        self, layer: str, rows: Rows, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> npt.NDArray[Any]:
        """Read rows, ascending and each once, in the type and shape that they are stored in."""
        values = np.empty((len(rows), *shape[1:]), dtype)
        for part, positions in self._by_part(rows):
            block = values[positions[0] : positions[-1] + 1]
            local = rows[positions] - part.first
            with self._file(part) as file:
                if file is None:
                    block.fill(np.nan)
                elif local[-1] - local[0] == len(local) - 1:
                    block[...] = file[f"features/{layer}"][local[0] : local[-1] + 1]
                else:
                    block[...] = file[f"features/{layer}"][local]
        return values

    def _by_part(self, rows: Rows) -> Iterator[tuple[Part, Rows]]:
        """Give for each part that rows are in the positions of its rows, ascending."""
        if not len(rows):
            return
        if rows.min() < 0 or rows.max() >= len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)}")
        firsts = np.array([part.first for part in self.manifest.parts])
        numbers = np.searchsorted(firsts, rows, side="right") - 1
        order = np.argsort(numbers, kind="stable")
        cuts = np.flatnonzero(np.diff(numbers[order])) + 1
        for positions in np.split(order, cuts):
            yield self.manifest.parts[numbers[positions[0]]], positions

    def _files(self) -> Iterator[tuple[Part, h5py.File]]:
        """Give the file of each part that has one, held open meanwhile."""
        for part in self.manifest.parts:
            with self._file(part) as file:
                if file is not None:
                    yield part, file

    @contextmanager
    def _file(self, part: Part) -> Iterator[h5py.File | None]:
        """Give the file of a part, held open meanwhile; None where nobody has begun it."""
        with self._lock:
            if self._closed:
                raise ValueError(f"{self.path} is closed")
            file = self._opened.pop(part.number, None)
            now = self._standing
            there = now.begun(part) or now.finished(part)  # else an error tells, not None
            if file is None and (there or self._folder.has(part.file)):
                while len(self._opened) >= _OPEN:
                    self._opened.popitem(last=False)[1].close()
                file = open_of(part, self._folder, self.manifest)
            if file is None:
                yield None
                return
            self._opened[part.number] = file
            with self._folder.reading(part.file):
                yield file


def open_of(part: Part, folder: PartsFolder, manifest: Manifest) -> h5py.File:
    """Open the file of a part for reading.

    Raises
    ------
    StoreError
        It is not there, damaged, or not this part of this store.
    """
    name = folder.named(part.file)
    try:
        file = folder.open(part.file)
    except StoreError as error:
        if folder.has(part.file):
            raise
        raise StoreError(
            f"{name} is not there, although its part was begun. Put it back, or delete its "
            f"marker {part.marker} and run `vggfeat extract` again: it computes the part anew."
        ) from error
    return checked_part(file, part, name, manifest)


def checked_part(file: h5py.File, part: Part, name: str, manifest: Manifest) -> h5py.File:
    """Return the file of a part; where it is another one, close it and raise StoreError."""
    try:
        with reading(name):
            config = read_provenance(file, name).config
            differing = manifest.config.differences(config)
            rows = len(file["images/path"])
            if read_part(file) != f"{manifest.id}/{part.number}" or rows != part.rows:
                differing = differing or [f"{rows} rows that were cut for another store or part"]
            if differing:
                raise StoreError(
                    f"{name} is not part {part.number} of this store: {'; '.join(differing)}. Put "
                    "the right file in its place, or delete it and its marker "
                    f"{part.marker} and run `vggfeat extract` again."
                )
    except BaseException:
        file.close()
        raise
    return file


def _newest(folder: PartsFolder) -> tuple[Manifest, FeatureStore]:
    """Read the manifest and the list of images that it names, also while they are replaced."""
    while True:
        manifest = folder.manifest()
        name = folder.named(manifest.images)
        try:
            images = folder.list_of_images(manifest.images)
        except StoreError as error:
            if folder.manifest() != manifest:
                continue
            raise StoreError(
                f"{name}, the list of images that the manifest names, cannot be read: {error}"
            ) from error
        count = len(images)
        if count == manifest.rows:
            return manifest, images
        images.close()
        raise StoreError(
            f"{name} lists {count:,} images, and the manifest has {manifest.rows:,}. Copy the "
            "store again from where it came."
        )
