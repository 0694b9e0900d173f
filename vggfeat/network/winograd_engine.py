"""The Winograd engine, and torch for the little that it leaves over."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vggfeat import malloc
from vggfeat.engine import processor
from vggfeat.layers import Architecture
from vggfeat.network.callers import plain_torch
from vggfeat.network.engines import Keep, Runner
from vggfeat.network.folding import source
from vggfeat.network.modules import walk
from vggfeat.processors import usable_cores

if TYPE_CHECKING:
    from vggfeat.engine.winograd import Winograd


class WinogradEngine(Runner):
    """:mod:`vggfeat.engine`, on CPUs and in float32."""

    worth = 6e11
    """VGG-16 of 40 images of 224 x 224, for which torch needs six seconds on two cores. Loading
    numba and packing the weights takes one, and compiling the kernels, once on a machine, three or
    four more."""
    lasting = False

    @classmethod
    def unsuited(cls, device: torch.device, precision: torch.dtype) -> str:
        """Return why it cannot run somewhere, or nothing where it can."""
        if device.type != "cpu":
            return f"the network runs on {device}"
        if precision != torch.float32:
            return f"the network runs in {str(precision).removeprefix('torch.')}"
        return processor.unsuited()

    def __init__(self, network: Architecture, modules: nn.ModuleDict) -> None:
        from vggfeat.engine.winograd import Winograd

        self._threads = min(usable_cores(), torch.get_num_threads())
        self._modules = modules
        with plain_torch():
            self._winograd = Winograd(network, _parameters(modules), threads=self._threads)
        malloc.return_freed_blocks()

    def layers(self, requested: Collection[str], keep: Keep) -> WinogradLayers:
        """Give the layers."""
        return WinogradLayers(self._winograd, self._modules, requested, keep)

    def __str__(self) -> str:
        return f"winograd on {self._threads} threads, vectors of {self._winograd.lanes} values"


class WinogradLayers:
    """Layers on the Winograd engine, listened to."""

    def __init__(
        self, engine: Winograd, modules: nn.ModuleDict, requested: Collection[str], keep: Keep
    ) -> None:
        self._engine, self._modules, self._requested, self._keep = engine, modules, requested, keep

    def body(self, x: Tensor, names: Sequence[str], *, result: bool = True) -> Tensor:
        """Run the layers from the first one on over (B, 3, H, W)."""
        result = result or "flatten" in names
        maps = [name for name in names if name != "flatten"]
        deepest: list[Tensor] = []

        def keep(name: str, array: object) -> None:
            activation = torch.from_numpy(array).permute(0, 3, 1, 2)  # (B, h, w, C) -> (B, C, h, w)
            if name in self._requested:
                self._keep(name, activation)
            if result and name == maps[-1]:
                deepest.append(activation.clone())

        asked = {name for name in maps if name in self._requested} | {maps[-1]}
        # (B, 3, H, W) -> (B, H, W, 3): a view of memory that is channels_last
        self._engine.maps(x.permute(0, 2, 3, 1).contiguous().numpy(), asked, keep)
        if not result:
            return x.new_empty(0)
        x = torch.cat(deepest)
        return self._torch("flatten", x) if "flatten" in names else x

    def head(self, rows: Tensor, names: Sequence[str]) -> None:
        """Run the fully connected layers over rows (R, D)."""
        for name, behind in zip(names, [*names[1:], ""], strict=True):
            if self._engine.connects(name):
                fused = behind.startswith("relu") and name not in self._requested
                rows = torch.from_numpy(
                    self._engine.connect(name, rows.contiguous().numpy(), rectified=fused)
                )
                if name in self._requested:
                    self._keep(name, rows)
            else:
                rows = self._torch(name, rows)

    def _torch(self, name: str, x: Tensor) -> Tensor:
        return walk(self._modules, [name], x, self._requested, self._keep)


def _parameters(
    modules: nn.ModuleDict,
) -> Iterator[tuple[str, tuple[NDArray[Any], NDArray[Any]]]]:
    """Give weights and biases; convolutions let go of theirs, which nobody needs any more."""
    sources = {name: source(module) for name, module in modules.items()}
    for name, module in sources.items():
        if isinstance(module, nn.Conv2d | nn.Linear):
            yield name, (module.weight.numpy(), cast(Tensor, module.bias).numpy())
        if isinstance(module, nn.Conv2d):
            module.to("meta")
