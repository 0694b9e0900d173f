"""New files appear whole or not at all: written beside their place, then renamed into it."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vggfeat.errors import StoreError
from vggfeat.store.locking import WriterLock, beside


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
    temporary = path.with_name(f"{beside(path, secrets.token_hex(4))}.tmp")
    try:
        yield temporary
        if path.exists():
            shutil.copymode(path, temporary)
        _to_disk(temporary)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    with suppress(OSError):  # folders cannot be opened on Windows
        _to_disk(path.parent)


def sweep(path: Path) -> None:
    """Remove temporary files of `path` that a killed run left; call it under the lock."""
    pattern = re.escape(beside(path, "")) + r"[0-9a-f]{8}\.tmp"
    for file in path.parent.iterdir():
        if re.fullmatch(pattern, file.name):
            with suppress(OSError):
                file.unlink()


def _to_disk(path: Path) -> None:
    file = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(file)
    finally:
        os.close(file)
