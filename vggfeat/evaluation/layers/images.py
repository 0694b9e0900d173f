"""The labelled images that several stores share, in one order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.probe.labelled import Labelled

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
    """

    store: FeatureTable
    y: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    _data: Labelled
    _own: Positions | None  # where each image is among the store's own; None: the order is its own

    def features(self, layer: str, positions: Positions) -> npt.NDArray[np.float32]:
        """Read features of some images.

        Parameters
        ----------
        layer : str
            Canonical name.
        positions : ndarray of int64, shape (m,)
            Which of the n images, ascending.

        Returns
        -------
        ndarray of float32, shape (m, d)
            Maps (C, H, W) come as vectors of length C * H * W.

        Raises
        ------
        ProbeError
            Features are not finite.
        """
        data = replace(self._data, layer=layer)
        if self._own is None:
            return data.features(self.store, positions)[1]
        own = self._own[positions]
        order = np.argsort(own)
        X = data.features(self.store, own[order])[1]  # read in the file's order
        return X[np.argsort(order)]

    def reader(self, layer: str, positions: Positions) -> LayerRows:
        """Return some images' features as rows that are read when they are asked for."""
        return LayerRows(self, layer, positions)


@dataclass(frozen=True, slots=True, eq=False)
class LayerRows:
    """Features of some images, read from their store block by block.

    Attributes
    ----------
    images : Images
        Where they are.
    layer : str
        Canonical name.
    positions : ndarray of int64, shape (m,)
        Which of the images, ascending.
    """

    images: Images
    layer: str
    positions: Positions

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, (m, d)."""
        return len(self.positions), self.images.store.dimension(self.layer)

    def __getitem__(self, rows: slice, /) -> npt.NDArray[np.float32]:
        """Read rows; errors are those of :meth:`Images.features`."""
        return self.images.features(self.layer, self.positions[rows])


def shared_images(stores: Sequence[FeatureTable]) -> list[Images]:
    """Find the labelled images of stores that hold the same ones.

    Parameters
    ----------
    stores : sequence of FeatureTable
        One or more; the first gives the order.

    Returns
    -------
    list of Images
        One a store.

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
    found = [Labelled.of(store, store.layers[0]) for store in stores]
    first = found[0]
    labels = _labels(stores[0], first)
    images = [Images(stores[0], first.y, first.classes, first, None)]
    for store, data in zip(stores[1:], found[1:], strict=True):
        others = _labels(store, data)
        if others != labels:
            raise ProbeError(
                f"{stores[0].path} and {store.path} cannot be compared, their labelled images "
                f"differ: {_difference(labels, others)}. Extract both from the same source with "
                "the same --labels; `vggfeat info` tells which images failed."
            )
        own = None
        if list(others) != list(labels):
            places = {path: at for at, path in enumerate(others)}
            own = np.array([places[path] for path in labels], np.int64)
        images.append(Images(store, first.y, first.classes, data, own))
    return images


def _labels(store: FeatureTable, data: Labelled) -> dict[str, str]:
    """Return each image's class by its path, in the order of rows."""
    return {
        path: data.classes[k]
        for path, k in zip(store.paths[data.rows].tolist(), data.y.tolist(), strict=True)
    }


def _difference(ours: dict[str, str], others: dict[str, str]) -> str:
    only = [path for path in ours if path not in others]
    more = [path for path in others if path not in ours]
    told = [
        f"{len(paths):,} only in the {which} (as {paths[0]!r})"
        for which, paths in (("first", only), ("second", more))
        if paths
    ]
    changed = [path for path, name in ours.items() if others.get(path, name) != name]
    if changed:
        path = changed[0]
        told.append(
            f"{len(changed):,} of other classes (as {path!r}: {ours[path]!r}, {others[path]!r})"
        )
    return ", ".join(told)
