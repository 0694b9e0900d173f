"""Dividing labelled rows into two parts, each with its share of every class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError


def stratified_split(
    y: npt.ArrayLike, *, test_size: float = 0.25, train_per_class: int | None = None, seed: int = 0
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Divide rows at random, class by class.

    A class of at least two rows has at least one in each part, however small its share; a class
    of one row stays in the training part.

    Parameters
    ----------
    y : array_like of shape (n,)
        The class of each row.
    test_size : float
        Share of each class that goes into the test part, above 0 and below 1; the number of rows
        is rounded to the nearest. Not used where `train_per_class` is given.
    train_per_class : int, optional
        Rows of each class for training, at least 1; all others are for the test.
    seed : int
        The same seed and the same `y` give the same parts.

    Returns
    -------
    train, test : ndarray of int64
        Positions in `y`, ascending.

    Raises
    ------
    ProbeError
        `test_size` or `train_per_class` is out of its range, or a class has no row to spare.
    """
    if train_per_class is None and not 0 < test_size < 1:
        raise ProbeError(
            f"The test share is {test_size}; give a number above 0 and below 1, such as 0.25."
        )
    if train_per_class is not None and train_per_class < 1:
        raise ProbeError(f"{train_per_class} training images a class; give at least 1.")
    names, classes, sizes = np.unique(np.asarray(y), return_inverse=True, return_counts=True)
    if train_per_class is not None and sizes.min(initial=train_per_class + 1) <= train_per_class:
        few = np.flatnonzero(sizes <= train_per_class)
        raise ProbeError(
            f"{train_per_class} training images a class and one for the test are more than "
            f"{len(few)} of {len(names)} classes have; the smallest has {sizes.min()}. Take at "
            f"most {sizes.min() - 1}, or give a share to test on (--test-size)."
        )
    order = np.random.default_rng(seed).permutation(len(classes))
    in_test = np.zeros(len(classes), bool)
    for k in range(classes.max(initial=-1) + 1):
        members = order[classes[order] == k]
        n = len(members)
        n_test = round(test_size * n) if train_per_class is None else n - train_per_class
        in_test[members[: min(max(n_test, 1), n - 1)]] = True
    return np.flatnonzero(~in_test), np.flatnonzero(in_test)


def rarest(present: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return what to divide rows of several classes by: the rarest class of each row.

    So each part has its share of every class, as far as rows of several allow.

    Parameters
    ----------
    present : ndarray of bool, shape (n, K)
        Which classes each row is of.

    Returns
    -------
    ndarray of int64, shape (n,)
        K where a row is of none.
    """
    n, K = present.shape
    sizes = np.where(present, present.sum(axis=0), n + 1)
    columns = sizes.argmin(axis=1) if K else np.zeros(n, np.int64)
    return np.asarray(np.where(present.any(axis=1), columns, K), np.int64)


def stratified_folds(
    y: npt.ArrayLike, folds: int, *, seed: int = 0
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Divide rows at random into folds, class by class, each to be held out in turn.

    A class's rows are dealt out one by one, so that folds differ by at most one row of it.

    Parameters
    ----------
    y : array_like of shape (n,)
        The class of each row.
    folds : int
        Their number, at least 2. Folds that would hold no row are left out.
    seed : int
        The same seed and the same `y` give the same folds.

    Returns
    -------
    list of (train, test)
        Positions in `y`, ascending; each is in one test part.
    """
    if folds < 2:
        raise ProbeError(f"{folds} folds; give at least 2.")
    _, classes = np.unique(np.asarray(y), return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(classes))
    by_class = order[np.argsort(classes[order], kind="stable")]
    fold = np.empty(len(classes), np.int64)
    fold[by_class] = np.arange(len(classes)) % folds
    return [
        (np.flatnonzero(fold != k), np.flatnonzero(fold == k))
        for k in range(min(folds, len(classes)))
    ]
