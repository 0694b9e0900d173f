"""Predictions of ridge regression for rows that took no part in it, for all penalties and parts.

With G = (K + a)^-1 of all rows, K being their centred Gram matrix, the residuals of all rows are
a (G - 11^T / (n a)) Y = a G' Y, where the intercept is not penalised. Leaving the rows F out of the
training changes them to (G'_FF)^-1 (G' Y)_F (for one row this is Allen's PRESS, 1974; for several,
An, Liu & Venkatesh 2007). So the predictions for F from all other rows T are

    P Y_T,    P = -(G'_FF)^-1 G'_FT,

and one inverse serves all parts (:class:`FewRows`). With many rows and few features, sums over the
training part are those over all rows less those over F, and each part has an inverse of the size
of a row (:class:`ManyRows`).

Products with targets are what takes the time. P is bounded whatever the penalty, so that those of
:class:`FewRows` are made in the precision of the features: for float32 a prediction is off by some
1e-6 of the length of its target, and R2 by as much. All that comes before it, and all of
:class:`ManyRows`, whose factors are not bounded, is float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vggfeat.solver.inverse import invert
from vggfeat.solver.rows import Floats, Positions, Rows
from vggfeat.thread_pools import blas_threads, one_blas_thread

Array = npt.NDArray[np.float64]
HeldOut = Sequence[Positions]
Predictor = tuple[Positions, Positions, Floats]  # held-out rows, training rows, and P

INVERTIBLE = 1e-6
"""From which penalty on, in units of the rows' sum of squares about their mean, one inverse serves
all parts. Rounding is magnified by the square of what 1 over this is, and below it, where systems
are solved part by part, by 1 over the penalty."""


class Targets(NamedTuple):
    """Targets of some rows, and what is subtracted from them before they are multiplied.

    Attributes
    ----------
    Y : ndarray of float32 or float64, shape (n, t)
    offset : ndarray of float64, shape (t,)
        Their means, or zeros without an intercept.
    """

    Y: Floats
    offset: Array

    def block(self, where: slice, dtype: npt.DTypeLike) -> Floats:
        """Return some columns less their offsets, fresh."""
        finer = np.promote_types(self.Y.dtype, dtype)
        part = self.Y[:, where] - self.offset[where].astype(finer)
        return np.asarray(part.astype(dtype, copy=False))

    def of(self, rows: Positions) -> Targets:
        """Return the targets of some rows."""
        return Targets(self.Y[rows], self.offset)


class Prediction(NamedTuple):
    """Predictions for the rows of one part, for one penalty and some targets.

    Attributes
    ----------
    penalty, part : int
        Which they are.
    targets : slice
        Which columns.
    truth, predicted : ndarray of shape (f, b)
        Both less the targets' offsets.
    """

    penalty: int
    part: int
    targets: slice
    truth: Floats
    predicted: Floats


def blocks(t: int, block: int) -> Iterator[slice]:
    """Yield slices of `block` targets."""
    for first in range(0, t, block):
        yield slice(first, min(first + block, t))


class FewRows:
    """Predictions by the Gram matrix of n rows.

    Parameters
    ----------
    K : ndarray of float64, shape (n, n)
        Inner products of the rows, less their mean where there is an intercept; it is kept as it
        is. Sums of such matrices serve as well.
    targets : Targets
    held_out : sequence of ndarray of int64, optional
        The rows of each part, ascending; all others train. None for each row by itself, in one
        part of all rows.
    intercept : bool
    dtype : dtype
        Of products with targets.
    block : int
        Targets multiplied at a time.
    """

    def __init__(
        self,
        K: Array,
        targets: Targets,
        held_out: HeldOut | None,
        *,
        intercept: bool,
        dtype: npt.DTypeLike,
        block: int,
    ) -> None:
        self._targets, self._intercept, self._block = targets, intercept, block
        self._dtype = np.dtype(dtype)
        self._held_out = held_out
        self.K = K

    def __call__(self, penalties: Array) -> Iterator[Prediction]:
        """Yield predictions, penalty by penalty."""
        n = len(self._targets.Y)
        every = np.arange(n)
        # Centred rows leave K no extent along 1, where the inverse would be as large as 1 / a, to
        # be subtracted at once. Some extent there changes G' in nothing but its rounding.
        spread = np.trace(self.K)
        extent = spread / n if self._intercept else 0.0
        for number, penalty in enumerate(penalties):
            if self._held_out is not None and penalty < INVERTIBLE * spread:
                yield from self._apart(number, penalty, self._held_out)
                continue
            G = self.K + extent / n
            G[np.diag_indices(n)] += penalty
            invert(G)
            if self._intercept:
                G -= 1 / (n * (penalty + extent))
            if self._held_out is None:
                predictors: list[Predictor] = [(every, every, self._alone(G))]
            else:
                predictors = [self._part(G, F) for F in self._held_out]
            del G
            yield from self._products(number, predictors)

    def _products(self, number: int, predictors: list[Predictor]) -> Iterator[Prediction]:
        """Yield the products of all parts with targets, a block of them in several threads.

        Each has one thread of linear algebra: on a machine with other work, threads that share a
        product wait for one another for most of their time.
        """

        def one(where: slice) -> list[Prediction]:
            Y = self._targets.block(where, self._dtype)
            return [
                Prediction(number, part, where, Y[F], P @ (Y if len(T) == len(Y) else Y[T]))
                for part, (F, T, P) in enumerate(predictors)
            ]

        threads = blas_threads()
        ready = list(blocks(self._targets.Y.shape[1], max(1, self._block // threads)))
        with ThreadPoolExecutor(threads) as pool:
            for first in range(0, len(ready), threads):
                with one_blas_thread():
                    found = list(pool.map(one, ready[first : first + threads]))
                for predictions in found:
                    yield from predictions

    def _apart(self, number: int, penalty: float, held_out: HeldOut) -> Iterator[Prediction]:
        """Yield predictions for a small penalty, from a solution for each training part."""
        for part, F in enumerate(held_out):
            T = np.setdiff1d(np.arange(len(self.K)), F, assume_unique=True)
            inner, across = self.K[np.ix_(T, T)], self.K[np.ix_(F, T)]
            if self._intercept:  # rows less the mean of T
                means = inner.mean(axis=0)
                across -= across.mean(axis=1, keepdims=True)
                across -= means - means.mean()
                inner -= means[:, None]
                inner -= means - means.mean()
            inner[np.diag_indices(len(T))] += penalty
            P = np.linalg.solve(inner, across.T).T
            if self._intercept:
                P += 1 / len(T)
            P = P.astype(self._dtype, copy=False)
            for where in blocks(self._targets.Y.shape[1], self._block):
                Y = self._targets.block(where, self._dtype)
                yield Prediction(number, part, where, Y[F], P @ Y[T])

    def _part(self, G: Array, F: Positions) -> Predictor:
        T = np.setdiff1d(np.arange(len(G)), F, assume_unique=True)
        inner = -invert(G[np.ix_(F, F)])
        return F, T, (inner @ G[np.ix_(F, T)]).astype(self._dtype, copy=False)

    def _alone(self, G: Array) -> Floats:
        P = G / -np.diag(G)[:, None]
        np.fill_diagonal(P, 0)
        return P.astype(self._dtype, copy=False)


class ManyRows:
    """Predictions by the sums of products of d features.

    Parameters
    ----------
    rows, targets, held_out, intercept, block
        As for :class:`FewRows`.

    Attributes
    ----------
    moments : Moments
        Of all rows.
    """

    def __init__(
        self,
        rows: Rows,
        targets: Targets,
        held_out: HeldOut | None,
        *,
        intercept: bool,
        block: int,
    ) -> None:
        self._rows, self._targets, self._intercept = rows, targets, intercept
        self._held_out, self._block = held_out, block
        self.moments = Moments.of(rows, targets, intercept=intercept, block=block)

    def __call__(self, penalties: Array) -> Iterator[Prediction]:
        """Yield predictions, part by part."""
        n = len(self._targets.Y)
        if self._held_out is None:
            yield from self._alone(penalties)
            return
        for part, F in enumerate(self._held_out):
            own = self._targets.of(F)
            left = Moments.of(
                self._rows.subset(F), own, self.moments.mean, intercept=False, block=self._block
            )
            T = self.moments.without(left, n - len(F), intercept=self._intercept, block=self._block)
            for number, penalty in enumerate(penalties):
                A = self._applied(F, T.mean, _inverse(T.C, penalty))
                for where in blocks(own.Y.shape[1], self._block):
                    truth = own.block(where, np.float64)
                    predicted = A @ T.R[:, where] + T.target_mean[where]
                    yield Prediction(number, part, where, truth, predicted)
                del A

    def _alone(self, penalties: Array) -> Iterator[Prediction]:
        n, t = self._targets.Y.shape
        every = np.arange(n)
        for number, penalty in enumerate(penalties):
            inverse = _inverse(self.moments.C, penalty)
            A = self._applied(every, self.moments.mean, inverse)
            # leverage x^T N x of each row: A is X N, so that rows are read once more
            own = np.full(n, 1 / n if self._intercept else 0.0)
            for where, block in self._rows.blocks():
                own[where] += np.einsum("ij,ij->i", A[where], block - self.moments.mean)
            for where in blocks(t, self._block):
                truth = self._targets.block(where, np.float64)
                wrong = (truth - A @ self.moments.R[:, where]) / (1 - own[:, None])
                yield Prediction(number, 0, where, truth, truth - wrong)

    def _applied(self, F: Positions, mean: Array, inverse: Array) -> Array:
        found = np.empty((len(F), len(inverse)))
        for where, block in self._rows.subset(F).blocks():
            np.matmul(block - mean, inverse, out=found[where])
        return found


class Moments(NamedTuple):
    """Sums of products of rows and targets, both less means.

    Attributes
    ----------
    mean : ndarray of float64, shape (d,)
        Subtracted from the rows.
    target_mean : ndarray of float64, shape (t,)
        That of the targets, whose offsets are already taken away: what is predicted for `mean`.
    sums : ndarray of float64, shape (d,)
        Of the rows less `mean`.
    target_sums : ndarray of float64, shape (t,)
    C : ndarray of float64, shape (d, d)
    R : ndarray of float64, shape (d, t)
    """

    mean: Array
    target_mean: Array
    sums: Array
    target_sums: Array
    C: Array
    R: Array

    @classmethod
    def of(
        cls,
        rows: Rows,
        targets: Targets,
        mean: Array | None = None,
        *,
        intercept: bool,
        block: int,
    ) -> Moments:
        """Read rows once, or twice where their mean is to be found first."""
        n, d = rows.shape
        t = targets.Y.shape[1]
        if mean is None:
            mean = np.zeros(d)
            if intercept:
                mean = sum((X.sum(axis=0) for _, X in rows.blocks()), mean) / n
        C, R = np.zeros((d, d)), np.zeros((d, t))
        sums, target_sums = np.zeros(d), np.zeros(t)
        for here, block_of_rows in rows.blocks():
            X = block_of_rows - mean
            sums += X.sum(axis=0)
            C += X.T @ X
            some = Targets(targets.Y[here], targets.offset)
            for where in blocks(t, block):
                Y = some.block(where, np.float64)
                target_sums[where] += Y.sum(axis=0)
                R[:, where] += X.T @ Y
        return cls(mean, np.zeros(t), sums, target_sums, C, R)

    def without(self, left: Moments, n: int, *, intercept: bool, block: int) -> Moments:
        """Return the moments of the `n` rows that stay where others are taken away.

        They take the memory of those others.
        """
        C, R = np.subtract(self.C, left.C, out=left.C), np.subtract(self.R, left.R, out=left.R)
        if not intercept:
            return Moments(self.mean, self.target_mean, self.sums, self.target_sums, C, R)
        sums, target_sums = self.sums - left.sums, self.target_sums - left.target_sums
        C -= np.outer(sums, sums / n)
        for where in blocks(R.shape[1], block):
            R[:, where] -= np.outer(sums, target_sums[where] / n)
        return Moments(
            self.mean + sums / n, target_sums / n, np.zeros_like(sums), 0 * target_sums, C, R
        )


def _inverse(C: Array, penalty: float) -> Array:
    A = C.copy()
    A[np.diag_indices(len(A))] += penalty
    return invert(A)
