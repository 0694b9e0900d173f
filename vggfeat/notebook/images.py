"""Stores, indexes and the answers of searches, with photographs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vggfeat.index import Neighbours
from vggfeat.notebook.parts import PHOTOS, Photo, head, name_of, photo_row, rows_table, text_of
from vggfeat.report.search import METRICS
from vggfeat.report.text import counted, decimals
from vggfeat.report.thumbnails import original, stored_originals
from vggfeat.sources import Originals, is_remote
from vggfeat.sources.several import named

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable
    from vggfeat.index import SearchResults, SimilarityIndex
    from vggfeat.queries import SearchResult
    from vggfeat.report import ImageSource

QUERIES = 5
"""So many queries are shown, and the others counted."""


def table(store: FeatureTable) -> str:
    """Show what a store holds, and some of its photographs."""
    config, counts = store.provenance.config, store.counts()
    told = [counted(len(store), "image")]
    told += [f"{counts[name]:,} {name}" for name in ("failed", "pending") if counts[name]]
    if store.targets is not None:
        kind = "several labels an image" if store.multi_label else "one label an image"
        told.append(f"{counted(len(store.classes), 'class', 'classes')}, {kind}")
    told += [f"{config.model}, {store.latest.weights}", f"view {config.view}"]
    rows = [
        (name, pooling, " x ".join(map(str, store.shape(name))), config.dtype)
        for name, pooling in config.layers.items()
    ]
    done = np.flatnonzero(store.done)
    some = done[np.linspace(0, len(done) - 1, min(PHOTOS, len(done))).astype(np.int64)]
    photos: list[Photo] = []
    if not any(is_remote(one.root) for one in store.sources):
        opened = stored_originals(store)
        columns = (store.origins(some), store.paths[some].tolist(), _labels(store, some))
        photos = [
            (original(opened, source, path), name, path)
            for source, path, name in zip(*columns, strict=True)
        ]
    heading = head(name_of(store.path), told, str(store.path))
    return (
        heading + rows_table(("layer", "pooling", "shape", "stored as"), rows) + photo_row(photos)
    )


def _labels(store: FeatureTable, rows: npt.NDArray[np.int64]) -> list[str]:
    targets = store.targets
    if targets is None:
        return [""] * len(rows)
    return [
        "|".join(name for name, has in zip(targets.classes, one, strict=True) if has == 1)
        if targets.multi_label
        else (targets.classes[one] if one >= 0 else "")
        for one in targets.values[rows]
    ]


def index(opened: SimilarityIndex) -> str:
    """Show what an index holds, and some of its photographs."""
    info = opened.info()
    told = [counted(info.images, "image"), f"{info.layer} of {info.model}", METRICS[info.metric]]
    told.append(
        "exact search" if info.kind == "exact" else f"approximate search by {info.structure}"
    )
    ids = opened.ids
    some = ids[np.linspace(0, len(ids) - 1, min(PHOTOS, len(ids))).astype(np.int64)].tolist()
    place = _places(opened.sources)
    photos = [
        (place(opened.source(one), opened.path(one)), opened.label(one), opened.path(one))
        for one in some
    ]
    return head(opened.folder.name, told, str(opened.folder)) + photo_row(photos)


def _places(sources: Iterable[str]) -> Callable[[str, str], ImageSource]:
    """Return what gives the original of a path in a source, not opened before it is drawn."""
    near = [one for one in dict.fromkeys(sources) if not is_remote(named(one)[1])]
    opened = Originals(near)

    def place(source: str, path: str) -> ImageSource:
        return original(opened, source, path) if source in near else None

    return place


def neighbours(found: Neighbours, heading: str = "") -> str:
    """Show the answers to one query."""
    catalogue = found.catalogue
    origin = catalogue.rows.origin
    sources = {one.id: catalogue.sources[int(origin[one.id])].source for one in found[:PHOTOS]}
    place = _places(sources.values())
    digits = decimals([one.score for one in found])
    photos = [
        (
            place(sources[one.id], one.path),
            f"{one.rank}. {one.score:.{digits}f}" + (f" {one.label}" if one.label else ""),
            one.path,
        )
        for one in found[:PHOTOS]
    ]
    more = [f"{len(found) - PHOTOS:,} more"] if len(found) > PHOTOS else []
    told = [counted(len(found), "neighbour"), *more, METRICS[catalogue.metric]]
    return head(heading, told) + photo_row(photos)


def answer(result: SearchResult) -> str:
    """Return a query and its neighbours; images that came as paths are shown, too."""
    paths = [one for one in result.images if isinstance(one, str | os.PathLike)]
    near = [str(one) for one in paths if not is_remote(str(one))]
    query = photo_row([(one, "query", one) for one in near[:PHOTOS]])
    found = result.neighbours
    answer = neighbours(found) if isinstance(found, Neighbours) else text_of(found)
    return head("query", [Path(one).name for one in near[:PHOTOS]]) + query + answer


def results(found: SearchResults) -> str:
    """Show the answers to several queries."""
    several = len(found) > 1
    parts = [
        neighbours(one, f"query {number}" if several else "")
        for number, one in enumerate(found[:QUERIES], 1)
    ]
    if len(found) > QUERIES:
        parts.append(head("", [f"{len(found) - QUERIES:,} more queries"]))
    return "".join(parts) or head("no query", [])
