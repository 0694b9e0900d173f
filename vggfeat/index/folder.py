"""An index on the disk: a folder that is at every moment the old index or the new one.

The folder holds ``index.h5``, the catalogue, and the files that it names. Those are written under
names that were never used before (the vectors may be appended to instead); then a new catalogue is
renamed over the old one, which changes the index in one step; then what the new one does not name
is removed. Before the first of these steps and after each of them, a kill leaves a whole index.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vggfeat.atomic import atomic_file, leftovers, temporary_of, to_disk
from vggfeat.errors import SearchError, StoreError
from vggfeat.failures import writing
from vggfeat.index import catalogue_file
from vggfeat.index.catalogue import Catalogue
from vggfeat.index.catalogue_file import check_version, format_of
from vggfeat.index.named_files import FAISS, VECTORS, open_plain
from vggfeat.locking import WriterLock

CATALOGUE = "index.h5"
_OURS = re.compile(rf"{VECTORS.pattern}|{FAISS.pattern}|index-[0-9a-f]{{8}}\.tmp")
_OLD = (b"IxM2", b"IxMp")  # how the FAISS file of an index of format 1 begins
_ATTEMPTS = 5


def fresh(folder: Path, kind: str) -> Path:
    """Return the name of a new file: of ``"vectors"`` or of ``"faiss"``."""
    ending = {"vectors": "f32", "faiss": "faiss", "index": "tmp"}[kind]
    return folder / f"{kind}-{secrets.token_hex(4)}.{ending}"


def is_index(path: str | os.PathLike[str]) -> bool:
    """Return whether an index is there, of any format version."""
    folder = Path(path)
    return (folder / CATALOGUE).is_file() or _is_old(folder)


def state(path: str | os.PathLike[str]) -> tuple[int, ...] | None:
    """Return what differs once somebody has changed an index; None where there is none.

    Every change puts a new catalogue in the place of the old one, so one look at that file tells.
    """
    try:
        status = Path(path, CATALOGUE).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def read(path: str | os.PathLike[str]) -> tuple[Path, Catalogue]:
    """Find and check an index; return its folder, links followed, and its catalogue.

    Raises
    ------
    SearchError
        There is none, or it is damaged or of another format version.
    """
    folder = Path(os.path.realpath(path))
    if _is_old(folder):
        check_version(folder, 1)
    file = folder / CATALOGUE
    if not file.is_file():
        what = "is no index" if folder.exists() else "does not exist"
        raise SearchError(f"{path} {what}. `vggfeat index build STORE {path}` makes one.")
    for _ in range(_ATTEMPTS):
        catalogue = catalogue_file.read(file)
        missing = [name for name in files_of(catalogue) if not _is_there(folder / name)]
        if not missing:
            return folder, catalogue
        # Someone may have changed the index between our two looks: look again.
    raise SearchError(
        f"{folder / missing[0]} is missing, which belongs to the index. Copy the whole folder "
        "again from where it came, or build the index anew."
    )


@contextmanager
def creating(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty folder whose content becomes the index at `path` at the end, or vanishes.

    Until then an index that is there stays as it is.

    Raises
    ------
    SearchError
        Something that is no index has the name; it stays.
    StoreError
        The place cannot be written, or another process is writing the same index.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise StoreError(f"{path}: the folder {target.parent} does not exist. Make it first.")
    check_free(target)
    with writing(target), WriterLock(target):
        for folder in leftovers(target):
            shutil.rmtree(folder, ignore_errors=True)
        temporary = temporary_of(target)
        temporary.mkdir()
        try:
            yield temporary
            _publish(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def changing(folder: Path) -> Iterator[Catalogue]:
    """Hold the right to change an index, and give its catalogue as it is now."""
    with writing(folder), WriterLock(folder):
        _, catalogue = read(folder)
        _sweep(folder, catalogue)
        yield catalogue
        _sweep(folder, read(folder)[1])


def commit(folder: Path, catalogue: Catalogue) -> None:
    """Make a new catalogue that of the folder, in one step; its files are on the disk by now."""
    with atomic_file(folder / CATALOGUE, fresh(folder, "index")) as temporary:
        catalogue_file.write(catalogue, temporary)


def write_faiss(folder: Path, index: Any) -> tuple[str, int, int]:
    """Write FAISS's file under a new name; return the name, its size in bytes and CRC-32."""
    import faiss

    path = fresh(folder, "faiss")
    faiss.write_index(index, os.fspath(path))
    to_disk(path)
    return (path.name, *checksum(path))


def checksum(path: Path) -> tuple[int, int]:
    """Return a file's size in bytes and its CRC-32."""
    size = crc32 = 0
    with open_plain(path) as file:
        while block := file.read(1 << 20):
            size, crc32 = size + len(block), zlib.crc32(block, crc32)
    return size, crc32


def check_free(target: Path) -> None:
    """Refuse to write over anything but an index."""
    taken = target.is_symlink() or target.exists()
    if not taken or is_index(target):
        return
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.is_file() and target.stat().st_size == 0:
        return
    raise SearchError(f"{target} exists and is no index; it stays. Give another name.")


def _publish(temporary: Path, target: Path) -> None:
    """Put a complete folder in its place."""
    if not (target / CATALOGUE).is_file():
        _remove_old(target)
        temporary.rename(target)
        with suppress(OSError):
            to_disk(target.parent)
        return
    for file in temporary.iterdir():
        if file.name != CATALOGUE:
            file.rename(target / file.name)
    (temporary / CATALOGUE).replace(target / CATALOGUE)
    with suppress(OSError):
        to_disk(target)
    _sweep(target, read(target)[1])


def _remove_old(target: Path) -> None:
    """Remove an index of format 1, which no longer can be read, or an empty file or folder."""
    if target.is_dir():
        target.rmdir()
    elif target.exists():
        second = target.with_name(f"{target.name}.h5")
        if _is_old(target) and format_of(second) == catalogue_file.FORMAT:
            second.unlink()
        target.unlink()


def _is_old(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in _OLD


def files_of(catalogue: Catalogue) -> list[str]:
    """Return the names of the files that belong to an index, but for the catalogue's own."""
    files = catalogue.files
    return [name for name in (files.vectors, files.faiss) if name]


def _is_there(path: Path) -> bool:
    """Return whether a named file is there; SearchError where it is no plain file."""
    try:
        open_plain(path).close()
    except FileNotFoundError:
        return False
    return True


def _sweep(folder: Path, catalogue: Catalogue) -> None:
    """Remove what killed runs and former versions of the index left in its folder."""
    named = set(files_of(catalogue))
    for file in folder.iterdir():
        if _OURS.fullmatch(file.name) and file.name not in named:
            with suppress(OSError):
                file.unlink()
