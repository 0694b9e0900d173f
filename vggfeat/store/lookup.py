"""Rows of a store that are still those of their images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np
import numpy.typing as npt

from vggfeat.failures import reading
from vggfeat.feature_table import DONE
from vggfeat.store.origins import EntryLike, Look
from vggfeat.store.reader import FeatureStore
from vggfeat.store.resuming import confirmed, unchanged
from vggfeat.store.vectors import checksums


def fresh_rows(
    store: FeatureStore, layer: str, entries: Sequence[EntryLike], look: Look | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Read the features of images that are done and whose files have not changed since.

    Also while the store is being written: a row counts only if it fits its checksum.

    Parameters
    ----------
    store : FeatureStore
        Opened store.
    layer : str
        Name or alias.
    entries : sequence of entries
        Images, each once, as a source says them now.
    look : callable, optional
        Reads the bytes of images whose times prove nothing; see :meth:`StoreWriter.open`.

    Returns
    -------
    X : ndarray of float32, shape (n, D)
        Features, maps (C, H, W) flattened; of no meaning where `fresh` is False.
    fresh : ndarray of bool, shape (n,)
        Whether the store has the image, done and unchanged.

    Raises
    ------
    StoreError
        The store is damaged.
    LayerError
        It has no such layer.
    """
    name, dtype = store.layer(layer), np.dtype(store.provenance.config.dtype)
    row_of = {path: row for row, path in enumerate(store.paths.tolist())}
    rows = np.array([row_of.get(entry.path, -1) for entry in entries], np.int64)
    X = np.zeros((len(entries), store.dimension(name)), np.float32)
    with reading(store.path):
        stored = store.contents()
        fresh = (rows >= 0) & (stored.status[rows] == DONE)
        same, unsure = unchanged(stored, rows, entries, np.ones(len(rows), np.bool_))
        unsure &= fresh
        if look is not None and unsure.any():
            same[unsure] = confirmed(stored, rows[unsure], [*compress(entries, unsure)], look)
        fresh &= same
        if fresh.any():
            features = np.empty((int(fresh.sum()), X.shape[1]), np.float32)
            store.read_rows(name, rows[fresh], features)
            X[fresh] = features
            sums = store.checksums(name)[rows[fresh]]
            fresh[fresh] = checksums(features.astype(dtype)) == sums
    return X, fresh
