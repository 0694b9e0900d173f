"""Which images train, choose and test, and what each is to be told by."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import TrainingError
from vggfeat.feature_table import FeatureTable
from vggfeat.finetuning.recipe import Recipe
from vggfeat.finetuning.tasks import NumberTargets, OneClass, SeveralClasses, Task
from vggfeat.labels import as_floats
from vggfeat.probe.division import Division, divided, divided_rows
from vggfeat.probe.grouping import grouped_split
from vggfeat.probe.labelled import Labelled
from vggfeat.probe.numbers import Numbers, numbers_of_file, numbers_of_labels
from vggfeat.probe.split import stratified_split

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Data:
    """Images of a table with their targets, in three parts.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        Rows of the table.
    y : ndarray of float64, shape (n,) or (n, K)
        Class numbers; or 1, 0 and NaN; or numbers.
    learn, watch, test : ndarray of int64
        Positions in `rows` of images that train, that choose the epoch, and that test.
    division : Division
        As a probe has it: its training part is `learn` and `watch` together.
    labelled : Labelled or None
        The rows with their classes; None of numbers.
    numbers : Numbers or None
    names : tuple of str
        Of classes or numbers.
    """

    rows: Positions
    y: npt.NDArray[np.float64]
    learn: Positions
    watch: Positions
    test: Positions
    division: Division
    labelled: Labelled | None
    numbers: Numbers | None
    names: tuple[str, ...]

    @property
    def groups(self) -> npt.NDArray[np.int64] | None:
        """The groups of the images of `learn`."""
        of = self.division.groups
        return None if of is None else of[self.learn]

    def task(self, recipe: Recipe) -> Task:
        """Return what is to be learnt, with what images of each class count."""
        y = self.y[self.learn]
        if self.labelled is None:
            if recipe.class_weight is not None:
                raise TrainingError("Numbers have no classes to weigh; leave class_weight out.")
            mean, spread = np.nanmean(y, axis=0), np.nanstd(y, axis=0)
            return NumberTargets(self.names, mean, np.where(spread > 0, spread, 1.0))
        balanced = recipe.class_weight == "balanced"
        if y.ndim == 1:
            counts = np.bincount(y.astype(np.int64), minlength=len(self.names))
            weights = len(y) / (len(counts) * np.maximum(counts, 1)) if balanced else None
            return OneClass(self.names, recipe.smoothing, weights)
        if not balanced:
            return SeveralClasses(self.names)
        absent, present = ((y == value).sum(axis=0) for value in (0, 1))
        both = np.stack([absent, present])
        return SeveralClasses(self.names, (absent + present) / (2 * np.maximum(both, 1)))

    def about(self, table: FeatureTable) -> list[Any]:
        """Return what two runs on the same data have in common, JSON-ready."""
        return [
            [*map(str, table.paths[self.rows])],
            [*self.learn.tolist()], [*self.watch.tolist()], [*self.test.tolist()],
            np.nan_to_num(self.y, nan=-1e9).tolist(),
        ]  # fmt: skip


def data_of(
    table: FeatureTable,
    layer: str,
    recipe: Recipe,
    *,
    test_size: float | None = None,
    train_per_class: int | None = None,
    targets: str | os.PathLike[str] | None = None,
    numbers: bool = False,
    columns: Sequence[str] = (),
) -> Data:
    """Divide a table's images as probes do (:mod:`vggfeat.probe.division`).

    Parameters
    ----------
    table : FeatureTable
        All images, with labels.
    layer : str
        A layer of it.
    recipe : Recipe
        Gives the seed, and the share that chooses the epoch.
    test_size, train_per_class :
        As for :func:`vggfeat.probe.evaluate`.
    targets : path, optional
        A table of numbers, or an array; see :func:`vggfeat.probe.numbers_of_file`.
    numbers : bool
        Take labels for numbers, where no file is given.
    columns : sequence of str
        Which of its columns.

    Raises
    ------
    ProbeError
        As for probes.
    TrainingError
        Nothing is left to train on.
    """
    if targets is not None or numbers:
        if train_per_class is not None:
            raise TrainingError("Numbers have no classes to draw images of; give --test-size.")
        found = (
            numbers_of_labels(table)
            if targets is None
            else numbers_of_file(table, targets, columns)
        )
        kept, division = divided_rows(table, found.rows, test_size=test_size, seed=recipe.seed)
        rows, y = found.rows[kept], found.values[kept].astype(np.float64)
        keys = np.zeros(len(rows), np.int64)
        labelled, names = None, found.names
    else:
        data, division = divided(
            table, layer, test_size=test_size, train_per_class=train_per_class, seed=recipe.seed,
            multi_label=True,
        )  # fmt: skip
        labelled = data.learnable(division.train, division.test)
        rows, found, names = labelled.rows, None, labelled.classes
        y = as_floats(labelled.y) if labelled.multi_label else labelled.y.astype(np.float64)
        keys = labelled.keys
    learn, watch = _watched(division, keys, recipe)
    return Data(rows, y, learn, watch, division.test, division, labelled, found, names)


def _watched(division: Division, keys: Positions, recipe: Recipe) -> tuple[Positions, Positions]:
    """Take from the training part what chooses the epoch."""
    train = division.train
    if len(division.held_out):
        watch = train[division.held_out]
        return np.setdiff1d(train, watch), watch
    if not recipe.validation:
        if recipe.patience:
            raise TrainingError(
                "Stopping early needs images that are not trained on: give --validation SHARE, or "
                "a split val."
            )
        return train, train[:0]
    groups = division.train_groups
    if groups is None:
        learn, watch = stratified_split(keys[train], test_size=recipe.validation, seed=recipe.seed)
    else:
        learn, watch = grouped_split(
            keys[train], groups, test_size=recipe.validation, seed=recipe.seed
        )
    return train[learn], train[watch]
