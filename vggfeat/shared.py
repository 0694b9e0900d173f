"""Settings of the whole process that several threads need at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class SharedSetting:
    """A setting of the process that is changed while any thread needs it so.

    Threads that each save what they find and bring it back leave the setting changed for ever where
    their times overlap, or take it from under each other. Here the first thread that comes changes
    it, and the last one that goes brings it back.

    Parameters
    ----------
    change : callable
        Changes the setting, and returns what brings it back.
    """

    def __init__(self, change: Callable[[], Callable[[], object]]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._holders = 0
        self._restore: Callable[[], object] = _nothing

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Keep the setting changed for the length of a ``with`` block."""
        with self._lock:
            if not self._holders:
                self._restore = self._change()
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if not self._holders:
                    self._restore()


def _nothing() -> None:
    """Bring nothing back."""
