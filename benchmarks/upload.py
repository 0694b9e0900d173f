"""How long the page takes to answer an upload: by the engine that it chooses, and by torch's.

Two servers of one index (made by benchmarks/start.py in FOLDER: 200 photos, VGG-16's conv5_3) are
asked in turns, for photos of 500 x 375 and of 12 megapixels, over loopback; medians in ms::

    python benchmarks/upload.py FOLDER [--rounds 20]
"""

from __future__ import annotations

import io
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import click
import httpx
from decoding import SIZES, jpegs
from PIL import Image
from start import prepare

from vggfeat.cli.output import table
from vggfeat.images import decode


def serve(folder: Path, engine: str, stack: ExitStack) -> str:
    """Start a server; return its address."""
    command = [sys.executable, "-m", "vggfeat", "serve", "photos.index", "--port", "0"]
    server = subprocess.Popen(
        [*command, "--engine", engine], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    stack.callback(server.terminate)
    assert server.stdout is not None
    return server.stdout.readline().split(" at ")[1].split()[0]


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--rounds", default=20, show_default=True)
def main(folder: Path, rounds: int) -> None:
    """Upload photos to both servers in turns."""
    prepare(folder)
    rows = []
    with ExitStack() as stack:
        addresses = {engine: serve(folder, engine, stack) for engine in ("auto", "torch")}
        client = stack.enter_context(httpx.Client(timeout=60, trust_env=False))
        for name, size in SIZES.items():
            file = jpegs(size, 1)[0]
            taken: dict[str, list[float]] = {engine: [] for engine in addresses}
            for number in range(rounds + 1):
                for engine, address in addresses.items():
                    start = time.perf_counter()
                    image = {"image": ("a.jpg", file)}
                    client.post(f"{address}api/search", files=image).raise_for_status()
                    if number:
                        taken[engine].append(1000 * (time.perf_counter() - start))
            decoded = []
            for _ in range(rounds):
                start = time.perf_counter()
                decode(io.BytesIO(file)).resize((341, 256), Image.Resampling.BILINEAR)
                decoded.append(1000 * (time.perf_counter() - start))
            middle = {engine: statistics.median(each) for engine, each in taken.items()}
            shown = [f"{middle[engine]:.0f}" for engine in addresses]
            times = f"{middle['torch'] / middle['auto']:.2f}"
            rows.append([name, *shown, times, f"{statistics.median(decoded):.0f}"])
    columns = [*addresses, "times", "decoding, resizing alone"]
    click.echo(table(rows, ["photo", *columns], right=" ".join(columns)))


if __name__ == "__main__":
    main()
