"""How well nearest neighbours tell a store's classes apart, layer by layer."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.evaluation.layers.images import Images, shared_images
from vggfeat.evaluation.layers.knn import check_vote, knn_answers, knn_scores
from vggfeat.evaluation.layers.nearest import Metric
from vggfeat.evaluation.layers.requested import none_finite, requested_layers
from vggfeat.evaluation.layers.scored import LayerScores, ScoredStore
from vggfeat.metrics import (
    APKind,
    SampledPrecision,
    Share,
    accuracy_interval,
    recall_interval,
)
from vggfeat.probe.reading import fits
from vggfeat.progress import Progress, silent
from vggfeat.showing import Shown
from vggfeat.solver.rows import Reader

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

Positions = npt.NDArray[np.int64]
_log = logging.getLogger(__name__)


class _Vote(NamedTuple):
    k: tuple[int, ...]
    metric: Metric
    temperature: float | None
    class_weight: Literal["balanced"] | None


@dataclass(frozen=True, slots=True)
class NeighbourScore:
    """How well the neighbours of images name them, in one layer.

    Attributes
    ----------
    layer : str
        Canonical name.
    dimension : int
        Length of a feature vector, maps flattened.
    k : int
        How many neighbours voted.
    accuracy, mean_class_recall : Share
        Of the images that were named, with their confidence intervals.
    """

    layer: str
    dimension: int
    k: int
    accuracy: Share
    mean_class_recall: Share

    @property
    def score(self) -> Share:
        """What layers are compared by: the accuracy."""
        return self.accuracy


@dataclass(frozen=True, slots=True)
class NeighbourPrecision:
    """How well the neighbours of images tell which of several classes they show, in one layer.

    Attributes
    ----------
    layer : str
        Canonical name.
    dimension : int
        Length of a feature vector, maps flattened.
    k : int
        How many neighbours voted.
    mean_average_precision : Share
        Of the shares of neighbours that show a class (:func:`knn_scores`), with the bootstrap's
        interval.
    """

    layer: str
    dimension: int
    k: int
    mean_average_precision: Share

    @property
    def score(self) -> Share:
        """What layers are compared by: the mean average precision."""
        return self.mean_average_precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbourhoods(LayerScores, Shown):
    """Scores of nearest neighbours, of one or more stores on the same images.

    Attributes
    ----------
    scores : tuple of tuple of NeighbourScore, or of NeighbourPrecision of several labels an image
        Those of each store: its layers in the order they run, for each the values of k in the
        order given.
    seconds : float
        Reading and searching took so long.
    """

    shown_as: ClassVar = "knn"
    scores: tuple[tuple[NeighbourScore | NeighbourPrecision, ...], ...]
    seconds: float

    @property
    def k(self) -> tuple[int, ...]:
        """How many neighbours voted, in the order given."""
        return tuple(dict.fromkeys(score.k for scores in self.scores for score in scores))

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values; layers that could not be scored are named."""
        pairs = zip(self.stores, self.scores, strict=True)
        stores = [store.with_scores(scores) for store, scores in pairs]
        return self.protocol() | {"k": list(self.k), "seconds": self.seconds, "stores": stores}


