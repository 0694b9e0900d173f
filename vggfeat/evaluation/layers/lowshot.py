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

Scores are means over repetitions with Student's t interval, which says what other draws of
training images from this data set would change; test images are mostly shared among repetitions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.evaluation.layers.images import Images, shared_images
from vggfeat.evaluation.layers.knn import knn_answers
from vggfeat.evaluation.layers.naming import naming
from vggfeat.evaluation.layers.requested import check_memory, requested_layers
from vggfeat.evaluation.layers.scored import ScoredStore
from vggfeat.metrics import Interval, accuracy, mean_class_recall, mean_interval
from vggfeat.norms import unit_length
from vggfeat.probe import LinearProbe
from vggfeat.probe.division import Division
from vggfeat.progress import Progress, silent

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]
Classifier = Literal["svm", "logreg", "mean", "nearest"]
CLASSIFIERS: tuple[Classifier, ...] = get_args(Classifier)
"""What learns from the few images.

``"svm"`` and ``"logreg"`` are :class:`LinearProbe`'s. ``"mean"`` takes the class whose mean of
L2-normalised features is nearest to the normalised feature (Snell et al., "Prototypical Networks
for Few-shot Learning", NeurIPS 2017; normalised as by Wang et al., "SimpleShot", arXiv 1911.04623).
``"nearest"`` takes the class of the image that is most similar by the cosine."""

SHOTS = (1, 2, 4, 8, 16, 32)
"""Usual numbers of images a class."""

_MOST_FOLDS = 5
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LowShotScore:
    """One point of a curve.

    Attributes
    ----------
    layer : str
        Canonical name.
    classifier : str
        One of :data:`CLASSIFIERS`.
    shots : int
        Images of each class that it learnt from.
    recalls, accuracies : tuple of float
        Mean class recall and accuracy on the test part of each repetition, in 0..1.
    """

    layer: str
    classifier: Classifier
    shots: int
    recalls: tuple[float, ...]
    accuracies: tuple[float, ...]

    @property
    def mean_class_recall(self) -> Interval:
        """Over the repetitions, with a 95 % interval."""
        return mean_interval(self.recalls)

    @property
    def accuracy(self) -> Interval:
        """Over the repetitions, with a 95 % interval."""
        return mean_interval(self.accuracies)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "layer": self.layer,
            "classifier": self.classifier,
            "shots": self.shots,
            "mean_class_recall": asdict(self.mean_class_recall),
            "accuracy": asdict(self.accuracy),
            "recalls": list(self.recalls),
            "accuracies": list(self.accuracies),
        }


@dataclass(frozen=True, slots=True)
class LowShot:
    """Curves of one or more stores, all on the same images.

    Attributes
    ----------
    classes : tuple of str
        Names of the K classes.
    shots, too_many : tuple of int
        Numbers of images a class that were used, and those that the smallest class cannot give.
    smallest : tuple of (str, int)
        The smallest class and its number of images.
    n_test : int
        Test images of each repetition.
    repeats, seed : int
        How often training images were drawn, and from which seed.
    scores : tuple of tuple of LowShotScore
        Those of each store: by layer in the order they run, classifier and shots.
    stores : tuple of ScoredStore
        The stores, as `scores` has them.
    classifiers : tuple of str
        What learnt, of :data:`CLASSIFIERS`.
    division : Division or None
        Whose splits or groups say what may be learnt from and what is tested; None without such.
    """

    classes: tuple[str, ...]
    shots: tuple[int, ...]
    too_many: tuple[int, ...]
    smallest: tuple[str, int]
    n_test: int
    repeats: int
    seed: int
    scores: tuple[tuple[LowShotScore, ...], ...]
    stores: tuple[ScoredStore, ...]
    classifiers: tuple[Classifier, ...]
    division: Division | None = field(default=None, compare=False)

    @property
    def chance(self) -> float:
        """Mean class recall of guessing: 1 / K."""
        return 1 / len(self.classes)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "classes": list(self.classes),
            "shots": list(self.shots),
            "left_out_shots": list(self.too_many),
            "classifiers": list(self.classifiers),
            "repeats": self.repeats,
            "seed": self.seed,
            "n_test": self.n_test,
            "division": None if self.division is None else self.division.to_json(),
            "chance": self.chance,
            "stores": [
                {
                    **store.to_json(),
                    "scores": [
                        {**one.to_json(), "pooling": store.layers[one.layer]} for one in scores
                    ],
                }
                for store, scores in zip(self.stores, self.scores, strict=True)
            ],
        }


