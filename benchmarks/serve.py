"""Clients that search an index over loopback, all at once: errors, latency, answers a second.

python benchmarks/serve.py [--clients 20] [--seconds 60] [--images 2000] [--idle 1000]

Beside them, --idle connections have sent half a request and nothing more; each one that the server
lets go is opened again at once. Each client in turn uploads a photo and searches for the first
image found, then fetches ten of its thumbnails. The network is vgg16-tiny with its trained weights,
the photos are parts of scikit-learn's two sample photographs. At the end, --large
PNGs of 49 megapixels are uploaded at once.
"""

from __future__ import annotations

import argparse
import io
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from vggfeat import FeatureExtractor, FeatureStore, SimilarityIndex


def make(folder: Path, images: int) -> Path:
    """Make photos, their store and their index."""
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    (folder / "photos").mkdir()
    for number in range(images):
        left, top = int(rng.integers(0, 300)), int(rng.integers(0, 180))
        part = photos[number % 2].crop((left, top, left + 320, top + 240))
        part.save(folder / "photos" / f"{number:05d}.jpg", quality=90)
    extractor = FeatureExtractor("vgg16-tiny", layers="pool5", device="cpu")
    extractor.extract(folder / "photos", folder / "s.h5", progress=False)
    with FeatureStore(folder / "s.h5") as store:
        SimilarityIndex.build(store, "pool5", path=folder / "photos.index")
    return folder / "photos.index"


class Clients:
    """What all clients saw."""

    def __init__(self, address: str, photos: list[bytes], end: float) -> None:
        self.address, self.photos, self.end = address, photos, end
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.errors: list[str] = []

    def one(self, number: int) -> None:
        """Ask until the end."""
        with httpx.Client(base_url=self.address, timeout=60, trust_env=False) as client:
            while time.monotonic() < self.end:
                number = (number + 7) % len(self.photos)
                image = {"image": ("a.jpg", self.photos[number])}
                found = self.timed("upload", client, "POST", "/api/search", files=image)
                if found is None:
                    continue
                image_id = found.json()["neighbours"][0]["id"]
                self.timed("by id", client, "POST", "/api/search", data={"id": image_id})
                for one in found.json()["neighbours"][:10]:
                    self.timed("thumbnail", client, "GET", f"/api/thumbnail/{one['id']}")

    def timed(self, kind: str, client: httpx.Client, *request, **form) -> httpx.Response | None:
        """Make a request and note how long it took."""
        start = time.perf_counter()
        try:
            answer = client.request(*request, **form)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            self.errors.append(f"{kind}: {error!r}")
            return None
        self.seconds[kind].append(time.perf_counter() - start)
        return answer


class Idlers:
    """Connections that keep the server waiting, until the end."""

    def __init__(self, address: str, count: int, end: float) -> None:
        self.url, self.end = httpx.URL(address), end
        self.opened = self.refused = 0
        self.selector = selectors.DefaultSelector()
        for _ in range(count):
            self.open()

    def open(self) -> None:
        """Send half a request."""
        half = socket.create_connection((self.url.host, self.url.port), timeout=60)
        half.sendall(b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Le")
        half.setblocking(False)
        self.selector.register(half, selectors.EVENT_READ)
        self.opened += 1

    def run(self) -> None:
        """Open those again that the server closes."""
        while time.monotonic() < self.end:
            for key, _ in self.selector.select(0.1):
                half = key.fileobj
                try:
                    answer = half.recv(4096)
                    self.refused += answer.startswith(b"HTTP/1.1 503")
                except OSError:
                    answer = b""
                if not answer:
                    self.selector.unregister(half)
                    half.close()
                    self.open()
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()


def upload_large(address: str, count: int) -> list[int]:
    """Upload so many PNGs of 7,000 x 7,000 pixels at once; return the statuses."""
    file = io.BytesIO()
    Image.new("RGB", (7000, 7000), "teal").save(file, "PNG", compress_level=1)
    statuses: list[int] = []

    def one() -> None:
        image = {"image": ("a.png", file.getvalue())}
        answer = httpx.post(f"{address}api/search", files=image, timeout=600, trust_env=False)
        statuses.append(answer.status_code)

    jobs = [threading.Thread(target=one) for _ in range(count)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    return statuses


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--idle", type=int, default=0)
    parser.add_argument("--large", type=int, default=0)
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    usual = (min(1024, hard), hard)  # for the server
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    with tempfile.TemporaryDirectory() as name:
        index = make(Path(name), options.images)
        photos = [file.read_bytes() for file in sorted((Path(name) / "photos").iterdir())]
        command = [sys.executable, "-m", "vggfeat", "serve", str(index), "--port", "0"]
        server = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, usual),
        )
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split(" at ")[1].split()[0]
            end = time.monotonic() + options.seconds
            idlers = Idlers(address, options.idle, end)
            clients = Clients(address, photos, end)
            jobs = [threading.Thread(target=idlers.run)]
            jobs += [
                threading.Thread(target=clients.one, args=(n,)) for n in range(options.clients)
            ]
            for job in jobs:
                job.start()
            for job in jobs:
                job.join()
            large = upload_large(address, options.large)
            status = Path(f"/proc/{server.pid}/status").read_text()
        finally:
            server.terminate()
            _, log = server.communicate()
    print(f"{options.clients} clients, {options.seconds:.0f} s, {options.images} images")
    if options.idle:
        print(
            f"{options.idle} idle connections at a time, {idlers.opened} in all, "
            f"{idlers.refused} refused; the server's log has {len(log.splitlines())} lines"
        )
    if large:
        print(f"{options.large} PNGs of 49 megapixels at once: status {sorted(set(large))}")
    print(f"errors: {len(clients.errors)} {clients.errors[:3]}")
    for kind, seconds in clients.seconds.items():
        p50, p95, p99 = 1000 * np.percentile(seconds, [50, 95, 99])
        print(
            f"{kind:10} {len(seconds) / options.seconds:7.1f}/s  "
            f"p50 {p50:.0f}  p95 {p95:.0f}  p99 {p99:.0f} ms"
        )
    print(f"peak memory of the server: {int(status.partition('VmHWM:')[2].split()[0]) >> 10} MiB")
    print(f"stopped with status {server.returncode}")


if __name__ == "__main__":
    main()
