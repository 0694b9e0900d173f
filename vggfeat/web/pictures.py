"""Thumbnails and originals of indexed images, by their ids."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

from vggfeat.errors import ImageError
from vggfeat.files import decode_path
from vggfeat.images import MAX_PIXELS, size_of
from vggfeat.report.thumbnails import shrunk
from vggfeat.sources import Originals, is_remote, within
from vggfeat.web.budget import decoding

if TYPE_CHECKING:
    from vggfeat.index import SimilarityIndex

SIDES = (240, 960)
"""Longest sides of thumbnails in pixels: in a list of results, and as the query."""

MOST_BYTES = 2 << 30
"""Largest original that is opened: more than any image within the limit of pixels takes."""

CACHE_BYTES = 64 << 20
"""How much memory thumbnails may take."""

_MOST_LOGGED = 10  # sources that the log names

_log = logging.getLogger(__name__)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_LOGGED:,} more" if len(names) > _MOST_LOGGED else ""
    return ", ".join(map(repr, names[:_MOST_LOGGED])) + more


class Cache:
    """Keeps what was used last, as far as there is room; for any thread.

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
    roots : sequence of path or ``NAME=PATH``
        Where originals are now, or may come from as well; see :class:`vggfeat.sources.Originals`.
    cache : Cache, optional
        Thumbnails that were made, perhaps for an index that this one follows.
    pixels : int
        Largest image that is decoded.
    strict : bool
        Whether to refuse names in `roots` that no source has.
    """

    def __init__(
        self,
        index: SimilarityIndex,
        roots: Sequence[str | os.PathLike[str]] = (),
        cache: Cache | None = None,
        pixels: int = MAX_PIXELS,
        *,
        strict: bool = True,
    ) -> None:
        self._index = index
        self._roots = tuple(roots)
        self._originals = Originals(index.sources, roots, strict=strict)
        self._cache = cache or Cache(CACHE_BYTES)
        self._pixels = pixels

    def with_index(self, index: SimilarityIndex) -> Pictures:
        """Return the pictures of another index, from the same folders, with the same cache."""
        return Pictures(index, self._roots, self._cache, self._pixels, strict=False)

    def log_folders(self) -> None:
        """Say in the log which folders and archives images are shown from, and which not."""
        opened = self._originals
        reasons = {source: opened.why_not_shown(source) for source in opened.sources}
        folders = [opened.place(source) for source, why in reasons.items() if not why]
        names = [*(decode_path(within(one, "")[0]) for one in folders), *opened.folders]
        shown = [name if is_remote(name) else os.path.realpath(name) for name in names]
        shown = list(dict.fromkeys(shown))
        _log.info("Images are shown from %s", _some(shown) if shown else "nowhere")
        for source, why in [(one, why) for one, why in reasons.items() if why][:_MOST_LOGGED]:
            _log.warning("Images of %r are not shown: %s", source, why)

    def tag(self, image_id: int, side: int = 0) -> str:
        """Return what names an image and no other, also where ids have changed."""
        rows = self._index.catalogue.rows
        key = (
            self._index.source(image_id),
            self._index.path(image_id),
            int(rows.checksum[image_id]),
            side,
        )
        return hashlib.sha256(repr(key).encode()).hexdigest()[:32]

    def original(self, image_id: int) -> BinaryIO:
        """Open the original of an image; the caller closes it.

        Raises
        ------
        ImageError, SourceError
            It is no longer there, is no image, or see :func:`vggfeat.sources.open_stored`.
        """
        return self._opened(image_id)[0]

    def thumbnail(self, image_id: int, side: int) -> bytes:
        """Return a small JPEG of an image, made once while it is kept in memory.

        Parameters
        ----------
        image_id : int
        side : int
            Longest side in pixels.

        Raises
        ------
        ImageError, SourceError
            See :meth:`original`; or the image cannot be decoded.
        """
        key = self.tag(image_id, side)
        if (kept := self._cache.get(key)) is not None:
            return kept
        original, pixels = self._opened(image_id)
        with original, decoding.taken(pixels):
            small = shrunk(original, side, self._pixels)
        file = io.BytesIO()
        small.save(file, "JPEG", quality=85, optimize=True)
        self._cache.keep(key, file.getvalue())
        return file.getvalue()

    def _opened(self, image_id: int) -> tuple[BinaryIO, int]:
        """Return the original of an image, and how many pixels its header says it has."""
        file = self._originals.open(self._index.source(image_id), self._index.path(image_id))
        try:
            if file.seek(0, os.SEEK_END) > MOST_BYTES:
                raise ImageError(f"it has more than {MOST_BYTES:,} bytes")
            file.seek(0)
            width, height = size_of(file, upright=False)  # else it may only begin like an image
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file, width * height
