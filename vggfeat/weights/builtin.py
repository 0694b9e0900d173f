"""Weights that travel with the package; docs/vgg16-tiny.md is their model card."""

from __future__ import annotations

from pathlib import Path

from vggfeat.errors import WeightsError

FILES = {"vgg16-tiny": "vgg16-tiny.safetensors"}
"""Networks with weights of their own in the package, and the file beside this one."""


def path_of(model: str) -> Path:
    """Return the path of a network's file.

    Raises
    ------
    WeightsError
        No weights of this network travel with the package.
    """
    if model not in FILES:
        raise WeightsError(
            f"No weights of {model} travel with vggfeat; only those of {', '.join(FILES)} do. "
            f"Give --model {next(iter(FILES))}, or other weights: 'imagenet', a path, or 'random'."
        )
    return Path(__file__).with_name(FILES[model])
