"""A layer's features as a file for other programs: .npy, .npz, .csv or .parquet."""

from __future__ import annotations

import importlib
import logging
import math
import os
import zipfile
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import StoreError
from vggfeat.failures import writing
from vggfeat.feature_table import FeatureTable
from vggfeat.labels.targets import Targets
from vggfeat.locking import WriterLock, destination, replacing
from vggfeat.progress import Progress, silent
from vggfeat.store.reader import open_features
from vggfeat.tables import csv_line

Rows = npt.NDArray[np.int64]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    store: FeatureTable
    layer: str
    rows: Rows
    targets: Targets | None
    columns: dict[str, Targets]
    progress: Progress
    spreadsheet: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.store.shape(self.layer)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.store.provenance.config.dtype)

    def blocks(self) -> Any:
        for rows, features in self.store.blocks(self.layer, self.rows):
            yield rows, features
            self.progress("exporting", len(rows), len(self.rows))

    def names(self, row: int) -> tuple[str, ...]:
        return self.targets.names(row) if self.targets is not None else ()

    def cells(self, row: int) -> str:
        """Return the text columns of one image, its path and labels, as a table has them."""
        label = self.targets.cell(row) if self.targets is not None else ""
        others = (column.cell(row) for column in self.columns.values())
        return csv_line((self.store.paths[row], label, *others), spreadsheet=self.spreadsheet)

    @property
    def heading(self) -> str:
        """What stands above the text columns."""
        return ",".join(("path", "label", *self.columns))


def export(
    store: FeatureTable | str | os.PathLike[str],
    out: str | os.PathLike[str],
    layer: str,
    overwrite: bool = False,
    progress: Progress = silent,
    *,
    spreadsheet: bool = False,
) -> int:
    """Write the features of all done images to a file for other programs, in blocks.

    Parameters
    ----------
    store : FeatureTable or path
        Where from.
    out : path
        Where to; its ending chooses the format. The file appears whole or not at all.

        ========  ==================================================================
        .npy      the features alone: (n, D) or (n, C, H, W) in the store's type; beside it
                  ``OUT.paths.csv`` with columns path, label, one record a row
        .npz      ``features`` as in .npy, ``paths``; with labels ``classes``, ``labels``
        .csv      columns path, label, f0, f1, ...; maps flattened
        .parquet  columns path, label, features (a list of D float32); maps flattened. Of several
                  labels a list: empty where none is shown, null where that is unknown
        ========  ==================================================================

        Where the store has splits or groups, columns ``split`` and ``group`` follow the label (in
        .npz ``splits`` and ``groups``).

        A label in CSV is written as ``--labels`` reads it: ``|`` between several, ``|`` alone for
        none of the classes, empty for unknown.
    layer : str
        Name or alias.
    overwrite : bool
        Replace a file at `out`.
    progress : callable, optional
        Told the number of rows written, and of how many.
    spreadsheet : bool
        In CSV, put an apostrophe before paths and labels that a spreadsheet may take for a
        formula; see :func:`vggfeat.tables.csv_line`.

    Returns
    -------
    int
        Number n of images written, in row order.

    Raises
    ------
    StoreError
        The ending is unknown, `out` exists, nothing is done yet, or the disk is full.
    LayerError
        The store has no such layer.
    """
    ending = Path(out).suffix.lower()
    if ending not in WRITERS:
        raise StoreError(
            f"{out} ends in {ending or 'nothing'!r}, which names no format. "
            f"Choose one of {', '.join(WRITERS)}."
        )
    if ending == ".parquet":
        _pyarrow()
    given = isinstance(store, FeatureTable)
    with nullcontext(store) if given else open_features(store) as opened:  # type: ignore[arg-type]
        job = _job(opened, layer, progress, spreadsheet)  # type: ignore[arg-type]
        writers = {Path(out): WRITERS[ending]}
        if ending == ".npy":
            writers[paths_beside(out)] = _paths
        with ExitStack() as stack:
            locks = [stack.enter_context(WriterLock(destination(path))) for path in writers]
            for path, lock in zip(writers, locks, strict=True):
                if lock.path.exists() and not overwrite:
                    raise StoreError(f"{path} exists. Name another file, or give --overwrite.")
            for write, lock in zip(writers.values(), locks, strict=True):
                stack.enter_context(writing(lock.path))
                write(job, stack.enter_context(replacing(lock.path, lock)))
        left = len(job.store) - len(job.rows)
    if left:
        _log.info("%d images that are not done were left out.", left)
    return len(job.rows)


