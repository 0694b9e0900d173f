"""Which engine runs the layers, and what is expected of one."""

from __future__ import annotations

import importlib
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import ClassVar

import torch
from torch import Tensor, nn

from vggfeat.engines import AUTO, ENGINES, EngineRecord, check_engine
from vggfeat.errors import DeviceError
from vggfeat.layers import Architecture
from vggfeat.network.modules import Listeners

_log = logging.getLogger(__name__)
_told: set[str] = set()  # reasons why no faster engine runs, of which each is told once


class Runner(ABC):
    """An engine with a network's weights, ready to run; any number of threads may run it at once.

    Attributes
    ----------
    least_rows : int
        Rows that fully connected layers need so that their rounding is always the same.
    lasting : bool
        Whether an activation's memory stays as it is when its listener has returned.
    """

    least_rows: ClassVar[int] = 1
    lasting: ClassVar[bool] = True

    @classmethod
    def unsuited(cls, device: torch.device, precision: torch.dtype) -> str:  # noqa: ARG003
        """Return why it cannot run somewhere, or nothing where it can."""
        return ""

    @classmethod
    def repays(cls, work: float) -> bool:  # noqa: ARG003
        """Tell whether a job of so many multiply-adds repays the start: ``auto`` then takes it."""
        return True

    @abstractmethod
    def __init__(self, network: Architecture, modules: nn.ModuleDict) -> None:
        """Take a network's layers and their weights; those it takes for good leave `modules`."""

    @abstractmethod
    def body(
        self, x: Tensor, names: Sequence[str], listeners: Listeners, *, result: bool = True
    ) -> Tensor:
        """Run the layers from the first one on over (B, 3, H, W).

        Without `result` what the last one puts out need not be returned, but only kept.
        """

    @abstractmethod
    def head(self, rows: Tensor, names: Sequence[str], listeners: Listeners) -> None:
        """Run fully connected layers over rows (R, D)."""

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
    rebuild : callable
        Makes the modules anew, where an engine has taken the weights away.

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
        rebuild: Callable[[], nn.ModuleDict],
    ) -> None:
        check_engine(requested)
        self._network, self._modules, self._rebuild = network, modules, rebuild
        self._lock = threading.RLock()
        self._torch: Runner | None = None
        self._undecided: list[EngineRecord] = []
        self._unsuited: tuple[EngineRecord, str] | None = None
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
        self._take(usual)
        if not self._undecided and faster:
            self._unsuited = faster[0], reasons[faster[0].name]

    def hint_workload(self, pixels: int) -> None:
        """Say how many pixels of input are to come in one job, so that ``auto`` can choose.

        A faster engine must pack its weights, and perhaps compile its kernels, which few images do
        not repay. Once taken, it stays.
        """
        if self._unsuited is not None:
            record, why = self._unsuited
            if _runner(record).repays(self._work(pixels)):
                self._unsuited = None
                self._tell(why)
        if not self._undecided:
            return
        with self._lock:
            work = self._work(pixels)
            for record in self._undecided:
                if _runner(record).repays(work):
                    self._take(record, f"there are {work:.1e} multiply-adds to do")
                    self._undecided = []  # from now on nobody waits for the lock
                    break

    def _work(self, pixels: int) -> float:
        """Return the multiply-adds of so many pixels of input."""
        deepest = [layer for layer in self._network.layers if layer.name in self._modules]
        name = next(layer.name for layer in reversed(deepest) if layer.spatial)
        return pixels * self._network.multiply_adds(name) / self._network.input_size**2

    def _tell(self, why: str) -> None:
        """Say why torch runs what a faster engine might, once in a process."""
        _log.log(
            logging.DEBUG if why in _told else logging.INFO,
            "engine: %s, because %s", self.runner, why,
        )  # fmt: skip
        _told.add(why)

    @contextmanager
    def running(self, *, plain: bool = False) -> Iterator[Runner]:
        """Give what runs the layers, for the length of a block.

        Before the engine is decided threads take turns, since another one may take the weights
        away.

        Parameters
        ----------
        plain : bool
            torch's modules, whichever engine runs otherwise: they alone have gradients, and begin
            at any layer.
        """
        with self._lock if self._undecided else nullcontext():
            yield self._plain() if plain else self.runner

    def _plain(self) -> Runner:
        with self._lock:
            if self._torch is None:
                taken = any(value.is_meta for value in self._modules.parameters())
                modules = self._rebuild() if taken else self._modules
                plain = _runner(next(iter(ENGINES.values())))(self._network, modules)
                if self._undecided:  # another engine may take the weights away
                    return plain
                self._torch = plain
            return self._torch

    def _take(self, record: EngineRecord, why: str = "") -> None:
        self.runner = _runner(record)(self._network, self._modules)
        self.name = record.name
        if why:
            _log.info("engine: %s, because %s", self.runner, why)


def _runner(record: EngineRecord) -> type[Runner]:
    module, _, name = record.home.partition(":")
    kind: type[Runner] = getattr(importlib.import_module(module), name)
    return kind
