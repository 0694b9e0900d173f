"""Opening an image again by what a store or an index keeps of it, which may come from a stranger.

The source and the path stand in a file that somebody may have handed over, and what is opened is
shown to others. So an image is opened only below its source or a folder that the user named, after
all links are resolved; a source that would hold everything is refused; and what is opened must be
an image by its first bytes.
"""

from __future__ import annotations

import os
import re
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from vggfeat.array_files import is_array_file, parts_of
from vggfeat.errors import ImageError, SourceError
from vggfeat.files import (
    IMAGE_EXTENSIONS,
    RAW_EXTENSIONS,
    decode_path,
    encode_path,
    extension,
    open_beneath,
    system_reason,
)
from vggfeat.images import size_of
from vggfeat.signatures import SIGNATURE_BYTES, sniff
from vggfeat.sources.base import Entry, Source
from vggfeat.sources.braces import expand
from vggfeat.sources.elsewhere import is_listed, open_remote, open_unlisted
from vggfeat.sources.parquet import SUFFIX, ParquetSource, open_tables
from vggfeat.sources.parquet_columns import Choice, split_choice
from vggfeat.sources.several import named, within
from vggfeat.sources.shards import ShardSource
from vggfeat.sources.stacks import StackSource
from vggfeat.storage.places import LocalPlace, State
from vggfeat.storage.urls import is_remote, shown

_CLOSED = ("/proc", "/sys", "/dev", "/etc", "/boot", "/private/etc", "/System", "C:/Windows")
"""Folders of the system, with everything below them."""

_OPEN = ("/dev/shm",)

_CROWDED = (
    *("/bin", "/home", "/lib", "/lib32", "/lib64", "/media", "/mnt", "/opt", "/root", "/run"),
    *("/sbin", "/srv", "/tmp", "/usr", "/usr/local", "/usr/share", "/var", "/var/lib", "/var/tmp"),
    *("/dev/shm", "/Applications", "/Library", "/Users", "/Volumes", "/private", "/private/tmp"),
    *("/private/var", "C:/Users", "C:/Program Files", "C:/ProgramData"),
)
"""Folders that many things of many people lie in; what is below them is another matter."""

_TABLE = re.compile(r"[^/]*\.parquet(?=/)", re.IGNORECASE)
_HOMES = ("/home", "/Users", "C:/Users")


class OutsideSourceError(ImageError):
    """An image lies where its source does not reach, or its source is not to be shown."""


def open_stored(root: str, path: str, roots: Sequence[str | os.PathLike[str]] = ()) -> BinaryIO:
    """Open an image that a store knows, by what the store keeps of its source.

    Parameters
    ----------
    root : str
        :attr:`Source.root` of the source it came from: a folder, or archives; of several sources
        ``NAME=root``.
    path : str
        Its :attr:`Entry.path`.
    roots : sequence of path
        Folders that images may lie in beside the source, such as those of a list.

    Raises
    ------
    OutsideSourceError
        With all links resolved the image lies neither below its source nor in `roots`, or the
        source is too wide, see :func:`why_not_shown`.
    ImageError, SourceError
        The image, or its archive, is no longer there, or it is no image by its content.
    """
    root, path = within(root, path)
    if is_remote(root):
        return _fetched(root, path, roots)
    name, choice = split_choice(decode_path(root))
    if os.path.isdir(name):  # noqa: PTH112 (Path.is_dir raises where it may not look)
        table = _table_in(name, path)
        beneath = _beneath(encode_path(name), table or path, roots)
        if table:
            file: BinaryIO = _rows_of(beneath, table, choice).open(Entry(path, 0, 0))
        else:
            # The way is resolved, so a link met on it now was put there in the meantime.
            file = beneath.open()
    else:
        file = _archive(root, roots).open(Entry(path, 0, 0))
    try:
        _check_content(file, path)
    except BaseException:
        file.close()
        raise
    return file


