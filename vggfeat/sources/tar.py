"""What lies where in one tar file, and reading it from there."""

from __future__ import annotations

import logging
import posixpath
import tarfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

from vggfeat.errors import ImageError, SourceError
from vggfeat.files import IMAGE_EXTENSIONS, encode_path, extension
from vggfeat.sources.members import Location, Members, clean, hidden
from vggfeat.storage.places import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TarLocation(Location):
    """Where a member's bytes lie in a tar file: as they are, from `offset` on.

    Attributes
    ----------
    offset : int
        In bytes.
    """

    offset: int

    def open(self) -> BinaryIO:
        """Return a window on the archive; see :meth:`Location.open`."""
        if self.reason:
            raise ImageError(self.reason)
        return self.place.part(self.offset, self.size, self.state)


class TarMembers(Members):
    """The images in one tar file.

    Parameters
    ----------
    place : Place
        The file.

    Raises
    ------
    SourceError
        It cannot be read, or is no tar file.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place
        self._files: dict[str, TarLocation] = {}
        links: dict[str, str] = {}
        try:
            with place.open() as file:
                self._state = place.state(file)
                for member in self._members(file):
                    self._take(member, file, links)
        except (ImageError, OSError) as error:
            raise SourceError(f"Cannot read {place.name!r}: {error}.") from error
        for name, target in links.items():
            missing = TarLocation(place, self._state, 0, 0, "link to a missing member", 0)
            self.images[name] = self._files.get(target, missing)

    def _members(self, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
        try:
            tar = tarfile.TarFile(fileobj=file, encoding="utf-8", errors="surrogateescape")
        except (tarfile.TarError, OSError, ValueError, EOFError) as error:
            raise SourceError(
                f"{self._place.name!r} is not a tar archive: {error}. Is it complete?"
            ) from error
        with tar:
            problem = ""
            while True:
                try:
                    member = tar.next()
                except (tarfile.TarError, OSError, ValueError, EOFError) as error:
                    problem = str(error)
                    break
                if member is None:
                    break
                tar.members = []  # type: ignore[attr-defined]  # it would keep all of them
                yield member
            file.seek(tar.offset)
            block = file.read(tarfile.BLOCKSIZE)
            # A sound archive ends in a block of zeros; tarfile stops without a word at others.
            if problem or len(block) < tarfile.BLOCKSIZE or any(block):
                _log.warning(
                    "%s is truncated or damaged at byte %d%s; what comes before it is used.",
                    self._place.name, tar.offset, f" ({problem})" if problem else "",
                )  # fmt: skip

    def _take(self, member: tarfile.TarInfo, file: BinaryIO, links: dict[str, str]) -> None:
        name = clean(member.name)
        if member.isdir() or hidden(name):
            return
        mtime_ns = int(member.mtime * 1_000_000_000)
        location = TarLocation(
            self._place, self._state, member.size, mtime_ns, "", member.offset_data
        )
        if member.issparse():
            location = replace(location, reason="sparse member, which cannot be read in place")
        elif member.offset_data + member.size > self._state.size:
            location = replace(location, reason="truncated: the archive ends inside this image")
        if member.isreg():
            self._files[name] = location
            self.take(name, location, lambda count: _peek(file, location, count))
        elif extension(name) in IMAGE_EXTENSIONS:
            key = encode_path(name)
            if member.islnk() or member.issym():
                above = posixpath.dirname(name) if member.issym() else ""
                links[key] = posixpath.normpath(posixpath.join(above, member.linkname))
            self.add(key, replace(location, reason="not a file but a device or FIFO"))
        else:
            self.left_out += 1


def _peek(file: BinaryIO, location: TarLocation, count: int) -> bytes:
    file.seek(location.offset)
    return file.read(min(count, location.size))
