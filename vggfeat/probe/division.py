"""Which rows train, which choose C, and which test: as a table says itself, or drawn.

Splits called ``train``, ``val`` and ``test`` are taken for what they say, unless a share or a
number a class is asked for. Rows of one group, a patient's say, are never on both sides, neither of
a division nor of the validation within its training part.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.feature_table import FeatureTable
from vggfeat.labels import TEST, TRAIN, VAL, Targets
from vggfeat.labels.splits import usable
from vggfeat.probe.grouping import grouped_split
from vggfeat.probe.labelled import Labelled
from vggfeat.probe.split import stratified_split
from vggfeat.solver.rows import Positions

TEST_SIZE = 0.25
"""Share of each class that is drawn for the test where nothing else is asked for."""

Groups = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
_SHOWN = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Division:
    """Labelled rows in two parts.

    Attributes
    ----------
    train, test : ndarray of int64
        Positions in the rows of a :class:`Labelled`, ascending.
    held_out : ndarray of int64
        Those of `train` that choose C, positions in `train`; empty where they are to be drawn.
    groups : ndarray of int64, shape (n,), or None
        A number for the group of each row, one of its own where it is in none; None where the table
        has no groups.
    splits : tuple of str
        The table's splits that `train` and `test` are; empty where they were drawn, or where the
        test images are another table's.
    other : str
        That table's path.
    """

    train: Positions
    test: Positions
    held_out: Positions
    groups: Groups | None
    splits: tuple[str, ...] = ()
    other: str = ""

    @property
    def train_groups(self) -> Groups | None:
        """The groups of the training rows."""
        return None if self.groups is None else self.groups[self.train]

    @property
    def test_groups(self) -> Groups | None:
        """The groups of the test rows."""
        return None if self.groups is None else self.groups[self.test]

    @property
    def validation(self) -> list[tuple[Positions, Positions]] | None:
        """The training part as :class:`LinearProbe` takes it: what learns, and what chooses C."""
        if not len(self.held_out):
            return None
        learns = np.setdiff1d(np.arange(len(self.train)), self.held_out, assume_unique=True)
        return [(learns, self.held_out)]

    def describe(self) -> str:
        """Say how rows were divided; nothing where they were drawn one by one."""
        parts = []
        if self.splits:
            chose = f" ({self.splits[1]} chose C)" if len(self.splits) > 2 else ""
            learnt = " and ".join(self.splits[:-1])
            parts.append(
                f"by the store's splits: trained on {learnt}{chose}, tested on {self.splits[-1]}"
            )
        elif self.other:
            parts.append(f"tested on {self.other}")
        if self.groups is not None:
            parts.append(f"{len(np.unique(self.groups)):,} groups, none on both sides")
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        how = "splits" if self.splits else "store" if self.other else "drawn"
        return {
            "how": how,
            "splits": list(self.splits),
            "test_store": self.other or None,
            "n_validation": len(self.held_out),
            "groups": None if self.groups is None else len(np.unique(self.groups)),
        }


def divided(
    table: FeatureTable,
    layer: str,
    *,
    test_size: float | None = None,
    train_per_class: int | None = None,
    seed: int = 0,
    multi_label: bool = False,
) -> tuple[Labelled, Division]:
    """Find the rows that can be learnt from, and divide them.

    Parameters
    ----------
    table : FeatureTable
        With labels.
    layer : str
        A layer of it, by name or alias.
    test_size : float, optional
        Share of each class to draw for the test, above 0 and below 1. By default the table's own
        splits, where it has ``train`` and ``test`` (or ``val``); else :data:`TEST_SIZE`.
    train_per_class : int, optional
        Instead: rows of each class to draw for training; all others are for the test.
    seed : int
        The same seed and table give the same parts.
    multi_label : bool
        Whether images may have several labels; they are divided by their rarest one.

    Returns
    -------
    data : Labelled
        The rows that take part.
    division : Division

    Raises
    ------
    ProbeError
        There are no labels; a class has too few rows; a parameter is out of its range; or a group
        is in two of the table's splits.
    """
    splits = _own_splits(table) if test_size is None and train_per_class is None else None
    data = Labelled.of(table, layer, multi_label=multi_label, lone=splits is not None)
    if splits is not None:
        return _by_splits(table, data, splits)
    groups = groups_of(table, data.rows)
    if groups is None:
        train, test = stratified_split(
            data.keys,
            test_size=TEST_SIZE if test_size is None else test_size,
            train_per_class=train_per_class,
            seed=seed,
        )
        return data, Division(train, test, np.arange(0), None)
    if train_per_class is not None:
        raise ProbeError(
            f"{train_per_class} training images a class would cut the groups of {table.path} "
            "apart. Give a share to test on (--test-size), or extract again with --group-by none."
        )
    data, groups = _without_lone_groups(data, groups)
    share = TEST_SIZE if test_size is None else test_size
    train, test = grouped_split(data.keys, groups, test_size=share, seed=seed)
    return data, Division(train, test, np.arange(0), groups)


def divided_rows(
    table: FeatureTable,
    rows: Positions,
    *,
    test_size: float | None = None,
    other: str = "",
    seed: int = 0,
) -> tuple[Positions, Division]:
    """Divide rows that have no classes, as :func:`divided` does those that have.

    Parameters
    ----------
    table : FeatureTable
    rows : ndarray of int64
        Rows of it, ascending.
    test_size : float, optional
        Share to draw for the test; by default the table's splits, else :data:`TEST_SIZE`.
    other : str
        The path of a table to test on: then all rows train, but those of a test split.
    seed : int
        The same seed and rows give the same parts.

    Returns
    -------
    kept : ndarray of int64
        Positions in `rows` of those that take part.
    division : Division
        Of these.

    Raises
    ------
    ProbeError
        There are too few rows or groups, `test_size` is out of its range, or a group is in two of
        the table's splits.
    """
    every = np.arange(len(rows))
    splits = _own_splits(table) if test_size is None else None
    if splits is not None:
        learns, chooses, tests, tested = _parts(table, splits, splits.values[rows])
        kept = np.flatnonzero(learns | chooses | tests)
        division = _of_splits(table, rows[kept], learns[kept], chooses[kept], tests[kept], tested)
        return kept, replace(division, splits=(), other=other) if other else division
    groups, nothing = groups_of(table, rows), np.arange(0)
    if other:
        return every, Division(every, nothing, nothing, groups, other=other)
    share = TEST_SIZE if test_size is None else test_size
    alike = np.zeros(len(rows), np.int64)
    if groups is None:
        if len(rows) < 4:
            raise ProbeError(f"{len(rows)} images are too few to learn from and to test on.")
        train, test = stratified_split(alike, test_size=share, seed=seed)
    else:
        train, test = grouped_split(alike, groups, test_size=share, seed=seed)
    return every, Division(train, test, nothing, groups)


def to_keep(
    table: FeatureTable, layer: str, *, multi_label: bool = False, drawn: bool = False
) -> tuple[Labelled, Division]:
    """Find the rows to train a classifier on that is kept: all, but for a test split.

    Parameters are those of :func:`divided`; with `drawn` the table's splits do not count.

    Returns
    -------
    data : Labelled
    division : Division
        Nothing is in its `test` but where the table has such a split.
    """
    if not drawn and _own_splits(table) is not None:
        return divided(table, layer, multi_label=multi_label)
    data = Labelled.of(table, layer, multi_label=multi_label)
    nothing = np.arange(0)
    return data, Division(np.arange(len(data.rows)), nothing, nothing, groups_of(table, data.rows))


def beside(
    table: FeatureTable, test: FeatureTable, layer: str
) -> tuple[Labelled, Labelled, Division]:
    """Find the rows of a table to learn from, and those of another to test on.

    Returns
    -------
    data, tested : Labelled
        Of either table, with the classes of the first.
    division : Division
        Of `data`; nothing is in its `test` that counts.

    Raises
    ------
    StoreMismatchError
        The tables' features were made otherwise.
    ProbeError
        One has no labels, or no class in common.
    """
    name = table.layer(layer)
    table.provenance.config.check(test.provenance.config, name, "store")
    theirs = test.column(table.provenance.config.for_layer(name))
    warn_of_groups(table, test)
    data, division = to_keep(table, name, multi_label=True)
    data = data.learnable(division.train)
    tested = Labelled.of(test, theirs, multi_label=True, lone=True).of_classes(data)
    if data.multi_label:
        data = data.only(tested.classes)
    return data, tested, replace(division, splits=(), other=str(test.path))


def warn_of_groups(table: FeatureTable, test: FeatureTable) -> None:
    """Say where two tables have groups of one name, which may be on both sides."""
    if table.groups is None or test.groups is None:
        return
    if both := sorted(set(table.groups.classes) & set(test.groups.classes)):
        _log.warning(
            "%d groups of %s are called as groups of %s, such as %s. If they are the same, they "
            "train and test.",
            *(len(both), test.path, table.path, _listed(both)),
        )


def kept_rows(
    table: FeatureTable, rows: Positions, *, drawn: bool = False
) -> tuple[Positions, Groups | None, list[tuple[Positions, Positions]] | None]:
    """Find which rows without classes train what is kept: all, but for a test split.

    Returns
    -------
    chosen : ndarray of int64
        Positions in `rows`.
    groups : ndarray of int64 or None
        Their groups.
    validation : list of a pair, or None
        What learns and what chooses, where the table has a split ``val``.
    """
    if not drawn and _own_splits(table) is not None:
        kept, division = divided_rows(table, rows)
        return kept[division.train], division.train_groups, division.validation
    return np.arange(len(rows)), groups_of(table, rows), None


def _own_splits(table: FeatureTable) -> Targets | None:
    """Return the table's splits where they say what trains and what tests."""
    splits = table.splits
    return splits if splits is not None and usable(splits.classes) else None


