"""How much memory there is, asked before hours of work instead of found out after."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container
_FREE = Path("/proc/meminfo")


def available_memory() -> int | None:
    """Return how many bytes of memory a program can still take; None where that is unknown."""
    known = []
    with suppress(OSError, ValueError, KeyError):
        lines = dict(line.split(":") for line in _FREE.read_text().splitlines())
        known.append(int(lines["MemAvailable"].split()[0]) * 1024)
    with suppress(OSError, ValueError):  # "max" where there is none
        known.append(int(_LIMIT.read_text()))
    if not known:
        with suppress(AttributeError, OSError, ValueError):  # Windows has no sysconf
            known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(known, default=None)
