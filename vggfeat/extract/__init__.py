"""The first job: features of images, in memory or into a store.

:mod:`~vggfeat.extract.settings` says what is to be made, :mod:`~vggfeat.extract.extractor` is what
users hold, :mod:`~vggfeat.extract.stream` leads images
through the network, :mod:`~vggfeat.extract.filling` from a source into a store,
:mod:`~vggfeat.extract.caching` keeps features between calls, and
:mod:`~vggfeat.extract.summary` tells what a run did. :mod:`~vggfeat.extract.classifying` names
the network's own classes instead.
"""

from __future__ import annotations

from vggfeat.extract.classifying import Answer, Guess, classify
from vggfeat.extract.extractor import FeatureExtractor
from vggfeat.extract.features import Features
from vggfeat.extract.settings import DTYPES, PRECISIONS
from vggfeat.extract.stream import Batch, Failure
from vggfeat.extract.summary import ExtractSummary

__all__ = [
    "DTYPES",
    "PRECISIONS",
    "Answer",
    "Batch",
    "ExtractSummary",
    "Failure",
    "FeatureExtractor",
    "Features",
    "Guess",
    "classify",
]
