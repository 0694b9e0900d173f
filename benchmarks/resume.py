"""Time the recognition of a finished store of 100,000 rows against the listing of its folder.

A folder of real JPEGs (copies of one) and a finished store of their features are made; then the
extraction command, which finds nothing to do, and a walk of the folder with size and time of each
file, each a process of its own, take turns.

    python benchmarks/resume.py --images 100000
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

from vggfeat import FeatureExtractor
from vggfeat.provenance import RunInfo, now
from vggfeat.sources import open_source
from vggfeat.store import StoreWriter

OPTIONS = ["--weights", "random:0", "--layers", "pool1", "--device", "cpu"]
WALK = """
import os, sys
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        os.stat(os.path.join(folder, name))
"""


def make(folder: Path, store: Path, images: int) -> None:
    """Write images, and a store in which they are all done."""
    Image.new("RGB", (32, 32), (90, 120, 30)).save(folder / "one.jpg")
    for number in range(images):
        place = folder / f"{number // 1000:03d}"
        place.mkdir(exist_ok=True)
        shutil.copyfile(folder / "one.jpg", place / f"{number:06d}.jpg")
    (folder / "one.jpg").unlink()
    extractor = FeatureExtractor(weights="random:0", layers="pool1", device="cpu")
    run = RunInfo(str(folder), "random:0", "cpu", "float32", now())
    with StoreWriter.open(
        store,
        entries=open_source(folder).entries,
        shapes=extractor.shapes,
        config=extractor.config,
        run=run,
    ) as writer:
        rows = writer.pending()
        writer.write(rows, {"pool1": np.ones((len(rows), 64), np.float32)})


@click.command()
@click.option("--images", default=100_000, show_default=True)
@click.option("--rounds", default=7, show_default=True)
def main(images: int, rounds: int) -> None:
    """Measure resuming a finished store."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, store = Path(scratch) / "photos", Path(scratch) / "photos.h5"
        folder.mkdir()
        make(folder, store, images)
        resume = [sys.executable, "-m", "vggfeat", "extract", str(folder), str(store), *OPTIONS]
        resume += ["--labels", "none"]
        commands = {"walk": [sys.executable, "-c", WALK, str(folder)], "resume": resume}
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds + 1):
            for name, command in commands.items():
                start = time.perf_counter()
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                seconds[name].append(time.perf_counter() - start)
        if "Nothing to do" not in done.stdout:
            raise SystemExit(done.stdout)
        medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
        ratio = medians["resume"] / medians["walk"]
        click.echo(
            f"{images:,} rows: resume {medians['resume']:.2f} s, walk {medians['walk']:.2f} s"
        )
        click.echo(f"ratio {ratio:.1f}, medians of {rounds}")


if __name__ == "__main__":
    main()
