"""Poolings that need no explanation: the mean, the maximum, and none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vggfeat.layers import Shape
from vggfeat.pooling.base import Pooling
from vggfeat.pooling.sharing import at_maximum, weighted

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Average(Pooling):
    """The mean of each channel; (C,)."""

    name: ClassVar[str] = "avg"
    usage: ClassVar[str] = "avg"
    summary: ClassVar[str] = "mean over space"

    def __call__(self, maps: Tensor) -> Tensor:
        """Pool maps."""
        return maps.mean(dim=(2, 3))  # (B, C, H, W) -> (B, C)

    def contributions(self, maps: Tensor, weights: Tensor) -> Tensor:
        """Divide a channel's mean by its values."""
        return weighted(maps, weights) / (maps.shape[2] * maps.shape[3])


@dataclass(frozen=True)
class Maximum(Pooling):
    """The largest value of each channel, also known as MAC; (C,)."""

    name: ClassVar[str] = "max"
    usage: ClassVar[str] = "max"
    summary: ClassVar[str] = "maximum over space"

    def __call__(self, maps: Tensor) -> Tensor:
        """Pool maps."""
        return maps.amax(dim=(2, 3))  # (B, C, H, W) -> (B, C)

    def contributions(self, maps: Tensor, weights: Tensor) -> Tensor:
        """Give a channel's maximum to where it is."""
        return weighted(at_maximum(maps), weights)


@dataclass(frozen=True)
class Whole(Pooling):
    """The map as it is; (C, H, W)."""

    name: ClassVar[str] = "none"
    usage: ClassVar[str] = "none"
    summary: ClassVar[str] = "the whole map (C, H, W)"

    def __call__(self, maps: Tensor) -> Tensor:
        """Return the maps themselves."""
        return maps

    def contributions(self, maps: Tensor, weights: Tensor) -> Tensor:
        """Weigh each value at its position."""
        return (maps * weights.view(maps.shape[1:])).sum(dim=1)

    def shape(self, shape: Shape) -> Shape:
        """Return the shape of the map."""
        return shape
