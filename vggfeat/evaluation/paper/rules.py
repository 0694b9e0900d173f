"""What decides a score beyond the descriptors, and in what a run departs from the paper.

Classifier, choice of C, metric and seed are :class:`Rules`; what differs from the paper is said
beside every number (:func:`departures_of`), never left to be guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vggfeat.layers import ARCHITECTURES
from vggfeat.metrics import APKind
from vggfeat.probe.targets import Classifier

if TYPE_CHECKING:
    from vggfeat.datasets import Dataset
    from vggfeat.evaluation.paper.descriptors import Part
    from vggfeat.provenance import FeatureConfig

VOC_KINDS: tuple[APKind, ...] = ("11-point", "all-point")
"""Definitions of average precision: VOC's until 2009, and since."""

_PAPER_NETWORKS = ("vgg16", "vgg19")


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
    ap: APKind = "all-point"
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


def departures_of(
    dataset: Dataset, parts: Sequence[Part], rules: Rules, failed: int
) -> tuple[str, ...]:
    """List in what a run differs from the paper's.

    Parameters
    ----------
    dataset : Dataset
        With its protocol.
    parts : sequence of Part
        What descriptors are made of.
    rules : Rules
        Classifier, share held out, seed.
    failed : int
        Examples without features.

    Returns
    -------
    tuple of str
        One phrase each; empty where nothing is known to differ.
    """
    protocol, departures = dataset.protocol, list[str]()
    if not protocol.published:
        return ()
    if protocol.caveat:
        departures.append(protocol.caveat)
    departures += [f"The dataset: {phrase}." for phrase in dataset.deviations]
    if failed:
        departures.append(f"{failed:,} images have no features and took no part.")
    for part in {part.store.provenance.config.model: part for part in parts}.values():
        departures += _of_network(dataset, part)
    if rules.classifier != "svm":
        departures.append("The classifier is logistic regression; the paper's is a linear SVM.")
    if protocol.validation is not None and rules.validation != protocol.validation:
        held_out = _share(rules.validation)
        departures.append(
            f"C is chosen on {held_out}; the paper held {protocol.validation:.0%} out."
        )
    if protocol.ap is not None and rules.ap != protocol.ap:
        departures.append(
            f"Average precision is {rules.ap}; the dataset's devkit is {protocol.ap}."
        )
    rule = protocol.rule
    if rule is not None and dataset.rule is not None:
        ours, theirs = (_rule(one.to_json()) for one in (dataset.rule, rule))
        if ours != theirs:
            departures.append(f"Splits: {ours}; the paper's: {theirs}.")
    return tuple(departures)


def _of_network(dataset: Dataset, part: Part) -> list[str]:
    config, protocol = part.store.provenance.config, dataset.protocol
    name, departures = config.model, list[str]()
    if name not in _PAPER_NETWORKS:
        departures.append(f"{name} is none of the paper's networks, which are vgg16 and vgg19.")
    elif not _authors(config):
        departures.append(
            f"{name}'s weights are {part.store.latest.weights!r}; the paper's are its authors' own."
        )
    if part.layer != "relu7":
        departures.append(f"{name}: the layer is {part.layer}; the paper's is relu7.")
    if config.view != "dense":
        return [*departures, f"{name}: the view is {config.view}; the paper's is dense."]
    network = ARCHITECTURES.get(name)
    expected = protocol.scales_for(network.input_size if network else 224)
    if config.scales != expected:
        ours, theirs = (", ".join(map(str, scales)) for scales in (config.scales, expected))
        departures.append(f"{name}: scales are {ours}; the protocol's are {theirs}.")
    elif config.combine != protocol.combine:
        how = {"mean": "averaged", "stack": "stacked"}
        departures.append(
            f"{name}: scales are {how[config.combine]}; in the paper {how[protocol.combine]}."
        )
    if not config.flip:
        departures.append(f"{name}: mirror images are not averaged in; the paper does that.")
    return departures


def _authors(config: FeatureConfig) -> bool:
    """Whether weights take their input as the authors' Caffe release does: BGR, 0..255."""
    spec = config.preprocessing
    return spec.get("channels") == "BGR" and spec.get("scale") == 1


def _share(validation: float) -> str:
    return f"{validation:.0%}" if validation < 1 else f"{validation:.0f} folds"


def _rule(rule: dict[str, Any]) -> str:
    most = rule["max_test_per_class"]
    return (
        f"{rule['count']} of {rule['train_per_class']} training images a class, "
        f"{'all others' if most is None else f'at most {most}'} for the test"
    )
