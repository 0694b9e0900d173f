"""Count the files and functions of vggfeat that an image passes, from a command to its answer.

Each journey is made twice in this process, so that nothing is loaded for the first time, and the
second is counted, in all threads: whole commands, and calls of Python's with a network and an index
that are open already. The package's lines and files stand below::

    python benchmarks/journeys.py
    PYTHONPATH=OTHER_CHECKOUT python benchmarks/journeys.py --files
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from types import FrameType

import click
import numpy as np
from PIL import Image

import vggfeat
from vggfeat import FeatureExtractor, SimilarityIndex
from vggfeat.cli import main as vggfeat_command
from vggfeat.queries import ImageSearch

PACKAGE = str(Path(vggfeat.__file__).parent) + os.sep

Passed = set[tuple[str, str]]
"""Functions that were called: file and qualified name."""


def photo(path: Path, seed: int) -> None:
    """Write a photo of coloured noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(pixels).resize((128, 96), Image.Resampling.BICUBIC).save(path)


def run(*words: object) -> None:
    """Run a command of vggfeat in this process, silently."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        vggfeat_command([str(word) for word in words], standalone_mode=False)


def passed(journey: Callable[[], object]) -> Passed:
    """Return the functions that a journey's second run calls, in any thread."""
    calls: Passed = set()
    counting = False

    def profile(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if counting and event == "call" and code.co_filename.startswith(PACKAGE):
            name = code.co_qualname
            if not name.endswith(">"):  # comprehensions and lambdas are of their function
                calls.add((code.co_filename.removeprefix(PACKAGE), name))

    threading.setprofile(profile)  # also for threads that are kept from the first run
    sys.setprofile(profile)
    try:
        journey()
        counting = True
        journey()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return calls


def journeys(folder: Path) -> dict[str, Callable[[], object]]:
    """Make photos, an index and a dataset in a folder; return what is to be counted."""
    one, query, many = folder / "one", folder / "query.jpg", folder / "many"
    photo(one / "photo.jpg", 0)
    photo(query, 1)
    for number in range(8):
        photo(many / f"{number}.jpg", number)
    for name in ("Faces", "accordion", "airplanes"):
        for number in range(1, 33):  # the protocol trains on 30 of each
            place = folder / "caltech101" / "101_ObjectCategories" / name
            photo(place / f"image_{number:04d}.jpg", number)
    store, database, index = folder / "one.h5", folder / "many.h5", folder / "many.index"
    network = ("--model", "vgg16-tiny", "--layers", "relu7", "--device", "cpu")
    run("extract", many, database, *network)
    run("index", "build", database, index, "--layer", "relu7")
    extractor = FeatureExtractor("vgg16-tiny", weights="builtin", layers=["relu7"], device="cpu")
    search = ImageSearch(SimilarityIndex.open(index), device="cpu")

    def extract(how: Callable[[], object]) -> None:
        store.unlink(missing_ok=True)
        how()

    def evaluate() -> None:
        shutil.rmtree(folder / "stores", ignore_errors=True)
        options = ("--root", folder, "--networks", "vgg16-tiny", "--scales", "64")
        run("evaluate", "caltech101", *options, "--device", "cpu", "--stores", folder / "stores")

    return {
        "extract": partial(extract, lambda: run("extract", one, store, *network)),
        "extract, opened": partial(extract, lambda: extractor.extract(one, store)),
        "search": lambda: run("search", index, query, "--device", "cpu"),
        "search, opened": lambda: list(search.search([query])),
        "evaluate caltech101": evaluate,
    }


@click.command()
@click.option("--files", is_flag=True, help="Also list the files, with how many functions of each.")
def main(files: bool) -> None:
    """Count what images pass."""
    click.echo(f"{PACKAGE}\n\n{'journey':<26}{'files':>6}{'functions':>11}")
    lists = []
    with tempfile.TemporaryDirectory() as folder:
        for name, journey in journeys(Path(folder)).items():
            counts = Counter(file for file, _ in passed(journey))
            click.echo(f"{name:<26}{len(counts):>6}{counts.total():>11}")
            lists.append((name, counts))
    sources = list(Path(PACKAGE).rglob("*.py"))
    lines = sum(len(file.read_text().splitlines()) for file in sources)
    click.echo(f"\n{lines:,} lines in {len(sources)} files")
    for name, counts in lists if files else ():
        click.echo(f"\n{name}")
        for file, count in sorted(counts.items()):
            click.echo(f"{count:>5}  {file}")


if __name__ == "__main__":
    main()
