"""Bringing an existing store up to its source, as far as that takes no features."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import StoreError, StoreMismatchError
from vggfeat.feature_table import DONE, PENDING
from vggfeat.locking import WriterLock, destination
from vggfeat.provenance import NEVER, FeatureConfig, SourcePlace
from vggfeat.store.building import build
from vggfeat.store.changes import Changes
from vggfeat.store.contents import FORMAT_VERSION, SINCE_2, Contents
from vggfeat.store.layout import locate
from vggfeat.store.opening import open_hdf5, read_contents
from vggfeat.store.origins import EntryLike
from vggfeat.store.planning import Plan
from vggfeat.store.reader import FeatureStore
from vggfeat.store.resuming import resume

if TYPE_CHECKING:
    from vggfeat.labels import LabelRequest, RawLabels

Rows = npt.NDArray[np.int64]


def redo_file(path: str | os.PathLike[str], rows: Rows) -> None:
    """Mark rows of a store that is one file pending; see :func:`~vggfeat.store.redo`."""
    with WriterLock(destination(path)) as lock:
        contents = _read(lock.path)
        _refuse_part(
            lock.path,
            contents,
            f"`vggfeat verify {lock.path.parent} --redo` marks damaged rows of all its parts",
        )
        if contents.version < FORMAT_VERSION or locate(lock.path, contents) is None:
            contents = _rebuild(lock, contents, np.arange(len(contents.paths)))
        changes = Changes(lock.path, contents)
        try:
            changes.stamp(NEVER)
            changes.reopen(rows)
            changes.sync()
        finally:
            changes.close()


def follow(
    lock: WriterLock,
    entries: Sequence[EntryLike],
    shapes: Mapping[str, tuple[int, ...]],
    config: FeatureConfig,
    given: Sequence[SourcePlace],
    labels: RawLabels | LabelRequest | None,
    ready: Callable[[int], object],
    **options: Any,
) -> Plan:
    """Compare a store with what is requested, and make its rows follow the source.

    Parameters
    ----------
    lock : WriterLock
        The lock held on the store.
    entries, shapes, deciding, labels
        As in :meth:`StoreWriter.open`.
    given : sequence of SourcePlace
        Sources of the entries; empty where nobody told, for those that the store has.
    ready : callable
        Called before anything changes with the number of rows to compute, where there are any;
        may raise.
    **options
        As in :func:`~vggfeat.store.resuming.resume`.

    Returns
    -------
    Plan
        What the store holds now.

    Raises
    ------
    StoreMismatchError
        Deciding values or shapes differ.
    StoreError
        The store has other images of the same names, from another source.
    """
    stored = _read(lock.path)
    _refuse_part(lock.path, stored, "extract into that folder")
    check_alike(lock.path, config, shapes, stored.provenance.config, stored.shapes)
    given = given or (stored.sources if stored.sources[0].name else stored.sources[:1])
    plan = resume(stored, entries, given, labels, name=str(lock.path), **options)
    if pending := int((plan.contents.status[plan.requested] == PENDING).sum()):
        ready(pending)
    if plan.rewrite or locate(lock.path, stored) is None:
        return replace(plan, contents=_rebuild(lock, plan.contents, plan.carried))
    stale = np.flatnonzero((stored.errors != b"") & (stored.status == PENDING))
    requested, columns = plan.contents.columns, stored.columns
    noted = [
        name
        for name in ("size", "mtime_ns", *SINCE_2)
        if not np.array_equal(requested[name], columns[name])
    ]
    if len(plan.reopened) or len(stale) or (noted and stored.version == FORMAT_VERSION):
        changes = Changes(lock.path, stored)
        try:
            changes.reopen(plan.reopened)
            changes.clear(stale)  # a kill came in between
            for name in noted:
                changes.column(name, requested[name])
        finally:
            changes.close()
    return plan


def _rebuild(lock: WriterLock, contents: Contents, carried: Rows) -> Contents:
    """Make the file anew; `carried` says which rows of it the first ones are."""
    here = np.flatnonzero(contents.status[: len(carried)] == DONE).astype(np.int64)
    with FeatureStore(lock.path) as store:
        build(lock.path, contents, lock, [(store, carried[here], here)])
    return replace(contents, version=FORMAT_VERSION)


def check_alike(
    path: Path | str,
    config: FeatureConfig,
    shapes: Mapping[str, tuple[int, ...]],
    stored: FeatureConfig,
    stored_shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """Refuse to go on with a store that was made in another way; raises StoreMismatchError."""
    different = stored.differences(config)
    if not different:
        different = [
            f"shape of {layer}: {stored_shapes[layer]}, not {tuple(shape)}"
            for layer, shape in shapes.items()
            if stored_shapes[layer] != tuple(shape)
        ]
    if different:
        raise StoreMismatchError(
            f"{path} was made with other values, and its numbers must not be mixed with new "
            f"ones: {'; '.join(different)}. Give another STORE, or --overwrite to start anew."
        )


def _read(path: Path) -> Contents:
    with open_hdf5(path) as file:
        return read_contents(file, path)


def _refuse_part(path: Path, contents: Contents, instead: str) -> None:
    """Refuse to change a part by itself: the marker beside it would say what is so no more."""
    if contents.part:
        raise StoreError(
            f"{path} is part of the store {path.parent} and is not changed by itself: {instead}; "
            f"`vggfeat extract SOURCE {path.parent} --part "
            f"{int(contents.part.rpartition('/')[2])}` does this part alone."
        )
