"""How a store follows its sources: what is unchanged, changed, moved, new, or has left.

``docs/store-format.md`` states the rule. In short: size and both times equal mean unchanged;
otherwise the image's bytes are read, and their digest decides.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.feature_table import DONE, FAILED, PENDING
from vggfeat.labels import LabelRequest
from vggfeat.labels.targets import Targets
from vggfeat.provenance import SourcePlace
from vggfeat.store.contents import Contents
from vggfeat.store.labelling import label
from vggfeat.store.origins import (
    EntryLike,
    Look,
    MatchedSources,
    changed_at,
    match_sources,
    numbers_of,
)
from vggfeat.store.planning import Plan, pending

if TYPE_CHECKING:
    from vggfeat.labels import RawLabels

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def resume(
    stored: Contents,
    entries: Sequence[EntryLike],
    given: Sequence[SourcePlace],
    labels: RawLabels | LabelRequest | None,
    *,
    name: str,
    retry_failed: bool = False,
    prune: bool = False,
    partial: bool = False,
    look: Look | None = None,
) -> Plan:
    """Plan how a store follows its sources.

    A row keeps its place for ever: that of an image that has moved gets the new path, that of an
    image that has left waits for its return. New images follow, in the order of the entries;
    changed ones become pending. What becomes of labels,
    :func:`~vggfeat.store.labelling.label` says.

    Parameters
    ----------
    stored : Contents
        The store as it is.
    entries : sequence of entries
        Images of the sources.
    given : sequence of SourcePlace
        The sources.
    labels : dict of str to tuple of str, or LabelRequest, optional
        Class names by path, or what a person asks for.
    name : str
        Of the store, for messages.
    retry_failed, prune : bool
        Make failed rows pending; remove rows whose images have left.
    partial : bool
        The entries are not all of their sources: others have not left.
    look : callable, optional
        Reads digests. Without it, what only they can tell counts as changed.
    """
    by_path = {entry.path: entry for entry in entries}
    matched = match_sources(stored, given, by_path, name, look)
    old = {path: row for row, path in enumerate(stored.paths)}
    known = [entry for entry in entries if entry.path in old]
    rows = np.array([old[entry.path] for entry in known], dtype=np.int64)
    origin = numbers_of([entry.path for entry in known], given, matched.numbers)
    now, same = _compared(stored, known, rows, origin, matched, look)

    present = stored.present.copy()
    if not partial:
        present[np.isin(stored.source, list(matched.touched))] = False
    present[rows] = True
    source = stored.source.copy()
    source[rows] = origin
    fresh = [entry for entry in entries if entry.path not in old]
    moved = _moves(stored, ~present, fresh, look)
    renamed = {entry.path for entry in moved.values()}
    fresh = [entry for entry in fresh if entry.path not in renamed]

    paths = list(stored.paths)
    for row, entry in moved.items():
        paths[row], present[row] = entry.path, True
        source[row] = numbers_of([entry.path], given, matched.numbers)[0]
    columns = _noted(stored, [*zip(rows.tolist(), now, strict=True), *moved.items()])

    again = np.zeros(len(old), dtype=bool)
    again[rows[~same]] = True
    if retry_failed:
        again[rows[stored.status[rows] == FAILED]] = True
    again |= stored.status > FAILED  # not a status at all: never trust such a row
    again &= stored.status != PENDING
    status, errors = stored.status.copy(), stored.errors.copy()
    status[again] = PENDING
    errors[status != FAILED] = b""
    columns["digests"][status == PENDING] = 0

    numbers = numbers_of([entry.path for entry in fresh], given, matched.numbers)
    below: dict[str, npt.NDArray[Any]] = {
        "present": present,
        "source": source,
        "status": status,
        "errors": errors,
        **columns,
    }
    new = pending(fresh, numbers)
    both: dict[str, Any] = {key: np.concatenate([below[key], new[key]]) for key in below}
    contents = replace(
        stored, paths=[*paths, *(entry.path for entry in fresh)], sources=matched.sources, **both
    )
    here = np.sort(np.concatenate([rows, np.array([*moved], np.int64)]))
    here = np.concatenate([here, np.arange(len(old), len(contents.paths))])
    named, report = label(stored.named, contents.paths[: len(old)], contents.paths, here, labels)
    contents = replace(
        contents, targets=named["targets"], splits=named["splits"], groups=named["groups"]
    )
    carried, missing = np.arange(len(old)), int((~contents.present).sum())
    pruned = missing if prune else 0
    if pruned:
        kept = np.flatnonzero(contents.present)
        contents, carried = contents.taken(kept), carried[present]
        here = np.searchsorted(kept, here)
    waiting = (contents.status[here] == PENDING).any()
    changes = waiting or again.any() or not np.array_equal(present, stored.present)
    return Plan(
        contents,
        here,
        np.flatnonzero(again),
        rewrite=bool(
            fresh
            or moved
            or pruned
            or any(_renamed(stored.named[name], each, labels) for name, each in named.items())
            or contents.sources != stored.sources
            or (stored.version < 2 and changes)
        ),
        carried=carried,
        added=len(fresh),
        changed=int((again[rows] & ~same).sum()),
        moved=len(moved),
        missing=missing - pruned,
        pruned=pruned,
        labels=report,
    )


def unchanged(
    stored: Contents, rows: Rows, entries: Sequence[EntryLike], same_place: Mask
) -> tuple[Mask, Mask]:
    """Say of which images it is known without reading them whether they are as they were.

    Parameters
    ----------
    stored : Contents
        What is known of the images.
    rows : ndarray of int64, shape (n,)
        Their rows.
    entries : sequence of n entries
        What their files say now.
    same_place : ndarray of bool, shape (n,)
        Whether it is the same file, and not another one of that name.

    Returns
    -------
    same : ndarray of bool, shape (n,)
        Certainly unchanged.
    open : ndarray of bool, shape (n,)
        Only the bytes can tell.
    """
    facts = [(entry.size, entry.mtime_ns, changed_at(entry)) for entry in entries]
    sizes, mtimes, ctimes = np.array(facts, np.int64).reshape(-1, 3).T
    alike = (stored.sizes[rows] == sizes) & (stored.mtimes[rows] == mtimes)
    same = alike & (stored.ctimes[rows] == ctimes) & (ctimes != 0) & same_place
    digested = stored.digests[rows].any(axis=1)
    # Format 1 knew sizes and modification times; 0 proves nothing but that no later change was.
    dated = (mtimes != 0) | ((ctimes != 0) & (ctimes < _began(stored)))
    failed = stored.status[rows] == FAILED
    same |= ~digested & alike & (stored.ctimes[rows] == 0) & (dated | failed)
    return same, ~same & digested & (stored.sizes[rows] == sizes)


def confirmed(stored: Contents, rows: Rows, entries: Sequence[EntryLike], look: Look) -> Mask:
    """Say whether images still have the bytes that rows were made of, by reading them."""
    return np.array(
        [
            seen is not None and seen.digest == stored.digests[row].tobytes()
            for row, seen in zip(rows.tolist(), look(entries), strict=True)
        ],
        np.bool_,
    )


def _compared(
    stored: Contents,
    entries: Sequence[EntryLike],
    rows: Rows,
    origin: npt.NDArray[np.int32],
    matched: MatchedSources,
    look: Look | None,
) -> tuple[list[EntryLike], Mask]:
    """Return what is to be noted of images that the store knows, and which are unchanged."""
    roots_now = np.array([one.root for one in matched.sources], object)
    roots = np.array([one.root for one in stored.sources], object)
    same_place = roots[stored.source[rows]] == roots_now[origin]
    same, unsure = unchanged(stored, rows, entries, same_place)
    unsure &= stored.status[rows] != PENDING
    now = list(entries)
    positions = np.flatnonzero(unsure).tolist()
    if positions and look is not None:
        for at, seen in zip(positions, look([entries[at] for at in positions]), strict=True):
            if seen is not None and seen.digest == stored.digests[rows[at]].tobytes():
                same[at], now[at] = True, seen
    return now, same


def _moves(
    stored: Contents, left: Mask, fresh: Sequence[EntryLike], look: Look | None
) -> dict[int, EntryLike]:
    """Return which rows' images are found again under a new path, with what they are now."""
    if look is None:
        return {}
    waiting: dict[tuple[int, bytes], list[int]] = {}
    for row in np.flatnonzero(left & (stored.status == DONE)).tolist():
        if stored.digests[row].any():
            key = int(stored.sizes[row]), stored.digests[row].tobytes()
            waiting.setdefault(key, []).append(row)
    sizes = {size for size, _ in waiting}
    moved: dict[int, EntryLike] = {}
    for seen in look([entry for entry in fresh if entry.size in sizes]) if sizes else ():
        if seen is not None and (rows := waiting.get((seen.size, seen.digest))):
            base = posixpath.basename(seen.path)
            named = [row for row in rows if posixpath.basename(stored.paths[row]) == base]
            row = (named or rows)[0]
            rows.remove(row)
            moved[row] = seen
    return moved


