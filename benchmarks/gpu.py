"""What a GPU gives: exactness, speed, memory, and the way from JPEGs to a store, in a few minutes.

    pip install "vggfeat[dev]"
    python benchmarks/gpu.py OUT [--device cuda] [--seconds 300] [--only speed,journey]

It runs on a bare machine, without network or files: weights are drawn (random:0), photos are parts
of scikit-learn's two samples. Each section stands alone: one that fails is noted with its error, or
that no time was left, and the others run. OUT/gpu.json has all figures, OUT/gpu.md
tables of them.

tests      the suite's tests that need a GPU
exactness  each layer's features in float32, bfloat16 and float16, against float64 on the CPU:
           |a - b| / |b| (L2), the worst image
speed      images a second on tensors that are ready, plain, mirrored and dense, beside the loop
           that people write (the same modules in the default layout) in the same precision; the
           share of the rate at which this device multiplies large matrices in that precision
capture    the same with CUDA graphs, and compiled by torch
retreat    batches that do not fit: the same features in halves
decoding   JPEGs a second by Pillow and by the GPU's decoder, and how far their pixels differ
journey    from JPEGs to a store, by the number of threads that decode
"""

from __future__ import annotations

import io
import json
import logging
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from vggfeat import FeatureExtractor
from vggfeat.cli.output import table
from vggfeat.devices import TYPES, chunk_size
from vggfeat.layers import architecture
from vggfeat.network import Network
from vggfeat.pooling import parse_layers
from vggfeat.weights import resolve

Figures = dict[str, Any]
Pixels = NDArray[np.uint8]
LAYERS = ("relu7", "conv5_3")
WAYS = {"plain": 1, "mirrored": 2, "dense": 1}
"""Ways to run, and how many inputs each image then has."""


@dataclass
class Machine:
    """Where it runs, how much, and until when.

    Attributes
    ----------
    device : torch.device
        That is measured.
    model : str
        Which network.
    small : bool
        Run everything once, on little, to see that it runs.
    end : float
        When no further section begins, by :func:`time.monotonic`.
    """

    device: torch.device
    model: str
    small: bool
    end: float
    photos: list[Image.Image] = field(default_factory=list)

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU of NVIDIA's."""
        return self.device.type == "cuda"

    @property
    def precisions(self) -> list[str]:
        """Those whose speed is measured: CPUs are too slow in float16."""
        return [one for one in TYPES if self.on_gpu or one != "float16"]

    def network(self, layers: str, precision: str, device: str = "") -> Network:
        """Return a network with drawn weights; layers are pooled by their average."""
        table_ = architecture(self.model)
        asked = parse_layers(layers, "avg", table_)
        weights = resolve("random:0", table_)
        return Network.load(
            table_, weights, asked, device or str(self.device), precision, engine="torch"
        )

    def inputs(self, count: int, side: int) -> list[Pixels]:
        """Return parts of photographs as network inputs."""
        rng = np.random.default_rng(0)
        found = []
        for number in range(count):
            photo = self.photos[number % len(self.photos)]
            left, top = (int(rng.integers(0, size - side + 1)) for size in photo.size)
            found.append(np.asarray(photo.crop((left, top, left + side, top + side))))
        return found

    def wait(self) -> None:
        """Wait until the device has done what it was given."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def rate(self, work: Callable[[], object], images: int) -> float:
        """Return images a second: the median of several turns of at least a tenth of a second."""
        work()
        self.wait()
        turns = []
        for _ in range(1 if self.small else 5):
            start, count = time.perf_counter(), 0
            while count == 0 or (time.perf_counter() - start < 0.1 and not self.small):
                work()
                self.wait()
                count += 1
            turns.append(count * images / (time.perf_counter() - start))
        return statistics.median(turns)

    @contextmanager
    def peak(self, told: Figures) -> Iterator[None]:
        """Note the most memory that the device held within a block, in MiB."""
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        yield
        if self.on_gpu:
            told["peak_mib"] = round(torch.cuda.max_memory_allocated(self.device) / 2**20)


@contextmanager
def tried(told: Figures, name: str) -> Iterator[None]:
    """Note why something does not work here, and go on."""
    try:
        yield
    except Exception as error:
        told[f"{name} failed"] = f"{type(error).__name__}: {error}".splitlines()[0]


def tests(_machine: Machine) -> Figures:
    """Run the suite's tests that need a GPU."""
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "gpu"]
    root = Path(__file__).parent.parent
    files = [str(root / "tests" / name) for name in ("test_network.py", "test_dense.py")]
    done = subprocess.run([*words, *files], capture_output=True, text=True, cwd=root, check=False)
    return {"status": done.returncode, "said": done.stdout.strip().splitlines()[-1:]}


