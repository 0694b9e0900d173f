"""One writer at a time: a lock file beside the store."""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path

import filelock

from vggfeat.errors import StoreError, StoreLockedError

_ATTEMPTS = 5
_LONGEST = 200  # bytes of a file name, leaving room for what is put around it


def beside(path: Path, ending: str) -> str:
    """Return the hidden name of a file in the same folder that belongs to `path`."""
    name = path.name
    if len(os.fsencode(name)) > _LONGEST:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f".{name}.{ending}"


class WriterLock:
    """The right to change one file, held from :meth:`acquire` to :meth:`release`.

    The operating system lets go of the lock when its process ends, however it ends.

    Parameters
    ----------
    path : Path
        The file to be changed; the lock file is hidden beside it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.with_name(beside(path, "lock"))
        self._lock = filelock.FileLock(self._file, thread_local=False)

    def acquire(self) -> WriterLock:
        """Take the lock without waiting.

        Raises
        ------
        StoreLockedError
            Another process, or another writer in this one, holds it.
        StoreError
            The folder cannot be written.
        """
        for attempt in range(_ATTEMPTS):
            holder, before = self._read(), self._identity()
            try:
                self._lock.acquire(timeout=0)
            except filelock.Timeout:
                if self._identity() != before and attempt < _ATTEMPTS - 1:
                    continue  # the holder left and took its file along
                raise StoreLockedError(
                    f"{self.path} is being written by {holder}. Wait until that is done, or "
                    "stop it, and run the same command again."
                ) from None
            except OSError as error:
                raise StoreError(
                    f"{self.path} cannot be written: {error.strerror or error}. "
                    "Choose a folder that you may write to."
                ) from error
            # Locked, but is it still the file of that name? A holder removes it as it leaves.
            if (before is not None and self._identity() == before) or attempt == _ATTEMPTS - 1:
                break
            self._lock.release()
        with suppress(OSError):
            if self._file.stat().st_size == 0:
                self._file.write_text(f"{os.getpid()}\n")
        return self

    def release(self) -> None:
        """Let go and remove the lock file; more than once does no harm."""
        if not self._lock.is_locked:
            return
        # While it is held on POSIX, where whoever waits compares the file with the name; after
        # that on Windows, which does not remove what another process has open.
        if sys.platform != "win32":
            with suppress(OSError):
                self._file.unlink()
        self._lock.release()
        if sys.platform == "win32":
            with suppress(OSError):
                self._file.unlink()

    def __enter__(self) -> WriterLock:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _identity(self) -> tuple[int, int, int] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_nlink

    def _read(self) -> str:
        with suppress(OSError, UnicodeDecodeError, IndexError):
            first = self._file.read_text().splitlines()[0]
            if first.isdigit():
                return f"process {first}"
        return "another process"
