"""Making a store file in full: for a new store, for one that grows, and for a merged one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vggfeat.errors import StoreError
from vggfeat.failures import check_space, reading, writing
from vggfeat.feature_table import DONE
from vggfeat.locking import WriterLock, replacing
from vggfeat.store.contents import FORMAT_VERSION, Contents
from vggfeat.store.layout import create, locate
from vggfeat.store.reader import FeatureStore
from vggfeat.store.rows import BLOCK_BYTES, RowFile, runs_of

Rows = npt.NDArray[np.int64]
Copied = Callable[[int], object]


def build(
    path: Path,
    contents: Contents,
    lock: WriterLock,
    origins: Iterable[tuple[FeatureStore, Rows, Rows]] = (),
    copied: Copied | None = None,
) -> None:
    """Make a store at `path`, replacing what is there once the new file is complete.

    Parameters
    ----------
    path : Path
        Where to.
    contents : Contents
        Its rows; those that are done must come from `origins`.
    lock : WriterLock
        The lock held on `path`.
    origins : iterable of (store, rows there, rows here)
        Features to copy. A checksum is copied as it is, so that damage stays visible.
    copied : callable, optional
        Told the number of rows after each block.

    Raises
    ------
    StoreError
        The disk is full, or an origin is damaged. Then `path` is as it was before.
    """
    contents = replace(contents, version=FORMAT_VERSION)
    needed = contents.bytes_needed()
    check_space(path, needed)
    with writing(path, needed), replacing(path, lock) as temporary:
        create(temporary, contents)
        regions = locate(temporary, contents)
        if regions is None:
            raise StoreError(f"{path} cannot be made: h5py laid it out in an unforeseen way.")
        file = RowFile(temporary, regions)
        try:
            _fill(file, contents)
            for store, there, here in origins:
                _copy(file, contents, store, there, here, copied)
            file.sync()
        finally:
            file.close()


def blank(file: RowFile, layer: str, rows: Rows, dtype: np.dtype[np.floating]) -> None:
    """Fill rows of a layer with NaN."""
    row_bytes = file.regions[f"features/{layer}"].row_bytes
    limit = max(1, BLOCK_BYTES // row_bytes)
    nothing = np.full(min(limit, len(rows)) * row_bytes // dtype.itemsize, np.nan, dtype)
    for run in runs_of(rows, limit):
        count = (run.stop - run.start) * row_bytes // dtype.itemsize
        file.write(f"features/{layer}", int(rows[run.start]), nothing[:count])


def _fill(file: RowFile, contents: Contents) -> None:
    empty = np.flatnonzero(contents.status != DONE).astype(np.int64)
    for layer in contents.shapes:
        blank(file, layer, empty, contents.dtype)
        file.write(f"checksums/{layer}", 0, np.zeros(len(contents.paths), "<u4"))


def _copy(
    file: RowFile,
    contents: Contents,
    store: FeatureStore,
    there: Rows,
    here: Rows,
    copied: Copied | None,
) -> None:
    # Cut where either side jumps: a jump of `there` by as much as `here` is still two runs.
    jumps = np.flatnonzero((np.diff(there) != 1) | (np.diff(here) != 1)) + 1
    for layer in contents.shapes:
        dataset, sums = store[layer], store.checksums(layer)
        limit = max(1, BLOCK_BYTES // file.regions[f"features/{layer}"].row_bytes)
        for stretch in np.split(np.arange(len(there)), jumps):
            for first in range(0, len(stretch), limit):
                part = stretch[first : first + limit]
                source = np.s_[int(there[part[0]]) : int(there[part[-1]]) + 1]
                with reading(store.path):
                    features = np.asarray(dataset[source], dtype=contents.dtype)
                    checks = np.asarray(sums[source], dtype="<u4")
                file.write(f"features/{layer}", int(here[part[0]]), features)
                file.write(f"checksums/{layer}", int(here[part[0]]), checks)
                if copied is not None:
                    copied(len(part))
