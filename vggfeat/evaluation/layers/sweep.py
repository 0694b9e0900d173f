"""Every layer of a store scored in the same way: where in a network generality lives."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.evaluation.layers.differences import CLASSIFIERS, Answers, Versus, between, from_best
from vggfeat.evaluation.layers.images import Images, shared_images
from vggfeat.evaluation.layers.knn import knn_answers
from vggfeat.evaluation.layers.naming import naming
from vggfeat.evaluation.layers.requested import check_memory, requested_layers
from vggfeat.evaluation.layers.scored import LayerScores, ScoredStore
from vggfeat.metrics import accuracy, mean_class_recall
from vggfeat.probe import LinearProbe
from vggfeat.probe.targets import Classifier
from vggfeat.progress import Progress, silent

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable
    from vggfeat.probe.division import Division

Positions = npt.NDArray[np.int64]
_log = logging.getLogger(__name__)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(LayerScores):
    """Scores of linear classifiers and of neighbours, of one or more stores on the same images.

    Attributes
    ----------
    scores : tuple of tuple of LayerScore
        Those of each store, in the order its layers run.
    from_best : tuple of tuple of Versus
        For each store, how its layers differ from its best one.
    from_first : tuple of tuple of Versus
        For each store but the first, how the first's layers differ from the same ones of it.
    """

    scores: tuple[tuple[LayerScore, ...], ...]
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


def sweep(
    store: FeatureTable,
    layers: Iterable[str] | None = None,
    *,
    classifier: Classifier = "svm",
    test_size: float | None = None,
    train_per_class: int | None = None,
    seed: int = 0,
    k: int = 10,
    progress: Progress = silent,
) -> list[LayerScore]:
    """Score every layer of a store with a linear classifier and with nearest neighbours.

    All layers, and both classifiers, learn from the same images and are tested on the same others:
    those of :func:`vggfeat.probe.evaluate`, whose scores these are. A layer with NaN or infinite
    features is left out with a warning; one that is the same for all images is scored, with a
    warning.

    Parameters
    ----------
    store : FeatureTable
        With one label an image.
    layers : iterable of str, optional
        Names or aliases; all layers of the store by default.
    classifier : {"svm", "logreg"}
        See :class:`~vggfeat.probe.LinearProbe`; it chooses its C within the training images.
    test_size, train_per_class, seed :
        See :func:`vggfeat.probe.division.divided`.
    k : int
        How many neighbours vote, see :func:`knn_accuracy`.
    progress : Progress
        Told of layers that are done with.

    Returns
    -------
    list of LayerScore
        In the order the layers run.

    Raises
    ------
    ProbeError
        Labels are missing or of several classes an image, fewer than two classes are left, a
        parameter is out of its range, a layer does not fit into memory, or none has finite
        features.
    LayerError
        The store has no such layer.
    """
    compared = compare(
        [store],
        layers,
        classifier=classifier,
        test_size=test_size,
        train_per_class=train_per_class,
        seed=seed,
        k=k,
        progress=progress,
    )
    return list(compared.scores[0])


def compare(
    stores: Sequence[FeatureTable],
    layers: Iterable[str] | None = None,
    *,
    classifier: Classifier = "svm",
    test_size: float | None = None,
    train_per_class: int | None = None,
    seed: int = 0,
    k: int = 10,
    progress: Progress = silent,
) -> Comparison:
    """Score the layers of several stores of the same images, as of other weights or networks.

    Parameters
    ----------
    stores : sequence of FeatureTable
        One or more. The images of the first are divided; those of the others follow by their
        paths.
    layers, classifier, test_size, train_per_class, seed, k, progress :
        See :func:`sweep`.

    Returns
    -------
    Comparison

    Raises
    ------
    ProbeError
        As for :func:`sweep`, or the stores' labelled images differ.
    LayerError
        A store has no such layer.
    """
    if k < 1:
        raise ProbeError(f"{k} neighbours; give at least 1, such as 10.")
    requested = [requested_layers(store, layers) for store in stores]
    images, division = shared_images(
        stores, test_size=test_size, train_per_class=train_per_class, seed=seed
    )
    train, test, groups = division.train, division.test, division.test_groups
    for part, names in zip(images, requested, strict=True):
        for layer in names:
            check_memory(part.store, layer, len(train), len(test))
    total = sum(map(len, requested))
    results: list[tuple[LayerScore, ...]] = []
    answers: list[Answers] = []
    for part, names in zip(images, requested, strict=True):
        scores: list[LayerScore] = []
        named: Answers = {name: {} for name in CLASSIFIERS}
        for layer in names:
            with naming(f"{layer} of {part.store.path}"):
                probe = LinearProbe(
                    classifier, validation=division.validation or 0.2, random_state=seed
                )
                score = _score(part, layer, division, probe, k, named)
            if score is not None:
                scores.append(score)
            progress("scoring", 1, total)
        if not scores:
            raise ProbeError(
                f"No layer of {part.store.path} has finite features: {', '.join(names)}. "
                "`vggfeat verify` lists damaged rows."
            )
        results.append(tuple(scores))
        answers.append(named)
    y = images[0].y
    return Comparison(
        classes=images[0].classes,
        n_train=len(train),
        n_test=len(test),
        majority=float(np.mean(y[test] == np.bincount(y[train]).argmax())),
        scores=tuple(results),
        from_best=tuple(from_best(y[test], named, groups) for named in answers),
        from_first=tuple(between(y[test], answers[0], named, groups) for named in answers[1:]),
        stores=tuple(ScoredStore.of(*pair) for pair in zip(stores, requested, strict=True)),
        settings={
            "classifier": classifier,
            "test_size": test_size,
            "train_per_class": train_per_class,
            "seed": seed,
            "k": k,
        },
        division=division,
    )


def _score(
    images: Images,
    layer: str,
    division: Division,
    probe: LinearProbe,
    k: int,
    answers: Answers,
) -> LayerScore | None:
    """Score a layer, and add what it named the test images to `answers`."""
    began = perf_counter()
    train, test = division.train, division.test
    try:
        X_train, X_test = images.reader(layer, train)[:], images.reader(layer, test)[:]
    except ProbeError as error:  # not finite
        _log.warning("%s is left out: %s", layer, error)
        return None
    if np.array_equal(X_train.min(axis=0), X_train.max(axis=0)):
        _log.warning(
            "%s of %s is the same for all training images; its scores are mere guesses.",
            layer,
            images.store.path,
        )
    y_train, y_test = images.y[train], images.y[test]
    named = probe.fit(X_train, y_train, groups=division.train_groups).predict(X_test)
    (voted,) = knn_answers(X_train, y_train, X_test, k=[k])
    answers["probe"][layer], answers["kNN"][layer] = named, voted
    return LayerScore(
        layer=layer,
        dimension=X_train.shape[1],
        accuracy=accuracy(y_test, named),
        mean_class_recall=mean_class_recall(y_test, named),
        knn_accuracy=accuracy(y_test, voted),
        n_train=len(train),
        n_test=len(test),
        C=float(probe.C_),
        seconds=perf_counter() - began,
    )
