"""The training loop: resumable at any step, and the same for the same seed."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vggfeat.devices import TYPES
from vggfeat.errors import TrainingError
from vggfeat.finetuning.checkpoint import Checkpoint
from vggfeat.finetuning.feeding import Feed, batches
from vggfeat.finetuning.model import Tuned
from vggfeat.finetuning.order import Order
from vggfeat.finetuning.recipe import Recipe
from vggfeat.finetuning.results import Epoch
from vggfeat.finetuning.tasks import Array, Task
from vggfeat.network.callers import own_torch
from vggfeat.shared import SharedSetting

_BATCH = 32  # images that are scored at a time
_log = logging.getLogger(__name__)


Told = Callable[[int, int, float, float | None], object]
"""Told of each step: the epoch from 1 on, images of the step, mean loss so far, last score."""


class Run:
    """A run, begun or gone on with.

    Parameters
    ----------
    model : Tuned
        On its device; it is trained in place.
    task : Task
    targets : Tensor
        Of the training images by their position, from :meth:`Task.targets`.
    feed : Feed
        Gives their inputs.
    order : Order
    recipe : Recipe
    checkpoint : Checkpoint
    watched : callable, optional
        Returns the score of the validation images, given the model.
    micro : int
        Images that run at a time; steps are put together of so many.

    Attributes
    ----------
    epochs : list of Epoch
        Those that are done.
    """

    def __init__(
        self,
        model: Tuned,
        task: Task,
        targets: Tensor,
        feed: Feed,
        order: Order,
        recipe: Recipe,
        checkpoint: Checkpoint,
        watched: Callable[[Tuned], float] | None = None,
        micro: int = 1 << 30,
    ) -> None:
        self.model, self.task, self.feed = model, task, feed
        self.order, self.recipe, self.checkpoint = order, recipe, checkpoint
        self._watched, self._micro = watched, micro
        self._device = model.head.weight.device
        self._targets = targets.to(self._device)
        self._sizes = order.sizes(recipe.batch_size)
        self._optimiser = _optimiser(model, recipe)
        self._schedule = _schedule(self._optimiser, recipe, len(self._sizes))
        self._average = _average(model, recipe.average)
        enabled = recipe.precision == "float16" and self._device.type == "cuda"
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=enabled)
        self.epochs: list[Epoch] = []
        self._epoch, self._step, self._loss, self._weight = 0, 0, 0.0, 0.0
        self._spent = 0.0  # seconds in the epoch so far
        self._best: dict[str, Any] | None = None
        self._restore()

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do: the last epoch is done, or training stopped early."""
        return self._epoch >= self.recipe.epochs or self._stale()

    @property
    def done(self) -> int:
        """Images seen so far, each as often as it was."""
        return self._epoch * self.order.images + sum(self._sizes[: self._step])

    @property
    def kept(self) -> Tuned:
        """The model that is scored and kept: the average where there is one."""
        return self.model if self._average is None else self._average.module  # type: ignore[return-value]

    @property
    def best(self) -> int:
        """The epoch whose weights :meth:`finish` keeps."""
        return self._epoch if self._best is None else int(self._best["epoch"])

    def go(self, told: Told) -> None:
        """Train to the end, or until validation scores no longer rise."""
        with own_torch(self._device, gradients=True), _repeatable(self._device):
            if self._watched is not None and not self.epochs:
                score = self._watched(self.kept)
                self.epochs.append(Epoch(0, math.nan, score, 0.0, 0.0, 0.0))
                self._keep_best(score)
            while not self.finished:
                self._run_epoch(told)
                self._epoch += 1
                self._end_epoch()
                self.checkpoint.write(self._state())

    def finish(self) -> Tuned:
        """Return the model with the weights that are kept: the best epoch's, or the last's."""
        model = self.kept
        if self._best is not None:
            model.load_state_dict(self._best["model"])
        return model.eval()

    def _run_epoch(self, told: Told) -> None:
        score = self.epochs[-1].score if self.epochs else None
        self.model.train()
        begun = time.perf_counter()
        for positions, inputs in batches(
            self.feed, self.order, self._epoch, self.recipe.batch_size, self._step
        ):
            loss, weight = self._take_step(positions, inputs)
            self._loss += loss
            self._weight += weight
            self._step += 1
            mean = self._loss / self._weight
            if not math.isfinite(mean):
                raise TrainingError(
                    f"The loss is {mean} in epoch {self._epoch + 1}. Give smaller learning rates "
                    "(--rate, --head-rate), or --precision float32, and --overwrite."
                )
            told(self._epoch + 1, len(positions), mean, score)
            if self.checkpoint.due and self._step < len(self._sizes):
                self._spent += time.perf_counter() - begun
                begun = time.perf_counter()
                self.checkpoint.write(self._state())
        self._spent += time.perf_counter() - begun

    def _end_epoch(self) -> None:
        score = None
        if self._watched is not None:
            score = self._watched(self.kept)
            self._keep_best(score)
        rate, speed = self._schedule.get_last_lr()[0], self.order.images / max(self._spent, 1e-9)
        loss = self._loss / self._weight
        self.epochs.append(Epoch(self._epoch, loss, score, float(rate), self._spent, speed))
        self._step, self._loss, self._weight, self._spent = 0, 0.0, 0.0, 0.0

    def _keep_best(self, score: float) -> None:
        if self._best is None or score > self._best["score"]:
            state = copy.deepcopy(self.kept.state_dict())
            self._best = {"epoch": self._epoch, "score": score, "model": state}

    def _stale(self) -> bool:
        patience = self.recipe.patience
        return bool(patience and self._best and self._epoch - self._best["epoch"] >= patience)

    def _take_step(self, positions: np.ndarray[Any, Any], inputs: Tensor) -> tuple[float, float]:
        """Change the weights once; where memory does not suffice, run fewer images at a time."""
        while True:
            try:
                return self._stepped(torch.from_numpy(positions), inputs)
            except torch.OutOfMemoryError:
                count = min(self._micro, len(inputs))
                if count == 1:
                    raise
                self._micro = count // 2
                torch.cuda.empty_cache()
                _log.warning("Out of memory: %d images run at a time from now on.", self._micro)

    def _stepped(self, positions: Tensor, inputs: Tensor) -> tuple[float, float]:
        targets = self._targets[positions.to(self._device)]
        kind = TYPES[self.recipe.precision]
        self._optimiser.zero_grad(set_to_none=True)
        losses, weights = [], []
        for x, y in zip(
            torch.split(inputs, self._micro), torch.split(targets, self._micro), strict=True
        ):
            x = x.to(self._device, non_blocking=True)
            if x.ndim == 4:
                x = x.contiguous(memory_format=torch.channels_last)
            mixed = torch.autocast(self._device.type, kind, enabled=kind != torch.float32)
            with mixed:
                outputs = self.model(x)
            loss, weight = self.task.loss(outputs.float(), y)
            # The gradient of a sum; what it is divided by is known when all of the step has run.
            self._scaler.scale(loss / len(inputs)).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            weights.append(weight.detach())
        total, weight = torch.stack(losses).sum(), torch.stack(weights).sum()
        for group in self._optimiser.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(len(inputs) / weight.clamp(min=1e-12))
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._schedule.step()
        if self._average is not None:
            self._average.update_parameters(self.model)
        return float(total), float(weight)

    def _state(self) -> dict[str, Any]:
        return {
            "epoch": self._epoch,
            "step": self._step,
            "loss": self._loss,
            "weight": self._weight,
            "spent": self._spent,
            "epochs": [asdict(one) for one in self.epochs],
            "model": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "scaler": self._scaler.state_dict(),
            "best": self._best,
            "micro": self._micro,
            "threads": torch.get_num_threads(),
        }

    def _restore(self) -> None:
        if (state := self.checkpoint.read()) is None:
            return
        self._epoch, self._step = state["epoch"], state["step"]
        self._loss, self._weight = state["loss"], state["weight"]
        self._spent, self._micro = state["spent"], state["micro"]
        self.epochs = [Epoch(**one) for one in state["epochs"]]
        self.model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._scaler.load_state_dict(state["scaler"])
        self._best = state["best"]
        if (threads := state["threads"]) != torch.get_num_threads():
            _log.warning(
                "The run was begun with %d threads and goes on with %d: numbers will be the same "
                "to rounding, and not to the last bit.", threads, torch.get_num_threads(),
            )  # fmt: skip
        _log.info("Going on in epoch %d of %d.", self._epoch + 1, self.recipe.epochs)


