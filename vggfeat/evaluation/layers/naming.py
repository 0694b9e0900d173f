"""Messages of a probe that say which layer it was trained on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from vggfeat.probe import choosing, classifier

_LOGGERS = tuple(logging.getLogger(module.__name__) for module in (classifier, choosing))


@contextmanager
def naming(what: str, *, quiet: bool = False) -> Iterator[None]:
    """Put a name before what :class:`~vggfeat.probe.LinearProbe` logs within a ``with`` block.

    Parameters
    ----------
    what : str
        Such as a layer.
    quiet : bool
        Drop all below warnings.
    """

    def name(record: logging.LogRecord) -> bool:
        if quiet and record.levelno < logging.WARNING:
            return False
        record.msg, record.args = f"{what}: {record.getMessage()}", ()
        return True

    for logger in _LOGGERS:
        logger.addFilter(name)
    try:
        yield
    finally:
        for logger in _LOGGERS:
            logger.removeFilter(name)
