"""Measure stores of parts beside single files: growing, reading, opening.

    python benchmarks/parts.py grow --images 200000
    python benchmarks/parts.py read --images 100000
    python benchmarks/parts.py open --parts 1000
    python benchmarks/parts.py bucket --images 20000

Rows are relu7 of VGG-16 in width, 4,096 numbers, drawn at random. What is compared takes turns in
one run; the table tells medians and their ratio. `read` also measures HDF5's own way to see several
files as one, a virtual dataset.
"""

from __future__ import annotations

import logging
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import h5py
import numpy as np

from vggfeat.index import SimilarityIndex
from vggfeat.preprocessing import TORCHVISION
from vggfeat.probe import evaluate
from vggfeat.provenance import FeatureConfig, Provenance, RunInfo, now
from vggfeat.store import FeatureStore, SourcePlace, StoreWriter
from vggfeat.store.parts import open_part, plan

WIDTH, LAYER, BLOCK = 4096, "relu7", 2048
CONFIG = FeatureConfig("vgg16", "00" * 32, TORCHVISION.to_json(), "center", {LAYER: ""})
RUN = RunInfo("/photos", "random:0", "cpu", "float32", now())
_folder = click.option("--folder", type=click.Path(file_okay=False), help="Where to work.")


@dataclass(frozen=True)
class Photo:
    """An entry of a source."""

    path: str
    size: int = 1
    mtime_ns: int = 1
    ctime_ns: int = 1
    digest: bytes = b"\1" * 16


def photos(count: int) -> list[Photo]:
    return [Photo(f"class{i % 10}/{i:07d}.jpg") for i in sorted(range(count), key=lambda i: i % 10)]


def given(count: int, labels: bool = True) -> dict[str, object]:
    entries = photos(count)
    return {
        "entries": entries,
        "shapes": {LAYER: (WIDTH,)},
        "sources": [SourcePlace("", "/photos", "/photos")],
        "labels": {one.path: (one.path[:6],) for one in entries} if labels else None,
    }


def fill(writer: StoreWriter) -> None:
    """Write all pending rows; each class has a direction of its own."""
    rows = writer.pending()
    directions = np.random.default_rng(0).normal(0, 0.05, (10, WIDTH)).astype(np.float32)
    for first in range(0, len(rows), BLOCK):
        block = rows[first : first + BLOCK]
        # By the image and not by the row, so that both stores hold the same numbers.
        numbers = [int(Path(writer.entry_path(row)).stem) for row in block.tolist()]
        X = np.stack([
            np.random.default_rng(number).standard_normal(WIDTH, np.float32) for number in numbers
        ])  # fmt: skip
        X += directions[[int(writer.entry_path(row)[5]) for row in block.tolist()]]
        writer.write(block, {LAYER: X})


def single(path: Path, count: int) -> None:
    with StoreWriter.open(path, provenance=Provenance(CONFIG, RUN), **given(count)) as writer:
        fill(writer)


def parted(path: Path | str, count: int, part_rows: int, **options: object) -> None:
    found = plan(path, config=CONFIG, planned=RUN, part_rows=part_rows, **given(count), **options)
    numbers = sorted({*found.waiting(), *(part.number for part in found.unmarked())})
    for number in numbers:
        with open_part(path, found.manifest, number, found.contents, RUN) as writer:
            fill(writer)


