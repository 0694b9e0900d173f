"""Time the Winograd engine against ONNX Runtime and torch, in turns within one process.

Contestants, all in float32 with the same weights, inputs ready in memory:

winograd       vggfeat's engine, with the widest vectors that the processor has
winograd avx2  the same with vectors of 8 values (where the processor has wider ones)
onnxruntime    its CPU provider on torch's own export (needs `pip install ".[bench]"`)
channels_last  torch with weights and activations in channels_last
default        torch as it comes, which is what tutorials show

(vggfeat itself, where it runs torch, takes channels_last and keeps freed memory, which
benchmarks/extract.py measures.)

Batches are of 224 x 224 and run to relu7; the dense sizes, those of a photograph of 4 : 3 at scales
256 and 512, run to pool5. Medians of the turns. --layers times the convolutions one by one.
--memory runs vggfeat itself on 64 images, by either engine and in a process each, and tells how
much its memory grew at most.

    python benchmarks/cpu_engine.py --rounds 7
    python benchmarks/cpu_engine.py --rounds 7 --threads 1 --sizes 1,8
    python benchmarks/cpu_engine.py --layers [--weights FILE]
    python benchmarks/cpu_engine.py --memory
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn

from vggfeat.engine import processor
from vggfeat.engine.steps import Step
from vggfeat.engine.winograd import Winograd
from vggfeat.layers import architecture
from vggfeat.network import build
from vggfeat.processors import usable_cores
from vggfeat.weights import resolve

NETWORK = architecture("vgg16")
RANDOM = "random:0"
SIZES = {
    "1": (1, 224, 224, "relu7"),
    "8": (8, 224, 224, "relu7"),
    "32": (32, 224, 224, "relu7"),
    "dense256": (4, 256, 341, "pool5"),
    "dense512": (1, 512, 683, "pool5"),
}
Run = Callable[[Tensor], object]


def modules(layer: str, weights: str = RANDOM) -> nn.ModuleDict:
    """Return the network as far as a layer."""
    return build(NETWORK, resolve(weights, NETWORK), {layer: ""})


def spread(weights: str) -> float:
    """Return the standard deviation of what photographs put into the network, roughly."""
    spec = resolve(weights, NETWORK).preprocessing
    return 1.0 if weights == RANDOM else 60 * spec.scale / spec.std[1]


def engine(parts: nn.ModuleDict, threads: int, lanes: int) -> Winograd:
    """Return the Winograd engine with the weights of modules."""
    parameters = {
        name: (part.weight.numpy(), part.bias.numpy())
        for name, part in parts.items()
        if isinstance(part, nn.Conv2d | nn.Linear)
    }
    return Winograd(NETWORK, parameters.items(), threads=threads, lanes=lanes)


def winograd(parts: nn.ModuleDict, threads: int, lanes: int) -> dict[str, Run]:
    """Return how to run the engine to each layer."""
    own = engine(parts, threads, lanes)

    def pool5(x: Tensor) -> np.ndarray:
        found: list[np.ndarray] = []
        pixels = x.permute(0, 2, 3, 1).contiguous().numpy()
        own.maps(pixels, {"pool5"}, lambda _name, maps: found.append(maps.copy()))
        return np.concatenate(found)

    def relu7(x: Tensor) -> np.ndarray:
        rows = pool5(x).transpose(0, 3, 1, 2).reshape(len(x), -1)
        return own.connect("fc7", own.connect("fc6", rows, rectified=True), rectified=True)

    return {"pool5": lambda x: pool5(x).transpose(0, 3, 1, 2), "relu7": relu7}


def torch_network(parts: nn.ModuleDict, layout: torch.memory_format) -> dict[str, Run]:
    """Return how torch runs to each layer."""
    names = list(parts)

    def run(x: Tensor, layer: str) -> Tensor:
        # Weights change their layout before the clock starts: the first run is not counted.
        parts.to(memory_format=layout)
        with torch.inference_mode():
            for name in names[: names.index(layer) + 1]:
                x = parts[name](x)
        return x

    return {layer: lambda x, layer=layer: run(x, layer) for layer in ("pool5", "relu7")}


def onnx_network(parts: nn.ModuleDict, threads: int, folder: Path) -> dict[str, Run]:
    """Return how ONNX Runtime runs to each layer."""
    import onnxruntime

    found = {}
    names = list(parts)
    for layer in ("pool5", "relu7"):
        path = folder / f"{layer}.onnx"
        whole = nn.Sequential(*(parts[name] for name in names[: names.index(layer) + 1])).eval()
        for module in whole.modules():
            if isinstance(module, nn.Sequential) and isinstance(module[0], nn.AdaptiveAvgPool2d):
                module[0] = nn.Identity()  # of inputs of 224 it changes nothing, and exports badly
        axes = {"x": {0: "batch", 2: "height", 3: "width"} if layer == "pool5" else {0: "batch"}}
        torch.onnx.export(
            whole, (torch.zeros(1, 3, 224, 224),), str(path),
            input_names=["x"], dynamic_axes=axes, dynamo=False,
        )  # fmt: skip
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        found[layer] = lambda x, session=session: session.run(None, {"x": x.numpy()})[0]
    return found


def contest(threads: int, sizes: list[str], rounds: int, lanes: list[int]) -> dict[str, dict]:
    """Let the contestants take turns; return images a second by size and contestant."""
    torch.set_num_threads(threads)
    parts, plain = modules("relu7"), modules("relu7")
    with tempfile.TemporaryDirectory() as folder:
        runners = {
            "winograd" + (" avx2" if wide == 8 and lanes[0] != 8 else ""): winograd(
                parts, threads, wide
            )
            for wide in lanes
        }
        if find_spec("onnxruntime") and find_spec("onnx"):
            runners["onnxruntime"] = onnx_network(modules("relu7"), threads, Path(folder))
        runners["channels_last"] = torch_network(parts, torch.channels_last)
        runners["default"] = torch_network(plain, torch.contiguous_format)
    found: dict[str, dict] = {}
    for size in sizes:
        count, height, width, layer = SIZES[size]
        x = torch.randn(count, 3, height, width)
        inputs = dict.fromkeys(runners, x)
        for name in runners:
            if name.startswith("winograd") or name == "channels_last":  # as images are decoded
                inputs[name] = x.to(memory_format=torch.channels_last)
        truth = np.asarray(runners["default"][layer](x))
        seconds: dict[str, list[float]] = {name: [] for name in runners}
        for turn in range(rounds + 1):  # the first is for warming up
            for name, run in runners.items():
                time.sleep(0.1)  # until the threads of the one before have stopped spinning
                began = time.perf_counter()
                out = np.asarray(run[layer](inputs[name]))
                if turn:
                    seconds[name].append(time.perf_counter() - began)
                error = np.linalg.norm(out - truth) / np.linalg.norm(truth)
                assert error < 1e-5, f"{name}: {error}"
        found[size] = {name: count / statistics.median(times) for name, times in seconds.items()}
        rates = "  ".join(f"{name} {rate:.2f}" for name, rate in found[size].items())
        click.echo(f"{size}: {rates}", err=True)
    return found


def layer_times(
    threads: int, rounds: int, count: int, weights: str
) -> list[tuple[str, float, float, float]]:
    """Time the convolutions; return name, both engines' milliseconds an image, and GFLOP/s."""
    torch.set_num_threads(threads)
    parts = modules("pool5", weights)
    own = engine(parts, threads, processor.widths()[0])
    x = torch.randn(count, 3, 224, 224) * spread(weights)
    pixels = x.permute(0, 2, 3, 1).contiguous().numpy()
    parts.to(memory_format=torch.channels_last)
    ours: dict[tuple[str, ...], list[float]] = defaultdict(list)
    theirs: dict[str, list[float]] = defaultdict(list)
    steps: dict[tuple[str, ...], Step] = {}
    for turn in range(rounds + 1):
        total: dict[tuple[str, ...], float] = defaultdict(float)

        def observe(step: Step, seconds: float, total: dict = total) -> None:
            steps[step.layers] = step
            total[step.layers] += seconds

        own.maps(pixels, {"pool5"}, lambda _name, _maps: None, observe=observe)
        y = x.to(memory_format=torch.channels_last)
        with torch.inference_mode():
            for name, part in parts.items():
                began = time.perf_counter()
                y = part(y)
                if turn:
                    theirs[name].append(time.perf_counter() - began)
        for names, seconds in total.items() if turn else ():
            ours[names].append(seconds)
    rows = []
    for names, times in ours.items():
        mine = 1000 * statistics.median(times) / count
        other = sum(1000 * statistics.median(theirs[n]) / count for n in names if n in theirs)
        step = steps[names]
        flops = 2 * 36 * step.inputs * step.outputs * step.tiles_of(1)
        rows.append(
            (" + ".join(names), mine, other, flops / mine / 1e6 if step.kind == "winograd" else 0)
        )
    return rows


