"""A store of parts in a bucket: a part is made on this machine, sent there, and then marked."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import h5py

from vggfeat.atomic import atomic_file
from vggfeat.errors import ImageError, SourceError, StoreError
from vggfeat.failures import check_space, writing
from vggfeat.pipeline import prefetch
from vggfeat.storage.places import State
from vggfeat.storage.remote import Remote, RemotePlace
from vggfeat.storage.transports import Found
from vggfeat.storage.urls import Url, parse
from vggfeat.store.opening import open_far
from vggfeat.store.parts.folder import PartsFolder
from vggfeat.store.parts.markers import Marker
from vggfeat.store.reader import FeatureStore

_log = logging.getLogger(__name__)
_PIECE = 8 << 20
_AT_ONCE = 16  # small files asked for at a time


class Bucket(PartsFolder):
    """A folder of a bucket, and one of this machine in which parts are made.

    The latter lies where temporary files do (``TMPDIR``), is found again by the next run on this
    machine, and holds a part only until that is finished.

    Parameters
    ----------
    place : str
        A URL such as ``s3://bucket/photos.store``. Credentials are the environment's.
    """

    def __init__(self, place: str) -> None:
        try:
            self._url: Url = parse(place.rstrip("/"))
        except SourceError as error:  # its words hold nothing secret, and nor may ours
            raise StoreError(str(error)) from None
        self.place = self._url.text
        self.path = _work_folder(self._url.text)

    @functools.cached_property
    def _remote(self) -> Remote:
        with _asking(str(self.place)):
            return Remote(self._url)

    def make(self) -> None:
        """Make the folder of this machine, and look at the one in the bucket."""
        self._make_work_folder()
        self.refuse_others(self.listing())

    def named(self, name: str) -> str:
        """Return the URL of a file."""
        return f"{self.place}/{name}"

    def listing(self) -> dict[str, tuple[int, int]]:
        """Ask what is there; see :meth:`PartsFolder.listing`."""
        return {
            name: (found.state.size, hash(found.state)) for name, found in self._found().items()
        }

    def has(self, name: str) -> bool:
        """Ask whether a file is there."""
        return name in self._found(name)

    def open(self, name: str) -> h5py.File:
        """Open a store in the bucket, of which only what is needed is fetched."""
        with _asking(self.named(name)):
            place = RemotePlace(self._remote, self._remote.info(self.named(name)))
            return open_far(self.named(name), place.open())

    @contextmanager
    def reading(self, name: str) -> Iterator[None]:
        """Tell connections that break from damage; see :meth:`PartsFolder.reading`."""
        with _asking(self.named(name)), super().reading(name):
            yield

    def list_of_images(self, name: str) -> FeatureStore:
        """Open the list of images, from a copy."""
        self._make_work_folder()
        copy = self.path / f".{name}.{os.getpid()}.copy"
        try:
            with _asking(self.named(name)):
                self._download(self._remote.info(self.named(name)), copy)
            return FeatureStore(copy)
        finally:
            with suppress(OSError):
                copy.unlink()  # what is open stays readable

    def markers(self, names: Mapping[str, int]) -> dict[str, Marker]:
        """Read markers, several at a time."""
        with closing(prefetch(self.marker, names, workers=_AT_ONCE, ahead=2 * _AT_ONCE)) as read:
            pairs = list(zip(names, read, strict=True))
        return {name: found for name, found in pairs if found is not None}

    def fetch(self, name: str) -> bool:
        """Bring a file here, unless a run on this machine has left it half done."""
        here = self.path / name
        if here.is_file():
            return True
        found = self._found(name).get(name)
        if found is None:
            return False
        check_space(here, found.state.size)
        with _asking(self.named(name)), writing(here), atomic_file(here) as temporary:
            self._download(found, temporary)
        return True

    def publish(self, name: str) -> None:
        """Send a file."""
        with _asking(self.named(name)):
            self._remote.upload(str(self.path / name), self.named(name))

    def settled(self, name: str) -> None:
        """Remove the copy that is here."""
        with suppress(OSError):
            (self.path / name).unlink()

    def remove(self, name: str) -> None:
        """Remove a file here and there."""
        self.settled(name)
        with _asking(self.named(name)):
            self._remote.remove(self.named(name))

    def read(self, name: str, most: int) -> bytes | None:
        """Fetch a small file; see :meth:`PartsFolder.read`."""
        found = self._found(name).get(name)
        if found is None:
            return None
        if found.state.size > most:
            raise StoreError(f"{self.named(name)} is larger than {most >> 20} MiB.")
        with _asking(self.named(name)):
            return self._remote.read(found.url, 0, found.state.size, found.state)

    def write(self, name: str, text: str) -> None:
        """Write a small file here, and send it."""
        self._make_work_folder()
        super().write(name, text)
        self.publish(name)
        self.settled(name)

    def _found(self, name: str = "") -> dict[str, Found]:
        """Ask what is there: all, or one file."""
        top = f"{self.place}/"
        with _asking(str(self.place)):
            if name:
                found = self._remote.look(f"{top}{name}")
                return {} if found is None else {name: found}
            return {
                one.url.removeprefix(top): one
                for one in self._remote.find(str(self.place))
                if one.url.startswith(top)
            }

    def _download(self, found: Found, path: Path) -> None:
        state: State = found.state
        with path.open("xb") as file:
            for start in range(0, state.size, _PIECE):
                size = min(_PIECE, state.size - start)
                file.write(self._remote.read(found.url, start, size, state))

    def _make_work_folder(self) -> None:
        with writing(self.path):
            if not self.path.is_dir():
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                _log.info("Parts of %s are made in %s, then sent.", self.place, self.path)
            if hasattr(os, "getuid") and self.path.stat().st_uid != os.getuid():
                raise StoreError(
                    f"{self.path}, where parts are to be made, belongs to somebody else. Set "
                    "TMPDIR to a folder of your own."
                )


def _work_folder(url: str) -> Path:
    user = os.getuid() if hasattr(os, "getuid") else "user"
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"vggfeat-parts-{user}", digest)


@contextmanager
def _asking(name: str) -> Iterator[None]:
    """Turn what a bucket cannot do into StoreErrors."""
    try:
        yield
    except (ImageError, SourceError) as error:
        raise StoreError(
            f"{name}: {str(error).rstrip('.')}. What is finished stays; run the same command again."
        ) from error
