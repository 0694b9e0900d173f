"""Why: where in an image is what a probe, the network or a search saw.

:func:`explain` maps a class (or a number that a ridge regression predicts) onto images, and
:class:`SimilarityMaps` what two images have in common, which :func:`explain_search` does for all
results of a search. What is explained is a function of one feature
(:mod:`~vggfeat.explain.scores`). Of pooled maps it is divided among the positions of the layer,
exactly (:mod:`~vggfeat.explain.exact`); through fully connected layers gradients say where
(:mod:`~vggfeat.explain.gradients`). docs/explain.md has the formulas, and what not to read into a
map.
"""

from __future__ import annotations

from vggfeat.explain.classes import Explanation, explain, explain_source
from vggfeat.explain.maps import EXACT, METHODS
from vggfeat.explain.pairs import PairMaps, SimilarityMaps
from vggfeat.explain.searches import ExplainedSearch, explain_search

__all__ = [
    "EXACT",
    "METHODS",
    "ExplainedSearch",
    "Explanation",
    "PairMaps",
    "SimilarityMaps",
    "explain",
    "explain_search",
    "explain_source",
]
