"""The paper's protocols on labelled datasets (Simonyan & Zisserman, arXiv 1409.1556, appendix B).

Descriptors are L2-normalised and classified by linear SVMs, one class against the rest; C is
chosen on held-out training images, then all training images train; the test images are touched
once. Images of one class are scored by mean class recall over the splits, others by mean average
precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.evaluation.paper.comparing import Answers, compared
from vggfeat.evaluation.paper.descriptors import Descriptors, Part, Positions
from vggfeat.evaluation.paper.outcome import Evaluation, Mistake, Outcome, SplitScore
from vggfeat.evaluation.paper.rules import Rules, departures_of, metric_name, rules_of
from vggfeat.evaluation.paper.scoring import (
    confusion,
    mistakes,
    most_confident,
    score_many,
    score_one,
)
from vggfeat.probe import LinearProbe
from vggfeat.probe.choosing import Validation
from vggfeat.probe.scoring import learn, scores_of
from vggfeat.progress import Progress, silent

if TYPE_CHECKING:
    from vggfeat.datasets import Dataset, Split
    from vggfeat.feature_table import FeatureTable

Array = npt.NDArray[np.float64]


def score_dataset(
    dataset: Dataset,
    stores: Mapping[str, FeatureTable],
    *,
    boxes: Mapping[str, FeatureTable] | None = None,
    layer: str | None = None,
    stack: bool = True,
    rules: Rules | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Run a dataset's protocol on features that were extracted from it.

    Parameters
    ----------
    dataset : Dataset
        From :func:`vggfeat.datasets.open_dataset`.
    stores : mapping of str to FeatureTable
        Network to the store of ``dataset.source()``.
    boxes : mapping of str to FeatureTable, optional
        Network to the store of ``dataset.source(boxes=True)``: rows follow in which features of
        the box are stacked with those of the image.
    layer : str, optional
        A layer of all stores; may be left out where each has one only.
    stack : bool
        Whether a row follows in which all networks' features are stacked.
    rules : Rules, optional
        By default those of the dataset's protocol.
    progress : Progress
        Told of splits, of all rows together.

    Returns
    -------
    Evaluation

    Raises
    ------
    ProbeError
        A split has too few images with features, or features are not finite.
    LayerError
        A store has no such layer.
    SourceError
        Classes are too small for the splits' rule.

    Examples
    --------
    >>> from vggfeat import FeatureExtractor, FeatureStore
    >>> from vggfeat.datasets import open_dataset
    >>> dataset = open_dataset("caltech101", "data")                   # doctest: +SKIP
    >>> dense = dict(view="dense", scales=(256, 384, 512), flip=True, combine="stack")
    >>> FeatureExtractor("vgg16", **dense).extract(dataset.source(), "c.h5")  # doctest: +SKIP
    >>> with FeatureStore("c.h5") as store:                            # doctest: +SKIP
    ...     score_dataset(dataset, {"vgg16": store}).rows[0].score
    """
    rules = rules or rules_of(dataset)
    splits = dataset.splits(rules.seed)
    rows: list[Outcome] = []
    answers: list[Answers] = []
    plans = _plans(dataset, stores, boxes or {}, layer, stack)

    def tell() -> None:
        progress("classifying", 1, len(plans) * len(splits))

    for networks, descriptors in plans:
        row, said = _row(descriptors, networks, splits, rules, tell)
        rows.append(row)
        answers.append(said)
    every = [part for _, descriptors in plans for part in descriptors.parts]
    failed = int((~np.all([d.usable for _, d in plans], axis=0)).sum())
    return Evaluation(
        dataset=dataset.to_json(),
        metric=metric_name(dataset, rules),
        classes=tuple(dataset.classes[k] for k in dataset.scored),
        rows=tuple(rows),
        paired=tuple(compared(rows, answers)),
        settings=_settings(dataset, every, rules, splits, failed),
        departures=departures_of(dataset, every, rules, failed),
        root=dataset.root,
    )


def _plans(
    dataset: Dataset,
    stores: Mapping[str, FeatureTable],
    boxes: Mapping[str, FeatureTable],
    layer: str | None,
    stack: bool,
) -> list[tuple[tuple[str, ...], Descriptors]]:
    """List what is classified: each network, and all of them; images, and images with boxes."""
    groups: list[tuple[str, ...]] = [(name,) for name in stores]
    if stack and len(stores) > 1:
        groups.append(tuple(stores))
    plans = [(group, [_part(stores[name], layer) for name in group]) for group in groups]
    for group in groups if boxes else []:
        parts = [_part(stores[name], layer) for name in group]
        parts += [_part(boxes[name], layer, boxes=True) for name in group]
        plans.append((group, parts))
    return [(group, Descriptors(dataset, parts)) for group, parts in plans]


