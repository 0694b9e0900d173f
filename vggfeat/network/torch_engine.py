"""torch's own modules as an engine."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor, nn

from vggfeat.layers import Architecture
from vggfeat.network.engines import Keep, Runner
from vggfeat.network.modules import walk


class TorchEngine(Runner):
    """torch's modules, on any device and in any precision."""

    least_rows = 8  # with fewer, matrix libraries take other kernels, which round otherwise

    def __init__(self, network: Architecture, modules: nn.ModuleDict) -> None:  # noqa: ARG002
        self._modules = modules

    def layers(self, requested: Collection[str], keep: Keep) -> TorchLayers:
        """Give the layers."""
        return TorchLayers(self._modules, requested, keep)

    def __str__(self) -> str:
        return "torch"


class TorchLayers:
    """torch's modules, listened to."""

    def __init__(self, modules: nn.ModuleDict, requested: Collection[str], keep: Keep) -> None:
        self._modules, self._requested, self._keep = modules, requested, keep

    def body(self, x: Tensor, names: Sequence[str], *, result: bool = True) -> Tensor:  # noqa: ARG002
        """Run the layers from the first one on over (B, 3, H, W)."""
        return walk(self._modules, names, x, self._requested, self._keep)

    def head(self, rows: Tensor, names: Sequence[str]) -> None:
        """Run the fully connected layers over rows (R, D)."""
        self.body(rows, names)
