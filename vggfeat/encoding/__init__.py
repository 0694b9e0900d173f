"""Encoding models: responses of brains and people predicted from layers of a network.

:func:`encode` is what one touches. :mod:`~vggfeat.encoding.responses` reads what was measured, and
:mod:`~vggfeat.encoding.matching` finds which image each trial showed;
:mod:`~vggfeat.encoding.averages` has mean responses and what repeats allow at most;
:mod:`~vggfeat.encoding.folds` divides images, :mod:`~vggfeat.encoding.features` reads layers,
:mod:`~vggfeat.encoding.regression` and :mod:`~vggfeat.encoding.bands` predict,
:mod:`~vggfeat.encoding.significance` says what chance would give, and
:mod:`~vggfeat.encoding.results` is what comes out.
"""

from __future__ import annotations

from vggfeat.encoding.averages import Averages, averaged
from vggfeat.encoding.encoding import encode
from vggfeat.encoding.features import Projection
from vggfeat.encoding.folds import Fold, Folds, folds_of
from vggfeat.encoding.matching import Matched, matched
from vggfeat.encoding.responses import Responses, read_responses
from vggfeat.encoding.results import Banded, BestLayers, Encoding, LayerEncoding, Scores

__all__ = [
    "Averages",
    "Banded",
    "BestLayers",
    "Encoding",
    "Fold",
    "Folds",
    "LayerEncoding",
    "Matched",
    "Projection",
    "Responses",
    "Scores",
    "averaged",
    "encode",
    "folds_of",
    "matched",
    "read_responses",
]
