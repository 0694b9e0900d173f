"""Measure images a second of training from cached maps, beside a plain torch loop on a CPU.

Both train conv5_1 and deeper of VGG-16 (random weights) and a head on its averaged maps, by AdamW,
in the same process and in turns. The plain loop decodes JPEGs, draws a crop, a mirror image and
colours by torchvision's transforms, and runs the whole network, of which the first four blocks are
frozen: no gradient is computed for them. What the cache costs beforehand is told, too.

    python benchmarks/finetune.py --rounds 3
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from extract import make_images
from PIL import Image
from tiny_speed import machine
from torch import nn
from torch.nn import functional
from torchvision import models
from torchvision.transforms import v2

from vggfeat import FeatureExtractor
from vggfeat.cli.output import table
from vggfeat.finetuning.caching import MapCache
from vggfeat.finetuning.feeding import CachedFeed
from vggfeat.finetuning.model import Tuned
from vggfeat.sources import open_source
from vggfeat.store import FeatureStore
from vggfeat.views.drawn import DrawnView

FIRST, BEFORE, LAYER, CLASSES = "conv5_1", "pool4", "relu5_3", 10
FROZEN = 24  # torchvision's place of conv5_1


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--batch-size", default=16, show_default=True)
@click.option("--steps", default=2, show_default=True, help="Steps of a turn.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def main(rounds: int, batch_size: int, steps: int, json_path: Path | None) -> None:
    """Race training from cached maps against a plain torch loop; figures are medians."""
    count = batch_size * steps
    with tempfile.TemporaryDirectory() as scratch:
        make_images(Path(scratch, "images"), 1)
        files = sorted(Path(scratch, "images").rglob("*.jpg"))[:count]
        assert len(files) == count, "make_images gives too few for so many steps"
        cached, made = from_cache(Path(scratch), files, batch_size)
        ways = {"from cached maps": cached, "plain loop": plain_loop(files, batch_size)}
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(rounds + 1):
            for way, run in ways.items():
                begun = time.perf_counter()
                run()
                if number:  # the first is a warm-up
                    rates[way].append(count / (time.perf_counter() - begun))
    one, other = rates.values()
    ratio = statistics.median(a / b for a, b in zip(one, other, strict=True))
    medians = {way: statistics.median(row) for way, row in rates.items()}
    click.echo(f"{machine()}, medians of {rounds} rounds, {steps} steps of {batch_size} images")
    rows = [[way, f"{rate:.2f}"] for way, rate in medians.items()]
    click.echo(table(rows, ["training", "images/s"], right="images/s"))
    click.echo(f"ratio {ratio:.2f}; the cache was made at {made:.2f} views/s, each once")
    if json_path:
        told = {"machine": machine(), "rounds": rounds, "batch_size": batch_size, "steps": steps}
        told |= {"images_per_second": medians, "ratio": ratio, "cache_views_per_second": made}
        json_path.write_text(json.dumps(told, indent=2) + "\n")


def from_cache(
    scratch: Path, files: list[Path], batch_size: int
) -> tuple[Callable[[], None], float]:
    """Return what trains from maps of one drawn view, and how fast these were made."""
    extractor = FeatureExtractor(
        "vgg16", "random:0", [f"{BEFORE}:none"], dtype="float16", device="cpu", engine="auto"
    )
    (scratch / "cache").mkdir()
    source = open_source(scratch / "images")
    paths = [str(file.relative_to(scratch / "images")) for file in files]
    cache, view = MapCache(scratch / "cache", extractor), DrawnView(variant=1)
    extractor.hint_workload(len(paths))
    begun = time.perf_counter()
    cache.fill_drawn(source, paths, view, False)
    made = len(paths) / (time.perf_counter() - begun)
    store = FeatureStore(cache.drawn(view))
    feed = CachedFeed([store], [BEFORE], [store.rows_of(paths)], store.shape(BEFORE))
    tail = extractor.network.tail(FIRST, LAYER)
    model = Tuned(tail, LAYER, "avg", np.zeros((CLASSES, 512)), np.zeros(CLASSES))
    optimiser = torch.optim.AdamW(list(model.groups(1e-4, 1e-2, 0.01)))

    def run() -> None:
        order = np.random.default_rng(0).permutation(len(paths))
        for first in range(0, len(order), batch_size):
            part = order[first : first + batch_size]
            x = torch.from_numpy(feed.read(part, np.zeros_like(part))).float()
            x = x.contiguous(memory_format=torch.channels_last)
            step(model, optimiser, x, torch.from_numpy(part % CLASSES))

    return run, made


def plain_loop(files: list[Path], batch_size: int) -> Callable[[], None]:
    """Return what a user of torchvision writes."""
    features = models.vgg16(weights=None).features.to(memory_format=torch.channels_last)
    features[:FROZEN].requires_grad_(False)
    model = nn.Sequential(
        features[:30], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, CLASSES)
    )
    trained = [one for one in model.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(trained, 1e-4)
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(224, (0.5, 1)),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.2, 0.2, 0.2),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )

    def run() -> None:
        order = np.random.default_rng(0).permutation(len(files))
        for first in range(0, len(order), batch_size):
            part = order[first : first + batch_size]
            images = [transform(Image.open(files[at]).convert("RGB")) for at in part.tolist()]
            x = torch.stack(images).contiguous(memory_format=torch.channels_last)
            step(model, optimiser, x, torch.from_numpy(part % CLASSES))

    return run


def step(
    model: nn.Module, optimiser: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor
) -> None:
    optimiser.zero_grad(set_to_none=True)
    functional.cross_entropy(model(x), y, label_smoothing=0.1).backward()
    optimiser.step()


if __name__ == "__main__":
    main()
