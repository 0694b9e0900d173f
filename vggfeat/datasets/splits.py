"""Dividing a dataset into training and test images in the same way on every machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Which examples to train on, and which to test on.

    Attributes
    ----------
    train, test : ndarray of int64
        Positions of examples in their dataset, ascending; the two share none.
    held_out : ndarray of int64
        Those of `train` that choose the classifier's parameter before all train; empty where they
        are to be drawn.
    """

    train: Positions
    test: Positions
    held_out: Positions = field(default_factory=lambda: np.arange(0))

    def to_json(self) -> dict[str, list[int]]:
        """Return JSON-ready values."""
        parts = {"train": self.train.tolist(), "test": self.test.tolist()}
        return parts | ({"held_out": self.held_out.tolist()} if len(self.held_out) else {})


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How to draw splits at random where a dataset has no official ones.

    Attributes
    ----------
    count : int
        Number of splits.
    train_per_class : int
        Training examples of each class.
    max_test_per_class : int or None
        At most so many of a class's other examples are for the test; None: all of them.
    seed : int
        Not negative.
    """

    count: int
    train_per_class: int
    max_test_per_class: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"count": 1, "train_per_class": 1, "max_test_per_class": 1, "seed": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise SourceError(f"A split rule's {name} is {value}; it must be at least {low}.")

    def splits(self, targets: npt.ArrayLike, classes: Sequence[str]) -> tuple[Split, ...]:
        """Draw the splits.

        Each class of each split is shuffled by numbers of its own, so that images added to one
        class leave the others' parts as they are.

        Parameters
        ----------
        targets : array_like of int, shape (n,)
            The class of each example.
        classes : sequence of str
            Class names; every one needs more than `train_per_class` examples.

        Returns
        -------
        tuple of Split
            `count` of them. They follow from the rule and `targets` alone, whatever the machine
            and the version of NumPy.

        Raises
        ------
        SourceError
            Classes are too small; the message names them.
        """
        members = _members(np.asarray(targets), len(classes))
        few = [
            f"{name} ({len(rows)})"
            for name, rows in zip(classes, members, strict=True)
            if len(rows) <= self.train_per_class
        ]
        if few:
            raise SourceError(
                f"{len(few)} of {len(classes)} classes have fewer than the "
                f"{self.train_per_class + 1} images that {self.train_per_class} for training and "
                f"one for the test take: {_listed(few)}. Take fewer training images a class, or "
                "leave these classes out."
            )
        return tuple(self._draw(members, number) for number in range(self.count))

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "count": self.count,
            "train_per_class": self.train_per_class,
            "max_test_per_class": self.max_test_per_class,
            "seed": self.seed,
        }

    def _draw(self, members: Sequence[Positions], number: int) -> Split:
        train, test = [], []
        for k, rows in enumerate(members):
            order = rows[_shuffled(len(rows), self.seed, number, k)]
            train.append(order[: self.train_per_class])
            others = order[self.train_per_class :]
            test.append(others[: self.max_test_per_class])
        return Split(np.sort(np.concatenate(train)), np.sort(np.concatenate(test)))


def _members(targets: npt.NDArray[Any], count: int) -> list[Positions]:
    """Return the positions of each class's examples, ascending."""
    order = np.argsort(targets, kind="stable").astype(np.int64)
    return np.split(order, np.searchsorted(targets[order], np.arange(1, count)))


def _shuffled(n: int, seed: int, number: int, k: int) -> Positions:
    # NumPy promises that a bit generator's raw numbers never change, and does not promise that
    # of Generator.permutation: sorting raw numbers is a shuffle that stays.
    raw = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(number, k))).random_raw(n)
    return np.argsort(raw, kind="stable").astype(np.int64)


def _listed(names: list[str], most: int = 10) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
