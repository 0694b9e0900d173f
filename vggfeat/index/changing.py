"""Changes of an index on the disk: images come and go, and what is left is packed together."""

from __future__ import annotations

import difflib
import unicodedata
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from vggfeat.errors import SearchError
from vggfeat.index import structures
from vggfeat.index.building import append, fill, flat
from vggfeat.index.catalogue import Catalogue
from vggfeat.index.excluded import Excluded
from vggfeat.index.folder import changing, checksum, commit, write_faiss
from vggfeat.index.memory_limits import within_limits
from vggfeat.index.moved_sources import with_moved_sources
from vggfeat.index.results import AddReport
from vggfeat.index.rows import name_of, sources_of
from vggfeat.index.settings import LeftOut
from vggfeat.index.vector_sources import IndexVectors, StoreVectors, among
from vggfeat.index.vectors import check, opened
from vggfeat.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from vggfeat.feature_table import FeatureTable
    from vggfeat.index.preparing import Integers
    from vggfeat.index.rows import Rows
    from vggfeat.provenance import RunInfo


def add(
    folder: Path, store: FeatureTable, progress: Progress, *, again: bool = False
) -> tuple[Catalogue, AddReport]:
    """Add what is new in a store; see :meth:`vggfeat.index.SimilarityIndex.add`."""
    with changing(folder) as before:
        if before.settings.augmented:
            raise SearchError(
                f"{folder} is augmented: its vectors depend on one another. Build it anew from a "
                "store of all images."
            )
        before.config.check(store.provenance.config, before.layer, "index")
        column = store.column(before.config)
        catalogue, ours = with_moved_sources(before, store)
        if catalogue is not before:
            catalogue = catalogue.changed(stores=_stores(before, store))
        known = catalogue.rows
        excluded = catalogue.excluded.synced(store, column)
        if again:
            excluded = excluded.without(set(store.paths[store.done]))
        stays_out = frozenset(excluded.path)
        out = store.done & [path in stays_out for path in store.paths]
        fresh, changed_rows, replaced, unchanged = _compared(known, store, column, ~out)
        vectors = StoreVectors(store, column, catalogue.metric, catalogue.whitening, fresh)
        gone = _gone(catalogue, store, ours, stays_out)
        known = known.without(gone)
        if not len(fresh):
            report = AddReport(0, 0, unchanged, vectors.left_out, len(gone), int(out.sum()))
            if not len(gone) and excluded == before.excluded and catalogue is before:
                return catalogue, report
            changed = catalogue.changed(rows=known, excluded=excluded)
            commit(folder, changed)
            return changed, report
        files = catalogue.files
        structure = _structure(folder, catalogue)
        path = folder / files.vectors
        with within_limits():
            parts, rows, longest = append(path, files, vectors, structure, progress)
        sources, origins = _origins(catalogue, store)
        added = vectors.rows(rows)
        # An image that has changed into one that cannot be compared is in the index no longer.
        known = known.without(replaced)
        changed = catalogue.changed(
            sources=sources,
            rows=known.followed_by(added, origins),
            longest=max(catalogue.longest, longest),
            left_out=_left_out(catalogue, store, vectors.left_out),
            files=_with_structure(folder, replace(files, parts=(*files.parts, *parts)), structure),
            excluded=excluded,
            stores=_stores(catalogue, store),
        )
        commit(folder, changed)
        replacing = int(among(np.sort(rows), changed_rows).sum())
        new = len(rows) - replacing
        left_out = vectors.left_out
        return changed, AddReport(new, replacing, unchanged, left_out, len(gone), int(out.sum()))


def remove(folder: Path, paths: Sequence[str]) -> tuple[Catalogue, int]:
    """Mark images as removed; see :meth:`vggfeat.index.SimilarityIndex.remove`."""
    with changing(folder) as catalogue:
        ids = np.unique(ids_of(catalogue.rows, paths, folder))
        if not len(ids):
            return catalogue, 0
        changed = catalogue.changed(
            rows=catalogue.rows.without(ids),
            excluded=catalogue.excluded.followed_by(Excluded.of(catalogue.rows, ids)),
        )
        commit(folder, changed)
        return changed, len(ids)


def compact(folder: Path, progress: Progress) -> tuple[Catalogue, int]:
    """Write files without removed images; see :meth:`vggfeat.index.SimilarityIndex.compact`."""
    with changing(folder) as catalogue:
        rows, files = catalogue.rows, catalogue.files
        alive = rows.alive
        if len(alive) == len(rows):
            return catalogue, 0
        if not len(alive):
            raise SearchError(
                f"{folder} has no image left that is not removed. Delete it, or add a store first "
                "(`vggfeat index add --again` takes removed images back)."
            )
        kept = rows.taken(alive)
        matrix = opened(folder / files.vectors, files.count, files.dimension, mapped=True)
        vectors = IndexVectors([(matrix, alive)], kept)
        structure = _structure(folder, catalogue)
        with within_limits():
            if structure is None:
                built = flat(folder, vectors, progress)
            else:
                structure.reset()  # what training found stays
                built = fill(folder, vectors, structure, catalogue.settings, progress=progress)
        changed = catalogue.changed(
            rows=kept, files=built.files, settings=built.settings, longest=built.longest
        )
        commit(folder, changed)
        return changed, len(rows) - len(alive)


