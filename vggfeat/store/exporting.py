"""A layer's features as a file for other programs: .npy, .npz, .csv or .parquet."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack, nullcontext
from pathlib import Path

from vggfeat.errors import StoreError
from vggfeat.failures import writing
from vggfeat.feature_table import FeatureTable
from vggfeat.locking import WriterLock, destination, replacing
from vggfeat.progress import Progress, silent
from vggfeat.store import export_formats
from vggfeat.store.export_formats import WRITERS
from vggfeat.store.exported_rows import exported_rows
from vggfeat.store.reader import open_features

_log = logging.getLogger(__name__)


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
        export_formats.pyarrow()
    given = isinstance(store, FeatureTable)
    with nullcontext(store) if given else open_features(store) as opened:  # type: ignore[arg-type]
        job = exported_rows(opened, layer, progress, spreadsheet=spreadsheet)  # type: ignore[arg-type]
        writers = {Path(out): WRITERS[ending]}
        if ending == ".npy":
            writers[paths_beside(out)] = export_formats.paths
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
