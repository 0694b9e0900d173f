"""Memory for kernels: aligned, sized beforehand, shared by what is never alive together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

ALIGNMENT = 64
"""Bytes of a cache line, and of the widest vector."""
GUARD = 4096
"""Bytes before and behind a buffer that nothing may change, in debug mode."""
_SIGN = np.uint32(0x7FA55A5A)  # as a float a signalling NaN: no sum or product comes out so


@dataclass(frozen=True)
class Lifetime:
    """A buffer before it has a place.

    Attributes
    ----------
    bytes : int
        Its size.
    first, last : int
        Steps between which, both included, nothing else may lie there.
    """

    bytes: int
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        """Tell whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last


def placed(buffers: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Give buffers places such that those alive together do not overlap.

    The largest are placed first, each as low as it can be. For chains of layers, where two
    neighbouring maps are alive at a time, this reaches the largest such pair.

    Returns
    -------
    offsets : list of int
        In bytes, multiples of :data:`ALIGNMENT`.
    total : int
        Bytes in all.
    """
    offsets = [0] * len(buffers)
    done: list[int] = []
    for number in sorted(range(len(buffers)), key=lambda i: -buffers[i].bytes):
        own = buffers[number]
        taken = sorted(
            (offsets[i], offsets[i] + buffers[i].bytes) for i in done if own.overlaps(buffers[i])
        )
        at = 0
        for start, end in taken:
            if at + own.bytes <= start:
                break
            at = max(at, -(-end // ALIGNMENT) * ALIGNMENT)
        offsets[number] = at
        done.append(number)
    return offsets, max((o + b.bytes for o, b in zip(offsets, buffers, strict=True)), default=0)


def aligned(values: int) -> Floats:
    """Return zeros that begin at a multiple of :data:`ALIGNMENT`."""
    spare = ALIGNMENT // 4
    memory = np.zeros(values + spare, np.float32)
    start = -memory.ctypes.data % ALIGNMENT // 4
    return memory[start : start + values]


def guard(memory: Floats) -> None:
    """Fill memory with the sign that :func:`unharmed` knows."""
    memory.view(np.uint32).fill(_SIGN)


def unharmed(memory: Floats) -> bool:
    """Tell whether memory is as :func:`guard` left it."""
    return bool((memory.view(np.uint32) == _SIGN).all())
