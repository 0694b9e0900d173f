"""From a store to an index: which rows go in, and under which names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SearchError
from vggfeat.index import exact
from vggfeat.index.catalogue import Catalogue, LeftOut
from vggfeat.index.exact import METRICS, Metric
from vggfeat.provenance import Provenance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vggfeat.store import FeatureStore


def build(store: FeatureStore, layer: str, metric: Metric) -> tuple[Any, Catalogue]:
    """Return a FAISS index of a store's usable rows, and its catalogue.

    See :meth:`vggfeat.index.SimilarityIndex.build`.
    """
    if metric not in METRICS:
        raise SearchError(f"Unknown metric {metric!r}. Known ones: {', '.join(METRICS)}.")
    name = store.layer(layer)
    done = np.flatnonzero(store.done)
    kept: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    not_finite, zero, longest = 0, 0, 0.0

    def usable() -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        nonlocal not_finite, zero, longest
        for rows, X in store.blocks(name, done):
            good = np.isfinite(X).all(axis=1)
            not_finite += int((~good).sum())
            if metric == "cosine":
                zeros = good & ~X.any(axis=1)
                zero += int(zeros.sum())
                good &= ~zeros
            rows, vectors = rows[good], X[good].astype(np.float64)
            if metric == "cosine":
                vectors = unit(vectors)
            longest = max(longest, np.linalg.norm(vectors, axis=1).max(initial=0.0))
            kept.append(rows)
            yield rows, vectors.astype(np.float32)

    dimension = int(np.prod(store[name].shape[1:]))
    index = exact.build(usable(), dimension=dimension, count=len(done), metric=metric)
    rows = np.concatenate(kept).astype(np.int64)
    left_out = LeftOut(len(store) - len(done), not_finite, zero)
    if not len(rows):
        raise SearchError(
            f"{store.path} has no row of {name} to index: of {len(store)} images "
            f"{left_out.not_done} are not done, {not_finite} hold NaN or infinite values, "
            f"{zero} are all zeros. `vggfeat info` shows the store."
        )
    given = store.provenance
    catalogue = Catalogue(
        name,
        metric,
        Provenance(given.deciding.for_layer(name), store.latest),
        rows,
        store.paths[rows],
        _labels(store)[rows],
        float(longest),
        left_out,
    )
    return index, catalogue


def unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Scale rows, none of them zero, to length 1, whatever their size."""
    scaled = vectors / np.abs(vectors).max(axis=1, keepdims=True)  # squares might overflow
    return np.asarray(scaled / np.linalg.norm(scaled, axis=1, keepdims=True))


def _labels(store: FeatureStore) -> npt.NDArray[np.object_]:
    """Return the class names of each row of a store, joined by ``|``; (N,) of str."""
    labels = np.full(len(store), "", dtype=object)
    if store.has_labels:
        targets, names = store.labels[:], np.array(store.classes, dtype=object)
        if targets.ndim == 1:
            labels[targets >= 0] = names[targets[targets >= 0]]
        else:
            labels[:] = ["|".join(names[row == 1]) for row in targets]
    return labels
