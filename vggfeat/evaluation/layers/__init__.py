"""How good a store's layers are, by probes and by nearest neighbours.

:func:`sweep` scores every layer of a store both ways, :func:`compare` those of several stores on
the same images (:mod:`~vggfeat.evaluation.layers.images`), with what differs by more than chance
(:mod:`~vggfeat.evaluation.layers.differences`). :func:`score_neighbours` names images by their
neighbours, found exactly (:mod:`~vggfeat.evaluation.layers.nearest`), and :func:`low_shot` asks how
few images a class suffice.
"""

from __future__ import annotations

from vggfeat.evaluation.layers.comparison import Comparison, LayerPrecision, LayerScore, Sweep
from vggfeat.evaluation.layers.curves import LowShot, LowShotPrecision, LowShotScore
from vggfeat.evaluation.layers.differences import AnswersVersus, RankingsVersus, Versus
from vggfeat.evaluation.layers.knn import knn_accuracy, knn_answers, knn_scores
from vggfeat.evaluation.layers.lowshot import low_shot
from vggfeat.evaluation.layers.neighbours import (
    Neighbourhoods,
    NeighbourPrecision,
    NeighbourScore,
    score_neighbours,
)
from vggfeat.evaluation.layers.requested import requested_layers
from vggfeat.evaluation.layers.sweep import compare, sweep

__all__ = [
    "AnswersVersus",
    "Comparison",
    "LayerPrecision",
    "LayerScore",
    "LowShot",
    "LowShotPrecision",
    "LowShotScore",
    "NeighbourPrecision",
    "NeighbourScore",
    "Neighbourhoods",
    "RankingsVersus",
    "Sweep",
    "Versus",
    "compare",
    "knn_accuracy",
    "knn_answers",
    "knn_scores",
    "low_shot",
    "requested_layers",
    "score_neighbours",
    "sweep",
]
