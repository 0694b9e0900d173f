"""Linear classifiers on saved features: train, score honestly, keep, apply.

:mod:`~vggfeat.probe.classifier` is what one touches; below it :mod:`~vggfeat.probe.choosing` finds
C, :mod:`~vggfeat.probe.training` solves for all classes and values of C on the same rows, by
:mod:`vggfeat.solver`, in spaces that suit the shape of the data; what is solved for, the
:mod:`~vggfeat.probe.targets` say. :mod:`~vggfeat.probe.labelled` finds
a store's rows, :mod:`~vggfeat.probe.reading` reads them, :mod:`~vggfeat.probe.split` divides them,
:mod:`~vggfeat.probe.scoring` measures, with :mod:`~vggfeat.probe.results` of one label an image or
of several, and :mod:`~vggfeat.probe.saved` keeps the classifier. Numbers are predicted by
:mod:`~vggfeat.probe.ridge`.
"""

from __future__ import annotations

from vggfeat.probe.classifier import CLASSIFIERS, LinearProbe
from vggfeat.probe.results import MultiLabelResult, Prediction, ProbeResult, RepeatedResult
from vggfeat.probe.ridge import RidgeProbe
from vggfeat.probe.saved import SavedProbe, train
from vggfeat.probe.scoring import evaluate
from vggfeat.probe.split import stratified_folds, stratified_split

__all__ = [
    "CLASSIFIERS",
    "LinearProbe",
    "MultiLabelResult",
    "Prediction",
    "ProbeResult",
    "RepeatedResult",
    "RidgeProbe",
    "SavedProbe",
    "evaluate",
    "stratified_folds",
    "stratified_split",
    "train",
]
