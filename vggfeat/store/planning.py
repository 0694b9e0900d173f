"""What a new store should hold, and what a plan of a store's next state is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import StoreError
from vggfeat.feature_table import PENDING
from vggfeat.labels import LabelRequest
from vggfeat.provenance import NEVER, FeatureConfig, Provenance, SourcePlace
from vggfeat.store.contents import DIGEST_BYTES, ERROR_BYTES, Contents
from vggfeat.store.labelling import LabelReport, label
from vggfeat.store.origins import EntryLike, changed_at, numbers_of

if TYPE_CHECKING:
    from vggfeat.labels import RawLabels

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to bring a store up to its source.

    Attributes
    ----------
    contents : Contents
        The store as it should be before the first row is computed.
    requested : ndarray of int64
        Rows whose images are in the source now, ascending.
    reopened : ndarray of int64
        Rows that were done or failed, and become pending again.
    rewrite : bool
        Whether the file must be made anew: rows were added, or labels changed.
    carried : ndarray of int64
        Rows of the store before that the first rows of `contents` are, in order.
    added, changed, moved : int
        Images new to the store, changed since, and found under another path.
    missing : int
        Rows whose images are in no source now.
    pruned : int
        Rows removed, since their images had left.
    labels : LabelReport
        What the labels are now.
    """

    contents: Contents
    requested: Rows
    reopened: Rows
    rewrite: bool
    carried: Rows
    added: int = 0
    changed: int = 0
    moved: int = 0
    missing: int = 0
    pruned: int = 0
    labels: LabelReport = field(default_factory=LabelReport)


def check(
    entries: Sequence[EntryLike],
    shapes: Mapping[str, tuple[int, ...]],
    config: FeatureConfig,
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
    if set(shapes) != set(config.layers) or not shapes:
        names = ", ".join(config.layers) or "none"
        raise StoreError(
            f"Shapes were given for the layers {', '.join(shapes) or 'none'}, and the provenance "
            f"has {names}. Give one shape for each layer, and at least one layer."
        )
    for layer, shape in shapes.items():
        if len(shape) not in (1, 3) or min(shape) < 1:
            raise StoreError(f"{layer} has the shape {shape}; allowed are (D,) and (C, H, W).")
    if config.dtype not in ("float32", "float16"):
        raise StoreError(
            f"Features cannot be stored as {config.dtype!r}. Choose --dtype float32 or float16."
        )


def begin(
    entries: Sequence[EntryLike],
    shapes: Mapping[str, tuple[int, ...]],
    provenance: Provenance,
    labels: RawLabels | LabelRequest | None,
    given: Sequence[SourcePlace],
) -> Plan:
    """Plan a new store: one pending row an entry, in the order of the entries."""
    count, paths = len(entries), [entry.path for entry in entries]
    named, report = label({}, [], paths, np.arange(count), labels)
    contents = Contents(
        provenance=_unfinished(provenance),
        shapes={layer: tuple(shapes[layer]) for layer in provenance.config.layers},
        paths=paths,
        **pending(entries, numbers_of(paths, given, range(len(given)))),
        targets=named["targets"],
        splits=named["splits"],
        groups=named["groups"],
        sources=list(given),
    )
    return Plan(
        contents, np.arange(count), np.arange(0), True, np.arange(0), added=count, labels=report
    )


def pending(entries: Sequence[EntryLike], sources: npt.NDArray[np.int32]) -> dict[str, Any]:
    """Return the columns of :class:`Contents` for images that wait for their features."""
    count = len(entries)
    return {
        "sizes": np.array([entry.size for entry in entries], dtype=np.int64),
        "mtimes": np.array([entry.mtime_ns for entry in entries], dtype=np.int64),
        "ctimes": np.array([changed_at(entry) for entry in entries], dtype=np.int64),
        "digests": np.zeros((count, DIGEST_BYTES), np.uint8),
        "present": np.ones(count, np.bool_),
        "source": sources,
        "status": np.full(count, PENDING, dtype=np.uint8),
        "errors": np.zeros(count, dtype=f"S{ERROR_BYTES}"),
    }


def _unfinished(provenance: Provenance) -> Provenance:
    return replace(provenance, run=replace(provenance.run, end=NEVER))


def _utf8(entry: EntryLike) -> bool:
    try:
        entry.path.encode()
    except UnicodeEncodeError:
        return False
    return True
