"""Protocols: probes and neighbours put together into answers about whole networks.

:func:`evaluate_dataset` runs the paper's protocols, :func:`evaluate_retrieval` those of image
retrieval; :func:`sweep` scores every layer of a store,
:func:`compare` those of several stores on the same images; :func:`score_neighbours` names images by
their neighbours, :func:`low_shot` asks how few images a class suffice; :func:`image_map` lays
images out in a plane, :func:`unit_responses` finds what excites single units. Nothing here imports
torch.
"""

from __future__ import annotations

from vggfeat.evaluation.descriptors import Descriptors, Part
from vggfeat.evaluation.differences import Versus
from vggfeat.evaluation.image_map import ImageMap, image_map
from vggfeat.evaluation.knn import knn_accuracy, knn_answers
from vggfeat.evaluation.lowshot import LowShot, LowShotScore, low_shot
from vggfeat.evaluation.neighbours import Neighbourhoods, NeighbourScore, score_neighbours
from vggfeat.evaluation.outcome import Evaluation, Mistake, Outcome, Paired, SplitScore
from vggfeat.evaluation.projection import Projection, project
from vggfeat.evaluation.protocol import evaluate_dataset
from vggfeat.evaluation.ranked import RetrievalEvaluation, RetrievalScore
from vggfeat.evaluation.retrieval import evaluate_retrieval
from vggfeat.evaluation.rules import Rules, rules_of
from vggfeat.evaluation.sweep import Comparison, LayerScore, compare, sweep
from vggfeat.evaluation.units import UnitsReport, unit_responses

__all__ = [
    "Comparison",
    "Descriptors",
    "Evaluation",
    "ImageMap",
    "LayerScore",
    "LowShot",
    "LowShotScore",
    "Mistake",
    "NeighbourScore",
    "Neighbourhoods",
    "Outcome",
    "Paired",
    "Part",
    "Projection",
    "RetrievalEvaluation",
    "RetrievalScore",
    "Rules",
    "SplitScore",
    "UnitsReport",
    "Versus",
    "compare",
    "evaluate_dataset",
    "evaluate_retrieval",
    "image_map",
    "knn_accuracy",
    "knn_answers",
    "low_shot",
    "project",
    "rules_of",
    "score_neighbours",
    "sweep",
    "unit_responses",
]
