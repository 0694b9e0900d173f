"""The folder of a store of parts: which there are, and its small files, whole or not at all."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from vggfeat.atomic import atomic_file, leftovers
from vggfeat.errors import StoreError
from vggfeat.failures import reading, writing
from vggfeat.store.parts.manifest import MANIFEST, Manifest
from vggfeat.store.parts.markers import Marker

ENDING = ".store"
_OURS = re.compile(r"manifest\.json|part-\d{5,9}\.(h5|json)|images-\d{1,9}\.h5|\..*")
_MANIFEST_BYTES, _MARKER_BYTES = 512 << 20, 1 << 20


def is_parted(path: str | os.PathLike[str]) -> bool:
    """Return whether there is a store of parts at a path."""
    with suppress(OSError, ValueError):
        return Path(path, MANIFEST).is_file()
    return False


def wants_parts(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is to be a store of parts: ``photos.store``, ``photos/``.

    So is an existing store of parts, whatever it is called.
    """
    text = os.fspath(path)
    separators = (os.sep, os.altsep) if os.altsep else (os.sep,)
    return text.endswith((*separators, ENDING)) or is_parted(path)


class PartsFolder:
    """A folder that holds a store of parts.

    Parameters
    ----------
    path : path
        The folder; it need not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.realpath(path))

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
            others = [one.name for one in self.path.iterdir() if not _OURS.fullmatch(one.name)]
        if others:
            raise StoreError(
                f"{self.path} holds other things than a store of parts, such as {others[0]!r}. "
                "Give a folder that is new or empty, such as photos.store."
            )

    def listing(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return of each file in the folder, by name, its bytes and when it was written (ns)."""
        sizes, times = {}, {}
        with reading(self.path), os.scandir(self.path) as files:
            for file in files:
                with suppress(FileNotFoundError):  # it was replaced meanwhile
                    state = file.stat()
                    sizes[file.name], times[file.name] = state.st_size, state.st_mtime_ns
        return sizes, times

    def manifest(self) -> Manifest:
        """Read the manifest.

        Raises
        ------
        StoreError
            There is none, or it is damaged or of a newer version.
        """
        text = self._read(MANIFEST, _MANIFEST_BYTES)
        if text is None:
            raise StoreError(
                f"There is no store of parts at {self.path}: it has no {MANIFEST}. "
                f"`vggfeat extract SOURCE {self.path}` makes one."
            )
        try:
            return Manifest.loads(text)
        except ValueError as error:
            raise StoreError(
                f"{self.path / MANIFEST} is no manifest of a store of parts: {error}. Copy the "
                "store again from where it came, or extract it anew with --overwrite."
            ) from error

    def write_manifest(self, manifest: Manifest) -> None:
        """Put a manifest in the place of the one that is there."""
        self._write(MANIFEST, manifest.dumps())

    def marker(self, name: str) -> Marker | None:
        """Read a part's marker; None where there is none.

        Raises
        ------
        StoreError
            It is damaged.
        """
        text = self._read(name, _MARKER_BYTES)
        if text is None:
            return None
        try:
            return Marker.loads(text)
        except ValueError as error:
            raise StoreError(
                f"{self.path / name} is damaged: {error}. Delete it: the part is then looked "
                "through again by the next `vggfeat extract`, and computed where that is needed."
            ) from error

    def write_marker(self, name: str, marker: Marker) -> None:
        """Put a part's marker in its place."""
        self._write(name, marker.dumps())

    def remove(self, name: str) -> None:
        """Remove a file, where it is there."""
        with writing(self.path / name), suppress(FileNotFoundError):
            (self.path / name).unlink()

    def clear(self) -> None:
        """Remove everything of the store that is there, the manifest first."""
        self.remove(MANIFEST)
        for name in self.listing()[0]:
            if _OURS.fullmatch(name) and not name.startswith("."):
                self.remove(name)

    def sweep(self, keep: Manifest) -> None:
        """Remove lists of images that no manifest names any more, and what killed runs left."""
        for name in self.listing()[0]:
            if name.startswith("images-") and name != keep.images and _OURS.fullmatch(name):
                with suppress(OSError):
                    (self.path / name).unlink()
        for file in leftovers(self.path / MANIFEST):
            with suppress(OSError):
                file.unlink()

    def _read(self, name: str, most: int) -> str | None:
        path = self.path / name
        with reading(path):
            try:
                with path.open("rb") as file:
                    data = file.read(most + 1)
            except FileNotFoundError:
                return None
            if len(data) > most:
                raise ValueError(f"it is larger than {most >> 20} MiB")
            return data.decode()

    def _write(self, name: str, text: str) -> None:
        path = self.path / name
        with writing(path), atomic_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
