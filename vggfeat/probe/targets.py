"""What a linear probe is to tell: columns of -1 and 1, and how much each row counts in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.utils.class_weight import compute_class_weight

from vggfeat.errors import ProbeError
from vggfeat.solver.losses import Logistic, Loss, Multinomial, SquaredHinge
from vggfeat.solver.rows import Positions

Array = npt.NDArray[np.float64]
Classifier = Literal["svm", "logreg"]
ClassWeight = Literal["balanced"] | Mapping[Any, float] | None


def boundary(classifier: Classifier) -> float:
    """Return the class score above which one of several classes is said to be present."""
    return 0.0 if classifier == "svm" else 0.5


class Targets(Protocol):
    """The columns of all rows, made as they are asked for: n x m numbers are never held.

    Attributes
    ----------
    columns : int
        m; two exclusive classes share one column.
    together : bool
        Whether the columns are exclusive classes that multinomial regression fits as one.
    heaviest : float
        The most that a row counts.
    """

    @property
    def columns(self) -> int:
        """Number of columns."""

    @property
    def together(self) -> bool:
        """Whether multinomial regression fits all columns as one."""

    @property
    def heaviest(self) -> float:
        """The most that a row counts."""

    def signs(self, rows: Positions, columns: slice) -> Array:
        """Return 1 where a row is of a column's class, -1 where not, 0 where left out."""

    def loss(self, classifier: Classifier, rows: Positions, C: Array, columns: slice) -> Loss:
        """Return the loss of some rows and columns, with `C` of each group among them."""


@dataclass(frozen=True, slots=True, eq=False)
class Exclusive:
    """Rows of one class each.

    Attributes
    ----------
    label : ndarray of int64, shape (n,)
        The class of each row, 0..K-1.
    weights : ndarray of float64, shape (K,)
        What the rows of a class count.
    """

    label: Positions
    weights: Array

    @property
    def columns(self) -> int:
        """K, or 1 for two classes."""
        return 1 if len(self.weights) == 2 else len(self.weights)

    @property
    def together(self) -> bool:
        """Of three classes or more."""
        return self.columns > 1

    @property
    def heaviest(self) -> float:
        """The greatest weight; of the others against one class it is 1."""
        return float(max(self.weights.max(), self.together))

    def signs(self, rows: Positions, columns: slice) -> Array:
        """Return 1 or -1."""
        classes = np.arange(self.columns)[columns] if self.together else np.array([1])
        return np.where(self.label[rows][:, None] == classes, 1.0, -1.0)

    def loss(self, classifier: Classifier, rows: Positions, C: Array, columns: slice) -> Loss:
        """Return the loss of some classes."""
        own = self.weights[self.label[rows]][:, None]
        if classifier == "logreg" and self.together:
            return Multinomial(self.label[rows], self.columns, own * C)
        y = self.signs(rows, columns)
        if not self.together:
            weight = own
        elif (self.weights == 1).all():
            weight = np.ones((1, 1))
        else:
            weight = np.where(y > 0, self.weights[columns], 1.0)
        kind = SquaredHinge if classifier == "svm" else Logistic
        return kind(y, np.broadcast_to(weight * C, y.shape))


@dataclass(frozen=True, slots=True, eq=False)
class Several:
    """Rows that may be of several classes.

    Attributes
    ----------
    codes : ndarray of int8, shape (n, m)
        1 or -1: whether a row is of the column's class; 0 where it is left out.
    weights : ndarray of float64, shape (2, m)
        What absent and present rows count in a column.
    """

    codes: npt.NDArray[np.int8]
    weights: Array

    @property
    def columns(self) -> int:
        """Number of classes."""
        return int(self.codes.shape[1])

    @property
    def together(self) -> bool:
        """Never."""
        return False

    @property
    def heaviest(self) -> float:
        """The greatest weight."""
        return float(self.weights.max())

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Whether each row is known to be of each class, (n, m)."""
        return self.codes > 0

    def signs(self, rows: Positions, columns: slice) -> Array:
        """Return 1, -1, or 0 where a row is left out."""
        return self.codes[rows, columns].astype(np.float64)

    def loss(self, classifier: Classifier, rows: Positions, C: Array, columns: slice) -> Loss:
        """Return the loss of some classes."""
        y = self.signs(rows, columns)
        absent, present = self.weights[:, columns] * C
        kind = SquaredHinge if classifier == "svm" else Logistic
        return kind(np.where(y > 0, 1.0, -1.0), np.where(y > 0, present, absent) * (y != 0))


def groups_of(targets: Targets, classifier: Classifier) -> int:
    """Return how many values of C can differ."""
    return 1 if targets.together and classifier == "logreg" else targets.columns


def single_label(
    labels: npt.NDArray[Any], classes: npt.NDArray[Any], given: ClassWeight
) -> Exclusive:
    """Return the targets of rows that are of one class each.

    Class weights are scikit-learn's: of the SVMs of three classes or more, they weigh a class
    where it is the one against the rest, as liblinear does.

    Parameters
    ----------
    labels : ndarray of shape (n,)
    classes : ndarray of shape (K,)
        All that occur, sorted; at least two.
    given : "balanced", dict or None
        Weights by class; "balanced" is n / (K n_k).
    """
    position = np.searchsorted(classes, labels)
    by_class = dict(given) if isinstance(given, Mapping) else given
    weights = np.asarray(compute_class_weight(by_class, classes=classes, y=labels), np.float64)
    return Exclusive(position, weights)


def multi_label(y: npt.ArrayLike, given: ClassWeight) -> Several:
    """Return the targets of rows that may be of several classes.

    Parameters
    ----------
    y : array_like of shape (n, K)
        1 where the class is present, 0 where it is absent, NaN where the row is left out of this
        class; :func:`vggfeat.labels.as_floats` makes it from a store's labels.
    given : "balanced" or None
        "balanced" weighs the n+ present and n- absent rows of each class by (n+ + n-) / (2 n+)
        and (n+ + n-) / (2 n-).

    Raises
    ------
    ProbeError
        There is another value, or a class lacks present or absent rows.
    """
    values = np.asarray(y, np.float64)
    known = ~np.isnan(values)
    odd = known & (values != 0) & (values != 1)
    if odd.any():
        raise ProbeError(
            f"A label is {values[odd][0]:g}; give 1 for present, 0 for absent, NaN for left out. "
            "vggfeat.labels.as_floats() makes these of a store's labels, 1, 0 and -1; of VOC's, 1, "
            "-1 and 0, first vggfeat.labels.from_signs()."
        )
    present, absent = (values == 1).sum(axis=0), (values == 0).sum(axis=0)
    for k in np.flatnonzero((present == 0) | (absent == 0)):
        raise ProbeError(
            f"Class {k} is present in {present[k]} rows and absent in {absent[k]}; a classifier "
            "needs both."
        )
    weights = np.ones((2, values.shape[1]))
    if given == "balanced":
        weights = (present + absent) / (2 * np.array([absent, present]))
    elif given is not None:
        raise ProbeError(f'class_weight is {given!r}; several labels take "balanced" or None.')
    codes = np.zeros(values.shape, np.int8)
    codes[values == 1], codes[values == 0] = 1, -1
    return Several(codes, weights)
