"""Protocols: probes and neighbours put together into answers about whole networks.

:func:`sweep` scores every layer of a store, :func:`compare` those of several stores on the same
images; :func:`score_neighbours` names images by their neighbours,
:func:`low_shot` asks how few images a class suffice. Nothing here imports torch.
"""

from __future__ import annotations

from vggfeat.evaluation.differences import Versus
from vggfeat.evaluation.knn import knn_accuracy, knn_answers
from vggfeat.evaluation.lowshot import LowShot, LowShotScore, low_shot
from vggfeat.evaluation.neighbours import Neighbourhoods, NeighbourScore, score_neighbours
from vggfeat.evaluation.sweep import Comparison, LayerScore, compare, sweep

__all__ = [
    "Comparison",
    "LayerScore",
    "LowShot",
    "LowShotScore",
    "NeighbourScore",
    "Neighbourhoods",
    "Versus",
    "compare",
    "knn_accuracy",
    "knn_answers",
    "low_shot",
    "score_neighbours",
    "sweep",
]
