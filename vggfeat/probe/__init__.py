"""Linear classifiers on saved features: train, score honestly, keep, apply.

A later issue makes training fast and adds multi-label stores; both have their room here:
:mod:`~vggfeat.probe.classifier` solves, :mod:`~vggfeat.probe.split` divides rows,
:mod:`~vggfeat.probe.scoring` measures on a store, :mod:`~vggfeat.probe.saved` keeps the result.
"""

from __future__ import annotations

from vggfeat.probe.classifier import CLASSIFIERS, LinearProbe
from vggfeat.probe.saved import SavedProbe, train
from vggfeat.probe.scoring import Prediction, ProbeResult, evaluate
from vggfeat.probe.split import stratified_split

__all__ = [
    "CLASSIFIERS",
    "LinearProbe",
    "Prediction",
    "ProbeResult",
    "SavedProbe",
    "evaluate",
    "stratified_split",
    "train",
]