def score_neighbours(
    stores: Sequence[FeatureTable],
    layers: Iterable[str] | None = None,
    *,
    k: Sequence[int] = (1, 5, 10, 20),
    metric: Metric = "cosine",
    temperature: float | None = None,
    leave_one_out: bool = False,
    test_size: float | None = None,
    train_per_class: int | None = None,
    seed: int = 0,
    level: float = 0.95,
    class_weight: Literal["balanced"] | None = None,
    ap: APKind = "all-point",
    progress: Progress = silent,
) -> Neighbourhoods:
    """Name images by the vote of their nearest neighbours, in each layer of one or more stores.

    Rows that are done and labelled take part, as in :func:`vggfeat.probe.evaluate`, whose split
    is the default. A layer with NaN or infinite features is left out with a warning. Layers that
    do not fit into half of the free memory are read from the file again and again.

    Of several labels an image, each class is scored by its average precision. Training images of
    which a class is not known have no vote on it; such test images are not scored in it.

    Parameters
    ----------
    stores : sequence of FeatureTable
        Of the same images. The images of the first are divided; those of the others follow by
        their paths.
    layers : iterable of str, optional
        Names or aliases; all layers of each store by default.
    k, metric, temperature :
        See :func:`~vggfeat.evaluation.knn_answers`, of several labels
        :func:`~vggfeat.evaluation.knn_scores`; a k beyond the training images counts as their
        number, and is scored under it.
    leave_one_out : bool
        Name every image by all the others, instead of those of a test part by those of a
        training part. Nothing is drawn; near-duplicates within a store make it easier.
    test_size, train_per_class, seed :
        See :func:`vggfeat.probe.division.divided`; of no effect with `leave_one_out`.
    level : float
        Of the confidence intervals, above 0 and below 1.
    class_weight : {"balanced"}, optional
        Of one label an image: see :func:`~vggfeat.evaluation.knn_answers`.
    ap : str
        Of several labels: which average precision, see :func:`vggfeat.metrics.average_precision`.
    progress : Progress
        Told of images that were named, of all layers together.

    Returns
    -------
    Neighbourhoods

    Raises
    ------
    ProbeError
        Labels are missing, fewer than two classes are left, the stores' images differ, a parameter
        is out of its range or has no effect, or no layer has finite features.
    LayerError
        A store has no such layer.
    """
    began = perf_counter()
    check_vote(k, metric, temperature)
    requested = [requested_layers(store, layers) for store in stores]
    split: dict[str, Any] = {
        "test_size": test_size,
        "train_per_class": train_per_class,
        "seed": seed,
    }
    images, division = shared_images(stores, **split, whole=leave_one_out)
    first = images[0]
    if first.multi_label and class_weight is not None:
        raise ProbeError(
            "Balanced votes have no effect on several labels an image: each class is ranked by "
            "itself, and its ranking stays the same. Leave out --class-weight."
        )
    train, test = division.train, division.test
    if leave_one_out:
        if division.groups is not None:
            raise ProbeError(
                f"Leaving one image out would let others of its group vote, and {stores[0].path} "
                "has groups. Leave out --leave-one-out: then no group is on both sides."
            )
        train = test = np.arange(len(first.rows))
    groups = None if division.groups is None else division.groups[test]
    most = len(train) - leave_one_out
    k = tuple(dict.fromkeys(min(voters, most) for voters in k))
    vote = _Vote(k, metric, temperature, class_weight)
    total = len(test) * sum(map(len, requested))

    def tell(stage: str, more: float, _: float, /) -> None:
        progress(stage, more, total)

    results: list[tuple[NeighbourScore | NeighbourPrecision, ...]] = []
    for part, names in zip(images, requested, strict=True):
        scores: list[NeighbourScore | NeighbourPrecision] = []
        for layer in names:
            try:
                outputs, dimension = _voted(part, layer, train, test, vote, tell)
            except ProbeError as error:  # not finite
                _log.warning("%s is left out: %s", layer, error)
                tell("naming", len(test), len(test))
                continue
            y = part.target(test)
            for voters, said in zip(k, outputs, strict=True):
                if part.multi_label:
                    sampled = SampledPrecision.of(y, said, ap, groups, seed=seed)
                    interval = sampled.interval(level)
                    scores.append(NeighbourPrecision(layer, dimension, voters, interval))
                else:
                    accuracy = accuracy_interval(y, said, level, groups)
                    recall = recall_interval(y, said, level, groups)
                    scores.append(NeighbourScore(layer, dimension, voters, accuracy, recall))
        if not scores:
            raise none_finite(part.store, names)
        results.append(tuple(scores))
    return Neighbourhoods(
        classes=first.classes,
        n_train=most,
        n_test=len(test),
        **first.guessing(train, test),
        scores=tuple(results),
        seconds=perf_counter() - began,
        stores=tuple(ScoredStore.of(*pair) for pair in zip(stores, requested, strict=True)),
        settings={
            "metric": metric,
            "temperature": temperature,
            "leave_one_out": leave_one_out,
            "class_weight": class_weight,
            **({"ap": ap} if first.multi_label else {}),
            **({} if leave_one_out else split),
        },
        division=None if leave_one_out else division,
    )


def _voted(
    images: Images,
    layer: str,
    train: Positions,
    test: Positions,
    vote: _Vote,
    progress: Progress,
) -> tuple[npt.NDArray[Any], int]:
    """Return the answers, (k, m), or scores, (k, m, K), for `test`; and the length of a vector."""
    X_train = _rows(images, layer, train)
    X_test = None if test is train else _rows(images, layer, test)
    y, options = images.target(train), vote._asdict()
    if images.multi_label:
        del options["class_weight"]
        return knn_scores(X_train, y, X_test, progress=progress, **options), X_train.shape[1]
    return knn_answers(X_train, y, X_test, progress=progress, **options), X_train.shape[1]


def _rows(images: Images, layer: str, positions: Positions) -> Reader:
    """Return rows from memory where they fit well, else from the file."""
    rows = images.reader(layer, positions)
    return rows[:] if fits(rows, copies=1) else rows
