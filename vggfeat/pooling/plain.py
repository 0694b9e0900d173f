"""Poolings that need no explanation: the mean, the maximum, and none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vggfeat.layers import Shape
from vggfeat.pooling.base import Pooling

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


@dataclass(frozen=True)
class Maximum(Pooling):
    """The largest value of each channel, also known as MAC; (C,)."""

    name: ClassVar[str] = "max"
    usage: ClassVar[str] = "max"
    summary: ClassVar[str] = "maximum over space"

    def __call__(self, maps: Tensor) -> Tensor:
        """Pool maps."""
        return maps.amax(dim=(2, 3))  # (B, C, H, W) -> (B, C)


@dataclass(frozen=True)
class Whole(Pooling):
    """The map as it is; (C, H, W)."""

    name: ClassVar[str] = "none"
    usage: ClassVar[str] = "none"
    summary: ClassVar[str] = "the whole map (C, H, W)"

    def __call__(self, maps: Tensor) -> Tensor:
        """Return the maps themselves."""
        return maps

    def shape(self, shape: Shape) -> Shape:
        """Return the shape of the map."""
        return shape
