"""New indexes: of a store, of several indexes, and of another index as it is."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vggfeat import whitening as whitenings
from vggfeat.errors import SearchError, StoreMismatchError, WhiteningError
from vggfeat.index import augmenting
from vggfeat.index.building import construct
from vggfeat.index.catalogue import Catalogue
from vggfeat.index.excluded import Excluded
from vggfeat.index.folder import CATALOGUE, commit, creating, files_of
from vggfeat.index.kinds import RECALL, parse_memory, plan
from vggfeat.index.named_files import open_plain
from vggfeat.index.preparing import METRICS, Metric, Vectors
from vggfeat.index.results import IndexInfo
from vggfeat.index.rows import name_of, sources_of
from vggfeat.index.settings import LeftOut, Settings
from vggfeat.index.structures import FLAT
from vggfeat.index.vector_sources import IndexVectors, StoreVectors
from vggfeat.layers import layer_of
from vggfeat.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from vggfeat.feature_table import FeatureTable
    from vggfeat.index.expansion import Expansion
    from vggfeat.index.rows import Rows
    from vggfeat.index.workers import Workers
    from vggfeat.provenance import RunInfo
    from vggfeat.whitening import Whitening


def build(
    path: Path,
    store: FeatureTable,
    layer: str,
    *,
    metric: Metric,
    kind: str,
    memory: str | int,
    recall: float,
    whitening: Whitening | int | None,
    augment: Expansion | None,
    progress: Progress,
    workers: Workers | None,
) -> None:
    """Index a store; see :meth:`vggfeat.index.SimilarityIndex.build`."""
    began = time.perf_counter()
    if metric not in METRICS:
        raise SearchError(f"Unknown metric {metric!r}. Known ones: {', '.join(METRICS)}.")
    if not 0 < recall <= 1:
        raise SearchError(f"The recall is {recall}; give a share of 0 to 1, as 0.95.")
    if augment is not None and metric != "cosine":
        raise SearchError(f"Augmentation is for the cosine, not {metric}. Leave one of them.")
    name = store.layer(layer)
    config = store.provenance.config.for_layer(name)
    allowed = parse_memory(memory)
    learnt = _whitening(store, name, whitening, progress)
    vectors = StoreVectors(store, name, metric, learnt)
    chosen = plan(
        kind, len(vectors.positions), vectors.dimension, metric, memory=allowed, recall=recall
    )
    with creating(path) as folder:
        built = construct(
            folder, vectors, chosen, metric, recall=recall, progress=progress, workers=workers
        )
        if not len(built.positions):
            left_out = vectors.left_out
            raise SearchError(
                f"{store.path} has no row of {name} to index: of {len(store)} images "
                f"{left_out.not_done} are not done, {left_out.not_finite} hold NaN or infinite "
                f"values, {left_out.zero} are all zeros. `vggfeat info` shows the store."
            )
        if augment is not None:
            built = augmenting.augment(
                folder, vectors, built, augment, plan=chosen, recall=recall, progress=progress,
                workers=workers,
            )  # fmt: skip
        catalogue = Catalogue(
            layer_of(name), metric, config, sources_of(store), vectors.rows(built.positions),
            built.longest, vectors.left_out, _timed(built.settings, began), built.files, learnt,
            stores=(name_of(store),),
        )  # fmt: skip
        commit(folder, catalogue)


def merge(
    path: Path,
    parts: Sequence[tuple[Catalogue, Vectors]],
    *,
    kind: str | None,
    memory: str | int,
    recall: float | None,
    progress: Progress,
) -> None:
    """Unite indexes; see :meth:`vggfeat.index.SimilarityIndex.merge`."""
    began = time.perf_counter()
    if not parts:
        raise SearchError("No index to merge was given; give one or more.")
    first = parts[0][0]
    for other, _ in parts:
        _check_alike(first, other)
    rows, sources, taken, excluded = _united([catalogue for catalogue, _ in parts])
    matrices = [matrix for _, matrix in parts]
    vectors = IndexVectors(list(zip(matrices, taken, strict=True)), rows)
    if not len(vectors.positions):
        raise SearchError("The indexes hold no image that is not removed from one of them.")
    tuning = first.settings.tuning
    target = recall if recall is not None else tuning.asked if tuning else RECALL
    chosen = plan(
        kind or first.settings.factory,
        *(len(vectors.positions), vectors.dimension, first.metric),
        memory=parse_memory(memory),
        recall=target,
    )
    named = [catalogue.stores for catalogue, _ in parts]
    stores = tuple(dict.fromkeys(one for each in named for one in each)) if all(named) else ()
    left_out = sum((catalogue.left_out for catalogue, _ in parts), LeftOut())
    with creating(path) as folder:
        built = construct(folder, vectors, chosen, first.metric, recall=target, progress=progress)
        catalogue = first.changed(
            sources=sources, rows=vectors.rows(built.positions), longest=built.longest,
            left_out=left_out, settings=_timed(built.settings, began), files=built.files,
            excluded=excluded, stores=stores,
        )  # fmt: skip
        commit(folder, catalogue)


def copy(folder: Path, catalogue: Catalogue, path: str | os.PathLike[str]) -> None:
    """Copy an index; see :meth:`vggfeat.index.SimilarityIndex.save`."""
    with creating(path) as target:
        for name in files_of(catalogue):
            with open_plain(folder / name) as file, (target / name).open("xb") as copied:
                shutil.copyfileobj(file, copied, 1 << 20)
        commit(target, catalogue)


def info(folder: Path, catalogue: Catalogue) -> IndexInfo:
    """Tell an index in short; see :meth:`vggfeat.index.SimilarityIndex.info`."""
    rows, settings, files = catalogue.rows, catalogue.settings, catalogue.files
    learnt = catalogue.whitening
    exact = settings.factory == FLAT
    names = [CATALOGUE, *files_of(catalogue)]
    return IndexInfo(
        kind="exact" if exact else "approximate",
        structure=settings.factory,
        metric=catalogue.metric,
        layer=catalogue.layer,
        model=catalogue.config.model,
        source=catalogue.sources[0].source,
        sources=tuple(dict.fromkeys(source.source for source in catalogue.sources)),
        images=int((~rows.removed).sum()),
        dimension=files.dimension,
        removed=int(rows.removed.sum()),
        excluded=len(catalogue.excluded),
        labelled=int((rows.label[~rows.removed] >= 0).sum()),
        left_out=catalogue.left_out,
        effort=settings.effort,
        candidates=settings.candidates,
        tuning=settings.tuning,
        whitening=None if learnt is None else learnt.summary(),
        augmented=settings.augmented,
        bytes=sum((folder / name).stat().st_size for name in names),
        seconds=settings.seconds,
    )


def _timed(settings: Settings, began: float) -> Settings:
    return replace(settings, seconds=round(time.perf_counter() - began, 3))


def learn_whitening(
    store: FeatureTable,
    layer: str,
    dimension: int | None = None,
    *,
    progress: Progress = silent,
) -> Whitening:
    """Learn a whitening from a layer of a store, for indexes of features made alike.

    Parameters
    ----------
    store : FeatureTable
    layer : str
        By name or alias; maps are read as vectors.
    dimension : int, optional
        See :func:`vggfeat.whitening.learn`.
    progress : callable
        Told the stage, how many more images of it are done, and how many there are.

    Raises
    ------
    WhiteningError
        There are too few images.
    LayerError
        The store has no such layer.
    """
    name, total = store.layer(layer), int(store.done.sum())

    def blocks() -> Iterator[Vectors]:
        for rows, X in store.blocks(name):
            yield X
            progress("learning to whiten", len(rows), total)

    return whitenings.learn(blocks(), dimension, made=_made(store, name))


def _made(store: FeatureTable, layer: str) -> dict[str, Any]:
    return {
        "layer": layer_of(layer),
        "deciding": store.provenance.config.for_layer(layer).to_json(),
    }


def _whitening(
    store: FeatureTable, layer: str, given: Whitening | int | None, progress: Progress
) -> Whitening | None:
    """Return the whitening that was given or is to be learnt, after a check that it fits."""
    if given is None:
        return None
    if isinstance(given, int):
        return learn_whitening(store, layer, given, progress=progress)
    width = store.dimension(layer)
    if given.width != width:
        raise WhiteningError(
            f"The whitening takes vectors of {given.width} numbers; {layer} of {store.path} has "
            f"{width}. Learn one from such features: `vggfeat whiten STORE OUT --layer {layer}`."
        )
    made = _made(store, layer)
    if given.made and given.made != made:
        raise StoreMismatchError(_made_otherwise(given.made, made))
    return given


def _made_otherwise(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    a, b = ({**one, **one.pop("deciding", {})} for one in (dict(theirs), dict(ours)))
    names = sorted(name for name in {*a, *b} if a.get(name) != b.get(name))
    differences = "; ".join(f"{name}: {a.get(name)!r}, not {b.get(name)!r}" for name in names)
    return (
        "The whitening was learnt from features made in another way than the store's: "
        f"{differences}. Learn one from features like the store's: `vggfeat whiten STORE OUT`."
    )


def _check_alike(first: Catalogue, other: Catalogue) -> None:
    first.config.check(other.config, first.layer, "index")
    pairs = {
        "metric": (first.metric, other.metric),
        "whitening": tuple(one.whitening and one.whitening.sha256 for one in (first, other)),
    }
    for name, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise SearchError(
                f"The indexes differ in their {name}: {ours}, not {theirs}. Only indexes made "
                "alike can be merged; build one of them anew."
            )
    if first.settings.augmented or other.settings.augmented:
        raise SearchError(
            "An augmented index cannot be merged: its vectors depend on one another. Merge the "
            "stores (`vggfeat merge`), and build an index of the result."
        )


def _united(
    catalogues: Sequence[Catalogue],
) -> tuple[Rows, tuple[RunInfo, ...], list[np.ndarray[tuple[int], np.dtype[np.int64]]], Excluded]:
    """Unite what is known of images; of those of one path, the first is taken.

    What was removed by hand from one of the indexes is taken from none.
    """
    excluded = Excluded()
    seen = {path for catalogue in catalogues for path in catalogue.excluded.path}
    sources: list[RunInfo] = []
    rows: Rows | None = None
    taken = []
    for catalogue in catalogues:
        alive = catalogue.rows.alive
        # The order of the files may be that of tuning; images follow in that of their rows.
        alive = alive[np.argsort(catalogue.rows.order[alive], kind="stable")]
        paths = list(catalogue.rows.paths.taken(alive))
        new = np.array([path not in seen for path in paths], np.bool_)
        seen.update(paths)
        origins = []
        for source in catalogue.sources:
            if source not in sources:
                sources.append(source)
            origins.append(sources.index(source))
        taken.append(alive[new])
        excluded = excluded.followed_by(catalogue.excluded)
        kept = catalogue.rows.taken(alive[new])
        empty = kept.taken(np.arange(0)) if rows is None else rows
        rows = empty.followed_by(kept, origins)
    assert rows is not None
    return rows, tuple(sources), taken, excluded
