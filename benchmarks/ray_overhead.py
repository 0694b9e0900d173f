"""Time a store of parts computed on Ray, on this machine, against one process on the same CPUs.

Both are commands of their own, take turns, and begin a new store each. What Ray costs once (it is
started, and its worker imports torch) and what it costs all along are told apart: the latter is the
time from the first image to the last.

    python benchmarks/ray_overhead.py --images 1200 --part-rows 600 --rounds 3
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

from vggfeat.cli.output import table
from vggfeat.processors import usable_cores

ALONE, RAY = "one process", "Ray"


def make(folder: Path, images: int) -> None:
    """Write photographs' like: JPEGs of 500 x 375 pixels, each another."""
    rng = np.random.default_rng(0)
    for number in range(images):
        small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
        small.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number:05d}.jpg")


def run(command: list[str], folder: Path) -> tuple[float, float, dict[str, float]]:
    """Run a command; return its seconds, those with images, and its summary."""
    environment = {**os.environ, "RAY_TMPDIR": str(folder)}
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise click.ClickException(done.stderr)
    facts = json.loads(done.stdout)
    return seconds, facts["seconds"], facts


@click.command()
@click.option("--images", default=1200, show_default=True)
@click.option("--part-rows", default=600, show_default=True, help="Of a minute and more, at best.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--model", default="vgg16", show_default=True)
@click.option("--weights", default="random:0", show_default=True)
@click.option("--engine", default="auto", show_default=True)
def main(images: int, part_rows: int, rounds: int, model: str, weights: str, engine: str) -> None:
    """Print seconds of both, and the ratio in each round."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        make(folder / "photos", images)
        whole: dict[str, list[float]] = {ALONE: [], RAY: []}
        with_images: dict[str, list[float]] = {ALONE: [], RAY: []}
        for turn in range(rounds):
            for kind in (ALONE, RAY) if turn % 2 == 0 else (RAY, ALONE):
                command = [
                    sys.executable, "-m", "vggfeat", "extract", str(folder / "photos"),
                    str(folder / f"{kind[:3]}{turn}.store"), "--model", model,
                    "--weights", weights, "--engine", engine, "--part-rows", str(part_rows),
                    "--json", *(["--ray"] if kind == RAY else []),
                ]  # fmt: skip
                seconds, inner, facts = run(command, folder)
                assert facts["done"] == images
                whole[kind].append(seconds)
                with_images[kind].append(inner)
                click.echo(
                    f"round {turn + 1}, {kind}: {seconds:.1f} s, with images {inner:.1f} s",
                    err=True,
                )
    rows = [
        [
            kind,
            f"{images / statistics.median(with_images[kind]):.2f}",
            f"{statistics.median(with_images[kind]):.1f}",
            f"{statistics.median(np.subtract(whole[kind], with_images[kind])):.1f}",
        ]
        for kind in (ALONE, RAY)
    ]
    click.echo(table(rows, ["", "images/s", "seconds", "around"], right="images/s seconds around"))
    ratios = np.divide(with_images[RAY], with_images[ALONE])
    click.echo(
        f"{model}, {images} images in parts of {part_rows}, {usable_cores()} CPUs, load "
        f"{os.getloadavg()[0]:.1f} at the end. Ray / one process, with images: "
        f"{statistics.median(ratios):.3f} (in turn {', '.join(f'{one:.3f}' for one in ratios)})."
    )


if __name__ == "__main__":
    main()
