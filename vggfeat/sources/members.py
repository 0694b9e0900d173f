"""What is in an archive, whatever its format: which members are images, which are their classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from vggfeat.files import IMAGE_EXTENSIONS, encode_path, extension
from vggfeat.labels import RawLabels, class_name
from vggfeat.signatures import SIGNATURE_BYTES, sniff
from vggfeat.storage.places import Place, State

if TYPE_CHECKING:
    from collections.abc import Callable

_LABEL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Location(ABC):
    """Where a member's bytes lie.

    Attributes
    ----------
    place : Place
        The archive.
    state : State
        What the archive was when it was listed.
    size : int
        Of the member, in bytes.
    mtime_ns : int
        Of the member, by the archive.
    reason : str
        Why the member cannot be read; empty where it can.
    """

    place: Place
    state: State
    size: int
    mtime_ns: int
    reason: str

    @abstractmethod
    def open(self) -> BinaryIO:
        """Return the member's bytes as a file of their own, from any thread.

        Raises
        ------
        ImageError
            It cannot be read, or the archive has changed since it was listed.
        """


class Members:
    """The images in one archive.

    Attributes
    ----------
    images : dict of str to Location
        By member name, as a store spells it; hidden members are left out.
    count : int
        Images met, with those whose name comes again.
    left_out : int
        Members that are no images by extension or first bytes.
    """

    def __init__(self) -> None:
        self.images: dict[str, Location] = {}
        self.count = self.left_out = 0
        self._classes: dict[str, str] = {}

    def labels(self) -> RawLabels:
        """Return the class name of each image that has a webdataset ``.cls`` member beside it."""
        stems = {name: _stem(name) for name in self.images}
        return {n: (self._classes[s],) for n, s in stems.items() if s in self._classes}

    def take(self, name: str, location: Location, peek: Callable[[int], bytes]) -> None:
        """Take note of a plain member.

        Parameters
        ----------
        name : str
            As :func:`clean` gives it, and not hidden.
        location : Location
            Where it is.
        peek : callable
            Gives so many of its first bytes.
        """
        key = encode_path(name)
        if extension(name) in IMAGE_EXTENSIONS:
            self.add(key, location)
        elif extension(name) == ".cls":
            data = peek(_LABEL_BYTES)
            self._classes[_stem(key)] = class_name(data.decode("utf-8", "surrogateescape"))
        elif sniff(peek(SIGNATURE_BYTES)):
            self.add(key, location)
        else:
            self.left_out += 1

    def add(self, key: str, location: Location) -> None:
        """Add an image; of several with one name the last counts."""
        self.count += 1
        self.images[key] = location


def clean(name: str) -> str:
    """Drop ``./``; ``..`` and a leading slash stay: they are parts of a key, never followed."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return ("/" if name.startswith("/") else "") + "/".join(parts)


def hidden(name: str) -> bool:
    """Whether a member, or a folder it is in, is what systems hide."""
    return any(
        part == "__MACOSX" or (part.startswith(".") and part != "..") for part in name.split("/")
    )


def _stem(name: str) -> str:
    """Return what webdataset groups members by: the path up to the first dot of the last part."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]
