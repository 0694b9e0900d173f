"""Files that are there whole or not at all: written beside their place, then renamed into it."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LONGEST = 200  # bytes of a file name, leaving room for what is put around it


@contextmanager
def atomic_file(
    path: Path, temporary: Path | None = None, *, durable: bool = True
) -> Iterator[Path]:
    """Give a temporary file that takes the place of `path` at the end, or vanishes.

    Whoever reads `path` meanwhile, or after a kill, finds what was there or all that is new. A
    file that is replaced leaves its permissions to the new one.

    Parameters
    ----------
    path : Path
        The file to make or replace.
    temporary : Path, optional
        A free name in the same folder; one of :func:`temporary_of` by default.
    durable : bool
        Whether the bytes are on the disk before the name is, so that a power cut leaves one or
        the other, too; it takes some milliseconds.

    Yields
    ------
    Path
        The temporary name, where nothing is yet.

    Raises
    ------
    OSError
        The file cannot be written; what was at `path` stays.
    """
    temporary = temporary or temporary_of(path)
    try:
        yield temporary
        if durable:
            to_disk(temporary)
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        with suppress(OSError):  # folders cannot be opened on Windows
            to_disk(path.parent)


def temporary_of(path: Path) -> Path:
    """Return a new hidden name beside `path`, for a file or folder to be made whole."""
    return path.with_name(f"{beside(path, secrets.token_hex(4))}.tmp")


def leftovers(path: Path) -> Iterator[Path]:
    """Yield what killed runs left under names of :func:`temporary_of`.

    A run that is still going is using its own: ask under a lock that keeps others out.
    """
    pattern = re.escape(beside(path, "")) + r"[0-9a-f]{8}\.tmp"
    for one in path.parent.iterdir():
        if re.fullmatch(pattern, one.name):
            yield one


def left_of(name: str) -> str:
    """Return the name of the file that a leftover was to become; empty where it is no leftover.

    Of very long names, as :func:`beside` has them, it is their digest.
    """
    found = re.fullmatch(r"\.(.+)\.[0-9a-f]{8}\.tmp", name)
    return found[1] if found else ""


def beside(path: Path, ending: str) -> str:
    """Return the hidden name of a file in the same folder that belongs to `path`."""
    name = path.name
    if len(os.fsencode(name)) > _LONGEST:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f".{name}.{ending}"


def to_disk(path: Path) -> None:
    """Wait until what was written to a file, or to the list of a folder's names, is on the disk."""
    file = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(file)
    finally:
        os.close(file)
