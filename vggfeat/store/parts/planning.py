"""Bringing a store of parts up to its sources: which rows there are, and which are to compute."""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.atomic import atomic_file
from vggfeat.errors import StoreError, StoreLockedError
from vggfeat.failures import check_space, writing
from vggfeat.feature_table import PENDING
from vggfeat.locking import WriterLock
from vggfeat.provenance import FeatureConfig, Provenance, RunInfo, SourcePlace
from vggfeat.store.contents import SINCE_2, Contents
from vggfeat.store.following import check_alike
from vggfeat.store.labelling import LabelReport, report_of
from vggfeat.store.layout import create
from vggfeat.store.origins import EntryLike, Look
from vggfeat.store.parts.folder import PartsFolder, parts_folder
from vggfeat.store.parts.manifest import MANIFEST, Manifest, Part, cut, digest_of_paths
from vggfeat.store.parts.reader import PartedStore
from vggfeat.store.parts.states import standing
from vggfeat.store.parts.working import changing, part_named
from vggfeat.store.planning import Plan, begin, check
from vggfeat.store.resuming import resume

if TYPE_CHECKING:
    from vggfeat.labels import LabelRequest, RawLabels

Rows = npt.NDArray[np.int64]
PART_ROWS = 50_000
PART_BYTES = 2 << 30
_LISTED = ("size", "mtime_ns", "ctime_ns")
_NOTED = ("size", "mtime_ns", "ctime_ns", "present", "source")
_PAUSE = 0.2
_PATIENCE = 3600.0  # seconds for another process to list the same images


@dataclass(frozen=True, slots=True)
class PartPlan:
    """A store of parts as it is before the first row is computed.

    Attributes
    ----------
    path : Path or str
        The folder, or its URL.
    manifest : Manifest
        Which images are in which part.
    contents : Contents
        All images, and how they stand.
    requested : ndarray of int64
        Rows whose images are in the source now, ascending.
    added, changed, moved, missing : int
        Images new to the store, changed since, found under another path; and rows whose images
        are in no source now.
    labels : LabelReport
        What the labels are now.
    """

    path: Path | str
    manifest: Manifest
    contents: Contents
    requested: Rows
    added: int = 0
    changed: int = 0
    moved: int = 0
    missing: int = 0
    labels: LabelReport = field(default_factory=LabelReport)

    @property
    def pending(self) -> Rows:
        """Rows to compute, ascending."""
        rows: Rows = self.requested[self.contents.status[self.requested] == PENDING]
        return rows

    def waiting(self) -> dict[int, int]:
        """Return how many rows are to be computed of each part that has such, by its number."""
        firsts = np.array([part.first for part in self.manifest.parts])
        numbers = np.searchsorted(firsts, self.pending, side="right") - 1
        distinct, counts = np.unique(numbers, return_counts=True)
        return dict(zip(distinct.tolist(), counts.tolist(), strict=True))

    def whole(self, number: int) -> bool:
        """Return whether a part is marked as done at this moment, with none of its rows pending."""
        part = part_named(self.manifest, number)
        marker = parts_folder(self.path).marker(part.marker)
        if marker is None or marker.id != self.manifest.id or not marker.finished:
            return False
        return marker.done + marker.failed == part.rows

    def unmarked(self) -> list[Part]:
        """Return the parts that are not marked as done at this moment, in order."""
        now = standing(parts_folder(self.path), self.manifest)
        return [part for part in self.manifest.parts if not now.finished(part)]


