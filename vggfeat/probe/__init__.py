"""Linear classifiers on saved features: train, score honestly, keep, apply.

:mod:`~vggfeat.probe.classifier` is what one touches; below it :mod:`~vggfeat.probe.choosing` finds
C, :mod:`~vggfeat.probe.training` solves for all classes and values of C on the same rows, by
:mod:`vggfeat.solver`, in spaces that suit the shape of the data; what is solved for, the
:mod:`~vggfeat.probe.targets` say. :mod:`~vggfeat.probe.labelled` finds
a store's rows, :mod:`~vggfeat.probe.reading` reads them, :mod:`~vggfeat.probe.split` divides them,
:mod:`~vggfeat.probe.scoring` measures, with :mod:`~vggfeat.probe.results` of one label an image or
of several, and :mod:`~vggfeat.probe.saved` keeps the classifier.
:mod:`~vggfeat.probe.numbers` are predicted by :mod:`~vggfeat.probe.ridge`, scored by
:mod:`~vggfeat.probe.regression` and kept by :mod:`~vggfeat.probe.saved_ridge`.
"""

from __future__ import annotations

from vggfeat.probe.classifier import CLASSIFIERS, LinearProbe
from vggfeat.probe.numbers import Numbers, numbers_of_file, numbers_of_labels
from vggfeat.probe.regression import RegressionResult, evaluate_numbers
from vggfeat.probe.results import MultiLabelResult, Prediction, ProbeResult, RepeatedResult
from vggfeat.probe.ridge import RidgeProbe
from vggfeat.probe.saved import SavedProbe, train
from vggfeat.probe.saved_ridge import SavedRidge, train_numbers
from vggfeat.probe.scoring import evaluate
from vggfeat.probe.split import stratified_folds, stratified_split

__all__ = [
    "CLASSIFIERS",
    "LinearProbe",
    "MultiLabelResult",
    "Numbers",
    "Prediction",
    "ProbeResult",
    "RegressionResult",
    "RepeatedResult",
    "RidgeProbe",
    "SavedProbe",
    "SavedRidge",
    "evaluate",
    "evaluate_numbers",
    "numbers_of_file",
    "numbers_of_labels",
    "stratified_folds",
    "stratified_split",
    "train",
    "train_numbers",
]