def exactness(machine: Machine) -> Figures:
    """Compare layers with float64 on the CPU."""
    layers = "conv1_1,relu2_2,conv3_3,conv4_3,conv5_3,relu5_3:max,fc6,relu7"
    images = machine.inputs(2 if machine.small else 8, 64 if machine.small else 224)
    exact = machine.network(layers, "float32", "cpu")
    exact.modules.double()
    truth = exact.run([exact.normalised(images).double()])
    told: Figures = {name: {} for name in truth}
    for precision in TYPES:
        network = machine.network(layers, precision)
        for name, rows in network.features(images).items():
            apart = (rows.cpu().double() - truth[name]).flatten(1).norm(dim=1)
            told[name][precision] = float((apart / truth[name].flatten(1).norm(dim=1)).max())
    return told


def _matrices(machine: Machine, precision: str) -> float:
    """Return the operations a second of a large product of matrices, a multiply-add being two."""
    side = 256 if machine.small else 8192
    a, b = (torch.randn(side, side, device=machine.device, dtype=TYPES[precision]) for _ in "ab")
    with torch.inference_mode():
        return machine.rate(lambda: a @ b, 1) * 2 * side**3


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Let convolutions run in TF32, or not, within a block."""
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "tf32" if allowed else "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before


def speed(machine: Machine) -> Figures:
    """Measure ready inputs, beside the plain loop."""
    told: Figures = {}
    batch = 2 if machine.small else 128
    table_ = architecture(machine.model)
    usual = 64 if machine.small else 224
    for precision in machine.precisions:
        peak = _matrices(machine, precision)
        for layer in LAYERS:
            network = machine.network(layer, precision)
            plain = nn.Sequential(*network.modules.values()).to(
                memory_format=torch.contiguous_format
            )
            for way, copies in WAYS.items():
                side = usual * 3 // 2 if way == "dense" else usual
                x = network.normalised(machine.inputs(batch, side)).repeat(copies, 1, 1, 1)
                own: Figures = {}
                chunk = chunk_size(machine.device, side, side)
                with machine.peak(own):
                    own["vggfeat"] = machine.rate(
                        lambda x=x, n=network, c=chunk, d=way == "dense": n.run(
                            x.split(c), dense=d
                        ),
                        batch,
                    )
                work = 2 * table_.multiply_adds(layer) * own["vggfeat"] * copies
                if way != "dense":
                    own["share_of_matrices"] = work / peak
                    usual_layout = x.contiguous(memory_format=torch.contiguous_format)
                    for title, tf32 in {"loop": False, "loop, TF32": True}.items():
                        if tf32 and not (machine.on_gpu and precision == "float32"):
                            continue  # what torch does by default, in less than float32
                        with torch.inference_mode(), _tf32(tf32):
                            own[title] = machine.rate(lambda p=plain, x=usual_layout: p(x), batch)
                told[f"{layer}, {way}, {precision}"] = own
        told[f"matrices, {precision}"] = {"tflops": peak / 1e12}
    return told


def capture(machine: Machine) -> Figures:
    """Try CUDA graphs and torch's compiler on what runs plainly."""
    told: Figures = {}
    for count in (1,) if machine.small else (1, 16, 128):
        network = machine.network("relu7", "float32" if machine.small else "bfloat16")
        x = network.normalised(machine.inputs(count, 64 if machine.small else 224))
        plain = nn.Sequential(*network.modules.values())
        own: Figures = {}
        with torch.inference_mode():
            own["plain"] = machine.rate(lambda p=plain, x=x: p(x), count)
            if machine.on_gpu:
                with tried(own, "compiled"):
                    compiled = torch.compile(plain)
                    own["compiled"] = machine.rate(lambda p=compiled, x=x: p(x), count)
                with tried(own, "graph"):
                    graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(graph):
                        plain(x)
                    own["graph"] = machine.rate(graph.replay, count)
        told[f"{count} images"] = own
    return told


def retreat(machine: Machine) -> Figures:
    """Run a batch that does not fit, and compare with one that does."""
    network = machine.network("relu7", "float32")
    images = machine.inputs(4 if machine.small else 128, 64 if machine.small else 224)
    expected = network.features(images)["relu7"].cpu()
    warned: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warned.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("vggfeat")
    log.addHandler(handler)
    try:
        if machine.on_gpu:
            torch.cuda.empty_cache()
            _, total = torch.cuda.mem_get_info(machine.device)
            held = torch.cuda.memory_allocated(machine.device)
            torch.cuda.set_per_process_memory_fraction((held + (1 << 30)) / total, machine.device)
        found = network.features_with_oom_retry(images)["relu7"].cpu()
    finally:
        log.removeHandler(handler)
        if machine.on_gpu:
            torch.cuda.set_per_process_memory_fraction(1.0, machine.device)
    return {"halvings": len(warned), "error": float((found - expected).norm() / expected.norm())}


def _jpegs(machine: Machine, count: int, size: tuple[int, int]) -> list[bytes]:
    found = []
    for number in range(count):
        file = io.BytesIO()
        photo = machine.photos[number % len(machine.photos)].rotate(number)
        photo.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
    return found