def paths_beside(out: str | os.PathLike[str]) -> Path:
    """Return the table of paths that belongs to an array: ``OUT.paths.csv`` of ``OUT.npy``."""
    return Path(out).with_suffix(".paths.csv")


def _job(store: FeatureTable, layer: str, progress: Progress, spreadsheet: bool) -> _Job:
    name = store.layer(layer)
    rows = np.flatnonzero(store.done).astype(np.int64)
    if not len(rows):
        raise StoreError(f"{store.path} has no image that is done. Run `vggfeat extract` first.")
    columns = {"split": store.splits, "group": store.groups}
    known = {heading: column for heading, column in columns.items() if column is not None}
    return _Job(store, name, rows, store.targets, known, progress, spreadsheet)


def _npy(job: _Job, path: Path) -> None:
    with path.open("xb") as file:
        _stream(job, file)


def _paths(job: _Job, path: Path) -> None:
    with path.open("x", encoding="utf-8", newline="") as file:
        file.write(f"{job.heading}\n")
        file.writelines(job.cells(row) for row in job.rows.tolist())


def _npz(job: _Job, path: Path) -> None:
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
        with archive.open("features.npy", "w", force_zip64=True) as file:
            _stream(job, file)
        others = {"paths": job.store.paths[job.rows].astype(str)}
        if job.targets is not None:
            others["classes"] = np.array(job.targets.classes, dtype=str)
            others["labels"] = job.targets.values[job.rows]
        for name, column in job.columns.items():
            others[f"{name}s"] = np.array([column.cell(row) for row in job.rows.tolist()], str)
        for name, values in others.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)


def _stream(job: _Job, file: Any) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(job.dtype),
        "fortran_order": False,
        "shape": (len(job.rows), *job.shape),
    }
    np.lib.format.write_array_header_1_0(file, header)
    for _, features in job.blocks():
        file.write(memoryview(features.astype(job.dtype, copy=False)).cast("B"))


def _csv(job: _Job, path: Path) -> None:
    width = math.prod(job.shape)
    digits = 5 if job.dtype.itemsize == 2 else 9  # as many as bring back the same number
    line = ",".join([f"%.{digits}g"] * width)
    with path.open("x", encoding="utf-8", newline="") as file:
        file.write(f"{job.heading}," + ",".join(f"f{i}" for i in range(width)) + "\n")
        for rows, features in job.blocks():
            for row, values in zip(rows.tolist(), features.tolist(), strict=True):
                file.write(f"{job.cells(row)[:-1]},{line % tuple(values)}\n")


def _parquet(job: _Job, path: Path) -> None:
    arrow, parquet = _pyarrow()
    width = math.prod(job.shape)
    multi_label = job.targets is not None and job.targets.multi_label
    schema = arrow.schema(
        [
            ("path", arrow.string()),
            ("label", arrow.list_(arrow.string()) if multi_label else arrow.string()),
            *((name, arrow.string()) for name in job.columns),
            ("features", arrow.list_(arrow.float32(), width)),
        ],
        metadata={"layer": job.layer, "shape": " ".join(map(str, job.shape))},
    )
    with parquet.ParquetWriter(path, schema) as writer:
        for rows, features in job.blocks():
            names = [job.names(row) for row in rows.tolist()]
            labels: list[Any] = [n[0] if n else None for n in names]
            if multi_label and job.targets is not None:
                known = job.targets.known[rows]  # an empty list says that it shows none of them
                labels = [list(n) if at else None for n, at in zip(names, known, strict=True)]
            flat = arrow.array(features.reshape(-1))
            columns = [
                arrow.array(job.store.paths[rows].tolist(), arrow.string()),
                arrow.array(labels, schema.field("label").type),
                *(
                    arrow.array([column.cell(row) or None for row in rows.tolist()], arrow.string())
                    for column in job.columns.values()
                ),
                arrow.FixedSizeListArray.from_arrays(flat, width),
            ]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))


def _pyarrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise StoreError(
            'Parquet needs pyarrow, which is not installed: `pip install "vggfeat[parquet]"`, '
            "or choose .npy, .npz or .csv."
        ) from None


WRITERS: dict[str, Callable[[_Job, Path], None]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".csv": _csv,
    ".parquet": _parquet,
}
"""Formats by ending."""
