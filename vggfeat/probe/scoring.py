"""How well a layer's features tell a store's classes apart, measured on images held out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.labels import as_floats
from vggfeat.metrics import APKind, reliability
from vggfeat.probe.classifier import LinearProbe
from vggfeat.probe.division import beside, divided, groups_of
from vggfeat.probe.leaks import find_leak
from vggfeat.probe.reading import fits
from vggfeat.probe.results import MultiLabelResult, Prediction, ProbeResult
from vggfeat.probe.targets import Classifier
from vggfeat.progress import Progress, silent
from vggfeat.solver.rows import Positions, Reader, Rows

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

Array = npt.NDArray[np.float64]

_log = logging.getLogger(__name__)


def evaluate(
    store: FeatureTable,
    layer: str,
    test: FeatureTable | None = None,
    *,
    classifier: Classifier = "svm",
    C: float | None = None,
    normalize: bool = True,
    class_weight: Literal["balanced"] | None = None,
    validation: float = 0.2,
    test_size: float | None = None,
    train_per_class: int | None = None,
    seed: int = 0,
    max_iter: int = 100,
    ap: APKind = "all-point",
    look_for_leaks: bool = False,
    calibrate: bool = False,
    memory: int | None = None,
    progress: Progress = silent,
) -> ProbeResult | MultiLabelResult:
    """Train a linear classifier on part of a store's labelled images and test it on the others.

    Rows that are done and labelled take part, except those of a class with a single such row.
    They are divided as the store's splits ``train``, ``val`` and ``test`` say, where it has them
    (then ``val`` chooses `C`, before both train the classifier); else class by class, those of
    several labels by their rarest one, and no group is on both sides
    (:mod:`vggfeat.probe.division`). `C` is chosen within the training part, on rows held out from
    it (see :class:`LinearProbe`), so that the test part is touched once, at the end.

    Of several labels an image, a class counts whose test and training images all have both: some
    that show it and some that do not. Images of which a class is not known are left out of that
    class alone, in training and in scoring.

    Parameters
    ----------
    store : FeatureTable
        With labels.
    layer : str
        A layer of the store, by name or alias; maps are read as vectors.
    test : FeatureTable, optional
        Test on the labelled images of this store, made alike, instead; all of `store`'s then train
        but those of a test split.
    classifier, C, normalize, class_weight, validation, max_iter :
        See :class:`LinearProbe`.
    test_size : float, optional
        Share of each class to draw for the test, above 0 and below 1. By default the store's own
        splits, else 0.25.
    train_per_class : int, optional
        Instead of `test_size`: images of each class to train on, all others being for the test.
    seed : int
        The same seed divides the same store in the same way.
    ap : str
        Of several labels: which average precision, see :func:`vggfeat.metrics.average_precision`.
    look_for_leaks : bool
        Look for test images that training has, too; see :mod:`vggfeat.probe.leaks`.
    calibrate : bool
        Let an SVM give probabilities, see :class:`LinearProbe`; then the result tells how far they
        can be believed. Those of logistic regression are always judged.
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
    if test is None:
        data, division = divided(
            store,
            layer,
            test_size=test_size,
            train_per_class=train_per_class,
            seed=seed,
            multi_label=True,
        )
        data = data.learnable(division.train, division.test)
        tested, positions, test_groups = data, division.test, division.test_groups
    else:
        if test_size is not None or train_per_class is not None:
            raise ProbeError(
                "The test images are another store's; a share or number to draw has no effect."
            )
        data, tested, division = beside(store, test, layer)
        positions, test_groups = np.arange(len(tested.rows)), groups_of(test, tested.rows)
    images = store if test is None else test
    train = division.train
    probe = LinearProbe(
        classifier,
        C=C,
        normalize=normalize,
        validation=division.validation or validation,
        class_weight=class_weight,
        random_state=seed,
        max_iter=max_iter,
        calibrate=calibrate,
    )
    rows, y = in_memory(data.reader(store, train), memory, data.layer), data.target(train)
    learn(
        probe,
        rows,
        y,
        groups=division.train_groups,
        name=data.layer,
        memory=memory,
        progress=progress,
    )
    test_rows = tested.reader(images, positions)
    scores = scores_of(probe, test_rows)
    paths = images.paths[tested.rows[positions]]
    leak = None
    if look_for_leaks:
        of_train, of_test = data.rows[train], tested.rows[positions]
        leak = find_leak(
            rows,
            test_rows,
            (store.paths[of_train], store.digests[of_train]),
            (paths, images.digests[of_test]),
        )
    common: dict[str, Any] = {
        "layer": data.layer,
        "classifier": classifier,
        "normalize": normalize,
        "class_weight": class_weight,
        "validation": validation,
        "seed": seed,
        "classes": data.classes,
        "n_train": len(train),
        "left_out": tested.left_out,
        "division": division,
        "leak": leak,
        "test_groups": test_groups,
        "calibration": probe.calibration_,
    }
    names, y_test = tuple(map(str, paths)), tested.y[positions]
    P = probe.probabilities_of(scores)
    if P is not None:
        truth = as_floats(y_test) if data.multi_label else y_test
        said = None if data.multi_label else scores.argmax(axis=1)
        common["reliability"] = reliability(truth, P, said)
    if data.multi_label:
        each = tuple(np.asarray(probe.C_).tolist())
        return MultiLabelResult(**common, C=each, paths=names, y=y_test, scores=scores, kind=ap)
    commonest = np.bincount(data.y[train]).argmax()
    return ProbeResult(
        **common,
        C=float(probe.C_),
        majority=float(np.mean(y_test == commonest)),
        **answers_of(data.classes, y_test, names, scores, P),
    )


