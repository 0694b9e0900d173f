"""Measure how many images a second vgg16-tiny takes on a CPU, beside VGG-16 (random weights).

The networks, each in a process of its own, take turns: alone, on tensors that are ready in memory,
and from a folder of JPEGs to a store. It is a part of `benchmarks/transfer.py`.

    python benchmarks/tiny_speed.py --rounds 5
"""

from __future__ import annotations

import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from extract import make_images
from PIL import Image

from vggfeat import FeatureExtractor
from vggfeat.cli.output import table
from vggfeat.devices import chunk_size, default_batch_size, resolve_device
from vggfeat.layers import architecture

TINY, LARGE = "vgg16-tiny", "vgg16"
BATCHES = {TINY: 3, LARGE: 2}
"""Batches in a turn, of 392 and 32 images on a CPU: a second or more for each network."""


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--layers", default="fc7,conv5_3", show_default=True)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--work", "contestant", type=click.Choice([TINY, LARGE]), hidden=True)
def speed(rounds: int, layers: str, json_path: Path | None, contestant: str | None) -> None:
    """Race vgg16-tiny against VGG-16 (random weights), in turns, on the CPU.

    The network alone runs on tensors that are ready in memory; the other ways go from a folder of
    JPEGs to a store. Figures are medians.
    """
    if contestant:
        work(contestant, layers)
        return
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        ways = {"network alone": {TINY: "", LARGE: ""}} | make_folders(Path(scratch))
        for layer in layers.split(","):
            rates = race(layer, ways, rounds)
            for way, rows in rates.items():
                ratio = statistics.median(a / b for a, b in zip(*rows.values(), strict=True))
                medians = {model: statistics.median(row) for model, row in rows.items()}
                found.append({"layer": layer, "way": way, **medians, "ratio": ratio})
    click.echo(f"{machine()}, medians of {rounds} rounds")
    lines = [
        [one["layer"], one["way"], *(f"{one[key]:.1f}" for key in (TINY, LARGE, "ratio"))]
        for one in found
    ]
    header = ["layer", "images/s", TINY, LARGE, "ratio"]
    click.echo(table(lines, header, right=" ".join(header[2:])))
    if json_path:
        told = {"machine": machine(), "rounds": rounds, "results": found}
        json_path.write_text(json.dumps(told, indent=2) + "\n")


def make_folders(scratch: Path) -> dict[str, dict[str, str]]:
    """Write photograph-like JPEGs of two sizes, as many as a turn of each network takes."""
    make_images(scratch / "large", 1)
    originals = sorted((scratch / "large" / "00").iterdir())
    (scratch / "small").mkdir()
    for path in originals:
        Image.open(path).resize((64, 64)).save(scratch / "small" / path.name, quality=90)
    ways: dict[str, dict[str, str]] = {}
    for way, files in (
        ("500 x 375 JPEGs to store", originals),
        ("64 x 64 JPEGs to store", sorted((scratch / "small").iterdir())),
    ):
        ways[way] = {}
        for model, batches in BATCHES.items():
            folder = scratch / f"{model} {way}"
            folder.mkdir()
            for number in range(batches * batch_size(model)):
                shutil.copyfile(files[number % len(files)], folder / f"{number:04d}.jpg")
            ways[way][model] = str(folder)
    return ways


def batch_size(model: str) -> int:
    return default_batch_size(resolve_device("cpu"), architecture(model).input_size)


def race(
    layer: str, ways: dict[str, dict[str, str]], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Let the networks, each a process, take turns; return images a second."""
    command = [sys.executable, __file__, "--layers", layer, "--work"]
    racers = {
        model: subprocess.Popen(
            [*command, model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for model in BATCHES
    }
    rates: dict[str, dict[str, list[float]]] = {
        way: {model: [] for model in BATCHES} for way in ways
    }
    for number in range(rounds + 1):
        for way, folders in ways.items():
            for model, process in racers.items():
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(folders[model] + "\n")
                process.stdin.flush()
                rate = float(process.stdout.readline())
                if number:  # the first is a warm-up
                    rates[way][model].append(rate)
                click.echo(f"{layer}, {way}, {model}: {rate:.1f} images/s", err=True)
    for process in racers.values():
        process.communicate()
    return rates


def work(model: str, layer: str) -> None:
    """Be a contestant: for each folder named on stdin, or none, answer with images a second."""
    import torch

    weights = "builtin" if model == TINY else "random:0"
    extractor = FeatureExtractor(model, weights, [layer], device="cpu")
    network, side, size = extractor.network, architecture(model).input_size, batch_size(model)
    inputs = torch.randn(size, 3, side, side).to(memory_format=torch.channels_last)
    parts = inputs.split(chunk_size(network.device, side, side))
    for line in sys.stdin:
        folder = line.strip()
        start = time.perf_counter()
        if folder:
            extractor.extract(folder, f"{folder}.h5", overwrite=True, progress=False)
        else:
            for _ in range(BATCHES[model]):
                network.run(parts)
        print(BATCHES[model] * size / (time.perf_counter() - start), flush=True)


def machine() -> str:
    import torch

    kind = platform.processor() or platform.machine()
    return f"{kind}, {torch.get_num_threads()} threads, torch {torch.__version__}"


if __name__ == "__main__":
    speed()
