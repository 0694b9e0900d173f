"""A log that does not repeat itself, whatever clients send."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_SECONDS = 60

_LOGGERS = ("asyncio", "uvicorn.error", "vggfeat.web.app", "vggfeat.web.connections")
"""Whose messages clients can bring about."""


class LogThrottle(logging.Filter):
    """Lets each kind of message through once in a while, and counts the others.

    A kind is a place in the program; its next message says how many were left out.

    Parameters
    ----------
    every : float
        Seconds.
    clock : callable
        Gives the time in seconds.
    """

    def __init__(
        self, every: float = EVERY_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._every, self._clock = every, clock
        self._printed: dict[tuple[str, str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to print a message."""
        kind, now = (record.name, record.pathname, record.lineno), self._clock()
        last, left_out = self._printed.get(kind, (float("-inf"), 0))
        if now - last < self._every:
            self._printed[kind] = (last, left_out + 1)
            return False
        self._printed[kind] = (now, 0)
        if left_out:
            record.msg = f"{record.getMessage()} (and {left_out:,} times more since)"
            record.args = ()
        return True


@contextmanager
def throttled_logs() -> Iterator[None]:
    """Keep the loggers of the server from repeating themselves, for a ``with`` block."""
    throttle = LogThrottle()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(throttle)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(throttle)
