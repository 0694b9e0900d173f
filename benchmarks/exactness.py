"""Compare stored features of many layers with an independent forward of torchvision.

vggfeat extracts whole activations (``--pool none``) of JPEGs of differing sizes and modes into a
store, by its command; torchvision's own network, with ReLUs that do not work in place, computes
them again, one image at a time, in float32 and in float64. The relative error of an image's layer
is the Euclidean norm of the difference over that of the reference; the worst image counts.

    python benchmarks/exactness.py [FOLDER]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click
import h5py
import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.models import VGG16_Weights

from vggfeat.layers import architecture
from vggfeat.weights import resolve, shapes

LAYERS = "conv1_1,conv3_2,relu3_3,conv5_3,relu5_3,pool5,fc6,relu6,fc7,relu7,fc8"


def make_images(folder: Path) -> None:
    """Write nine JPEGs: landscape, portrait and small; colour, grey and CMYK."""
    rng = np.random.default_rng(1)
    for number, size in enumerate([(640, 427), (300, 451), (97, 61)]):
        for mode in ("RGB", "L", "CMYK"):
            coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
            image = coarse.resize(size, Image.Resampling.BICUBIC).convert(mode)
            image.save(folder / f"{number}-{mode}.jpg", quality=88)


def reference(dtype: torch.dtype) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """Return torchvision's network, and where it leaves what its layers put out."""
    table = architecture("vgg16")
    model = torchvision.models.vgg16(weights=None).eval()
    model.load_state_dict(resolve("random:0", table).load(table, list(shapes(table))))
    for module in model.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
    seen: dict[str, torch.Tensor] = {}
    for name in LAYERS.split(","):
        model.get_submodule(table.layer(name).module).register_forward_hook(
            lambda _m, _i, out, name=name: seen.update({name: out.clone()})
        )
    return model.to(dtype), seen


@click.command()
@click.argument("folder", required=False)
def main(folder: str | None) -> None:
    """Extract FOLDER (by default images made here) and compare."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(folder or scratch)
        if folder is None:
            make_images(source)
        store = Path(scratch) / "store.h5"
        options = ["--weights", "random:0", "--layers", LAYERS, "--pool", "none", "--device", "cpu"]
        command = [sys.executable, "-m", "vggfeat", "extract", str(source), str(store), *options]
        subprocess.run(command, check=True)
        transform = VGG16_Weights.IMAGENET1K_V1.transforms()
        worst = {name: [0.0, 0.0] for name in LAYERS.split(",")}
        with h5py.File(store) as file, torch.inference_mode():
            done = np.flatnonzero(file["images/status"][:] == 1)
            for column, dtype in enumerate((torch.float32, torch.float64)):
                model, seen = reference(dtype)
                for row in done:
                    path = source / file["images/path"].asstr()[row]
                    model(transform(Image.open(path).convert("RGB"))[None].to(dtype))
                    for name, errors in worst.items():
                        ours, theirs = file["features"][name][row], seen[name][0].numpy()
                        error = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
                        errors[column] = max(errors[column], float(error))
            click.echo(f"{len(done)} images; worst relative error of an image")
            click.echo("layer     to float32  to float64     smallest value")
            for name, errors in worst.items():
                least = min(float(file["features"][name][row].min()) for row in done)
                click.echo(f"{name:8} {errors[0]:11.1e} {errors[1]:11.1e} {least:18.4g}")
    if max(max(errors) for errors in worst.values()) > 1e-5:
        raise SystemExit("an error exceeds 1e-5")


if __name__ == "__main__":
    main()