def why_not_shown(root: str, roots: Sequence[str | os.PathLike[str]] = ()) -> str:
    """Say why images of a source are not opened again; empty where they are.

    A whole disk, a home folder, a folder of the system and one that everybody uses are no sources
    to trust where a store or index may be a stranger's: images below them are opened only where
    the user names the folder.
    """
    _, root = named(root)
    if is_remote(root):
        return "" if is_named(root, roots) else "it is far away, and its address was not given"
    name, _ = split_choice(decode_path(root))
    if os.path.isdir(name):  # noqa: PTH112
        real = _real(name)
        reason = "" if _inside(real, roots) else _too_wide(real)
        return f"it is {reason}" if reason else ""
    shards = _shards(name)
    if not shards:
        return "it is no longer there"
    for shard in shards:
        real = _real(shard)
        if not _inside(real, roots) and _closed(real):
            return "it lies in a folder of the system"
        if not real.is_file() or not (is_array_file(name) or _is_archive(real)):
            return "it is neither a folder nor an archive"
    return ""


def is_named(url: str, roots: Sequence[str | os.PathLike[str]]) -> bool:
    """Whether a URL, or a folder that it lies in, is among what the user named."""
    url = split_choice(url)[0].rstrip("/")
    tops = [split_choice(os.fspath(root))[0].rstrip("/") for root in roots]
    inside = any(url == top or url.startswith(f"{top}/") for top in tops if is_remote(top))
    return inside and ".." not in url.split("/")


def _fetched(root: str, path: str, roots: Sequence[str | os.PathLike[str]]) -> BinaryIO:
    """Open an image far away: a stranger's index must not make anybody's machine ask servers."""
    top, url = decode_path(root), decode_path(path)
    inside = is_named(url if is_remote(url) else top, roots)
    if not inside or not (is_remote(url) or ".." not in url.split("/")):
        raise OutsideSourceError(
            f"Images of {shown(root)!r} are not fetched: it is far away. If that is where they are "
            "to be shown from, say so with --root and this URL."
        )
    table = next((path[: at.end()] for at in _TABLE.finditer(path)), "")
    source = _listed_far(top) if is_listed(top) else _far(top, table)
    try:
        file = source.open(Entry(path, 0, 0))
    except ImageError:
        _listed_far.cache_clear()  # it may be another one by now
        raise
    try:
        _check_content(file, path)
    except BaseException:
        file.close()
        raise
    return file


@lru_cache(maxsize=4)
def _listed_far(url: str) -> Source:
    return open_remote(url)


@lru_cache(maxsize=4)
def _far(url: str, table: str) -> Source:
    return open_unlisted(url, table)


def _is_archive(path: Path) -> bool:
    if path.suffix.lower() == SUFFIX:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    # Office's documents are zip archives, too: what images are in them is not to be shown.
    return (zipfile.is_zipfile if path.suffix.lower() == ".zip" else tarfile.is_tarfile)(path)


class _Beneath(LocalPlace):
    """A file beneath a folder, opened without following any link on the way."""

    def __init__(self, folder: Path, parts: tuple[str, ...]) -> None:
        super().__init__(str(Path(folder, *parts)))
        self.folder, self.parts = folder, parts

    def open(self) -> BinaryIO:
        return open_beneath(self.folder, self.parts)


def _table_in(folder: str, path: str) -> str:
    """Return which Parquet file of a folder an image is a row of; empty where it is a file."""
    parts = path.split("/")
    for end, part in enumerate(parts[:-1], 1):
        table = "/".join(parts[:end])
        if part.lower().endswith(SUFFIX) and Path(folder, decode_path(table)).is_file():
            return table
    return ""


def _rows_of(beneath: _Beneath, name: str, choice: Choice) -> Source:
    with beneath.open() as file:
        return _listed_rows(beneath.folder, beneath.parts, beneath.state(file), name, choice)


@lru_cache(maxsize=4)
def _listed_rows(
    folder: Path, parts: tuple[str, ...], state: State, name: str, choice: Choice
) -> ParquetSource:
    del state  # another one is another table
    beneath = _Beneath(folder, parts)
    spec = beneath.name
    return ParquetSource([beneath], [decode_path(name)], spec, spec, choice, several=True)


