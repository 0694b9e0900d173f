"""Similarity search over a store's features: exact, or approximate through FAISS.

:class:`SimilarityIndex` is the door. Behind it, :mod:`~vggfeat.index.searching` answers queries,
:mod:`~vggfeat.index.making` and :mod:`~vggfeat.index.changing` write indexes, and
:mod:`~vggfeat.index.folder` keeps them whole on the disk.
"""

from __future__ import annotations

from vggfeat.index.expansion import Expansion
from vggfeat.index.filters import Selection
from vggfeat.index.folder import is_index, state
from vggfeat.index.kinds import KINDS
from vggfeat.index.making import learn_whitening
from vggfeat.index.preparing import METRICS, Metric
from vggfeat.index.results import AddReport, IndexInfo, Neighbour
from vggfeat.index.settings import LeftOut, Measured, Tuning
from vggfeat.index.similarity import SimilarityIndex

__all__ = [
    "KINDS",
    "METRICS",
    "AddReport",
    "Expansion",
    "IndexInfo",
    "LeftOut",
    "Measured",
    "Metric",
    "Neighbour",
    "Selection",
    "SimilarityIndex",
    "Tuning",
    "is_index",
    "learn_whitening",
    "state",
]
