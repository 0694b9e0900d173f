"""Where the weights of linear functions live: over the rows, or over the features.

A function of a row x is f(x) = w . (x - m) + b. Weights that minimise a loss of the scores of n
rows plus |w|^2 / 2 are a sum of these rows (the representer theorem; Kimeldorf & Wahba 1971), so a
function can be written by n numbers, one a row, or by the d numbers of w. The first is cheaper
where the rows are few: one product with their Gram matrix gives all scores (:class:`Gram`). The
second takes two products with the rows (:class:`Features`), which are read block by block and may
be in a file.

Both offer the same operations, each on m functions at once, as columns:

- ``scores(V)``, f of every row, and its transpose ``pull(R)``, the function sum_i R_i x_i;
- ``image(V)``, what inner products and curvature need to know of functions beside `V`, linear in
  it: their scores, or nothing;
- ``dual(V, F)``: with it ``(dual(V, F) * W).sum()`` is the inner product of two functions, whatever
  the coordinates (`F` is the image of `V`);
- ``curved(V, F, D)``, ``pull`` of the scores' products with a curvature `D`;
- ``regular(V)``, the gradient of the penalty: that of |w|^2 / 2 + a loss whose derivative by the
  scores is R is ``regular(V) + pull(R)``.

The last coordinate is the intercept b, as the weight of one more feature that is 1 in each row. It
is penalised like the others, as liblinear does (Fan et al. 2008), or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vggfeat.solver.losses import Curvature
from vggfeat.solver.rows import BLOCK_BYTES, Floats, Positions, Rows, row_blocks, rows_a_block

Array = npt.NDArray[np.float64]


class Space(Protocol):
    """Coordinates for functions of n rows; see the module for the operations.

    Attributes
    ----------
    n, dimension : int
        Numbers of rows and of coordinates, the intercept's included.
    working : dtype
        In which ``fast`` products are made; it is of the search for a step only, never of the
        point that is reached.
    product_cost : float
        Multiply-adds of one ``scores`` and ``pull`` for one function.
    """

    n: int
    dimension: int
    working: np.dtype[Any]
    product_cost: float

    def precise(self) -> Space:
        """Return the same coordinates with float64 as the working precision."""

    def scores(self, V: Array) -> Array:
        """Return the scores (n, m) of functions (dimension, m), in float64."""

    def fast(self, V: Floats) -> Floats:
        """Return the scores (n, m) of functions (dimension, m), in the working precision."""

    def pull(self, R: Floats) -> Floats:
        """Return the functions (dimension, m) that are the sums of rows weighed by `R` (n, m)."""

    def image(self, V: Floats) -> Floats:
        """Return what ``dual`` and ``curved`` need beside `V`, (n, m) or (0, m)."""

    def curved(self, V: Floats, F: Floats, curvature: Curvature) -> Floats:
        """Return the second derivative of a loss along functions `V` of image `F`."""

    def dual(self, V: Floats, F: Floats) -> Floats:
        """Return what makes inner products with functions `V` of image `F`."""

    def regular(self, V: Floats) -> Floats:
        """Return `V` without what is not penalised."""

    def moments(self) -> Array | None:
        """Return the sum of x x^T over the rows, where functions are such x; else None."""

    def split(self, V: Floats, active: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Divide functions into ``pull(R)``, R being 0 but on active rows (n, m), and a rest.

        Returns
        -------
        R : ndarray of shape (n, m)
        rest : ndarray of shape (dimension, m)
        """

    def block(self, rows: Positions, others: Positions, dtype: npt.DTypeLike) -> Floats:
        """Return the inner products of rows, intercept included: (s, t), fresh."""

    def block_cost(self, s: Floats) -> Floats:
        """Return the multiply-adds of a block of `s` rows."""


