"""What every source of images offers: a list of entries and a way to open each."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from vggfeat.files import decode_path, encode_path, open_regular

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vggfeat.labels import NamesByPath, RawLabels


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a source.

    Attributes
    ----------
    path : str
        Its key in a store: relative to the source, ``/`` between parts, valid UTF-8, unique.
    size : int
        In bytes; 0 where the file cannot be asked, and in tables, which do not say.
    mtime_ns : int
        Time of the last change in nanoseconds since 1970; 0 where the file cannot be asked.
    ctime_ns : int
        Time at which the operating system last saw its file change in any way, in nanoseconds
        since 1970; an archive's for what is in it. 0 where that is not known or proves nothing.
        Below 0: no time but a number made of the tag (ETag) by which remote storage knows a
        version of the file.
    digest : bytes
        Of its bytes, see :func:`digest_of`; empty until they were read.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int = 0
    digest: bytes = b""


class Source(ABC):
    """Images in a fixed order.

    Attributes
    ----------
    root : str
        Absolute path that the entries' paths are relative to: a folder, or the archive.
    spec : str
        Absolute form of what :func:`~vggfeat.sources.open_source` was given, and understands.
    entries : list of Entry
        Sorted by path.
    given_labels : dict or None
        Entry path to class names, where the source says them (a CSV column, ``.cls`` members).
    left_out : int
        Files that were met and are no images by extension or first bytes.
    given_splits, given_groups : dict of str to str, or None
        Entry path to the name of its split or group, where the source says them itself; a list
        says them by its lines.
    """

    given_splits: NamesByPath | None = None
    given_groups: NamesByPath | None = None

    def __init__(
        self,
        root: str,
        spec: str,
        entries: Iterable[Entry],
        given_labels: RawLabels | None = None,
        left_out: int = 0,
    ) -> None:
        self.root = as_text(root)
        self.spec = as_text(spec)
        self.entries = sorted(entries, key=attrgetter("path"))
        self.given_labels = given_labels
        self.left_out = left_out

    @property
    def distant(self) -> bool:
        """Whether images are far away, so that more threads than decode should wait for them."""
        return False

    @abstractmethod
    def open(self, entry: Entry) -> BinaryIO:
        """Open an image's bytes for reading, from any thread; the caller closes the file.

        Raises
        ------
        ImageError
            The reason in one line: missing, unreadable, not a plain file.
        """

    def seen(self, entry: Entry, file: BinaryIO) -> Entry:
        """Return what an opened image is now: its size and times, which may differ from `entry`.

        Parameters
        ----------
        entry : Entry
            As it was listed.
        file : binary file
            What :meth:`open` gave.
        """
        del file
        return entry


class Storage(ABC):
    """Where images are that are files of their own; for any thread.

    Attributes
    ----------
    distant : bool
        See :attr:`Source.distant`.
    """

    distant = False

    @abstractmethod
    def open(self, root: str, entry: Entry) -> BinaryIO:
        """Open the file of an entry that is relative to `root`; see :meth:`Source.open`."""

    @abstractmethod
    def seen(self, entry: Entry, file: BinaryIO) -> Entry:
        """Return what an opened file is now; see :meth:`Source.seen`."""


class Disk(Storage):
    """The file systems of this machine."""

    def open(self, root: str, entry: Entry) -> BinaryIO:
        """Open a plain file; see :meth:`Storage.open`."""
        return open_regular(file_path(root, entry.path))

    def seen(self, entry: Entry, file: BinaryIO) -> Entry:
        """Ask the opened file; see :meth:`Storage.seen`."""
        return entry_from(entry.path, os.fstat(file.fileno()))


DISK = Disk()


class FileSource(Source):
    """Images that are files of their own, below one folder or named absolutely.

    Attributes
    ----------
    storage : Storage
        Where they are; this machine by default.
    """

    storage: Storage = DISK

    def open(self, entry: Entry) -> BinaryIO:
        """Open an image file; see :meth:`Source.open`."""
        return self.storage.open(self.root, entry)

    def seen(self, entry: Entry, file: BinaryIO) -> Entry:
        """Ask the opened file; see :meth:`Source.seen`."""
        return self.storage.seen(entry, file)

    @property
    def distant(self) -> bool:
        """Whether the storage is."""
        return self.storage.distant


def as_text(path: str) -> str:
    """Return an absolute path as valid UTF-8 with ``/`` between parts."""
    return encode_path(path.replace(os.sep, "/"))


def file_path(root: str, path: str) -> Path:
    """Return the real name of the file that a source with `root` calls `path`."""
    return Path(decode_path(root), decode_path(path))


def entry_of(folder: str, path: str) -> Entry:
    """Return the entry of the file that is called `path` below `folder`, existing or not."""
    try:
        state = Path(folder, decode_path(path)).stat()
    except (OSError, ValueError):  # opening it will give the reason
        return Entry(path, 0, 0)
    return entry_from(path, state)


def entry_from(path: str, state: os.stat_result) -> Entry:
    """Return the entry of a file of which the operating system says this."""
    return Entry(path, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
