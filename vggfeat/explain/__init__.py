"""Why: where in an image is what a probe, the network or a search saw.

:func:`explain` maps a class (or a number that a ridge regression predicts) onto images, and
:class:`SimilarityMaps` what a query and a neighbour have in common. What is explained is a function
of one feature (:mod:`~vggfeat.explain.scores`). Of pooled maps it is divided among the positions of
the layer, exactly (:mod:`~vggfeat.explain.exact`); through fully connected layers gradients say
where (:mod:`~vggfeat.explain.gradients`). docs/explain.md has the formulas, and what not to read
into a map.
"""

from __future__ import annotations

from vggfeat.explain.classes import Explanation, explain, explain_source
from vggfeat.explain.maps import EXACT, METHODS
from vggfeat.explain.pairs import PairMaps, SimilarityMaps

__all__ = [
    "EXACT",
    "METHODS",
    "Explanation",
    "PairMaps",
    "SimilarityMaps",
    "explain",
    "explain_source",
]
