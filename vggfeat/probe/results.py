"""What a probe scored on images held out: of one label an image, or of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.labels import ABSENT, PRESENT, UNKNOWN, as_floats, to_signs
from vggfeat.metrics import (
    APKind,
    Difference,
    Disagreement,
    Interval,
    Reliability,
    average_precisions,
    compare_answers,
    compare_rankings,
    mean_interval,
)
from vggfeat.probe.calibration import Calibration
from vggfeat.probe.division import Division
from vggfeat.probe.labelled import LeftOut
from vggfeat.probe.leaks import Leak
from vggfeat.probe.targets import Classifier, boundary
from vggfeat.showing import Drawn, Shown


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
    probability : float or None
        Of the predicted class, in 0..1, where the classifier gives probabilities.
    """

    path: str
    true: str
    predicted: str
    margin: float
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Mistake:
    """A test image that falls on the wrong side of one of its several labels.

    Attributes
    ----------
    path : str
        The image, as its store names it.
    label : str
        The class.
    present : bool
        Whether the image shows it; the classifier said the opposite.
    margin : float
        By how much its score is on the wrong side, above 0.
    """

    path: str
    label: str
    present: bool
    margin: float


@dataclass(frozen=True, eq=False, kw_only=True)
class HeldOut(Shown):
    """What every score of :func:`evaluate` tells.

    Attributes
    ----------
    layer : str
        Canonical name.
    classifier, normalize, class_weight, validation :
        Of the :class:`LinearProbe` that was tested.
    C : float, or tuple of float
        The value chosen; of several labels, one a class.
    seed : int
        Of the split and of the choice of `C`.
    classes : tuple of str
        Names of the K classes.
    n_train : int
        Number of training images.
    left_out : LeftOut
        What took no part.
    division : Division or None
        How images were divided, as far as that is known.
    leak : Leak or None
        Test images that training has, too; None where nobody looked.
    test_groups : ndarray of int64, shape (m,), or None
        The group of each test image, in the order of predictions; None without groups.
    reliability : Reliability or None
        How far its probabilities can be believed, on the test images; None without such.
    calibration : Calibration or None
        What made them of an SVM's decision values.
    """

    shown_as: ClassVar = "probe"
    layer: str
    classifier: Classifier
    normalize: bool
    C: float | tuple[float, ...]
    seed: int
    classes: tuple[str, ...]
    n_train: int
    left_out: LeftOut
    class_weight: Literal["balanced"] | None = None
    validation: float = 0.2
    division: Division | None = None
    leak: Leak | None = None
    test_groups: npt.NDArray[np.int64] | None = None
    reliability: Reliability | None = None
    calibration: Calibration | None = None

    @property
    def n_test(self) -> int:
        """Number of test images."""
        raise NotImplementedError

    @property
    def measures(self) -> dict[str, float]:
        """What is measured, by name, in 0..1; what matters most comes first."""
        raise NotImplementedError

    @property
    def C_text(self) -> str:
        """The value chosen, or the range of those of several labels."""
        values = np.atleast_1d(self.C)
        low, high = f"{values.min():.4g}", f"{values.max():.4g}"
        return low if low == high else f"{low} to {high}, one a class"

    def summary(self) -> dict[str, Any]:
        """Return the layer, `C` and the measures, JSON-ready."""
        return {"layer": self.layer, "C": np.asarray(self.C).tolist(), **self.measures}

    def _protocol(self) -> dict[str, Any]:
        return {
            "layer": self.layer,
            "classifier": self.classifier,
            "normalize": self.normalize,
            "class_weight": self.class_weight,
            "validation": self.validation,
            "C": np.asarray(self.C).tolist(),
            "seed": self.seed,
            "n_train": self.n_train,
            "n_test": self.n_test,
            "division": None if self.division is None else self.division.to_json(),
            "leak": None if self.leak is None else self.leak.to_json(),
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            "reliability": None if self.reliability is None else self.reliability.to_json(),
            "classes": list(self.classes),
            "left_out": asdict(self.left_out) | {"classes": list(self.left_out.classes)},
            **self.measures,
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class ProbeResult(HeldOut, Drawn):
    """A layer's score where images have one label each.

    Attributes
    ----------
    C : float
        The value chosen.
    confusion : ndarray of int64, shape (K, K)
        Number of test images by true class (row) and predicted class (column).
    majority : float
        Share of test images that are of the commonest training class: the accuracy of always
        naming that one.
    predictions : tuple of Prediction
        One for each test image, in the store's order.
    """

    C: float
    confusion: npt.NDArray[np.int64]
    majority: float
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
        """Share of each class's test images that are named rightly; (K,), in 0..1, NaN for none."""
        sizes = self.confusion.sum(axis=1)
        return np.where(sizes, np.diag(self.confusion) / np.maximum(sizes, 1), np.nan)

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """Share of right ones among what is named so, by class; (K,), NaN where nothing is."""
        named = self.confusion.sum(axis=0)
        return np.where(named, np.diag(self.confusion) / np.maximum(named, 1), np.nan)

    @property
    def f1(self) -> npt.NDArray[np.float64]:
        """Harmonic mean of precision and recall, by class; (K,), NaN where the class is nowhere."""
        both = self.confusion.sum(axis=0) + self.confusion.sum(axis=1)
        return np.where(both, 2 * np.diag(self.confusion) / np.maximum(both, 1), np.nan)

    @property
    def support(self) -> npt.NDArray[np.int64]:
        """Test images of each class; (K,)."""
        return np.asarray(self.confusion.sum(axis=1))

    @property
    def macro_f1(self) -> float:
        """Mean of :attr:`f1` over the classes; its micro average is the accuracy."""
        return float(np.nanmean(self.f1))

    @property
    def mean_class_recall(self) -> float:
        """Mean of :attr:`recall` over the classes tested, also known as balanced accuracy."""
        return float(np.nanmean(self.recall))

    @property
    def measures(self) -> dict[str, float]:
        """Mean class recall and accuracy."""
        return {"mean_class_recall": self.mean_class_recall, "accuracy": self.accuracy}

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
            Whether the prediction for every test image is among them.
        """
        payload = self._protocol() | {
            "chance": self.chance,
            "majority": self.majority,
            "macro_f1": self.macro_f1,
            "recall": _shares(self.recall),
            "precision": _shares(self.precision),
            "f1": _shares(self.f1),
            "support": self.support.tolist(),
            "confusion": self.confusion.tolist(),
            "mistakes": [asdict(p) for p in self.mistakes[:mistakes]],
        }
        if predictions:
            payload["predictions"] = [asdict(p) for p in self.predictions]
        return payload

    def against(self, other: ProbeResult) -> Disagreement:
        """Compare with another layer's or network's score, this one being the first.

        Raises
        ------
        ProbeError
            The test images differ.
        """
        ours, theirs = ([(p.path, p.true) for p in one.predictions] for one in (self, other))
        _check_same(ours == theirs)
        true = [p.true for p in self.predictions]
        first, second = ([p.predicted for p in one.predictions] for one in (self, other))
        return compare_answers(true, first, second, self.test_groups)


@dataclass(frozen=True, eq=False, kw_only=True)
class MultiLabelResult(HeldOut):
    """A layer's score where images have several labels.

    Attributes
    ----------
    C : tuple of float
        The value chosen for each class.
    paths : tuple of str
        The test images, as the store names them.
    y : ndarray of int8, shape (n_test, K)
        Their labels: 1 present, 0 absent, -1 left out.
    scores : ndarray of float64, shape (n_test, K)
        See :meth:`LinearProbe.class_scores`.
    kind : str
        Of average precision, see :func:`vggfeat.metrics.average_precision`.
    """

    C: tuple[float, ...]
    paths: tuple[str, ...]
    y: npt.NDArray[np.int8]
    scores: npt.NDArray[np.float64]
    kind: APKind = "all-point"

    @property
    def n_test(self) -> int:
        """Number of test images."""
        return len(self.paths)

    @cached_property
    def average_precision(self) -> npt.NDArray[np.float64]:
        """Average precision of each class; (K,), in 0..1."""
        return average_precisions(as_floats(self.y), self.scores, self.kind)

    @property
    def mean_average_precision(self) -> float:
        """Mean of :attr:`average_precision`, known as mAP."""
        return float(self.average_precision.mean())

    @property
    def measures(self) -> dict[str, float]:
        """Mean average precision."""
        return {"mean_average_precision": self.mean_average_precision}

    @cached_property
    def decisions(self) -> npt.NDArray[np.int64]:
        """Right finds, false alarms and misses at the classifiers' own boundary; (3, K)."""
        said = self.scores > boundary(self.classifier)
        shown, absent = self.y == PRESENT, self.y == ABSENT
        return np.stack([(said & shown).sum(0), (said & absent).sum(0), (~said & shown).sum(0)])

    @property
    def f1(self) -> npt.NDArray[np.float64]:
        """Harmonic mean of precision and recall of the decisions, by class; (K,)."""
        right, false, missed = self.decisions
        return np.asarray(2 * right / (2 * right + false + missed))

    @property
    def macro_f1(self) -> float:
        """Mean of :attr:`f1` over the classes."""
        return float(np.mean(self.f1))

    @property
    def micro_f1(self) -> float:
        """F1 of all decisions together."""
        right, false, missed = self.decisions.sum(axis=1).tolist()
        return float(2 * right / max(2 * right + false + missed, 1))

    @property
    def present(self) -> npt.NDArray[np.int64]:
        """Number of test images that show each class; (K,)."""
        return np.asarray((self.y == PRESENT).sum(axis=0))

    @property
    def chance(self) -> float:
        """Mean average precision of scores that tell nothing: the share of images that show it."""
        return float(np.mean(self.present / (self.y != UNKNOWN).sum(axis=0)))

    @cached_property
    def mistakes(self) -> tuple[Mistake, ...]:
        """Test images on the wrong side of a class, the most confident mistake first."""
        below = boundary(self.classifier) - self.scores
        beyond = below * to_signs(self.y)  # above 0: the wrong side
        mistakes = [
            Mistake(
                self.paths[i], self.classes[k], bool(self.y[i, k] == PRESENT), float(beyond[i, k])
            )
            for i, k in zip(*np.nonzero(beyond > 0), strict=True)
        ]
        return tuple(sorted(mistakes, key=lambda one: (-one.margin, one.path, one.label)))

    def mistakes_of(self, label: str, *, present: bool) -> tuple[Mistake, ...]:
        """Return those of :attr:`mistakes` about one class, in images that show it or do not."""
        return tuple(one for one in self.mistakes if (one.label, one.present) == (label, present))

    def to_json(self, *, mistakes: int = 5, predictions: bool = False) -> dict[str, Any]:
        """Return JSON-ready values.

        Parameters
        ----------
        mistakes : int
            At most so many of each class's :attr:`mistakes`, in images that show it as in
            images that do not.
        predictions : bool
            Whether the scores of every test image are told.
        """
        payload = self._protocol() | {
            "ap": self.kind,
            "chance": self.chance,
            "average_precision": self.average_precision.tolist(),
            "present": self.present.tolist(),
            "macro_f1": self.macro_f1,
            "micro_f1": self.micro_f1,
            "f1": _shares(self.f1),
            "mistakes": {
                name: [
                    {"path": one.path, "present": one.present, "margin": one.margin}
                    for present in (True, False)
                    for one in self.mistakes_of(name, present=present)[:mistakes]
                ]
                for name in self.classes
            },
        }
        if predictions:
            rows = zip(self.paths, self.y.tolist(), self.scores.tolist(), strict=True)
            payload["predictions"] = [
                {"path": path, "labels": labels, "scores": scores} for path, labels, scores in rows
            ]
        return payload

    def against(self, other: MultiLabelResult) -> Difference:
        """Compare with another layer's or network's score, this one being the first.

        Raises
        ------
        ProbeError
            The test images differ.
        """
        _check_same(
            (self.paths, self.classes) == (other.paths, other.classes)
            and np.array_equal(self.y, other.y)
        )
        return compare_rankings(
            as_floats(self.y),
            self.scores,
            other.scores,
            self.kind,
            self.test_groups,
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True, eq=False)
class RepeatedResult(Shown):
    """Scores of one layer on random splits of one store.

    Attributes
    ----------
    splits : sequence of ProbeResult or MultiLabelResult
        Two or more, of different seeds.
    """

    shown_as: ClassVar = "repeated"
    splits: Sequence[ProbeResult | MultiLabelResult]

    def mean(self, measure: str, level: float = 0.95) -> Interval:
        """Return the mean of a score over the splits, and how far it can be trusted.

        Parameters
        ----------
        measure : str
            One of the :attr:`~HeldOut.measures` of the splits.
        level : float
            Of the confidence interval, which allows for what the splits share: it takes the test
            images per training image into account, see :func:`vggfeat.metrics.mean_interval`.

        Raises
        ------
        ProbeError
            There are fewer than two splits.
        """
        share = float(np.mean([one.n_test / one.n_train for one in self.splits] or [0]))
        values = [one.measures[measure] for one in self.splits]
        return mean_interval(values, level, test_to_train=share)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "mean": {name: self.mean(name).to_json() for name in self.splits[0].measures},
            "splits": [one.to_json() for one in self.splits],
        }


def _shares(values: npt.NDArray[np.float64]) -> list[float | None]:
    """Return shares as JSON has them, which knows no NaN."""
    return [None if np.isnan(share) else share for share in values.tolist()]


def _check_same(same: bool) -> None:
    if not same:
        raise ProbeError(
            "The scores cannot be compared: their labelled test images differ. Extract both from "
            "the same source with the same --labels; `vggfeat info` tells which images failed."
        )
