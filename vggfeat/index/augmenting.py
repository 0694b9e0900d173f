"""Database-side augmentation: each vector of an index averaged with its neighbours."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vggfeat.index import structures
from vggfeat.index.building import Built, construct
from vggfeat.index.expansion import Expansion, expanded
from vggfeat.index.searching import Searcher
from vggfeat.index.vector_sources import ChangedVectors
from vggfeat.index.vectors import opened
from vggfeat.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from vggfeat.index.kinds import Plan
    from vggfeat.index.preparing import Vectors
    from vggfeat.index.vector_sources import VectorSource
    from vggfeat.index.workers import Workers


def augment(
    folder: Path,
    source: VectorSource,
    built: Built,
    by: Expansion,
    *,
    plan: Plan,
    recall: float,
    progress: Progress,
    workers: Workers | None = None,
) -> Built:
    """Build again, of vectors that are averaged with those most like them.

    P. Turcot and D. Lowe, "Better matching with fewer features: the selection of useful features
    in large database recognition problems", ICCV workshop 2009, by the weights of
    :func:`~vggfeat.index.expansion.expanded`: A. Gordo et al., "End-to-end learning of deep visual
    representations for image retrieval", IJCV 2017, section 4.3.

    Parameters
    ----------
    folder : Path
        Holds what was built, and takes what is.
    source : VectorSource
        The vectors as they are.
    built : Built
        The index of these; its files are removed.
    by : Expansion
    plan, recall, progress, workers :
        See :func:`~vggfeat.index.building.construct`.
    """
    files, settings = built.files, built.settings
    count = len(built.positions)
    vectors = opened(folder / files.vectors, count, files.dimension, mapped=True)
    structure = structures.opened(folder / files.faiss, files) if files.faiss else None
    searcher = Searcher(
        vectors, "cosine", built.longest, built.positions, structure,
        settings.effort, settings.candidates,
    )  # fmt: skip

    def change(block: Vectors) -> Vectors:
        queries = block.astype(np.float64)
        # A vector is its own nearest neighbour, and weighs once.
        ids, scores = searcher.nearest(queries, by.count + 1)
        same = scores >= 1 - 1e-6
        first = same & (np.cumsum(same, axis=1) == 1)
        first[~first.any(axis=1), -1] = True
        keep = ~first
        shape = (len(block), by.count)
        averaged = expanded(
            queries, ids[keep].reshape(shape), scores[keep].reshape(shape), vectors, by
        )
        return averaged.astype(np.float32)

    again = construct(
        folder, ChangedVectors(source, change), plan, "cosine", recall=recall, progress=progress,
        workers=workers,
    )  # fmt: skip
    for name in (files.vectors, files.faiss):
        if name:
            (folder / name).unlink()
    return replace(again, settings=replace(again.settings, augmented=str(by)))
