"""The index as it is now: opened again once somebody has changed it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from vggfeat.errors import StoreMismatchError, VggfeatError
from vggfeat.index import SimilarityIndex, state
from vggfeat.queries import ImageSearch
from vggfeat.web.service import SearchService

_AGAIN_SECONDS = 2  # until an index that could not be opened is tried once more

_log = logging.getLogger(__name__)


class LiveService:
    """Gives the service of an index, a new one after it was added to, compacted or built anew.

    One look at the folder a request tells. A request keeps the service that it was given, so it
    sees one index from its start to its end.

    Parameters
    ----------
    path : path
        The index.
    first : callable
        Makes a service of an index that was just opened.
    search : callable
        Puts a network to an index whose features were made in another way than before.

    Raises
    ------
    SearchError
        See :meth:`vggfeat.index.SimilarityIndex.open`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        first: Callable[[SimilarityIndex], SearchService],
        search: Callable[[SimilarityIndex], ImageSearch],
    ) -> None:
        self._path = Path(path)
        self._search = search
        self._turn = threading.Lock()
        self._not_before = 0.0
        # Asked for before the index is opened: a change in between is seen at the next look.
        self._state = state(path)
        self._service = first(SimilarityIndex.open(path))

    @property
    def name(self) -> str:
        """What the index is called."""
        return self._path.absolute().name

    def current(self) -> SearchService:
        """Return the service of the index as it is, or as it was last where it is away or damaged.

        While one request opens a changed index, others are answered from the one before.
        """
        if state(self._path) != self._state and self._turn.acquire(blocking=False):
            try:
                if monotonic() >= self._not_before:
                    self._renew()
            finally:
                self._turn.release()
        return self._service

    def _renew(self) -> None:
        changed = state(self._path)
        try:
            index = SimilarityIndex.open(self._path)
            try:
                self._service = self._service.with_index(index)
            except StoreMismatchError:
                self._service = self._service.with_index(index, self._search(index))
        except (VggfeatError, OSError) as error:
            self._not_before = monotonic() + _AGAIN_SECONDS
            _log.warning("The index as it was is served on: %s", error)
            return
        self._state = changed
        _log.info("The index has changed: %d images", len(index))