def _beneath(root: str, path: str, roots: Sequence[str | os.PathLike[str]]) -> _Beneath:
    folder = decode_path(root)
    real, top = _real(Path(folder, decode_path(path))), _real(folder)
    within = _inside(real, roots)
    if within is None and real.is_relative_to(top):
        if reason := _too_wide(top):
            raise OutsideSourceError(
                f"{path!r} is not shown: its source {root!r} is {reason}. Name the folder that may "
                "be shown with --root."
            )
        within = top
    if within is None:
        raise OutsideSourceError(
            f"{path!r} lies outside its source {root!r}. Name the folder that it lies in with "
            "--root to show it."
        )
    return _Beneath(within, real.relative_to(within).parts)


def _archive(root: str, roots: Sequence[str | os.PathLike[str]]) -> Source:
    name, _ = split_choice(decode_path(root))
    shards = _shards(name)
    if not shards:
        raise SourceError(
            f"There is no {root!r} any more, from which the image came. Say with --root where it "
            "is now."
        )
    try:
        states = [os.stat(shard) for shard in shards]  # noqa: PTH116
    except OSError as error:
        raise SourceError(f"Cannot read {root!r}: {system_reason(error)}.") from error
    known = tuple((one, s.st_ino, s.st_mtime_ns) for one, s in zip(shards, states, strict=True))
    return _listed(root, known, tuple(os.fspath(one) for one in roots))


@lru_cache(maxsize=4)
def _listed(root: str, shards: tuple[tuple[str, int, int], ...], roots: tuple[str, ...]) -> Source:
    if reason := why_not_shown(root, roots):
        raise OutsideSourceError(f"Images of {root!r} are not shown: {reason}.")
    name, choice = split_choice(decode_path(root))
    if is_array_file(name):
        return StackSource(name)
    files = [shard for shard, _, _ in shards]
    if all(extension(file) == SUFFIX for file in files):
        return open_tables(files, name, choice)
    return ShardSource(files, name)


def _shards(name: str) -> list[str]:
    if is_array_file(name):
        file = str(parts_of(name)[0])
        return [file] if os.path.lexists(file) else []
    return [name] if os.path.lexists(name) else expand(name)


def _check_content(file: BinaryIO, path: str) -> None:
    head = file.read(SIGNATURE_BYTES)
    file.seek(0)
    if sniff(head):
        return
    # Formats without a signature are known by their names, and then by their headers.
    if extension(path) not in IMAGE_EXTENSIONS | RAW_EXTENSIONS:
        raise ImageError("not an image by its first bytes")
    size_of(file, upright=False)
    file.seek(0)


def _real(name: str | os.PathLike[str]) -> Path:
    try:
        return Path(os.path.realpath(name))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ImageError(system_reason(error)) from error


def _inside(real: Path, roots: Sequence[str | os.PathLike[str]]) -> Path | None:
    """Return which of `roots`, resolved, something lies in."""
    tops = (_real(root) for root in roots)
    return next((top for top in tops if real.is_relative_to(top)), None)


def _too_wide(folder: Path) -> str:
    """Say what is wrong with a folder as a source, as the end of a sentence; empty if nothing."""
    if folder == Path(folder.anchor):
        return "a whole disk"
    try:
        home = _real(Path.home())
    except RuntimeError:  # nobody's
        home = folder / "nobody"
    if home.is_relative_to(folder) or _same(folder.parent, _HOMES):
        return "a home folder or above one"
    if folder.parent == home and folder.name.startswith("."):
        return "a hidden folder of a home"
    if _closed(folder) or _same(folder, _CROWDED):
        return "a folder of the system"
    return ""


def _closed(path: Path) -> bool:
    below = [path, *path.parents]
    if any(_same(one, _OPEN) for one in below[1:]):
        return False
    return any(_same(one, _CLOSED) for one in below)


def _same(path: Path, names: Sequence[str]) -> bool:
    text = path.as_posix()
    if sys.platform in ("win32", "darwin"):  # case does not count there
        return text.lower() in {name.lower() for name in names}
    return text in names
