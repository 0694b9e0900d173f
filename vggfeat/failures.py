"""How failures of the disk and of the HDF5 library become errors that say what to do."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vggfeat.errors import StoreError, VggfeatError
from vggfeat.hdf5 import DAMAGED

_FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}
_ERRNO = re.compile(r"errno = (\d+)")


def amount(size: float) -> str:
    """Write a number of bytes as people read it, in powers of 1024."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def check_space(path: Path, needed: int) -> None:
    """Refuse before anything is written where the disk cannot hold it.

    Raises
    ------
    StoreError
        Fewer than `needed` bytes are free in the folder of `path`.
    """
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise StoreError(
            f"{path} needs {amount(needed)}, and {amount(free)} are free in {path.parent}. "
            "Free some space, choose another place, fewer layers, or --dtype float16."
        )


@contextmanager
def writing(path: Path, needed: int = 0) -> Iterator[None]:
    """Turn failures of writing `path` into StoreErrors; `needed` bytes were to be written."""
    try:
        yield
    except VggfeatError:
        raise
    except (OSError, RuntimeError) as error:  # h5py raises both, often with errno in its text
        raise _explained(path, needed, error) from error


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Turn what h5py raises over damaged files into a StoreError."""
    try:
        yield
    except VggfeatError:
        raise
    except PermissionError as error:
        raise StoreError(f"{path} may not be read: {error.strerror}.") from error
    except DAMAGED as error:
        reason = " ".join(str(error).split())
        raise StoreError(
            f"{path} is damaged or was cut short ({reason}). Copy it again from where it came, "
            "or delete it and extract anew."
        ) from error


def _explained(path: Path, needed: int, error: OSError | RuntimeError) -> StoreError:
    found = _ERRNO.search(str(error))
    number = getattr(error, "errno", None) or (int(found[1]) if found else None)
    if number in _FULL:
        wanted = f"{amount(needed)} were to be written and " if needed else ""
        free = amount(shutil.disk_usage(path.parent).free)
        return StoreError(
            f"The disk or quota is full: {path} cannot be written; {wanted}{free} are free in "
            f"{path.parent}. What was done stays: free some space and run the command again "
            "(without --overwrite)."
        )
    if number == errno.EFBIG:
        return StoreError(
            f"{path} is larger than this file system, or a limit on file sizes (ulimit -f), "
            f"allows. What was done stays; choose another place, fewer layers or --dtype float16."
        )
    reason = os.strerror(number) if number else " ".join(str(error).split())
    return StoreError(f"{path} cannot be written: {reason}. Choose another place for it.")
