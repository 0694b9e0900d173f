"""Which engine runs the layers, and what is expected of one."""

from __future__ import annotations

import importlib
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from vggfeat.engines import AUTO, ENGINES, EngineRecord, check_engine
from vggfeat.errors import DeviceError
from vggfeat.layers import Architecture

_log = logging.getLogger(__name__)

Keep = Callable[[str, Tensor], None]


class Layers(Protocol):
    """Layers that can be run, and listened to."""

    def body(self, x: Tensor, names: Sequence[str], *, result: bool = True) -> Tensor:
        """Run the layers from the first one on over (B, 3, H, W).

        Without `result` what the last one puts out need not be returned, but only kept.
        """

    def head(self, rows: Tensor, names: Sequence[str]) -> None:
        """Run the fully connected layers over rows (R, D)."""


class Runner(ABC):
    """An engine with a network's weights, ready to run.

    Attributes
    ----------
    worth : float
        Multiply-adds of a job from which on ``auto`` takes it, since that repays its start.
    least_rows : int
        Rows that fully connected layers need so that their rounding is always the same.
    lasting : bool
        Whether an activation's memory stays as it is when `keep` has returned.
    """

    worth: ClassVar[float] = 0
    least_rows: ClassVar[int] = 1
    lasting: ClassVar[bool] = True

    @classmethod
    def unsuited(cls, device: torch.device, precision: torch.dtype) -> str:  # noqa: ARG003
        """Return why it cannot run somewhere, or nothing where it can."""
        return ""

    @abstractmethod
    def __init__(self, network: Architecture, modules: nn.ModuleDict) -> None:
        """Take a network's layers and their weights; those it takes for good leave `modules`."""

    @abstractmethod
    def layers(self, requested: Collection[str], keep: Keep) -> Layers:
        """Give the layers, to run while `keep` is called with the requested ones' activations."""

    @abstractmethod
    def __str__(self) -> str:
        """Say what runs, and how, for a log."""


class Engine:
    """What runs a network's layers: decided once it is known how much there is to do.

    Parameters
    ----------
    requested : str
        Of :data:`~vggfeat.engines.ENGINE_CHOICES`.
    network : Architecture
        Whose layers run.
    modules : torch.nn.ModuleDict
        They, with their weights.
    device, precision : torch.device, torch.dtype
        Where and in which type they are.

    Attributes
    ----------
    name : str
        What would run now, of :data:`~vggfeat.engines.ENGINES`.
    runner : Runner
        It.

    Raises
    ------
    DeviceError
        An unknown engine, or one that cannot run here.
    """

    name: str
    runner: Runner

    def __init__(
        self,
        requested: str,
        network: Architecture,
        modules: nn.ModuleDict,
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        check_engine(requested)
        self._network, self._modules = network, modules
        self._lock = threading.Lock()
        self._undecided: list[EngineRecord] = []
        if requested != AUTO:
            record = ENGINES[requested]
            if why := _runner(record).unsuited(device, precision):
                raise DeviceError(
                    f"The {requested.capitalize()} engine cannot run: {why}. Take --engine "
                    f"{next(iter(ENGINES))}."
                )
            self._take(record, "it was asked for")
            return
        usual, *faster = ENGINES.values()
        reasons = {one.name: _runner(one).unsuited(device, precision) for one in faster}
        self._undecided = [one for one in faster if not reasons[one.name]]
        refused = next(iter(reasons.values()), "there is no other")
        self._take(usual, "" if self._undecided else refused)

    def expect(self, pixels: int) -> None:
        """Say how many pixels of input are to come in one job, so that ``auto`` can choose.

        A faster engine must be loaded, its weights packed and perhaps its kernels compiled, which a
        handful of images does not repay. Once taken, it stays.
        """
        if not self._undecided:
            return
        with self._lock:
            deepest = [layer for layer in self._network.layers if layer.name in self._modules]
            name = next(layer.name for layer in reversed(deepest) if layer.spatial)
            work = pixels * self._network.multiply_adds(name) / self._network.input_size**2
            for record in self._undecided:
                if work >= _runner(record).worth:
                    self._take(record, f"there are {work:.1e} multiply-adds to do")
                    self._undecided = []  # from now on nobody waits for the lock
                    break

    @contextmanager
    def layers(self, requested: Collection[str], keep: Keep) -> Iterator[Layers]:
        """Give the layers, to run while `keep` is called with the requested ones' activations.

        An activation's memory may be used anew when `keep` returns, but where the runner's are
        lasting. Any number of threads may be inside at once, each with its own `keep`; before the
        engine is decided they take turns, since another one may take the weights away.
        """
        with self._lock if self._undecided else nullcontext():
            yield self.runner.layers(requested, keep)

    def _take(self, record: EngineRecord, why: str) -> None:
        self.runner = _runner(record)(self._network, self._modules)
        self.name = record.name
        if why:
            _log.info("engine: %s, because %s", self.runner, why)


def _runner(record: EngineRecord) -> type[Runner]:
    module, _, name = record.home.partition(":")
    kind: type[Runner] = getattr(importlib.import_module(module), name)
    return kind
