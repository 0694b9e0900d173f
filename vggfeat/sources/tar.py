"""What lies where in one tar file, and reading it from there."""

from __future__ import annotations

import io
import logging
import os
import posixpath
import tarfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

from vggfeat.errors import ImageError, SourceError
from vggfeat.files import IMAGE_EXTENSIONS, encode_path, extension, open_regular
from vggfeat.labels import RawLabels, class_name
from vggfeat.sections import Section
from vggfeat.signatures import SIGNATURE_BYTES, sniff

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger(__name__)

_LABEL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Location:
    """Where a member's bytes lie.

    Attributes
    ----------
    shard : str
        Path of the tar file.
    offset, size : int
        In bytes.
    shard_mtime_ns, shard_ctime_ns : int
        Of the tar file, to notice that it changed since it was listed.
    reason : str
        Why the member cannot be read; empty where it can.
    mtime_ns : int
        Of the member, by the archive.
    """

    shard: str
    offset: int
    size: int
    shard_mtime_ns: int
    shard_ctime_ns: int
    reason: str = ""
    mtime_ns: int = 0


class Listing:
    """The images in one tar file.

    Attributes
    ----------
    images : dict of str to Location
        By member name, as a store spells it; hidden members are left out.
    count : int
        Images met, with those whose name comes again.
    left_out : int
        Members that are no images by extension or first bytes.
    """

    def __init__(self, shard: str) -> None:
        self.images: dict[str, Location] = {}
        self.count = self.left_out = 0
        self._shard = shard
        self._classes: dict[str, str] = {}
        self._files: dict[str, Location] = {}
        links: dict[str, str] = {}
        try:
            with open_regular(shard) as file:
                state = os.fstat(file.fileno())
                self._end, self._times = state.st_size, (state.st_mtime_ns, state.st_ctime_ns)
                for member in self._members(file):
                    self._take(member, file, links)
        except ImageError as error:
            raise SourceError(f"Cannot read {shard!r}: {error}.") from error
        for name, target in links.items():
            missing = Location(shard, 0, 0, *self._times, "link to a missing member")
            self.images[name] = self._files.get(target, missing)

    def labels(self) -> RawLabels:
        """Return the class name of each image that has a ``.cls`` member beside it."""
        stems = {name: _stem(name) for name in self.images}
        return {n: (self._classes[s],) for n, s in stems.items() if s in self._classes}

    def _members(self, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
        try:
            tar = tarfile.TarFile(fileobj=file, encoding="utf-8", errors="surrogateescape")
        except (tarfile.TarError, OSError, ValueError, EOFError) as error:
            raise SourceError(
                f"{self._shard!r} is not a tar archive: {error}. Is it complete?"
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
                    self._shard, tar.offset, f" ({problem})" if problem else "",
                )  # fmt: skip

    def _take(self, member: tarfile.TarInfo, file: BinaryIO, links: dict[str, str]) -> None:
        name = _clean(member.name)
        if member.isdir() or _hidden(name):
            return
        location = Location(self._shard, member.offset_data, member.size, *self._times)
        location = replace(location, mtime_ns=int(member.mtime * 1_000_000_000))
        if member.issparse():
            location = replace(location, reason="sparse member, which cannot be read in place")
        elif member.offset_data + member.size > self._end:
            location = replace(location, reason="truncated: the archive ends inside this image")
        key = encode_path(name)
        if member.isreg():
            self._files[name] = location
        if extension(name) in IMAGE_EXTENSIONS:
            self.count += 1
            if member.islnk() or member.issym():
                above = posixpath.dirname(name) if member.issym() else ""
                links[key] = posixpath.normpath(posixpath.join(above, member.linkname))
            elif not member.isreg():
                location = replace(location, reason="not a file but a device or FIFO")
            self.images[key] = location
        elif not member.isreg():
            self.left_out += 1
        elif extension(name) == ".cls":
            data = _peek(file, location, _LABEL_BYTES)
            self._classes[_stem(key)] = class_name(data.decode("utf-8", "surrogateescape"))
        elif sniff(_peek(file, location, SIGNATURE_BYTES)):
            self.count += 1
            self.images[key] = location
        else:
            self.left_out += 1


def open_location(file: io.BufferedReader, location: Location) -> BinaryIO:
    """Return the bytes at `location` as a file of their own, which closes `file` with itself.

    Raises
    ------
    ImageError
        The location cannot be read, or the tar file has changed since it was listed.
    """
    if location.reason:
        file.close()
        raise ImageError(location.reason)
    window = _Window(file.detach(), location)
    try:
        window.check()
    except ImageError:
        window.close()
        raise
    return io.BufferedReader(window)


def check_unchanged(file: BinaryIO) -> None:
    """Refuse what :func:`open_location` gave once its tar file has changed; raises ImageError."""
    if isinstance(raw := getattr(file, "raw", None), _Window):
        raw.check()


class _Window(Section):
    """A member of an archive, which closes the archive with itself."""

    def __init__(self, file: io.RawIOBase, location: Location) -> None:
        super().__init__(file, location.offset, location.size)
        self._archive = file
        self._times = location.shard_mtime_ns, location.shard_ctime_ns

    def check(self) -> None:
        state = os.fstat(self._archive.fileno())  # of all of it, which is why nobody else asks
        if (state.st_mtime_ns, state.st_ctime_ns) != self._times:
            raise ImageError("the archive has changed since it was listed")

    def close(self) -> None:
        self._archive.close()
        super().close()


def _clean(name: str) -> str:
    """Drop ``./``; ``..`` and a leading slash stay: they are parts of a key, never followed."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return ("/" if name.startswith("/") else "") + "/".join(parts)


def _hidden(name: str) -> bool:
    return any(
        part == "__MACOSX" or (part.startswith(".") and part != "..") for part in name.split("/")
    )


def _stem(name: str) -> str:
    """Return what webdataset groups members by: the path up to the first dot of the last part."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _peek(file: BinaryIO, location: Location, count: int) -> bytes:
    file.seek(location.offset)
    return file.read(min(count, location.size))
