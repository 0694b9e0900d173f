"""The images of a store as points of a plane."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.analysis.projection import METHODS, Method, Projection, project
from vggfeat.errors import PlotError
from vggfeat.labels import Targets
from vggfeat.norms import unit_length
from vggfeat.progress import Progress, silent

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

MOST_IMAGES: dict[Method, int] = {"pca": 50_000, "tsne": 10_000, "umap": 20_000}
"""Images on a map by default, so that each method ends in a minute or two."""

MOST_NUMBERS = 1 << 27
"""Features of a map, all images together: 512 MiB."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NotDrawn:
    """How many of a store's images are not on a map, and why.

    Attributes
    ----------
    not_done : int
        Pending or failed: they have no features.
    not_finite : int
        Their features hold NaN or infinity.
    not_sampled : int
        There were more images than the map takes; it shows a random sample.
    """

    not_done: int
    not_finite: int
    not_sampled: int


@dataclass(frozen=True, slots=True, eq=False)
class ImageMap:
    """Images as points of a plane.

    Attributes
    ----------
    layer : str
        Canonical name.
    projection : Projection
        Where each image is.
    rows : ndarray of int64, shape (n,)
        Rows of the store, ascending.
    paths : tuple of str
        Of the n images.
    labels : tuple of tuple of str
        Class names of the n images; empty where none is known.
    multi_label : bool
        Whether an image may have several classes.
    left_out : NotDrawn
        Images that are not on the map.
    splits, groups : tuple of str, or None
        The split and the group of each of the n images, empty for one in none; None where the
        store has no splits, or no groups.
    """

    layer: str
    projection: Projection
    rows: npt.NDArray[np.int64]
    paths: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    multi_label: bool
    left_out: NotDrawn
    splits: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None

    @property
    def coordinates(self) -> npt.NDArray[np.float64]:
        """Points of the n images, (n, 2)."""
        return self.projection.coordinates

    def to_json(self) -> dict[str, Any]:
        """Return what decided the map, JSON-ready, without the points themselves."""
        return {
            "layer": self.layer,
            "method": self.projection.method,
            "settings": self.projection.settings,
            "seed": self.projection.seed,
            "explained_variance": list(self.projection.explained) or None,
            "left_out": asdict(self.left_out),
        }


def image_map(
    store: FeatureTable,
    layer: str,
    *,
    method: Method = "tsne",
    seed: int = 0,
    max_images: int | None = None,
    progress: Progress = silent,
) -> ImageMap:
    """Lay the images of a store out in a plane, near where their features are alike.

    Features are scaled to length 1, so that distances go by the angle between them, as in probes
    and searches. Where there are more images than `max_images`, or their features would take more
    than 512 MiB, a random sample of them is taken, with a message.

    Parameters
    ----------
    store : FeatureTable
        With or without labels.
    layer : str
        Name or alias; maps (C, H, W) are taken as vectors.
    method : {"pca", "tsne", "umap"}
        See :func:`~vggfeat.analysis.projection.project`.
    seed : int
        Decides the sample and every random choice of the method.
    max_images : int, optional
        At most so many images; by default 50,000 for PCA, 10,000 for t-SNE and 20,000 for UMAP.
    progress : Progress
        Told when a step begins and ends: reading, then the method.

    Returns
    -------
    ImageMap

    Raises
    ------
    PlotError
        No image has finite features, too few have for the method, or UMAP is not installed.
    LayerError
        The store has no such layer.
    """
    name = store.layer(layer)
    if method not in METHODS:
        raise PlotError(f"Unknown method {method!r}. Known methods: {', '.join(METHODS)}.")
    if max_images is not None and max_images < 1:
        raise PlotError(f"A map of {max_images} images; give 1 or more.")
    done = np.flatnonzero(store.done).astype(np.int64)
    if not len(done):
        raise PlotError(
            f"{store.path} has no image that is done. Run `vggfeat extract` again, or see "
            f"`vggfeat info {store.path} --failed`."
        )
    most = MOST_IMAGES[method] if max_images is None else max_images
    rows = _sample(store, name, done, most, seed)
    progress("reading", 0, 1)
    kept, X = _unit_rows(store, name, rows)
    if not len(kept):
        raise PlotError(
            f"No image of {store.path} has finite features in {name}. `vggfeat verify "
            f"{store.path}` lists damaged rows; or choose another layer."
        )
    if len(kept) < len(rows):
        _log.warning(
            "%d images are left out: their features in %s are not finite.",
            len(rows) - len(kept), name,
        )  # fmt: skip
    progress("reading", 1, 1)
    progress(method, 0, 1)
    projection = project(X, method=method, seed=seed)
    progress(method, 1, 1)
    labels, multi_label = label_names(store, kept)
    left_out = NotDrawn(len(store) - len(done), len(rows) - len(kept), len(done) - len(rows))
    return ImageMap(
        name,
        projection,
        kept,
        tuple(store.paths[kept]),
        labels,
        multi_label,
        left_out,
        splits=_names(store.splits, kept),
        groups=_names(store.groups, kept),
    )


def _sample(
    store: FeatureTable, layer: str, rows: npt.NDArray[np.int64], most: int, seed: int
) -> npt.NDArray[np.int64]:
    width = store.dimension(layer)
    fitting = max(1, MOST_NUMBERS // width)
    count = min(most, fitting)
    if len(rows) <= count:
        return rows
    why = (
        f"the features of more would not fit into memory; pooled ones, as of {layer}:avg, would"
        if fitting < most
        else "--max-images (max_images in Python) takes more"
    )
    _log.info("A random %s of %s images are drawn: %s.", f"{count:,}", f"{len(rows):,}", why)
    chosen = np.random.default_rng(seed).choice(len(rows), count, replace=False)
    return rows[np.sort(chosen)]


def _unit_rows(
    store: FeatureTable, layer: str, rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Read rows at length 1; those that are not finite are left out."""
    width = store.dimension(layer)
    X = np.empty((len(rows), width), np.float32)
    kept = np.empty(len(rows), np.int64)
    count = 0
    for numbers, block in store.blocks(layer, rows):
        finite = np.isfinite(block).all(axis=1)
        end = count + int(finite.sum())
        X[count:end] = unit_length(block[finite])
        kept[count:end] = numbers[finite]
        count = end
    return kept[:count], X[:count]


def _names(targets: Targets | None, rows: npt.NDArray[np.int64]) -> tuple[str, ...] | None:
    """Return the split or group of each of `rows`, empty for one in none."""
    if targets is None:
        return None
    return tuple(targets.classes[k] if k >= 0 else "" for k in targets.values[rows].tolist())


def label_names(
    store: FeatureTable, rows: npt.NDArray[np.int64]
) -> tuple[tuple[tuple[str, ...], ...], bool]:
    """Return the class names of each of `rows`, and whether an image may have several."""
    if not store.has_labels:
        return ((),) * len(rows), False
    targets = Targets(tuple(store.classes), store.labels[rows])
    return tuple(targets.names(row) for row in range(len(rows))), targets.multi_label