def usual_part_rows(shapes: Mapping[str, tuple[int, ...]], dtype: str) -> int:
    """Return how many rows a part has by default: 50,000, or what takes 2 GiB if that is fewer."""
    row = sum(math.prod(shape) for shape in shapes.values()) * np.dtype(dtype).itemsize
    return max(1, min(PART_ROWS, PART_BYTES // row))


def plan(
    path: str | os.PathLike[str],
    *,
    entries: Sequence[EntryLike],
    shapes: Mapping[str, tuple[int, ...]],
    config: FeatureConfig,
    planned: RunInfo,
    sources: Sequence[SourcePlace],
    part_rows: int | None = None,
    labels: RawLabels | LabelRequest | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    partial: bool = False,
    look: Look | None = None,
) -> PartPlan:
    """List images in the manifest of a new store of parts, or bring an existing one up to them.

    Rows stay in their parts for ever. New images are cut into new parts; nothing that is there is
    copied. Labels, splits, groups and the paths of moved images are in the list of images alone.

    Parameters
    ----------
    path : path
        The folder; made where there is none.
    entries, shapes, sources, labels, overwrite, retry_failed, partial, look
        As for :meth:`~vggfeat.store.StoreWriter.open`.
    config : FeatureConfig
        Deciding values, which must equal those of an existing store.
    planned : RunInfo
        Circumstances, as far as they are known before the network is loaded.
    part_rows : int, optional
        Most rows in a part; by default what the store has, or :func:`usual_part_rows`. It decides
        how images that are new now are cut.

    Raises
    ------
    StoreMismatchError
        The existing store was made with other deciding values.
    StoreLockedError
        Another process is listing images, or writes a part that is to change.
    StoreError
        The folder holds other things, a part is damaged, or the disk is full.
    """
    check(entries, shapes, config)
    if part_rows is not None and part_rows < 1:
        raise StoreError(f"A part of {part_rows} rows cannot be. Give --part-rows 1 or more.")
    folder = parts_folder(path)
    folder.make()
    with WriterLock(folder.path / MANIFEST):
        exists = folder.has(MANIFEST)
        if exists and not overwrite:
            return _follow(
                folder, entries, shapes, config, sources, part_rows, labels,
                retry_failed=retry_failed, partial=partial, look=look,
            )  # fmt: skip
        folder.clear()  # of what a killed run left, too
        first = begin(entries, shapes, Provenance(config, planned), labels, sources)
        rows = part_rows or usual_part_rows(shapes, config.dtype)
        made = Manifest(
            id=secrets.token_hex(16),
            images="images-0.h5",
            digest=digest_of_paths(first.contents.paths),
            part_rows=rows,
            config=config,
            shapes={layer: tuple(shapes[layer]) for layer in config.layers},
            planned=planned,
            parts=tuple(cut(first.contents.paths, 0, 0, rows)),
        )
        _commit(folder, made, _list_of(first.contents))
        return _made(folder, made, first)


def find_parts(path: str | os.PathLike[str], config: FeatureConfig | None = None) -> PartPlan:
    """Return a store of parts as it is, without looking at its sources.

    Parameters
    ----------
    path : path
        The folder.
    config : FeatureConfig, optional
        Deciding values that it must have.

    Raises
    ------
    StoreMismatchError
        It was made with other values.
    StoreError
        There is no such store, or it is damaged.
    """
    with PartedStore(path) as store:
        if config is not None:
            shapes = store.manifest.shapes
            check_alike(store.path, config, shapes, store.manifest.config, shapes)
        contents = store.contents()
        here = np.flatnonzero(contents.present).astype(np.int64)
        return PartPlan(
            parts_folder(path).place,
            store.manifest,
            contents,
            here,
            missing=int((~contents.present).sum()),
            labels=report_of(contents.named, here),
        )


def planned_by_somebody(path: str | os.PathLike[str]) -> bool:
    """Wait while another process lists images for a store; return whether there is one then."""
    folder = parts_folder(path)
    began = time.monotonic()
    while not folder.has(MANIFEST):
        if not folder.path.is_dir():
            return False
        try:
            with WriterLock(folder.path / MANIFEST):
                return folder.has(MANIFEST)
        except StoreLockedError:
            if time.monotonic() - began > _PATIENCE:
                raise
            time.sleep(_PAUSE)
    return True


def _follow(
    folder: PartsFolder,
    entries: Sequence[EntryLike],
    shapes: Mapping[str, tuple[int, ...]],
    config: FeatureConfig,
    sources: Sequence[SourcePlace],
    part_rows: int | None,
    labels: RawLabels | LabelRequest | None,
    **options: Any,
) -> PartPlan:
    with PartedStore(folder.place) as store:
        manifest = store.manifest
        check_alike(store.path, config, shapes, manifest.config, manifest.shapes)
        stored = store.contents()
        listed, now = store.listed, store.standing()
        begun = {part.number for part in manifest.parts if now.begun(part)}
    plan = resume(stored, entries, sources, labels, name=str(folder.place), **options)
    _change_parts(folder, manifest, stored, plan, begun)
    rows = part_rows or manifest.part_rows
    fresh = plan.contents.paths[manifest.rows :]
    parts = (*manifest.parts, *cut(fresh, manifest.rows, len(manifest.parts), rows))
    wanted = _list_of(plan.contents, listed)
    if len(parts) == len(manifest.parts) and _same_list(wanted, listed):
        return _made(folder, manifest, plan)
    number = int(manifest.images.partition("-")[2].partition(".")[0]) + 1
    made = replace(
        manifest,
        images=f"images-{number}.h5",
        digest=digest_of_paths(plan.contents.paths),
        part_rows=rows,
        parts=parts,
    )
    _commit(folder, made, wanted)
    return _made(folder, made, plan)


def _made(folder: PartsFolder, manifest: Manifest, plan: Plan) -> PartPlan:
    return PartPlan(
        folder.place,
        manifest,
        plan.contents,
        plan.requested,
        plan.added,
        plan.changed,
        plan.moved,
        plan.missing,
        plan.labels,
    )


def _change_parts(
    folder: PartsFolder, manifest: Manifest, stored: Contents, plan: Plan, begun: set[int]
) -> None:
    """Make rows of parts pending again, and note in them what is known anew of unchanged images."""
    before, after = stored.columns, plan.contents.columns
    differ = np.zeros(manifest.rows, np.bool_)
    for name in _NOTED:
        differ |= before[name] != after[name][: manifest.rows]
    differ[plan.reopened] = True
    numbers = {manifest.part_of(row).number for row in np.flatnonzero(differ).tolist()}
    with ExitStack() as stack:
        for number in sorted(numbers & begun):
            part = manifest.parts[number]
            span = slice(part.first, part.end)
            changes = stack.enter_context(changing(folder, manifest, part))
            again = plan.reopened[(plan.reopened >= part.first) & (plan.reopened < part.end)]
            if len(again):
                folder.remove(part.marker)
                changes.reopen(again - part.first)
            for name in _NOTED:
                if not np.array_equal(before[name][span], after[name][span]):
                    changes.column(name, after[name][span])
            changes.sync()


def _list_of(contents: Contents, listed: Contents | None = None) -> Contents:
    """Return what the list of images says; of those that parts tell of, what it said before."""
    columns = contents.columns
    values = {name: columns[name].copy() for name in _LISTED}
    if listed is not None:
        kept = np.flatnonzero(contents.status[: len(listed.paths)] != PENDING)
        for name in _LISTED:
            values[name][kept] = listed.columns[name][kept]
    count = len(contents.paths)
    config = replace(contents.provenance.config, layers={})
    return replace(
        contents,
        provenance=replace(contents.provenance, config=config),
        shapes={},
        sizes=values["size"],
        mtimes=values["mtime_ns"],
        ctimes=values["ctime_ns"],
        digests=np.zeros((count, *SINCE_2["digest"][1]), np.uint8),
        status=np.zeros(count, np.uint8),
        errors=np.zeros(count, contents.errors.dtype),
        runs=[],
    )


def _same_list(one: Contents, other: Contents) -> bool:
    """Whether two lists of images say the same, also of where names came from."""
    ours, theirs = one.columns, other.columns
    return (
        one.paths == other.paths
        and one.sources == other.sources
        and all(np.array_equal(ours[name], theirs[name]) for name in ours)
        and one.named == other.named
        and [each and each.origin for each in one.named.values()]
        == [each and each.origin for each in other.named.values()]
    )


def _commit(folder: PartsFolder, manifest: Manifest, listed: Contents) -> None:
    """Write the list of images, and then the manifest that names it."""
    path = folder.path / manifest.images
    check_space(path, listed.bytes_needed())
    with writing(path), atomic_file(path) as temporary:
        create(temporary, listed)
    folder.publish(manifest.images)
    folder.settled(manifest.images)
    folder.write_manifest(manifest)
    folder.sweep(manifest)
