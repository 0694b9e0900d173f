"""How well a layer's features tell a store's classes apart, measured on images held out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from vggfeat.metrics import APKind
from vggfeat.probe.classifier import LinearProbe
from vggfeat.probe.labelled import Labelled
from vggfeat.probe.reading import fits
from vggfeat.probe.results import MultiLabelResult, Prediction, ProbeResult
from vggfeat.probe.split import stratified_split
from vggfeat.probe.targets import Classifier
from vggfeat.progress import Progress, silent
from vggfeat.solver.rows import Reader, Rows

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

Array = npt.NDArray[np.float64]

_log = logging.getLogger(__name__)


def evaluate(
    store: FeatureTable,
    layer: str,
    *,
    classifier: Classifier = "svm",
    C: float | None = None,
    normalize: bool = True,
    class_weight: Literal["balanced"] | None = None,
    validation: float = 0.2,
    test_size: float = 0.25,
    train_per_class: int | None = None,
    seed: int = 0,
    max_iter: int = 100,
    ap: APKind = "all-point",
    memory: int | None = None,
    progress: Progress = silent,
) -> ProbeResult | MultiLabelResult:
    """Train a linear classifier on part of a store's labelled images and test it on the others.

    Rows that are done and labelled take part, except those of a class with a single such row.
    They are divided class by class, those of several labels by their rarest one; `C` is chosen
    within the training part, on rows held out from it (see :class:`LinearProbe`), so that the
    test part is touched once, at the end.

    Of several labels an image, a class counts whose test and training images all have both: some
    that show it and some that do not. Images of which a class is not known are left out of that
    class alone, in training and in scoring.

    Parameters
    ----------
    store : FeatureTable
        With labels.
    layer : str
        A layer of the store, by name or alias; maps are read as vectors.
    classifier, C, normalize, class_weight, validation, max_iter :
        See :class:`LinearProbe`.
    test_size : float
        Share of each class to test on, above 0 and below 1.
    train_per_class : int, optional
        Instead of `test_size`: images of each class to train on, all others being for the test.
    seed : int
        The same seed divides the same store in the same way.
    ap : str
        Of several labels: which average precision, see :func:`vggfeat.metrics.average_precision`.
    memory : int, optional
        Bytes that training may take for features; half of what is free by default. Where they
        are more, they are read block by block, again and again; the result is the same.
    progress : Progress
        See :meth:`LinearProbe.fit`.

    Returns
    -------
    ProbeResult, or MultiLabelResult where images have several labels

    Raises
    ------
    ProbeError
        Labels are missing, fewer than two classes are left, a parameter is out of its range, or
        features are not finite.
    LayerError
        The store has no such layer.
    """
    data = Labelled.of(store, layer, multi_label=True)
    train, test = stratified_split(
        data.keys, test_size=test_size, train_per_class=train_per_class, seed=seed
    )
    data = data.learnable(train, test)
    probe = LinearProbe(
        classifier,
        C=C,
        normalize=normalize,
        validation=validation,
        class_weight=class_weight,
        seed=seed,
        max_iter=max_iter,
    )
    rows, y = data.reader(store, train), data.target(train)
    learn(probe, rows, y, name=data.layer, memory=memory, progress=progress)
    scores = scores_of(probe, data.reader(store, test))
    paths = tuple(map(str, store.paths[data.rows[test]]))
    common: dict[str, Any] = {
        "layer": data.layer,
        "classifier": classifier,
        "normalize": normalize,
        "class_weight": class_weight,
        "validation": validation,
        "seed": seed,
        "classes": data.classes,
        "n_train": len(train),
        "left_out": data.left_out,
    }
    if data.multi_label:
        each = tuple(np.asarray(probe.C_).tolist())
        return MultiLabelResult(
            **common, C=each, paths=paths, y=data.y[test], scores=scores, kind=ap
        )
    return ProbeResult(**common, C=float(probe.C_), **_answers(data, train, test, paths, scores))


def learn(
    probe: LinearProbe,
    rows: Reader,
    y: npt.NDArray[Any],
    *,
    name: str | None = None,
    memory: int | None = None,
    progress: Progress = silent,
) -> LinearProbe:
    """Train on rows, in memory or, where they do not fit, block by block.

    Parameters
    ----------
    probe : LinearProbe
        To be trained; it is returned.
    rows : Reader of shape (n, d)
        Features.
    y, name, progress :
        As for :meth:`LinearProbe.fit`.
    memory : int, optional
        As for :func:`evaluate`.
    """
    if fits(rows, memory):
        return probe.fit(rows[:], y, name=name, progress=progress)
    _log.info("%s do not fit into memory and are read block by block.", name or "Features")
    return probe.fit_reader(rows, y, name=name, progress=progress)


def scores_of(probe: LinearProbe, rows: Reader) -> Array:
    """Return :meth:`LinearProbe.class_scores` of rows that are read block by block, (n, K)."""
    blocks = Rows(rows).blocks(np.float32)
    return np.concatenate([probe.class_scores(block) for _, block in blocks])


def _answers(
    data: Labelled,
    train: npt.NDArray[np.int64],
    test: npt.NDArray[np.int64],
    paths: tuple[str, ...],
    scores: Array,
) -> dict[str, Any]:
    """Return what a score of one label an image tells beyond any other."""
    y, names = data.y[test], data.classes
    named = scores.argmax(axis=1)
    best_two = np.partition(scores, -2, axis=1)[:, -2:]
    confusion = np.zeros((len(names),) * 2, np.int64)
    np.add.at(confusion, (y, named), 1)
    predictions = tuple(
        Prediction(path, names[true], names[predicted], float(high - low))
        for path, true, predicted, (low, high) in zip(paths, y, named, best_two, strict=True)
    )
    commonest = np.bincount(data.y[train]).argmax()
    majority = float(np.mean(y == commonest))
    return {"confusion": confusion, "majority": majority, "predictions": predictions}
