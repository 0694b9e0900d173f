"""How few images a class suffice: classifiers trained on one, two, four, ... of each.

The protocol. For each repetition the images of every class are put into an order drawn from the
seed. With S the largest number of shots, the first S of each class are there to be learnt from,
and all others of the repetition are its test part, the same for every number of shots, layer,
classifier and store. Trained with s shots, a classifier learns from the first s of each class: the
images of few shots are among those of more, so that a curve rises for the number of images and not
for which ones were drawn.

A class needs one image more than the largest number of shots. Numbers that the smallest class
cannot give are left out, rather than the class, so that all points of a curve tell the same classes
apart.

Linear classifiers choose their C within the few images they learn from: by as many folds as there
are shots, at most five, scored by mean class recall. A single image a class leaves none to choose
with; C then is 1 over the rows' variance, the middle of the grid
(:class:`~vggfeat.probe.LinearProbe`). Nothing is ever chosen on test images.

Of several labels an image, test images are those of ``vggfeat probe``, the same in all repetitions,
and images to learn from are drawn from its training part until every class has its shots; see
:class:`~vggfeat.evaluation.layers.drawing.DrawOfSeveral`. Each class is one against the rest and
chooses a C of its own by average precision; a class of which some fold holds no image out takes the
middle of the grid.

Scores are means over repetitions with Student's t interval, which says what other draws of
training images from this data set would change; test images are mostly shared among repetitions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from vggfeat.errors import ProbeError
from vggfeat.evaluation.layers.curves import LowShot, LowShotPrecision, LowShotScore
from vggfeat.evaluation.layers.drawing import Draw, DrawOfSeveral, sizes_of, usable_shots
from vggfeat.evaluation.layers.few import (
    CLASSIFIERS,
    LINEAR,
    Classifier,
    answers_from,
    scores_from,
)
from vggfeat.evaluation.layers.images import Images, shared_images
from vggfeat.evaluation.layers.naming import naming
from vggfeat.evaluation.layers.requested import check_memory, requested_layers
from vggfeat.evaluation.layers.scored import ScoredStore
from vggfeat.metrics import APKind, accuracy, mean_average_precision, mean_class_recall
from vggfeat.norms import unit_length
from vggfeat.progress import Progress, silent
from vggfeat.thread_pools import one_blas_thread

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

SHOTS = (1, 2, 4, 8, 16, 32)
"""Usual numbers of images a class."""

_FEW_ROWS = 2000

_log = logging.getLogger(__name__)


def low_shot(
    stores: Sequence[FeatureTable],
    layers: Iterable[str] | None = None,
    *,
    shots: Sequence[int] = SHOTS,
    classifiers: Sequence[Classifier] = ("svm", "mean"),
    repeats: int = 10,
    seed: int = 0,
    class_weight: Literal["balanced"] | None = None,
    ap: APKind = "all-point",
    progress: Progress = silent,
) -> LowShot:
    """Train on few images of each class and test on all that no training draw has touched.

    The head of this module says how images are divided and C is chosen.

    Parameters
    ----------
    stores : sequence of FeatureTable
        Of the same images; the first gives the order.
    layers : iterable of str, optional
        Names or aliases; all layers of each store by default.
    shots : sequence of int
        Images of each class to learn from, each at least 1; of several labels an image those that
        show it.
    classifiers : sequence of str
        Of :data:`CLASSIFIERS`.
    repeats : int
        How often training images are drawn, at least 2.
    seed : int
        Repetition r draws with the seed (`seed`, r): more repetitions keep the first ones.
    class_weight : {"balanced"}, optional
        Of several labels an image and linear classifiers: let the images that show a class count
        as much as those that do not. Of one label all classes have as many images, so that it
        would have no effect.
    ap : str
        Of several labels: which average precision, see :func:`vggfeat.metrics.average_precision`.
    progress : Progress
        Told of each time that a classifier has learnt and was tested, of all layers together.

    Returns
    -------
    LowShot

    Raises
    ------
    ProbeError
        Labels are missing, the stores' images differ, a parameter is out of its range or has no
        effect, no number of shots is left, a layer does not fit into memory or holds values that
        are not finite.
    LayerError
        A store has no such layer.
    """
    classifiers = tuple(dict.fromkeys(classifiers))
    _check(shots, classifiers, repeats)
    requested = [requested_layers(store, layers) for store in stores]
    images, division = shared_images(stores, seed=seed)
    several, y, classes = images[0].multi_label, images[0].y, images[0].classes
    if class_weight is not None:
        _check_weight(several, classifiers)
    apart = several or bool(division.splits)  # the test part is not what drawing leaves
    sizes = sizes_of(y, division.train if apart else np.arange(len(y)), len(classes))
    spare = 0 if apart else 1
    usable, too_many, smallest = usable_shots(sorted(set(shots)), sizes, classes, spare)
    for part, names in zip(images, requested, strict=True):
        for layer in names:
            check_memory(part.store, layer, usable[-1] * len(classes), len(y))
    total = repeats * sum(map(len, requested)) * len(classifiers) * len(usable)

    def tell() -> None:
        progress("learning", 1, total)

    kind = DrawOfSeveral if several else Draw
    draws: list[Draw | DrawOfSeveral] = [
        kind.of(y, usable[-1], (seed, number), division) for number in range(repeats)
    ]
    if not several:
        commonest = np.bincount(y, minlength=len(classes)).argmax()
        share = float(np.mean([np.mean(y[draw.test] == commonest) for draw in draws]))
        guessing: dict[str, float | None] = {"majority": share}
        lacking = sum(len(np.unique(y[draw.test])) < len(classes) for draw in draws)
        if lacking and not apart:
            _log.warning(
                "In %d of %d repetitions a class has no image left to test on, since all others of "
                "it are of groups that are learnt from; the mean class recall leaves it out.",
                lacking,
                repeats,
            )
    else:
        guessing = images[0].guessing(division.train, division.test)
    given = _Given(tuple(classifiers), usable, class_weight, ap, seed)
    # Threads that share the work of matrices of a few hundred rows wait longer than they work.
    few = usable[-1] * len(classes) <= _FEW_ROWS
    with one_blas_thread() if few else nullcontext():
        scores = tuple(
            tuple(score for layer in names for score in _curves(part, layer, draws, given, tell))
            for part, names in zip(images, requested, strict=True)
        )
    return LowShot(
        classes=classes,
        shots=usable,
        too_many=too_many,
        smallest=smallest,
        n_train=tuple(float(np.mean([len(d.train(count)) for d in draws])) for count in usable),
        n_test=round(float(np.mean([len(draw.test) for draw in draws]))),
        **guessing,
        repeats=repeats,
        seed=seed,
        scores=scores,
        stores=tuple(ScoredStore.of(*pair) for pair in zip(stores, requested, strict=True)),
        classifiers=classifiers,
        settings={"class_weight": class_weight, **({"ap": ap} if several else {})},
        division=division if apart or division.groups is not None else None,
    )


class _Given(NamedTuple):
    classifiers: tuple[Classifier, ...]
    shots: tuple[int, ...]
    class_weight: Literal["balanced"] | None
    ap: APKind
    seed: int


def _curves(
    images: Images,
    layer: str,
    draws: Sequence[Draw | DrawOfSeveral],
    given: _Given,
    tell: Callable[[], object],
) -> Iterator[LowShotScore | LowShotPrecision]:
    y = images.y
    X = unit_length(images.reader(layer, np.arange(len(y)))[:])
    curves: dict[tuple[Classifier, int], list[tuple[float, ...]]] = {
        (classifier, count): [] for classifier in given.classifiers for count in given.shots
    }
    for draw in draws:
        X_test, y_test = X[draw.test], images.target(draw.test)
        for (classifier, count), values in curves.items():
            learnt = X[draw.train(count)], draw.target(y, count)
            with naming(f"{layer}, {count} shots", quiet=count == 1):
                if images.multi_label:
                    scores = scores_from(
                        classifier, *learnt, X_test, count, given.seed, given.class_weight
                    )
                    values.append((mean_average_precision(y_test, scores, given.ap),))
                else:
                    named = answers_from(classifier, *learnt, X_test, count, given.seed)
                    values.append((mean_class_recall(y_test, named), accuracy(y_test, named)))
            tell()
    for (classifier, count), values in curves.items():
        each = tuple(zip(*values, strict=True))
        if images.multi_label:
            yield LowShotPrecision(layer, classifier, count, *each)
        else:
            yield LowShotScore(layer, classifier, count, *each)


def _check_weight(several: bool, classifiers: Sequence[str]) -> None:
    if not several:
        raise ProbeError(
            "Balanced weights have no effect here: every class has as many images to learn from. "
            "Leave out --class-weight."
        )
    if not set(LINEAR) & set(classifiers):
        raise ProbeError(
            f"Balanced weights have no effect on {' and '.join(classifiers)}. Leave out "
            f"--class-weight, or take one of the classifiers {', '.join(LINEAR)}."
        )


def _check(shots: Sequence[int], classifiers: Sequence[str], repeats: int) -> None:
    if not shots or min(shots) < 1:
        raise ProbeError(
            f"Shots are {list(shots)}; give numbers of images a class from 1 on, such as 1, 2, 4."
        )
    if not classifiers or not set(classifiers) <= set(CLASSIFIERS):
        raise ProbeError(
            f"Classifiers are {list(classifiers)}; known ones: {', '.join(CLASSIFIERS)}."
        )
    if repeats < 2:
        raise ProbeError(f"{repeats} repetitions; a mean and its deviation need at least 2.")
