"""Whole protocols in one call: from a folder of images to a number beside the published one.

:func:`evaluate` measures networks on a labelled dataset as the VGG paper does,
:func:`evaluate_retrieval` features on a benchmark of image retrieval. Both extract what is not
there yet, and keep it for the next run. The scoring itself, on stores that are there, is
:mod:`vggfeat.evaluation`'s.
"""

from __future__ import annotations

from vggfeat.protocols.keeping import STORES
from vggfeat.protocols.labelled import evaluate
from vggfeat.protocols.retrieval import evaluate_retrieval

__all__ = ["STORES", "evaluate", "evaluate_retrieval"]
