"""The losses of linear probes, on many columns of scores at once.

Columns come in groups that are minimised together: one column each for the squared hinge and for
binary logistic regression, one a class for the multinomial one. With scores f (n, m), weights
c >= 0 of rows and each group's C:

- squared hinge: C sum_i c_i max(0, 1 - y_i f_i)^2, y in {-1, 1};
- logistic: C sum_i c_i log(1 + exp(-y_i f_i));
- multinomial: C sum_i c_i (log sum_k exp f_ik - f_i,y(i)).

A row of weight 0 takes no part: that is how difficult images are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from vggfeat.solver.rows import Floats, Positions, row_blocks

Array = npt.NDArray[np.float64]
Groups = npt.NDArray[np.integer[Any]] | npt.NDArray[np.bool_]


class Curvature(Protocol):
    """The second derivative of a loss at some scores."""

    @property
    def scale(self) -> Array:
        """Its mean over rows for each column, (m,)."""

    def __call__(self, F: Floats) -> Floats:
        """Return the second derivative times scores `F` (n, m)."""

    def take(self, groups: Groups) -> Curvature:
        """Return that of some of the groups."""

    def rows(self, where: slice) -> Curvature:
        """Return that of some of the rows, a view."""


class Loss(Protocol):
    """A loss of scores (n, m) in groups of columns."""

    @property
    def width(self) -> int:
        """Columns of a group."""

    @property
    def groups(self) -> int:
        """Number of groups; m is `groups` times `width`."""

    def slope(self, f: Array) -> Array:
        """Return the derivative by the scores `f` (n, m)."""

    def curvature(self, f: Array, dtype: np.dtype[Any]) -> Curvature:
        """Return the second derivative at `f` (n, m), working in `dtype`."""

    def take(self, groups: Groups) -> Self:
        """Return the loss of some of the groups."""

    def rows(self, where: slice) -> Self:
        """Return the loss of some of the rows, a view."""


@dataclass(frozen=True, slots=True)
class Diagonal:
    """Second derivatives of columns that know nothing of each other."""

    D: Floats

    @property
    def scale(self) -> Array:
        """Mean over rows, a column."""
        return np.asarray(self.D.mean(axis=0), np.float64)

    def __call__(self, F: Floats) -> Floats:
        """Multiply each score by its own second derivative."""
        return np.asarray(self.D * F)

    def take(self, groups: Groups) -> Diagonal:
        """Return some of the columns."""
        return Diagonal(self.D[:, groups])

    def rows(self, where: slice) -> Diagonal:
        """Return some of the rows."""
        return Diagonal(self.D[where])


@dataclass(frozen=True, slots=True)
class _Columns:
    """Losses of m columns that know nothing of each other.

    Attributes
    ----------
    y : ndarray of float64, shape (n, m)
        -1 or 1.
    C : ndarray of float64, shape (n, m)
        C c_i, what each row's loss counts.
    """

    y: Array
    C: Array

    @property
    def width(self) -> int:
        """1: columns know nothing of each other."""
        return 1

    @property
    def groups(self) -> int:
        """Number of columns."""
        return int(self.y.shape[1])

    def take(self, groups: Groups) -> Self:
        """Return some of the columns."""
        return type(self)(self.y[:, groups], self.C[:, groups])

    def rows(self, where: slice) -> Self:
        """Return some of the rows."""
        return type(self)(self.y[where], self.C[where])


@dataclass(frozen=True, slots=True)
class SquaredHinge(_Columns):
    """The squared hinge loss, of m columns."""

    def slope(self, f: Array) -> Array:
        """Return -2 C y max(0, 1 - y f)."""
        excess = self.y * f
        excess -= 1
        np.minimum(excess, 0, out=excess)
        excess *= self.C
        excess *= self.y
        excess *= 2
        return excess

    def curvature(self, f: Array, dtype: np.dtype[Any]) -> Curvature:
        """Return 2 C where y f < 1, else 0."""
        return Diagonal(np.multiply(2 * self.C, self.y * f < 1, dtype=dtype, casting="same_kind"))


@dataclass(frozen=True, slots=True)
class Logistic(_Columns):
    """The binary logistic loss, of m columns."""

    def slope(self, f: Array) -> Array:
        """Return -C y / (1 + exp(y f))."""
        return np.asarray(-self.C * self.y * expit(-self.y * f))

    def curvature(self, f: Array, dtype: np.dtype[Any]) -> Curvature:
        """Return C p (1 - p), with p = 1 / (1 + exp(-f))."""
        return Diagonal((self.C * expit(f) * expit(-f)).astype(dtype))


@dataclass(frozen=True, slots=True)
class Multinomial:
    """The multinomial logistic loss, of groups of K columns.

    Attributes
    ----------
    label : ndarray of int64, shape (n,)
        The class of each row, 0..K-1.
    classes : int
        K.
    C : ndarray of float64, shape (n, groups)
        C c_i, what each row's loss counts.
    """

    label: Positions
    classes: int
    C: Array

    @property
    def width(self) -> int:
        """Number of classes."""
        return self.classes

    @property
    def groups(self) -> int:
        """Number of groups."""
        return int(self.C.shape[1])

    def slope(self, f: Array) -> Array:
        """Return C (p - y), with p = softmax(f) in each group, y being 1 for the row's class."""
        rest = self._probabilities(f)  # (n, groups, K)
        rest[np.arange(len(f)), :, self.label] -= 1
        rest *= self.C[:, :, None]
        return rest.reshape(f.shape)

    def curvature(self, f: Array, dtype: np.dtype[Any]) -> Curvature:
        """Return C (diag(p) - p p^T), row by row."""
        p = np.empty((len(f), self.groups, self.width), dtype)
        for where in row_blocks(*f.shape):
            p[where] = self._probabilities(f[where])
        return _Coupled(p, self.C.astype(dtype))

    def take(self, groups: Groups) -> Multinomial:
        """Return the loss of some of the groups."""
        return Multinomial(self.label, self.classes, self.C[:, groups])

    def rows(self, where: slice) -> Multinomial:
        """Return the loss of some of the rows."""
        return Multinomial(self.label[where], self.classes, self.C[where])

    def _probabilities(self, f: Array) -> Array:
        p = f.reshape(-1, self.width)
        p = p - p.max(axis=1, keepdims=True)
        np.exp(p, out=p)
        p /= p.sum(axis=1, keepdims=True)
        return np.asarray(p.reshape(len(f), -1, self.width))


@dataclass(frozen=True, slots=True)
class _Coupled:
    """C (diag(p) - p p^T), row by row; p is (n, groups, K) and C (n, groups)."""

    p: Floats
    C: Floats

    @property
    def scale(self) -> Array:
        spread = (self.p * (1 - self.p) * self.C[:, :, None]).mean(axis=0)
        return np.asarray(spread, np.float64).ravel()

    def __call__(self, F: Floats) -> Floats:
        products = self.p * F.reshape(self.p.shape)
        products -= self.p * products.sum(axis=2, keepdims=True)
        products *= self.C[:, :, None]
        return products.reshape(F.shape)

    def take(self, groups: Groups) -> _Coupled:
        return _Coupled(self.p[:, groups], self.C[:, groups])

    def rows(self, where: slice) -> _Coupled:
        return _Coupled(self.p[where], self.C[where])
