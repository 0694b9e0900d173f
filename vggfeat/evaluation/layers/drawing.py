"""Drawing the few images of each class to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.labels import ABSENT, PRESENT, as_floats
from vggfeat.probe.division import Division

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """One repetition's images.

    Attributes
    ----------
    order : ndarray of int64, shape (K, S)
        The S images of each class to learn from, in the order they are taken.
    test : ndarray of int64
        All others, ascending.
    """

    order: Positions
    test: Positions

    @classmethod
    def of(
        cls, y: Positions, most: int, seed: int | Sequence[int], division: Division | None = None
    ) -> Draw:
        """Draw `most` images of each class, 0..K-1, which must have as many.

        Where images have splits, those of the training part are drawn and those of the test part
        are for the test; otherwise all that are not drawn, nor of a group that was.
        """
        own = division is not None and bool(division.splits)
        pool = division.train if division is not None and own else np.arange(len(y))
        permuted = pool[np.random.default_rng(seed).permutation(len(pool))]
        # Stable, so that the images of each class keep their drawn order.
        by_class = permuted[np.argsort(y[permuted], kind="stable")]
        starts = np.concatenate([[0], np.cumsum(np.bincount(y[pool]))[:-1]])
        order = by_class[starts[:, None] + np.arange(most)]  # (K, S)
        if division is not None and own:
            return cls(order, division.test)
        test = np.setdiff1d(np.arange(len(y)), order)
        if division is not None and division.groups is not None:
            test = test[~np.isin(division.groups[test], division.groups[order])]
            if not len(test):
                raise ProbeError(
                    "No image is left to test on that is of another group than those that are "
                    "learnt from. Ask for fewer shots, or add groups."
                )
        return cls(order, test)

    def train(self, shots: int) -> Positions:
        """Return the images to learn from, ascending."""
        return np.sort(self.order[:, :shots], axis=None)

    def target(self, y: Positions, shots: int) -> npt.NDArray[Any]:
        """Return their classes."""
        return np.asarray(y[self.train(shots)])


@dataclass(frozen=True, slots=True, eq=False)
class DrawOfSeveral:
    """One repetition's images, where each may be of several classes.

    For s = 1, 2, ... in turn, every class that fewer than s of the images drawn so far show, or
    that fewer than s of them do not show, gets the next image in a random order that does, the
    rarest class first. Each class then learns from the first s images that show it and from all
    drawn images that do not; further ones that show it are left out of it. So each class has
    exactly s positive images, as in Goyal et al., "Scaling and Benchmarking Self-Supervised Visual
    Representation Learning" (ICCV 2019), and the images of few shots are among those of more.

    Attributes
    ----------
    order : ndarray of int64, shape (t,)
        The images to learn from, as they were drawn.
    shots : ndarray of int64, shape (t,)
        For which number of shots each was drawn, ascending.
    test : ndarray of int64
        The test part, which is the same in all repetitions.
    """

    order: Positions
    shots: Positions
    test: Positions

    @classmethod
    def of(
        cls, y: npt.NDArray[np.int8], most: int, seed: int | Sequence[int], division: Division
    ) -> DrawOfSeveral:
        """Draw from the training part until `most` images show each class and as many do not."""
        pool = division.train[np.random.default_rng(seed).permutation(len(division.train))]
        wanted = np.concatenate([y[pool] == PRESENT, y[pool] == ABSENT], axis=1)  # (p, 2K)
        sizes = wanted.sum(axis=0)
        waiting = [iter(np.flatnonzero(column).tolist()) for column in wanted.T]
        drawn: dict[int, int] = {}
        have = np.zeros_like(sizes)
        for shots in range(1, most + 1):
            for column in np.argsort(sizes, kind="stable").tolist():
                while have[column] < shots:
                    at = next(at for at in waiting[column] if at not in drawn)
                    drawn[at] = shots
                    have += wanted[at]
        return cls(pool[list(drawn)], np.array(list(drawn.values())), division.test)

    def train(self, shots: int) -> Positions:
        """Return the images to learn from, as they were drawn."""
        return self.order[self.shots <= shots]

    def target(self, y: npt.NDArray[np.int8], shots: int) -> npt.NDArray[Any]:
        """Return their labels, (n, K): 1 present, 0 absent, NaN left out."""
        values = as_floats(y[self.train(shots)])
        further = np.cumsum(values == 1, axis=0) > shots
        values[further & (values == 1)] = np.nan
        return values


def sizes_of(y: npt.NDArray[Any], pool: Positions, classes: int) -> Positions:
    """Return how many shots each class can give, (K,): its images; of several also the others."""
    if y.ndim == 1:
        return np.bincount(y[pool], minlength=classes)
    shown, others = ((y[pool] == value).sum(axis=0) for value in (PRESENT, ABSENT))
    return np.asarray(np.minimum(shown, others), np.int64)


def usable_shots(
    shots: Sequence[int], sizes: npt.NDArray[np.int64], classes: Sequence[str], spare: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[str, int]]:
    """Divide numbers of shots into those that every class can give, and others.

    Parameters
    ----------
    shots : sequence of int
        Ascending.
    sizes : ndarray of int64, shape (K,)
        See :func:`sizes_of`.
    classes : sequence of str
        Their names.
    spare : int
        Images of each class that must be left to test on.

    Returns
    -------
    usable, too_many : tuple of int
    smallest : (str, int)
        The class that can give fewest, and its size.

    Raises
    ------
    ProbeError
        None is usable.
    """
    at = int(sizes.argmin())
    smallest = classes[at], int(sizes[at])
    usable = tuple(count for count in shots if count <= sizes[at] - spare)
    too_many = tuple(count for count in shots if count > sizes[at] - spare)
    if not usable:
        tested = f"with {spare} left to test on " if spare else ""
        raise ProbeError(
            f"The smallest class, {smallest[0]!r}, has {smallest[1]} images; {tested}it gives up "
            f"to {smallest[1] - spare} to learn from, and the fewest requested are {shots[0]}. Ask "
            "for fewer shots, or add images of it (of several labels: that show it, or do not)."
        )
    return usable, too_many, smallest
