"""Features kept between calls: stores in a folder, one for each way of making them.

Images that are files are known by their absolute path, and count as changed when their size or
time of change does, as in every store. Images in memory are known by the SHA-256 of their upright
RGB pixels.

A store's name holds a digest of all that decides its numbers and of the precision they are computed
in, and the store itself says them once more: features made in another way are never taken.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ImageError, StoreError, StoreLockedError
from vggfeat.extract.extractor import FeatureExtractor
from vggfeat.files import decode_path
from vggfeat.images import Reading, as_image
from vggfeat.sources import Entry, FileSource
from vggfeat.sources.base import as_text, entry_of
from vggfeat.sources.reading import look
from vggfeat.store import FeatureStore, fresh_rows

_log = logging.getLogger(__name__)

_ALWAYS = 1  # a time that never changes
_PAUSE = 0.2  # seconds between looks at a store that another process writes
_PATIENCE = 300.0  # seconds without any progress there, after which this process works for itself


class CachedFeatures:
    """Features of one layer, computed once for each image.

    Several processes may use one folder at a time: one writes, the others wait for it and take
    what it made. One that sees no progress for five minutes computes for itself and keeps nothing.

    Parameters
    ----------
    folder : path
        Where the stores are; made if need be.
    extractor : FeatureExtractor
        Of one layer.

    Attributes
    ----------
    path : Path
        The store in the documented format that this extractor's features are in.

    Raises
    ------
    StoreError
        The folder cannot be made.
    WeightsError
        The weights cannot be found: their digest is part of the store's name.
    """

    def __init__(self, folder: str | os.PathLike[str], extractor: FeatureExtractor) -> None:
        self._extractor = extractor
        (self._layer,) = extractor.shapes
        self.path = Path(folder).absolute() / _name(extractor)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{folder} cannot be made: {error.strerror}. Give a folder for cached features."
            ) from error

    def __call__(self, images: Sequence[Any]) -> npt.NDArray[np.float32]:
        """Return features of images, computing those that are not there yet.

        Parameters
        ----------
        images : sequence of length n
            As for :meth:`FeatureExtractor.__call__`.

        Returns
        -------
        ndarray of float32, shape (n, d)

        Raises
        ------
        ImageError
            An image cannot be decoded, or has no finite features; the message names it.
        StoreError
            The store is damaged, cannot be written, or was made in another way.
        """
        if not len(images):
            return self._alone(images)
        source = _KeyedImages(images, self._extractor.reading)
        cached, filled = self._taken(source), False
        waited, seen = time.monotonic(), _count(cached)
        while cached is None or not cached[1].all():
            if filled or time.monotonic() - waited > _PATIENCE:
                why = "holds damaged rows" if filled else "is locked, and nothing is added to it"
                _log.warning(
                    "%s %s; features are computed without it. `vggfeat verify --redo` mends it.",
                    self.path, why,
                )  # fmt: skip
                return self._alone(images)
            try:
                self._fill(source)
                filled = True
            except StoreLockedError:
                time.sleep(_PAUSE)
            cached = self._taken(source)
            if _count(cached) > seen:
                waited, seen = time.monotonic(), _count(cached)
        return cached[0][source.places]

    def _fill(self, source: _KeyedImages) -> None:
        """Compute what is not there yet; raise StoreLockedError where another process does so."""
        summary = self._extractor.extract(
            source, self.path, labels="none", retry_failed=True, partial=True, progress=False
        )
        requested = {entry.path for entry in source.entries}
        for path, reason in summary.failures:
            if path in requested:
                raise ImageError(f"{decode_path(path)}: {reason}")

    def _taken(
        self, source: _KeyedImages
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]] | None:
        """Return the features of the source's entries that are there, and which are."""
        if not self.path.exists():
            return None
        with FeatureStore(self.path) as store:
            if differing := store.provenance.config.differences(self._extractor.config):
                raise StoreError(
                    f"{self.path} was made in another way than its name says: "
                    f"{'; '.join(differing)}. Remove it."
                )
            return fresh_rows(
                store,
                self._layer,
                source.entries,
                lambda entries: [look(source, entry) for entry in entries],
            )

    def _alone(self, images: Sequence[Any]) -> npt.NDArray[np.float32]:
        (features,) = self._extractor(images).values()
        # (n, C, H, W) -> (n, C * H * W), also where n is 0
        return features.reshape(len(features), math.prod(features.shape[1:]))


class _KeyedImages(FileSource):
    """Images in memory by their pixels, others by path, each once.

    Attributes
    ----------
    places : ndarray of int64, shape (n,)
        Which of `entries` each of the n images is.
    """

    def __init__(self, images: Sequence[Any], reading: Reading) -> None:
        self._reading = reading
        self._in_memory: dict[str, Any] = {}
        entries = [self._entry(number, image) for number, image in enumerate(images)]
        super().__init__("/", "/", {entry.path: entry for entry in entries}.values())
        order = {entry.path: at for at, entry in enumerate(self.entries)}
        self.places = np.array([order[entry.path] for entry in entries], np.int64)

    def open(self, entry: Entry) -> BinaryIO:
        """Open an image's file, or give its pixels as one."""
        if entry.path not in self._in_memory:
            return super().open(entry)
        file = io.BytesIO()
        as_image(self._in_memory[entry.path], **self._reading).save(file, "PPM")
        file.seek(0)
        return file

    def seen(self, entry: Entry, file: BinaryIO) -> Entry:
        """Ask the image's file; pixels cannot change, since their digest is their name."""
        return entry if entry.path in self._in_memory else super().seen(entry, file)

    def _entry(self, number: int, image: Any) -> Entry:
        if isinstance(image, str | os.PathLike):
            return entry_of("/", as_text(os.path.abspath(os.fsdecode(image))))  # noqa: PTH100
        try:
            pixels = as_image(image, **self._reading)
        except ImageError as error:
            raise ImageError(f"image {number}: {error}") from error
        raw = pixels.tobytes()
        key = f"pixels/{pixels.width}x{pixels.height}/{hashlib.sha256(raw).hexdigest()}"
        self._in_memory[key] = image
        return Entry(key, len(raw), 0, _ALWAYS)


def _name(extractor: FeatureExtractor) -> str:
    """Return the store's file name, which differs where features may."""
    config = {**extractor.config.to_json(), "precision": extractor.precision}
    text = json.dumps(config, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:20]
    return f"{extractor.model}-{next(iter(extractor.shapes))}-{digest}.h5"


def _count(cached: tuple[Any, npt.NDArray[np.bool_]] | None) -> int:
    return 0 if cached is None else int(cached[1].sum())
