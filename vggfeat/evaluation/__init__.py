"""Protocols: probes and neighbours put together into answers about whole networks.

:func:`evaluate_dataset` runs the paper's protocols; :func:`sweep` scores every layer of a store,
:func:`compare` those of several stores on the same images; :mod:`~vggfeat.evaluation.knn` names
images by their neighbours. Nothing here imports torch.
"""

from __future__ import annotations

from vggfeat.evaluation.descriptors import Descriptors, Part
from vggfeat.evaluation.knn import knn_accuracy
from vggfeat.evaluation.outcome import Evaluation, Mistake, Outcome, Paired, SplitScore
from vggfeat.evaluation.protocol import evaluate_dataset
from vggfeat.evaluation.rules import Rules, rules_of
from vggfeat.evaluation.sweep import Comparison, LayerScore, compare, sweep

__all__ = [
    "Comparison",
    "Descriptors",
    "Evaluation",
    "LayerScore",
    "Mistake",
    "Outcome",
    "Paired",
    "Part",
    "Rules",
    "SplitScore",
    "compare",
    "evaluate_dataset",
    "knn_accuracy",
    "rules_of",
    "sweep",
]
