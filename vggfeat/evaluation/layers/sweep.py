"""Every layer of a store scored in the same way: where in a network generality lives."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.evaluation.layers.comparison import Comparison, LayerPrecision, LayerScore, Sweep
from vggfeat.evaluation.layers.differences import (
    CLASSIFIERS,
    Outputs,
    between,
    by_accuracy,
    by_precision,
    from_best,
    samples_for,
)
from vggfeat.evaluation.layers.images import Images, shared_images
from vggfeat.evaluation.layers.knn import knn_answers, knn_scores
from vggfeat.evaluation.layers.naming import naming
from vggfeat.evaluation.layers.requested import check_memory, none_finite, requested_layers
from vggfeat.evaluation.layers.scored import ScoredStore
from vggfeat.metrics import APKind, SampledPrecision, accuracy, mean_class_recall
from vggfeat.metrics.clusters import numbered
from vggfeat.probe import LinearProbe
from vggfeat.probe.targets import Classifier
from vggfeat.progress import Progress, silent

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable
    from vggfeat.probe.division import Division

Positions = npt.NDArray[np.int64]
_log = logging.getLogger(__name__)


def sweep(
    store: FeatureTable,
    layers: Iterable[str] | None = None,
    *,
    classifier: Classifier = "svm",
    test_size: float | None = None,
    train_per_class: int | None = None,
    seed: int = 0,
    k: int = 10,
    class_weight: Literal["balanced"] | None = None,
    ap: APKind = "all-point",
    progress: Progress = silent,
) -> Sweep:
    """Score every layer of a store with a linear classifier and with nearest neighbours.

    All layers, and both classifiers, learn from the same images and are tested on the same others:
    those of :func:`vggfeat.probe.evaluate`, whose scores these are. A layer with NaN or infinite
    features is left out with a warning; one that is the same for all images is scored, with a
    warning.

    Parameters
    ----------
    store : FeatureTable
        With labels.
    layers : iterable of str, optional
        Names or aliases; all layers of the store by default.
    classifier : {"svm", "logreg"}
        See :class:`~vggfeat.probe.LinearProbe`; it chooses its C within the training images.
    test_size, train_per_class, seed :
        See :func:`vggfeat.probe.division.divided`.
    k : int
        How many neighbours vote, see :func:`knn_answers`; of several labels :func:`knn_scores`.
    class_weight : {"balanced"}, optional
        Let every class count the same, however many training images it has: in the linear
        classifier and, of one label an image, in the vote. (The rankings of several labels are the
        same with any such vote.)
    ap : str
        Of several labels: which average precision, see :func:`vggfeat.metrics.average_precision`.
    progress : Progress
        Told of layers that are done with.

    Returns
    -------
    Sweep
        A sequence of LayerScore, or of LayerPrecision where images have several labels, in the
        order the layers run.

    Raises
    ------
    ProbeError
        Labels are missing, fewer than two classes are left, a parameter is out of its range, a
        layer does not fit into memory, or none has finite features.
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
        class_weight=class_weight,
        ap=ap,
        progress=progress,
    )
    return Sweep(compared)


def compare(
    stores: Sequence[FeatureTable],
    layers: Iterable[str] | None = None,
    *,
    classifier: Classifier = "svm",
    test_size: float | None = None,
    train_per_class: int | None = None,
    seed: int = 0,
    k: int = 10,
    class_weight: Literal["balanced"] | None = None,
    ap: APKind = "all-point",
    progress: Progress = silent,
) -> Comparison:
    """Score the layers of several stores of the same images, as of other weights or networks.

    Parameters
    ----------
    stores : sequence of FeatureTable
        One or more. The images of the first are divided; those of the others follow by their
        paths.
    layers, classifier, test_size, train_per_class, seed, k, class_weight, ap, progress :
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
    first = images[0]
    measure = by_precision() if first.multi_label else by_accuracy(first.y[test], groups)
    total = sum(map(len, requested))
    if groups is not None and (first.multi_label or total > 1):
        numbered(groups, len(test))  # refused now rather than after the work
    for part, names in zip(images, requested, strict=True):
        for layer in names:
            check_memory(part.store, layer, len(train), len(test))
    given = _Given(classifier, class_weight, k, ap, seed, samples_for(max(map(len, requested))))
    results: list[tuple[LayerScore | LayerPrecision, ...]] = []
    outputs: list[Outputs] = []
    for part, names in zip(images, requested, strict=True):
        scores: list[LayerScore | LayerPrecision] = []
        found: Outputs = {name: {} for name in CLASSIFIERS}
        for layer in names:
            with naming(f"{layer} of {part.store.path}"):
                score = _score(part, layer, division, given, found)
            if score is not None:
                scores.append(score)
            progress("scoring", 1, total)
        if not scores:
            raise none_finite(part.store, names)
        results.append(tuple(scores))
        outputs.append(found)
    return Comparison(
        classes=first.classes,
        n_train=len(train),
        n_test=len(test),
        **first.guessing(train, test),
        scores=tuple(results),
        from_best=tuple(from_best(of, measure) for of in outputs),
        from_first=tuple(between(outputs[0], of, measure) for of in outputs[1:]),
        stores=tuple(ScoredStore.of(*pair) for pair in zip(stores, requested, strict=True)),
        settings={
            "classifier": classifier,
            "test_size": test_size,
            "train_per_class": train_per_class,
            "seed": seed,
            "k": k,
            "class_weight": class_weight,
            **({"ap": ap} if first.multi_label else {}),
        },
        division=division,
    )


class _Given(NamedTuple):
    classifier: Classifier
    class_weight: Literal["balanced"] | None
    k: int
    ap: APKind
    seed: int
    samples: int


def _score(
    images: Images, layer: str, division: Division, given: _Given, outputs: Outputs
) -> LayerScore | LayerPrecision | None:
    """Score a layer, and add what came out for the test images to `outputs`."""
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
    y_train, y_test = images.target(train), images.target(test)
    probe = LinearProbe(
        given.classifier,
        validation=division.validation or 0.2,
        class_weight=given.class_weight,
        random_state=given.seed,
    ).fit(X_train, y_train, groups=division.train_groups)
    if images.multi_label:
        (shares,) = knn_scores(X_train, y_train, X_test, k=[given.k])
        ranked, voted = (
            SampledPrecision.of(
                y_test,
                scores,
                given.ap,
                division.test_groups,
                samples=given.samples,
                seed=given.seed,
            )
            for scores in (probe.class_scores(X_test), shares)
        )
        outputs["probe"][layer], outputs["kNN"][layer] = ranked, voted
        return LayerPrecision(
            layer=layer,
            dimension=X_train.shape[1],
            mean_average_precision=ranked.value,
            knn_mean_average_precision=voted.value,
            n_train=len(train),
            n_test=len(test),
            C=tuple(np.asarray(probe.C_).tolist()),
            seconds=perf_counter() - began,
        )
    named = probe.predict(X_test)
    (voted,) = knn_answers(X_train, y_train, X_test, k=[given.k], class_weight=given.class_weight)
    outputs["probe"][layer], outputs["kNN"][layer] = named, voted
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
