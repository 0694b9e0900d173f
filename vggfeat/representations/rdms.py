"""RDMs as a value, and how they are computed of a store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from vggfeat.errors import RepresentationError
from vggfeat.feature_table import requested_layers
from vggfeat.memory import available_memory
from vggfeat.progress import Progress, silent
from vggfeat.representations.conditions import By, Conditions, conditions, read
from vggfeat.representations.crossnobis import class_means, crossnobis, drawn_folds
from vggfeat.representations.distances import (
    condensed,
    condition_count,
    pairs_before,
    square,
    squared_distances,
)
from vggfeat.representations.measures import Measure, check_measure, of_squared, prepared
from vggfeat.showing import Drawn

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

Matrix = npt.NDArray[Any]
Strip = Callable[[int, Matrix], None]


@dataclass(frozen=True, slots=True, eq=False)
class RDMs(Drawn):
    """Representational dissimilarity matrices of the same conditions.

    Attributes
    ----------
    values : ndarray of float, shape (r, n (n - 1) / 2)
        One RDM a row: its values above the diagonal, row after row, as ``pdist`` of SciPy and
        rsatoolbox have them.
    titles : tuple of str
        What each is of: a layer, a subject.
    names : tuple of str, or None
        Of the n conditions: images by their paths, or classes; None where a file does not say.
    classes : tuple of str
        The class of each condition, empty where unknown.
    measure : str
        The dissimilarity; empty where unknown.
    by : str
        ``"image"``, ``"class"``, or empty where unknown.
    source : str
        The store or file they are from.
    """

    shown_as: ClassVar = "rdms"
    values: Matrix
    titles: tuple[str, ...]
    names: tuple[str, ...] | None
    classes: tuple[str, ...] = ()
    measure: str = ""
    by: str = ""
    source: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def count(self) -> int:
        """Number n of conditions."""
        return condition_count(self.values.shape[1]) or 0

    def square(self, number: int = 0) -> Matrix:
        """Return one of them as a symmetric matrix (n, n) with zeros on its diagonal."""
        return np.asarray(square(self.values[number]))


class Sink(Protocol):
    """Takes the strips of RDMs as they are computed."""

    def put(self, number: int, first: int, strip: Matrix) -> None:
        """Keep dissimilarities (m, n - first) of rows first.. from rows first.. of an RDM."""


class CondensedSink:
    """Keeps RDMs above the diagonal, in anything (r, pairs) that takes slices."""

    def __init__(self, values: Any, count: int) -> None:
        self.values, self._count = values, count

    def put(self, number: int, first: int, strip: Matrix) -> None:
        """Keep a strip; see :class:`Sink`."""
        start = pairs_before(first, self._count)
        part = condensed(strip)
        self.values[number, start : start + len(part)] = part


class SquareSink:
    """Keeps whole RDMs, in anything (r, n, n) that takes slices."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def put(self, number: int, first: int, strip: Matrix) -> None:
        """Keep a strip; see :class:`Sink`."""
        end = first + len(strip)
        strip = np.array(strip, self.values.dtype)
        self.values[number, first:end, first:] = strip
        self.values[number, first:, first:end] = strip.T


def rdm(
    store: FeatureTable,
    layers: str | Iterable[str] | None = None,
    *,
    measure: str = "correlation",
    by: By = "image",
    folds: int = 2,
    seed: int = 0,
    dtype: npt.DTypeLike = np.float32,
    progress: Progress = silent,
) -> RDMs:
    """Compute the RDMs of layers of a store.

    Parameters
    ----------
    store : FeatureTable
    layers : str or iterable of str, optional
        Names or aliases, also in one text with commas between; all of the store by default.
    measure : str
        One of :data:`~vggfeat.representations.MEASURES`: ``"correlation"``, ``"cosine"``,
        ``"euclidean"``, ``"squared-euclidean"``, ``"mahalanobis"``, ``"crossnobis"``; docs/
        representations.md has the formulae. The covariance of the last two is that of images about
        the mean of their class, and of ``"mahalanobis"`` by image about the mean of all.
    by : {"image", "class"}
        Rows are images, or the means of the features of a class's images.
    folds, seed : int
        For ``"crossnobis"``: into how many parts each class's images are dealt, and how.
    dtype : {float32, float64}
        Of the result. Sums are float64 in either; for float32 the error is that stated in
        :mod:`vggfeat.representations.distances`.
    progress : Progress
        Told of rows.

    Returns
    -------
    RDMs

    Raises
    ------
    RepresentationError
        There are fewer than two conditions; features are not finite, or have no direction; or
        something does not fit into memory.
    LayerError
        The store has no such layer.
    """
    chosen = requested_layers(store, layers)
    what = conditions(store, by)
    count = len(what)
    size = np.dtype(dtype).itemsize * len(chosen) * (count * (count - 1) // 2)
    free = available_memory()
    if free is not None and size > free:
        raise RepresentationError(
            f"{len(chosen)} RDMs of {count:,} {by}s take {size / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} GiB are free. Take fewer --layers, or write a file, which takes "
            "one strip at a time (`vggfeat rdm`, save_rdms)."
        )
    values = np.empty((len(chosen), count * (count - 1) // 2), dtype)
    compute(
        store, chosen, what, CondensedSink(values, count), measure=measure, folds=folds, seed=seed,
        progress=progress,
    )  # fmt: skip
    return described(store, chosen, what, values, measure, folds, seed)


def described(
    store: FeatureTable,
    layers: list[str],
    what: Conditions,
    values: Matrix,
    measure: str,
    folds: int,
    seed: int,
) -> RDMs:
    """Put values (r, pairs) of layers together with what they are."""
    settings = {"folds": folds, "seed": seed} if measure == "crossnobis" else {}
    return RDMs(
        values, tuple(layers), what.names, what.classes, measure, what.by, str(store.path), settings
    )


def compute(
    store: FeatureTable,
    layers: list[str],
    what: Conditions,
    sink: Sink,
    *,
    measure: str,
    folds: int = 2,
    seed: int = 0,
    progress: Progress = silent,
) -> None:
    """Compute RDMs of layers, strip by strip, into a sink; parameters are those of :func:`rdm`."""
    known = check_measure(measure)
    if known == "crossnobis" and what.by != "class":
        raise RepresentationError(
            "Crossnobis distances are between classes, whose images are the repetitions. Add "
            "--by class, or take --dissimilarity mahalanobis."
        )
    total = len(layers) * len(what)
    for number, layer in enumerate(layers):
        width = store.dimension(layer)
        more = 8 * len(what.rows) * width if known in ("mahalanobis", "crossnobis") else 0
        X = read(store, layer, what.rows, more)
        for first, strip in _strips(X, what, known, folds, seed):
            sink.put(number, first, strip)
            progress("distances", len(strip), total)


def _strips(X: Matrix, what: Conditions, measure: Measure, folds: int, seed: int) -> Any:
    residuals, freedom = None, None
    if what.by == "class":
        if measure == "crossnobis":
            parts = drawn_folds(what.members, folds, seed)
            whole = square(crossnobis(X, what.members, parts))
            yield 0, whole
            return
        means = class_means(X, what.members, len(what))
        if measure == "mahalanobis":
            residuals, freedom = X - means[what.members], len(X) - len(what)
        X = means
    rows = prepared(X, measure, residuals, freedom, named=lambda row: what.names[row])
    made = of_squared(measure, X.shape[1])
    for first, strip in squared_distances(rows):
        yield first, made(strip)
