"""The protocols of Simonyan & Zisserman (arXiv 1409.1556): our number beside theirs.

:func:`score_dataset` (:mod:`~vggfeat.evaluation.paper.protocol`) runs them over a dataset's
splits, by :class:`Rules` that decide a score beside the :class:`Descriptors`, and says where a run
departs from the paper; :mod:`~vggfeat.evaluation.paper.scoring` scores one split,
:mod:`~vggfeat.evaluation.paper.outcome` holds what comes out, and
:mod:`~vggfeat.evaluation.paper.comparing` says which rows differ by more than chance.
"""

from __future__ import annotations

from vggfeat.evaluation.paper.descriptors import Descriptors, Part
from vggfeat.evaluation.paper.outcome import Evaluation, Mistake, Outcome, Paired, SplitScore
from vggfeat.evaluation.paper.protocol import score_dataset
from vggfeat.evaluation.paper.rules import Rules, rules_of

__all__ = [
    "Descriptors",
    "Evaluation",
    "Mistake",
    "Outcome",
    "Paired",
    "Part",
    "Rules",
    "SplitScore",
    "rules_of",
    "score_dataset",
]
