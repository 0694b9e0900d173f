"""Several stores made alike as one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import StoreError, StoreMismatchError
from vggfeat.feature_table import DONE, PENDING
from vggfeat.labels.targets import Targets, unite
from vggfeat.locking import WriterLock, destination
from vggfeat.progress import Progress, silent
from vggfeat.provenance import NEVER
from vggfeat.store.building import build
from vggfeat.store.contents import Contents
from vggfeat.store.opening import open_hdf5
from vggfeat.store.reader import FeatureStore

Rows = npt.NDArray[np.int64]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What :func:`merge` did.

    Attributes
    ----------
    rows, done : int
        Rows of the new store, and how many of them hold features.
    duplicates : int
        Rows left out because an image of the same path was there already.
    """

    rows: int
    done: int
    duplicates: int

    def to_json(self) -> dict[str, int]:
        """Return JSON-ready values."""
        return asdict(self)


def merge(
    out: str | os.PathLike[str],
    stores: Sequence[str | os.PathLike[str]],
    overwrite: bool = False,
    progress: Progress = silent,
) -> MergeReport:
    """Put the rows of several stores into a new one.

    Rows follow in the order of `stores`. Where two stores have an image of the same path and the
    same bytes, the earlier row stays, unless only the later one is done, or in its source, which
    then takes its place. Classes are united by name; all runs are carried over. Features are
    copied in blocks.

    Parameters
    ----------
    out : path
        The new store. It appears whole or not at all.
    stores : sequence of path
        Stores with equal deciding values.
    overwrite : bool
        Replace a store at `out`.
    progress : Progress
        Told of copied rows, layer by layer.

    Raises
    ------
    StoreMismatchError
        Deciding values differ; the message names the store and the fields.
    StoreError
        One of `stores` cannot be read, `out` exists or cannot be written, or two stores have
        different images of one path.
    """
    if not stores:
        raise StoreError("There is nothing to merge. Name at least one store.")
    with WriterLock(destination(out)) as lock, ExitStack() as opened:
        if lock.path.exists():
            if not overwrite:
                raise StoreError(f"{out} exists. Name another file, or give --overwrite.")
            open_hdf5(lock.path, newer=True).close()  # raises over anything but a store
        parts = [opened.enter_context(FeatureStore(path)) for path in stores]
        read = [part.contents() for part in parts]
        for part, contents in zip(parts[1:], read[1:], strict=True):
            _compare(part, contents, parts[0], read[0])
        origin, row_there = _choose(parts, read)
        contents = _unite(read, origin, row_there)
        done = contents.status == DONE
        copies = [(origin == i) & done for i in range(len(parts))]
        total = int(done.sum()) * len(contents.shapes)
        build(
            lock.path,
            contents,
            lock,
            [
                (part, row_there[mask], np.flatnonzero(mask))
                for part, mask in zip(parts, copies, strict=True)
                if mask.any()
            ],
            lambda count: progress("merging", count, total),
        )
        duplicates = sum(len(each.paths) for each in read) - len(contents.paths)
    if duplicates:
        _log.warning("%d images were in several stores; each is in %s once.", duplicates, out)
    return MergeReport(len(contents.paths), int(done.sum()), duplicates)


def _compare(
    store: FeatureStore, contents: Contents, first: FeatureStore, expected: Contents
) -> None:
    different = expected.provenance.config.differences(contents.provenance.config)
    if not different:
        different = [
            f"shape of {layer}: {shape}, not {contents.shapes[layer]}"
            for layer, shape in expected.shapes.items()
            if contents.shapes[layer] != shape
        ]
    if different:
        raise StoreMismatchError(
            f"{store.path} was made with other values than {first.path}: "
            f"{'; '.join(different)}. Only stores made alike can be merged; leave it out, or "
            "extract it anew with the same options."
        )


def _choose(parts: Sequence[FeatureStore], read: Sequence[Contents]) -> tuple[Rows, Rows]:
    """Return, for each row of the result, the store and the row there that it comes from."""
    row_of: dict[str, int] = {}
    chosen: list[tuple[int, int]] = []
    for number, contents in enumerate(read):
        better = contents.present.astype(np.int8) * 2 + (contents.status == DONE)
        for row, path in enumerate(contents.paths):
            at = row_of.setdefault(path, len(chosen))
            if at == len(chosen):
                chosen.append((number, row))
                continue
            earlier, row_earlier = chosen[at]
            if _different(read[earlier], row_earlier, contents, row):
                raise StoreError(_names(parts[earlier], parts[number], path))
            before = read[earlier]
            if better[row] > 2 * before.present[row_earlier] + (before.status[row_earlier] == DONE):
                chosen[at] = (number, row)
    both = np.array(chosen, dtype=np.int64)
    return both[:, 0], both[:, 1]


def _different(one: Contents, row_one: int, other: Contents, row_other: int) -> bool:
    """Whether two rows are certainly of different images: by their bytes, or sizes and times."""
    if not (one.present[row_one] and other.present[row_other]):
        return False  # at most one of them is in use
    if PENDING in (one.status[row_one], other.status[row_other]):
        return False
    digests = one.digests[row_one], other.digests[row_other]
    if digests[0].any() and digests[1].any():
        return not np.array_equal(*digests)
    return bool(one.sizes[row_one] != other.sizes[row_other])


def _names(one: FeatureStore, other: FeatureStore, path: str) -> str:
    return (
        f"{one.path} and {other.path} have different images of one name, such as {path!r}. Extract "
        "both sources into one store, where each has a name: `vggfeat extract "
        f"ONE={one.sources[0].root} OTHER={other.sources[0].root} STORE`."
    )


def _unite(read: Sequence[Contents], origin: Rows, row_there: Rows) -> Contents:
    def column(values: Iterable[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        several = list(values)
        united = np.zeros((len(origin), *several[0].shape[1:]), several[0].dtype)
        for number, each in enumerate(several):
            united[origin == number] = each[row_there[origin == number]]
        return united

    named: dict[str, list[tuple[Rows, Targets | None]]] = {}
    for number, contents in enumerate(read):
        mine = np.flatnonzero(origin == number)
        for name, each in contents.named.items():
            named.setdefault(name, []).append((mine, each and each.taken(row_there[mine])))
    paths = [read[i].paths[row] for i, row in zip(origin.tolist(), row_there.tolist(), strict=True)]
    ends = [contents.provenance.run.end for contents in read]
    first = read[0].provenance
    status = column(contents.status for contents in read)
    errors = column(contents.errors for contents in read)
    end = NEVER if NEVER in ends or (status == PENDING).any() else max(ends)
    runs = [run for contents in read for run in contents.runs]
    sources = list(dict.fromkeys(one for contents in read for one in contents.sources))
    numbers = [
        np.array([sources.index(one) for one in contents.sources], np.int32)[contents.source]
        for contents in read
    ]
    return Contents(
        provenance=replace(first, run=replace(first.run, end=end)),
        shapes=read[0].shapes,
        paths=paths,
        sizes=column(contents.sizes for contents in read),
        mtimes=column(contents.mtimes for contents in read),
        ctimes=column(contents.ctimes for contents in read),
        digests=column(contents.digests for contents in read),
        present=column(contents.present for contents in read),
        source=column(numbers),
        status=status,
        errors=errors,
        targets=unite(len(paths), named["targets"]),
        splits=unite(len(paths), named["splits"]),
        groups=unite(len(paths), named["groups"]),
        runs=sorted(runs, key=lambda run: run.start),
        sources=sources,
    )
