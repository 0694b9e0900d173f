"""What reading weights may take, as `Weights.load` promises."""

from __future__ import annotations

import math
from pathlib import Path

from conftest import peak_bytes

from vggfeat.layers import Architecture
from vggfeat.weights import names, resolve, shapes

OBJECTS = 4096
"""Bytes of Python's own for a tensor: its name, its shape and what holds it."""


def check_memory(path: Path, network: Architecture, deepest: str) -> None:
    """Read a file up to a layer, and compare the memory that takes with what is promised."""
    weights = resolve(str(path), network)
    weights.load(network, [])  # modules that are imported at their first use
    _, opening = peak_bytes(lambda: weights.load(network, []))
    wanted = names(network.upto([deepest]))
    sizes = [4 * math.prod(shapes(network)[name]) for name in wanted]
    tensors, peak = peak_bytes(lambda: weights.load(network, wanted))
    assert list(tensors) == wanted
    assert peak <= sum(sizes) + max(sizes) + opening + OBJECTS * len(wanted), (deepest, opening)
    assert peak >= sum(sizes)  # tensors that torch allocated would not be counted
