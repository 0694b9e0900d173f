"""Newton steps by Cholesky factorisation, for columns with few active rows.

With S the rows inside the margin, D_S their curvature and g = X_S^T r + g', the Woodbury identity
turns the step of d numbers into a system of |S|:

    d = -g' + X_S^T A^-1 (X_S g' - D_S^-1 r),    A = X_S X_S^T + D_S^-1.

From one step to the next S changes by few rows. Until they are many, the first factor L L^T = A
serves on: rows that came border A, and a multiplier for each row that left holds its weight at 0,

    [ A    B    E ] [ x_S   ]   [ r_S   ]
    [ B^T  A''  0 ] [ x_new ] = [ r_new ]
    [ E^T  0    0 ] [ mu    ]   [ 0     ]

which takes |S|^2 multiply-adds for each row that came or left, and not |S|^3 / 6.

What they save, ``benchmarks/probe.py --factors`` measures.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vggfeat.solver.losses import Diagonal
from vggfeat.solver.rows import Floats, Positions
from vggfeat.solver.spaces import Space
from vggfeat.thread_pools import blas_threads, one_blas_thread

CACHED_BYTES = 256 << 20
"""Factors kept for further steps take no more than this; others are made anew each time."""

_BLOCK = 32  # rows of a factor's blocks; their inverses cost more with more
_WORTH_THREADS = 1e9  # of all columns' |S|^3; for less, starting threads takes longer than the work
_MOST_CHANGED = 0.2  # share of S that may come or leave until A is factorised anew

Active = npt.NDArray[np.bool_]


class Factors:
    """The factors of many columns, whose curvature at a row is the same whenever it is active.

    Parameters
    ----------
    space : Space
        Of n rows.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._cached: dict[int, _Factor] = {}
        self._threads = blas_threads()

    def holds(self, names: Positions) -> Active:
        """Tell for which columns there are factors, by what they are known by in all steps."""
        return np.array([name in self._cached for name in names.tolist()], bool)

    def step(self, names: Positions, curvature: Diagonal, g: Floats) -> tuple[Floats, Active]:
        """Return the steps of some columns.

        Parameters
        ----------
        names : ndarray of int64, shape (m,)
            What the columns are known by in all steps.
        curvature : Diagonal
            Of the same columns.
        g : ndarray of shape (dimension, m)
            Gradients, in the working precision.

        Returns
        -------
        d : ndarray of shape (dimension, m)
        done : ndarray of bool, shape (m,)
            False where A is not positive definite in float64 either.
        """
        active = curvature.D > 0
        r, rest = self._space.split(g, active)
        right = self._space.fast(rest)
        weights = np.zeros_like(curvature.D)

        def solve(j: int) -> bool:
            S = np.flatnonzero(active[:, j])
            inverse = 1 / curvature.D[S, j]
            solved = self._solve(int(names[j]), S, inverse, right[S, j] - inverse * r[S, j])
            if solved is not None:
                weights[S, j] = solved
            return solved is not None

        columns = range(len(names))
        if float((active.sum(axis=0, dtype=np.float64) ** 3).sum()) < _WORTH_THREADS:
            with one_blas_thread():
                done = np.fromiter(map(solve, columns), bool)
        else:
            # a thread a column, as the factors are too small to be shared among threads
            with one_blas_thread(), ThreadPoolExecutor(self._threads) as pool:
                done = np.fromiter(pool.map(solve, columns), bool)
        return self._space.pull(weights) - rest, done

    def _solve(self, name: int, S: Positions, inverse: Floats, right: Floats) -> Floats | None:
        cached = self._cached.pop(name, None)
        if (
            cached is not None
            and (solved := cached.solve(self._space, S, inverse, right)) is not None
        ):
            self._cached[name] = cached
            return solved
        factor = _Factor.of(self._space, S, inverse)
        if factor is None:
            return None
        if (
            sum(other.nbytes for other in list(self._cached.values())) + factor.nbytes
            <= CACHED_BYTES
        ):
            self._cached[name] = factor
        return factor.solve(self._space, S, inverse, right)


@dataclass(frozen=True, slots=True, eq=False)
class _Factor:
    """The factor of the rows S that were active when it was made."""

    S: Positions
    cholesky: Cholesky

    @property
    def nbytes(self) -> int:
        return self.cholesky.L.nbytes

    @classmethod
    def of(cls, space: Space, S: Positions, inverse: Floats) -> _Factor | None:
        for dtype in dict.fromkeys((space.working, np.dtype(np.float64))):
            A = space.block(S, S, dtype)
            A[np.diag_indices(len(S))] += inverse
            with suppress(np.linalg.LinAlgError):
                return cls(S, Cholesky.of(A))
        return None

    def solve(self, space: Space, S: Positions, inverse: Floats, right: Floats) -> Floats | None:
        """Solve A x = right for other active rows; None where they are too different.

        None also where rounding left values that are not finite: a new factor is made then.
        """
        now, then = np.zeros((2, space.n), np.bool_)
        now[S], then[self.S] = True, True
        stays, known = now[self.S], then[S]
        gone, come = np.flatnonzero(~stays), S[~known]
        changed = len(gone) + len(come)
        if changed > _MOST_CHANGED * len(self.S):
            return None
        dtype = self.cholesky.L.dtype
        r = np.zeros(len(self.S), dtype)
        r[stays] = right[known]
        half = self.cholesky.forward(r)
        x = np.empty(len(S), dtype)
        if changed:
            border = np.zeros((len(self.S), changed), dtype)
            border[:, : len(come)] = space.block(self.S, come, dtype)
            border[gone, np.arange(len(come), changed)] = 1
            border = self.cholesky.forward(border)
            corner = np.zeros((changed, changed), dtype)
            corner[: len(come), : len(come)] = space.block(come, come, dtype)
            corner[np.arange(len(come)), np.arange(len(come))] += inverse[~known]
            below = np.zeros(changed, dtype)
            below[: len(come)] = right[~known]
            try:
                z = np.linalg.solve(corner - border.T @ border, below - border.T @ half)
            except np.linalg.LinAlgError:
                return None
            x[~known] = z[: len(come)]
            with np.errstate(invalid="ignore", over="ignore"):  # told below
                half -= border @ z
        x[known] = self.cholesky.backward(half)[stays]
        return x.astype(right.dtype) if np.isfinite(x).all() else None


@dataclass(frozen=True, slots=True, eq=False)
class Cholesky:
    """The lower triangular factor L of L L^T, made of blocks by products of matrices alone.

    SciPy has LAPACK's routines for this, but holds Python's lock meanwhile, so that threads wait
    for one another, and brings a BLAS of its own, whose threads and NumPy's get in each other's
    way.

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
