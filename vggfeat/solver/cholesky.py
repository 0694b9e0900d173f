"""A Cholesky factor made of blocks, by products of matrices alone.

scipy has LAPACK's routines for this, but holds Python's lock meanwhile, so that threads wait for
one another, and brings a BLAS of its own, whose threads and numpy's get in each other's way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vggfeat.solver.rows import Floats

_BLOCK = 96


@dataclass(frozen=True, slots=True, eq=False)
class Cholesky:
    """The lower triangular factor L of L L^T.

    Attributes
    ----------
    L : ndarray of shape (s, s)
        Above the blocks of its diagonal it is not defined.
    inverses : list of ndarray
        Those of the blocks of its diagonal.
    """

    L: Floats
    inverses: list[Floats]

    @classmethod
    def of(cls, A: Floats) -> Cholesky:
        """Factorise a symmetric matrix, which is overwritten.

        Raises
        ------
        numpy.linalg.LinAlgError
            It is not positive definite in the precision it has.
        """
        inverses = []
        for first in range(0, len(A), _BLOCK):
            last = min(first + _BLOCK, len(A))
            A[first:, first:last] -= A[first:, :first] @ A[first:last, :first].T
            A[first:last, first:last] = np.linalg.cholesky(A[first:last, first:last])
            inverses.append(np.linalg.inv(A[first:last, first:last]))
            A[last:, first:last] = A[last:, first:last] @ inverses[-1].T
        return cls(A, inverses)

    def forward(self, B: Floats) -> Floats:
        """Return X of L X = B, shape (s, m)."""
        X = np.empty_like(B)
        for k, first in enumerate(range(0, len(B), _BLOCK)):
            here = slice(first, first + _BLOCK)
            X[here] = self.inverses[k] @ (B[here] - self.L[here, :first] @ X[:first])
        return X

    def backward(self, B: Floats) -> Floats:
        """Return X of L^T X = B, shape (s, m)."""
        X = np.empty_like(B)
        for k, first in reversed(list(enumerate(range(0, len(B), _BLOCK)))):
            last = first + _BLOCK
            rest = B[first:last] - self.L[last:, first:last].T @ X[last:]
            X[first:last] = self.inverses[k].T @ rest
        return X
