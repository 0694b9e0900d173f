"""From scores of test images to a split's numbers, confusions and mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vggfeat.evaluation.paper.descriptors import Descriptors, Positions
from vggfeat.evaluation.paper.outcome import Mistake, SplitScore
from vggfeat.evaluation.paper.rules import VOC_KINDS, Rules
from vggfeat.metrics import average_precisions
from vggfeat.probe import LinearProbe

if TYPE_CHECKING:
    from vggfeat.datasets import Dataset

_MISTAKES = 200  # kept of each row

Array = npt.NDArray[np.float64]


def score_one(
    dataset: Dataset, test: Positions, scores: Array, _: Rules, probe: LinearProbe, train: Positions
) -> SplitScore:
    """Score by mean class recall; parameters as of :func:`score_many`."""
    y, named = dataset.targets[test], scores.argmax(axis=1)
    commonest = np.bincount(dataset.targets[train]).argmax()
    right = np.bincount(y, weights=y == named, minlength=len(dataset.classes))
    total = np.bincount(y, minlength=len(dataset.classes))
    recall = np.divide(right, total, out=np.full(len(total), np.nan), where=total > 0)
    return SplitScore(
        score=float(np.nanmean(recall)),
        others={
            "accuracy": float(np.mean(y == named)),
            "majority": float(np.mean(y == commonest)),
        },
        by_class=recall,
        C=(float(probe.C_),),
        n_train=len(train),
        n_test=len(test),
    )


def score_many(
    dataset: Dataset,
    test: Positions,
    scores: Array,
    rules: Rules,
    probe: LinearProbe,
    train: Positions,
) -> SplitScore:
    """Score by mean average precision.

    Parameters
    ----------
    dataset : Dataset
        With the labels.
    test : ndarray of int64, shape (n,)
        Test examples.
    scores : ndarray of float64, shape (n, K)
        What the probe says of each scored class.
    rules : Rules
        Which average precision.
    probe : LinearProbe
        Trained.
    train : ndarray of int64
        The examples it was trained on.
    """
    present = dataset.presence[test][:, dataset.scored]
    by_kind = {kind: average_precisions(present, scores, kind) for kind in VOC_KINDS}
    return SplitScore(
        score=float(np.nanmean(by_kind[rules.ap])),
        others={f"mAP {kind}": float(np.nanmean(values)) for kind, values in by_kind.items()},
        by_class=by_kind[rules.ap],
        C=tuple(np.atleast_1d(probe.C_).tolist()),
        n_train=len(train),
        n_test=len(test),
    )


def confusion(
    dataset: Dataset, examples: Sequence[Positions], decisions: Sequence[Array]
) -> npt.NDArray[np.int64]:
    """Count true (row) and named (column) classes over all splits: (K, K)."""
    counts = np.zeros((len(dataset.classes),) * 2, np.int64)
    for test, scores in zip(examples, decisions, strict=True):
        np.add.at(counts, (dataset.targets[test], scores.argmax(axis=1)), 1)
    return counts


def mistakes(
    descriptors: Descriptors, boxes: bool, test: Positions, scores: Array, split: int
) -> list[Mistake]:
    """Find the most confident mistakes of a split: absent classes above present ones."""
    dataset = descriptors.dataset
    present = dataset.presence[test][:, dataset.scored]
    absent = np.where(present == 0, scores, -np.inf)
    if dataset.multi_label:
        margin = absent.max(axis=1)
    else:
        margin = absent.max(axis=1) - np.where(present == 1, scores, np.inf).min(axis=1)
    worst = np.argsort(-margin, kind="stable")[:_MISTAKES]
    names = dataset.crops if boxes else dataset.images
    classes = [dataset.classes[k] for k in dataset.scored]
    return [
        Mistake(
            path=names[test[i]],
            true=", ".join(classes[k] for k in np.flatnonzero(present[i] == 1)) or "none of them",
            predicted=classes[int(absent[i].argmax())],
            margin=float(margin[i]),
            split=split,
        )
        for i in worst
        if 0 < margin[i] < np.inf
    ]


def most_confident(wrong: Sequence[Mistake]) -> tuple[Mistake, ...]:
    """Order mistakes by falling margin, each image once, and keep the first 200."""
    once: dict[str, Mistake] = {}
    for mistake in sorted(wrong, key=lambda one: (-one.margin, one.path)):
        once.setdefault(mistake.path, mistake)
    return tuple(once.values())[:_MISTAKES]
