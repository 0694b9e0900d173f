"""The first job: features of images, in memory or into a store.

:mod:`~vggfeat.extract.extractor` turns images into features, :mod:`~vggfeat.extract.filling`
leads them from a source into a store, :mod:`~vggfeat.extract.summary` tells what a run did.
"""

from __future__ import annotations

from vggfeat.extract.extractor import DTYPES, PRECISIONS, Batch, Failure, FeatureExtractor
from vggfeat.extract.summary import ExtractSummary

__all__ = ["DTYPES", "PRECISIONS", "Batch", "ExtractSummary", "Failure", "FeatureExtractor"]
