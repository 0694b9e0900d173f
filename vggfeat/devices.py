"""Where a network runs, in which type, and how many images at a time suit the place."""

from __future__ import annotations

import torch

from vggfeat.errors import DeviceError

TYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""torch's types by the names that `precision` takes."""

_BATCH = {"cpu": 32, "mps": 32, "cuda": 128}
_CHUNK = {"cpu": 8, "mps": 32, "cuda": 128}
"""Images of 224 x 224 that run through the convolutions at a time: on a CPU few, so that their
activations stay small, while the fully connected layers, which read 494 MB of weights whatever
the number of images, take the whole batch."""
_PIXELS = 224 * 224


def resolve_device(name: str) -> torch.device:
    """Choose a device.

    Parameters
    ----------
    name : str
        ``"auto"`` (CUDA, else MPS, else the CPU), ``"cpu"``, ``"cuda"``, ``"cuda:N"``, ``"mps"``.

    Raises
    ------
    DeviceError
        The name is unknown, or this machine has no such device.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if gpus else "mps" if mps else "cpu")
    available = ["cpu", *(f"cuda:{i}" for i in range(gpus)), *(["mps"] if mps else [])]
    if name in available or (name == "cuda" and gpus):
        return torch.device(name)
    raise DeviceError(
        f"Device {name!r} is not available. This machine has: {', '.join(available)}."
    )


def default_batch_size(device: torch.device, side: int) -> int:
    """Return the batch size that ``auto`` means on a device, for inputs of `side` pixels."""
    return _of_size(_BATCH.get(device.type, 8), side * side)


def chunk_size(device: torch.device, height: int, width: int) -> int:
    """Return how many images of one size run through the convolutions at a time.

    They hold no more pixels in all than a device's usual chunk, so that large ones run alone.
    """
    return _of_size(_CHUNK.get(device.type, 8), height * width)


def _of_size(count: int, pixels: int) -> int:
    """Return how many images of `pixels` hold as many in all as `count` of 224 x 224."""
    return max(1, count * _PIXELS // pixels)