def groups_of(table: FeatureTable, rows: Positions) -> Groups | None:
    """Return a number for the group of each row, one of its own for rows in none."""
    groups = table.groups
    if groups is None:
        return None
    numbers = groups.values[rows].astype(np.int64)
    alone = numbers < 0
    numbers[alone] = len(groups.classes) + np.arange(int(alone.sum()))
    return numbers


def _without_lone_groups(data: Labelled, groups: Groups) -> tuple[Labelled, Groups]:
    """Leave out classes all whose rows are of one group: they cannot be learnt and tested."""
    if data.multi_label:
        return data, groups
    pairs = np.unique(np.stack([data.y, groups]), axis=1)[0]
    lone = np.flatnonzero(np.bincount(pairs, minlength=len(data.classes)) < 2)
    kept = ~np.isin(data.y, lone)
    if len(lone):
        names = _listed([data.classes[k] for k in lone])
        _log.warning("Left out, all images of one group: %s.", names)
    alone = data.left_out.alone + int((~kept).sum())
    left_out = replace(data.left_out, alone=alone)
    return data.taken(np.flatnonzero(kept), left_out), groups[kept]


def _by_splits(table: FeatureTable, data: Labelled, splits: Targets) -> tuple[Labelled, Division]:
    """Divide rows as the table's splits say."""
    train, val, test, tested = _parts(table, splits, splits.values[data.rows])
    learnt = train | val
    unseen = np.zeros_like(test)
    if not data.multi_label:
        unseen = test & ~np.isin(data.y, data.y[learnt])
        if unseen.any():
            names = _listed([data.classes[k] for k in np.unique(data.y[unseen])])
            _log.warning("Left out, tested and never learnt from: %s.", names)
    kept = np.flatnonzero(learnt | (test & ~unseen))
    left_out = replace(
        data.left_out, other_split=int((~(learnt | test)).sum()), unseen=int(unseen.sum())
    )
    data = data.taken(kept, left_out)
    return data, _of_splits(table, data.rows, train[kept], val[kept], test[kept], tested)


