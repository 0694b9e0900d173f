"""How kernels are compiled, and what they have in common.

Every kernel takes jobs from a counter until none is left; threads call it with the same arguments
and scratch memory of their own. In a checked target each returns, before it touches anything
outside of a buffer, the number of that buffer in :data:`BUFFERS`; 0 is success.
"""

from __future__ import annotations

import logging

from numba import njit
from numba.core.caching import FunctionCache

_log = logging.getLogger(__name__)

BUFFERS = ("", "inputs", "filters", "outputs", "transformed inputs", "products")
"""What the number that a kernel returns stands for."""
AT_INPUTS, AT_FILTERS, AT_OUTPUTS, AT_V, AT_M = range(1, len(BUFFERS))
F32 = 4
"""Bytes of a number."""


def _cacheable() -> bool:
    """Tell whether numba finds a place on disk for what it compiles."""
    try:
        FunctionCache(_cacheable)
    except RuntimeError as error:
        _log.info("Compiled kernels cannot be kept: %s", error)
        return False
    return True


jit = njit(nogil=True, cache=_cacheable(), error_model="numpy")
"""Compiles a function for each target; kept on disk, run without the interpreter's lock."""


@jit
def outside(first, past, low, size):
    """Tell whether bytes from `first` to `past` leave a buffer of `size` bytes at `low`."""
    return first < low or past > low + size
