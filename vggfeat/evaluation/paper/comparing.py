"""Rows of an evaluation compared with one another, on the same test images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vggfeat.evaluation.paper.outcome import Outcome, Paired
from vggfeat.metrics import APKind, compare_answers, compare_rankings, mean_interval

if TYPE_CHECKING:
    from vggfeat.datasets import Dataset

Positions = npt.NDArray[np.int64]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a row's classifiers said about the test images of each split.

    Attributes
    ----------
    dataset : Dataset
        Whose examples these are.
    ap : str
        ``"11-point"`` or ``"all-point"``.
    examples : sequence of ndarray of int64, shape (n,)
        The test examples of each split.
    scores : sequence of ndarray of float64, shape (n, K)
        Their scores.
    """

    dataset: Dataset
    ap: APKind
    examples: Sequence[Positions]
    scores: Sequence[Array]


def compared(rows: Sequence[Outcome], answers: Sequence[Answers]) -> Iterator[Paired]:
    """Compare every two rows.

    Over several splits by the interval of their differences, corrected for shared training images
    (Nadeau & Bengio 2003); on one split by the exact McNemar test, or where images have several
    classes by a paired bootstrap over test images. See :mod:`vggfeat.metrics.certainty`.

    Parameters
    ----------
    rows, answers : sequence of equal length

    Yields
    ------
    Paired
        None for rows whose test images differ, as where features of some are missing.
    """
    for first, second in combinations(range(len(rows)), 2):
        one, other = answers[first], answers[second]
        same = [np.array_equal(*pair) for pair in zip(one.examples, other.examples, strict=True)]
        if all(same):
            yield _paired(first, second, rows, answers)


def _paired(first: int, second: int, rows: Sequence[Outcome], answers: Sequence[Answers]) -> Paired:
    one, other = rows[first], rows[second]
    difference = one.score - other.score
    if len(one.splits) > 1:
        pairs = zip(one.splits, other.splits, strict=True)
        ratio = one.splits[0].n_test / one.splits[0].n_train
        interval = mean_interval([a.score - b.score for a, b in pairs], test_to_train=ratio)
        return Paired(
            first, second, difference, interval.low, interval.high, None,
            f"Student's t over {interval.n} splits, corrected for shared training images",
        )  # fmt: skip
    dataset, test = answers[first].dataset, answers[first].examples[0]
    ours, theirs = answers[first].scores[0], answers[second].scores[0]
    if dataset.multi_label:
        present = dataset.presence[test][:, dataset.scored]
        known = np.flatnonzero((present == 1).any(axis=0))  # others have no average precision
        ranked = compare_rankings(
            present[:, known], ours[:, known], theirs[:, known], answers[first].ap
        )
        return Paired(
            first, second, difference, ranked.low, ranked.high, ranked.p,
            f"paired bootstrap over test images, {ranked.samples:,} samples",
        )  # fmt: skip
    disagreement = compare_answers(
        dataset.targets[test], ours.argmax(axis=1), theirs.argmax(axis=1)
    )
    return Paired(
        first, second, difference, None, None, disagreement.p, "exact McNemar test of accuracy"
    )