def outputs_of(model: Tuned, feed: Feed, positions: np.ndarray[Any, Any]) -> Array:
    """Return what the head puts out for plain views, float64 (n, K)."""
    return np.concatenate([part for part, _ in _passed(model, feed, positions)])


def features_of(model: Tuned, feed: Feed, positions: np.ndarray[Any, Any]) -> Array:
    """Return the features of plain views that the head reads, float64 (n, d)."""
    return np.concatenate([part for _, part in _passed(model, feed, positions)])


def _passed(model: Tuned, feed: Feed, positions: np.ndarray[Any, Any]) -> Any:
    device = model.head.weight.device
    was = model.training
    model.eval()
    with own_torch(device):
        for first in range(0, len(positions), _BATCH):
            part = positions[first : first + _BATCH]
            x = torch.from_numpy(feed.read(part, np.zeros_like(part))).float().to(device)
            if x.ndim == 4:
                x = x.contiguous(memory_format=torch.channels_last)
            features = model.features(x)
            yield model.headed(features).cpu().double().numpy(), features.cpu().double().numpy()
    model.train(was)


def _optimiser(model: Tuned, recipe: Recipe) -> torch.optim.Optimizer:
    groups = list(model.groups(recipe.rate, recipe.head_rate, recipe.decay))
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups)


def _schedule(
    optimiser: torch.optim.Optimizer, recipe: Recipe, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    total = recipe.epochs * steps
    match recipe.schedule:
        case "onecycle":
            rates = [group["lr"] for group in optimiser.param_groups]
            # Its phases have a step at least; a run of fewer steps ends in one of them.
            return torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, max(total, 10))
        case "cosine":
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, total)
        case _:
            return torch.optim.lr_scheduler.ConstantLR(optimiser, 1.0)


def _average(model: Tuned, decay: float) -> AveragedModel | None:
    if not decay:
        return None
    # By the last so many steps at first, so that the weights before training do not stay in it.
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]


def _deterministic() -> Callable[[], None]:
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    asked = torch.are_deterministic_algorithms_enabled()
    only_warn = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    torch.use_deterministic_algorithms(True, warn_only=True)

    def restore() -> None:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before
        torch.use_deterministic_algorithms(asked, warn_only=only_warn)

    return restore


_setting = SharedSetting(_deterministic)


@contextmanager
def _repeatable(device: torch.device) -> Any:
    """Let a GPU take the algorithms that give the same numbers each time, where it has them."""
    with _setting() if device.type == "cuda" else nullcontext():
        yield
