"""Dividing labelled rows so that those of one group, such as a patient's, stay together."""

from __future__ import annotations

import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.solver.rows import Positions

_FOLDS = 10  # a share is so many tenths at most


def grouped_split(
    y: npt.ArrayLike, groups: npt.ArrayLike, *, test_size: float, seed: int = 0
) -> tuple[Positions, Positions]:
    """Divide whole groups of rows at random, so that each part has about its share of each class.

    Parameters
    ----------
    y : array_like of shape (n,)
        The class of each row.
    groups : array_like of shape (n,)
        The group of each row.
    test_size : float
        Share for the test, above 0 and below 1, met as nearly as groups allow: folds of
        :class:`sklearn.model_selection.StratifiedGroupKFold`, at most ten, are put together.
    seed : int
        The same seed, `y` and `groups` give the same parts.

    Returns
    -------
    train, test : ndarray of int64
        Positions in `y`, ascending. No group is in both, and every class is in `train`.

    Raises
    ------
    ProbeError
        `test_size` is out of its range, or no such division was found.
    """
    if not 0 < test_size < 1:
        raise ProbeError(
            f"The test share is {test_size}; give a number above 0 and below 1, such as 0.25."
        )
    classes = np.unique(np.asarray(y), return_inverse=True)[1]
    share = Fraction(test_size).limit_denominator(_FOLDS)
    share = min(max(share, Fraction(1, _FOLDS)), 1 - Fraction(1, _FOLDS))
    folds = _folds(classes, np.asarray(groups), share.denominator, seed)
    for first in range(len(folds)):
        chosen = [folds[(first + at) % len(folds)] for at in range(share.numerator)]
        test = np.sort(np.concatenate(chosen))
        train = np.setdiff1d(np.arange(len(classes)), test, assume_unique=True)
        if len(test) and len(np.unique(classes[train])) == classes.max(initial=-1) + 1:
            return train, test
    raise ProbeError(
        f"{len(np.unique(groups))} groups cannot be divided so that every class is learnt from. "
        "Add images, leave the class of fewest groups out, or give another --seed."
    )


def grouped_folds(
    y: npt.ArrayLike, groups: npt.ArrayLike, folds: int, *, seed: int = 0
) -> list[tuple[Positions, Positions]]:
    """Divide whole groups into folds, each to be held out in turn.

    Parameters are those of :func:`~vggfeat.probe.stratified_folds`, and the group of each row.

    Returns
    -------
    list of (train, test)
        Positions in `y`, ascending.
    """
    if folds < 2:
        raise ProbeError(f"{folds} folds; give at least 2.")
    classes = np.unique(np.asarray(y), return_inverse=True)[1]
    every = np.arange(len(classes))
    parts = _folds(classes, np.asarray(groups), folds, seed)
    return [(np.setdiff1d(every, part, assume_unique=True), part) for part in parts]


def _folds(classes: Positions, groups: npt.NDArray[Any], count: int, seed: int) -> list[Positions]:
    """Return the rows of each fold; folds without rows are left out."""
    from sklearn.model_selection import StratifiedGroupKFold  # only whoever divides needs it

    _, groups = np.unique(groups, return_inverse=True)
    count = min(count, int(groups.max(initial=0)) + 1)
    if count < 2:
        raise ProbeError(
            "All images are of one group, which cannot be divided. Give other groups, or none."
        )
    kinds = classes
    if np.bincount(classes).max() < count:  # scikit-learn wants a class of as many rows
        kinds = np.zeros_like(classes)
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some class has fewer rows than folds
        parts = [np.sort(test) for _, test in folds.split(kinds, kinds, groups)]
    return [part.astype(np.int64) for part in parts if len(part)]
