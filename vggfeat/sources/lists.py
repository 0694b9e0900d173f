"""A list of image files: one path a line, or a CSV table; either may carry labels."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections.abc import Iterable
from itertools import islice
from pathlib import Path, PurePath

from vggfeat.errors import SourceError
from vggfeat.files import as_key, decode_path, encode_path
from vggfeat.labels import LabelFile, RawLabels, read_label_file
from vggfeat.sources.base import Entry, FileSource, Source, entry_of
from vggfeat.tables import legible

_log = logging.getLogger(__name__)

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/+")
_ABOVE, _BESIDE = 4, 100
_TRIED = 20


class ListSource(FileSource):
    """The images of a list, in its order.

    Attributes
    ----------
    file : LabelFile
        All that the list says.
    keys : list of str
        Entry path of each of its lines.
    """

    def __init__(
        self,
        folder: str,
        spec: str,
        entries: Iterable[Entry],
        labels: RawLabels | None,
        file: LabelFile,
        keys: list[str],
    ) -> None:
        super().__init__(folder, spec, (), labels)
        self.entries = list(entries)
        self.file, self.keys = file, keys


def open_list(file: str) -> Source:
    """Read a list: a ``.csv`` table, or lines of paths, perhaps with a label behind each.

    Paths are relative to the list's folder, or absolute. What a list may look like,
    :func:`vggfeat.labels.read_label_file` says. A file that does not exist is an entry, which
    fails when opened.

    Raises
    ------
    SourceError
        The list cannot be read, is empty, lacks the column of paths, gives an image two labels,
        or not one of its files exists.
    """
    folder = Path(file).parent
    label_file = read_label_file(file, is_image=lambda path: _exists(folder, path))
    if not label_file.paths:
        raise SourceError(f"The list {file!r} names no images. Write one path a line into it.")
    keys = [_key(path, folder) for path in label_file.paths]
    entries = {key: entry_of(str(folder), key) for key in dict.fromkeys(keys)}
    lost = [
        entry.path
        for entry in entries.values()
        if not entry.mtime_ns and not _exists(folder, decode_path(entry.path))
    ]
    if len(lost) == len(entries):
        raise SourceError(_none_exists(file, folder, label_file.paths))
    if lost:
        _log.warning(
            "%s: %d of its %d images do not exist, for example %r.",
            *(file, len(lost), len(entries), lost[0]),
        )
    if (repeated := len(keys) - len(entries)) and not label_file.multi_label:
        _log.warning(
            "%s: %d of %d lines repeat a path; each image is taken once.",
            *(file, repeated, len(keys)),
        )
    labels = label_file.by_key(keys) if label_file.used else None
    return ListSource(str(folder), file, entries.values(), labels, label_file, keys)


def _key(path: str, folder: Path) -> str:
    """Return the key of a path, in the spelling of the file that exists where one does."""
    forms = dict.fromkeys((path, legible(path), legible(path).replace("\\", "/")))
    if not path.isascii() or "\\" in path:
        composed = [unicodedata.normalize(form, text) for text in forms for form in ("NFC", "NFD")]
        path = next((p for p in dict.fromkeys((*forms, *composed)) if _exists(folder, p)), path)
    name = PurePath(path)
    return as_key(str(name.relative_to(folder)) if name.is_relative_to(folder) else path)


def _exists(folder: Path, path: str) -> bool:
    try:
        return os.path.lexists(folder / path)
    except ValueError:  # a NUL
        return False


def _none_exists(file: str, folder: Path, paths: list[str]) -> str:
    """Say that a list's files are not there, and where they may be."""
    first = legible(paths[0])
    said = f"Not one of the {len(paths):,} images of {file!r} exists, for example {first!r}."
    if _URL.match(first):
        return f"{said} URLs are not read: download the images, and list the files."
    for base in _bases(folder):
        tried = [p for path in paths[:_TRIED] for p in (path, path.replace("\\", "/"))]
        if any(_exists(base, path) for path in tried):
            return (
                f"{said} Paths in a list are relative to the list's folder, and these are there "
                f"below {encode_path(str(base))!r}: move the list there, or write absolute paths."
            )
    if re.match(r"[A-Za-z]:[\\/]", first):
        return f"{said} These are paths of Windows: write them as they are on this machine."
    return f"{said} Paths are relative to the list's folder, {encode_path(str(folder))!r}."


def _bases(folder: Path) -> list[Path]:
    """Return the folders that a list's author may have meant: here, above, and beside the list."""
    try:
        with os.scandir(folder) as items:
            below = [Path(item.path) for item in islice(items, _BESIDE) if item.is_dir()]
    except OSError:
        below = []
    return [Path.cwd(), *list(folder.parents)[:_ABOVE], *sorted(below)]
