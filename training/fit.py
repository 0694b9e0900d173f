"""The training loop: resumable after every epoch, and the same for the same seed."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from training import augment
from training.recipe import Recipe
from training.tiny_imagenet import Pictures
from training.trainable import Trainable, normalised, parameter_groups
from vggfeat.layers import architecture
from vggfeat.malloc import keep_freed_blocks
from vggfeat.preprocessing import TORCHVISION

CHECKPOINT, LOG = "checkpoint.pt", "log.csv"


@dataclass(frozen=True)
class Row:
    """One epoch in the log.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    side : int
        Of the input, in pixels.
    rate : float
        Learning rate at the epoch's end.
    loss : float
        Mean training loss, smoothing and augmentation included.
    val_loss, top1, top5 : float
        Of the averaged weights on the validation images at the same side; accuracies in percent.
    raw_top1 : float
        Top-1 of the weights as they are: ahead of the average while the learning rate is high.
    images_per_second : float
        Training speed.
    seconds : float
        The epoch with its validation.
    """

    epoch: int
    side: int
    rate: float
    loss: float
    val_loss: float
    top1: float
    top5: float
    raw_top1: float
    images_per_second: float
    seconds: float


class Run:
    """A training run in a folder: ``checkpoint.pt`` and ``log.csv``.

    Parameters
    ----------
    folder : Path
        Made if need be. A checkpoint found there is gone on from.
    recipe : Recipe
        What to do.
    """

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.folder, self.recipe, self.epoch = folder, recipe, 0
        keep_freed_blocks()
        torch.manual_seed(recipe.seed)
        model = Trainable(architecture(recipe.model), recipe.dropout)
        self.model = model.to(memory_format=torch.channels_last)
        average = get_ema_multi_avg_fn(recipe.averaging)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)
        self.optimizer = torch.optim.SGD(
            parameter_groups(self.model, recipe.decay),
            lr=recipe.rate,
            momentum=recipe.momentum,
            nesterov=True,
        )
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CHECKPOINT).exists():
            self._restore()

    def epochs(self, training: Pictures, validation: Pictures) -> Iterator[Row]:
        """Train to the end of the recipe; after each epoch log it, save, and yield its row."""
        while self.epoch < self.recipe.epochs:
            started = time.perf_counter()
            loss = self._train(training)
            speed = len(training) / (time.perf_counter() - started)
            side = self.recipe.side(self.epoch)
            val_loss, top1, top5 = score(self.average, validation, side)
            _, raw_top1, _ = score(self.model, validation, side)
            self.epoch += 1
            row = Row(
                epoch=self.epoch,
                side=side,
                rate=self.recipe.rate_at(self.epoch),
                loss=loss,
                val_loss=val_loss,
                top1=top1,
                top5=top5,
                raw_top1=raw_top1,
                images_per_second=speed,
                seconds=time.perf_counter() - started,
            )
            self._save()
            self._log(row)
            yield row

    def _train(self, pictures: Pictures) -> float:
        recipe, epoch = self.recipe, self.epoch
        self.model.train()
        # Chance depends on seed and epoch alone, so a resumed run equals an uninterrupted one.
        draw = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
        torch.manual_seed(recipe.seed * 1_000_003 + epoch)  # dropout's
        order = torch.randperm(len(pictures), generator=draw)
        batches = torch.split(order, recipe.batch)
        if len(batches[-1]) < recipe.batch and len(batches) > 1:
            batches = batches[:-1]
        total = 0.0
        title = f"epoch {epoch + 1}/{recipe.epochs} at {recipe.side(epoch)} px"
        with tqdm(total=len(batches) * recipe.batch, desc=title, unit="img", disable=None) as bar:
            for number, chosen in enumerate(batches):
                rate = recipe.rate_at(epoch + number / len(batches))
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                loss = self._step(pictures, chosen, draw)
                total += loss
                bar.update(len(chosen))
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        return total / len(batches)

    def _step(self, pictures: Pictures, chosen: Tensor, draw: torch.Generator) -> float:
        recipe = self.recipe
        # (B, H, W, 3) uint8 -> (B, 3, H, W) float32 in 0..255
        x = torch.from_numpy(pictures.pixels[chosen.numpy()]).permute(0, 3, 1, 2).float()
        x = augment.resized(x, recipe.side(self.epoch))
        x = augment.cropped(x, recipe.smallest_crop, draw)
        x = augment.jittered(x, recipe.jitter, draw)
        x = normalised(x, TORCHVISION.mean, TORCHVISION.std)
        y = torch.from_numpy(pictures.targets[chosen.numpy()])
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            logits = self.model(x)
        loss = functional.cross_entropy(logits.float(), y, label_smoothing=recipe.smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.average.update_parameters(self.model)
        return loss.item()

    def _save(self) -> None:
        state = {
            "recipe": self.recipe.to_json(),
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        fresh = self.folder / f"{CHECKPOINT}.new"
        torch.save(state, fresh)
        fresh.replace(self.folder / CHECKPOINT)

    def _restore(self) -> None:
        state: dict[str, Any] = torch.load(self.folder / CHECKPOINT, weights_only=True)
        begun = state["recipe"]
        changed = [k for k, v in self.recipe.to_json().items() if begun[k] != v]
        if changed:
            raise click.ClickException(
                f"{self.folder} holds a run with another {' and '.join(changed)}: "
                f"{', '.join(str(begun[k]) for k in changed)}. "
                "Give the same settings to go on with it, or another folder."
            )
        self.epoch = state["epoch"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _log(self, row: Row) -> None:
        path = self.folder / LOG
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(field.name for field in fields(Row))
            writer.writerow(
                f"{value:.6g}" if isinstance(value, float) else value
                for value in (getattr(row, field.name) for field in fields(Row))
            )


def score(model: nn.Module, pictures: Pictures, side: int) -> tuple[float, float, float]:
    """Return mean cross-entropy, and top-1 and top-5 accuracy in percent, in float32."""
    model.eval()
    loss, first, fifth = 0.0, 0, 0
    with torch.inference_mode():
        for start in range(0, len(pictures), 200):
            pixels = torch.from_numpy(pictures.pixels[start : start + 200])
            x = augment.resized(pixels.permute(0, 3, 1, 2).float(), side)
            y = torch.from_numpy(pictures.targets[start : start + 200])
            logits = model(normalised(x, TORCHVISION.mean, TORCHVISION.std))
            loss += functional.cross_entropy(logits, y, reduction="sum").item()
            hits = logits.topk(5).indices == y[:, None]
            first += int(hits[:, 0].sum())
            fifth += int(hits.sum())
    count = len(pictures)
    return loss / count, 100 * first / count, 100 * fifth / count
