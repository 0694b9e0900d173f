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
from vggfeat.solver.rows import Floats
from vggfeat.solver.spaces import Space

FORCING = 0.05
"""What of the gradient a step may leave, in the norm of the preconditioner."""

_MOST_ITERATIONS = 500  # in a step; the next step goes on where it stops


def conjugate_gradients(
    space: Space, curvature: Curvature, g: Floats, deflation: Deflation, width: int
) -> tuple[Floats, Floats]:
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
    """

    def inner(one: Floats, other: Floats) -> Floats:
        sums = np.einsum("ij,ij->j", one, other, dtype=np.float64)
        return np.asarray(sums.reshape(-1, width).sum(axis=1))

    def spread(number: Floats) -> Floats:
        return np.repeat(number, width).astype(g.dtype)

    d, Fd = np.zeros_like(g), np.zeros((space.n, g.shape[1]), g.dtype)
    live = np.arange(g.shape[1] // width)
    scale = curvature.scale
    r = -g
    p = deflation(r, scale)
    Fp = space.fast(p)
    dual = space.dual(p, Fp)
    size = inner(dual, r)
    stop = FORCING**2 * size
    for _ in range(_MOST_ITERATIONS):
        going = size > stop
        if not going.any():
            break
        if going.mean() <= 0.75:
            chosen = columns_of(np.flatnonzero(going), width)
            live, size, stop, scale = live[going], size[going], stop[going], scale[chosen]
            r, p, Fp, dual = r[:, chosen], p[:, chosen], Fp[:, chosen], dual[:, chosen]
            curvature = curvature.take(going)
        columns = columns_of(live, width)
        Hp_scores = curvature(Fp)
        regular = space.regular(p)
        bend = inner(dual, regular) + inner(Fp, Hp_scores)
        length = spread(np.divide(size, bend, out=np.zeros_like(size), where=bend > 0))
        d[:, columns] += length * p
        Fd[:, columns] += length * Fp
        r -= length * (regular + space.pull(Hp_scores))
        z = deflation(r, scale)
        Fz = space.fast(z)
        dual_z = space.dual(z, Fz)
        new = inner(dual_z, r)
        turn = spread(np.divide(new, size, out=np.zeros_like(size), where=size > 0))
        size = new
        p = z + turn * p
        Fp = Fz + turn * Fp
        dual = dual_z + turn * dual
    return d, Fd


def columns_of(groups: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.int64]:
    """Return the columns of some groups of `width` columns each."""
    return (groups[:, None] * width + np.arange(width)).ravel()
