"""Measure extraction against the loop that people write and against the bare network.

Contestants, each in a process of its own, take turns on the same images, a portion at a time, so
that a machine whose speed drifts is equally unkind to all:

loop      what tutorials show: Pillow and torchvision's transforms, one image after the other,
          batches of 32, torchvision's whole network in its default memory layout, a hook
vggfeat   FeatureExtractor.extract: folder in, store out; by the Winograd engine where it can run
torch     the same by torch
ready     the network that vggfeat runs, on tensors that are ready in memory; nothing else
decode    vggfeat's decoding, resizing and cropping, on all processors; nothing else
returned  as torch's part of ready, with the C library's habit of returning freed memory

    python benchmarks/extract.py --images 256 --layers relu7,conv5_3
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np
from PIL import Image

MODULES = {"relu7": "classifier.4", "conv5_3": "features.28"}
PORTION = 64  # images in one turn: whole batches for all contestants
Run = Callable[[Path], None]


def make_images(folder: Path, portions: int) -> None:
    """Write photograph-like JPEGs of 500 x 375 pixels, in one sub-folder a portion."""
    rng = np.random.default_rng(0)
    for portion in range(portions):
        (folder / f"{portion:02d}").mkdir(parents=True)
        for number in range(PORTION):
            coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
            smooth = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
            noise = rng.normal(scale=12, size=(375, 500, 1))
            pixels = np.uint8(np.clip(np.asarray(smooth) + noise, 0, 255))
            Image.fromarray(pixels).save(folder / f"{portion:02d}" / f"{number}.jpg", quality=90)


def loop(layer: str) -> Run:
    """Return the loop that people write."""
    import torch
    import torchvision
    from torchvision import transforms

    model = torchvision.models.vgg16(weights=None).eval()
    transform = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    features = []
    model.get_submodule(MODULES[layer]).register_forward_hook(
        lambda _module, _inputs, output: features.append(output.detach().clone().cpu())
    )

    def run(folder: Path) -> None:
        paths = sorted(folder.iterdir())
        features.clear()
        for start in range(0, len(paths), 32):
            images = [Image.open(path).convert("RGB") for path in paths[start : start + 32]]
            with torch.no_grad():
                model(torch.stack([transform(image) for image in images]))
        found = torch.cat(features)
        np.save(folder.parent / "loop.npy", (found.mean((2, 3)) if found.ndim == 4 else found))

    return run


def vggfeat(layer: str, engine: str = "auto") -> Run:
    """Return extraction into a store."""
    from vggfeat import FeatureExtractor

    extractor = FeatureExtractor(weights="random:0", layers=[layer], device="cpu", engine=engine)

    def run(folder: Path) -> None:
        summary = extractor.extract(
            folder, folder.parent / f"vggfeat-{engine}.h5", overwrite=True, progress=False
        )
        assert summary.done == PORTION

    return run


def ready(layer: str, engine: str = "auto") -> Run:
    """Return the same network on tensors in memory."""
    import torch

    from vggfeat import FeatureExtractor
    from vggfeat.devices import chunk_size, default_batch_size

    extractor = FeatureExtractor(weights="random:0", layers=[layer], device="cpu", engine=engine)
    network = extractor.network
    extractor.hint_workload(PORTION)
    size = default_batch_size(torch.device("cpu"), 224)
    chunk = chunk_size(torch.device("cpu"), 224, 224)
    inputs = torch.randn(size, 3, 224, 224).to(memory_format=torch.channels_last)

    def run(_folder: Path) -> None:
        for _ in range(PORTION // size):
            network.run(inputs.split(chunk))

    return run


def decode(_layer: str) -> Run:
    """Return decoding and cutting alone."""
    from vggfeat import FeatureExtractor
    from vggfeat.pipeline import prefetch
    from vggfeat.processors import usable_cores

    extractor = FeatureExtractor(weights="random:0", device="cpu")
    spec = extractor.resolved_weights.preprocessing

    def prepare(path: Path) -> object:
        with extractor.open_image(path) as image:
            return extractor.resolved_view.inputs(image, spec)

    def run(folder: Path) -> None:
        workers = usable_cores()
        inputs = prefetch(prepare, sorted(folder.iterdir()), workers=workers, ahead=32)
        assert len(list(inputs)) == PORTION

    return run


def returned(layer: str) -> Run:
    """Return torch's part without `vggfeat.malloc`."""
    from vggfeat import malloc

    malloc.keep_freed_blocks = lambda: None
    return ready(layer, "torch")


CONTESTANTS: dict[str, Callable[[str], Run]] = {
    "loop": loop,
    "vggfeat": vggfeat,
    "torch": partial(vggfeat, engine="torch"),
    "ready": ready,
    "decode": decode,
    "returned": returned,
}


def work(contestant: str, layer: str) -> None:
    """Be a contestant: for each folder named on stdin, run and answer with the seconds."""
    run = CONTESTANTS[contestant](layer)
    for line in sys.stdin:
        start = time.perf_counter()
        run(Path(line.strip()))
        print(time.perf_counter() - start, flush=True)
    status = Path("/proc/self/status").read_text()
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1024**2, flush=True)


def race(layer: str, folders: list[Path], rounds: int) -> dict[str, dict[str, float]]:
    """Let the contestants take turns; return seconds and peak memory of each."""
    command = [sys.executable, __file__, "--work"]
    racers = {
        name: subprocess.Popen(
            [*command, name, "--layers", layer],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in CONTESTANTS
    }

    def turn(name: str, folder: Path) -> float:
        process = racers[name]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{folder}\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    for name in racers:
        turn(name, folders[0])  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in racers}
    for _ in range(rounds):
        for folder in folders:
            for name, times in seconds.items():
                times.append(turn(name, folder))
            rates = "  ".join(f"{n} {PORTION / t[-1]:.2f}" for n, t in seconds.items())
            click.echo(f"{layer}  images/s: {rates}", err=True)
    found = {}
    for name, process in racers.items():
        out, _ = process.communicate()
        pairs = list(zip(seconds[name], seconds["loop"], seconds["ready"], strict=True))
        found[name] = {
            "images_per_second": PORTION / statistics.median(seconds[name]),
            "times_the_loop": statistics.median(b / a for a, b, _ in pairs),
            "of_ready": statistics.median(c / a for a, _, c in pairs),
            "peak_gib": float(out),
        }
    return found


@click.command()
@click.option("--images", default=256, show_default=True)
@click.option("--rounds", default=1, show_default=True)
@click.option("--layers", default="relu7,conv5_3", show_default=True)
@click.option("--json", "as_json", is_flag=True)
@click.option("--work", "contestant", hidden=True)
def main(images: int, rounds: int, layers: str, as_json: bool, contestant: str | None) -> None:
    """Measure extraction end to end."""
    if contestant:
        work(contestant, layers)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "images"
        make_images(folder, max(1, images // PORTION))
        folders = sorted(folder.iterdir())
        results = {layer: race(layer, folders, rounds) for layer in layers.split(",")}
    if as_json:
        click.echo(json.dumps(results, indent=2))
        return
    import torch

    click.echo(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, ")
    click.echo(f"torch {torch.__version__}, {len(folders) * PORTION} images x {rounds}; medians")
    click.echo("layer    contestant  images/s  x loop  of ready  peak GiB")
    for layer, rows in results.items():
        for name, row in rows.items():
            click.echo(
                f"{layer:8} {name:10} {row['images_per_second']:9.2f} "
                f"{row['times_the_loop']:7.2f} {row['of_ready']:8.1%} {row['peak_gib']:9.2f}"
            )


if __name__ == "__main__":
    main()
