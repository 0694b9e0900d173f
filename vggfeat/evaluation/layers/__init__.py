"""How good a store's layers are, by probes and by nearest neighbours.

:func:`sweep` scores every layer of a store both ways, :func:`compare` those of several stores on
the same images (:mod:`~vggfeat.evaluation.layers.images`), with what differs by more than chance
(:mod:`~vggfeat.evaluation.layers.differences`). :func:`score_neighbours` names images by their
neighbours, found exactly (:mod:`~vggfeat.evaluation.layers.nearest`), and :func:`low_shot` asks how
few images a class suffice.
"""

from __future__ import annotations

from vggfeat.evaluation.layers.differences import Versus
from vggfeat.evaluation.layers.knn import knn_accuracy, knn_answers
from vggfeat.evaluation.layers.lowshot import LowShot, LowShotScore, low_shot
from vggfeat.evaluation.layers.neighbours import Neighbourhoods, NeighbourScore, score_neighbours
from vggfeat.evaluation.layers.requested import requested_layers
from vggfeat.evaluation.layers.sweep import Comparison, LayerScore, compare, sweep

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
    "requested_layers",
    "score_neighbours",
    "sweep",
]
