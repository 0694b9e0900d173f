"""A list of image files: one path a line, or a CSV table that may carry labels."""

from __future__ import annotations

import logging
from pathlib import Path, PurePath

from vggfeat.errors import SourceError
from vggfeat.files import as_key
from vggfeat.labels import gather, read_table, read_text
from vggfeat.sources.base import FileSource, Source, entry_of

_log = logging.getLogger(__name__)

_Row = tuple[str, tuple[str, ...]]


def open_list(file: str) -> Source:
    """Read a ``.txt`` or ``.csv`` list.

    Paths are relative to the list's folder, or absolute. In a ``.txt`` blank lines and lines that
    start with ``#`` are left out; a ``.csv`` is what :func:`vggfeat.labels.from_csv` reads, with
    the labels optional. A file that does not exist is an entry, which fails when opened.

    Raises
    ------
    SourceError
        The list cannot be read, is empty, or lacks the column of paths.
    """
    if file.lower().endswith(".csv"):
        table = read_table(file)
        rows, labelled = table.rows, table.labelled
    else:
        rows, labelled = _lines(file), False
    if not rows:
        raise SourceError(f"The list {file!r} names no images. Write one path a line into it.")
    folder = Path(file).parent
    keyed = [(_key(path, folder), names) for path, names in rows]
    keys = dict.fromkeys(key for key, _ in keyed)
    if repeated := len(keyed) - len(keys):
        _log.warning(
            "%s: %d of %d lines repeat a path; each image is taken once.",
            *(file, repeated, len(keyed)),
        )
    entries = [entry_of(str(folder), key) for key in keys]
    return FileSource(str(folder), file, entries, gather(keyed) if labelled else None)


def _lines(file: str) -> list[_Row]:
    lines = (line.strip() for line in read_text(file).split("\n"))
    return [(line, ()) for line in lines if line and not line.startswith("#")]


def _key(path: str, folder: Path) -> str:
    name = PurePath(path)
    return as_key(str(name.relative_to(folder)) if name.is_relative_to(folder) else path)
