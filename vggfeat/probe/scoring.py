"""How well a layer's features tell a store's classes apart, measured on images held out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.probe.classifier import LinearProbe
from vggfeat.probe.labelled import Labelled, LeftOut
from vggfeat.probe.split import stratified_split
from vggfeat.probe.targets import Classifier

if TYPE_CHECKING:
    from vggfeat.store import FeatureStore


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the classifier said about one test image.

    Attributes
    ----------
    path : str
        The image, as its store names it.
    true, predicted : str
        Class names.
    margin : float
        By how much the predicted class's score is above the next one's, at least 0. Scores are
        those of :meth:`LinearProbe.class_scores`.
    """

    path: str
    true: str
    predicted: str
    margin: float


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """A layer's score under the protocol of :func:`evaluate`.

    Attributes
    ----------
    layer : str
        Canonical name.
    classifier, normalize, C :
        Of the :class:`LinearProbe` that was tested; `C` is the value chosen.
    seed : int
        Of the split and of the choice of `C`.
    classes : tuple of str
        Names of the K classes.
    confusion : ndarray of int64, shape (K, K)
        Number of test images by true class (row) and predicted class (column).
    n_train, majority :
        Number of training images, and the share of test images that are of the commonest
        training class: the accuracy of always naming that one.
    left_out : LeftOut
        Rows of the store that took no part.
    predictions : tuple of Prediction
        One for each test image, in the store's order.
    """

    layer: str
    classifier: Classifier
    normalize: bool
    C: float
    seed: int
    classes: tuple[str, ...]
    confusion: npt.NDArray[np.int64]
    n_train: int
    majority: float
    left_out: LeftOut
    predictions: tuple[Prediction, ...]

    @property
    def n_test(self) -> int:
        """Number of test images."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of test images that are named rightly, in 0..1."""
        return float(np.trace(self.confusion) / self.n_test)

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """Share of each class's test images that are named rightly; (K,), in 0..1."""
        return np.asarray(np.diag(self.confusion) / self.confusion.sum(axis=1))

    @property
    def mean_class_recall(self) -> float:
        """Mean of :attr:`recall`, also known as balanced accuracy."""
        return float(self.recall.mean())

    @property
    def chance(self) -> float:
        """Mean class recall of guessing: 1 / K."""
        return 1 / len(self.classes)

    @cached_property
    def mistakes(self) -> tuple[Prediction, ...]:
        """Test images that were named wrongly, the most confident mistake first."""
        wrong = (p for p in self.predictions if p.true != p.predicted)
        return tuple(sorted(wrong, key=lambda p: (-p.margin, p.path)))

    def to_json(self, *, mistakes: int = 20, predictions: bool = False) -> dict[str, Any]:
        """Return JSON-ready values.

        Parameters
        ----------
        mistakes : int
            At most so many of :attr:`mistakes`.
        predictions : bool
            Whether the prediction for every test image is told.
        """
        told: dict[str, Any] = {
            "layer": self.layer,
            "classifier": self.classifier,
            "normalize": self.normalize,
            "C": self.C,
            "seed": self.seed,
            "n_train": self.n_train,
            "n_test": self.n_test,
            "accuracy": self.accuracy,
            "mean_class_recall": self.mean_class_recall,
            "chance": self.chance,
            "majority": self.majority,
            "classes": list(self.classes),
            "recall": self.recall.tolist(),
            "confusion": self.confusion.tolist(),
            "left_out": asdict(self.left_out),
            "mistakes": [asdict(p) for p in self.mistakes[:mistakes]],
        }
        if predictions:
            told["predictions"] = [asdict(p) for p in self.predictions]
        return told


def evaluate(
    store: FeatureStore,
    layer: str,
    *,
    classifier: Classifier = "svm",
    C: float | None = None,
    normalize: bool = True,
    test_size: float = 0.25,
    train_per_class: int | None = None,
    seed: int = 0,
    max_iter: int = 100,
) -> ProbeResult:
    """Train a linear classifier on part of a store's labelled images and test it on the others.

    Rows that are done and labelled take part, except those of a class with a single such row.
    They are divided class by class; `C` is chosen within the training part, on rows held out
    from it (see :class:`LinearProbe`), so that the test part is touched once, at the end.

    Parameters
    ----------
    store : FeatureStore
        With one label an image.
    layer : str
        A layer of the store, by name or alias; maps are read as vectors.
    classifier, C, normalize, max_iter :
        See :class:`LinearProbe`.
    test_size : float
        Share of each class to test on, above 0 and below 1.
    train_per_class : int, optional
        Instead of `test_size`: images of each class to train on, all others being for the test.
    seed : int
        The same seed divides the same store in the same way.

    Returns
    -------
    ProbeResult

    Raises
    ------
    ProbeError
        Labels are missing or of several classes an image, fewer than two classes are left, a
        parameter is out of its range, or features are not finite.
    LayerError
        The store has no such layer.
    """
    data = Labelled.of(store, layer)
    train, test = stratified_split(
        data.y, test_size=test_size, train_per_class=train_per_class, seed=seed
    )
    y, X = data.features(store, train)
    probe = LinearProbe(classifier, C=C, normalize=normalize, seed=seed, max_iter=max_iter)
    probe.fit(X, y)
    commonest = np.bincount(y).argmax()
    n_train = len(y)

    y, X = data.features(store, test)
    scores = probe.class_scores(X)
    named = scores.argmax(axis=1)
    best_two = np.partition(scores, -2, axis=1)[:, -2:]
    confusion = np.zeros((len(data.classes),) * 2, np.int64)
    np.add.at(confusion, (y, named), 1)
    names = data.classes
    predictions = tuple(
        Prediction(str(path), names[true], names[told], float(high - low))
        for path, true, told, (low, high) in zip(
            store.paths[data.rows[test]], y, named, best_two, strict=True
        )
    )
    return ProbeResult(
        layer=data.layer,
        classifier=classifier,
        normalize=normalize,
        C=float(probe.C_),
        seed=seed,
        classes=names,
        confusion=confusion,
        n_train=n_train,
        majority=float(np.mean(y == commonest)),
        left_out=data.left_out,
        predictions=predictions,
    )
