"""Files that hold images, archives and tables, wherever they lie: what their readers need."""

from __future__ import annotations

import io
import os
import tempfile
from abc import ABC, abstractmethod
from contextlib import closing
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar, cast

from vggfeat.errors import ImageError
from vggfeat.files import open_regular, system_reason
from vggfeat.pipeline import prefetch
from vggfeat.sections import Section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

HELD_BYTES = 16 << 20
"""Bytes up to which what was unpacked or fetched is kept in memory; more goes to the disk."""

_AT_ONCE = 8

CHANGED = "the archive has changed since it was listed"


class State(NamedTuple):
    """What a file is at a moment; another one has another state.

    Attributes
    ----------
    size : int
        In bytes.
    mtime_ns : int
        Time of the last change in nanoseconds since 1970; 0 where unknown.
    ctime_ns : int
        See :attr:`vggfeat.sources.Entry.ctime_ns`.
    """

    size: int
    mtime_ns: int = 0
    ctime_ns: int = 0


class Place(ABC):
    """A file that holds images; for any thread.

    Attributes
    ----------
    name : str
        Its absolute path, or its URL without anything secret.
    """

    name: str

    @abstractmethod
    def open(self) -> BinaryIO:
        """Open it for reading in any order; the caller closes it.

        Raises
        ------
        ImageError
            The reason in one line.
        """

    @abstractmethod
    def state(self, file: BinaryIO) -> State:
        """Return what a file that :meth:`open` gave is now."""

    @abstractmethod
    def part(self, start: int, size: int, state: State) -> BinaryIO:
        """Return a part of it as a file of its own; the caller closes it.

        Parameters
        ----------
        start, size : int
            In bytes.
        state : State
            What the whole was when it was listed.

        Raises
        ------
        ImageError
            It cannot be read, or is another one by now.
        """

    @property
    def distant(self) -> bool:
        """Whether it is far away, so that several are listed at once."""
        return False


class LocalPlace(Place):
    """A file of this machine.

    Parameters
    ----------
    path : str
        Absolute.
    """

    def __init__(self, path: str) -> None:
        self.name = path

    def open(self) -> BinaryIO:
        """Open the file; see :meth:`Place.open`."""
        return open_regular(self.name)

    def state(self, file: BinaryIO) -> State:
        """Ask the operating system; see :meth:`Place.state`."""
        return _state_of(file.fileno())

    def part(self, start: int, size: int, state: State) -> BinaryIO:
        """Return a window on the file; see :meth:`Place.part`."""
        window = _Window(open_regular(self.name).detach(), start, size, state)
        try:
            window.check()
        except ImageError:
            window.close()
            raise
        return io.BufferedReader(window)


def as_posix(name: str) -> str:
    """Return a file's name with ``/`` between its parts."""
    return name.replace(os.sep, "/")


def relative_names(names: Sequence[str]) -> list[str]:
    """Return the names of files without the folders that all of them lie in."""
    parts = [name.split("/") for name in names]
    first, last = min(parts), max(parts)
    same = 0
    while same < min(len(first), len(last)) - 1 and first[same] == last[same]:
        same += 1
    return ["/".join(each[same:]) for each in parts]


Listed = TypeVar("Listed")


def each_listed(read: Callable[[Place], Listed], places: Sequence[Place]) -> Iterator[Listed]:
    """List files one after the other; of those far away several at once."""
    if not any(place.distant for place in places):
        yield from map(read, places)
        return
    with closing(prefetch(read, places, workers=_AT_ONCE, ahead=_AT_ONCE)) as results:
        yield from results


def check_unchanged(part: BinaryIO) -> None:
    """Refuse a :meth:`Place.part` of a file that is another one by now; raises ImageError.

    Of what was fetched from elsewhere this was seen while it was fetched.
    """
    raw = getattr(part, "raw", part)
    while isinstance(raw, Inner):
        if isinstance(raw, _Window):
            raw.check()
        raw = getattr(raw.whole, "raw", raw.whole)


def held(blocks: Iterable[bytes]) -> BinaryIO:
    """Return bytes as a file: in memory, or a temporary file where they are many.

    Raises
    ------
    ImageError
        There is no room for them.
    """
    file = tempfile.SpooledTemporaryFile(HELD_BYTES)  # noqa: SIM115 (the caller closes it)
    try:
        for block in blocks:
            file.write(block)
        file.seek(0)
    except OSError as error:
        file.close()
        raise ImageError(f"no room to unpack it: {system_reason(error)}") from error
    except BaseException:
        file.close()
        raise
    return cast("BinaryIO", file)


def _state_of(descriptor: int) -> State:
    state = os.fstat(descriptor)
    return State(state.st_size, state.st_mtime_ns, state.st_ctime_ns)


class Inner(Section):
    """A part of an opened file, which closes that file with itself.

    Parameters
    ----------
    whole : binary file
        The file; nobody else may read from it.
    start, size : int
        Where the part lies, in bytes.
    """

    def __init__(self, whole: BinaryIO | io.RawIOBase, start: int, size: int) -> None:
        super().__init__(whole, start, size)
        self.whole = whole

    def close(self) -> None:
        """Close both."""
        self.whole.close()
        super().close()


class _Window(Inner):
    """A part of a file of this machine."""

    def __init__(self, file: io.RawIOBase, start: int, size: int, state: State) -> None:
        super().__init__(file, start, size)
        self._state = state

    def check(self) -> None:
        if _state_of(self.whole.fileno()) != self._state:
            raise ImageError(CHANGED)
