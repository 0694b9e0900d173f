"""The first job: features of images, in memory or into a store.

:mod:`~vggfeat.extract.settings` says what is to be made, :mod:`~vggfeat.extract.extractor` is what
users hold. Images go one way: :mod:`~vggfeat.extract.stream` leads them through the network into a
sink, which is memory (:mod:`~vggfeat.extract.memory`) or the rows of a store that are still to be
computed (:mod:`~vggfeat.extract.storing`; part by part: :mod:`~vggfeat.extract.parts`, on a
cluster by :mod:`~vggfeat.extract.on_ray`). :mod:`~vggfeat.extract.caching` keeps features between
calls, :mod:`~vggfeat.extract.summary` tells what a run did, and
:mod:`~vggfeat.extract.classifying` names the network's own classes instead.
"""

from __future__ import annotations

from vggfeat.extract.classifying import Answer, Guess, classify
from vggfeat.extract.extractor import FeatureExtractor
from vggfeat.extract.memory import Features
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
