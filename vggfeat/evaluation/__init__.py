"""Protocols: probes and neighbours put together into answers about whole networks.

:func:`sweep` scores every layer of a store, :func:`compare` those of several stores on the same
images; :func:`score_neighbours` names images by their neighbours. Nothing here imports torch.
"""

from __future__ import annotations

from vggfeat.evaluation.knn import knn_accuracy, knn_answers
from vggfeat.evaluation.neighbours import Neighbourhoods, NeighbourScore, score_neighbours
from vggfeat.evaluation.sweep import Comparison, LayerScore, compare, sweep

__all__ = [
    "Comparison",
    "LayerScore",
    "NeighbourScore",
    "Neighbourhoods",
    "compare",
    "knn_accuracy",
    "knn_answers",
    "score_neighbours",
    "sweep",
]
