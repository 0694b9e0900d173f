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

from vggfeat.solver.conjugate import columns_of
from vggfeat.solver.losses import Loss
from vggfeat.solver.rows import Floats, Positions, row_blocks
from vggfeat.solver.spaces import Space
from vggfeat.solver.systems import Systems

Array = npt.NDArray[np.float64]

_ROUNDING = 4 * float(np.finfo(np.float64).eps)  # of a score, in units of the numbers that make it
_LEAST = 1e-3  # of a step; one that cannot be gone so far is made of rounding errors
_LEAST_PRECISE = 1e-6  # of one that was searched for in double precision
_NEAR = 1e-6  # changes of a score that nobody needs to be told of, where rounding allows no less


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
    systems: Systems,
    loss: Loss,
    *,
    start: Solution | None = None,
    tolerance: float,
    most_steps: int,
    exact: bool = True,
) -> Solution:
    """Minimise J for all columns.

    Parameters
    ----------
    systems : Systems
        In a space of n rows.
    loss : Loss
        Of m columns.
    start : Solution, optional
        Where to start, such as the solution for a smaller C, whose arrays are written over; 0 by
        default.
    tolerance : float
        A group is done when a step, were it gone whole, changes none of its scores by more. As
        steps shrink faster than linearly, its scores then mostly are closer to those of the
        minimum.
    most_steps : int
        At most so many Newton steps.
    exact : bool
        Whether scores are computed anew in double precision after each step; else the step's own
        are added, which in single precision leaves about 1e-5 of the scores' size uncertain.
    """
    space = systems.space
    m = loss.groups * loss.width
    V = np.zeros((space.dimension, m)) if start is None else start.V
    F = np.zeros((space.n, m)) if start is None else start.scores
    if exact and start is not None:
        F = space.scores(V)
    systems.fresh()
    change = np.full(loss.groups, np.inf)
    live = np.arange(loss.groups)
    step = 0
    while len(live) and step < most_steps:
        step += 1
        everything = len(live) == loss.groups
        part = loss if everything else loss.take(live)
        columns = slice(None) if everything else columns_of(live, loss.width)
        f = F[:, columns]
        pulled = part.slope(f)
        noise = _ROUNDING * np.hypot(_length(pulled), _length(V[:, columns]))
        g = space.regular(V[:, columns]) + space.pull(pulled)
        del pulled
        d, Fd = systems.step(part, live, f, g)
        t, hopeless = _lengths(space, part, V[:, columns], f, d, Fd)
        whole = np.maximum(Fd.max(axis=0, initial=0), -Fd.min(axis=0, initial=0))
        whole, noise = (one.reshape(-1, loss.width).max(axis=1) for one in (whole, noise))
        d *= np.repeat(t, loss.width).astype(d.dtype)
        Fd *= np.repeat(t, loss.width).astype(Fd.dtype)
        V[:, columns] += d
        if exact:
            F[:, columns] = space.scores(V[:, columns])
        else:
            F[:, columns] += Fd
        before, change[live] = change[live], whole  # not t * whole: a short step is not the last
        going = change[live] > tolerance
        if systems.precise:  # where rounding ends the search, how far it was from its end is told
            lost = (t < _LEAST_PRECISE) & ~hopeless
            stays = (t * whole <= noise) & (whole > before / 4)
            over = going & (hopeless | lost | stays)
            told = np.where(lost & (noise <= _NEAR), whole, np.maximum(t * whole, noise))
            change[live[over]] = np.where(told <= _NEAR, 0, told)[over]
            going &= ~over
        elif not exact:
            going &= t >= _LEAST  # rounding errors, which a rough search does not look into
        elif (t < _LEAST).any():
            systems = systems.in_double()
            space = systems.space
            going |= t < _LEAST
            change[live[t < _LEAST]] = np.inf
        live = live[going]
    return Solution(V, F, step, float(change.max(initial=0)))


def _length(columns: Array) -> Array:
    return np.asarray(np.sqrt(np.einsum("ij,ij->j", columns, columns)))


def _lengths(
    space: Space, loss: Loss, V: Array, f: Array, d: Floats, Fd: Floats
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return how far to go along each group's step, and for which nothing is to be gained.

    A step is gone whole, or to where J has lost nine tenths of its slope, by regula falsi (the
    Illinois kind). Nothing is to be gained where the slope is a difference of terms that cannot be
    told from their rounding.
    """
    d = d.astype(np.float64)
    dual = space.dual(d, Fd)

    def per_group(values: Array) -> Array:
        return np.asarray(values.reshape(-1, loss.width).sum(axis=1))

    at_start = per_group(np.einsum("ij,ij->j", dual, space.regular(V)))
    growth = per_group(np.einsum("ij,ij->j", dual, space.regular(d)))

    def slope(t: Array, groups: Positions) -> tuple[Array, Array]:
        """Return the slopes at `t`, and the sums of their terms' sizes."""
        every = len(groups) == loss.groups
        part = loss if every else loss.take(groups)
        columns = slice(None) if every else columns_of(groups, loss.width)
        own, before = Fd[:, columns], f[:, columns]
        length, total = np.repeat(t, loss.width), np.zeros((2, own.shape[1]))
        for where in row_blocks(*own.shape):
            along = own[where].astype(np.float64)
            reached = length * along
            reached += before[where]
            terms = part.rows(where).slope(reached)
            terms *= along
            total[0] += terms.sum(axis=0)
            total[1] += np.abs(terms, out=terms).sum(axis=0)
        start, bend = at_start[groups], t * growth[groups]
        sums, sizes = map(per_group, total)
        return start + bend + sums, np.abs(start) + bend + sizes

    beyond, t = np.arange(loss.groups), np.ones(loss.groups)
    first, terms = slope(0 * t, beyond)
    hopeless, enough = np.abs(first) <= _ROUNDING * terms, 0.1 * np.abs(first)
    low, high = np.zeros((2, loss.groups)), np.ones((2, loss.groups))  # places and slopes
    low[1], high[1] = first, slope(t, beyond)[0]
    beyond = beyond[high[1] > enough]
    for _ in range(20):
        if not len(beyond):
            break
        (a, fa), (b, fb) = low[:, beyond], high[:, beyond]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.nan_to_num(fa / (fa - fb), nan=0.5)
        t[beyond] = a + (b - a) * np.clip(share, 0.1, 0.9)
        found = slope(t[beyond], beyond)[0]
        rising = found > 0
        # an end that stays counts half, so that both come near
        low[:, beyond] = np.where(rising, [a, fa / 2], [t[beyond], found])
        high[:, beyond] = np.where(rising, [t[beyond], found], [b, fb / 2])
        beyond = beyond[np.abs(found) > enough[beyond]]
    return t, hopeless
