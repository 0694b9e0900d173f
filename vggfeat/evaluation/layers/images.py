"""The labelled images that several stores share, in one order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
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
    y : ndarray of int64, shape (n,)
        Their classes, as positions in `classes`; the same for all stores.
    classes : tuple of str
        Names of the K classes.
    rows : ndarray of int64, shape (n,)
        Their rows in the store.
    """

    store: FeatureTable
    y: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    rows: Positions

    def reader(self, layer: str, positions: Positions) -> LayerRows:
        """Return the features of some of the n images, read when they are sliced."""
        return LayerRows(self.store, layer, self.rows[positions])


def shared_images(
    stores: Sequence[FeatureTable],
    *,
    test_size: float | None = None,
    train_per_class: int | None = None,
    seed: int = 0,
) -> tuple[list[Images], Division]:
    """Find the labelled images of stores that hold the same ones, and divide them.

    Parameters
    ----------
    stores : sequence of FeatureTable
        One or more; the first gives the order, and its splits and groups count.
    test_size, train_per_class, seed :
        See :func:`vggfeat.probe.division.divided`.

    Returns
    -------
    images : list of Images
        One a store.
    division : Division
        Of the first store's images.

    Raises
    ------
    ProbeError
        The stores' labelled images differ, images have several labels, or
        :class:`~vggfeat.probe.labelled.Labelled` finds fault with one.
    """
    if not stores:
        raise ProbeError("No store was given. Name at least one.")
    for store in stores:
        if store.multi_label:
            raise ProbeError(
                f"Images in {store.path} have several labels each; only stores of one label an "
                "image are scored by knn, lowshot and sweep."
            )
    options = {"test_size": test_size, "train_per_class": train_per_class, "seed": seed}
    parts = [divided(store, store.layers[0], **options) for store in stores]  # type: ignore[arg-type]
    labelled = [data for data, _ in parts]
    first, division = parts[0]
    labels = _labels(stores[0], first)
    images = [Images(stores[0], first.y, first.classes, first.rows)]
    for store, data in zip(stores[1:], labelled[1:], strict=True):
        others = _labels(store, data)
        if others != labels:
            raise ProbeError(
                f"{stores[0].path} and {store.path} cannot be compared, their labelled images "
                f"differ: {_difference(labels, others)}. Extract both from the same source with "
                "the same --labels; `vggfeat info` tells which images failed."
            )
        rows = dict(zip(others, data.rows.tolist(), strict=True))
        in_order = np.array([rows[path] for path in labels], np.int64)
        images.append(Images(store, first.y, first.classes, in_order))
    return images, division


def _labels(store: FeatureTable, data: Labelled) -> dict[str, str]:
    """Return each image's class by its path, in the order of rows."""
    return {
        path: data.classes[k]
        for path, k in zip(store.paths[data.rows].tolist(), data.y.tolist(), strict=True)
    }


def _difference(ours: dict[str, str], others: dict[str, str]) -> str:
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
        differences.append(
            f"{len(changed):,} of other classes (as {path!r}: {ours[path]!r}, {others[path]!r})"
        )
    return ", ".join(differences)
