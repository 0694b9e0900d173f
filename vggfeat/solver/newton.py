"""Newton's method for many linear probes at once.

Each column (or group of columns, :mod:`~vggfeat.solver.losses`) has its own objective,

    J(w, b) = |w|^2 / 2 (+ b^2 / 2) + sum_i loss(f_i),    f_i = w . x_i + b,

all share the rows. A step d solves H d = -g with the (generalised) Hessian H = 1 + X^T D X, for the
squared hinge by Mangasarian's finite Newton method (2002; Keerthi & DeCoste 2005 for linear SVMs).
The systems of all columns are solved together by preconditioned conjugate gradients, in which
columns that have got there leave the batch; or, where few rows are active, one by one by a Cholesky
factorisation over these rows (Chapelle 2007), whichever takes fewer multiplications. A line search
makes every step descend, so that it converges from anywhere.

Steps are searched for in single precision where the problem's condition allows it, but gradients
and scores at the point reached are in double precision, so that errors do not add up: each Newton
step also is one of iterative refinement. Where a step turns out not to descend, all further ones
are searched for in double precision, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vggfeat.solver.conjugate import columns_of, conjugate_gradients
from vggfeat.solver.deflation import Deflation
from vggfeat.solver.factors import Factors
from vggfeat.solver.losses import Diagonal, Groups, Loss, SquaredHinge
from vggfeat.solver.rows import Floats
from vggfeat.solver.spaces import Space

Array = npt.NDArray[np.float64]

_LEAST = 1e-3  # of a step; one that cannot be gone so far is made of rounding errors


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """Where the columns have got to.

    Attributes
    ----------
    V : ndarray of float64, shape (dimension, m)
        Functions in the coordinates of their space.
    scores : ndarray of float64, shape (n, m)
        Their values on the rows.
    steps : int
        Newton steps that the slowest column took.
    change : float
        By how much the last step changed a score at most.
    """

    V: Array
    scores: Array
    steps: int
    change: float


def minimise(
    space: Space,
    loss: Loss,
    *,
    start: Solution | None = None,
    deflation: Deflation,
    tolerance: float,
    most_steps: int,
    exact: bool = True,
) -> Solution:
    """Minimise J for all columns.

    Parameters
    ----------
    space : Space
        Of n rows.
    loss : Loss
        Of m columns.
    start : Solution, optional
        Where to start, such as the solution for a smaller C; 0 by default.
    deflation : Deflation
        Of `space`.
    tolerance : float
        A group is done when a step changes none of its scores by more. As the steps shrink
        faster than linearly, its scores then are closer than this to those of the minimum.
    most_steps : int
        At most so many Newton steps.
    exact : bool
        Whether scores are computed anew in double precision after each step; else the step's own
        are added, which in single precision leaves about 1e-5 of the scores' size uncertain.
    """
    m = loss.groups * loss.width
    V = np.zeros((space.dimension, m)) if start is None else start.V.copy()
    F = np.zeros((space.n, m)) if start is None else start.scores.copy()
    if exact and start is not None:
        F = space.scores(V)
    change = np.full(loss.groups, np.inf)
    live = np.arange(loss.groups)
    precise = space.working == np.float64
    factors = Factors(space, deflation)
    step = 0
    while len(live) and step < most_steps:
        step += 1
        part, columns = loss.take(live), columns_of(live, loss.width)
        f = F[:, columns]
        g = space.regular(V[:, columns]) + space.pull(part.slope(f))
        d, Fd = _step(space, part, f, g, deflation, factors, live)
        t = np.repeat(_lengths(space, part, V[:, columns], f, d, Fd), loss.width)
        V[:, columns] += t * d
        F[:, columns] = space.scores(V[:, columns]) if exact else f + t * Fd
        moved = np.abs(t * Fd).max(axis=0, initial=0)
        change[live] = moved.reshape(-1, loss.width).max(axis=1)
        lost = t[:: loss.width] < _LEAST
        if exact and not precise and lost.any():
            space, precise = space.precise(), True
            factors = Factors(space, deflation)
            change[live[lost]] = np.inf
        live = live[change[live] > tolerance]
    return Solution(V, F, step, float(change.max(initial=0)))


def _step(
    space: Space,
    loss: Loss,
    f: Array,
    g: Array,
    deflation: Deflation,
    factors: Factors,
    names: npt.NDArray[np.int64],
) -> tuple[Floats, Floats]:
    """Return the Newton step of each column, and its scores."""
    curvature, low = loss.curvature(f, space.working), g.astype(space.working)
    if not (isinstance(loss, SquaredHinge) and isinstance(curvature, Diagonal)):
        return conjugate_gradients(space, curvature, low, deflation, loss.width)
    d, Fd = np.zeros_like(low), np.zeros(f.shape, low.dtype)
    few = np.flatnonzero(factors.preferred(names, curvature))
    if len(few):
        steps, done = factors.step(names[few], curvature.take(few), low[:, few])
        few = few[done]
        d[:, few] = steps[:, done]
        Fd[:, few] = space.fast(d[:, few])
    many = np.setdiff1d(np.arange(len(names)), few)
    if len(many):
        d[:, many], Fd[:, many] = conjugate_gradients(
            space, curvature.take(many), low[:, many], deflation, 1
        )
    return d, Fd


def _lengths(space: Space, loss: Loss, V: Array, f: Array, d: Floats, Fd: Floats) -> Array:
    """Return how far to go along each group's step: 1, or where J is least before that."""
    d, Fd = d.astype(np.float64), Fd.astype(np.float64)
    dual = space.dual(d, Fd)

    def per_group(values: Array) -> Array:
        return np.asarray(values.reshape(-1, loss.width).sum(axis=1))

    at_start = per_group((dual * space.regular(V)).sum(axis=0))
    growth = per_group((dual * space.regular(d)).sum(axis=0))

    def slope(t: Array, groups: Groups) -> Array:
        columns = columns_of(np.flatnonzero(groups), loss.width)
        reached = f[:, columns] + np.repeat(t, loss.width) * Fd[:, columns]
        part = (loss.take(groups).slope(reached) * Fd[:, columns]).sum(axis=0)
        return at_start[groups] + t * growth[groups] + per_group(part)

    everywhere = np.ones(loss.groups, bool)
    first = slope(np.zeros(loss.groups), everywhere)
    low, high = np.zeros(loss.groups), np.ones(loss.groups)
    beyond = slope(high, everywhere) > 0.1 * np.abs(first)  # else the whole step is good enough
    for _ in range(20):
        if not beyond.any():
            break
        middle = (low[beyond] + high[beyond]) / 2
        rising = slope(middle, beyond) > 0
        high[beyond] = np.where(rising, middle, high[beyond])
        low[beyond] = np.where(rising, low[beyond], middle)
    return np.where(beyond, (low + high) / 2, 1.0)