def learn(
    probe: LinearProbe,
    rows: Reader,
    y: npt.NDArray[Any],
    *,
    groups: npt.ArrayLike | None = None,
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
    y, groups, name, progress :
        As for :meth:`LinearProbe.fit`.
    memory : int, optional
        As for :func:`evaluate`.
    """
    X = in_memory(rows, memory, name)
    fit = probe.fit if isinstance(X, np.ndarray) else probe.fit_reader
    return fit(X, y, groups=groups, name=name, progress=progress)


def in_memory(rows: Reader, memory: int | None = None, name: str | None = None) -> Any:
    """Return rows as an array where they fit, so that they are read once; else as they are."""
    if isinstance(rows, np.ndarray):
        return rows
    if fits(rows, memory):
        return rows[:]
    _log.info("%s do not fit into memory and are read block by block.", name or "Features")
    return rows


def scores_of(probe: LinearProbe, rows: Reader) -> Array:
    """Return :meth:`LinearProbe.class_scores` of rows that are read block by block, (n, K)."""
    blocks = Rows(rows).blocks(np.float32)
    return np.concatenate([probe.class_scores(block) for _, block in blocks])


def answers_of(
    classes: tuple[str, ...],
    y: Positions,
    paths: tuple[str, ...],
    scores: Array,
    probabilities: Array | None,
) -> dict[str, Any]:
    """Return what a score of one label an image tells beyond any other.

    Parameters
    ----------
    classes : tuple of str
    y : ndarray of int64, shape (n,)
        True classes by number.
    paths : tuple of str
    scores : ndarray, shape (n, K)
    probabilities : ndarray, shape (n, K), or None

    Returns
    -------
    dict
        `confusion` and `predictions` of a :class:`ProbeResult`.
    """
    named = scores.argmax(axis=1)
    best_two = np.partition(scores, -2, axis=1)[:, -2:]
    confusion = np.zeros((len(classes),) * 2, np.int64)
    np.add.at(confusion, (y, named), 1)
    sure: list[float | None] = [None] * len(named)
    if probabilities is not None:
        sure = probabilities[np.arange(len(named)), named].tolist()
    predictions = tuple(
        Prediction(path, classes[true], classes[said], float(high - low), probability)
        for path, true, said, (low, high), probability in zip(
            paths, y, named, best_two, sure, strict=True
        )
    )
    return {"confusion": confusion, "predictions": predictions}
