"""Keep the C library from returning memory to the system that is soon wanted again.

glibc maps large blocks afresh on each allocation, so that every layer of every batch, and every
matrix of a probe's solver, pays for thousands of page faults, during which other threads wait
(``benchmarks/extract.py`` measures what that costs). Keeping freed blocks costs no extra peak
memory. Other C libraries are left alone.
"""

from __future__ import annotations

import ctypes
import platform
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


@cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def keep_freed_blocks() -> None:
    """Make blocks of up to 1 GiB reusable within this process; a no-op where glibc is not used."""
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def return_freed_blocks() -> None:
    """Give memory back that was freed so far; for after large blocks that nothing will replace."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)
