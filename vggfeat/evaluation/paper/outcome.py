"""What a protocol gave on a dataset: our numbers, the paper's, and all that decides ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from vggfeat.metrics import Interval, mean_interval
from vggfeat.showing import Shown

if TYPE_CHECKING:
    from vggfeat.datasets import Published

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Mistake:
    """A test image that a classifier was confidently wrong about.

    Attributes
    ----------
    path : str
        The image, or the box, as the dataset names it.
    true : str
        Its class, or classes.
    predicted : str
        The class it was taken for.
    margin : float
        Where images have one class, by how much the predicted class's score is above that of the
        true one; else the score of the predicted class, which is absent.
    split : int
        The split it was tested in, from 0.
    """

    path: str
    true: str
    predicted: str
    margin: float
    split: int


@dataclass(frozen=True, slots=True, eq=False)
class SplitScore:
    """What one split gave; scores are shares in 0..1.

    Attributes
    ----------
    score : float
        The protocol's metric.
    others : dict of str to float
        Other metrics by name, for information.
    by_class : ndarray of float64, shape (K,)
        Recall, or average precision, of the scored classes.
    C : tuple of float
        Chosen values: one, or one a class where each class has a classifier of its own choice.
    n_train, n_test : int
        Number of examples.
    """

    score: float
    others: dict[str, float]
    by_class: Array
    C: tuple[float, ...]
    n_train: int
    n_test: int


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What one kind of descriptor gave: a row of the table.

    Attributes
    ----------
    networks : tuple of str
        Whose features are stacked.
    boxes : bool
        Whether the features of the examples' boxes are stacked with those of the images.
    dimension : int
        Length of a descriptor.
    splits : tuple of SplitScore
        One a split.
    confusion : ndarray of int64, shape (K, K), or None
        Over all splits, true classes as rows; None where images have several classes.
    mistakes : tuple of Mistake
        The most confident first.
    published : Published or None
        The paper's number for this descriptor.
    seconds : float
        Time of training and testing.
    """

    networks: tuple[str, ...]
    boxes: bool
    dimension: int
    splits: tuple[SplitScore, ...]
    confusion: npt.NDArray[np.int64] | None
    mistakes: tuple[Mistake, ...]
    published: Published | None
    seconds: float

    @property
    def name(self) -> str:
        """What a person calls it, such as ``"vgg16 + vgg19, image and box"``."""
        return row_name(self.networks, self.boxes)

    @property
    def score(self) -> float:
        """Mean of the metric over the splits, in 0..1."""
        return float(np.mean([split.score for split in self.splits]))

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the splits; None where there is one only."""
        scores = [split.score for split in self.splits]
        return float(np.std(scores, ddof=1)) if len(scores) > 1 else None

    @property
    def interval(self) -> Interval | None:
        """95 % interval of the mean over splits, widened for their shared training images."""
        if len(self.splits) < 2:
            return None
        ratio = self.splits[0].n_test / self.splits[0].n_train
        return mean_interval([split.score for split in self.splits], test_to_train=ratio)

    @property
    def by_class(self) -> Array:
        """Mean over the splits of each scored class's recall or average precision, (K,)."""
        each = np.array([split.by_class for split in self.splits])
        known = ~np.isnan(each)
        total = np.where(known, each, 0).sum(axis=0)
        unknown = np.full(each.shape[1], np.nan)  # no test image in any split
        return np.asarray(np.divide(total, known.sum(axis=0), out=unknown, where=known.any(axis=0)))

    @property
    def difference(self) -> float | None:
        """Our number minus the paper's, in percent points."""
        return None if self.published is None else 100 * self.score - self.published.percent

    def to_json(self, mistakes: int = 24) -> dict[str, Any]:
        """Return JSON-ready values, with at most so many of the mistakes."""
        interval = self.interval
        return {
            "networks": list(self.networks),
            "boxes": self.boxes,
            "dimension": self.dimension,
            "score": self.score,
            "deviation": self.deviation,
            "interval": None if interval is None else [interval.low, interval.high],
            "published": None if self.published is None else self.published.to_json(),
            "difference_points": self.difference,
            "splits": [_split_json(split) for split in self.splits],
            "by_class": _numbers(self.by_class),
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "mistakes": [asdict(mistake) for mistake in self.mistakes[:mistakes]],
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class Paired:
    """Two rows compared on the same test images.

    Attributes
    ----------
    first, second : int
        Positions of the rows.
    difference : float
        First minus second, in shares.
    low, high : float or None
        95 % interval of the difference.
    p : float or None
        Probability of a difference as large by chance alone.
    method : str
        How `low`, `high` and `p` were found.
    """

    first: int
    second: int
    difference: float
    low: float | None
    high: float | None
    p: float | None
    method: str


@dataclass(frozen=True, slots=True)
class Evaluation(Shown):
    """A dataset's protocol, run.

    Attributes
    ----------
    dataset : dict
        :meth:`vggfeat.datasets.Dataset.to_json`.
    metric : str
        Such as ``"mean class recall"``.
    classes : tuple of str
        The scored classes.
    rows : tuple of Outcome
        One a descriptor.
    paired : tuple of Paired
        Every two of them.
    settings : dict
        Everything else that decides the numbers, JSON-ready.
    departures : tuple of str
        In what this run differs from the paper, one phrase each.
    root : str
        Absolute path of the folder that mistakes are named from; no part of the JSON.
    """

    shown_as: ClassVar = "evaluation"
    dataset: dict[str, Any]
    metric: str
    classes: tuple[str, ...]
    rows: tuple[Outcome, ...]
    paired: tuple[Paired, ...]
    settings: dict[str, Any]
    departures: tuple[str, ...]
    root: str

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "dataset": self.dataset,
            "metric": self.metric,
            "classes": list(self.classes),
            "rows": [row.to_json() for row in self.rows],
            "paired": [asdict(pair) for pair in self.paired],
            "settings": self.settings,
            "departures": list(self.departures),
        }


def row_name(networks: Sequence[str], boxes: bool) -> str:
    """Name a kind of descriptor as a person would."""
    return " + ".join(networks) + (", image and box" if boxes else "")


def _split_json(split: SplitScore) -> dict[str, Any]:
    return {
        "score": split.score,
        **split.others,
        "by_class": _numbers(split.by_class),
        "C": list(split.C),
        "n_train": split.n_train,
        "n_test": split.n_test,
    }


def _numbers(values: Array) -> list[float | None]:
    """Return numbers for JSON, which has no NaN: a class without test images has no score."""
    return [None if np.isnan(value) else float(value) for value in values]
