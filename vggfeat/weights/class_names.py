"""Names of a network's own classes, as far as its weights know them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from vggfeat.weights import imagenet, safetensors_file

if TYPE_CHECKING:
    from vggfeat.layers import Architecture
    from vggfeat.weights import Weights

CLASSES_KEY = "vggfeat.classes"
"""Where a safetensors file's metadata may hold its classes: a JSON list of (id, name)."""


def class_names(weights: Weights, network: Architecture) -> tuple[str, ...]:
    """Return the names of the units of ``fc8`` and ``prob``.

    A safetensors file may bring them in its metadata; torchvision has those of its own weights.

    Parameters
    ----------
    weights : Weights
        From :func:`~vggfeat.weights.resolve`.
    network : Architecture
        The network that they are for.

    Returns
    -------
    tuple of str
        One for each class; empty where they are not known.
    """
    names: list[str] = []
    if weights.spec == "imagenet" and network.name in imagenet.FILES:
        from torchvision.models import get_model_weights

        names = list(get_model_weights(network.name)["IMAGENET1K_V1"].meta["categories"])
    elif weights.path is not None and weights.path.suffix.lower() == ".safetensors":
        names = _said(safetensors_file.metadata(weights.path).get(CLASSES_KEY, "[]"))
    return tuple(names) if len(names) == network.classes else ()


def _said(text: str) -> list[str]:
    """Read the names of a file's metadata; none where it says something else."""
    try:
        return [str(name) for _, name in json.loads(text)]
    except (ValueError, TypeError):
        return []
