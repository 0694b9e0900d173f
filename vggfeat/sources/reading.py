"""Reading an image once, so that what is noted of its file is true of the bytes that were used."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

from vggfeat.errors import ImageError
from vggfeat.files import system_reason
from vggfeat.sources.base import Entry, Source

DIGEST_BYTES = 16
_HELD = 16 << 20  # bytes up to which an image is decoded from memory, and read once only
_BLOCK = 1 << 20
_SECOND = 1_000_000_000
_COARSE, _FINE = 2 * _SECOND, _SECOND // 20  # ticks of clocks of file systems: FAT's, and others'


@contextmanager
def opened(source: Source, entry: Entry) -> Iterator[tuple[BinaryIO, Entry]]:
    """Open an image with what its file is now.

    Parameters
    ----------
    source : Source
        Where it is.
    entry : Entry
        One of its entries.

    Yields
    ------
    file : binary file
        The image's bytes, at their start.
    seen : Entry
        Size, times and digest of just these bytes. ``ctime_ns`` is 0 where the file changed so
        shortly before that its times could not tell another change from that one.

    Raises
    ------
    ImageError
        It cannot be opened or read, or changes meanwhile.
    """
    now = time.time_ns()
    with source.open(entry) as file:
        before = source.seen(entry, file)
        try:
            start = file.read(_HELD + 1)
            if len(start) <= _HELD:
                held: BinaryIO = io.BytesIO(start)
                digest = digest_of(held)
                held.seek(0)
            else:
                file.seek(0)
                digest, held = digest_of(file), file
                file.seek(0)
        except OSError as error:
            raise ImageError(f"cannot be read: {system_reason(error)}") from error
        _check(source, entry, file, before)
        yield held, replace(before, ctime_ns=_telling(before, now), digest=digest)
        if held is file:
            _check(source, entry, file, before)


def digest_of(file: BinaryIO) -> bytes:
    """Return BLAKE2b with 16 bytes of what a file holds from where it stands on."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.digest()


def look(source: Source, entry: Entry) -> Entry | None:
    """Return what an image's file is now, with the digest of its bytes; None if unreadable."""
    try:
        with opened(source, entry) as (_, seen):
            return seen
    except (ImageError, OSError):
        return None


def _telling(entry: Entry, now: int) -> int:
    """Return when a file last changed; 0 if a change right now could bear the same time."""
    if entry.ctime_ns < 0:  # a tag, which another version does not have
        return entry.ctime_ns
    last = max(entry.mtime_ns, entry.ctime_ns)
    tick = _FINE if last % _SECOND else _COARSE
    return 0 if last > now - tick else entry.ctime_ns


def _check(source: Source, entry: Entry, file: BinaryIO, before: Entry) -> None:
    if source.seen(entry, file) != before:
        raise ImageError("the file changed while it was read")