def written() -> int:
    """Return how many bytes this process has written so far, cached or not."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    raise RuntimeError("this system does not count bytes written")


@contextmanager
def workplace(folder: str | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="parts-", dir=folder) as temporary:
        yield Path(temporary)


def in_turns(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        order = list(contestants) if number % 2 else list(reversed(contestants))
        for name in order:
            start = time.perf_counter()
            contestants[name]()
            times[name].append(time.perf_counter() - start)
    return times


def show(what: str, times: dict[str, list[float]], base: str) -> None:
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        ratios = [ours / theirs for ours, theirs in zip(times[name], times[base], strict=True)]
        click.echo(
            f"{what:12} {name:22} {value:9.3f} s  {statistics.median(ratios):6.3f} x "
            f"({min(ratios):.3f} to {max(ratios):.3f})"
        )


@click.group()
def main() -> None:
    """Compare stores of parts with single files."""


@main.command()
@click.option("--images", default=200_000, show_default=True)
@click.option("--more", default=100, show_default=True)
@click.option("--rounds", default=2, show_default=True)
@_folder
def grow(images: int, more: int, rounds: int, folder: str | None) -> None:
    """Add some images to many: seconds, and bytes written."""
    with workplace(folder) as here:
        single(here / "one.h5", images)
        parted(here / "parts.store", images, 50_000)
        for number in range(1, rounds + 1):
            for name, extend in (
                ("single file", lambda n: single(here / "one.h5", n)),
                ("parts", lambda n: parted(here / "parts.store", n, 50_000)),
            ):
                before, start = written(), time.perf_counter()
                extend(images + more * number)
                click.echo(
                    f"{name:12} {time.perf_counter() - start:8.2f} s  "
                    f"{(written() - before) / 1e6:10.1f} MB written"
                )


def virtual(path: Path, parts: list[Path], rows: int) -> None:
    """Make a file that shows all parts as one dataset, as HDF5 does it."""
    layout, first = h5py.VirtualLayout((rows, WIDTH), np.float32), 0
    for part in parts:
        with h5py.File(part, locking=False) as file:
            count = file[f"features/{LAYER}"].shape[0]
        layout[first : first + count] = h5py.VirtualSource(
            str(part), f"features/{LAYER}", (count, WIDTH), np.float32
        )
        first += count
    with h5py.File(path, "w", libver="latest") as file:
        file.create_virtual_dataset(LAYER, layout, fillvalue=np.nan)


@main.command()
@click.option("--images", default=100_000, show_default=True)
@click.option("--part-rows", default=5_000, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@_folder
def read(images: int, part_rows: int, rounds: int, folder: str | None) -> None:
    """Read all rows in blocks, some rows here and there; train a probe; build an index."""
    with workplace(folder) as here:
        single(here / "one.h5", images)
        parted(here / "parts.store", images, part_rows)
        files = sorted((here / "parts.store").glob("part-*.h5"))
        virtual(here / "virtual.h5", files, images)
        few = np.sort(np.random.default_rng(1).choice(images, images // 50, replace=False))
        with (
            FeatureStore(here / "one.h5") as one,
            FeatureStore(here / "parts.store") as several,
            h5py.File(here / "virtual.h5", locking=False) as view,
        ):
            stores = {"single file": one, "parts": several}

            def blocks(store: FeatureStore) -> None:
                for _, block in store.blocks(LAYER):
                    block.sum()

            def virtual_blocks() -> None:
                for first in range(0, images, 1024):
                    view[LAYER][first : first + 1024].sum()

            contest: dict[str, Callable[[], object]] = {
                name: lambda store=store: blocks(store) for name, store in stores.items()
            }
            contest["virtual dataset"] = virtual_blocks
            show("all rows", in_turns(contest, rounds), "single file")
            contest = {
                name: lambda store=store: store.matrix(LAYER, few) for name, store in stores.items()
            }
            contest["virtual dataset"] = lambda: view[LAYER][few]
            show("one in 50", in_turns(contest, rounds), "single file")
            contest = {
                name: lambda store=store: evaluate(store, LAYER, C=1.0, test_size=0.5)
                for name, store in stores.items()
            }
            show("probe", in_turns(contest, rounds), "single file")

            def index(store: FeatureStore, name: str) -> None:
                place = here / f"{name}.index"
                SimilarityIndex.build(store, LAYER, path=place)
                shutil.rmtree(place)

            contest = {
                name: lambda store=store, name=name: index(store, name)
                for name, store in stores.items()
            }
            show("index build", in_turns(contest, max(2, rounds // 2)), "single file")


@main.command("open")
@click.option("--parts", default=1_000, show_default=True)
@click.option("--part-rows", default=1_000, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@_folder
def open_many(parts: int, part_rows: int, rounds: int, folder: str | None) -> None:
    """Open a store of many parts, and ask what everybody asks first."""
    global WIDTH
    WIDTH = 16
    with workplace(folder) as here:
        parted(here / "parts.store", parts * part_rows, part_rows)

        def opened() -> None:
            FeatureStore(here / "parts.store").close()

        def counted() -> None:
            with FeatureStore(here / "parts.store") as store:
                store.counts()

        def listed() -> None:
            with FeatureStore(here / "parts.store") as store:
                len(store.paths)

        def every_file() -> None:
            for file in sorted((here / "parts.store").glob("part-*.h5")):
                h5py.File(file, locking=False).close()

        contest = {
            "every file, by h5py": every_file,
            "opened": opened,
            "and counted": counted,
            "and all paths": listed,
        }
        show("open", in_turns(contest, rounds), "every file, by h5py")


@main.command()
@click.option("--images", default=20_000, show_default=True)
@click.option("--part-rows", default=5_000, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@_folder
def bucket(images: int, part_rows: int, rounds: int, folder: str | None) -> None:
    """Write and read a store in a bucket of an S3 server on this machine, beside the disk."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    boto3.client("s3").create_bucket(Bucket="stores")
    with workplace(folder) as here:
        places = {"disk": str(here / "parts.store"), "bucket": "s3://stores/parts.store"}

        def write(place: str) -> None:
            parted(place, images, part_rows, overwrite=True)

        contest: dict[str, Callable[[], object]] = {
            name: lambda place=place: write(place) for name, place in places.items()
        }
        show("written", in_turns(contest, rounds), "disk")

        def read_all(place: str) -> None:
            with FeatureStore(place) as store:
                for _, block in store.blocks(LAYER):
                    block.sum()

        contest = {name: lambda place=place: read_all(place) for name, place in places.items()}
        times = in_turns(contest, rounds)
        show("read", times, "disk")
        size = images * WIDTH * 4 / 1e6
        for name, values in times.items():
            click.echo(f"{name}: {size / statistics.median(values):.0f} MB/s read")
    server.stop()


if __name__ == "__main__":
    main()
