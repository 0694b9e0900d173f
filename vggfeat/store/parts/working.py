"""Writing one part of a store: opened by one writer at a time, checked, and then marked as done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from vggfeat.errors import StoreError
from vggfeat.feature_table import DONE, FAILED, PENDING
from vggfeat.locking import WriterLock, sweep
from vggfeat.provenance import Provenance, RunInfo
from vggfeat.store.building import build
from vggfeat.store.changes import Changes
from vggfeat.store.contents import Contents
from vggfeat.store.opening import open_hdf5, read_contents, read_runs
from vggfeat.store.parts.folder import PartsFolder, parts_folder
from vggfeat.store.parts.manifest import Manifest, Part, digest_of_paths
from vggfeat.store.parts.markers import Marker
from vggfeat.store.parts.reader import PartedStore, checked_part
from vggfeat.store.planning import Plan
from vggfeat.store.verification import verify
from vggfeat.store.writer import StoreWriter

Rows = npt.NDArray[np.int64]


class PartWriter(StoreWriter):
    """Writes the rows of one part; made by :func:`open_part`, used in a ``with`` statement.

    When it is closed after all rows were done or failed, the part is read again, compared with its
    checksums, and its marker is written: last of all, so that a part with a marker is whole.
    """

    _folder: PartsFolder
    _manifest: Manifest
    _part: Part
    _idle: bool
    """Whether nothing was pending when it was opened."""

    def placed(self, folder: PartsFolder, manifest: Manifest, part: Part) -> Self:
        """Say which part of which store it is."""
        self._folder, self._manifest, self._part = folder, manifest, part
        self._idle = not len(self.pending())
        return self

    def _settle(self) -> None:
        marker = self._folder.marker(self._part.marker)
        marked = marker is not None and marker.finished and marker.id == self._manifest.id
        if not len(self.pending()) and not (marked and self._idle):
            mark(self._folder, self._manifest, self._part)


def open_part(
    path: str | os.PathLike[str],
    manifest: Manifest,
    number: int,
    listed: Contents,
    run: RunInfo | Callable[[int], RunInfo],
) -> PartWriter:
    """Begin a part of a store, or go on with it.

    Parameters
    ----------
    path : path
        The folder.
    manifest : Manifest
        Its manifest.
    number : int
        Which part.
    listed : Contents
        All images of the store, as :class:`~vggfeat.store.parts.PartPlan` has them.
    run : RunInfo or function
        Circumstances; a function is given the number of rows to compute, and called only when
        there are some.

    Raises
    ------
    StoreLockedError
        Another process writes this part.
    StoreError
        The file is damaged, or another one's; or the disk is full.
    """
    folder = parts_folder(path)
    part = part_named(manifest, number)
    rows = np.arange(part.first, part.end)
    wanted = listed.taken(rows)
    file = folder.path / part.file
    info = run if callable(run) else lambda _pending: run
    lock = WriterLock(file).acquire()
    try:
        sweep(file)
        sweep(folder.path / part.marker)
        marker = folder.marker(part.marker)
        if marker is not None and marker.finished:
            folder.settled(part.file)  # what is here of it is older
        if not folder.fetch(part.file):
            folder.remove(part.marker)  # it is of a file that is gone
            waiting = int((wanted.present & (wanted.status == PENDING)).sum())
            made = info(waiting) if waiting else manifest.planned
            build(file, _new(manifest, part, wanted, made), lock)
        stored = _read(part, file, manifest)
        current = replace(stored, paths=wanted.paths, present=wanted.present)
        plan = Plan(
            current, np.flatnonzero(wanted.present).astype(np.int64), np.arange(0), False, rows
        )
        writer = PartWriter.begun(lock, plan, info)
    except BaseException:
        lock.release()
        raise
    return writer.placed(folder, manifest, part)


def part_named(manifest: Manifest, number: int) -> Part:
    """Return a part by its number; StoreError where there is none of that number."""
    if not 0 <= number < len(manifest.parts):
        raise StoreError(
            f"There is no part {number}: the store has parts 0 to {len(manifest.parts) - 1}. "
            "`vggfeat parts STORE` lists them."
        )
    return manifest.parts[number]


def mark(folder: PartsFolder, manifest: Manifest, part: Part) -> Marker:
    """Read a part again and, if all is well, write its marker; call it under the part's lock.

    Raises
    ------
    StoreError
        A row is not what was written. It is pending then, and the part is not marked.
    """
    path = folder.path / part.file
    with checked_part(open_hdf5(path), part, str(path), manifest) as file:
        report = verify(file, path)
        status = file["images/status"][:]
        runs = tuple(read_runs(file))
    if not report.ok:
        with _changes(part, path, manifest) as changes:
            changes.reopen(report.damaged)
        first = report.problems[0]
        raise StoreError(
            f"{path} does not hold what was written: {len(report.problems)} problems, the first of "
            f"{first.path!r}: {first.problem}. Damaged rows are to be computed again; is the disk "
            "or memory faulty?"
        )
    marker = Marker(
        manifest.id,
        done=int((status == DONE).sum()),
        failed=int((status == FAILED).sum()),
        bytes=path.stat().st_size,
        runs=runs,
    )
    folder.publish(part.file)
    folder.write_marker(part.marker, marker)
    folder.settled(part.file)
    return marker


def note_failure(path: str | os.PathLike[str], manifest: Manifest, number: int, why: str) -> None:
    """Note beside a part that an attempt at it failed, unless it is done after all."""
    folder, part = parts_folder(path), part_named(manifest, number)
    with suppress(StoreError):
        marker = folder.marker(part.marker)
        if marker is None or not marker.finished or marker.id != manifest.id:
            folder.write_marker(
                part.marker, Marker(manifest.id, reason=why or "no reason was given")
            )


def forget_failures(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Forget that parts failed, and mark failed images pending, so that they are done again.

    Returns
    -------
    parts, images : int
        How many of each.

    Raises
    ------
    StoreLockedError
        A part with failed images is being written.
    StoreError
        There is no store of parts at `path`, or a part is damaged.
    """
    folder = parts_folder(path)
    with PartedStore(path) as store:
        failed = np.flatnonzero((store.status == FAILED) & store.present)
        manifest, markers = store.manifest, store.standing().markers
    again = [number for number, marker in markers.items() if not marker.finished]
    for number in again:
        folder.remove(manifest.parts[number].marker)
    redo_rows(path, failed)
    return len(again), len(failed)


