"""torch's own modules as an engine."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from vggfeat.layers import Architecture
from vggfeat.network.engines import Runner
from vggfeat.network.modules import Listeners, run_modules


class TorchEngine(Runner):
    """torch's modules, on any device and in any precision, from any layer on."""

    least_rows = 8  # with fewer, matrix libraries take other kernels, which round otherwise

    def __init__(self, network: Architecture, modules: nn.ModuleDict) -> None:  # noqa: ARG002
        self._modules = modules

    def body(
        self,
        x: Tensor,
        names: Sequence[str],
        listeners: Listeners,
        *,
        result: bool = True,  # noqa: ARG002
    ) -> Tensor:
        """Run layers over maps (B, C, H, W)."""
        return run_modules(self._modules, names, x, listeners)

    def head(self, rows: Tensor, names: Sequence[str], listeners: Listeners) -> None:
        """Run fully connected layers over rows (R, D)."""
        run_modules(self._modules, names, rows, listeners)

    def __str__(self) -> str:
        return "torch"
