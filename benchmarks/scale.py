"""What huge stores need: exports in parts, and indexes whose vectors several workers encode.

    python benchmarks/scale.py export FOLDER
    python benchmarks/scale.py index FOLDER
    python benchmarks/scale.py table

The first two make a store of their own in FOLDER, and let the contestants take turns. `export`
stands beside the loops that one would write with h5py and pyarrow or numpy, into files of as many
rows; `index` beside one process that adds vector after vector, with one trained structure for all.
`table` reckons what collections of all sizes take, for docs/scale.md.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from archive import LAYER, make

from vggfeat.atomic import to_disk
from vggfeat.cli.output import table
from vggfeat.index import LocalWorkers, RayWorkers, structures
from vggfeat.index.building import fill
from vggfeat.index.settings import Settings
from vggfeat.index.vector_sources import StoreVectors
from vggfeat.progress import silent
from vggfeat.store import FeatureStore, export_parts

folder_argument = click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
rounds_option = click.option("--rounds", default=5, show_default=True)


@click.group()
def main() -> None:
    """Measure what huge stores need."""


def _store(folder: Path, count: int, dimension: int) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{count}x{dimension}.h5"
    if not path.exists():
        make(path, folder / "queries.npy", count, dimension, 2000, 10)
    return path


def _in_turns(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(some) for name, some in seconds.items()}


def _plain_parquet(store: Path, out: Path, part_rows: int) -> None:
    with h5py.File(store) as file:
        features, paths = file[f"features/{LAYER}"], file["images/path"].asstr()
        width = features.shape[1]
        for number, first in enumerate(range(0, len(features), part_rows)):
            rows = slice(first, first + part_rows)
            flat = pa.array(features[rows].reshape(-1))
            columns = [pa.array(paths[rows]), pa.FixedSizeListArray.from_arrays(flat, width)]
            written = pa.table(columns, names=["path", "features"])
            path = out / f"part-{number:05d}.parquet"
            pq.write_table(written, path)
            to_disk(path)


def _plain_npy(store: Path, out: Path, part_rows: int) -> None:
    with h5py.File(store) as file:
        features, paths = file[f"features/{LAYER}"], file["images/path"].asstr()
        for number, first in enumerate(range(0, len(features), part_rows)):
            rows = slice(first, first + part_rows)
            path = out / f"part-{number:05d}.npy"
            np.save(path, features[rows])
            path.with_suffix(".csv").write_text("\n".join(paths[rows]))
            to_disk(path)


@main.command()
@folder_argument
@click.option("--count", default=40_000, show_default=True)
@click.option("--dimension", default=1024, show_default=True)
@rounds_option
def export(folder: Path, count: int, dimension: int, rounds: int) -> None:
    """Export a store in four parts, each on the disk at its end."""
    store, out, part_rows = _store(folder, count, dimension), folder / "out", -(-count // 4)

    def fresh(run: Callable[[], Any]) -> Callable[[], Any]:
        def emptied() -> None:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            run()

        return emptied

    def ours(format: str) -> Callable[[], Any]:
        return fresh(lambda: export_parts(store, out, LAYER, format=format, part_rows=part_rows))

    taken = _in_turns(
        {
            "h5py + pyarrow": fresh(lambda: _plain_parquet(store, out, part_rows)),
            "parquet": ours("parquet"),
            "h5py + numpy": fresh(lambda: _plain_npy(store, out, part_rows)),
            "npy": ours("npy"),
            "npy, all there": lambda: export_parts(
                store, out, LAYER, format="npy", part_rows=part_rows
            ),
        },
        rounds,
    )
    shutil.rmtree(out)
    mb = 4 * count * dimension / 1e6
    rows = []
    for name, seconds in taken.items():
        beside = taken["h5py + pyarrow" if "parquet" in name else "h5py + numpy"]
        ratio = "" if "h5py" in name else f"{beside / seconds:.2f}"
        rows.append([name, f"{mb / seconds:,.0f}", f"{count / seconds:,.0f}", ratio])
    click.echo(table(rows, ["", "MB/s", "images/s", "x the loop"], right="MB/s images/s"))


@main.command()
@folder_argument
@click.option("--count", default=200_000, show_default=True)
@click.option("--dimension", default=512, show_default=True)
@click.option("--factory", default="IVF2048,PQ64x4fs", show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--ray/--no-ray", default=True)
@rounds_option
def index(
    folder: Path, count: int, dimension: int, factory: str, workers: int, ray: bool, rounds: int
) -> None:
    """Add the vectors of a store to a trained structure."""
    import faiss

    place = folder / "index"
    with FeatureStore(_store(folder, count, dimension)) as store:
        source = StoreVectors(store, LAYER, "cosine")
        structure = structures.make(factory, dimension, "cosine")
        structures.train(structure, store.matrix(LAYER, np.arange(0, count, 5))[1])
        trained = faiss.serialize_index(structure)
        files: dict[str, bytes] = {}

        def adding(name: str, by: Any) -> Callable[[], None]:
            def run() -> None:
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                empty = faiss.deserialize_index(trained)
                built = fill(place, source, empty, Settings(), progress=silent, workers=by)
                files[name] = (place / built.files.faiss).read_bytes()

            return run

        contestants = {
            "one process": adding("one process", None),
            f"{workers} processes": adding(f"{workers} processes", LocalWorkers(workers)),
        }
        if ray:
            import ray as module

            module.init(
                address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False
            )
            contestants[f"Ray, {workers} CPUs"] = adding("Ray", RayWorkers())
        taken = _in_turns(contestants, rounds)
    shutil.rmtree(place)
    same = len({*files.values()}) == 1
    first = taken["one process"]
    rows = [
        [name, f"{seconds:.1f}", f"{count / seconds:,.0f}", f"{first / seconds:.2f}"]
        for name, seconds in taken.items()
    ]
    click.echo(table(rows, ["", "s", "images/s", "x one process"], right="s images/s"))
    click.echo(f"the same file from all: {'yes' if same else 'NO'}")


CORE_RATE = 19.7 / 2
"""Images/s and core, VGG-16 to relu7, JPEGs to store: docs/engine.md, two cores."""
STORE_BYTES = 355
"""Of a store beside an image's features: one of 40,000 images whose paths have 16 bytes."""
INDEX_BYTES, INDEX_SECONDS = 94, 2 * 153
"""Beside an image's vector; core-seconds for a million vectors of 512: docs/search.md."""
INDEX_MEMORY = 216
"""Bytes an image at the end of building: measured with 50,000 and 150,000 images."""
CORE_HOUR = 0.04
"""Dollars that a core-hour is taken to cost, a common price of rented machines."""
SIZES = (10**4, 10**5, 10**6, 10**7, 10**8, 10**9)


