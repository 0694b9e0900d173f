"""New stores appear whole or not at all, each under its writer's lock."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vggfeat.atomic import atomic_file, leftovers
from vggfeat.errors import StoreError
from vggfeat.store.locking import WriterLock


def destination(path: str | os.PathLike[str]) -> Path:
    """Return where a file will be written, with links followed.

    Raises
    ------
    StoreError
        Its folder does not exist, or something that is not a file is there.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise StoreError(f"{path}: the folder {target.parent} does not exist. Make it first.")
    with suppress(FileNotFoundError):
        mode = target.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise StoreError(f"{path} is {what}. Give the name of a file.")
    return target


@contextmanager
def replacing(path: Path, lock: WriterLock) -> Iterator[Path]:
    """Give a temporary file that takes the place of `path` at the end, or vanishes.

    Parameters
    ----------
    path : Path
        The file to make or replace.
    lock : WriterLock
        The lock held on `path`: whoever holds it may clear away what killed runs left.

    Yields
    ------
    Path
        A name in the same folder, not existing yet.
    """
    assert lock.path == path
    sweep(path)
    with atomic_file(path) as temporary:
        yield temporary


def sweep(path: Path) -> None:
    """Remove temporary files of `path` that a killed run left; call it under the lock."""
    for file in leftovers(path):
        with suppress(OSError):
            file.unlink()
