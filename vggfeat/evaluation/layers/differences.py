"""Whether layers differ by more than chance on the same test images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from vggfeat.metrics import (
    Difference,
    Disagreement,
    SampledPrecision,
    accuracy,
    compare_answers,
    holm,
)

Classifier = Literal["probe", "kNN"]
CLASSIFIERS: tuple[Classifier, ...] = get_args(Classifier)
"""Who names images: the linear probe, and nearest neighbours."""

LIKELY = 0.05
"""Adjusted p-values from here on leave open whether there is a difference at all."""

Outputs = dict[Classifier, dict[str, Any]]
"""By classifier and layer, what a :class:`Measure` scores and compares: the classes that the test
images were given, (m,); or, of several labels an image, a
:class:`~vggfeat.metrics.SampledPrecision`."""


class Measure(NamedTuple):
    """How what comes out for the test images is scored, and compared."""

    score: Callable[[Any], float]
    compare: Callable[[Any, Any], Disagreement | Difference]


@dataclass(frozen=True, slots=True, kw_only=True)
class Versus:
    """Two layers and one classifier, on the same test images.

    Attributes
    ----------
    classifier : {"probe", "kNN"}
    layer, other : str
        Canonical names.
    difference : float
        The layer's score less the other's.
    p : float
        How often chance alone sets them as far apart.
    adjusted : float
        The same, allowing for all pairs that were compared beside this one, by
        :func:`~vggfeat.metrics.holm`.
    """

    classifier: Classifier
    layer: str
    other: str
    difference: float
    p: float
    adjusted: float

    @property
    def beyond_chance(self) -> bool:
        """Whether the layers surely differ, at the level of 5 %."""
        return self.adjusted < LIKELY

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values, the classifier under the key ``judge``."""
        values = asdict(self)
        return {"judge": values.pop("classifier"), **values}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersVersus(Versus):
    """Two layers where images have one label: by accuracy and the exact McNemar test.

    Attributes
    ----------
    only_layer, only_other : int
        Test images that only the layer, or only the other, names rightly.
    """

    only_layer: int
    only_other: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingsVersus(Versus):
    """Two layers where images have several labels: by mean average precision, paired bootstrap.

    Attributes
    ----------
    low, high : float
        95 % interval of the difference.
    """

    low: float
    high: float


def by_accuracy(y: npt.NDArray[np.int64], groups: npt.NDArray[np.int64] | None = None) -> Measure:
    """Return accuracy, compared by :func:`~vggfeat.metrics.compare_answers`.

    Parameters
    ----------
    y : ndarray of int64, shape (m,)
        True classes of the test images.
    groups : ndarray of int64, shape (m,), optional
        Their groups.
    """
    return Measure(partial(accuracy, y), partial(compare_answers, y, groups=groups))


def by_precision() -> Measure:
    """Return mean average precision, compared by a paired bootstrap."""
    return Measure(lambda output: float(output.value), SampledPrecision.against)


def samples_for(layers: int) -> int:
    """Return how many samples let Holm's method tell any of so many layers from the best.

    A bootstrap's p-value is at least 2 / (samples + 1), and Holm multiplies the least of m by m.
    """
    return max(1000, 50 * layers)


def from_best(outputs: Outputs, measure: Measure) -> tuple[Versus, ...]:
    """Compare each layer with the one of highest score, the first of several.

    That the best was picked for being the best makes it look better than it is, so that
    differences that might be chance are called such a little too seldom.

    Returns
    -------
    tuple of Versus
        By classifier, for all layers but the best.
    """
    versus: list[Versus] = []
    for classifier, of in outputs.items():
        best = max(of, key=lambda layer: measure.score(of[layer]))
        pairs = [(layer, of[layer], best, of[best]) for layer in of if layer != best]
        versus += _compared(classifier, pairs, measure)
    return tuple(versus)


def between(first: Outputs, second: Outputs, measure: Measure) -> tuple[Versus, ...]:
    """Compare the layers that two stores share, the first store's with the second's.

    Returns are as for :func:`from_best`.
    """
    versus: list[Versus] = []
    for classifier, of in first.items():
        theirs = second[classifier]
        pairs = [(layer, of[layer], layer, theirs[layer]) for layer in of if layer in theirs]
        versus += _compared(classifier, pairs, measure)
    return tuple(versus)


def _compared(
    classifier: Classifier, pairs: list[tuple[str, Any, str, Any]], measure: Measure
) -> list[Versus]:
    compared = [measure.compare(ours, theirs) for _, ours, _, theirs in pairs]
    adjusted = holm([one.p for one in compared]).tolist()
    versus: list[Versus] = []
    for (layer, _, other, _), one, p in zip(pairs, compared, adjusted, strict=True):
        names: dict[str, Any] = {"classifier": classifier, "layer": layer, "other": other}
        names |= {"difference": one.difference, "p": one.p, "adjusted": p}
        if isinstance(one, Difference):
            versus.append(RankingsVersus(low=one.low, high=one.high, **names))
        else:
            counts: dict[str, Any] = {"only_layer": one.only_first, "only_other": one.only_second}
            versus.append(AnswersVersus(**counts, **names))
    return versus
