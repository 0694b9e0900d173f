"""Similarity search over a store's features, exact: every answer is what brute force would give.

Approximate indexes (HNSW, IVF) come later; they will stand beside
:mod:`~vggfeat.index.exact`, under the same :class:`SimilarityIndex`.
"""

from __future__ import annotations

from vggfeat.index.catalogue import Catalogue, LeftOut
from vggfeat.index.exact import METRICS, Metric
from vggfeat.index.similarity import IndexInfo, Neighbour, SimilarityIndex

__all__ = [
    "METRICS",
    "Catalogue",
    "IndexInfo",
    "LeftOut",
    "Metric",
    "Neighbour",
    "SimilarityIndex",
]