def matrices(rounds: int) -> float:
    """Return the GFLOP/s of a large product of matrices, the best of some turns."""
    a, b = torch.randn(2, 4096, 4096)
    best = float("inf")
    for _ in range(rounds + 1):
        began = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - began)
    return 2 * 4096**3 / best / 1e9


MEMORY = """
import sys
import numpy as np
from vggfeat import FeatureExtractor
def resident(key):
    status = open("/proc/self/status").read()
    return int(status.partition(key + ":")[2].split()[0]) / 1024
layer, engine = sys.argv[1:]
images = np.random.default_rng(0).integers(0, 256, (64, 224, 224, 3), np.uint8)
extractor = FeatureExtractor(weights="random:0", layers=layer, device="cpu", engine=engine)
if engine == "winograd":  # libraries are no activations
    from llvmlite import binding
import torch
before = resident("VmRSS")
extractor(images)
print(resident("VmHWM") - before)
"""
"""A program that tells by how many MiB its memory grew."""


def start() -> None:
    """Print what the engine's start takes, in processes of their own: kernels and numba."""
    kernels = (
        "import time; from vggfeat.engine import machine_code, processor, target; "
        "own = target.targets(processor.widths()[0])[0]; began = time.perf_counter(); "
        "machine_code.kernels_for(own); print(time.perf_counter() - began)"
    )
    numba = (  # as its dispatchers do before the first kernel runs, whether or not it is kept
        "import time; began = time.perf_counter(); from numba.core.registry import cpu_target; "
        "cpu_target.typing_context.refresh(); cpu_target.target_context.refresh(); "
        "print(time.perf_counter() - began)"
    )
    for what, program in {"kernels loaded": kernels, "numba made ready": numba}.items():
        taken = []
        for _ in range(6):  # the first compiles and fills caches
            command = [sys.executable, "-c", program]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            taken.append(float(done.stdout))
        click.echo(f"{what:18} {min(taken[1:]):.2f} to {max(taken[1:]):.2f} s")


