"""Files beneath a folder, reached part by part without following a link.

A path is checked after it was decoded, and every folder on the way is opened by its name in the
one before, so that neither a crafted name nor a link made meanwhile leads elsewhere.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import PurePath
from typing import Any, BinaryIO

from vggfeat.files import decode_path

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NO_FOLLOW
_NO_REPLACE = 1  # RENAME_NOREPLACE, <linux/fs.h>
_UNABLE = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP}

Named = tuple[str, int]
"""A name and the descriptor of the folder that it is in."""


def parts_of(key: str) -> tuple[str, ...]:
    """Return the parts of a stored path, decoded, if it stays below its source.

    Parameters
    ----------
    key : str
        As :func:`vggfeat.files.encode_path` spells it.

    Raises
    ------
    ValueError
        It is absolute, or one of its parts is empty, ``.``, ``..`` or holds NUL.
    """
    name = decode_path(key)
    parts = tuple(name.replace(os.sep, "/").split("/"))
    if PurePath(name).is_absolute() or any(part in ("", ".", "..") for part in parts):
        raise ValueError("its path is absolute or leads upwards")
    if "\0" in name:
        raise ValueError("its path holds NUL")
    return parts


@contextmanager
def opened_folder(name: str | os.PathLike[str], parent: int | None = None) -> Iterator[int]:
    """Give a folder's descriptor; a link in its place raises `OSError`."""
    folder = os.open(name, _FOLDER, dir_fd=parent)
    try:
        yield folder
    finally:
        os.close(folder)


@contextmanager
def descended(
    root: str | os.PathLike[str], parts: Sequence[str], *, make: bool = False
) -> Iterator[int]:
    """Give the descriptor of a folder below another; missing ones are made with `make`."""
    folder = os.open(root, _FOLDER)
    try:
        for part in parts:
            if make:
                _made(part, folder)
            deeper = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = deeper
        yield folder
    finally:
        os.close(folder)


def _made(name: str, folder: int) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)


def beside_nothing(name: str, folder: int) -> str:
    """Return the name, or one with a number, of which there is nothing in a folder yet."""
    taken, number = name, 1
    while True:
        try:
            os.stat(taken, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return taken
        path = PurePath(name)
        taken = f"{path.stem}-{number}{path.suffix}"
        number += 1


def renamed(old: Named, new: Named) -> None:
    """Rename what is there in one step, and raise `FileExistsError` where `new` is taken.

    Where the system has no such step, a second name is made and the first taken away, unless it
    is of another file by then.
    """
    call = _renameat2()
    if call is not None:
        if not call(old[1], os.fsencode(old[0]), new[1], os.fsencode(new[0]), _NO_REPLACE):
            return
        number = ctypes.get_errno()
        if number not in _UNABLE:
            raise OSError(number, os.strerror(number))
    os.link(old[0], new[0], src_dir_fd=old[1], dst_dir_fd=new[1], follow_symlinks=False)
    first = os.stat(old[0], dir_fd=old[1], follow_symlinks=False)
    if os.path.samestat(first, os.stat(new[0], dir_fd=new[1], follow_symlinks=False)):
        os.unlink(old[0], dir_fd=old[1])


@cache
def _renameat2() -> Any:
    """Return Linux's call that renames without replacing, or None where there is none."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    call.restype = ctypes.c_int
    return call


def sha256_of(file: BinaryIO) -> str:
    """Return the SHA-256 of a file from its start, in hexadecimal."""
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
