"""The folder of a store of parts: which there are, and its small files, whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import h5py

from vggfeat.atomic import atomic_file, left_of
from vggfeat.errors import StoreError
from vggfeat.failures import reading, writing
from vggfeat.storage.urls import is_remote
from vggfeat.store.opening import open_hdf5
from vggfeat.store.parts.manifest import MANIFEST, Manifest
from vggfeat.store.parts.markers import Marker
from vggfeat.store.reader import FeatureStore

ENDING = ".store"
OURS = re.compile(r"manifest\.json|part-\d{5,9}\.(h5|json)|images-\d{1,9}\.h5|\..*")
"""Names of files in such a folder; hidden ones are locks, and what is being written."""

_LISTS = re.compile(r"manifest\.json|images-\d{1,9}\.h5")  # written under the manifest's lock
_MANIFEST_BYTES, _MARKER_BYTES = 512 << 20, 1 << 20


def parts_folder(place: str | os.PathLike[str]) -> PartsFolder:
    """Return the folder of a store of parts, here or in a bucket."""
    text = os.fspath(place)
    if is_remote(text):
        from vggfeat.store.parts.bucket import Bucket

        return Bucket(text)
    return PartsFolder(text)


def is_parted(path: str | os.PathLike[str]) -> bool:
    """Return whether there is a store of parts at a path; a URL can be nothing else."""
    if is_remote(os.fspath(path)):
        return True
    with suppress(OSError, ValueError):
        return Path(path, MANIFEST).is_file()
    return False


def wants_parts(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is to be a store of parts: ``photos.store``, ``photos/``, a URL.

    So is an existing store of parts, whatever it is called.
    """
    text = os.fspath(path)
    separators = (os.sep, os.altsep) if os.altsep else (os.sep,)
    return text.endswith((*separators, ENDING)) or is_parted(path)


class PartsFolder:
    """A folder that holds a store of parts.

    Parameters
    ----------
    place : str
        The folder; it need not exist.

    Attributes
    ----------
    place : Path or str
        By which it is opened again, and named in messages.
    path : Path
        The folder of this machine in which files are written.
    """

    place: Path | str

    def __init__(self, place: str) -> None:
        self.place = self.path = Path(os.path.realpath(place))

    def make(self) -> None:
        """Make the folder where there is none.

        Raises
        ------
        StoreError
            It cannot be made, or holds other things than a store of parts.
        """
        if not self.path.parent.is_dir():
            raise StoreError(
                f"{self.path}: the folder {self.path.parent} does not exist. Make it first."
            )
        with writing(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise StoreError(f"{self.path} is a file. Give the name of a folder for the parts.")
            self.path.mkdir(exist_ok=True)
        self.refuse_others(self.listing())

    def refuse_others(self, names: Mapping[str, object]) -> None:
        """Raise StoreError where there are files that no store of parts has."""
        if others := [name for name in names if not OURS.fullmatch(name)]:
            raise StoreError(
                f"{self.place} holds other things than a store of parts, such as {others[0]!r}. "
                "Give a folder that is new or empty, such as photos.store."
            )

    def named(self, name: str) -> str:
        """Return what a file is called in messages."""
        return str(self.path / name)

    def listing(self) -> dict[str, tuple[int, int]]:
        """Return of each file, by name, its bytes, and a number that changes when it does."""
        files = {}
        with reading(self.path), os.scandir(self.path) as found:
            for file in found:
                with suppress(FileNotFoundError):  # it was replaced meanwhile
                    state = file.stat()
                    files[file.name] = state.st_size, state.st_mtime_ns
        return files

    def has(self, name: str) -> bool:
        """Return whether a file is there."""
        return (self.path / name).is_file()

    def open(self, name: str) -> h5py.File:
        """Open a store that is a file of the folder, for reading; raises StoreError."""
        return open_hdf5(self.path / name)

    def reading(self, name: str) -> AbstractContextManager[None]:
        """Turn what goes wrong while an open file is read into StoreErrors."""
        return reading(self.named(name))

    def list_of_images(self, name: str) -> FeatureStore:
        """Open the list of images."""
        return FeatureStore(self.path / name)

    def manifest(self) -> Manifest:
        """Read the manifest.

        Raises
        ------
        StoreError
            There is none, or it is damaged or of a newer version.
        """
        data = self.read(MANIFEST, _MANIFEST_BYTES)
        if data is None:
            raise StoreError(
                f"There is no store of parts at {self.place}: it has no {MANIFEST}. "
                f"`vggfeat extract SOURCE {self.place}` makes one."
            )
        try:
            return Manifest.loads(data.decode())
        except ValueError as error:
            raise StoreError(
                f"{self.named(MANIFEST)} is no manifest of a store of parts: {error}. Copy the "
                "store again from where it came, or extract it anew with --overwrite."
            ) from error

    def write_manifest(self, manifest: Manifest) -> None:
        """Put a manifest in the place of the one that is there."""
        self.write(MANIFEST, manifest.dumps())

    def markers(self, names: Mapping[str, int]) -> dict[str, Marker]:
        """Read markers by name, of so many bytes each; those that are gone are left out.

        Raises
        ------
        StoreError
            One is damaged.
        """
        return {name: found for name in names if (found := self.marker(name)) is not None}

    def marker(self, name: str) -> Marker | None:
        """Read a part's marker; None where there is none.

        Raises
        ------
        StoreError
            It is damaged.
        """
        data = self.read(name, _MARKER_BYTES)
        if data is None:
            return None
        try:
            return Marker.loads(data.decode())
        except ValueError as error:
            raise StoreError(
                f"{self.named(name)} is damaged: {error}. Delete it: the part is then looked "
                "through again by the next `vggfeat extract`, and computed where that is needed."
            ) from error

    def write_marker(self, name: str, marker: Marker) -> None:
        """Put a part's marker in its place."""
        self.write(name, marker.dumps())

    def fetch(self, name: str) -> bool:
        """See that a file that is to be changed lies in :attr:`path`; False where there is none."""
        return self.has(name)

    def publish(self, name: str) -> None:
        """See that readers find a file of :attr:`path` as it is now."""

    def settled(self, name: str) -> None:
        """Take note that a file is not written any more."""

    def remove(self, name: str) -> None:
        """Remove a file, where it is there."""
        with writing(self.path / name), suppress(FileNotFoundError):
            (self.path / name).unlink()

    def clear(self) -> None:
        """Remove everything of the store that is there, the manifest first."""
        self.remove(MANIFEST)
        for name in self.listing():
            if OURS.fullmatch(name) and not name.startswith("."):
                self.remove(name)

    def sweep(self, keep: Manifest) -> None:
        """Remove lists of images that no manifest names any more, and what killed runs left."""
        for name in self.listing():
            if name.startswith("images-") and name != keep.images and OURS.fullmatch(name):
                with suppress(StoreError):
                    self.remove(name)
        for file in self.path.iterdir():
            if _LISTS.fullmatch(left_of(file.name)):
                with suppress(OSError):
                    file.unlink()

    def read(self, name: str, most: int) -> bytes | None:
        """Read a small file; None where it is not there, StoreError where it cannot be read."""
        path = self.path / name
        with reading(path):
            try:
                with path.open("rb") as file:
                    data = file.read(most + 1)
            except FileNotFoundError:
                return None
            if len(data) > most:
                raise ValueError(f"it is larger than {most >> 20} MiB")
            return data

    def write(self, name: str, text: str) -> None:
        """Write a small file, whole or not at all."""
        path = self.path / name
        with writing(path), atomic_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