def _part(store: FeatureTable, layer: str | None, *, boxes: bool = False) -> Part:
    if layer is None and len(store.layers) > 1:
        raise ProbeError(f"{store.path} has {', '.join(store.layers)}; say which layer to take.")
    return Part(store, store.layer(layer or store.layers[0]), boxes)


def _row(
    descriptors: Descriptors,
    networks: tuple[str, ...],
    splits: Sequence[Split],
    rules: Rules,
    tell: Callable[[], object],
) -> tuple[Outcome, Answers]:
    began, dataset = perf_counter(), descriptors.dataset
    boxes = any(part.boxes for part in descriptors.parts)
    scores: list[SplitScore] = []
    wrong: list[Mistake] = []
    examples, decisions = [], []
    for number, split in enumerate(splits):
        train, test = (_usable(descriptors, part) for part in (split.train, split.test))
        probe = _trained(descriptors, train, rules, split.held_out)
        decided = _scores(descriptors, test, probe)
        score = score_many if dataset.multi_label else score_one
        scores.append(score(dataset, test, decided, rules, probe, train))
        wrong += mistakes(descriptors, boxes, test, decided, number)
        examples.append(test)
        decisions.append(decided)
        tell()
    published = next(
        (
            number
            for number in dataset.protocol.published
            if set(number.networks) == set(networks) and number.boxes == boxes
        ),
        None,
    )
    row = Outcome(
        networks=networks,
        boxes=boxes,
        dimension=descriptors.dimension,
        splits=tuple(scores),
        confusion=None if dataset.multi_label else confusion(dataset, examples, decisions),
        mistakes=most_confident(wrong),
        published=published,
        seconds=perf_counter() - began,
    )
    return row, Answers(dataset, rules.ap, examples, decisions)


def _usable(descriptors: Descriptors, examples: Positions) -> Positions:
    usable = examples[descriptors.usable[examples]]
    if not len(usable):
        stores = ", ".join(str(part.store.path) for part in descriptors.parts)
        raise ProbeError(
            f"None of the {len(examples):,} images of a split has features in {stores}. Extract "
            "the dataset first; `vggfeat info` tells which images failed."
        )
    return usable


def _trained(
    descriptors: Descriptors, train: Positions, rules: Rules, held_out: Positions
) -> LinearProbe:
    dataset = descriptors.dataset
    choosing = np.isin(train, held_out)
    validation: Validation = rules.validation
    if choosing.any() and not choosing.all():
        validation = [(np.flatnonzero(~choosing), np.flatnonzero(choosing))]
    probe = LinearProbe(rules.classifier, validation=validation, random_state=rules.seed)
    y = dataset.targets[train]
    if dataset.multi_label:
        y = dataset.presence[train][:, dataset.scored]
    try:
        return learn(probe, descriptors.of(train), y)
    except ProbeError as error:
        raise ProbeError(f"{dataset.name}, {len(train):,} training images: {error}") from error


def _scores(descriptors: Descriptors, test: Positions, probe: LinearProbe) -> Array:
    """Return the score of each scored class for each test image, (n, K)."""
    dataset, scores = descriptors.dataset, scores_of(probe, descriptors.of(test))
    if dataset.multi_label:
        return scores
    # A class whose training images all failed was never learnt.
    every = np.full((len(test), len(dataset.classes)), -np.inf)
    every[:, probe.classes_] = scores
    return every


def _settings(
    dataset: Dataset, parts: Sequence[Part], rules: Rules, splits: Sequence[Split], failed: int
) -> dict[str, Any]:
    stores = {str(part.store.path): part for part in parts}
    by_set = dataset.rule is None and dataset.protocol.val
    return {
        "classifier": rules.classifier,
        "validation": dataset.protocol.val if by_set else rules.validation,
        "ap": rules.ap if dataset.multi_label else None,
        "seed": rules.seed,
        "splits": len(splits),
        "normalize": True,
        "without_features": failed,
        "stores": [
            {
                "path": path,
                "layer": part.layer,
                "boxes": part.boxes,
                "weights": part.store.latest.weights,
                **part.store.provenance.config.to_json(),
            }
            for path, part in stores.items()
        ],
    }
