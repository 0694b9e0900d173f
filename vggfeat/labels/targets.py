"""Class names of images as the arrays that a store holds."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.labels.codes import ABSENT, PRESENT, UNKNOWN, from_signs, to_signs
from vggfeat.labels.names import FixedLabels, in_order
from vggfeat.labels.origin import Origin

if TYPE_CHECKING:
    from vggfeat.labels.names import RawLabels

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Targets:
    """Classes and, for each image, which of them it shows.

    Attributes
    ----------
    classes : tuple of str
        Class names; the position is the class's number.
    values : ndarray
        Single-label: (N,) int32, a class's number, -1 where unknown. Multi-label: (N, K) int8,
        1 present, 0 absent, -1 unknown or difficult (:mod:`vggfeat.labels.codes`).
    origin : Origin
        Where they came from. Targets that differ in nothing else are equal.
    """

    classes: tuple[str, ...]
    values: npt.NDArray[Any]
    origin: Origin = field(default_factory=Origin)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several classes."""
        return self.values.ndim == 2

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Whether anything is known of each image, (N,)."""
        known: npt.NDArray[np.bool_] = self.values != UNKNOWN
        return np.asarray(known.any(axis=1)) if self.multi_label else known

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Targets)
            and self.classes == other.classes
            and np.array_equal(self.values, other.values)
        )

    __hash__ = None  # type: ignore[assignment]

    def taken(self, rows: Rows) -> Targets:
        """Return those of some images."""
        return replace(self, values=self.values[rows])

    def counts(self, rows: npt.NDArray[Any]) -> dict[str, int]:
        """Return how many of some images are of each class that occurs, of one label an image."""
        numbers, counts = np.unique(self.values[rows], return_counts=True)
        pairs = zip(numbers.tolist(), counts.tolist(), strict=True)
        return {self.classes[number]: count for number, count in pairs if number >= 0}

    def names(self, row: int) -> tuple[str, ...]:
        """Return the class names of one image; none where they are unknown."""
        if self.multi_label:
            return tuple(self.classes[i] for i in np.flatnonzero(self.values[row] == PRESENT))
        number = int(self.values[row])
        return (self.classes[number],) if number >= 0 else ()

    def composed(self) -> Targets:
        """Return the same with accents in class names composed (NFC).

        Classes that are then of one name are one, in the place of the first.
        """
        names = [unicodedata.normalize("NFC", name) for name in self.classes]
        if names == list(self.classes):
            return self
        classes = tuple(dict.fromkeys(names))
        number = np.array([classes.index(name) for name in names], np.int32)
        if not self.multi_label:
            values: npt.NDArray[Any] = np.append(number, np.int32(-1))[self.values]
        else:
            signs = np.full((len(self.values), len(classes)), -1, np.int8)
            for column, at in enumerate(number):  # present, else unknown, else absent
                signs[:, at] = np.maximum(signs[:, at], to_signs(self.values[:, column]))
            values = from_signs(signs)
        return replace(self, classes=classes, values=values)

    def cell(self, row: int) -> str:
        """Return the labels of one image as a table has them, which reads as the same labels.

        Several are joined by ``|``; ``|`` alone is an image that shows none of the classes, and
        nothing one of which that is not known.
        """
        names = self.names(row)
        if self.multi_label and not names and (self.values[row] != UNKNOWN).any():
            return "|"
        return "|".join(names)

    def cells(self, rows: Rows) -> list[str]:
        """Return :meth:`cell` of several images."""
        if self.multi_label:
            return [self.cell(row) for row in rows.tolist()]
        names = np.array([*self.classes, ""], object)
        found: list[str] = names[self.values[rows]].tolist()  # -1, unknown, is the last
        return found

    def for_classes(self, classes: Sequence[str], *, multi_label: bool) -> npt.NDArray[Any]:
        """Return the values for a wider list of classes.

        Parameters
        ----------
        classes : sequence of str
            Holds all of :attr:`classes`, in any order.
        multi_label : bool
            Whether to give multi-label values; True where :attr:`multi_label` is.

        Returns
        -------
        ndarray
            (N,) int32 or (N, K) int8.
        """
        number = {name: i for i, name in enumerate(classes)}
        columns = np.array([number[name] for name in self.classes], dtype=np.int32)
        if self.multi_label:
            wide = np.where(self.known[:, None], np.int8(ABSENT), np.int8(UNKNOWN))
            wide = np.repeat(wide, len(classes), axis=1)
            wide[:, columns] = self.values
            return wide
        single: npt.NDArray[np.int32] = np.append(columns, np.int32(-1))[self.values]  # -1 stays
        if not multi_label:
            return single
        wide = np.full((len(single), len(classes)), UNKNOWN, dtype=np.int8)
        known_rows = np.flatnonzero(single >= 0)
        wide[known_rows] = ABSENT
        wide[known_rows, single[known_rows]] = PRESENT
        return wide


def from_names(paths: Sequence[str], labels: RawLabels) -> Targets:
    """Turn class names by path into numbers.

    Parameters
    ----------
    paths : sequence of str
        Images in row order.
    labels : dict of str to tuple of str
        Class names by path. An absent path is unknown; an empty tuple is an image known to
        show none of the classes, which only multi-label values can say.

    Returns
    -------
    Targets
        Classes as :func:`~vggfeat.labels.in_order` sorts them; multi-label where any of `paths`
        has several. Of :class:`~vggfeat.labels.FixedLabels`, as they say themselves.
    """
    given = [labels.get(path) for path in paths]
    unsure: RawLabels = {}
    if isinstance(labels, FixedLabels):
        classes, multi_label, unsure = labels.classes, labels.multi_label, labels.unsure
    else:
        classes = in_order(name for names in given for name in names or ())
        multi_label = any(len(names or ()) > 1 for names in given)
    number = {name: i for i, name in enumerate(classes)}
    if not multi_label:
        single = [number[names[0]] if names else -1 for names in given]
        return Targets(classes, np.array(single, dtype=np.int32))
    values = np.full((len(paths), len(classes)), UNKNOWN, dtype=np.int8)
    for row, names in enumerate(given):
        if names is not None:
            values[row] = ABSENT
            values[row, [number[name] for name in names]] = PRESENT
            values[row, [number[name] for name in unsure.get(paths[row], ())]] = UNKNOWN
    return Targets(classes, values)


def unite(count: int, parts: Sequence[tuple[Rows, Targets | None]]) -> Targets | None:
    """Put targets of several origins together by class name.

    Parameters
    ----------
    count : int
        Number of rows N of the result.
    parts : sequence of (rows, targets)
        Which rows of the result each origin's images are; later parts win. None: no labels.

    Returns
    -------
    Targets or None
        Classes in order of first appearance, so that numbers of the first part stay valid;
        multi-label where a part with rows is. Their origin is that of all parts with rows, where
        it is one. None where no part has labels.
    """
    known = [(rows, targets.composed()) for rows, targets in parts if targets is not None]
    if not known:
        return None
    classes = tuple(dict.fromkeys(name for _, targets in known for name in targets.classes))
    multi_label = any(targets.multi_label and len(rows) for rows, targets in known)
    values: npt.NDArray[Any] = (
        np.full((count, len(classes)), UNKNOWN, np.int8)
        if multi_label
        else np.full(count, -1, np.int32)
    )
    for rows, targets in known:
        if len(rows):
            values[rows] = targets.for_classes(classes, multi_label=multi_label)
    origins = {targets.origin for rows, targets in known if len(rows)}
    return Targets(classes, values, origins.pop() if len(origins) == 1 else Origin())
