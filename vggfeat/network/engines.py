"""Which engine runs the layers, torch's or the Winograd engine, and how either is asked to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vggfeat import malloc
from vggfeat.engine import ENGINES, processor
from vggfeat.errors import DeviceError
from vggfeat.layers import Architecture
from vggfeat.network.callers import plain_torch
from vggfeat.network.folding import source
from vggfeat.network.modules import walk
from vggfeat.processors import usable_cores

if TYPE_CHECKING:
    from vggfeat.engine.winograd import Winograd

_log = logging.getLogger(__name__)

_WORTH = 6e11
"""Multiply-adds of a job from which on ``auto`` takes the Winograd engine: VGG-16 of 40 images of
224 x 224, for which torch needs six seconds on two cores. Loading numba and packing the weights
takes one, and compiling the kernels, once on a machine, three or four more."""

Keep = Callable[[str, Tensor], None]


class Layers(Protocol):
    """Layers that can be run, and listened to."""

    least_rows: int
    """Rows that fully connected layers need so that their rounding is always the same."""

    def body(self, x: Tensor, names: Sequence[str], *, result: bool = True) -> Tensor:
        """Run the layers from the first one on over (B, 3, H, W).

        Without `result` what the last one puts out need not be returned, but only kept.
        """

    def head(self, rows: Tensor, names: Sequence[str]) -> None:
        """Run the fully connected layers over rows (R, D)."""


class TorchLayers:
    """torch's modules."""

    least_rows = 8  # with fewer, matrix libraries take other kernels, which round otherwise

    def __init__(self, modules: nn.ModuleDict, asked: Collection[str], keep: Keep) -> None:
        self._modules, self._asked, self._keep = modules, asked, keep

    def body(self, x: Tensor, names: Sequence[str], *, result: bool = True) -> Tensor:  # noqa: ARG002
        """Run the layers from the first one on over (B, 3, H, W)."""
        return walk(self._modules, names, x, self._asked, self._keep)

    def head(self, rows: Tensor, names: Sequence[str]) -> None:
        """Run the fully connected layers over rows (R, D)."""
        self.body(rows, names)


class WinogradLayers:
    """The Winograd engine, and torch for the little it leaves over."""

    least_rows = 1

    def __init__(
        self, engine: Winograd, modules: nn.ModuleDict, asked: Collection[str], keep: Keep
    ) -> None:
        self._engine, self._modules, self._asked, self._keep = engine, modules, asked, keep

    def body(self, x: Tensor, names: Sequence[str], *, result: bool = True) -> Tensor:
        """Run the layers from the first one on over (B, 3, H, W)."""
        result = result or "flatten" in names
        maps = [name for name in names if name != "flatten"]
        deepest: list[Tensor] = []

        def keep(name: str, array: object) -> None:
            activation = torch.from_numpy(array).permute(0, 3, 1, 2)  # (B, h, w, C) -> (B, C, h, w)
            if name in self._asked:
                self._keep(name, activation)
            if result and name == maps[-1]:
                deepest.append(activation.clone())

        asked = {name for name in maps if name in self._asked} | {maps[-1]}
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
                fused = behind.startswith("relu") and name not in self._asked
                rows = torch.from_numpy(
                    self._engine.connect(name, rows.contiguous().numpy(), rectified=fused)
                )
                if name in self._asked:
                    self._keep(name, rows)
            else:
                rows = self._torch(name, rows)

    def _torch(self, name: str, x: Tensor) -> Tensor:
        return walk(self._modules, [name], x, self._asked, self._keep)


class Engine:
    """What runs a network's layers: decided once it is known how much there is to do.

    Parameters
    ----------
    asked : str
        Of :data:`~vggfeat.engine.ENGINES`.
    network : Architecture
        Whose layers run.
    modules : torch.nn.ModuleDict
        They, with their weights.
    device, precision : torch.device, torch.dtype
        Where and in which type they are.

    Raises
    ------
    DeviceError
        An unknown engine, or one that cannot run here.
    """

    def __init__(
        self,
        asked: str,
        network: Architecture,
        modules: nn.ModuleDict,
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        if asked not in ENGINES:
            raise DeviceError(f"Unknown engine {asked!r}. Known are {', '.join(ENGINES)}.")
        self._network, self._modules = network, modules
        self._lock = threading.Lock()
        self._winograd: Winograd | None = None
        self._undecided = False
        if asked == "torch":
            self._take_torch("it was asked for")
        elif why := unsuited(device, precision):
            if asked == "winograd":
                raise DeviceError(f"The Winograd engine cannot run: {why}. Take --engine torch.")
            self._take_torch(why)
        elif asked == "winograd":
            self._take_winograd("it was asked for")
        else:
            self._undecided = True

    @property
    def name(self) -> str:
        """``"torch"`` or ``"winograd"``: what would run now."""
        return "torch" if self._winograd is None else "winograd"

    def expect(self, pixels: int) -> None:
        """Say how many pixels of input are to come in one job, so that ``auto`` can choose.

        The Winograd engine must be loaded, its weights packed and the first time its kernels
        compiled, which a handful of images does not repay. Once taken, it stays.
        """
        if not self._undecided:
            return
        with self._lock:
            deepest = [layer for layer in self._network.layers if layer.name in self._modules]
            name = next(layer.name for layer in reversed(deepest) if layer.spatial)
            each = self._network.multiply_adds(name) / self._network.input_size**2
            if self._undecided and pixels * each >= _WORTH:
                self._take_winograd(f"there are {pixels * each:.1e} multiply-adds to do")
                self._undecided = False  # from now on nobody waits for the lock

    @contextmanager
    def layers(self, asked: Mapping[str, str], keep: Keep) -> Iterator[Layers]:
        """Give the layers, to run while `keep` is called with the asked ones' activations.

        An activation's memory may be used anew when `keep` returns. Any number of threads may be
        inside at once, each with its own `keep`; before the engine is decided they take turns,
        since the Winograd engine takes the weights away that torch runs with.
        """
        with self._lock if self._undecided else nullcontext():
            if self._winograd is None:
                yield TorchLayers(self._modules, asked, keep)
            else:
                yield WinogradLayers(self._winograd, self._modules, asked, keep)

    def _take_torch(self, why: str) -> None:
        _log.info("engine: torch, because %s", why)

    def _take_winograd(self, why: str) -> None:
        from vggfeat.engine.winograd import Winograd

        threads = min(usable_cores(), torch.get_num_threads())
        with plain_torch():
            self._winograd = Winograd(self._network, self._parameters(), threads=threads)
        malloc.return_freed_blocks()
        _log.info(
            "engine: winograd on %d threads, vectors of %d values, because %s",
            threads, self._winograd.lanes, why,
        )  # fmt: skip

    def _parameters(self) -> Iterator[tuple[str, tuple[NDArray[Any], NDArray[Any]]]]:
        """Give weights and biases; convolutions let go of theirs, which nobody needs any more."""
        modules = {name: source(module) for name, module in self._modules.items()}
        for name, module in modules.items():
            if isinstance(module, nn.Conv2d | nn.Linear):
                yield name, (module.weight.numpy(), cast(Tensor, module.bias).numpy())
            if isinstance(module, nn.Conv2d):
                module.to("meta")


def unsuited(device: torch.device, precision: torch.dtype) -> str:
    """Return why the Winograd engine cannot run somewhere, or nothing where it can."""
    if device.type != "cpu":
        return f"the network runs on {device}"
    if precision != torch.float32:
        return f"the network runs in {str(precision).removeprefix('torch.')}"
    return processor.unsuited()
