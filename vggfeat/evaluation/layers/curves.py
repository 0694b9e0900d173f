"""Scores over the number of images of each class that were learnt from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from vggfeat.evaluation.layers.few import Classifier
from vggfeat.evaluation.layers.scored import ClassScores, ScoredStore
from vggfeat.metrics import Interval, mean_interval
from vggfeat.probe.division import Division
from vggfeat.showing import Drawn


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
    def score(self) -> Interval:
        """What curves show: the mean class recall."""
        return self.mean_class_recall

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
class LowShotPrecision:
    """One point of a curve, of several labels an image.

    Attributes
    ----------
    layer : str
        Canonical name.
    classifier : str
        One of :data:`CLASSIFIERS`.
    shots : int
        Images that show each class that it learnt from.
    precisions : tuple of float
        Mean average precision on the test part of each repetition, in 0..1.
    """

    layer: str
    classifier: Classifier
    shots: int
    precisions: tuple[float, ...]

    @property
    def score(self) -> Interval:
        """What curves show: the mean average precision."""
        return self.mean_average_precision

    @property
    def mean_average_precision(self) -> Interval:
        """Over the repetitions, with a 95 % interval."""
        return mean_interval(self.precisions)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "layer": self.layer,
            "classifier": self.classifier,
            "shots": self.shots,
            "mean_average_precision": asdict(self.mean_average_precision),
            "precisions": list(self.precisions),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LowShot(ClassScores, Drawn):
    """Curves of one or more stores, all on the same images.

    Attributes
    ----------
    shots, too_many : tuple of int
        Numbers of images a class that were used, and those that the smallest class cannot give.
    smallest : tuple of (str, int)
        The smallest class and its number of images.
    n_train : tuple of float
        How many images are learnt from with each number of shots, as the mean over the repetitions.
    n_test : int
        Test images of each repetition; of groups, whose sizes differ, the mean.
    repeats, seed : int
        How often training images were drawn, and from which seed.
    scores : tuple of tuple of LowShotScore, or of LowShotPrecision of several labels an image
        Those of each store: by layer in the order they run, classifier and shots.
    stores : tuple of ScoredStore
        The stores, as `scores` has them.
    classifiers : tuple of str
        What learnt, of :data:`CLASSIFIERS`.
    division : Division or None
        Whose splits or groups say what may be learnt from and what is tested; of several labels an
        image also one that was drawn. None where each repetition draws its own test images.
    """

    shown_as: ClassVar = "lowshot"
    shots: tuple[int, ...]
    too_many: tuple[int, ...]
    smallest: tuple[str, int]
    n_train: tuple[float, ...]
    n_test: int
    repeats: int
    seed: int
    scores: tuple[tuple[LowShotScore | LowShotPrecision, ...], ...]
    stores: tuple[ScoredStore, ...]
    classifiers: tuple[Classifier, ...]
    division: Division | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            **self.settings,
            "multi_label": self.multi_label,
            "classes": list(self.classes),
            "shots": list(self.shots),
            "left_out_shots": list(self.too_many),
            "classifiers": list(self.classifiers),
            "repeats": self.repeats,
            "seed": self.seed,
            "n_train": list(self.n_train),
            "n_test": self.n_test,
            "division": None if self.division is None else self.division.to_json(),
            "chance": self.chance,
            "majority": self.majority,
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
