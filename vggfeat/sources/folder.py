"""A folder of images, with everything below it."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import NamedTuple

from vggfeat.errors import ImageError, SourceError
from vggfeat.files import IMAGE_EXTENSIONS, encode_path, extension, open_regular, system_reason
from vggfeat.signatures import SIGNATURE_BYTES, sniff
from vggfeat.sources.base import Entry, FileSource, Source, entry_from
from vggfeat.sources.parquet import SUFFIX, open_tables
from vggfeat.sources.parquet_columns import Choice

_log = logging.getLogger(__name__)

_Identity = tuple[int, int]


class _Folder(NamedTuple):
    path: str
    prefix: str
    """Key of the folder with a slash at its end, empty for the root."""
    above: frozenset[_Identity]
    """Device and inode of the folders it lies in, by which a loop is known."""


def open_folder(root: str, choice: Choice | None = None) -> Source:
    """List a folder's images, or those in its Parquet files where it has no others.

    Hidden files and folders (``.name``, which covers ``._name``) and ``__MACOSX`` are left out.
    Symbolic links are followed, except back into a folder that the link lies in.

    Parameters
    ----------
    root : str
        Its absolute path.
    choice : Choice, optional
        Columns of Parquet files that a person names, and by that means those.

    Raises
    ------
    SourceError
        The folder cannot be read, or holds no image.
    """
    entries: list[Entry] = []
    tables: list[str] = []
    left_out = 0
    waiting = [_Folder(root, "", frozenset())]
    while waiting:
        folder = waiting.pop()
        try:
            left_out += _scan(folder, entries, waiting, tables)
        except OSError as error:
            if folder.path == root:
                raise SourceError(
                    f"Cannot read the folder {root!r}: {system_reason(error)}."
                ) from error
            _log.warning("Folder %r is left out: %s.", folder.path, system_reason(error))
    chosen = choice is not None and choice != Choice()
    if tables and (chosen or not entries):
        return open_tables(sorted(tables), root, choice or Choice())
    if tables:
        _log.warning(
            "%s holds %d images beside %d Parquet files, which are left out. To take the images in "
            "those, name their column: %s#image:COLUMN.",
            *(root, len(entries), len(tables), root),
        )
    if chosen:
        raise SourceError(f"No Parquet files in the folder {root!r}, which # names columns of.")
    if not entries:
        others = f" ({left_out} other files)" if left_out else ""
        raise SourceError(
            f"No images in the folder {root!r}{others}. Name a folder that holds, at any depth, "
            "JPEG, PNG, GIF, WEBP, BMP, TIFF or other image files."
        )
    return FileSource(root, root, entries, left_out=left_out)


def _scan(folder: _Folder, entries: list[Entry], waiting: list[_Folder], tables: list[str]) -> int:
    """Sort what a folder holds into images, folders, tables; return how many files are none."""
    state = Path(folder.path).stat()
    identity = (state.st_dev, state.st_ino)
    if identity in folder.above:
        _log.info("Folder %r is left out: a link back to a folder it lies in.", folder.path)
        return 0
    above = folder.above | {identity}
    left_out = 0
    with os.scandir(folder.path) as items:
        for item in items:
            name = item.name
            if name[0] == "." or name == "__MACOSX":
                continue
            key = folder.prefix + encode_path(name)
            if _is_folder(item):
                waiting.append(_Folder(item.path, key + "/", above))
            elif extension(name) in IMAGE_EXTENSIONS or _looks_like_image(item):
                entries.append(_entry(key, item))
            else:
                left_out += 1
                if extension(name) == SUFFIX:
                    tables.append(item.path)
    return left_out


def _entry(key: str, item: os.DirEntry[str]) -> Entry:
    try:
        state = item.stat()
    except OSError:  # a dangling link, say: opening it will give the reason
        return Entry(key, 0, 0)
    return entry_from(key, state)


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link to itself
        return False


def _looks_like_image(item: os.DirEntry[str]) -> bool:
    try:
        if not stat.S_ISREG(item.stat().st_mode):
            return False
        with open_regular(item.path) as file:
            return bool(sniff(file.read(SIGNATURE_BYTES)))
    except (OSError, ImageError):
        return False