def low_shot(
    stores: Sequence[FeatureTable],
    layers: Iterable[str] | None = None,
    *,
    shots: Sequence[int] = SHOTS,
    classifiers: Sequence[Classifier] = ("svm", "mean"),
    repeats: int = 10,
    seed: int = 0,
    progress: Progress = silent,
) -> LowShot:
    """Train on few images of each class and test on all that no training draw has touched.

    The head of this module says how images are divided and C is chosen.

    Parameters
    ----------
    stores : sequence of FeatureTable
        Of the same images, with one label each; the first gives the order.
    layers : iterable of str, optional
        Names or aliases; all layers of each store by default.
    shots : sequence of int
        Images of each class to learn from, each at least 1.
    classifiers : sequence of str
        Of :data:`CLASSIFIERS`.
    repeats : int
        How often training images are drawn, at least 2.
    seed : int
        Repetition r draws with the seed (`seed`, r): more repetitions keep the first ones.
    progress : Progress
        Told of repetitions, of all layers together.

    Returns
    -------
    LowShot

    Raises
    ------
    ProbeError
        Labels are missing or of several classes an image, the stores' images differ, a parameter
        is out of its range, no number of shots is left, a layer does not fit into memory or holds
        values that are not finite.
    LayerError
        A store has no such layer.
    """
    classifiers = tuple(dict.fromkeys(classifiers))
    _check(shots, classifiers, repeats)
    requested = [requested_layers(store, layers) for store in stores]
    images, division = shared_images(stores, seed=seed)
    y, classes = images[0].y, images[0].classes
    sizes = np.bincount(y[division.train] if division.splits else y, minlength=len(classes))
    spare = 0 if division.splits else 1
    usable, too_many, smallest = _usable(sorted(set(shots)), sizes, classes, spare)
    for part, names in zip(images, requested, strict=True):
        for layer in names:
            check_memory(part.store, layer, usable[-1] * len(classes), len(y))
    total = repeats * sum(map(len, requested))

    def tell() -> None:
        progress("repeating", 1, total)

    draws = [Draw.of(y, usable[-1], (seed, number), division) for number in range(repeats)]
    scores = tuple(
        tuple(
            score
            for layer in names
            for score in _curves(part, layer, draws, usable, classifiers, seed, tell)
        )
        for part, names in zip(images, requested, strict=True)
    )
    return LowShot(
        classes=classes,
        shots=usable,
        too_many=too_many,
        smallest=smallest,
        n_test=len(draws[0].test),
        repeats=repeats,
        seed=seed,
        scores=scores,
        stores=tuple(ScoredStore.of(*pair) for pair in zip(stores, requested, strict=True)),
        classifiers=classifiers,
        division=division if division.splits or division.groups is not None else None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """One repetition's images.

    Attributes
    ----------
    order : ndarray of int64, shape (K, S)
        The S images of each class to learn from, in the order they are taken.
    test : ndarray of int64
        All others, ascending.
    """

    order: Positions
    test: Positions

    @classmethod
    def of(
        cls, y: Positions, most: int, seed: int | Sequence[int], division: Division | None = None
    ) -> Draw:
        """Draw `most` images of each class, 0..K-1, which must have as many.

        Where images have splits, those of the training part are drawn and those of the test part
        are for the test; otherwise all that are not drawn, nor of a group that was.
        """
        own = division is not None and bool(division.splits)
        pool = division.train if division is not None and own else np.arange(len(y))
        permuted = pool[np.random.default_rng(seed).permutation(len(pool))]
        # Stable, so that the images of each class keep their drawn order.
        by_class = permuted[np.argsort(y[permuted], kind="stable")]
        starts = np.concatenate([[0], np.cumsum(np.bincount(y[pool]))[:-1]])
        order = by_class[starts[:, None] + np.arange(most)]  # (K, S)
        if division is not None and own:
            return cls(order, division.test)
        test = np.setdiff1d(np.arange(len(y)), order)
        if division is not None and division.groups is not None:
            test = test[~np.isin(division.groups[test], division.groups[order])]
            if not len(test):
                raise ProbeError(
                    "No image is left to test on that is of another group than those that are "
                    "learnt from. Ask for fewer shots, or add groups."
                )
        return cls(order, test)

    def train(self, shots: int) -> Positions:
        """Return the images to learn from, ascending."""
        return np.sort(self.order[:, :shots], axis=None)


def _curves(
    images: Images,
    layer: str,
    draws: Sequence[Draw],
    shots: Sequence[int],
    classifiers: Sequence[Classifier],
    seed: int,
    tell: Callable[[], object],
) -> Iterator[LowShotScore]:
    y = images.y
    X = unit_length(images.reader(layer, np.arange(len(y)))[:])
    curves: dict[tuple[Classifier, int], list[tuple[float, float]]] = {
        (classifier, count): [] for classifier in classifiers for count in shots
    }
    for draw in draws:
        X_test, y_test = X[draw.test], y[draw.test]
        for (classifier, count), values in curves.items():
            train = draw.train(count)
            with naming(f"{layer}, {count} shots", quiet=count == 1):
                named = _answers(classifier, X[train], y[train], X_test, count, seed)
            values.append((mean_class_recall(y_test, named), accuracy(y_test, named)))
        tell()
    for (classifier, count), values in curves.items():
        recalls, accuracies = zip(*values, strict=True)
        yield LowShotScore(layer, classifier, count, recalls, accuracies)


def _answers(
    classifier: Classifier, X: Any, y: Positions, X_test: Any, shots: int, seed: int
) -> npt.NDArray[Any]:
    if classifier == "nearest":
        return np.asarray(knn_answers(X, y, X_test, k=[1])[0])
    if classifier == "mean":
        means = np.stack([X[y == k].mean(axis=0, dtype=np.float64) for k in range(y.max() + 1)])
        # Distances less the length of the row itself, which is the same for all means.
        return np.asarray((np.square(means).sum(axis=1) - 2 * X_test @ means.T).argmin(axis=1))
    folds = min(max(shots, 2), _MOST_FOLDS)
    return LinearProbe(classifier, validation=folds, random_state=seed).fit(X, y).predict(X_test)


def _usable(
    shots: Sequence[int], sizes: npt.NDArray[np.int64], classes: Sequence[str], spare: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[str, int]]:
    """Divide numbers of shots into those that every class can give, and others."""
    at = int(sizes.argmin())
    smallest = classes[at], int(sizes[at])
    usable = tuple(count for count in shots if count <= sizes[at] - spare)
    too_many = tuple(count for count in shots if count > sizes[at] - spare)
    if not usable:
        raise ProbeError(
            f"The smallest class, {smallest[0]!r}, has {smallest[1]} images; with {spare} left to "
            f"test on it gives up to {smallest[1] - spare} to learn from, and the fewest requested "
            f"are {shots[0]}. Ask for fewer shots, or add images of it."
        )
    return usable, too_many, smallest


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
