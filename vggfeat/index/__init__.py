"""Similarity search over a store's features: exact, or approximate through FAISS.

:class:`SimilarityIndex` is the door. Behind it, :mod:`~vggfeat.index.searching` answers queries,
:mod:`~vggfeat.index.making` and :mod:`~vggfeat.index.changing` write indexes, and
:mod:`~vggfeat.index.folder` keeps them whole on the disk; :mod:`~vggfeat.index.workers` are who
encodes the vectors of a large one, :mod:`~vggfeat.index.shards` what they do.
"""

from __future__ import annotations

from vggfeat.index.expansion import Expansion
from vggfeat.index.filters import Selection
from vggfeat.index.folder import is_index, state
from vggfeat.index.kinds import KINDS
from vggfeat.index.making import learn_whitening
from vggfeat.index.preparing import METRICS, Metric
from vggfeat.index.results import AddReport, IndexInfo, Neighbour, Neighbours, SearchResults
from vggfeat.index.settings import LeftOut, Measured, Tuning
from vggfeat.index.similarity import SimilarityIndex
from vggfeat.index.workers import LocalWorkers, RayWorkers, Workers

__all__ = [
    "KINDS",
    "METRICS",
    "AddReport",
    "Expansion",
    "IndexInfo",
    "LeftOut",
    "LocalWorkers",
    "Measured",
    "Metric",
    "Neighbour",
    "Neighbours",
    "RayWorkers",
    "SearchResults",
    "Selection",
    "SimilarityIndex",
    "Tuning",
    "Workers",
    "is_index",
    "learn_whitening",
    "state",
]
