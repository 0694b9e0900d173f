"""What a dataset's examples are described by: features of one or several stores, stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vggfeat.probe.reading import LayerRows
from vggfeat.solver.rows import Reader

if TYPE_CHECKING:
    from vggfeat.datasets import Dataset
    from vggfeat.feature_table import FeatureTable

Positions = npt.NDArray[np.int64]
Features = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A layer of a store that holds a dataset's images, or its boxes.

    Attributes
    ----------
    store : FeatureTable
        Extracted from :meth:`vggfeat.datasets.Dataset.source`.
    layer : str
        Canonical name.
    boxes : bool
        Whether the store is of the boxes.
    """

    store: FeatureTable
    layer: str
    boxes: bool = False


@dataclass(frozen=True, eq=False)
class Descriptors:
    """A dataset's examples, each described by the features of all parts, one behind the other.

    Attributes
    ----------
    dataset : Dataset
        Of N examples.
    parts : sequence of Part
        At least one.
    """

    dataset: Dataset
    parts: Sequence[Part]

    @cached_property
    def rows(self) -> list[Positions]:
        """Each example's row in each part's store, -1 where it is not there; (N,) each."""
        paths = [part.store.paths.tolist() for part in self.parts]
        return [
            self.dataset.rows(names, boxes=part.boxes)
            for part, names in zip(self.parts, paths, strict=True)
        ]

    @cached_property
    def usable(self) -> npt.NDArray[np.bool_]:
        """Which examples have features in all parts, (N,)."""
        usable = np.ones(len(self.dataset), bool)
        for part, rows in zip(self.parts, self.rows, strict=True):
            usable &= (rows >= 0) & np.asarray(part.store.done)[rows]  # -1 wraps, and is not usable
        return usable

    @property
    def dimension(self) -> int:
        """Length of a descriptor."""
        return sum(part.store.dimension(part.layer) for part in self.parts)

    def of(self, examples: Positions) -> Reader:
        """Return the descriptors of some usable examples, read when they are sliced."""
        readers = [
            LayerRows(part.store, part.layer, rows[examples])
            for part, rows in zip(self.parts, self.rows, strict=True)
        ]
        return readers[0] if len(readers) == 1 else Stacked(readers)


@dataclass(frozen=True, slots=True, eq=False)
class Stacked:
    """Rows of several readers, one behind the other.

    Attributes
    ----------
    readers : sequence of Reader
        At least one, of as many rows each.
    """

    readers: Sequence[Reader]

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows, and the length of one."""
        return self.readers[0].shape[0], sum(one.shape[1] for one in self.readers)

    def __getitem__(self, chosen: slice) -> Features:
        """Read some of them: (m, d)."""
        return np.concatenate([one[chosen] for one in self.readers], axis=1)
