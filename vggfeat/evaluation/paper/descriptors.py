"""What a dataset's examples are described by: features of one or several stores, stacked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError

if TYPE_CHECKING:
    from vggfeat.datasets import Dataset
    from vggfeat.feature_table import FeatureTable

Positions = npt.NDArray[np.int64]
Features = npt.NDArray[np.float32]

_BLOCK_BYTES = 64 << 20


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
        found = np.ones(len(self.dataset), bool)
        for part, rows in zip(self.parts, self.rows, strict=True):
            found &= (rows >= 0) & np.asarray(part.store.done)[rows]  # -1 wraps, and is not usable
        return found

    @property
    def dimension(self) -> int:
        """Length of a descriptor."""
        return sum(part.store.dimension(part.layer) for part in self.parts)

    def of(self, examples: Positions) -> Selection:
        """Return the descriptors of some usable examples, read when sliced."""
        return Selection(self, examples)


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Descriptors of some examples, as the probe's solver reads them.

    Attributes
    ----------
    descriptors : Descriptors
        Where they are.
    examples : ndarray of int64, shape (n,)
        Positions in the dataset, of usable examples.
    """

    descriptors: Descriptors
    examples: Positions

    @property
    def shape(self) -> tuple[int, int]:
        """N and the length of a descriptor."""
        return len(self.examples), self.descriptors.dimension

    def __getitem__(self, chosen: slice) -> Features:
        """Read some of them: (m, d).

        Raises
        ------
        ProbeError
            Features that are marked done are not finite.
        """
        examples = self.examples[chosen]
        X = np.empty((len(examples), self.shape[1]), np.float32)
        first = 0
        for part, rows in zip(self.descriptors.parts, self.descriptors.rows, strict=True):
            # Images of several examples are read once, and in the file's order.
            wanted, place = np.unique(rows[examples], return_inverse=True)
            features = part.store.matrix(part.layer, wanted)[1]
            _check_finite(part, wanted, features)
            X[:, first : first + features.shape[1]] = features[place]
            first += features.shape[1]
        return X

    def blocks(self) -> Iterator[Features]:
        """Read all of them in order, in blocks of at most 64 MiB."""
        step = max(1, _BLOCK_BYTES // (4 * max(1, self.shape[1])))
        for first in range(0, len(self.examples), step):
            yield self[first : first + step]

    @property
    def nbytes(self) -> int:
        """Size in memory, if all are read at once."""
        return 4 * self.shape[0] * self.shape[1]


def _check_finite(part: Part, rows: Positions, features: Features) -> None:
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        path = part.store.paths[rows[~finite][0]]
        raise ProbeError(
            f"{int((~finite).sum())} rows of {part.layer} in {part.store.path} hold NaN or "
            f"infinite values, the first for {path!r}. `vggfeat verify` lists damaged rows."
        )