@main.command(name="table")
def reckoned() -> None:
    """Print what collections of all sizes take, as docs/scale.md has it."""
    click.echo("\n".join(reckoned_lines()))


def reckoned_lines() -> list[str]:
    """Return the table in Markdown."""
    header = (
        "images", "store, 512 numbers", "store, 4,096", "extraction, core-hours", "on 2 cores",
        "on 64 cores", "at $0.04", "index, 512 numbers", "built on 2 cores", "in memory then",
    )  # fmt: skip
    lines = [f"| {' | '.join(header)} |", f"| {' | '.join(['---:'] * len(header))} |"]
    for count in SIZES:
        hours = count / CORE_RATE / 3600
        building = INDEX_SECONDS * (count / 1e6) ** 1.5 / 3600
        cells = (
            f"{count:,}", *(_bytes(count * (4 * width + STORE_BYTES)) for width in (512, 4096)),
            _number(hours), _time(hours / 2), _time(hours / 64), f"${hours * CORE_HOUR:,.2f}",
            _bytes(count * (4 * 512 + INDEX_BYTES)), _time(building / 2),
            _bytes(count * INDEX_MEMORY),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _bytes(size: float) -> str:
    power = next(power for power in (2, 3, 4) if size < 1000 ** (power + 1) or power == 4)
    return f"{size / 1000**power:.3g} {' kMGT'[power]}B"


def _time(hours: float) -> str:
    if hours < 1 / 60:
        return f"{_number(3600 * hours)} s"
    if hours < 1:
        return f"{_number(60 * hours)} min"
    return f"{_number(hours)} h" if hours < 72 else f"{hours / 24:,.0f} days"


if __name__ == "__main__":
    main()
