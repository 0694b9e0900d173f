"""Which images train, which choose, and which test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import EncodingError
from vggfeat.labels.splits import usable
from vggfeat.probe.division import divided_rows, groups_of

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """Images to train on, in which penalties and layers are chosen, and others to test on.

    Attributes
    ----------
    train, test : ndarray of int64
        Positions in the n images, ascending; no image is in both.
    held_out : tuple of ndarray of int64
        Parts of `train`, as positions in it, ascending: each is predicted from all others, which
        chooses.
    """

    train: Positions
    test: Positions
    held_out: tuple[Positions, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Folds:
    """How n images are divided.

    Attributes
    ----------
    kept : ndarray of int64
        Positions in the rows that were given, of those that take part; folds are of these.
    folds : tuple of Fold
    groups : ndarray of int64, shape (n,), or None
        A number for the group of each image; no group is on two sides of anything.
    how : str
        In words.
    """

    kept: Positions
    folds: tuple[Fold, ...]
    groups: Positions | None
    how: str


def folds_of(
    table: FeatureTable,
    rows: Positions,
    *,
    folds: int | Iterable[tuple[Any, Any]] | None = None,
    inner: int = 5,
    seed: int = 0,
) -> Folds:
    """Divide images.

    Parameters
    ----------
    table : FeatureTable
    rows : ndarray of int64, shape (n,)
        Rows of it, ascending.
    folds : int or iterable of (train, test), optional
        How many parts are tested in turn, whole groups where the table has groups; or which
        positions in `rows` train and test. By default the table's own splits where it has ``train``
        and ``test``, else 5.
    inner : int
        Parts of the training images that are held out in turn to choose; a split ``val`` is held
        out instead where the table has one.
    seed : int
        Of what is drawn.

    Raises
    ------
    EncodingError
        There are too few images or groups, or parts overlap.
    """
    if inner < 2:
        raise EncodingError(f"{inner} inner folds; give 2 or more.")
    every = np.arange(len(rows))
    own = table.splits is not None and usable(table.splits.classes)
    if folds is None and own:
        kept, division = divided_rows(table, rows)
        groups = division.groups
        held_out: Sequence[Positions] = [division.held_out] if len(division.held_out) else []
        if not held_out:
            held_out = _parts(len(division.train), division.train_groups, inner, seed)
        fold = Fold(division.train, division.test, tuple(held_out))
        return Folds(kept, (fold,), groups, f"{division.describe()}, {_inner(held_out)}")
    groups = groups_of(table, rows)
    if folds is None or isinstance(folds, int):
        count = 5 if folds is None else folds
        if count < 2:
            raise EncodingError(f"{count} folds; give 2 or more.")
        tests = _parts(len(rows), groups, count, seed)
        pairs = [(np.setdiff1d(every, test, assume_unique=True), test) for test in tests]
        what = "images" if groups is None else f"{len(np.unique(groups)):,} groups"
        how = f"{len(pairs)} folds of {what}, each tested once"
    else:
        pairs = [_given(pair, len(rows)) for pair in folds]
        how = f"{len(pairs)} given folds"
        if not pairs:
            raise EncodingError("No folds were given; give pairs of positions (train, test).")
        for train, test in pairs:
            if groups is not None and np.isin(groups[test], groups[train]).any():
                raise EncodingError(
                    f"A given fold has a group of {table.path} on both sides. Divide whole groups."
                )
    made = []
    for at, (train, test) in enumerate(pairs):
        of = None if groups is None else groups[train]
        made.append(Fold(train, test, _parts(len(train), of, inner, seed + 1 + at)))
    return Folds(every, tuple(made), groups, f"{how}, {_inner(made[0].held_out)}")


def _inner(parts: Sequence[Positions]) -> str:
    return f"{len(parts)} inner folds choose" if len(parts) > 1 else "one part chooses"


def _parts(n: int, groups: Positions | None, count: int, seed: int) -> tuple[Positions, ...]:
    """Draw `count` parts of n images, of whole groups."""
    from sklearn.model_selection import GroupKFold, KFold

    units = n if groups is None else len(np.unique(groups))
    if n // 2 < count or units < count:
        what = f"{n} images" if groups is None else f"{n} images of {units} groups"
        raise EncodingError(
            f"{what} cannot be divided into {count} parts of 2 images or more. Ask for fewer "
            "folds, or give more images."
        )
    drawn: Any = KFold if groups is None else GroupKFold
    splitter = drawn(count, shuffle=True, random_state=seed)
    return tuple(np.sort(held) for _, held in splitter.split(np.empty((n, 0)), groups=groups))


def _given(pair: tuple[Any, Any], n: int) -> tuple[Positions, Positions]:
    train, test = (np.unique(np.arange(n)[np.asarray(side)]) for side in pair)
    if len(np.intersect1d(train, test)) or len(test) < 2 or len(train) < 4:
        raise EncodingError(
            f"A given fold trains on {len(train)} images and tests on {len(test)}, "
            f"{len(np.intersect1d(train, test))} of them the same. Give other images to test on, 2 "
            "or more."
        )
    return train, test
