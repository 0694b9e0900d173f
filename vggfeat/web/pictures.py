"""Thumbnails and originals of indexed images, by their numbers in the index."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from vggfeat.errors import ImageError
from vggfeat.files import decode_path
from vggfeat.processors import usable_cores
from vggfeat.report.thumbnails import shrunk
from vggfeat.sources import open_stored
from vggfeat.sources.base import file_path

if TYPE_CHECKING:
    from vggfeat.index import SimilarityIndex

SIDES = (240, 960)
"""Longest sides of thumbnails in pixels: in a list of results, and as the query."""

CACHE_BYTES = 64 << 20
"""How much memory thumbnails may take."""

decoding = threading.BoundedSemaphore(usable_cores())
"""Held while an image is decoded, so that many requests at once do not fill the memory."""


class Cache:
    """Keeps what was asked for last, as far as there is room; for any thread.

    Parameters
    ----------
    room : int
        Bytes.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._turn = threading.Lock()

    def get(self, key: str) -> bytes | None:
        """Return what is kept under a key."""
        with self._turn:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: str, value: bytes) -> None:
        """Keep a value, and forget others for it."""
        with self._turn:
            if key not in self._kept:
                self._kept[key] = value
                self._room -= len(value)
            while self._room < 0:
                self._room += len(self._kept.popitem(last=False)[1])


class Pictures:
    """Opens originals of an index and makes thumbnails of them, from any thread.

    Parameters
    ----------
    index : SimilarityIndex
    roots : sequence of path
        Folders that originals may come from, beside those that the index names.
    cache : Cache, optional
        Thumbnails that were made, perhaps for an index that this one follows.
    """

    def __init__(
        self,
        index: SimilarityIndex,
        roots: Sequence[str | os.PathLike[str]] = (),
        cache: Cache | None = None,
    ) -> None:
        self._index = index
        self._roots = [Path(root).resolve() for root in roots]
        self._cache = cache or Cache(CACHE_BYTES)

    def over(self, index: SimilarityIndex) -> Pictures:
        """Return the pictures of another index, from the same folders, with the same cache."""
        return Pictures(index, self._roots, self._cache)

    def tag(self, place: int, side: int = 0) -> str:
        """Return what names an image and no other, also where numbers have changed."""
        rows = self._index.catalogue.rows
        key = (self._index.source(place), self._index.path(place), int(rows.checksum[place]), side)
        return hashlib.sha256(repr(key).encode()).hexdigest()[:32]

    def original(self, place: int) -> BinaryIO:
        """Open the original of an image; the caller closes it.

        Raises
        ------
        ImageError, SourceError
            It is no longer there, or lies outside the folders that may be served.
        """
        root, path = self._index.source(place), self._index.path(place)
        folder = Path(decode_path(root))
        if folder.is_dir():
            real = file_path(root, path).resolve()
            allowed = [folder.resolve(), *self._roots]
            if not any(real.is_relative_to(one) for one in allowed):
                raise ImageError(
                    f"{path!r} lies outside {root!r}, from where images are served. "
                    "Start the server with --root and its folder to serve it."
                )
        return open_stored(root, path)

    def thumbnail(self, place: int, side: int) -> bytes:
        """Return a small JPEG of an image, made once while it is kept in memory.

        Parameters
        ----------
        place : int
        side : int
            Longest side in pixels.

        Raises
        ------
        ImageError, SourceError
            See :meth:`original`; or the image cannot be decoded.
        """
        key = self.tag(place, side)
        if (kept := self._cache.get(key)) is not None:
            return kept
        with decoding:
            small = shrunk(lambda: self.original(place), side)
        file = io.BytesIO()
        small.save(file, "JPEG", quality=85, optimize=True)
        self._cache.keep(key, file.getvalue())
        return file.getvalue()
