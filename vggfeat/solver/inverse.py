"""The inverse of a symmetric positive definite matrix, in place, by products of matrices.

With blocks A (leading half), B below it and C (trailing half), and S = C - B A^-1 B^T, the inverse
has the blocks A^-1 + T^T S^-1 T, -S^-1 T and S^-1 for T = B A^-1 (Banachiewicz 1937), and both
inverses of halves are made the same way. Products run at the full speed of a BLAS where LAPACK's
``potri`` does not: several times faster here, for 4/3 of its operations. The Schur complement S
has no larger condition number than the whole matrix.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_SMALL = 160  # LAPACK inverts blocks of this size as fast as products do
_STRIPS = 4  # a symmetric product is made of this many: 5/8 of its operations


def invert(A: Array) -> Array:
    """Replace a symmetric positive definite matrix (n, n) by its inverse, and return it.

    It takes 5/8 n^2 numbers more: T is half by half, and strips of products a quarter of that.

    Raises
    ------
    numpy.linalg.LinAlgError
        It is not positive definite in float64.
    """
    n = len(A)
    if n <= _SMALL:
        np.linalg.cholesky(A)  # fails where the inverse would be none
        A[...] = np.linalg.inv(A)
        return A
    half = n // 2
    leading, below, trailing = A[:half, :half], A[half:, :half], A[half:, half:]
    invert(leading)
    T = below @ leading
    _subtract_symmetric(trailing, T, below.T)
    invert(trailing)
    np.matmul(trailing, T, out=below)
    below *= -1
    _subtract_symmetric(leading, T.T, below)
    A[:half, half:] = below.T
    return A


def _subtract_symmetric(A: Array, one: Array, other: Array) -> None:
    """Subtract ``one @ other``, which is symmetric as `A` is, of which half is computed."""
    step = -(-len(A) // _STRIPS)
    for first in range(0, len(A), step):
        here = slice(first, first + step)
        A[here, : first + step] -= one[here] @ other[:, : first + step]
        A[:first, here] = A[here, :first].T
