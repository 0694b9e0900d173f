"""CKA on all images and on samples of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.representations.cka import aligned, centred, check_count
from vggfeat.representations.rsa import upper
from vggfeat.representations.statistics import Statistic

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


class DebiasedCKA(Statistic):
    """CKA by unbiased estimates of HSIC.

    On a sample HSIC is E[k l] + E[k] E[l] - 2 E[k l'], each the mean over the sample's pairs, over
    pairs of pairs without a common image, and over pairs of pairs with one, all of different
    images: on all images the unbiased estimate of Song et al. 2012.

    Parameters
    ----------
    kernels : iterable of ndarray of float, shape (n, n)
    """

    def __init__(self, kernels: Iterable[Floats]) -> None:
        rows = []
        for K in kernels:
            check_count(len(K), debiased=True)
            rows.append(upper(centred(K, debiased=True)))
        super().__init__(np.stack(rows))

    def similarities(self, counts: Counts | None = None, columns: Any = None) -> Floats:
        """See :meth:`Statistic.similarities`."""
        if counts is None:
            found = aligned(self.V @ self.V.T)
            return found if columns is None else found[:, np.asarray(columns)]
        found = aligned(self._hsic(counts))
        return found if columns is None else found[:, np.asarray(columns)]

    def _hsic(self, counts: Counts) -> Floats:
        w = counts.astype(np.float64)
        p1, p2, p3, p4 = (float((w**power).sum()) for power in (1, 2, 3, 4))
        two = p1**2 - p2  # of different images: ordered pairs, triples, quadruples
        three = p1**3 - 3 * p1 * p2 + 2 * p3
        four = p1**4 - 6 * p1**2 * p2 + 3 * p2**2 + 8 * p1 * p3 - 6 * p4
        if not four > 0:
            return np.full((len(self.V), len(self.V)), np.nan)
        a, b = w[self.i], w[self.j]
        kept = (a * b) > 0
        a, b, V = a[kept], b[kept], self.V[:, kept]
        # Sums over i < j of k l: of E[k l], and what E[k l'] and E[k] E[l] count of one pair.
        pair = 2 * a * b / two + 2 * a * b * (a + b) / three + 4 * (a * b) ** 2 / four
        found = (V * pair) @ V.T
        rows = np.stack([self._row_sums(v, a, b, kept) for v in V])  # (K w)_i: (r, n)
        sums = rows @ w
        found += np.outer(sums, sums) / four
        found -= (rows * (2 * w / three + 4 * w**2 / four)) @ rows.T
        return np.asarray(found)

    def _row_sums(self, v: Floats, a: Floats, b: Floats, kept: npt.NDArray[np.bool_]) -> Floats:
        i, j = self.i[kept], self.j[kept]
        return np.asarray(np.bincount(i, v * b, self.n) + np.bincount(j, v * a, self.n), np.float64)

    def permuted(self, order: Counts, columns: Any) -> Floats:
        """See :meth:`Statistic.permuted`."""
        taken = np.asarray(columns)
        squares = np.einsum("ij,ij->i", self.V, self.V)
        lengths = np.sqrt(np.where(squares > 0, squares, np.nan))
        products = self.V @ self.V[taken][:, self._moved(order)].T
        return np.asarray(products / lengths[:, None] / lengths[taken])


class BiasedCKA(Statistic):
    """CKA by biased estimates of HSIC, in which an image that is drawn twice is two.

    Parameters
    ----------
    kernels : iterable of ndarray of float, shape (n, n)
    """

    def __init__(self, kernels: Iterable[Floats]) -> None:
        self.K = [np.asarray(one, np.float64) for one in kernels]
        check_count(len(self.K[0]), debiased=False)
        super().__init__(np.stack([upper(K) for K in self.K]))

    def similarities(self, counts: Counts | None = None, columns: Any = None) -> Floats:
        """See :meth:`Statistic.similarities`."""
        weights = np.ones(self.n) if counts is None else counts.astype(np.float64)
        present = np.flatnonzero(weights)
        w = weights[present]
        rows = []
        for K in self.K:
            part = K[np.ix_(present, present)]
            means = part @ w / w.sum()
            part = part - means - means[:, None] + means @ w / w.sum()
            rows.append((part * np.sqrt(np.outer(w, w))).ravel())
        stack = np.stack(rows)
        found = aligned(stack @ stack.T)
        return found if columns is None else found[:, np.asarray(columns)]

    def permuted(self, order: Counts, columns: Any) -> Floats:
        """Return :meth:`similarities` where the images of `columns` are in another order."""
        ours = np.stack([centred(K, debiased=False).ravel() for K in self.K])
        theirs = np.stack(
            [centred(self.K[k][np.ix_(order, order)], debiased=False).ravel() for k in columns]
        )
        lengths = [np.sqrt((one * one).sum(axis=1)) for one in (ours, theirs)]
        return np.asarray(ours @ theirs.T / lengths[0][:, None] / lengths[1])
