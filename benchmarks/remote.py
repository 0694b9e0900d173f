"""Listing and reading a source from an S3 server on loopback, beside the same on the local disk.

Photos are drawn and kept as a folder, a tar and a Parquet file, here and in a bucket of moto's S3
server, which runs as a process of its own on the same processors: it shows what the way through S3
costs, not what a network does. Each source is listed, then all of its images are read and decoded
in as many threads as `vggfeat extract` takes; places and kinds take turns.

    python benchmarks/remote.py --images 2000
"""

from __future__ import annotations

import io
import os
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from vggfeat.cli.output import table
from vggfeat.extract.storing import open_entry
from vggfeat.extract.stream import WAITING
from vggfeat.pipeline import prefetch
from vggfeat.processors import usable_cores
from vggfeat.sources import Entry, Source, open_source

READING: Any = {"max_pixels": 1 << 28, "truncated": "refuse", "value_range": "full"}
KINDS = {"folder": "photos", "tar": "photos.tar", "Parquet": "photos.parquet"}


def make(folder: Path, images: int) -> None:
    """Write photos as a folder, a tar and a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (images, 12, 16, 3), dtype=np.uint8)
    (folder / "photos").mkdir()
    rows = []
    with tarfile.open(folder / "photos.tar", "w") as tar:
        for number in range(images):
            file = io.BytesIO()
            photo = Image.fromarray(coarse[number]).resize((500, 375), Image.Resampling.BICUBIC)
            photo.save(file, "JPEG", quality=90)
            data = file.getvalue()
            name = f"{number:06d}.jpg"
            (folder / "photos" / name).write_bytes(data)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
            rows.append({"bytes": data, "path": name})
    pq.write_table(pa.table({"image": rows}), folder / "photos.parquet", row_group_size=100)


def serve() -> tuple[subprocess.Popen[bytes], str]:
    """Start the server; give its process and its address."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return server, f"http://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.1)
    raise SystemExit("The server did not start.")


def upload(folder: Path) -> None:
    """Put all there is into a bucket."""
    import boto3

    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="bench")
    for file in sorted(folder.rglob("*.*")):
        s3.upload_file(str(file), "bench", file.relative_to(folder).as_posix())


def read(source: Source) -> None:
    """Read and decode all images, as extraction does."""

    def decode(entry: Entry) -> tuple[int, int]:
        with open_entry(source, entry, READING) as image:
            return image.size

    workers = WAITING if source.distant else min(8, usable_cores())
    with closing(prefetch(decode, source.entries, workers=workers, ahead=64)) as sizes:
        if set(sizes) != {(500, 375)}:
            raise SystemExit("Another image was read.")


@click.command()
@click.option("--images", default=2000, show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(images: int, rounds: int) -> None:
    """Measure listing and reading."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make(folder, images)
        server, address = serve()
        try:
            os.environ |= {
                "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_ENDPOINT_URL": address,
                "AWS_DEFAULT_REGION": "us-east-1",
            }  # fmt: skip
            upload(folder)
            places = {"disk": scratch, "S3": "s3://bench"}
            seconds: dict[tuple[str, str, str], list[float]] = {}
            for _ in range(rounds + 1):
                for kind, name in KINDS.items():
                    for place, top in places.items():
                        start = time.perf_counter()
                        source = open_source(f"{top}/{name}")
                        listed = time.perf_counter()
                        read(source)
                        end = time.perf_counter()
                        seconds.setdefault((kind, place, "list"), []).append(listed - start)
                        seconds.setdefault((kind, place, "read"), []).append(end - listed)
        finally:
            server.terminate()
            server.wait()
    rows = []
    for kind in KINDS:
        for step in ("list", "read"):
            disk, far = (
                statistics.median(seconds[kind, place, step][1:]) for place in ("disk", "S3")
            )
            told = [f"{images / one:,.0f}" for one in (disk, far)]
            rows.append([kind, step, *told, f"{far / disk:.2f}"])
    heading = ["source", "step", "disk/s", "S3/s", "ratio"]
    click.echo(table(rows, heading, right=" ".join(heading[2:])))


if __name__ == "__main__":
    main()
