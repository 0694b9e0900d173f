"""What an export takes from a store: rows of a layer, and the text that stands beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import StoreError
from vggfeat.feature_table import FeatureTable
from vggfeat.labels.targets import Targets
from vggfeat.progress import Progress
from vggfeat.store.vectors import checksums
from vggfeat.tables import csv_line

Rows = npt.NDArray[np.int64]
_QUOTED = re.compile(r"[\"\r\n]")  # what a CSV writer puts into quotes, beside commas


@dataclass(frozen=True, slots=True)
class ExportedRows:
    """Rows of a layer on their way into a file.

    Attributes
    ----------
    store : FeatureTable
    layer : str
        Canonical name.
    rows : ndarray of int64, shape (n,)
        Rows of the store, ascending.
    targets : Targets, optional
        Labels.
    columns : dict of str to Targets
        Splits and groups by name of their column, where there are any.
    total : int
        Rows of the whole export, of which these may be a part.
    progress : callable
    spreadsheet : bool
        See :func:`vggfeat.tables.csv_line`.
    sums : ndarray of uint32, shape (N,), optional
        CRC-32 of each row of the store. Given, features are compared with them on the way.
    block_rows : int, optional
        Rows read at a time; as :meth:`FeatureTable.blocks` chooses by default.
    """

    store: FeatureTable
    layer: str
    rows: Rows
    targets: Targets | None
    columns: dict[str, Targets]
    total: int
    progress: Progress
    spreadsheet: bool = False
    sums: npt.NDArray[np.uint32] | None = None
    block_rows: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row, as it is stored."""
        return self.store.shape(self.layer)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored numbers."""
        return np.dtype(self.store.provenance.config.dtype)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return self.targets is not None and self.targets.multi_label

    def blocks(self) -> Iterator[tuple[Rows, npt.NDArray[np.float32]]]:
        """Give rows and their features (n, D), maps flattened.

        Raises
        ------
        StoreError
            Features do not have the checksum of their row.
        """
        for rows, features in self._read():
            if self.sums is not None:
                self._check(rows, features, self.sums[rows])
            yield rows, features
            self.progress("exporting", len(rows), self.total)

    def _read(self) -> Iterator[tuple[Rows, npt.NDArray[np.float32]]]:
        if self.block_rows is None:
            yield from self.store.blocks(self.layer, self.rows)
            return
        width = self.store.dimension(self.layer)
        for first in range(0, len(self.rows), self.block_rows):
            rows = self.rows[first : first + self.block_rows]
            features = np.empty((len(rows), width), np.float32)
            self.store.read_rows(self.layer, rows, features)
            yield rows, features

    def texts(self, rows: Rows) -> Iterator[tuple[str, ...]]:
        """Give what stands beside the features of some images, in the order of the columns."""
        count, targets = len(rows), (self.targets, *self.columns.values())
        cells = (one.cells(rows) if one is not None else [""] * count for one in targets)
        return zip(self.store.paths[rows].tolist(), *cells, strict=True)

    def lines(self, rows: Rows) -> Iterator[str]:
        """Give the text columns of some images, each as a record of a CSV file."""
        for cells in self.texts(rows):
            line = ",".join(cells)
            plain = line.count(",") == len(cells) - 1 and not _QUOTED.search(line)
            if plain and not self.spreadsheet:
                yield f"{line}\n"
            else:
                yield csv_line(cells, spreadsheet=self.spreadsheet)

    @property
    def heading(self) -> str:
        """What stands above the text columns."""
        return ",".join(("path", "label", *self.columns))

    def _check(
        self, rows: Rows, features: npt.NDArray[np.float32], sums: npt.NDArray[np.uint32]
    ) -> None:
        wrong = checksums(features.astype(self.dtype, copy=False)) != sums
        if wrong.any():
            row = int(rows[wrong][0])
            raise StoreError(
                f"{self.store.path}: row {row} of {self.layer} ({self.store.paths[row]!r}) does "
                "not have its checksum, and is not exported. "
                f"`vggfeat verify {self.store.path} --redo` marks damaged images pending, and "
                "`vggfeat extract` then does them again."
            )


def exported_rows(
    store: FeatureTable, layer: str, progress: Progress, *, spreadsheet: bool = False
) -> ExportedRows:
    """Return all rows of a layer that are done.

    Raises
    ------
    StoreError
        There is none.
    LayerError
        The store has no such layer.
    """
    name = store.layer(layer)
    rows = np.flatnonzero(store.done).astype(np.int64)
    if not len(rows):
        raise StoreError(f"{store.path} has no image that is done. Run `vggfeat extract` first.")
    columns = {"split": store.splits, "group": store.groups}
    known = {heading: column for heading, column in columns.items() if column is not None}
    return ExportedRows(store, name, rows, store.targets, known, len(rows), progress, spreadsheet)
