"""Choosing C: which values are tried, on which rows held out, and which one wins."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.metrics import average_precision, mean_class_recall
from vggfeat.probe.grouping import grouped_folds, grouped_split
from vggfeat.probe.split import stratified_folds, stratified_split
from vggfeat.probe.targets import Targets
from vggfeat.probe.training import Tally, Training
from vggfeat.progress import Progress, silent
from vggfeat.solver.rows import Positions

Array = npt.NDArray[np.float64]
Parts = list[tuple[Positions, Positions]]
Validation = float | Sequence[tuple[npt.ArrayLike, npt.ArrayLike]]
"""How rows are held out to choose C, see :func:`parts_of`."""

Score = Callable[[Positions, int], Tally]
"""Makes what scores some held-out rows at so many values of C."""

GRID = tuple(float(10 ** (step / 2)) for step in range(-4, 5))
"""Candidates for ``C``, 0.01 to 100 in half decades, in units of one over the rows' mean squared
distance from their mean: the choice does not depend on how features are scaled or shifted. Of
equally good ones that nearest to 1 wins, the smaller of two."""

_log = logging.getLogger(__name__)


def chosen(training: Training, parts: Parts, score: Score, progress: Progress = silent) -> Array:
    """Return the best value of C, or one a column.

    Parameters
    ----------
    training : Training
    parts : list of pairs
        Training and held-out rows. Where none is held out that of :data:`GRID`'s 1 is taken.
    score : callable
        As for :meth:`Training.choose`; NaN where it cannot be told.
    progress : Progress
        As there.

    Returns
    -------
    ndarray of shape () or (columns,)
    """
    order = np.argsort([round(abs(np.log10(c)), 6) for c in GRID], kind="stable")
    values = np.array(GRID) / training.spread
    if not any(len(held_out) for _, held_out in parts):
        progress("training", 1, 1)
        first = values[order[0]]
        _log.info("One row a class: none can be held out to choose C; %.4g is taken.", first)
        return np.asarray(first)
    scores = np.nan_to_num(training.choose(values, parts, score, progress), nan=0.0)
    for C, one in zip(values, scores, strict=True):
        _log.debug("C=%.3g: %.4f on held-out rows", C, np.mean(one))
    return np.asarray(values[order[scores[order].argmax(axis=0)]])


def parts_of(
    keys: npt.NDArray[Any],
    validation: Validation,
    seed: int,
    groups: npt.ArrayLike | None = None,
) -> Parts:
    """Divide rows into training and held-out ones, class by class.

    Parameters
    ----------
    keys : ndarray of shape (n,)
        The class of each row.
    validation : float, int or sequence of pairs
        A share below 1 to hold out; the number of folds, 2 or more, each held out in turn; or the
        training and held-out rows themselves, as for scikit-learn's `cv`.
    seed : int
    groups : array_like of shape (n,), optional
        Rows of a group stay on one side.
    """
    if not isinstance(validation, float | int | np.number):
        return _given(validation, len(keys))
    if groups is not None and validation >= 2:
        return grouped_folds(keys, groups, int(validation), seed=seed)
    if groups is not None:
        return [grouped_split(keys, groups, test_size=float(validation), seed=seed)]
    if isinstance(validation, int | np.integer) and validation >= 2:
        return stratified_folds(keys, int(validation), seed=seed)
    if not 0 < validation < 1:
        raise ProbeError(
            f"validation is {validation!r}; give a share above 0 and below 1, or 2 or more folds."
        )
    return [stratified_split(keys, test_size=validation, seed=seed)]


def _given(parts: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], count: int) -> Parts:
    """Check parts that a person gives."""
    rows = [tuple(np.asarray(part, np.int64) for part in pair) for pair in parts]
    for pair in rows:
        together = np.concatenate(pair)
        if len(pair) != 2 or not all(map(len, pair)) or len(np.unique(together)) < len(together):
            raise ProbeError("validation must be pairs of rows that have none in common.")
        if together.min() < 0 or together.max() >= count:
            raise ProbeError(f"validation names rows beyond 0 to {count - 1}.")
    return [(pair[0], pair[1]) for pair in rows]


class _Recall:
    """Mean class recall of rows, whose likeliest class is found among columns as they come."""

    def __init__(self, labels: npt.NDArray[Any], classes: npt.NDArray[Any], count: int) -> None:
        self._labels, self._classes = labels, classes
        self._best = np.full((count, len(labels)), -np.inf)
        self._class = np.zeros((count, len(labels)), np.intp)

    def add(self, stage: int, columns: slice, f: Array) -> None:
        """Compare some columns with those before."""
        if len(self._classes) == 2:
            self._class[stage] = f[:, 0] > 0
            return
        here = f.argmax(axis=1)
        best = f[np.arange(len(f)), here]
        better = best > self._best[stage]
        self._best[stage][better] = best[better]
        self._class[stage][better] = columns.start + here[better]

    def values(self) -> Array:
        """Return the recall of each value of C."""
        return np.array(
            [mean_class_recall(self._labels, self._classes[best]) for best in self._class]
        )


class _Precision:
    """Average precision of each column, on all points."""

    def __init__(self, targets: Targets, rows: Positions, count: int) -> None:
        self._targets, self._rows = targets, rows
        self._values = np.full((count, targets.columns), np.nan)

    def add(self, stage: int, columns: slice, f: Array) -> None:
        """Score some columns; one without a row that is present stays NaN."""
        signs = self._targets.signs(self._rows, columns)
        for at, (y, own) in enumerate(zip(signs.T, f.T, strict=True), columns.start):
            if (y > 0).any():
                self._values[stage, at] = average_precision(y[y != 0] > 0, own[y != 0])

    def values(self) -> Array:
        """Return those of each value of C, (c, columns)."""
        return self._values


def by_recall(labels: npt.NDArray[Any], classes: npt.NDArray[Any]) -> Score:
    """Return a score of decision values: mean class recall."""
    return lambda rows, count: _Recall(labels[rows], classes, count)


def by_precision(targets: Targets) -> Score:
    """Return a score of decision values: each class's average precision, on all points.

    Rows that are left out of a class are not scored in it; NaN where none is present.
    """
    return lambda rows, count: _Precision(targets, rows, count)
