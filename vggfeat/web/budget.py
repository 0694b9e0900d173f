"""How much may be decoded at a time, over all requests."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from vggfeat import malloc
from vggfeat.processors import usable_cores

DECODED_PIXELS = 64_000_000
"""Pixels that all images that are being decoded and looked at may have together."""

_LARGE = 4_000_000  # pixels from which on an image's memory is given back at once


class PixelBudget:
    """Lets images be decoded in turn, as many at once as their pixels allow; for any thread.

    Parameters
    ----------
    most : int
        Pixels of all images at a time. A larger image has its turn alone.
    at_once : int
        Images at a time, however small.
    """

    def __init__(self, most: int, at_once: int) -> None:
        self._most = self._left = most
        self._least = max(1, most // at_once)
        self._queue: deque[object] = deque()  # first come, first served: none waits for ever
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Wait for an image's turn and keep its pixels for the length of a ``with`` block.

        The block lets go of a large image before it ends, whose memory is then given back.
        """
        weight, ticket = min(max(pixels, self._least), self._most), object()
        with self._changed:
            self._queue.append(ticket)
            try:
                self._changed.wait_for(lambda: self._queue[0] is ticket and weight <= self._left)
                self._left -= weight
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            if pixels >= _LARGE:
                # Else each thread that had a large image would keep its memory.
                malloc.return_freed_blocks()
            with self._changed:
                self._left += weight
                self._changed.notify_all()


decoding = PixelBudget(DECODED_PIXELS, usable_cores())
"""What the requests of a server share."""