def verify(folder: Path, catalogue: Catalogue) -> None:
    """Compare files with their checksums; see :meth:`vggfeat.index.SimilarityIndex.verify`."""
    files = catalogue.files
    path = folder / files.vectors
    check(path, opened(path, files.count, files.dimension, mapped=True), files.parts)
    if files.faiss and checksum(folder / files.faiss) != (files.faiss_size, files.faiss_crc32):
        raise SearchError(structures.damaged(folder / files.faiss))


def ids_of(rows: Rows, paths: Sequence[str], folder: Path) -> Integers:
    """Return the ids of images by their paths; see :meth:`SimilarityIndex.ids_of`."""
    known = _ids(rows)
    if not all(path in known for path in paths):  # accents as macOS writes them, or not
        forms = {unicodedata.normalize("NFC", path): path for path in known}
        paths = [
            path if path in known else forms.get(unicodedata.normalize("NFC", path), path)
            for path in paths
        ]
    if missing := [path for path in paths if path not in known]:
        near = difflib.get_close_matches(missing[0], islice(known, 10_000), n=3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise SearchError(
            f"{folder} has no image {missing[0]!r}.{hint} Paths are relative to the extracted "
            "source, with '/' between folders."
        )
    return np.array([known[path] for path in paths], np.int64)


def _ids(rows: Rows) -> dict[str, int]:
    """Return the id of each image that is not removed, by its path."""
    removed = rows.removed
    return {path: image_id for image_id, path in enumerate(rows.paths) if not removed[image_id]}


def _compared(
    known: Rows, store: FeatureTable, layer: str, eligible: npt.NDArray[np.bool_]
) -> tuple[Integers, Integers, Integers, int]:
    """Compare a store with an index, as far as its rows are `eligible` for it.

    Returns
    -------
    fresh : ndarray of int64
        Rows of the store that are new or changed, ascending.
    changed : ndarray of int64
        Those of them that are changed, ascending.
    replaced : ndarray of int64
        Ids of what has changed.
    unchanged : int
        How many images are as they were.
    """
    ids = _ids(known)
    sums = store.checksums(layer)
    fresh, changed, replaced, unchanged = [], [], [], 0
    paths = store.paths
    for row in np.flatnonzero(store.done & eligible).tolist():
        image_id = ids.get(paths[row])
        if image_id is not None and known.checksum[image_id] == sums[row]:
            unchanged += 1
            continue
        fresh.append(row)
        if image_id is not None:
            changed.append(row)
            replaced.append(image_id)
    rows, again, gone = (np.array(one, np.int64) for one in (fresh, changed, replaced))
    return rows, again, gone, unchanged


def _gone(
    catalogue: Catalogue, store: FeatureTable, store_sources: set[str], excluded: frozenset[str]
) -> Integers:
    """Return ids of images that a store had, and whose files are no longer where they were.

    One of them whose path belongs to an `excluded` image now, which has moved there, is one too.

    An image of another store is none of them: it is of another source, or the store does not know
    its path and has another image in that row. Where all images came from this one store, those
    that it does not know any more were pruned.
    """
    known, paths, present = catalogue.rows, store.paths, store.present
    sums = store.checksums(store.column(catalogue.config))
    numbers = {path: row for row, path in enumerate(paths)}
    alone = catalogue.stores == (name_of(store),)
    ours = np.array([source.source in store_sources for source in catalogue.sources])
    gone = []
    for path, image_id in _ids(known).items():
        if path in excluded:
            gone.append(image_id)
            continue
        if not ours[known.origin[image_id]]:
            continue
        row, then = numbers.get(path), int(known.row[image_id])
        if row is not None:
            left = not present[row]
        else:  # that row has another path now, or is gone from the only store of the index
            left = alone or (then < len(sums) and bool(sums[then] == known.checksum[image_id]))
        if left:
            gone.append(image_id)
    return np.array(gone, np.int64)


def _origins(catalogue: Catalogue, store: FeatureTable) -> tuple[tuple[RunInfo, ...], list[int]]:
    """Return the sources with the store's among them, and their numbers."""
    sources = list(catalogue.sources)
    for source in sources_of(store):
        if source not in sources:
            sources.append(source)
    return tuple(sources), [sources.index(source) for source in sources_of(store)]


def _stores(catalogue: Catalogue, store: FeatureTable) -> tuple[str, ...]:
    """Return the stores of an index with another among them; none where not all are known."""
    return catalogue.stores and tuple(dict.fromkeys([*catalogue.stores, name_of(store)]))


def _left_out(catalogue: Catalogue, store: FeatureTable, new: LeftOut) -> LeftOut:
    """Count what is left out: anew from the same store, in addition from others."""
    if catalogue.stores == (name_of(store),):
        return new
    return catalogue.left_out + new if len(catalogue.sources) > 1 else new


def _structure(folder: Path, catalogue: Catalogue) -> Any:
    """Read FAISS's structure to change it; None for exact search."""
    files = catalogue.files
    if not files.faiss:
        return None
    return structures.opened(folder / files.faiss, files, change=True)


def _with_structure(folder: Path, files: Any, structure: Any) -> Any:
    if structure is None:
        return files
    name, size, crc32 = write_faiss(folder, structure)
    return replace(files, faiss=name, faiss_size=size, faiss_crc32=crc32)
