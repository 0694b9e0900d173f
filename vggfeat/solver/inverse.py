"""The inverse of a symmetric positive definite matrix, in place, by LAPACK."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf, dpotri

from vggfeat.thread_pools import one_blas_thread

Array = npt.NDArray[np.float64]

_ALONE = 640  # up to here threads wait for one another longer than they work
_BLOCK = 64  # of rows that are mirrored at a time


def invert(A: Array) -> Array:
    """Replace a symmetric positive definite matrix (n, n), in rows, by its inverse, and return it.

    By Cholesky's factor (``potrf``, ``potri``). Its error, relative to the largest number in it, is
    the condition number times 1e-16 or a few.

    Raises
    ------
    numpy.linalg.LinAlgError
        It is not positive definite in float64.
    """
    with one_blas_thread() if len(A) <= _ALONE else nullcontext():
        # Rows are the columns of LAPACK's, whose lower triangle then is the upper one here.
        factor, failed = dpotrf(A.T, lower=1, clean=0, overwrite_a=1)
        if not failed:
            inverse, failed = dpotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise np.linalg.LinAlgError(f"the matrix is not positive definite (row {failed})")
    A[...] = inverse.T  # the same memory, but where LAPACK had to copy
    for first in range(0, len(A), _BLOCK):
        rows = slice(first, first + _BLOCK)
        A[rows, :first] = A[:first, rows].T
        block = A[rows, rows]
        block[...] = np.triu(block) + np.triu(block, 1).T
    return A
