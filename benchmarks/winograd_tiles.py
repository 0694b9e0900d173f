"""What larger tiles would save and cost: F(6 x 6, 3 x 3) early on, beside F(4 x 4, 3 x 3).

The engine's algorithm with tiles of any size, in float32 by torch, without its speed: every
convolution is done with its tiles, and the errors against float64 (L2 norm of the difference over
that of the truth, whole activations) stand beside the multiplications of the products::

    python benchmarks/winograd_tiles.py --weights FILE

Points are 0, 1, -1, 2, -2 for tiles of 4, and 1/2, -1/2 besides for tiles of 6, the usual ones.
Filters are transformed in float64 and rounded once, as the engine's are.
"""

from __future__ import annotations

from fractions import Fraction

import click
import numpy as np
import torch
from engine_errors import photographs
from torch import Tensor, nn
from torch.nn import functional

from vggfeat.cli.output import table
from vggfeat.engine.transforms import POINTS, Matrix, cook_toom
from vggfeat.layers import architecture
from vggfeat.network import build
from vggfeat.network.inputs import normalised
from vggfeat.weights import resolve

MORE = (*POINTS, Fraction(1, 2), Fraction(-1, 2))
SHOWN = ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3")
CHOICES = {
    "as defined": {},
    "4": dict.fromkeys("12345", POINTS),
    "6 in conv2": {**dict.fromkeys("12345", POINTS), "2": MORE},
    "6 in conv2, conv3": {**dict.fromkeys("12345", POINTS), "2": MORE, "3": MORE},
    "6 in conv1 to conv3": {**dict.fromkeys("45", POINTS), **dict.fromkeys("123", MORE)},
}


def matrix(values: Matrix) -> Tensor:
    """Return fractions as float64."""
    return torch.tensor([[float(value) for value in row] for row in values], dtype=torch.float64)


def convolved(x: Tensor, module: nn.Conv2d, points: tuple[Fraction, ...]) -> tuple[Tensor, int]:
    """Convolve by tiles; return also the multiplications of an image's products."""
    back, filters, forth = map(matrix, cook_toom(points))
    side, outputs = len(forth), len(back)
    u = (filters @ module.weight.double() @ filters.T).float()  # (K, C, n, n)
    count, _, height, width = x.shape
    down, across = -(-height // outputs), -(-width // outputs)
    padded = functional.pad(x, (1, across * outputs - width + 1, 1, down * outputs - height + 1))
    tiles = padded.unfold(2, side, outputs).unfold(3, side, outputs)  # (B, C, down, across, n, n)
    v = forth.float() @ tiles @ forth.float().T
    m = torch.einsum("kcij,bcyxij->bkyxij", u, v)
    y = back.float() @ m @ back.float().T
    y = y.permute(0, 1, 2, 4, 3, 5).reshape(count, -1, down * outputs, across * outputs)
    work = down * across * side**2 * u.shape[0] * u.shape[1]
    return y[:, :, :height, :width] + module.bias[:, None, None], work


@click.command()
@click.option("--weights", default="random:0", show_default=True)
@click.option("--images", default=2, show_default=True)
def main(weights: str, images: int) -> None:
    """Compare sizes of tiles."""
    network = architecture("vgg16")
    given = resolve(weights, network)
    modules = build(network, given, {"pool5": ""})
    kept = {}
    pixels = photographs(224)[:images]
    first = normalised(pixels, given.preprocessing, torch.device("cpu"), torch.float32)
    rows = []
    with torch.inference_mode():
        x = first.double()
        exact = build(network, given, {"pool5": ""}).double()
        for name, module in exact.items():
            x = module(x)
            if name in SHOWN:
                kept[name] = x.clone()
        for title, tiles in CHOICES.items():
            x, total, errors = first, 0, []
            for name, module in modules.items():
                points = tiles.get(name[4]) if name != "conv1_1" else None
                if isinstance(module, nn.Conv2d) and points:
                    x, work = convolved(x, module, points)
                    total += work
                else:
                    x = module(x)
                    if isinstance(module, nn.Conv2d) and name != "conv1_1":
                        total += module.weight.numel() * x[0, 0].numel()
                if name in SHOWN:
                    apart = x.double() - kept[name]
                    errors.append(float(apart.norm() / kept[name].norm()))
            rows.append([title, f"{total / 1e9:.2f}", *(f"{one:.1e}" for one in errors)])
    columns = ["tiles", "10^9 products", *SHOWN]
    print(table(rows, columns, right=" ".join(columns[1:])))
    print(f"of {images} images; {np.prod(first.shape[1:]):,} values each")


if __name__ == "__main__":
    main()
