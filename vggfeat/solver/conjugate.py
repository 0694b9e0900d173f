"""Conjugate gradients on the Newton systems of many columns at once.

Hestenes & Stiefel (1952), with the preconditioner of :mod:`~vggfeat.solver.deflation`. All columns
share each product with the rows, which is what takes the time; a group of columns that has got
there leaves the batch. Inner products are those of functions, so that lengths do not depend on the
coordinates of the space, and residuals are gradients of J.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vggfeat.solver.deflation import Deflation
from vggfeat.solver.losses import Curvature
from vggfeat.solver.rows import Floats, Positions
from vggfeat.solver.spaces import Space

FORCING = 0.05
"""What of the gradient a step may leave, in the norm of the preconditioner."""

_MOST_ITERATIONS = 500  # in a step; the next step goes on where it stops
_NOTHING, _STRAIGHT = 1e-30, 1e-14


def conjugate_gradients(
    space: Space, curvature: Curvature, g: Floats, deflation: Deflation, width: int
) -> tuple[Floats, Floats, Positions]:
    """Solve H d = -g for each group, until a share of the gradient is left.

    Parameters
    ----------
    space : Space
        Of n rows.
    curvature : Curvature
        D of H = 1 + X^T D X.
    g : ndarray of shape (dimension, m)
        Gradients, in the working precision.
    deflation : Deflation
        Of `space`.
    width : int
        Columns of a group.

    Returns
    -------
    d : ndarray of shape (dimension, m)
    Fd : ndarray of shape (n, m)
        The scores of `d`.
    taken : ndarray of int64, shape (groups,)
        Iterations of each group.
    """

    def inner(one: Floats, other: Floats) -> Floats:
        sums = np.einsum("ij,ij->j", one, other, dtype=np.float64)
        return np.asarray(sums.reshape(-1, width).sum(axis=1))

    def spread(number: Floats) -> Floats:
        return np.repeat(number, width).astype(g.dtype)

    d = np.zeros_like(g)
    taken = np.zeros(g.shape[1] // width, np.int64)
    live = np.arange(len(taken))
    scale = curvature.scale
    r = -g
    p = deflation(r, scale)
    Fp = space.image(p)
    Id = np.zeros_like(Fp)
    size = inner(space.dual(p, Fp), r)
    stop = np.maximum(FORCING**2 * size, _NOTHING)
    for _ in range(_MOST_ITERATIONS):
        going = size > stop
        if not going.any():
            break
        if going.mean() <= 0.75:
            chosen = columns_of(np.flatnonzero(going), width)
            live, size, stop, scale = live[going], size[going], stop[going], scale[chosen]
            r, p, Fp = r[:, chosen], p[:, chosen], Fp[:, chosen]
            curvature = curvature.take(going)
        taken[live] += 1
        columns = columns_of(live, width)
        Hp = space.curved(p, Fp, curvature)
        Hp += space.regular(p)
        dual = space.dual(p, Fp)
        bend = inner(dual, Hp)
        bent = bend > _STRAIGHT * inner(dual, p)  # else nothing speaks for or against going there
        length = spread(np.divide(size, bend, out=np.zeros_like(size), where=bent))
        d[:, columns] += length * p
        Id[:, columns] += length * Fp
        Hp *= length
        r -= Hp
        z = deflation(r, scale)
        Fz = space.image(z)
        new = inner(space.dual(z, Fz), r)
        turn = spread(np.divide(new, size, out=np.zeros_like(size), where=size > 0))
        size = new
        p *= turn
        p += z
        Fp *= turn
        Fp += Fz
    return d, Id if len(Id) else space.fast(d), taken


def columns_of(groups: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.int64]:
    """Return the columns of some groups of `width` columns each."""
    return (groups[:, None] * width + np.arange(width)).ravel()
