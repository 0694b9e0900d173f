"""Reading a whole store again to see whether it still holds what was written."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vggfeat.progress import Progress, silent
from vggfeat.store.contents import DONE, FAILED, STATUSES
from vggfeat.store.failures import reading
from vggfeat.store.rows import BLOCK_BYTES, runs_of

if TYPE_CHECKING:
    from vggfeat.store.reader import FeatureStore

Rows = npt.NDArray[np.int64]
"""Called now and then with how many rows are through, and of how many."""


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


def checksums(features: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    """Return the CRC-32 (that of zlib and PNG) of each row's little-endian bytes.

    Parameters
    ----------
    features : ndarray, shape (n, ...)
        Rows in the type they are stored in.

    Returns
    -------
    ndarray of uint32, shape (n,)
    """
    little = np.ascontiguousarray(features, dtype=features.dtype.newbyteorder("<"))
    return np.array([zlib.crc32(row) for row in little], dtype="<u4")


def verify(store: FeatureStore, progress: Progress = silent) -> VerifyReport:
    """Compare every done row with its checksum, and look for what the format forbids.

    Parameters
    ----------
    store : FeatureStore
        Opened store; it is read in blocks of a few MiB.
    progress : Progress
        Told of rows, layer by layer.
    """
    paths, status = store.paths, store.status
    found: list[tuple[int, Problem]] = []
    for row in np.flatnonzero(status >= len(STATUSES)).tolist():
        found.append((row, Problem(paths[row], "", f"status {status[row]} is not 0, 1 or 2")))
    failed = np.flatnonzero(status == FAILED)
    for row, reason in zip(failed.tolist(), store.errors(failed), strict=True):
        if not reason:
            found.append((row, Problem(paths[row], "", "failed without a reason")))
    seen: set[str] = set()
    for row, path in enumerate(paths):
        if path in seen:
            found.append((row, Problem(path, "", "the path is there twice")))
        seen.add(path)
    if store.has_labels:
        found += _wrong_targets(store)
    done = np.flatnonzero(status == DONE).astype(np.int64)
    total, damaged = len(store.layers) * len(done), set()
    for layer in store.layers:
        for rows, features, sums in _blocks(store, layer, done):
            for row, problem in _wrong_rows(rows, features, sums):
                found.append((row, Problem(paths[row], layer, problem)))
                damaged.add(row)
            progress("verifying", len(rows), total)
    found.sort(key=lambda entry: entry[0])
    return VerifyReport(
        dict.fromkeys(store.layers, len(done)),
        [problem for _, problem in found],
        np.array(sorted(damaged), dtype=np.int64),
    )


def _blocks(store: FeatureStore, layer: str, rows: Rows) -> Iterator[tuple[Rows, Any, Any]]:
    dataset, sums = store[layer], store.checksums(layer)
    row_bytes = dataset.dtype.itemsize * math.prod(dataset.shape[1:])
    for run in runs_of(rows, max(1, BLOCK_BYTES // row_bytes)):
        chosen = rows[run]
        with reading(store.path):
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


def _wrong_targets(store: FeatureStore) -> list[tuple[int, Problem]]:
    values, classes = store.stored_labels(), len(store.classes)
    if values.ndim == 2:
        wrong = (np.abs(values.astype(np.int16)) > 1).any(axis=1)
    else:
        wrong = (values < -1) | (values >= classes)
    paths = store.paths
    return [
        (row, Problem(paths[row], "", "its label is none of the classes"))
        for row in np.flatnonzero(wrong).tolist()
    ]
