"""Bringing an existing store up to its source, as far as that takes no features."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vggfeat.errors import StoreMismatchError
from vggfeat.provenance import NEVER, Deciding
from vggfeat.store.building import build
from vggfeat.store.changes import Changes
from vggfeat.store.contents import DONE, PENDING, Contents
from vggfeat.store.layout import locate
from vggfeat.store.locking import WriterLock
from vggfeat.store.opening import open_hdf5, read_contents
from vggfeat.store.planning import EntryLike, Plan, resume
from vggfeat.store.reader import FeatureStore
from vggfeat.store.replacing import destination

if TYPE_CHECKING:
    from vggfeat.labels import RawLabels, Wanted

Rows = npt.NDArray[np.int64]


def redo(path: str | os.PathLike[str], rows: Rows) -> None:
    """Mark rows pending, such as damaged ones, so that the next extraction does them again.

    Parameters
    ----------
    path : path
        The store.
    rows : ndarray of int64
        Row numbers, ascending.
    """
    with WriterLock(destination(path)) as lock:
        contents = _read(lock.path)
        if locate(lock.path, contents) is None:
            _rebuild(lock, contents)
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
    deciding: Deciding,
    labels: RawLabels | Wanted | None,
    retry_failed: bool,
    ready: Callable[[], object],
) -> Plan:
    """Compare a store with what is asked for, and make its rows follow the source.

    Parameters
    ----------
    lock : WriterLock
        The lock held on the store.
    entries, shapes, deciding, labels, retry_failed
        As in :meth:`StoreWriter.open`.
    ready : callable
        Called before anything changes, where rows are going to be computed; may raise.

    Returns
    -------
    Plan
        What the store holds now.

    Raises
    ------
    StoreMismatchError
        Deciding values or shapes differ.
    """
    stored = _read(lock.path)
    _compare(lock.path, stored, shapes, deciding)
    plan = resume(stored, entries, labels, retry_failed)
    if (plan.contents.status[plan.wanted] == PENDING).any():
        ready()
    if plan.rewrite or locate(lock.path, stored) is None:
        _rebuild(lock, plan.contents)
        return plan
    stale = np.flatnonzero((stored.errors != b"") & (stored.status == PENDING))
    if len(plan.reopened) or len(stale) or plan.changed:
        changes = Changes(lock.path, stored)
        try:
            changes.reopen(plan.reopened)
            changes.clear(stale)  # a kill came in between
            changes.files(plan.contents.sizes, plan.contents.mtimes)
        finally:
            changes.close()
    return plan


def _rebuild(lock: WriterLock, contents: Contents) -> None:
    rows = np.flatnonzero(contents.status == DONE).astype(np.int64)
    with FeatureStore(lock.path) as store:
        build(lock.path, contents, lock, [(store, rows, rows)])


def _compare(
    path: Path,
    stored: Contents,
    shapes: Mapping[str, tuple[int, ...]],
    deciding: Deciding,
) -> None:
    different = stored.provenance.deciding.differences(deciding)
    if not different:
        different = [
            f"shape of {layer}: {stored.shapes[layer]}, not {tuple(shape)}"
            for layer, shape in shapes.items()
            if stored.shapes[layer] != tuple(shape)
        ]
    if different:
        raise StoreMismatchError(
            f"{path} was made with other values, and its numbers must not be mixed with new "
            f"ones: {'; '.join(different)}. Give another STORE, or --overwrite to start anew."
        )


def _read(path: Path) -> Contents:
    with open_hdf5(path) as file:
        return read_contents(file, path)
