"""What a store should hold once a source's images are in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from vggfeat.errors import StoreError
from vggfeat.labels import Wanted
from vggfeat.provenance import NEVER, Deciding, Provenance
from vggfeat.store.contents import ERROR_BYTES, FAILED, PENDING, Contents
from vggfeat.store.labelling import LabelReport, label

if TYPE_CHECKING:
    from vggfeat.labels import RawLabels

Rows = npt.NDArray[np.int64]


class EntryLike(Protocol):
    """An image of a source: its path there, and its file's size (bytes) and time (ns)."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def mtime_ns(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Plan:
    """How to bring a store up to its source.

    Attributes
    ----------
    contents : Contents
        The store as it should be before the first row is computed.
    wanted : ndarray of int64
        Rows whose images are in the source now, ascending.
    reopened : ndarray of int64
        Rows that were done or failed, and become pending again.
    rewrite : bool
        Whether the file must be made anew: rows were added, or labels changed.
    added, changed, missing : int
        Images new to the store, changed since, and no longer in the source.
    labels : LabelReport
        What the labels are now.
    """

    contents: Contents
    wanted: Rows
    reopened: Rows
    rewrite: bool
    added: int
    changed: int
    missing: int
    labels: LabelReport = field(default_factory=LabelReport)


def check(
    entries: Sequence[EntryLike],
    shapes: Mapping[str, tuple[int, ...]],
    deciding: Deciding,
) -> None:
    """Refuse what no store can hold.

    Raises
    ------
    StoreError
        No image, a path twice or not storable, or layers without a usable shape.
    """
    if not entries:
        raise StoreError("There is no image to make a store of. Give a source that has some.")
    seen: set[str] = set()
    for entry in entries:
        if entry.path in seen:
            raise StoreError(f"The image {entry.path!r} is there twice. Paths must be unique.")
        if not entry.path or "\0" in entry.path or (not entry.path.isascii() and not _utf8(entry)):
            raise StoreError(f"{entry.path!r} cannot be stored: it is not UTF-8 text without NUL.")
        seen.add(entry.path)
    if set(shapes) != set(deciding.layers) or not shapes:
        asked = ", ".join(deciding.layers) or "none"
        raise StoreError(
            f"Shapes were given for the layers {', '.join(shapes) or 'none'}, and the provenance "
            f"has {asked}. Give one shape for each layer, and at least one layer."
        )
    for layer, shape in shapes.items():
        if len(shape) not in (1, 3) or min(shape) < 1:
            raise StoreError(f"{layer} has the shape {shape}; allowed are (D,) and (C, H, W).")
    if deciding.dtype not in ("float32", "float16"):
        raise StoreError(
            f"Features cannot be stored as {deciding.dtype!r}. Choose --dtype float32 or float16."
        )


def begin(
    entries: Sequence[EntryLike],
    shapes: Mapping[str, tuple[int, ...]],
    provenance: Provenance,
    labels: RawLabels | Wanted | None,
) -> Plan:
    """Plan a new store: one pending row an entry, in the order of the entries."""
    count, paths = len(entries), [entry.path for entry in entries]
    targets, report = label(None, [], paths, np.arange(count), labels)
    contents = Contents(
        _unfinished(provenance),
        {layer: tuple(shapes[layer]) for layer in provenance.deciding.layers},
        paths,
        np.array([entry.size for entry in entries], dtype=np.int64),
        np.array([entry.mtime_ns for entry in entries], dtype=np.int64),
        np.full(count, PENDING, dtype=np.uint8),
        np.zeros(count, dtype=f"S{ERROR_BYTES}"),
        targets,
    )
    return Plan(contents, np.arange(count), np.arange(0), True, count, 0, 0, report)


def resume(
    stored: Contents,
    entries: Sequence[EntryLike],
    labels: RawLabels | Wanted | None,
    retry_failed: bool,
) -> Plan:
    """Plan how a store follows its source.

    A row keeps its place for ever, also when its image has left the source; new images follow, in
    the order of the entries; changed ones become pending. What becomes of labels,
    :func:`~vggfeat.store.labelling.label` says.
    """
    old = {path: row for row, path in enumerate(stored.paths)}
    fresh = [entry for entry in entries if entry.path not in old]
    known = [entry for entry in entries if entry.path in old]
    count, total = len(old), len(old) + len(fresh)
    rows = np.array([old[entry.path] for entry in known], dtype=np.int64)
    sizes = np.array([entry.size for entry in known], dtype=np.int64)
    times = np.array([entry.mtime_ns for entry in known], dtype=np.int64)
    changed = rows[(stored.sizes[rows] != sizes) | (stored.mtimes[rows] != times)]

    again = np.zeros(count, dtype=bool)
    again[changed] = True
    if retry_failed:
        again[rows[stored.status[rows] == FAILED]] = True
    again |= stored.status > FAILED  # not a status at all: never trust such a row
    reopened = np.flatnonzero(again & (stored.status != PENDING))

    status = np.concatenate([stored.status, np.zeros(len(fresh), np.uint8)])
    status[reopened] = PENDING
    errors = np.concatenate([stored.errors, np.zeros(len(fresh), f"S{ERROR_BYTES}")])
    errors[status != FAILED] = b""
    all_sizes = np.concatenate([stored.sizes, [entry.size for entry in fresh]]).astype(np.int64)
    all_times = np.concatenate([stored.mtimes, [e.mtime_ns for e in fresh]]).astype(np.int64)
    all_sizes[rows], all_times[rows] = sizes, times

    paths = [*stored.paths, *(entry.path for entry in fresh)]
    here = np.sort(np.concatenate([rows, np.arange(count, total)]))
    targets, report = label(stored.targets, stored.paths, paths, here, labels)
    moved = (
        labels is not None
        and targets is not None
        and stored.targets is not None
        and targets.origin != stored.targets.origin
        and not (isinstance(labels, Wanted) and labels.kind == "auto")
    )
    return Plan(
        replace(
            stored,
            paths=paths,
            sizes=all_sizes,
            mtimes=all_times,
            status=status,
            errors=errors,
            targets=targets,
        ),
        here,
        reopened,
        bool(fresh) or targets != stored.targets or moved,
        len(fresh),
        len(changed),
        count - len(rows),
        report,
    )


def _unfinished(provenance: Provenance) -> Provenance:
    return replace(provenance, happened=replace(provenance.happened, end=NEVER))


def _utf8(entry: EntryLike) -> bool:
    try:
        entry.path.encode()
    except UnicodeEncodeError:
        return False
    return True
