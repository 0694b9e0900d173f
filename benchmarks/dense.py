"""Time dense extraction against the plain view, as shares of the multiply-adds each must do.

Contestants, all on the same JPEGs, folder to store, with relu7, and taking turns portion by
portion:

plain      --view center: one input of 224 x 224 an image
dense      --view dense --scales 256
flip       --view dense --scales 256 --flip
scales     --view dense --scales 256,384,512 --flip: the paper's appendix B
layers     as scales, with conv3_3, conv4_3, conv5_3 and pool5 beside relu7

Multiply-adds are counted from the table of layers at the sizes of the images' own maps. A share is
a contestant's multiply-adds in a second over those of a product of square matrices, measured in
the same turn; "of plain" is over those of the plain view. Peak memory is that of a process for
each contestant. --heads times ways to compute fc6 over maps instead.

    python benchmarks/dense.py --images 32 --rounds 3
    python benchmarks/dense.py --heads
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

PORTION = 8  # images in one turn
PAPER = {"view": "dense", "scales": (256, 384, 512), "flip": True}
CONTESTANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dense": {"view": "dense", "scales": (256,)},
    "flip": {"view": "dense", "scales": (256,), "flip": True},
    "scales": PAPER,
    "layers": {**PAPER, "layers": "conv3_3,conv4_3,conv5_3,pool5,relu7"},
}
SIZES = [(500, 375), (500, 333), (375, 500), (500, 375), (333, 500), (500, 375), (500, 400)]


def make_images(folder: Path, images: int) -> None:
    """Write photograph-like JPEGs, most of a few sizes, some of their own, one folder a portion."""
    rng = np.random.default_rng(0)
    for number in range(images):
        portion = folder / f"{number // PORTION:02d}"
        portion.mkdir(parents=True, exist_ok=True)
        size = SIZES[number % len(SIZES)]
        if number % PORTION == PORTION - 1:
            size = (500, int(rng.integers(300, 500)))
        coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
        smooth = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        noise = rng.normal(scale=12, size=(size[1], size[0], 1))
        pixels = np.uint8(np.clip(np.asarray(smooth) + noise, 0, 255))
        Image.fromarray(pixels).save(portion / f"{number:04d}.jpg")


def multiply_adds(folder: Path, options: dict[str, Any]) -> int:
    """Count what a contestant must do for the images of a folder."""
    from vggfeat.layers import architecture
    from vggfeat.views.cutting import resized_size

    table, total = architecture("vgg16"), 0
    for path in folder.iterdir():
        with Image.open(path) as image:
            size = image.size
        for scale in options.get("scales", ()):
            width, height = resized_size(size, scale)
            total += table.multiply_adds("relu7", height, width, dense=True)
        total += 0 if "scales" in options else table.multiply_adds("relu7")
    return total * (2 if options.get("flip") else 1)


def work(contestant: str, cpu_time: bool) -> None:
    """Be a contestant: for each folder named on stdin, run and answer with two times.

    The seconds of the extraction, and of a billion multiply-adds of a square product.
    """
    import torch

    from vggfeat import FeatureExtractor

    clock = time.process_time if cpu_time else time.perf_counter
    extractor = FeatureExtractor(
        weights="random:0", device="cpu", **{"layers": "relu7", **CONTESTANTS[contestant]}
    )
    square = torch.randn(1536, 1536)
    for line in sys.stdin:
        folder = Path(line.strip())
        start = clock()
        summary = extractor.extract(
            folder, folder.parent / f"{contestant}.h5", overwrite=True, progress=False
        )
        between = clock()
        assert summary.done == len(list(folder.iterdir()))
        for _ in range(4):
            assert (square @ square).isfinite().all()
        print(between - start, (clock() - between) / 4 * 1e9 / 1536**3, flush=True)
    status = Path("/proc/self/status").read_text()
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1024**2, flush=True)


def race(
    folders: list[Path], rounds: int, contestants: list[str], cpu_time: bool
) -> dict[str, dict[str, float]]:
    """Let the contestants take turns."""
    command = [sys.executable, __file__, *(["--cpu-time"] if cpu_time else []), "--work"]
    racers = {
        name: subprocess.Popen(
            [*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in contestants
    }

    def turn(name: str, folder: Path) -> tuple[float, float]:
        process = racers[name]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{folder}\n")
        process.stdin.flush()
        seconds, billion = map(float, process.stdout.readline().split())
        return seconds, billion

    for name in racers:
        turn(name, folders[0])  # warm-up
    rates: dict[str, list[float]] = {name: [] for name in racers}  # 10^9 multiply-adds a second
    speeds: dict[str, list[float]] = {name: [] for name in racers}  # images a second
    peaks: list[float] = []
    for _ in range(rounds):
        for folder in folders:
            for name in racers:
                seconds, billion = turn(name, folder)
                work_done = multiply_adds(folder, CONTESTANTS[name])
                rates[name].append(work_done / 1e9 / seconds)
                speeds[name].append(len(list(folder.iterdir())) / seconds)
                peaks.append(1 / billion)
            told = "  ".join(f"{name} {values[-1]:.1f}" for name, values in rates.items())
            click.echo(f"10^9 multiply-adds/s: {told}  square {peaks[-1]:.1f}", err=True)
    peak = statistics.median(peaks)
    found = {}
    for name, process in racers.items():
        out, _ = process.communicate()
        pairs = zip(rates[name], rates["plain"], strict=True)
        found[name] = {
            "images_per_second": statistics.median(speeds[name]),
            "giga_multiply_adds_per_second": statistics.median(rates[name]),
            "of_square_product": statistics.median(rates[name]) / peak,
            "of_plain": statistics.median(a / b for a, b in pairs),
            "peak_gib": float(out),
        }
    return found


def heads(rounds: int) -> None:
    """Time fc6 over the maps of two images: windows and a product, or convolutions."""
    import torch
    from torch import nn
    from torch.nn.functional import conv2d

    from vggfeat.network.positions import windows

    fc6 = nn.Linear(512 * 49, 4096).requires_grad_(False)
    kernel = fc6.weight.view(4096, 512, 7, 7)
    last = kernel.contiguous(memory_format=torch.channels_last)
    ways: dict[str, Callable[[torch.Tensor], object]] = {
        "windows alone": lambda x: windows(x, 7),
        "windows, product": lambda x: fc6(windows(x, 7)),
        "conv2d": lambda x: conv2d(x.contiguous(), kernel, fc6.bias),
        "conv2d, channels_last": lambda x: conv2d(x, last, fc6.bias),
    }
    for height, width in ((8, 10), (12, 16), (16, 21)):
        x = torch.randn(2, 512, height, width).to(memory_format=torch.channels_last)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(1 + rounds):
            for name, way in ways.items():
                start = time.process_time()
                way(x)
                times[name].append(time.process_time() - start)
        told = ", ".join(f"{n} {statistics.median(t[1:]) * 1e3:.0f}" for n, t in times.items())
        click.echo(f"2 maps of {height} x {width}, ms of processor time: {told}")


@click.command()
@click.option("--images", default=32, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--contestants", default=",".join(CONTESTANTS), show_default=True)
@click.option("--cpu-time", is_flag=True, help="Count processor time, on a machine that is busy.")
@click.option("--heads", "only_heads", is_flag=True, help="Time ways to compute fc6 over maps.")
@click.option("--json", "as_json", is_flag=True)
@click.option("--work", "contestant", hidden=True)
def main(
    images: int,
    rounds: int,
    contestants: str,
    cpu_time: bool,
    only_heads: bool,
    as_json: bool,
    contestant: str | None,
) -> None:
    """Measure dense extraction."""
    if contestant:
        work(contestant, cpu_time)
        return
    if only_heads:
        heads(rounds)
        return
    named = list(dict.fromkeys(["plain", *contestants.split(",")]))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "images"
        make_images(folder, images)
        results = race(sorted(folder.iterdir()), rounds, named, cpu_time)
    if as_json:
        click.echo(json.dumps(results, indent=2))
        return
    import torch

    click.echo(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, ")
    click.echo(f"torch {torch.__version__}, {images} images x {rounds}; medians")
    click.echo("contestant  images/s  10^9 multiply-adds/s  of square product  of plain  peak GiB")
    for name, row in results.items():
        click.echo(
            f"{name:10} {row['images_per_second']:9.3f} "
            f"{row['giga_multiply_adds_per_second']:21.1f} {row['of_square_product']:18.1%} "
            f"{row['of_plain']:9.1%} {row['peak_gib']:9.2f}"
        )


if __name__ == "__main__":
    main()
