"""Protocols: probes and neighbours put together into answers about whole networks.

:func:`sweep` scores every layer of a store, :func:`compare` those of several stores on the same
images; :mod:`~vggfeat.evaluation.knn` names images by their neighbours. :func:`image_map` lays
images out in a plane, :func:`unit_responses` finds what excites single units. Nothing here imports
torch.
"""

from __future__ import annotations

from vggfeat.evaluation.image_map import ImageMap, image_map
from vggfeat.evaluation.knn import knn_accuracy
from vggfeat.evaluation.projection import Projection, project
from vggfeat.evaluation.sweep import Comparison, LayerScore, compare, sweep
from vggfeat.evaluation.units import UnitsReport, unit_responses

__all__ = [
    "Comparison",
    "ImageMap",
    "LayerScore",
    "Projection",
    "UnitsReport",
    "compare",
    "image_map",
    "knn_accuracy",
    "project",
    "sweep",
    "unit_responses",
]
