"""What a linear probe is to tell: columns of -1 and 1, and how much each row counts in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """The columns of all rows.

    Attributes
    ----------
    y : ndarray of float64, shape (n, m)
        -1 or 1: whether a row is of the column's class. Two classes share one column.
    weight : ndarray of float64, shape (n, m)
        What each row counts, 0 where it is left out.
    together : bool
        Whether the columns are exclusive classes that multinomial regression fits as one.
    """

    y: Array
    weight: Array
    together: bool

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Whether each row is known to be of each column's class, (n, m)."""
        return (self.y > 0) & (self.weight > 0)

    def groups(self, classifier: Classifier) -> int:
        """Return how many values of C can differ."""
        return 1 if self.together and classifier == "logreg" else self.y.shape[1]

    def loss(self, classifier: Classifier, rows: Positions, C: Array) -> Loss:
        """Return the loss of some rows, with `C` of each group."""
        y, weight = self.y[rows], self.weight[rows]
        if classifier == "svm":
            return SquaredHinge(y, weight * C)
        if self.together:
            return Multinomial((y + 1) / 2, weight[:, :1] * C)
        return Logistic(y, weight * C)


def single_label(
    labels: npt.NDArray[Any], classes: npt.NDArray[Any], classifier: Classifier, given: ClassWeight
) -> Targets:
    """Return the targets of rows that are of one class each.

    Class weights are scikit-learn's: of the SVMs of three classes or more, they weigh a class
    where it is the one against the rest, as liblinear does.

    Parameters
    ----------
    labels : ndarray of shape (n,)
    classes : ndarray of shape (K,)
        All that occur, sorted; at least two.
    classifier : {"svm", "logreg"}
    given : "balanced", dict or None
        Weights by class; "balanced" is n / (K n_k).
    """
    position = np.searchsorted(classes, labels)
    by_class = dict(given) if isinstance(given, Mapping) else given
    weights = np.asarray(compute_class_weight(by_class, classes=classes, y=labels), np.float64)
    if len(classes) == 2:
        signs = np.where(position == 1, 1.0, -1.0)
        return Targets(signs[:, None], weights[position][:, None], False)
    y = np.where(position[:, None] == np.arange(len(classes)), 1.0, -1.0)
    if classifier == "logreg":
        return Targets(y, np.repeat(weights[position][:, None], len(classes), axis=1), True)
    weight = np.where(y > 0, weights, 1.0)
    return Targets(y, weight, False)


def multi_label(y: npt.ArrayLike, given: ClassWeight) -> Targets:
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
    weight = known.astype(np.float64)
    if given == "balanced":
        weight *= (present + absent) / (2 * np.where(values == 1, present, absent))
    elif given is not None:
        raise ProbeError(f'class_weight is {given!r}; several labels take "balanced" or None.')
    return Targets(np.where(values == 1, 1.0, -1.0), weight, False)
