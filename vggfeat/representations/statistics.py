"""How alike representations are, on all images and on samples of them.

A sample is how often each image counts. A pair of images counts as often as the product of theirs;
pairs of an image with itself, which a sample holds where an image is drawn twice, are at distance 0
whatever the representation and left out, as in rsatoolbox.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.representations.distances import condition_count
from vggfeat.representations.rsa import mean_ranks, pearson, tau_a

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


class Statistic(ABC):
    """Representations of the same n images, and how alike each two are.

    Parameters
    ----------
    V : ndarray of float64, shape (r, n (n - 1) / 2)
        What is compared of each: values of pairs of images, condensed.
    """

    def __init__(self, V: Floats) -> None:
        self.V = V
        self.n = condition_count(V.shape[1]) or 0

    @cached_property
    def i(self) -> npt.NDArray[np.int32]:
        """The first image of each pair."""
        return np.repeat(np.arange(self.n, dtype=np.int32), np.arange(self.n - 1, -1, -1))

    @cached_property
    def j(self) -> npt.NDArray[np.int32]:
        """The second image of each pair."""
        return np.concatenate([np.arange(k + 1, self.n, dtype=np.int32) for k in range(self.n)])

    @abstractmethod
    def similarities(self, counts: Counts | None = None, columns: Any = None) -> Floats:
        """Return how alike each representation is to those in `columns` (all by default).

        Parameters
        ----------
        counts : ndarray of int64, shape (n,), optional
            How often each image is in the sample; once by default.
        columns : sequence of int, optional

        Returns
        -------
        ndarray of float64, shape (r, c)
            NaN where it is not defined.
        """

    @abstractmethod
    def permuted(self, order: Counts, columns: Any) -> Floats:
        """Return :meth:`similarities` where the images of `columns` are in another order."""

    def _moved(self, order: Counts) -> Counts:
        """Return which pair each becomes where images are in another order."""
        first, second = order[self.i], order[self.j]
        low, high = np.minimum(first, second), np.maximum(first, second)
        return np.asarray(low * self.n - low * (low + 1) // 2 + high - low - 1)

    def _weights(self, counts: Counts) -> tuple[Counts, npt.NDArray[np.bool_]]:
        """Return how often each pair counts, of those that do, and which these are."""
        weights = counts[self.i] * counts[self.j]
        kept = weights > 0
        return weights[kept], kept


class Correlated(Statistic):
    """Pearson's correlation of pairs, or of their ranks (Spearman's)."""

    def __init__(self, V: Floats, *, ranked: bool) -> None:
        super().__init__(V)
        self.ranked = ranked
        if ranked:
            self._orders = [_Order(row) for row in self.V]
        self._whole = _unit(self._ranked(self.V), None)

    def similarities(self, counts: Counts | None = None, columns: Any = None) -> Floats:
        """See :meth:`Statistic.similarities`."""
        if counts is None:
            return _products(self._whole, self._taken(self._whole, columns), None)
        values, weights = self._sampled(counts)
        unit = _unit(values, weights)
        return _products(unit, self._taken(unit, columns), weights)

    def with_values(
        self, counts: Counts | None, columns: Any
    ) -> tuple[Floats, Floats, Counts | None]:
        """Return similarities, what is correlated of `columns`, (c, pairs), and pairs' weights."""
        if counts is None:
            values = self._ranked(self.V)
            return self.similarities(None, columns), self._taken(values, columns), None
        values, weights = self._sampled(counts)
        unit = _unit(values, weights)
        found = _products(unit, self._taken(unit, columns), weights)
        return found, self._taken(values, columns), weights

    def permuted(self, order: Counts, columns: Any) -> Floats:
        """See :meth:`Statistic.permuted`; ranks are those of the same values."""
        return _products(self._whole, self._whole[np.asarray(columns)][:, self._moved(order)], None)

    @staticmethod
    def _taken(rows: Floats, columns: Any) -> Floats:
        return rows if columns is None else rows[np.asarray(columns)]

    def _ranked(self, rows: Floats) -> Floats:
        return np.stack([mean_ranks(row) for row in rows]) if self.ranked else rows

    def _sampled(self, counts: Counts) -> tuple[Floats, Counts]:
        """Return values or ranks in a sample, (r, pairs in it), and how often pairs count."""
        weights, kept = self._weights(counts)
        if not self.ranked:
            return self.V[:, kept], weights
        whole = np.zeros(len(kept), np.int64)
        whole[kept] = weights
        return np.stack([one.ranks(whole)[kept] for one in self._orders]), weights


