"""Protocols: probes and neighbours put together into answers about whole networks.

:func:`sweep` scores every layer of a store, :func:`compare` those of several stores on the same
images; :mod:`~vggfeat.evaluation.knn` names images by their neighbours. Nothing here imports
torch.
"""

from __future__ import annotations

from vggfeat.evaluation.knn import knn_accuracy
from vggfeat.evaluation.sweep import Comparison, LayerScore, compare, sweep

__all__ = ["Comparison", "LayerScore", "compare", "knn_accuracy", "sweep"]
