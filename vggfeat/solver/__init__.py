"""Linear functions of rows that minimise a convex loss: all columns solved together.

:func:`~vggfeat.solver.newton.minimise` is what one calls, with a loss
(:mod:`~vggfeat.solver.losses`) of the scores in a space of functions
(:mod:`~vggfeat.solver.spaces`) over rows that may be in a file (:mod:`~vggfeat.solver.rows`). The
:mod:`~vggfeat.solver.systems` of its steps are solved by :mod:`~vggfeat.solver.conjugate` gradients
with a preconditioner (:mod:`~vggfeat.solver.deflation`) or, where few rows are active, by
:mod:`~vggfeat.solver.factors`. Squared errors, whose minima have
a closed form, are for :func:`~vggfeat.solver.ridge.fit_ridge`. Nothing here knows of stores, labels
or classifiers: all is arrays.
"""

from __future__ import annotations

from vggfeat.solver.deflation import Deflation
from vggfeat.solver.losses import Logistic, Loss, Multinomial, SquaredHinge
from vggfeat.solver.newton import Solution, minimise
from vggfeat.solver.ridge import RidgeSolution, fit_ridge
from vggfeat.solver.rows import Reader, Rows, moments
from vggfeat.solver.spaces import Features, Gram, Space, gram
from vggfeat.solver.systems import Systems

__all__ = [
    "Deflation",
    "Features",
    "Gram",
    "Logistic",
    "Loss",
    "Multinomial",
    "Reader",
    "RidgeSolution",
    "Rows",
    "Solution",
    "Space",
    "SquaredHinge",
    "Systems",
    "fit_ridge",
    "gram",
    "minimise",
    "moments",
]
