"""The formats that features are exported in, each written into one new file."""

from __future__ import annotations

import importlib
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vggfeat.errors import StoreError
from vggfeat.store.exported_rows import ExportedRows

_LINES = 1 << 16  # records of text that are made at a time


def npy(job: ExportedRows, path: Path) -> None:
    """Write the features alone, (n, D) or (n, C, H, W), in the store's type."""
    with path.open("xb") as file:
        _stream(job, file)


def paths(job: ExportedRows, path: Path) -> None:
    """Write the text columns as CSV, one record a row."""
    with path.open("x", encoding="utf-8", newline="") as file:
        file.write(f"{job.heading}\n")
        for first in range(0, len(job.rows), _LINES):
            file.writelines(job.lines(job.rows[first : first + _LINES]))


def npz(job: ExportedRows, path: Path) -> None:
    """Write features, paths, classes and labels as arrays."""
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
        with archive.open("features.npy", "w", force_zip64=True) as file:
            _stream(job, file)
        others = {"paths": job.store.paths[job.rows].astype(str)}
        if job.targets is not None:
            others["classes"] = np.array(job.targets.classes, dtype=str)
            others["labels"] = job.targets.values[job.rows]
        for name, column in job.columns.items():
            others[f"{name}s"] = np.array(column.cells(job.rows), str)
        for name, values in others.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)


def _stream(job: ExportedRows, file: Any) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(job.dtype),
        "fortran_order": False,
        "shape": (len(job.rows), *job.shape),
    }
    np.lib.format.write_array_header_1_0(file, header)
    for _, features in job.blocks():
        file.write(features.astype(job.dtype, copy=False).data.cast("B"))


def csv(job: ExportedRows, path: Path) -> None:
    """Write text and features as CSV; maps flattened."""
    width = math.prod(job.shape)
    digits = 5 if job.dtype.itemsize == 2 else 9  # as many as bring back the same number
    line = ",".join([f"%.{digits}g"] * width)
    with path.open("x", encoding="utf-8", newline="") as file:
        file.write(f"{job.heading}," + ",".join(f"f{i}" for i in range(width)) + "\n")
        for rows, features in job.blocks():
            for text, values in zip(job.lines(rows), features.tolist(), strict=True):
                file.write(f"{text[:-1]},{line % tuple(values)}\n")


def parquet(job: ExportedRows, path: Path) -> None:
    """Write text and features as Parquet, a block a row group; maps flattened, always float32."""
    arrow, module = pyarrow()
    width = math.prod(job.shape)
    schema = arrow.schema(
        [
            ("path", arrow.string()),
            ("label", arrow.list_(arrow.string()) if job.multi_label else arrow.string()),
            *((name, arrow.string()) for name in job.columns),
            ("features", arrow.list_(arrow.float32(), width)),
        ],
        metadata={"layer": job.layer, "shape": " ".join(map(str, job.shape))},
    )
    options: dict[str, Any] = {}
    if (
        job.block_rows is not None
    ):  # large parts, in which a dictionary of floats takes half the time
        texts = [*job.columns, *([] if job.multi_label else ["label"])]
        options = {"use_dictionary": texts, "write_statistics": ["path", *texts]}
    with module.ParquetWriter(path, schema, **options) as writer:
        for rows, features in job.blocks():
            labels: list[Any] = [None] * len(rows)
            if job.multi_label and job.targets is not None:
                names = [job.targets.names(row) for row in rows.tolist()]
                known = job.targets.taken(
                    rows
                ).known  # an empty list says that it shows none of them
                labels = [list(n) if at else None for n, at in zip(names, known, strict=True)]
            elif job.targets is not None:
                labels = [name or None for name in job.targets.cells(rows)]
            flat = arrow.array(features.reshape(-1))
            columns = [
                arrow.array(job.store.paths[rows].tolist(), arrow.string()),
                arrow.array(labels, schema.field("label").type),
                *(
                    arrow.array([cell or None for cell in column.cells(rows)], arrow.string())
                    for column in job.columns.values()
                ),
                arrow.FixedSizeListArray.from_arrays(flat, width),
            ]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))


def pyarrow() -> tuple[Any, Any]:
    """Return pyarrow and its reader and writer of Parquet.

    Raises
    ------
    StoreError
        It is not installed.
    """
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise StoreError(
            'Parquet needs pyarrow, which is not installed: `pip install "vggfeat[parquet]"`, '
            "or choose .npy, .npz or .csv."
        ) from None


WRITERS: dict[str, Callable[[ExportedRows, Path], None]] = {
    ".npy": npy,
    ".npz": npz,
    ".csv": csv,
    ".parquet": parquet,
}
"""Formats by ending."""