def _noted(
    stored: Contents, now: Iterable[tuple[int, EntryLike]]
) -> dict[str, npt.NDArray[np.int64] | npt.NDArray[np.uint8]]:
    sizes, mtimes, ctimes = (x.copy() for x in (stored.sizes, stored.mtimes, stored.ctimes))
    for row, entry in now:
        sizes[row], mtimes[row], ctimes[row] = entry.size, entry.mtime_ns, changed_at(entry)
    return {"sizes": sizes, "mtimes": mtimes, "ctimes": ctimes, "digests": stored.digests.copy()}


def _renamed(
    before: Targets | None, after: Targets | None, labels: RawLabels | LabelRequest | None
) -> bool:
    """Whether labels, splits or groups differ, or are said to come from elsewhere."""
    if before != after:
        return True
    requested = labels is not None and not (
        isinstance(labels, LabelRequest) and labels.kind == "auto"
    )
    return requested and before is not None and after is not None and before.origin != after.origin


def _began(stored: Contents) -> int:
    """Return when the first run began, ns since 1970; 0 where that is not known."""
    starts = [run.start for run in stored.runs] or [stored.provenance.run.start]
    try:
        return int(min(datetime.fromisoformat(start) for start in starts).timestamp() * 1e9)
    except (ValueError, TypeError):
        return 0
