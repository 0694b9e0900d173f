"""Augmentation of whole batches, in torch: crop, flip and colour."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_NARROWEST, _WIDEST = 3 / 4, 4 / 3  # aspect ratios of crops
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow


def resized(images: Tensor, side: int) -> Tensor:
    """Resize float images (B, 3, H, W) to a square with antialiasing; a no-op at their size."""
    if images.shape[-1] == side:
        return images
    return functional.interpolate(images, (side, side), mode="bilinear", antialias=True)


def cropped(images: Tensor, smallest: float, draw: torch.Generator) -> Tensor:
    """Take a random crop of each image, flip half of them, and scale back to the input's size.

    Parameters
    ----------
    images : Tensor, (B, 3, H, W)
        Floating point.
    smallest : float
        A crop's share of the area lies between this and 1; its aspect ratio between 3:4 and 4:3
        (Szegedy et al. 2015, "Going Deeper with Convolutions").
    draw : torch.Generator
        Source of chance.
    """
    count = len(images)
    area = _between(smallest, 1.0, count, draw)
    ratio = _between(math.log(_NARROWEST), math.log(_WIDEST), count, draw).exp().sqrt()
    width = (area.sqrt() * ratio).clamp(max=1)
    height = (area.sqrt() / ratio).clamp(max=1)
    x = _between(-1, 1, count, draw) * (1 - width)
    y = _between(-1, 1, count, draw) * (1 - height)
    flip = torch.where(torch.rand(count, generator=draw) < 0.5, -1.0, 1.0)
    zero = torch.zeros(count)
    # (B, 2, 3): output coordinates in -1..1 to input coordinates
    matrix = torch.stack([width * flip, zero, x, zero, height, y], dim=1).view(count, 2, 3)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def jittered(images: Tensor, strength: float, draw: torch.Generator) -> Tensor:
    """Change each image's brightness, contrast and saturation by a factor of 1 +- `strength`."""
    count = len(images)
    brightness, contrast, saturation = (
        _between(1 - strength, 1 + strength, count, draw).view(-1, 1, 1, 1) for _ in range(3)
    )
    images = images * brightness
    grey = (images * torch.tensor(_GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)
    images = grey + (images - grey) * saturation
    middle = grey.mean((2, 3), keepdim=True)
    return (middle + (images - middle) * contrast).clamp(0, 255)


def _between(low: float, high: float, count: int, draw: torch.Generator) -> Tensor:
    return torch.rand(count, generator=draw) * (high - low) + low
