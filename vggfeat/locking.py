"""One writer at a time: a lock file beside the store; and new files, whole or not at all, under it.

The operating system's lock (``flock``) is taken where the file system has one. Many network drives
have none; there the mere existence of a second file says that somebody writes. HDF5 is always told
to take no locks of its own (``locking=False``), since it would fail on the same drives.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from vggfeat.atomic import atomic_file, beside, leftovers
from vggfeat.errors import StoreError, StoreLockedError

try:
    import fcntl
except ImportError:  # Windows: the lock file beside the store has to do
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)

_ATTEMPTS = 5
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_HELD = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK}
_told: set[Path] = set()
_telling = threading.Lock()


def share(file: int) -> bool:
    """Take the shared lock of an open file, as HDF5 readers do; False where a writer has it.

    True also where there are no such locks: the lock file beside it has to do.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _HELD
    return True


class WriterLock:
    """The right to change one file, held from :meth:`acquire` to :meth:`release`.

    The operating system lets go of the lock when its process ends, however it ends. On a file
    system without locks a file stands for it, which a killed process leaves behind; filelock
    removes it again where it can tell that the process is gone, and else the message names it.

    Parameters
    ----------
    path : Path
        The file to be changed; the lock file is hidden beside it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.with_name(beside(path, "lock"))
        self._lock: filelock.BaseFileLock = _native(self._file)
        self._soft = path.with_name(beside(path, "softlock"))

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
            holder, before = self._read(self._file), self._identity()
            try:
                self._lock.acquire(timeout=0)
            except filelock.Timeout:
                if self._identity() != before and attempt < _ATTEMPTS - 1:
                    continue  # the holder left and took its file along
                raise StoreLockedError(
                    f"{self.path} is being written by {holder}. Wait until that is done, or "
                    "stop it, and run the same command again."
                ) from None
            except (OSError, NotImplementedError) as error:  # the latter: ENOSYS, to old filelocks
                if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                    raise self._unwritable(error) from error
                return self._acquire_soft()
            # Locked, but is it still the file of that name? A holder removes it as it leaves.
            if (before is not None and self._identity() == before) or attempt == _ATTEMPTS - 1:
                break
            self._lock.release()
        if self._soft.exists():  # another machine, to which this drive has no locks
            self.release()
            raise self._held_soft()
        with suppress(OSError):
            if self._file.stat().st_size == 0:
                self._file.write_text(f"{os.getpid()}\n")
        return self

    def _acquire_soft(self) -> WriterLock:
        """Hold a file's existence instead of a lock that this file system does not have."""
        with suppress(OSError):
            self._file.unlink()  # made on the way; nobody can hold a lock on it here
        self._file = self._soft
        self._lock = filelock.SoftFileLock(self._soft, thread_local=False)
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise self._held_soft() from None
        except OSError as error:
            raise self._unwritable(error) from error
        with _telling:
            told = self.path.parent in _told
            _told.add(self.path.parent)
        if not told:
            _log.warning(
                "The file system of %s has no locks. A file beside what is written stands for one; "
                "let no two machines write the same file.", self.path.parent,
            )  # fmt: skip
        return self

    def _held_soft(self) -> StoreLockedError:
        return StoreLockedError(
            f"{self.path} is being written by {self._read(self._soft)}. Wait until that is done. "
            f"If it was killed, delete {self._soft}: the file system has no locks that would end "
            "with a process."
        )

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(
            f"{self.path} cannot be written: {error.strerror or error}. "
            "Choose a folder that you may write to."
        )

    def release(self) -> None:
        """Let go and remove the lock file; more than once does no harm."""
        if not self._lock.is_locked:
            return
        # While it is held on POSIX, where whoever waits compares the file with the name; after
        # that on Windows, which does not remove what another process has open. filelock removes
        # the files of soft locks.
        soft = self._file == self._soft
        if sys.platform != "win32" and not soft:
            with suppress(OSError):
                self._file.unlink()
        self._lock.release()
        if sys.platform == "win32" and not soft:
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

    @staticmethod
    def _read(file: Path) -> str:
        with suppress(OSError, UnicodeDecodeError, IndexError):
            first = file.read_text().splitlines()[0]
            if first.isdigit():
                return f"process {first}"
        return "another process"


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


def _native(file: Path) -> filelock.BaseFileLock:
    """Return the operating system's lock, which says where there is none."""
    try:
        return filelock.FileLock(file, thread_local=False, fallback_to_soft=False)
    except TypeError:  # filelock before 3.21 never falls back by itself
        return filelock.FileLock(file, thread_local=False)