def decoding(machine: Machine) -> Figures:
    """Decode by Pillow on one core, and on the GPU."""
    from torchvision.io import decode_jpeg

    told: Figures = {}
    sizes = {(100, 75): 2} if machine.small else {(500, 375): 64, (4000, 3000): 8}
    for size, count in sizes.items():
        files = _jpegs(machine, count, size)
        given = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]

        def by_pillow(files: list[bytes] = files) -> list[Image.Image]:
            return [Image.open(io.BytesIO(file)).convert("RGB") for file in files]

        def by_torchvision(given: list[Tensor] = given) -> list[Tensor]:
            where = str(machine.device)
            return [one.cpu() for one in decode_jpeg(given, device=where)] if machine.on_gpu else [
                decode_jpeg(one) for one in given
            ]  # fmt: skip

        own: Figures = {"pillow": machine.rate(by_pillow, len(files))}
        with tried(own, "torchvision"):  # not all builds have the GPU's decoder
            apart = [
                np.abs(np.asarray(a, np.int16) - b.permute(1, 2, 0).numpy().astype(np.int16))
                for a, b in zip(by_pillow(), by_torchvision(), strict=True)
            ]
            own["torchvision"] = machine.rate(by_torchvision, len(files))
            own["mean_difference"] = float(np.mean([one.mean() for one in apart]))
            own["largest_difference"] = int(max(one.max() for one in apart))
        told[f"{size[0]} x {size[1]}"] = own
    return told


def journey(machine: Machine) -> Figures:
    """Extract a folder of JPEGs into a store."""
    told: Figures = {}
    count = 4 if machine.small else 2000
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        for number, file in enumerate(_jpegs(machine, min(count, 100), (500, 375))):
            for copy in range(number, count, 100):
                (photos / f"{copy:05d}.jpg").write_bytes(file)
        for precision in ("float32", "bfloat16"):
            for workers in (1, 2) if machine.small else (1, 2, 4, 8, 16):
                if time.monotonic() > machine.end:
                    break
                extractor = FeatureExtractor(
                    machine.model, "random:0", "relu7", device=str(machine.device),
                    precision=precision, workers=workers, engine="torch",
                )  # fmt: skip
                extractor(machine.photos)  # the network is there, and has run
                start = time.perf_counter()
                summary = extractor.extract(
                    photos, Path(folder) / "s.h5", overwrite=True, progress=False
                )
                assert summary.done == count
                told[f"{precision}, {workers} threads"] = {
                    "images_per_second": count / (time.perf_counter() - start)
                }
    return told


SECTIONS: dict[str, Callable[[Machine], Figures]] = {
    one.__name__: one for one in (tests, exactness, speed, retreat, journey, decoding, capture)
}


def as_text(told: Figures) -> str:
    """Return all figures as tables."""
    parts = ["\n".join(f"{name}: {value}" for name, value in told["machine"].items())]
    for name in SECTIONS:
        own = told.get(name)
        if not own:
            continue
        if not all(isinstance(value, dict) for value in own.values()):
            parts.append(f"{name}: " + ", ".join(f"{key} {value}" for key, value in own.items()))
            continue
        columns = list(dict.fromkeys(key for row in own.values() for key in row))
        rows = [[key, *(_shown(row.get(c)) for c in columns)] for key, row in own.items()]
        parts.append(table(rows, [name, *columns], right=" ".join(columns)))
    return "\n\n".join(parts) + "\n"


def _shown(value: float | str | None) -> str:
    if not isinstance(value, int | float):
        return value or ""
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--device", default="cuda", show_default=True)
@click.option("--seconds", default=300, show_default=True, help="No section begins after these.")
@click.option("--only", default=",".join(SECTIONS), show_default=True, metavar="SECTION,...")
@click.option("--small", is_flag=True, help="A small network, once: to see that all of it runs.")
def main(out: Path, device: str, seconds: int, only: str, small: bool) -> None:
    """Measure a device and write OUT/gpu.json and OUT/gpu.md."""
    out.mkdir(parents=True, exist_ok=True)
    machine = Machine(
        torch.device(device), "vgg16-tiny" if small else "vgg16", small,
        time.monotonic() + seconds, [Image.fromarray(one) for one in load_sample_images().images],
    )  # fmt: skip
    name = torch.cuda.get_device_name(machine.device) if machine.on_gpu else platform.processor()
    told: Figures = {
        "machine": {"device": name or device, "torch": torch.__version__, "cpus": _cpus()}
    }
    for section in only.split(","):
        start = time.monotonic()
        if start > machine.end:
            told[section] = {"not run": f"the {seconds} s were over"}
            continue
        try:
            told[section] = SECTIONS[section](machine)
        except Exception as error:
            told[section] = {"failed": f"{type(error).__name__}: {error}"}
        click.echo(f"{section}: {time.monotonic() - start:.0f} s", err=True)
        (out / "gpu.json").write_text(json.dumps(told, indent=1))
        (out / "gpu.md").write_text(as_text(told))
    click.echo(as_text(told), nl=False)


def _cpus() -> int:
    from vggfeat.processors import usable_cores

    return usable_cores()


if __name__ == "__main__":
    main()
