"""What a picture of RDMs shows: few enough images, those of one class together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.progress import Progress, silent
from vggfeat.representations.conditions import By, conditions
from vggfeat.representations.measures import classes_in_order
from vggfeat.representations.rdms import RDMs, SquareSink, compute

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

MOST = 1000
"""Images of a picture."""


@dataclass(frozen=True, slots=True, eq=False)
class PicturedRDMs:
    """RDMs to be drawn.

    Attributes
    ----------
    titles : tuple of str
        What each is of.
    values : ndarray of float32, shape (r, n, n)
    classes : tuple of str
        The class of each of the n rows, those of one together; empty where unknown.
    names : tuple of str
        Of the rows.
    measure, by, source : str
        As of :class:`~vggfeat.representations.RDMs`.
    total : int
        Conditions there are; n of them are shown.
    """

    titles: tuple[str, ...]
    values: npt.NDArray[Any]
    classes: tuple[str, ...]
    names: tuple[str, ...]
    measure: str
    by: str
    source: str
    total: int


def pictured(
    store: FeatureTable,
    layers: list[str],
    *,
    measure: str = "correlation",
    by: By = "image",
    folds: int = 2,
    seed: int = 0,
    most: int = MOST,
    progress: Progress = silent,
) -> PicturedRDMs:
    """Compute the RDMs of a picture: of all conditions, or a random sample of `most`.

    Mahalanobis distances of a sample go by the covariance of the sample.
    """
    what = conditions(store, by)
    total = len(what)
    kept = _kept(total, most, seed)
    what = what.taken(kept)
    what = what.taken(classes_in_order(what.classes))
    values = np.zeros((len(layers), len(what), len(what)), np.float32)
    compute(
        store, layers, what, SquareSink(values), measure=measure, folds=folds, seed=seed,
        progress=progress,
    )  # fmt: skip
    return PicturedRDMs(
        tuple(layers), values, what.classes, what.names, measure, by, str(store.path), total
    )


def pictured_rdms(given: RDMs, *, seed: int = 0, most: int = MOST) -> PicturedRDMs:
    """Return given RDMs as a picture shows them."""
    total = given.count
    kept = _kept(total, most, seed)
    classes = given.classes if len(given.classes) == total else ("",) * total
    order = kept[classes_in_order([classes[k] for k in kept.tolist()])]
    names = given.names or tuple(str(k + 1) for k in range(total))
    return PicturedRDMs(
        given.titles,
        np.stack([given.square(k)[np.ix_(order, order)] for k in range(len(given))]),
        tuple(classes[k] for k in order.tolist()),
        tuple(names[k] for k in order.tolist()),
        given.measure,
        given.by,
        given.source,
        total,
    )


def _kept(total: int, most: int, seed: int) -> npt.NDArray[np.int64]:
    if total <= most:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, most, replace=False))
