"""Random weights that are the same on every machine, to the last bit.

Each tensor has a counter-based generator of its own (Philox 4x64, keyed by seed and name), whose
raw integers become floating point by exact operations and one rounding: no library's choice of
algorithm for normal deviates, and no vector unit, has a say. Because tensors do not depend on one
another, a truncated network gets the same values as the whole.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vggfeat.errors import WeightsError
from vggfeat.layers import Architecture, Layer
from vggfeat.weights.state import layer_shapes

if TYPE_CHECKING:
    from torch import Tensor

_RECIPE = "he-uniform philox4x64 v1"
_SPREAD = 0.25
_BLOCK = 1 << 22  # values made at a time, so that memory stays near one copy
WORKING_BYTES = 4 * 4 * _BLOCK
"""Most memory that making tensors takes beside them: a block of 32 bits as it is drawn, copied,
shifted and centred."""


def seed_of(spec: str) -> int:
    """Read the seed of ``random`` (0) or ``random:SEED``.

    Raises
    ------
    WeightsError
        SEED is no whole number from 0 on.
    """
    text = spec.partition(":")[2] if ":" in spec else "0"
    if not text.isascii() or not text.isdigit():
        raise WeightsError(
            f"{spec!r}: the seed must be a whole number from 0 on, as in 'random:7'."
        )
    return int(text)


def fingerprint(network: Architecture, seed: int) -> str:
    """Return a SHA-256 of what determines the values: recipe, network and seed."""
    return hashlib.sha256(f"{_RECIPE} {network.name} {seed}".encode()).hexdigest()


def tensors(network: Architecture, seed: int, names: list[str]) -> dict[str, Tensor]:
    """Make tensors by their names in torchvision's state dict.

    Weights are uniform with variance 2 / fan_in, which keeps the scale of activations through
    ReLU layers (He et al. 2015, "Delving Deep into Rectifiers", equation 10); biases are uniform
    in +-1 / sqrt(fan_in), as torch initialises them. Batch normalisation gets weights and
    variances about 1, biases and means about 0, each within 0.25.

    Beside the tensors this takes :data:`WORKING_BYTES` of memory at most.

    Returns
    -------
    dict of str to Tensor
        float32 tensors on the CPU.
    """
    import torch

    made: dict[str, Tensor] = {}
    for layer in network.layers:
        for kind, shape in layer_shapes(layer).items():
            name = f"{layer.module}.{kind}"
            if name in names:
                key = f"{_RECIPE} {network.name} {seed} {name}"
                middle, bound = _range(layer, kind)
                values = _uniform(key, math.prod(shape), bound)
                values += np.float32(middle)
                made[name] = torch.from_numpy(values.reshape(shape))
    return made


def _range(layer: Layer, kind: str) -> tuple[float, float]:
    """Return the middle of a tensor's values, and how far they go from it."""
    if layer.kind == "bn":
        return (1.0 if kind in ("weight", "running_var") else 0.0, _SPREAD)
    fan_in = layer.inputs * max(1, layer.kernel) ** 2
    return 0.0, math.sqrt((6 if kind == "weight" else 1) / fan_in)


def _uniform(key: str, count: int, bound: float) -> NDArray[np.float32]:
    digest = hashlib.sha256(key.encode()).digest()
    generator = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    step = np.float32(bound / 2**23)
    out = np.empty(count, np.float32)
    for start in range(0, count, _BLOCK):
        block = out[start : start + _BLOCK]
        raw = generator.random_raw((block.size + 1) // 2).astype("<u8").view("<u4")
        whole = (raw[: block.size] >> 8).astype(np.int32) - 2**23  # 24 bits, exact in float32
        np.multiply(whole, step, out=block, casting="unsafe", dtype=np.float32)
    return out
