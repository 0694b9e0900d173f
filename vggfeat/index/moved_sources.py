"""Sources that have moved: an index whose store was extracted from other folders since."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vggfeat.index.rows import sources_of
from vggfeat.sources import within

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable
    from vggfeat.index.catalogue import Catalogue
    from vggfeat.index.preparing import Integers

_log = logging.getLogger(__name__)


def with_moved_sources(catalogue: Catalogue, store: FeatureTable) -> tuple[Catalogue, set[str]]:
    """Let images name the sources that a store brings them from now.

    A source of the index that the store does not have is one of its own that has moved if the
    store has at least half of its images under their paths with the same features. It is one under
    another name if the folder is the same.

    Parameters
    ----------
    catalogue : Catalogue
    store : FeatureTable

    Returns
    -------
    catalogue : Catalogue
        The same object where there is nothing to take up. Sources that no image is left of are
        dropped.
    ours : set of str
        All sources of the index that are the store's, by their present and former folders.
    """
    store_texts = [one.text for one in store.sources]
    texts = [one.source for one in catalogue.sources]
    roots = {within(text, "")[0] for text in store_texts}
    ours = {text for text in texts if within(text, "")[0] in roots} | set(store_texts)
    elsewhere = dict.fromkeys(text for text in texts if text not in ours)
    if not elsewhere:
        return catalogue, ours
    ids, rows = _shared(catalogue, store)
    of = np.array(texts, object)[catalogue.rows.origin]
    alive = catalogue.rows.alive
    same = store.checksums(store.column(catalogue.config))[rows]
    same = same == catalogue.rows.checksum[ids]
    moved = [
        text
        for text in elsewhere
        if (count := int((same & (of[ids] == text)).sum()))
        and 2 * count >= int((of[alive] == text).sum())
    ]
    if not moved:
        return catalogue, ours
    taken = np.isin(of[ids], moved)
    return _repointed(catalogue, store, ids[taken], rows[taken]), ours | set(moved)


def _shared(catalogue: Catalogue, store: FeatureTable) -> tuple[Integers, Integers]:
    """Return ids of images whose paths a store knows, and their rows there."""
    numbers = {path: row for row, path in enumerate(store.paths)}
    paths = catalogue.rows.paths
    pairs = [
        (image_id, numbers[path])
        for image_id in catalogue.rows.alive.tolist()
        if (path := paths[image_id]) in numbers
    ]
    both = np.array(pairs, np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _repointed(
    catalogue: Catalogue, store: FeatureTable, ids: Integers, rows: Integers
) -> Catalogue:
    """Return a catalogue in which images of some ids are in some rows of a store."""
    before = [one.source for one in catalogue.sources]
    sources = [*catalogue.sources, *sources_of(store)]
    origin, row = catalogue.rows.origin.astype(np.int64), catalogue.rows.row.copy()
    former = origin[ids]
    origin[ids] = len(catalogue.sources) + store.source_numbers(rows)
    row[ids] = rows
    for old, new in dict.fromkeys(zip(former.tolist(), origin[ids].tolist(), strict=True)):
        _log.warning(
            "Images of this index came from %s so far, and come from %s now.",
            before[old], sources[new].source,
        )  # fmt: skip
    # Sources with no image but removed ones are left out; which one those name does not matter.
    kept = np.unique(origin[catalogue.rows.alive])
    number = np.zeros(len(sources), np.uint16)
    number[kept] = np.arange(len(kept))
    return catalogue.changed(
        sources=tuple(sources[one] for one in kept.tolist()),
        rows=replace(catalogue.rows, row=row, origin=number[origin]),
    )