def redo_rows(path: str | os.PathLike[str], rows: Rows) -> None:
    """Mark rows pending, such as damaged ones, so that the next extraction does them again."""
    with PartedStore(path) as store:
        manifest = store.manifest
    folder = parts_folder(path)
    for part in manifest.parts:
        mine = rows[(rows >= part.first) & (rows < part.end)] - part.first
        if len(mine):
            with changing(folder, manifest, part) as changes:
                folder.remove(part.marker)
                changes.reopen(mine)


@contextmanager
def changing(folder: PartsFolder, manifest: Manifest, part: Part) -> Iterator[Changes]:
    """Give the rows of a part that has a file, to be changed under its lock."""
    path = folder.path / part.file
    with WriterLock(path):
        folder.fetch(part.file)
        with _changes(part, path, manifest) as changes:
            yield changes
        folder.publish(part.file)


@contextmanager
def _changes(part: Part, path: Path, manifest: Manifest) -> Iterator[Changes]:
    changes = Changes(path, _read(part, path, manifest))
    try:
        yield changes
        changes.sync()
    finally:
        changes.close()


def _read(part: Part, path: Path, manifest: Manifest) -> Contents:
    with checked_part(open_hdf5(path), part, str(path), manifest) as file:
        stored = read_contents(file, path)
    if digest_of_paths(stored.paths) != part.digest:
        raise StoreError(
            f"{path} has other images than the manifest says. Put the right file in its place, or "
            "delete it, and run the same command again."
        )
    return stored


def _new(manifest: Manifest, part: Part, wanted: Contents, run: RunInfo) -> Contents:
    """Return what a new part holds: its images, all pending, and no labels, which are of all."""
    count = part.rows
    return replace(
        wanted,
        provenance=Provenance(manifest.config, run),
        shapes=dict(manifest.shapes),
        digests=np.zeros_like(wanted.digests),
        status=np.full(count, PENDING, np.uint8),
        errors=np.zeros(count, wanted.errors.dtype),
        targets=None,
        splits=None,
        groups=None,
        runs=[],
        part=f"{manifest.id}/{part.number}",
    )
