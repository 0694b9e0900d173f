"""What it costs to load weights, per format, and what folding batch normalisation does.

    python benchmarks/weights.py files FOLDER       a random VGG-16 in every format, 4.9 GB
    python benchmarks/weights.py load FOLDER        memory and time for conv5_3 and for fc8
    python benchmarks/weights.py inspect FOLDER     what `vggfeat weights inspect` says of each
    python benchmarks/weights.py folding            batch normalisation folded and not

`load` reads each file in a process of its own, all taking turns: the layers up to conv5_3 and all
layers, beside torch.load, and beside the protobuf library for Caffe's format. Memory is the growth
of the peak over that of a process that has imported torch and numpy. The files are in the page
cache, since they were just read once.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import torch
import torchvision

TESTS = Path(__file__).parent.parent / "tests"
sys.path.insert(0, str(TESTS))

import weight_writers as writers  # noqa: E402 (the tests' own, which are independent of vggfeat)

from vggfeat.layers import architecture  # noqa: E402
from vggfeat.weights import resolve, shapes  # noqa: E402

FILES = {
    "PyTorch": ("zip.pth", writers.torchvision),
    "PyTorch before 1.6": (
        "legacy.pth",
        lambda state, path: torch.save(dict(state), path, _use_new_zipfile_serialization=False),
    ),
    "safetensors": ("plain.safetensors", writers.safetensors),
    "timm": ("timm.safetensors", writers.timm),
    "Caffe, V1": ("v1.caffemodel", writers.caffe_v1),
    "Caffe, V2": ("v2.caffemodel", writers.caffe_v2),
    "Keras": ("keras.h5", writers.keras_released),
    "Keras without top": ("keras_notop.h5", writers.keras_notop),
    "ONNX": ("torch.onnx", writers.onnx_writers.as_torch),
    "ONNX, rows before channels": ("tf2onnx.onnx", writers.onnx_writers.as_tf2onnx),
    "MatConvNet": ("matconvnet.mat", lambda state, path: writers.matconvnet(state, path, 224)),
}
OTHERS = {
    "torch.load": ("zip.pth", "torch.load(path, weights_only=True)"),
    "torch.load, mapped": (
        "zip.pth",
        "s = torch.load(path, weights_only=True, mmap=True)\n"
        "s = {k: v.clone() for k, v in s.items() if k in asked}",
    ),
    "torch.load, before 1.6": ("legacy.pth", "torch.load(path, weights_only=True)"),
    "protobuf library": (
        "v1.caffemodel",
        "import weight_writers\n"
        "net = weight_writers.net_parameter().FromString(open(path, 'rb').read())\n"
        "s = [np.array(b.data, np.float32) for l in net.layers for b in l.blobs][: len(asked)]",
    ),
}
CONVOLUTIONS_ONLY = ("Keras without top", "protobuf library")
HEAD = """
import sys, time
sys.path.insert(0, {tests!r})
import numpy as np, torch
from vggfeat.layers import architecture
from vggfeat.weights import Weights, names
from vggfeat.preprocessing import TORCHVISION
from pathlib import Path

def peak():
    status = open("/proc/self/status").read()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024

path, deepest = sys.argv[1:]
network = architecture("vgg16")
asked = names(network.upto([deepest]))
before, start = peak(), time.perf_counter()
"""
OURS = "Weights(path, '', TORCHVISION, Path(path)).load(network, asked)"
TAIL = "\nprint(peak() - before, time.perf_counter() - start)"


@click.group()
def main() -> None:
    """Measure weights."""


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def files(folder: Path) -> None:
    """Write a random VGG-16 in every format into FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    network = architecture("vgg16")
    state = resolve("random:0", network).load(network, list(shapes(network)))
    for kind, (name, writer) in FILES.items():
        if not (folder / name).exists():
            started = time.perf_counter()
            writer(state, folder / name)
            size = (folder / name).stat().st_size
            click.echo(f"{kind}: {size / 1e6:.0f} MB in {time.perf_counter() - started:.0f} s")


