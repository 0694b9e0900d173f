"""A layer's features as a folder of parts: what databases and clusters load.

Parts that are there and right stay when an export is run again, so a killed one goes on, and one of
a store that has grown writes the last parts alone.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vggfeat.atomic import atomic_file
from vggfeat.errors import StoreError
from vggfeat.failures import writing
from vggfeat.feature_table import FeatureTable
from vggfeat.locking import WriterLock
from vggfeat.progress import Progress, silent
from vggfeat.store import export_formats
from vggfeat.store.export_manifest import (
    ENDINGS,
    NAME,
    Manifest,
    Part,
    is_leftover,
    is_part,
    measured,
    part_name,
)
from vggfeat.store.exported_rows import ExportedRows, exported_rows
from vggfeat.store.reader import open_features

FORMATS = tuple(ENDINGS)
"""Formats of parts."""
PART_BYTES, _BLOCK_BYTES = 512 << 20, 64 << 20
"""Features in a part, where nobody says how many rows; and in a row group."""
_BLOCK_TEXTS = 1 << 16

_WRITERS = {
    ".parquet": export_formats.parquet,
    ".npy": export_formats.npy,
    ".paths.csv": export_formats.paths,
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PartsReport:
    """What an export into parts did.

    Attributes
    ----------
    images : int
        Rows of all parts.
    parts : int
        How many there are.
    kept : int
        How many of them were there and right, and stayed.
    """

    images: int
    parts: int
    kept: int


def rows_of_parts(dimension: int) -> int:
    """Return how many rows a part has by default: a power of two, of at most 512 MiB as float32."""
    return _power_of_two(PART_BYTES // (4 * dimension))


def export_parts(
    store: FeatureTable | str | os.PathLike[str],
    out: str | os.PathLike[str],
    layer: str,
    *,
    format: str = "parquet",
    part_rows: int | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
    spreadsheet: bool = False,
) -> PartsReport:
    """Write the features of all done images into a folder of parts, in blocks.

    Part k has the done images from k * `part_rows` on, in row order. ``_manifest.json`` says of
    each part how many rows it has, what they are (a digest) and what was written (sizes and
    checksums); its ``complete`` is true once all parts are there. A part gets its name when it is
    whole.

    Parameters
    ----------
    store : FeatureTable or path
        Where from.
    out : path
        The folder; made where there is none.
    layer : str
        Name or alias.
    format : {"parquet", "npy"}
        ``part-00000.parquet`` and so on, with the columns of :func:`~vggfeat.store.export`, of one
        schema in all; row groups of up to 64 MiB of features. Or ``part-00000.npy`` with
        ``part-00000.paths.csv``.
    part_rows : int, optional
        Rows in a part; by default as many as 512 MiB of float32 hold, a power of two.
    overwrite : bool
        Replace an export in `out` that was made with other settings.
    progress : callable, optional
        Told the number of rows written (or found to be there), and of how many.
    spreadsheet : bool
        As for :func:`~vggfeat.store.export`, in ``.paths.csv``.

    Returns
    -------
    PartsReport

    Raises
    ------
    StoreError
        `out` holds something else or an export with other settings, features do not have their
        checksums, nothing is done yet, or the disk is full. Parts that are there stay.
    LayerError
        The store has no such layer.
    """
    if format not in ENDINGS:
        raise StoreError(f"Parts are {' or '.join(FORMATS)}, not {format!r}.")
    if part_rows is not None and part_rows < 1:
        raise StoreError(f"A part has one row or more, not {part_rows}.")
    if format == "parquet":
        export_formats.pyarrow()
    given = isinstance(store, FeatureTable)
    with nullcontext(store) if given else open_features(store) as opened:  # type: ignore[arg-type]
        job = _job(opened, layer, progress, spreadsheet)  # type: ignore[arg-type]
        size = part_rows or rows_of_parts(job.store.dimension(job.layer))
        folder = _made(out)
        with writing(folder / NAME), WriterLock(folder / NAME):
            report = _export(job, folder, _settings(job, format, size), overwrite)
        left = len(job.store) - len(job.rows)
    if left:
        _log.info("%d images that are not done were left out.", left)
    return report


def _job(store: FeatureTable, layer: str, progress: Progress, spreadsheet: bool) -> ExportedRows:
    job = exported_rows(store, layer, progress, spreadsheet=spreadsheet)
    width = store.dimension(job.layer)
    return replace(
        job,
        sums=store.checksums(job.layer),
        block_rows=_power_of_two(_BLOCK_BYTES // (4 * width)),
    )


def _settings(job: ExportedRows, format: str, part_rows: int) -> dict[str, Any]:
    """Return what all parts have in common, as JSON has it."""
    return {
        "files": format,
        "layer": job.layer,
        "shape": list(job.shape),
        "dtype": "float32" if format == "parquet" else str(job.dtype),
        "columns": ["path", "label", *job.columns],
        "several_labels": job.multi_label,
        "spreadsheet": job.spreadsheet and format == "npy",
        "part_rows": part_rows,
        "deciding": job.store.provenance.config.for_layer(job.layer).to_json(),
    }


def _made(out: str | os.PathLike[str]) -> Path:
    """Return the folder, links followed, after a check that nothing else is in it."""
    folder = Path(os.path.realpath(out))
    if not folder.parent.is_dir():
        raise StoreError(f"{out}: the folder {folder.parent} does not exist. Make it first.")
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{out} is a file. Parts go into a folder: name another.")
    with writing(folder):
        folder.mkdir(exist_ok=True)
        if not (folder / NAME).exists():
            others = sorted(one.name for one in folder.iterdir() if not _ours(one.name))
            if others:
                raise StoreError(
                    f"{out} holds {others[0]!r} and no export of vggfeat; it stays as it is. Name "
                    "another folder."
                )
    return folder


def _ours(name: str) -> bool:
    return name.startswith(f".{NAME}.")  # a lock, or what a killed run left


def _export(
    job: ExportedRows, folder: Path, settings: dict[str, Any], overwrite: bool
) -> PartsReport:
    before = Manifest.read(folder)
    if before is not None and dict(before.settings) != settings:
        if not overwrite:
            raise StoreError(_differs(folder, before.settings, settings))
        before = None
    parts = dict(enumerate(_cut(job, settings["part_rows"])))
    digests = {number: _digest(part) for number, part in parts.items()}
    endings = ENDINGS[settings["files"]]
    kept = {} if before is None else dict(_kept(before, digests, parts, folder, endings))
    manifest = Manifest(settings, dict(kept), len(job.rows), len(kept) == len(parts))
    if before != manifest:
        # What is there is at every moment what the manifest names, or is removed by the next run.
        manifest.write(folder)
    _sweep(folder, {name for part in kept.values() for name in part.files})
    for number, part in parts.items():
        if number in kept:
            continue
        files = _write(part, number, folder, endings)
        manifest.parts[number] = Part(len(part.rows), digests[number], files)
        manifest = replace(manifest, complete=len(manifest.parts) == len(parts))
        manifest.write(folder)
    return PartsReport(len(job.rows), len(parts), len(kept))


def _cut(job: ExportedRows, size: int) -> Iterator[ExportedRows]:
    for first in range(0, len(job.rows), size):
        yield replace(job, rows=job.rows[first : first + size])


def _digest(part: ExportedRows) -> str:
    """Return the SHA-256 of all that a part is made of: texts, and checksums of the features."""
    digest = hashlib.sha256()
    for first in range(0, len(part.rows), _BLOCK_TEXTS):
        texts = map("\0".join, part.texts(part.rows[first : first + _BLOCK_TEXTS]))
        digest.update("\0".join((*texts, "")).encode())
    assert part.sums is not None
    digest.update(part.sums[part.rows].astype("<u4").tobytes())
    return digest.hexdigest()


def _kept(
    before: Manifest,
    digests: dict[int, str],
    parts: dict[int, ExportedRows],
    folder: Path,
    endings: tuple[str, ...],
) -> Iterator[tuple[int, Part]]:
    """Give the parts that were written of the same rows, and are as they were written."""
    for number, part in before.parts.items():
        whole = set(part.files) == {part_name(number, ending) for ending in endings}
        if whole and part.digest == digests.get(number) and part.is_right(folder):
            yield number, part
            parts[number].progress("exporting", part.rows, parts[number].total)


def _write(
    part: ExportedRows, number: int, folder: Path, endings: tuple[str, ...]
) -> dict[str, tuple[int, int]]:
    files = {}
    for ending in endings:
        path = folder / part_name(number, ending)
        with writing(path), atomic_file(path) as temporary:
            _WRITERS[ending](part, temporary)
            written = measured(temporary)
        assert written is not None
        files[path.name] = written
    return files


def _sweep(folder: Path, named: set[str]) -> None:
    """Remove parts that the manifest does not name, and what killed runs left."""
    for one in list(folder.iterdir()):
        if (is_part(one.name) and one.name not in named) or is_leftover(one.name):
            with suppress(FileNotFoundError):
                one.unlink()


def _differs(folder: Path, before: Any, now: dict[str, Any]) -> str:
    names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    told = "; ".join(f"{name}: {before.get(name)!r}, not {now.get(name)!r}" for name in names)
    return (
        f"{folder} holds an export made otherwise ({told}). Name another folder, or give "
        "--overwrite to replace it."
    )


def _power_of_two(most: int) -> int:
    """Return the greatest power of two that is no more than `most`, or 1."""
    return 1 << max(0, most.bit_length() - 1)