def peaks() -> None:
    """Print the peak memory of both engines."""
    click.echo("layer    engine    MiB, weights and features included")
    for layer in ("conv5_3", "relu7"):
        for engine in ("torch", "winograd"):
            command = [sys.executable, "-c", MEMORY, layer, engine]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            click.echo(f"{layer:8} {engine:9} {float(done.stdout):.0f}")


@click.command()
@click.option("--rounds", default=7, show_default=True)
@click.option("--threads", default=usable_cores(), show_default="processors")
@click.option("--sizes", default=",".join(SIZES), show_default=True)
@click.option("--layers", is_flag=True, help="Time the convolutions one by one, batches of 8.")
@click.option("--weights", default=RANDOM, show_default=True, help="Of --layers: those of a file.")
@click.option("--start", "only_start", is_flag=True, help="Time the start: kernels, and numba.")
@click.option("--memory", is_flag=True, help="Compare peak memory.")
@click.option("--json", "as_json", is_flag=True)
def main(
    rounds: int,
    threads: int,
    sizes: str,
    layers: bool,
    weights: str,
    only_start: bool,
    memory: bool,
    as_json: bool,
) -> None:
    """Measure the Winograd engine."""
    if weights != RANDOM and not layers:
        raise click.UsageError("--weights is for --layers.")
    if only_start:
        start()
        return
    if memory:
        peaks()
        return
    click.echo(f"{threads} threads, torch {torch.__version__}, medians of {rounds}")
    if layers:
        click.echo(f"{'layers':32} winograd ms  torch ms  times  GFLOP/s of products")
        rows = layer_times(threads, rounds, 8, weights)
        for name, mine, other, flops in rows:
            ratio = f"{other / mine:6.1f}" if other else " " * 6
            click.echo(f"{name:32} {mine:11.2f} {other:9.2f} {ratio} {flops or 0:10.0f}")
        ours, theirs = (sum(row[column] for row in rows) for column in (1, 2))
        click.echo(f"{'all':32} {ours:11.2f} {theirs:9.2f} {theirs / ours:6.1f}")
        peak = matrices(rounds)
        alone = sum(mine * flops for _, mine, _, flops in rows) / peak
        click.echo(
            f"torch multiplies matrices of 4096 at {peak:.0f} GFLOP/s, at which the products alone "
            f"would take {alone:.2f} ms: {1000 / alone:.1f} images/s, of which these are "
            f"{alone / ours:.0%}"
        )
        return
    found = contest(threads, sizes.split(","), rounds, list(processor.widths()))
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    names = list(next(iter(found.values())))
    click.echo("images/s   " + "  ".join(f"{name:>13}" for name in names) + "  x ORT  x default")
    for size, rates in found.items():
        ours = rates["winograd"]
        click.echo(
            f"{size:10} "
            + "  ".join(f"{rates[name]:13.2f}" for name in names)
            + f"  {ours / rates.get('onnxruntime', np.nan):5.2f}  {ours / rates['default']:9.2f}"
        )


if __name__ == "__main__":
    main()
