"""What poolings divide among positions: sums over channels, and maxima."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def weighted(maps: Tensor, weights: Tensor) -> Tensor:
    """Sum channels by their weights (C,): (B, C, H, W) to (B, H, W)."""
    return (maps * weights[:, None, None]).sum(dim=1)


def at_maximum(maps: Tensor) -> Tensor:
    """Keep each channel's maximum where it is, 0 elsewhere; equal maxima share it."""
    largest = maps.amax(dim=(2, 3), keepdim=True)
    held = maps == largest
    return held * largest / held.sum(dim=(2, 3), keepdim=True)