class TauA(Statistic):
    """Kendall's tau a of pairs."""

    def __init__(self, V: Floats) -> None:
        super().__init__(
            np.stack([np.unique(row, return_inverse=True)[1] for row in V]).astype(np.float64)
        )

    def similarities(self, counts: Counts | None = None, columns: Any = None) -> Floats:
        """See :meth:`Statistic.similarities`."""
        V = self.V
        if counts is not None:
            weights, kept = self._weights(counts)
            V = np.repeat(V[:, kept], weights, axis=1)
        numbers = range(len(V)) if columns is None else columns
        found = np.empty((len(V), len(numbers)))
        for c, column in enumerate(numbers):
            for row in range(len(V)):
                found[row, c] = tau_a(V[row], V[column])
        return found

    def with_values(
        self, counts: Counts | None, columns: Any
    ) -> tuple[Floats, Floats, Counts | None]:
        """Return similarities, ranks of `columns`, (c, pairs), and how often pairs count."""
        found = self.similarities(counts, columns)
        ranks = np.stack([mean_ranks(self.V[k]) for k in columns])
        if counts is None:
            return found, ranks, None
        weights, kept = self._weights(counts)
        return found, ranks[:, kept], weights

    def permuted(self, order: Counts, columns: Any) -> Floats:
        """See :meth:`Statistic.permuted`."""
        others = self.V[np.asarray(columns)][:, self._moved(order)]
        return np.array([[tau_a(row, other) for other in others] for row in self.V])


class _Order:
    """Values in ascending order, of which ranks in a sample follow in one pass."""

    def __init__(self, values: Floats) -> None:
        self.order = np.argsort(values, kind="stable")
        sorted_values = values[self.order]
        new = np.r_[True, sorted_values[1:] != sorted_values[:-1]]
        self.starts = np.flatnonzero(new)
        self.group = np.cumsum(new) - 1 if len(self.starts) < len(values) else None

    def ranks(self, weights: Counts) -> Floats:
        """Return mean ranks where each value is there as often as `weights` say."""
        w = weights[self.order]
        if self.group is None:
            middle = np.cumsum(w) - (w - 1) / 2
        else:
            sizes = np.add.reduceat(w, self.starts)
            middle = (np.cumsum(sizes) - (sizes - 1) / 2)[self.group]
        ranks = np.empty(len(w))
        ranks[self.order] = middle
        return ranks


def _unit(values: Floats, weights: Counts | None) -> Floats:
    """Return rows less their mean, of length 1; NaN for those that are constant."""
    if weights is None:
        centred_rows = values - values.mean(axis=1, keepdims=True)
        squares = np.einsum("ij,ij->i", centred_rows, centred_rows)
        total = float(values.shape[1])
    else:
        total = float(weights.sum())
        w = weights.astype(np.float64)
        centred_rows = values - (values @ w / total)[:, None]
        squares = np.einsum("ij,ij,j->i", centred_rows, centred_rows, w)
    largest = np.abs(values).max(axis=1, initial=0)
    least = total * (8 * np.finfo(float).eps * largest) ** 2
    return np.asarray(centred_rows / np.sqrt(np.where(squares > least, squares, np.nan))[:, None])


def _products(a: Floats, b: Floats, weights: Counts | None) -> Floats:
    found = (a if weights is None else a * weights) @ b.T
    return np.clip(found, -1, 1)


def compared(a: Floats, b: Floats, weights: Counts | None, kind: str) -> float:
    """Return how alike a row and one of values, ranks for Spearman's, are.

    They count as often as `weights` say.
    """
    if kind == "tau-a":
        if weights is not None:
            a, b = np.repeat(a, weights), np.repeat(b, weights)
        return tau_a(a, b)
    if kind == "spearman":
        a = mean_ranks(a) if weights is None else _Order(a).ranks(weights)
    return pearson(a, b, weights)
