"""What the rows of an RDM are: the images of a store, or the means of its classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from vggfeat.errors import RepresentationError
from vggfeat.layers import layer_of
from vggfeat.memory import available_memory

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

Rows = npt.NDArray[np.int64]
By = Literal["image", "class"]
BY: tuple[By, ...] = get_args(By)


@dataclass(frozen=True, slots=True, eq=False)
class Conditions:
    """The conditions of RDMs of a store.

    Attributes
    ----------
    by : str
        ``"image"``, or ``"class"``: the mean of the features of its images.
    names : tuple of str
        Of the k conditions: paths of images, or names of classes.
    classes : tuple of str
        The class of each condition; empty where none is known.
    rows : ndarray of int64, shape (n,)
        Rows of the store that are read.
    members : ndarray of int64, shape (n,)
        The condition of each of these rows.
    """

    by: By
    names: tuple[str, ...]
    classes: tuple[str, ...]
    rows: Rows
    members: Rows

    def __len__(self) -> int:
        return len(self.names)

    def taken(self, chosen: Rows) -> Conditions:
        """Return some of the conditions, in another order perhaps."""
        place = np.full(len(self), -1)
        place[chosen] = np.arange(len(chosen))
        members = place[self.members]
        order = np.flatnonzero(members >= 0)
        order = order[np.argsort(members[order], kind="stable")]
        return Conditions(
            self.by,
            tuple(self.names[k] for k in chosen.tolist()),
            tuple(self.classes[k] for k in chosen.tolist()),
            self.rows[order],
            members[order],
        )


def conditions(store: FeatureTable, by: By = "image") -> Conditions:
    """Return what RDMs of a store are about.

    Parameters
    ----------
    store : FeatureTable
    by : {"image", "class"}
        Each image that is done, or each class with images that are.

    Raises
    ------
    RepresentationError
        There are fewer than two; or classes are requested of a store without labels, or with
        several an image.
    """
    if by not in BY:
        raise RepresentationError(f"RDMs are by {' or by '.join(BY)}, not by {by!r}.")
    rows = np.flatnonzero(store.done).astype(np.int64)
    labels, names = None, store.classes
    if store.has_labels and not store.multi_label:
        labels = store.labels
    if by == "image":
        known = [names[k] if k >= 0 else "" for k in labels[rows]] if labels is not None else None
        found = Conditions(
            by,
            tuple(store.paths[rows].tolist()),
            tuple(known or ("",) * len(rows)),
            rows,
            np.arange(len(rows)),
        )
    else:
        if labels is None:
            why = "several labels an image" if store.has_labels else "no labels"
            raise RepresentationError(
                f"{store.path} has {why}, so that there are no class means. Take --by image, or "
                "run `vggfeat extract` again with --labels FILE.csv of one label an image."
            )
        rows = rows[labels[rows] >= 0]
        present, members = np.unique(labels[rows], return_inverse=True)
        classes = tuple(names[k] for k in present.tolist())
        found = Conditions(by, classes, classes, rows, members.astype(np.int64))
    if len(found) < 2:
        raise RepresentationError(
            f"{store.path} has {len(found)} {'images' if by == 'image' else 'classes'} with "
            "features; an RDM needs two or more. `vggfeat info` shows what it holds."
        )
    return found


def read(store: FeatureTable, layer: str, rows: Rows, more: int = 0) -> npt.NDArray[np.float32]:
    """Read the features of some rows, float32, (n, d); maps as vectors.

    Parameters
    ----------
    more : int
        Bytes that will be needed besides.

    Raises
    ------
    RepresentationError
        They do not fit into memory, or some are not finite.
    """
    shape = store.shape(layer)
    needed = 4 * len(rows) * math.prod(shape) + more
    free = available_memory()
    if free is not None and needed > free:
        remedy = (
            f"Extract it pooled, with --layers {layer_of(layer)}:avg, or take fewer images."
            if len(shape) > 1
            else "Take fewer images."
        )
        raise RepresentationError(
            f"{layer} of {store.path} does not fit into memory: {len(rows):,} images of "
            f"{' x '.join(map(str, shape))} numbers take {needed / 2**30:.1f} GiB with what is "
            f"made of them, and {free / 2**30:.1f} GiB are free. {remedy}"
        )
    _, X = store.matrix(layer, rows)
    bad = ~finite_rows(X)
    if bad.any():
        path = store.paths[rows[np.flatnonzero(bad)[0]]]
        raise RepresentationError(
            f"{layer} of {store.path} has features that are not finite, of {int(bad.sum()):,} "
            f"images (as {path!r}). Choose another layer with --layers; `vggfeat verify` lists "
            "damaged rows, and --dtype float32 of `vggfeat extract` keeps what float16 cannot."
        )
    return X


def finite_rows(X: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return which rows are finite, (n,), block by block."""
    found = [np.isfinite(X[at : at + 1024]).all(axis=1) for at in range(0, len(X), 1024)]
    return np.concatenate(found) if found else np.ones(0, bool)
