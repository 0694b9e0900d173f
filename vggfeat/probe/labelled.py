"""Which rows of a store can train a classifier, and what keeps the others out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.labels import ABSENT, PRESENT, as_floats
from vggfeat.probe.reading import LayerRows
from vggfeat.probe.split import rarest
from vggfeat.solver.rows import Positions

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What took no part, and why.

    Attributes
    ----------
    not_done : int
        Rows that are pending or failed: they have no features.
    unlabelled : int
        Rows that are done, but of unknown class.
    alone : int
        Rows that are the only done image, or group of images, of their class: it cannot be both
        learnt from and tested on. Always 0 of several labels.
    classes : tuple of str
        Of several labels: classes that are not both present and absent in each part.
    other_split : int
        Rows in none of the splits that train and test.
    unseen : int
        Test rows of classes that training does not have.
    """

    not_done: int
    unlabelled: int
    alone: int
    classes: tuple[str, ...] = ()
    other_split: int = 0
    unseen: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """The rows that train and test a classifier.

    Attributes
    ----------
    layer : str
        Canonical name.
    rows : ndarray of int64, shape (n,)
        Rows of the store, ascending: done and labelled.
    y : ndarray
        One label a row: (n,) int64, positions in `classes`. Several: (n, K) int8, 1 present,
        0 absent, -1 left out (:mod:`vggfeat.labels.codes`).
    classes : tuple of str
        Names of the K classes that occur, in the store's order.
    left_out : LeftOut
        What took no part.
    """

    layer: str
    rows: Positions
    y: npt.NDArray[Any]
    classes: tuple[str, ...]
    left_out: LeftOut

    @classmethod
    def of(
        cls, store: FeatureTable, layer: str, *, multi_label: bool = False, lone: bool = False
    ) -> Labelled:
        """Find a store's rows for one of its layers.

        Parameters
        ----------
        store : FeatureTable
            With labels.
        layer : str
            Name or alias.
        multi_label : bool
            Whether images may have several labels.
        lone : bool
            Take the rows also of classes that have a single one, which cannot be divided.

        Raises
        ------
        ProbeError
            The store has no labels, several a row where one is wanted, or fewer than two classes
            to tell apart.
        LayerError
            The store has no such layer.
        """
        name = store.layer(layer)
        if not store.has_labels:
            raise ProbeError(
                f"{store.path} has no labels to train on. Extract from a folder with one "
                "sub-folder a class, or run `vggfeat extract` again with --labels FILE; what is "
                "done is not done again."
            )
        targets = store.labels
        if targets.ndim != 1 and not multi_label:
            raise ProbeError(
                f"Images in {store.path} have several labels each, and one is wanted here. "
                "`vggfeat probe` scores such stores."
            )
        done = np.asarray(store.done)
        known = done & (targets >= 0 if targets.ndim == 1 else (targets >= 0).any(axis=1))
        without = int((~done).sum()), int((done & ~known).sum())
        if without[1]:
            _log.info("Left out: %d images without a label.", without[1])
        names = tuple(store.classes)
        if targets.ndim != 1:
            rows = np.flatnonzero(known)
            data = cls(name, rows, targets[rows], names, LeftOut(*without, 0))
            return data.learnable(np.arange(len(rows)))
        sizes = np.bincount(targets[known], minlength=len(names))
        alone = known & (sizes[targets] == 1) & (not lone)  # -1 wraps, but is not known
        if alone.any():
            lonely = [names[k] for k in np.flatnonzero(sizes == 1)]
            _log.info("Left out, with a single image each: %s.", _listed(lonely))
        rows = np.flatnonzero(known & ~alone)
        used, y = np.unique(targets[rows], return_inverse=True)
        if len(used) < 2:
            only = f"only {names[used[0]]!r}" if len(used) else "none"
            raise ProbeError(
                f"A probe tells at least two classes of two images apart; {store.path} has "
                f"{only} among its {int(known.sum())} done and labelled images."
            )
        left_out = LeftOut(*without, int(alone.sum()))
        return cls(name, rows, y.astype(np.int64), tuple(names[k] for k in used), left_out)

    @property
    def multi_label(self) -> bool:
        """Whether a row may have several labels."""
        return self.y.ndim == 2

    @property
    def keys(self) -> npt.NDArray[np.int64]:
        """What rows are divided by, (n,): their class, or the rarest of their classes."""
        return rarest(self.y == PRESENT) if self.multi_label else self.y

    def taken(self, positions: Positions, left_out: LeftOut) -> Labelled:
        """Return some of the rows, of one label each with the classes that occur in them."""
        y, classes = self.y[positions], self.classes
        if not self.multi_label:
            used, y = np.unique(y, return_inverse=True)
            classes = tuple(classes[k] for k in used)
            if len(classes) < 2:
                raise ProbeError(
                    f"A probe tells at least two classes apart; there is only {classes[0]!r} among "
                    "the images to learn from and to test on."
                    if classes
                    else "No image is left to learn from."
                )
        return replace(self, rows=self.rows[positions], y=y, classes=classes, left_out=left_out)

    def of_classes(self, other: Labelled) -> Labelled:
        """Return the rows that are of another's classes, with those classes' numbers.

        Raises
        ------
        ProbeError
            None is; or one of the two has several labels an image, and the other one.
        """
        if self.multi_label != other.multi_label:
            raise ProbeError(
                "One store has several labels an image and the other one; they cannot train and "
                "test together."
            )
        if self.multi_label:
            if lost := sorted(set(other.classes) - set(self.classes)):
                raise ProbeError(
                    f"The store to test on says nothing of the classes {_listed(lost)}. Label it "
                    "by the same classes."
                )
            return self.only(other.classes).learnable(np.arange(len(self.rows)))
        number = {name: k for k, name in enumerate(other.classes)}
        y = np.array([number.get(name, -1) for name in self.classes], np.int64)[self.y]
        kept = np.flatnonzero(y >= 0)
        unknown = len(y) - len(kept)
        if not len(kept):
            raise ProbeError(
                f"The stores have no class in common: {_listed(self.classes)} to test on, and "
                f"{_listed(other.classes)} to learn from."
            )
        if unknown:
            _log.warning("Left out: %d test images of classes never learnt from.", unknown)
        left_out = replace(self.left_out, unseen=unknown)
        return replace(
            self, rows=self.rows[kept], y=y[kept], classes=other.classes, left_out=left_out
        )

    def learnable(self, *parts: Positions) -> Labelled:
        """Return it without classes that are not both present and absent in each part.

        Rows of one label each lack no class in training, see :mod:`vggfeat.probe.division`.

        Raises
        ------
        ProbeError
            Fewer than two classes are left.
        """
        if not self.multi_label:
            return self
        both = [
            (self.y[part] == value).any(axis=0) for part in parts for value in (PRESENT, ABSENT)
        ]
        kept = np.logical_and.reduce(both)
        if kept.sum() < 2:
            raise ProbeError(
                "A probe of several labels needs at least two classes that some images show and "
                f"others do not, in training and in test; there is {int(kept.sum())} of "
                f"{len(kept)} among {len(self.y)} done and labelled images. Add images."
            )
        if lost := [self.classes[k] for k in np.flatnonzero(~kept)]:
            _log.warning("Left out, not both present and absent in each part: %s.", _listed(lost))
        return self.only([self.classes[k] for k in np.flatnonzero(kept)])

    def only(self, classes: Sequence[str]) -> Labelled:
        """Return it with some of the classes of several labels, in the order given."""
        columns = [self.classes.index(name) for name in classes]
        lost = tuple(name for name in self.classes if name not in classes)
        left_out = replace(self.left_out, classes=(*self.left_out.classes, *lost))
        return replace(self, y=self.y[:, columns], classes=tuple(classes), left_out=left_out)

    def target(self, positions: Positions) -> npt.NDArray[Any]:
        """Return the labels of some rows as :meth:`LinearProbe.fit` takes them."""
        return as_floats(self.y[positions]) if self.multi_label else self.y[positions]

    def reader(self, store: FeatureTable, positions: Positions | None = None) -> LayerRows:
        """Return the features of some rows (all by default), read when they are sliced."""
        rows = self.rows if positions is None else self.rows[positions]
        return LayerRows(store, self.layer, rows)


def _listed(names: Sequence[str], most: int = 10) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
