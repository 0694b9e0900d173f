"""Whether layers differ by more than chance in how well they name the same test images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from vggfeat.metrics import compare_answers, holm

Classifier = Literal["probe", "kNN"]
CLASSIFIERS: tuple[Classifier, ...] = get_args(Classifier)
"""Who names images: the linear probe, and nearest neighbours."""

LIKELY = 0.05
"""Adjusted p-values from here on leave open whether there is a difference at all."""

Answers = dict[Classifier, dict[str, npt.NDArray[np.int64]]]
"""By classifier and layer, the class that each test image was given, (m,)."""


@dataclass(frozen=True, slots=True)
class Versus:
    """Two layers, named by one classifier, on the same test images.

    Attributes
    ----------
    classifier : {"probe", "kNN"}
    layer, other : str
        Canonical names.
    difference : float
        The layer's accuracy less the other's.
    only_layer, only_other : int
        Test images that only the layer, or only the other, names rightly.
    p : float
        Of the exact McNemar test, see :func:`~vggfeat.metrics.compare_answers`.
    adjusted : float
        The same, allowing for all pairs that were compared beside this one, by
        :func:`~vggfeat.metrics.holm`.
    """

    classifier: Classifier
    layer: str
    other: str
    difference: float
    only_layer: int
    only_other: int
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


def from_best(
    y: npt.NDArray[np.int64], answers: Answers, groups: npt.NDArray[np.int64] | None = None
) -> tuple[Versus, ...]:
    """Compare each layer with the one of highest accuracy, the first of several.

    That the best was picked for being the best makes it look better than it is, so that
    differences that might be chance are called such a little too seldom.

    Parameters
    ----------
    y : ndarray of int64, shape (m,)
        True classes.
    answers : dict
        See :data:`Answers`.
    groups : ndarray of int64, shape (m,), optional
        The group of each image, see :func:`~vggfeat.metrics.compare_answers`.

    Returns
    -------
    tuple of Versus
        By classifier, for all layers but the best.
    """
    versus: list[Versus] = []
    for classifier, named in answers.items():
        best = max(named, key=lambda layer: np.count_nonzero(named[layer] == y))
        pairs = [(layer, named[layer], best, named[best]) for layer in named if layer != best]
        versus += _compared(y, classifier, pairs, groups)
    return tuple(versus)


def between(
    y: npt.NDArray[np.int64],
    first: Answers,
    second: Answers,
    groups: npt.NDArray[np.int64] | None = None,
) -> tuple[Versus, ...]:
    """Compare the layers that two stores share, the first store's with the second's.

    Parameters and returns are as for :func:`from_best`.
    """
    versus: list[Versus] = []
    for classifier, named in first.items():
        theirs = second[classifier]
        pairs = [(layer, named[layer], layer, theirs[layer]) for layer in named if layer in theirs]
        versus += _compared(y, classifier, pairs, groups)
    return tuple(versus)


def _compared(
    y: npt.NDArray[np.int64],
    classifier: Classifier,
    pairs: list[tuple[str, npt.NDArray[np.int64], str, npt.NDArray[np.int64]]],
    groups: npt.NDArray[np.int64] | None,
) -> list[Versus]:
    disagreements = [compare_answers(y, ours, theirs, groups) for _, ours, _, theirs in pairs]
    adjusted = holm([one.p for one in disagreements]).tolist()
    return [
        Versus(classifier, layer, other, one.difference, one.only_first, one.only_second, one.p, p)
        for (layer, _, other, _), one, p in zip(pairs, disagreements, adjusted, strict=True)
    ]