def _parts(
    table: FeatureTable, splits: Targets, of: npt.NDArray[Any]
) -> tuple[Mask, Mask, Mask, str]:
    """Return which rows train, choose C and test, and what the split that tests is called."""
    number = {name: at for at, name in enumerate(splits.classes)}
    train, val, test = (of == number.get(name, -2) for name in (TRAIN, VAL, TEST))
    tested = TEST if test.any() else VAL
    if tested == VAL:
        test, val = val, np.zeros_like(val)
    for part, name in ((train, TRAIN), (test, tested)):
        if not part.any():
            raise ProbeError(
                f"No image of the split {name} of {table.path} is done and labelled. Give a share "
                "to draw (--test-size) instead, or other splits (`vggfeat extract --split`)."
            )
    return train, val, test, tested


def _of_splits(
    table: FeatureTable, rows: Positions, train: Mask, val: Mask, test: Mask, tested: str
) -> Division:
    """Return the division of rows that are each in one of three parts."""
    learnt, chooses, tests = (np.flatnonzero(part) for part in (train | val, val, test))
    groups = groups_of(table, rows)
    if groups is not None:
        _check_groups(table, groups, {"train": learnt, tested: tests})
        _check_groups(table, groups, {"train": np.flatnonzero(train), "val": chooses})
    held_out = np.searchsorted(learnt, chooses)
    taken = (TRAIN, *((VAL,) if len(chooses) else ()), tested)
    return Division(learnt, tests, held_out, groups, taken)


def _check_groups(table: FeatureTable, groups: Groups, parts: dict[str, Positions]) -> None:
    """Refuse splits that cut a group apart."""
    (one, first), (other, second) = parts.items()
    both = np.intersect1d(groups[first], groups[second])
    if len(both) and table.groups is not None:
        names = _listed([table.groups.classes[number] for number in both.tolist()])
        raise ProbeError(
            f"{len(both)} groups of {table.path} are in the splits {one} and {other} at once: "
            f"{names}. Correct the splits, draw instead (--test-size), which keeps groups whole, "
            "or extract again with --group-by none."
        )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
