"""A preconditioner for many Newton systems at once: the directions in which rows vary most.

Features of a network vary mostly in a few directions. The Hessian of a loss is 1 + sum_i D_i x_i
x_i^T with D depending on the column, so that no factorisation serves all columns. But along the
leading eigenvectors v_k (eigenvalue s_k) of sum_i x_i x_i^T it is close to 1 + c s_k, c being the
mean of D; dividing by that leaves conjugate gradients only the flat rest of the spectrum. The
eigenvectors come from a randomised subspace iteration (Halko, Martinsson & Tropp 2011, algorithm
4.4); where a function has few coordinates, all are found at once. Since a step in the working
precision is only a search direction, their errors cost iterations, never exactness.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vggfeat.solver.rows import Floats
from vggfeat.solver.spaces import Space
from vggfeat.thread_pools import one_blas_thread

Array = npt.NDArray[np.float64]

DIRECTIONS = 128
ALL_DIRECTIONS = 1025
"""Coordinates up to which all directions are found."""
_SPARE, _PASSES = 16, 3


class Deflation:
    """The leading directions of a space's rows.

    Parameters
    ----------
    space : Space
        Of n rows.
    seed : int
        Of the random start.

    Attributes
    ----------
    values : ndarray of float64, shape (k,)
        Eigenvalues of sum_i x_i x_i^T, descending.
    rest : float
        The smallest of them: no direction left has much more.
    """

    def __init__(self, space: Space, seed: int = 0) -> None:
        moments = space.moments() if space.dimension <= ALL_DIRECTIONS else None
        if moments is not None:
            with one_blas_thread():  # threads wait for one another longer than they work
                values, vectors = np.linalg.eigh(moments)
            kept = np.flatnonzero(values > 1e-6 * max(values[-1], 1e-300))[::-1]
            self._v = np.ascontiguousarray(vectors[:, kept], space.working)
            self._dual: Floats = np.ascontiguousarray(self._v.T)
        else:
            values = self._leading(space, seed)
            kept = np.arange(len(values))
        self.values: Array = values[kept]
        self.rest = float(self.values[-1]) if len(kept) else 0.0

    def _leading(self, space: Space, seed: int) -> Array:
        """Find the leading directions, and return their eigenvalues."""
        count = min(DIRECTIONS, space.n, space.dimension)
        columns = min(count + _SPARE, space.n)
        rng = np.random.default_rng(seed)
        image: Floats = rng.standard_normal((space.n, columns), np.float32).astype(
            space.working, copy=False
        )
        for _ in range(_PASSES):
            basis, _triangle = np.linalg.qr(image)
            image = space.fast(space.pull(basis))
        values, turn = np.linalg.eigh((basis.T @ image).astype(np.float64))
        kept = np.argsort(values)[::-1][:count]
        kept = kept[values[kept] > 1e-6 * max(values.max(), 1e-300)]
        # u = basis @ turn are rows' eigenvectors; v = pull(u) / sqrt(s) has length 1
        turned = (turn[:, kept] / np.sqrt(values[kept])).astype(space.working)
        self._v = space.pull(basis @ turned)
        self._dual = np.ascontiguousarray(space.dual(self._v, image @ turned).T)
        return np.asarray(values[kept])

    def __call__(self, V: Floats, scale: Array) -> Floats:
        """Return M^-1 V for functions `V` (dimension, m).

        M is the identity, but 1 + `scale` s_k along direction k; `scale` is (m,).
        """
        damped = np.multiply.outer(self.values, scale)
        damped /= 1 + damped
        return np.asarray(V - self._v @ (damped.astype(V.dtype) * (self._dual @ V)))
