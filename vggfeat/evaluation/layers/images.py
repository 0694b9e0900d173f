"""The labelled images that several stores share, in one order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.labels import PRESENT, UNKNOWN, Targets, as_floats
from vggfeat.probe.division import Division, divided
from vggfeat.probe.labelled import Labelled
from vggfeat.probe.reading import LayerRows

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """A store's labelled images in the order of the first store.

    Attributes
    ----------
    store : FeatureTable
        Where their features are.
    y : ndarray
        The same for all stores. One label an image: (n,) int64, positions in `classes`. Several:
        (n, K) int8, 1 present, 0 absent, -1 left out.
    classes : tuple of str
        Names of the K classes.
    rows : ndarray of int64, shape (n,)
        Their rows in the store.
    """

    store: FeatureTable
    y: npt.NDArray[Any]
    classes: tuple[str, ...]
    rows: Positions

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return self.y.ndim == 2

    def guessing(self, train: Positions, test: Positions) -> dict[str, float | None]:
        """Return what scores without any knowledge, as :class:`LayerScores` has it."""
        y = self.y[test]
        if self.multi_label:
            shares = (y == PRESENT).sum(axis=0) / (y != UNKNOWN).sum(axis=0)
            return {"majority": None, "present": float(shares.mean())}
        return {"majority": float(np.mean(y == np.bincount(self.y[train]).argmax()))}

    def target(self, positions: Positions) -> npt.NDArray[Any]:
        """Return labels as classifiers and metrics take them: of several floats, NaN left out."""
        return as_floats(self.y[positions]) if self.multi_label else self.y[positions]

    def reader(self, layer: str, positions: Positions) -> LayerRows:
        """Return the features of some of the n images, read when they are sliced."""
        return LayerRows(self.store, layer, self.rows[positions])


def shared_images(
    stores: Sequence[FeatureTable],
    *,
    test_size: float | None = None,
    train_per_class: int | None = None,
    seed: int = 0,
    whole: bool = False,
) -> tuple[list[Images], Division]:
    """Find the labelled images of stores that hold the same ones, and divide them.

    Of several labels an image, the classes are those that are both present and absent in each part.

    Parameters
    ----------
    stores : sequence of FeatureTable
        One or more; the first gives the order, and its splits and groups count.
    test_size, train_per_class, seed :
        See :func:`vggfeat.probe.division.divided`.
    whole : bool
        The division will not be used: classes need not be in each part.

    Returns
    -------
    images : list of Images
        One a store.
    division : Division
        Of the first store's images.

    Raises
    ------
    ProbeError
        The stores' labelled images differ, or their splits or groups let others take part; or
        :class:`~vggfeat.probe.labelled.Labelled` finds fault with one.
    """
    if not stores:
        raise ProbeError("No store was given. Name at least one.")
    parts = [
        divided(
            store,
            store.layers[0],
            test_size=test_size,
            train_per_class=train_per_class,
            seed=seed,
            multi_label=True,
        )
        for store in stores
    ]
    labelled = [data for data, _ in parts]
    first, division = parts[0]
    labels = _labels(stores[0], first)
    if not whole:
        first = first.learnable(division.train, division.test)
    images = [Images(stores[0], first.y, first.classes, first.rows)]
    for store, data in zip(stores[1:], labelled[1:], strict=True):
        others = _labels(store, data)
        if others != labels:
            drawn = test_size is not None or train_per_class is not None  # whatever the splits
            why = _other_division(stores[0], store, set(labels) ^ set(others), drawn) or (
                f"their labelled images differ: {_difference(labels, others)}. Extract both from "
                "the same source with the same --labels; `vggfeat info` tells which images failed."
            )
            raise ProbeError(f"{stores[0].path} and {store.path} cannot be compared, {why}")
        rows = dict(zip(others, data.rows.tolist(), strict=True))
        in_order = np.array([rows[path] for path in labels], np.int64)
        images.append(Images(store, first.y, first.classes, in_order))
    return images, division


def _labels(store: FeatureTable, data: Labelled) -> dict[str, tuple[str, ...]]:
    """Return each image's classes by its path, in the order of rows; unknown ones marked so."""
    paths = store.paths[data.rows].tolist()
    if not data.multi_label:
        return {path: (data.classes[k],) for path, k in zip(paths, data.y.tolist(), strict=True)}
    marked = np.array([[name, f"{name} (unknown)"] for name in data.classes], object)
    return {
        path: tuple(sorted([*marked[row == PRESENT, 0], *marked[row == UNKNOWN, 1]]))
        for path, row in zip(paths, data.y, strict=True)
    }


def _other_division(first: FeatureTable, second: FeatureTable, paths: set[str], drawn: bool) -> str:
    """Say which of the images that only one of two stores divides are in other splits, or groups.

    Those that failed in one, or have no label there, do not count: they differ themselves.
    """
    splits = ("splits", "--split", first.splits, second.splits)
    groups = ("groups", "--groups or --group-by", first.groups, second.groups)
    for what, option, one, other in (groups,) if drawn else (splits, groups):
        ours, theirs = _names(first, one, paths), _names(second, other, paths)
        apart = sorted(path for path in ours if theirs.get(path, ours[path]) != ours[path])
        if apart:
            path = apart[0]
            return (
                f"their {what} differ: {len(apart):,} images are in others (as {path!r}: "
                f"{ours[path] or 'none'}, {theirs[path] or 'none'}). Extract both with the same "
                f"{option}."
            )
    return ""


def _names(store: FeatureTable, targets: Targets | None, paths: set[str]) -> dict[str, str]:
    """Return the split, or the group, of those images that can take part; empty for none."""
    usable = np.array(store.done)
    if store.targets is not None:
        usable &= store.targets.known
    numbers = np.full(len(store), -1) if targets is None else targets.values
    named = ("",) if targets is None else (*targets.classes, "")
    pairs = zip(store.paths[usable].tolist(), numbers[usable].tolist(), strict=True)
    return {path: named[number] for path, number in pairs if path in paths}


def _difference(ours: dict[str, tuple[str, ...]], others: dict[str, tuple[str, ...]]) -> str:
    only = [path for path in ours if path not in others]
    more = [path for path in others if path not in ours]
    differences = [
        f"{len(paths):,} only in the {which} (as {paths[0]!r})"
        for which, paths in (("first", only), ("second", more))
        if paths
    ]
    changed = [path for path, name in ours.items() if others.get(path, name) != name]
    if changed:
        path = changed[0]
        one, other = ("|".join(names[path]) for names in (ours, others))
        differences.append(f"{len(changed):,} of other classes (as {path!r}: {one!r}, {other!r})")
    return ", ".join(differences)
