"""The Winograd engine, and torch for the little that it leaves over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vggfeat import malloc
from vggfeat.engine import processor
from vggfeat.engine.machine_code import are_kept
from vggfeat.layers import Architecture
from vggfeat.network.callers import plain_torch
from vggfeat.network.engines import Runner
from vggfeat.network.folding import source
from vggfeat.network.modules import Listeners, run_modules
from vggfeat.processors import usable_cores

_PACKS, _COMPILES = 4.5e10, 6e11
"""Multiply-adds in which the engine gains what its start takes: those of VGG-16 for 3 images of
224 x 224, and for 40 where its kernels have yet to be compiled."""


class WinogradEngine(Runner):
    """:mod:`vggfeat.engine`, on CPUs and in float32."""

    lasting = False

    @classmethod
    def unsuited(cls, device: torch.device, precision: torch.dtype) -> str:
        """Return why it cannot run somewhere, or nothing where it can."""
        if device.type != "cpu":
            return f"the network runs on {device}"
        if precision != torch.float32:
            return f"the network runs in {str(precision).removeprefix('torch.')}"
        return processor.unsuited()

    @classmethod
    def repays(cls, work: float) -> bool:
        """Tell whether a job repays packing the weights, and compiling if that is to be done."""
        if work < _PACKS:
            return False
        return work >= _COMPILES or are_kept(processor.widths()[0])

    def __init__(self, network: Architecture, modules: nn.ModuleDict) -> None:
        from vggfeat.engine.winograd import Winograd

        self._threads = min(usable_cores(), torch.get_num_threads())
        self._modules = modules
        with plain_torch():
            self._winograd = Winograd(network, _parameters(modules), threads=self._threads)
        malloc.return_freed_blocks()

    def body(
        self, x: Tensor, names: Sequence[str], listeners: Listeners, *, result: bool = True
    ) -> Tensor:
        """Run the layers from the first one on over (B, 3, H, W)."""
        result = result or "flatten" in names
        maps = [name for name in names if name != "flatten"]
        deepest: list[Tensor] = []

        def keep(name: str, array: object) -> None:
            activation = torch.from_numpy(array).permute(0, 3, 1, 2)  # (B, h, w, C) -> (B, C, h, w)
            if name in listeners:
                listeners[name](activation)
            if result and name == maps[-1]:
                deepest.append(activation.clone())

        requested = {name for name in maps if name in listeners} | {maps[-1]}
        # (B, 3, H, W) -> (B, H, W, 3): a view of memory that is channels_last
        self._winograd.maps(x.permute(0, 2, 3, 1).contiguous().numpy(), requested, keep)
        if not result:
            return x.new_empty(0)
        x = torch.cat(deepest)
        return run_modules(self._modules, ["flatten"], x, listeners) if "flatten" in names else x

    def head(self, rows: Tensor, names: Sequence[str], listeners: Listeners) -> None:
        """Run fully connected layers over rows (R, D)."""
        for name, behind in zip(names, [*names[1:], ""], strict=True):
            if self._winograd.connects(name):
                fused = behind.startswith("relu") and name not in listeners
                rows = torch.from_numpy(
                    self._winograd.connect(name, rows.contiguous().numpy(), rectified=fused)
                )
                if name in listeners:
                    listeners[name](rows)
            else:
                rows = run_modules(self._modules, [name], rows, listeners)

    def __str__(self) -> str:
        return f"winograd on {self._threads} threads, vectors of {self._winograd.lanes} values"


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