class Gram:
    """Functions by one number a row of a set whose Gram matrix is known.

    Parameters
    ----------
    G : ndarray of float64, shape (N, N)
        Inner products of the rows, :func:`gram`.
    rows : ndarray of int64, shape (n,)
        Which of them carry functions: those of a training part.
    penalised : bool
        Whether the intercept is.
    working : dtype
        Of the copy of G's part that ``fast`` multiplies with.
    """

    def __init__(
        self, G: Array, rows: Positions, *, penalised: bool, working: npt.DTypeLike
    ) -> None:
        self.G, self.rows = G, rows
        self.n = len(rows)
        self.dimension = self.n + 1
        self.working = np.dtype(working)
        self.product_cost = float(self.n) ** 2
        self._penalty = float(penalised)
        self._precise: Gram | None = None
        self._K: Floats = np.empty((self.n, self.n), self.working)
        for where in _steps(self.n, len(G)):
            self._K[where] = G[rows[where]][:, rows]

    def precise(self) -> Gram:
        """Return the same coordinates in double precision."""
        if self._precise is None:
            self._precise = Gram(self.G, self.rows, penalised=self._penalty > 0, working=np.float64)
        return self._precise

    def scores(self, V: Array) -> Array:
        """Return the scores (n, m), in float64."""
        return self.scores_of(self.rows, V)

    def scores_of(self, rows: Positions, V: Array) -> Array:
        """Return the scores of any rows of the whole set, (len(rows), m)."""
        everywhere = np.zeros((len(self.G), V.shape[1]))
        everywhere[self.rows] = V[:-1]
        scores = np.empty((len(rows), V.shape[1]))
        for where in _steps(len(rows), len(self.G)):
            scores[where] = self.G[rows[where]] @ everywhere
        scores += V[-1]
        return scores

    def fast(self, V: Floats) -> Floats:
        """Return the scores (n, m), in the working precision."""
        return np.asarray(self._K @ V[:-1] + V[-1])

    def pull(self, R: Floats) -> Floats:
        """Return sums of rows."""
        return np.concatenate([R, R.sum(axis=0, keepdims=True)])

    def image(self, V: Floats) -> Floats:
        """Return the scores."""
        return self.fast(V)

    def curved(self, V: Floats, F: Floats, curvature: Curvature) -> Floats:
        """Return the second derivative of a loss along `V`."""
        del V
        return self.pull(curvature(F))

    def dual(self, V: Floats, F: Floats) -> Floats:
        """Return what makes inner products with `V`."""
        return np.concatenate([F - V[-1], V[-1:]])

    def regular(self, V: Floats) -> Floats:
        """Return what of `V` is penalised."""
        return np.concatenate([V[:-1], V.dtype.type(self._penalty) * V[-1:]])

    def moments(self) -> None:
        """Return None."""

    def split(self, V: Floats, active: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Divide functions into a sum of active rows and a rest."""
        R = V[:-1] * active
        rest = V.copy()
        rest[:-1][active] = 0
        rest[-1] -= R.sum(axis=0)
        return R, rest

    def block(self, rows: Positions, others: Positions, dtype: npt.DTypeLike) -> Floats:
        """Return inner products of some rows."""
        if np.dtype(dtype) == self.working:
            products = self._K.take(rows, axis=0).take(others, axis=1)  # without Python's lock
        else:
            products = self.G[self.rows[rows]][:, self.rows[others]].astype(dtype, copy=False)
        products += products.dtype.type(1)
        return products

    def block_cost(self, s: Floats) -> Floats:
        """Return what a block costs."""
        return 8 * s**2  # copying costs as much as some multiply-adds


class Features:
    """Functions by the d numbers of w, for rows that are read block by block.

    Parameters
    ----------
    rows : Rows
        n rows of d features.
    mean : ndarray of float64, shape (d,), optional
        Subtracted from each row, 0 by default. It moves b alone, and lets the search for an
        intercept that is not penalised be quick.
    penalised : bool
        Whether the intercept is.
    working : dtype
        Of the ``fast`` products.
    """

    def __init__(
        self,
        rows: Rows,
        mean: Array | None = None,
        *,
        penalised: bool,
        working: npt.DTypeLike,
    ) -> None:
        self.rows = rows
        self.n, d = rows.shape
        self.dimension = d + 1
        self.working = np.dtype(working)
        self.product_cost = 2.0 * self.n * d
        self._mean = np.zeros(d) if mean is None else mean
        self._penalty = float(penalised)
        self._precise: Features | None = None
        self._kept: dict[np.dtype[Any], Floats] = {}
        fits = self.n <= rows_a_block(self.dimension)
        self._keeps_products = fits and self.working.itemsize * self.n**2 <= BLOCK_BYTES
        self._products: Floats | None = None

    def precise(self) -> Features:
        """Return the same coordinates in double precision."""
        if self._precise is None:
            self._precise = Features(
                self.rows, self._mean, penalised=self._penalty > 0, working=np.float64
            )
        return self._precise

    def scores(self, V: Array) -> Array:
        """Return the scores (n, m), in float64."""
        return np.asarray(self._scores(V))

    def fast(self, V: Floats) -> Floats:
        """Return the scores (n, m), in the working precision."""
        return np.asarray(self._scores(V))

    def _scores(self, V: Any) -> Any:
        scores = np.empty((self.n, V.shape[1]), V.dtype)
        for where, block in self._blocks(V.dtype):
            np.matmul(block, V[:-1], out=scores[where])
        scores += V[-1] - self._shift(V)
        return scores

    def pull(self, R: Floats) -> Floats:
        """Return sums of rows."""
        total = np.zeros((self.dimension, R.shape[1]), R.dtype)
        for where, block in self._blocks(R.dtype):
            total[:-1] += block.T @ R[where]
        return self._collected(total, R.sum(axis=0))

    def moments(self) -> Array:
        """Return the sum of x x^T over the rows, intercept included, about as good as `working`."""
        total = np.zeros((self.dimension, self.dimension))
        for _, block in self._blocks(self.working):
            rows = np.concatenate(
                [block - self._mean.astype(self.working), np.ones((len(block), 1), self.working)],
                axis=1,
            )
            total += rows.T @ rows
        return total

    def _blocks(self, dtype: npt.DTypeLike, columns: int = 0) -> Iterator[tuple[slice, Floats]]:
        """Yield all rows; those of one block are kept, and cut so that `columns` scores are few."""
        if self.n > rows_a_block(self.dimension):
            yield from self.rows.blocks(dtype)
            return
        kept = self._kept.get(np.dtype(dtype))
        if kept is None:
            kept = self._kept[np.dtype(dtype)] = self.rows.take(np.arange(self.n), dtype)
        for where in row_blocks(self.n, columns) if columns else [slice(0, self.n)]:
            yield where, kept[where]

    def _shift(self, V: Any) -> Any:
        return self._mean.astype(V.dtype) @ V[:-1]

    def _collected(self, total: Floats, sums: Floats) -> Floats:
        total[:-1] -= np.multiply.outer(self._mean.astype(sums.dtype), sums)
        total[-1] = sums
        return total

    def image(self, V: Floats) -> Floats:
        """Return nothing: V is all that is needed."""
        return np.empty((0, V.shape[1]), V.dtype)

    def curved(self, V: Floats, F: Floats, curvature: Curvature) -> Floats:
        """Return the second derivative of a loss along `V`, reading the rows once."""
        del F
        total = np.zeros((self.dimension, V.shape[1]), V.dtype)
        bias, sums = V[-1] - self._shift(V), np.zeros(V.shape[1], V.dtype)
        for where, block in self._blocks(V.dtype, V.shape[1]):
            scores = block @ V[:-1]
            scores += bias
            products = curvature.rows(where)(scores)
            total[:-1] += block.T @ products
            sums += products.sum(axis=0)
        return self._collected(total, sums)

    def dual(self, V: Floats, F: Floats) -> Floats:
        """Return what makes inner products with `V`."""
        del F
        return V

    def regular(self, V: Floats) -> Floats:
        """Return what of `V` is penalised."""
        return np.concatenate([V[:-1], V.dtype.type(self._penalty) * V[-1:]])

    def split(self, V: Floats, active: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Divide functions into a sum of active rows and a rest."""
        return np.zeros(active.shape, V.dtype), V

    def block(self, rows: Positions, others: Positions, dtype: npt.DTypeLike) -> Floats:
        """Return inner products of some rows, which are all kept where that is little."""
        if self._keeps_products and np.dtype(dtype) == self.working:
            if self._products is None:
                every = np.arange(self.n)
                self._products = self._block(every, every, dtype)
            return self._products.take(rows, axis=0).take(others, axis=1)
        return self._block(rows, others, dtype)

    def _block(self, rows: Positions, others: Positions, dtype: npt.DTypeLike) -> Floats:
        X = self.rows.take(rows, dtype) - self._mean.astype(dtype)
        Z = X if others is rows else self.rows.take(others, dtype) - self._mean.astype(dtype)
        products = X @ Z.T
        products += products.dtype.type(1)
        return np.asarray(products)

    def block_cost(self, s: Floats) -> Floats:
        """Return what a block costs; it is out of the question where its rows are many."""
        if self._keeps_products:
            return 220 * s**2  # beside products with short rows, copying is slow
        fits = s <= rows_a_block(self.dimension)
        return np.where(fits, s**2 * float(self.dimension), np.inf)


def gram(rows: Rows, *, centred: bool = False) -> Array:
    """Return all inner products of rows, made from pairs of blocks.

    Parameters
    ----------
    rows : Rows
        n rows; at most two blocks of them are held.
    centred : bool
        Whether the rows' mean is subtracted first.

    Returns
    -------
    ndarray of float64, shape (n, n)
    """
    n = rows.shape[0]
    G = np.empty((n, n))
    for i, one in rows.blocks():
        for j, other in rows.subset(np.arange(i.start)).blocks():
            G[i, j] = one @ other.T
            G[j, i] = G[i, j].T
        G[i, i] = one @ one.T
    if centred:  # (x_i - m) . (x_j - m) = G_ij - r_i - r_j + r, with row means r_i of G
        means = G.mean(axis=0)
        G -= means[:, None]
        G -= means - means.mean()
    return G


def _steps(n: int, width: int) -> list[slice]:
    step = rows_a_block(width)
    return [slice(first, min(first + step, n)) for first in range(0, n, step)]
