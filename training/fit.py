"""The training loop: resumable after every epoch, and the same for the same seed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

import click
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from training import augment, log
from training.recipe import Recipe
from training.tiny_imagenet import Pictures
from training.trainable import Trainable, normalised, parameter_groups
from vggfeat.layers import architecture
from vggfeat.malloc import keep_freed_blocks
from vggfeat.preprocessing import TORCHVISION

CHECKPOINT = "checkpoint.pt"
_SAVED = {"recipe", "epoch", "model", "average", "optimizer"}


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
        self.images: int | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CHECKPOINT).exists():
            self._restore()

    @classmethod
    def found_in(cls, folder: Path) -> Self:
        """Return the run that a folder holds, whatever its recipe."""
        return cls(folder, Recipe(**saved(folder)["recipe"]))

    @property
    def finished(self) -> bool:
        """Whether the recipe's last epoch is done."""
        return self.epoch >= self.recipe.epochs

    def epochs(self, training: Pictures, validation: Pictures) -> Iterator[log.Row]:
        """Train to the end of the recipe; after each epoch log it, save, and yield its row."""
        self._check(training)
        while not self.finished:
            started = time.perf_counter()
            loss = self._train(training)
            speed = len(training) / (time.perf_counter() - started)
            side = self.recipe.side(self.epoch)
            val_loss, top1, top5 = score(self.average, validation, side)
            _, raw_top1, _ = score(self.model, validation, side)
            self.epoch += 1
            row = log.Row(
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
            log.write(self.folder, row)
            self._save()
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
            "images": self.images,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        fresh = self.folder / f"{CHECKPOINT}.new"
        torch.save(state, fresh)
        fresh.replace(self.folder / CHECKPOINT)

    def _restore(self) -> None:
        state = saved(self.folder)
        begun = state["recipe"]
        changed = [k for k, v in self.recipe.to_json().items() if begun[k] != v]
        if changed:
            raise click.ClickException(
                f"{self.folder} holds a run with another {' and '.join(changed)}: "
                f"{', '.join(str(begun[k]) for k in changed)}. "
                "Give the same settings to go on with it, or another folder."
            )
        self.epoch, self.images = state["epoch"], state.get("images")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if (self.folder / log.LOG).exists():
            log.read(self.folder)  # a damaged log is told of now, not after an epoch's work

    def _check(self, training: Pictures) -> None:
        if self.images not in (None, len(training)):
            raise click.ClickException(
                f"{self.folder} holds a run on {self.images} training images, not on "
                f"{len(training)}. Give the same data and --per-class, or another folder."
            )
        self.images = len(training)


def saved(folder: Path) -> dict[str, Any]:
    """Return what a run's checkpoint holds.

    Raises
    ------
    click.ClickException
        There is none, it is damaged, or its recipe is not one that this program knows.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise click.ClickException(
            f"{folder} holds no {CHECKPOINT}. Train for an epoch at least: "
            f"python -m training fit DATA {folder}"
        )
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        missing = _SAVED - set(state)
    except Exception as error:  # of many kinds, by what is wrong with the file
        raise click.ClickException(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}). "
            "Train anew in another folder."
        ) from error
    known = {field.name for field in fields(Recipe)}
    other = missing or known ^ set(state["recipe"])
    if other:
        raise click.ClickException(
            f"{path} was made by another version of this program: {', '.join(sorted(other))} is "
            "missing from it or from here. Use that version, or train anew in another folder."
        )
    return state


def predictions(model: nn.Module, pictures: Pictures, side: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits (B, classes), computed in float32, and targets (B,), batch by batch."""
    model.eval()
    for start in range(0, len(pictures), 200):
        pixels = torch.from_numpy(pictures.pixels[start : start + 200])
        x = augment.resized(pixels.permute(0, 3, 1, 2).float(), side)
        with torch.inference_mode():
            logits = model(normalised(x, TORCHVISION.mean, TORCHVISION.std))
        yield logits, torch.from_numpy(pictures.targets[start : start + 200])


def score(model: nn.Module, pictures: Pictures, side: int) -> tuple[float, float, float]:
    """Return mean cross-entropy, and top-1 and top-5 accuracy in percent, in float32."""
    loss, first, fifth = 0.0, 0, 0
    for logits, targets in predictions(model, pictures, side):
        loss += functional.cross_entropy(logits, targets, reduction="sum").item()
        first += hits(logits, targets, 1)
        fifth += hits(logits, targets, 5)
    count = len(pictures)
    return loss / count, 100 * first / count, 100 * fifth / count


def hits(logits: Tensor, targets: Tensor, first: int) -> int:
    """Return for how many images the right class is among the `first` likeliest."""
    return int((logits.topk(first).indices == targets[:, None]).sum())
