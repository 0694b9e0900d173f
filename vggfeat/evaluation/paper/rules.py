"""What decides a score beyond the descriptors: classifier, choice of C, metric, seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vggfeat.probe.targets import Classifier

if TYPE_CHECKING:
    from vggfeat.datasets import Dataset

AP_KINDS = ("11-point", "all-point")
"""Definitions of average precision: VOC's until 2009, and since."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides a score beyond the descriptors.

    Attributes
    ----------
    classifier : {"svm", "logreg"}
        See :class:`~vggfeat.probe.LinearProbe`.
    validation : float
        Share of the training images that chooses C, above 0 and below 1; or a number of folds.
    ap : str
        Of :data:`AP_KINDS`, where images have several classes.
    seed : int
        Of the images held out to choose C, and of random splits.
    """

    classifier: Classifier = "svm"
    validation: float = 0.2
    ap: str = "all-point"
    seed: int = 0


def rules_of(dataset: Dataset, **changes: Any) -> Rules:
    """Return the rules of a dataset's protocol, but for changes that are not None."""
    rule, protocol = dataset.rule, dataset.protocol
    given = {
        "validation": protocol.validation,
        "ap": protocol.ap,
        "seed": None if rule is None else rule.seed,
    }
    chosen = given | {name: value for name, value in changes.items() if value is not None}
    return Rules(**{name: value for name, value in chosen.items() if value is not None})


def metric_name(dataset: Dataset, rules: Rules) -> str:
    """Name the number that the table holds."""
    metric = dataset.protocol.metric
    return f"{metric} ({rules.ap})" if dataset.multi_label else metric
