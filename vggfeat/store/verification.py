"""Reading a whole store again to see whether it still holds what was written."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from vggfeat import hdf5
from vggfeat.failures import reading
from vggfeat.feature_table import DONE, FAILED
from vggfeat.progress import Progress, silent
from vggfeat.store.opening import read_provenance
from vggfeat.store.rows import BLOCK_BYTES, runs_of
from vggfeat.store.vectors import checksums

Rows = npt.NDArray[np.int64]


class Problem(NamedTuple):
    """Something in a store that is not as it should be.

    Attributes
    ----------
    path : str
        The image.
    layer : str
        The layer; empty where the problem is not with features.
    problem : str
        What is wrong.
    """

    path: str
    layer: str
    problem: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What :meth:`FeatureStore.verify` found.

    Attributes
    ----------
    checked : dict of str to int
        Done rows that were read, by layer.
    problems : list of Problem
        What is wrong, by row; empty where all is well.
    damaged : ndarray of int64
        Rows whose features are not what was written, ascending.
    """

    checked: dict[str, int]
    problems: list[Problem]
    damaged: npt.NDArray[np.int64]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "ok": self.ok,
            "checked": self.checked,
            "problems": [problem._asdict() for problem in self.problems],
        }


def verify(file: h5py.File, path: Path | str, progress: Progress = silent) -> VerifyReport:
    """Compare every done row with its checksum, and look for what the format forbids.

    Parameters
    ----------
    file : h5py.File
        Opened store; it is read in blocks of a few MiB.
    path : Path
        Its name, for messages.
    progress : Progress
        Told of rows, layer by layer.
    """
    layers = read_provenance(file, path).config.layers
    with reading(path):
        paths, status = hdf5.texts(file["images/path"]), file["images/status"][:]
        errors = file["images/error"]
        problems = [
            (row, Problem(paths[row], "", "failed without a reason"))
            for row in np.flatnonzero(status == FAILED).tolist()
            if not errors[row]
        ]
        problems += _wrong_targets(file, paths)
    seen: set[str] = set()
    for row, name in enumerate(paths):
        if name in seen:
            problems.append((row, Problem(name, "", "the path is there twice")))
        seen.add(name)
    done = np.flatnonzero(status == DONE).astype(np.int64)
    total, damaged = len(layers) * len(done), set()
    for layer in layers:
        for rows, features, sums in _blocks(file, path, layer, done):
            for row, problem in _wrong_rows(rows, features, sums):
                problems.append((row, Problem(paths[row], layer, problem)))
                damaged.add(row)
            progress("verifying", len(rows), total)
    problems.sort(key=lambda entry: entry[0])
    return VerifyReport(
        dict.fromkeys(layers, len(done)),
        [problem for _, problem in problems],
        np.array(sorted(damaged), dtype=np.int64),
    )


def _blocks(
    file: h5py.File, path: Path | str, layer: str, rows: Rows
) -> Iterator[tuple[Rows, npt.NDArray[Any], npt.NDArray[np.uint32]]]:
    dataset, sums = file["features"][layer], file["checksums"][layer]
    row_bytes = dataset.dtype.itemsize * math.prod(dataset.shape[1:])
    for run in runs_of(rows, max(1, BLOCK_BYTES // row_bytes)):
        chosen = rows[run]
        with reading(path):
            span = np.s_[int(chosen[0]) : int(chosen[-1]) + 1]
            block = dataset[span], sums[span]
        yield chosen, *block


def _wrong_rows(
    rows: Rows, features: npt.NDArray[Any], sums: npt.NDArray[Any]
) -> Iterator[tuple[int, str]]:
    for row, feature, expected, got in zip(rows, features, sums, checksums(features), strict=True):
        if got != expected:
            yield int(row), f"checksum {got:08x}, not {expected:08x}"
        elif not np.isfinite(feature).all():
            yield int(row), "done, but with NaN or infinity"


def _wrong_targets(file: h5py.File, paths: list[str]) -> list[tuple[int, Problem]]:
    """Find codes of several labels that there are not; opening refuses others."""
    if "labels/targets" not in file or file["labels/targets"].ndim == 1:
        return []
    wrong = (np.abs(file["labels/targets"][:].astype(np.int16)) > 1).any(axis=1)
    return [
        (row, Problem(paths[row], "", "its label is none of the classes"))
        for row in np.flatnonzero(wrong).tolist()
    ]
