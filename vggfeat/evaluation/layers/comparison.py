"""What a sweep scored: layers, by a linear classifier and by their neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, overload

from vggfeat.evaluation.layers.differences import Classifier, Versus
from vggfeat.evaluation.layers.scored import LayerScores
from vggfeat.showing import Drawn


@dataclass(frozen=True, slots=True)
class LayerScore:
    """How well one layer's features tell a store's classes apart.

    Attributes
    ----------
    layer : str
        Canonical name.
    dimension : int
        Length of a feature vector, maps flattened.
    accuracy, mean_class_recall : float
        Of a linear classifier on the test images, in 0..1.
    knn_accuracy : float
        Of the vote of the nearest training images, in 0..1; see :func:`knn_accuracy`.
    n_train, n_test : int
        Number of images.
    C : float
        That the classifier chose within the training images.
    seconds : float
        Reading, training and testing took so long.
    """

    layer: str
    dimension: int
    accuracy: float
    mean_class_recall: float
    knn_accuracy: float
    n_train: int
    n_test: int
    C: float
    seconds: float

    def by(self, classifier: Classifier) -> float:
        """Return the accuracy of one of the two."""
        return self.accuracy if classifier == "probe" else self.knn_accuracy


@dataclass(frozen=True, slots=True)
class LayerPrecision:
    """How well one layer's features tell a store's classes apart, of several labels an image.

    Attributes
    ----------
    layer : str
        Canonical name.
    dimension : int
        Length of a feature vector, maps flattened.
    mean_average_precision : float
        Of linear classifiers on the test images, in 0..1.
    knn_mean_average_precision : float
        Of the share of the nearest training images that show a class, in 0..1; see
        :func:`knn_scores`.
    n_train, n_test : int
        Number of images.
    C : tuple of float
        That the classifiers chose within the training images, one a class.
    seconds : float
        Reading, training, testing and drawing samples took so long.
    """

    layer: str
    dimension: int
    mean_average_precision: float
    knn_mean_average_precision: float
    n_train: int
    n_test: int
    C: tuple[float, ...]
    seconds: float

    def by(self, classifier: Classifier) -> float:
        """Return the mean average precision of one of the two."""
        if classifier == "probe":
            return self.mean_average_precision
        return self.knn_mean_average_precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(LayerScores, Drawn):
    """Scores of linear classifiers and of neighbours, of one or more stores on the same images.

    Attributes
    ----------
    scores : tuple of tuple of LayerScore, or of LayerPrecision of several labels an image
        Those of each store, in the order its layers run.
    from_best : tuple of tuple of Versus
        For each store, how its layers differ from its best one.
    from_first : tuple of tuple of Versus
        For each store but the first, how the first's layers differ from the same ones of it.
    """

    shown_as: ClassVar = "sweep"
    scores: tuple[tuple[LayerScore | LayerPrecision, ...], ...]
    from_best: tuple[tuple[Versus, ...], ...] = ()
    from_first: tuple[tuple[Versus, ...], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values; layers that could not be scored are named."""
        stores = [
            store.with_scores(scores) | {"from_best": [pair.to_json() for pair in versus]}
            for store, scores, versus in zip(self.stores, self.scores, self.from_best, strict=True)
        ]
        for one, versus in zip(stores[1:], self.from_first, strict=True):
            one["from_first"] = [pair.to_json() for pair in versus]
        return self.protocol() | {"stores": stores}


@dataclass(frozen=True, slots=True)
class Sweep(Drawn, Sequence[LayerScore | LayerPrecision]):
    """Scores of one store's layers, in the order the layers run; a notebook shows them as a table.

    Attributes
    ----------
    compared : Comparison
        The same with all that belongs to it: classes, numbers of images, guessing, differences.
    """

    shown_as: ClassVar = "layers"
    compared: Comparison

    def __len__(self) -> int:
        return len(self.compared.scores[0])

    @overload
    def __getitem__(self, at: int) -> LayerScore | LayerPrecision: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[LayerScore | LayerPrecision, ...]: ...

    def __getitem__(
        self, at: int | slice
    ) -> LayerScore | LayerPrecision | tuple[LayerScore | LayerPrecision, ...]:
        return self.compared.scores[0][at]

    def __iter__(self) -> Iterator[LayerScore | LayerPrecision]:
        return iter(self.compared.scores[0])

    def __repr__(self) -> str:
        return f"Sweep({list(self)})"

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values, as `vggfeat sweep --json` prints them."""
        return self.compared.to_json()