@main.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--rounds", default=2, show_default=True)
def load(folder: Path, rounds: int) -> None:
    """Read the layers up to conv5_3, and all layers, of each file in FOLDER."""
    jobs = {kind: (name, OURS) for kind, (name, _) in FILES.items()} | OTHERS
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for turn in range(rounds + 1):  # the first turn fills the page cache
        for kind, (name, code) in jobs.items():
            for deepest in ("conv5_3", "fc8"):
                if kind in CONVOLUTIONS_ONLY and deepest == "fc8":
                    continue
                script = HEAD.format(tests=str(TESTS)) + code + TAIL
                done = subprocess.run(
                    [sys.executable, "-c", script, str(folder / name), deepest],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                if turn:
                    memory, seconds = map(float, done.stdout.split())
                    found.setdefault((kind, deepest), []).append((memory, seconds))
    network = architecture("vgg16")
    for deepest in ("conv5_3", "fc8"):
        count = sum(layer.parameters for layer in network.upto([deepest]))
        click.echo(f"\nup to {deepest}, {4 * count / 2**20:.0f} MiB of weights: MiB, seconds")
        for kind in jobs:
            if (kind, deepest) in found:
                memory, seconds = zip(*found[kind, deepest], strict=True)
                middle = statistics.median
                click.echo(f"{kind:22} {middle(memory):8.0f} {middle(seconds):8.2f}")


@main.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
def inspect(folder: Path) -> None:
    """Print what `vggfeat weights inspect` says of each file in FOLDER."""
    for name, _ in FILES.values():
        click.echo(f"$ vggfeat weights inspect {name}")
        subprocess.run(
            [sys.executable, "-m", "vggfeat", "weights", "inspect", name], cwd=folder, check=True
        )
        click.echo("")


@main.command()
@click.option("--images", default=8, show_default=True)
@click.option("--rounds", default=7, show_default=True)
def folding(images: int, rounds: int) -> None:
    """Compare vgg16_bn folded with torchvision's unfolded network, in numbers and in speed."""
    from vggfeat.network import Network

    table = architecture("vgg16_bn")
    weights = resolve("random:0", table)
    theirs = torchvision.models.vgg16_bn(weights=None).eval()
    missing = theirs.load_state_dict(weights.load(table, list(shapes(table))), strict=False)
    assert all(name.endswith("num_batches_tracked") for name in missing.missing_keys)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, 224, 224, 3), np.uint8)
    _errors(theirs, pixels[:1])
    theirs = theirs.float().to(memory_format=torch.channels_last)
    layers = {"relu7": ""}
    plain = architecture("vgg16")
    contestants = {
        "vgg16_bn, torchvision's, unfolded": theirs,
        "vgg16_bn, folded": Network.load(table, weights, layers, "cpu"),
        "vgg16_bn, folded, with conv5_3": Network.load(
            table, weights, {"conv5_3": "avg", "relu7": ""}, "cpu"
        ),
        "vgg16": Network.load(plain, resolve("random:0", plain), layers, "cpu"),
    }
    x = contestants["vgg16"].normalised(pixels)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, network in contestants.items():
            started = time.perf_counter()
            with torch.inference_mode():
                network(x) if network is theirs else network.run([x])
            if turn:
                times[name].append(time.perf_counter() - started)
    base = statistics.median(times["vgg16"])
    click.echo(f"\n{images} images up to relu7 (torchvision's: fc8): images/s, of vgg16's speed")
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        click.echo(f"{name:36} {images / middle:6.2f} {base / middle:6.1%}")


def _errors(theirs: torch.nn.Module, pixels: np.ndarray) -> None:
    """Print the relative error of layers to torchvision's, in float64 and unfolded."""
    from vggfeat.network import Network

    table = architecture("vgg16_bn")
    asked = ["conv1_1", "bn1_1", "relu3_3", "conv5_3", "bn5_3", "relu5_3", "fc6", "fc7", "fc8"]
    layers = {name: "none" if table.layer(name).spatial else "" for name in asked}
    ours = Network.load(table, resolve("random:0", table), layers, "cpu")
    found = ours.features(pixels)
    seen: dict[str, torch.Tensor] = {}
    theirs.double()
    for module in theirs.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
    hooks = [
        theirs.get_submodule(table.layer(name).module).register_forward_hook(
            lambda _m, _i, out, name=name: seen.update({name: out.clone()})
        )
        for name in asked
    ]
    with torch.inference_mode():
        theirs(ours.normalised(pixels).double())
    for hook in hooks:
        hook.remove()
    click.echo("relative error of vgg16_bn, folded, to torchvision's network in float64")
    for name in asked:
        error = (found[name] - seen[name]).norm() / seen[name].norm()
        click.echo(f"{name:8} {error:8.1e}")


if __name__ == "__main__":
    main()
