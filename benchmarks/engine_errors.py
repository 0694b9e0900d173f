"""Compare the engines' rounding: layer by layer, and in what features are used for.

Relative errors against float64 (Euclidean norms, over whole activations), of the Winograd engine
and of torch in float32, on parts of scikit-learn's two sample photographs: VGG-16 with random
weights, and vgg16-tiny with those it was trained to. Then scikit-learn's digits through the trained
vgg16-tiny by either engine: a linear SVM's and nearest neighbours' answers on the same split.

    python benchmarks/engine_errors.py
    python benchmarks/engine_errors.py --weights FILE

The second takes one weight file, as far as it goes.
"""

from __future__ import annotations

from collections.abc import Iterable

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor, nn

from vggfeat import FeatureExtractor, LinearProbe
from vggfeat.layers import Architecture, architecture
from vggfeat.network import Network, build
from vggfeat.pooling import parse_layers
from vggfeat.probe.split import stratified_split
from vggfeat.weights import inspect, resolve

LAYERS = "conv1_2,relu2_2,conv3_3,conv4_3,conv5_3,pool5,fc6,fc7,relu7,fc8"
NEIGHBOURS = 10


def photographs(side: int) -> NDArray[np.uint8]:
    """Return eight parts of the sample photographs, (8, side, side, 3)."""
    rng = np.random.default_rng(0)
    parts = []
    for pixels in load_sample_images().images:
        photo = Image.fromarray(pixels)
        for _ in range(4):
            size = int(rng.integers(200, 420))
            left, top = (int(rng.integers(0, n - size)) for n in photo.size)
            box = (left, top, left + size, top + size)
            parts.append(np.asarray(photo.resize((side, side), Image.Resampling.BILINEAR, box)))
    return np.stack(parts)


def exact(
    network: Architecture, weights: str, asked: Iterable[str], inputs: Tensor
) -> dict[str, Tensor]:
    """Run a network in float64."""
    modules = build(network, resolve(weights, network), dict.fromkeys(asked, "")).double()
    found = {}
    x = inputs.double()
    with torch.inference_mode():
        for name, module in modules.items():
            if isinstance(module, nn.ReLU):
                module.inplace = False
            x = module(x)
            if name in asked:
                found[name] = x
    return found


def errors(model: str, weights: str, deepest: str = "prob") -> None:
    """Print a table of relative errors."""
    network = architecture(model)
    images = photographs(network.input_size)
    served = {layer.name for layer in network.upto([deepest])}
    layers = [name for name in LAYERS.split(",") if name in served]
    asked = parse_layers(layers, "none", network)
    found = {}
    for engine in ("winograd", "torch"):
        loaded = Network.load(network, resolve(weights, network), asked, "cpu", engine=engine)
        found[engine] = loaded.features(images)
        inputs = loaded.normalised(images)
    click.echo(f"{model}, {weights}: relative error to float64, 8 parts of 2 photographs")
    click.echo("layer     winograd     torch")
    for name, truth in exact(network, weights, asked, inputs).items():
        told = [float((found[e][name] - truth).norm() / truth.norm()) for e in found]
        click.echo(f"{name:8} {told[0]:9.1e} {told[1]:9.1e}")


def nearest(X: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the rows nearest to each row by cosine, (n, k)."""
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1)[:, :NEIGHBOURS]


def use() -> None:
    """Compare what a probe and a search answer."""
    data = load_digits()
    digits = [
        Image.fromarray(np.uint8(255 - 255 * image / 16)).resize((64, 64)).convert("RGB")
        for image in data.images
    ]
    y = data.target.astype(np.int64)
    train, test = stratified_split(y, test_size=0.25, seed=0)
    found = {
        engine: FeatureExtractor("vgg16-tiny", layers="relu7", device="cpu", engine=engine)(digits)[
            "relu7"
        ]
        for engine in ("winograd", "torch")
    }
    named = {e: LinearProbe().fit(X[train], y[train]).predict(X[test]) for e, X in found.items()}
    near = {engine: nearest(X) for engine, X in found.items()}
    same = np.mean([len(set(a) & set(b)) / NEIGHBOURS for a, b in zip(*near.values(), strict=True)])
    click.echo(f"digits, vgg16-tiny, relu7, {len(digits)} images")
    for engine, answers in named.items():
        click.echo(f"{engine:8} probe accuracy {np.mean(answers == y[test]):.2%}")
    differing = int(np.sum(named["winograd"] != named["torch"]))
    click.echo(f"answers that differ: {differing} of {len(test)}")
    first = np.mean(near["winograd"][:, 0] == near["torch"][:, 0])
    click.echo(f"same nearest neighbour: {first:.2%}; same {NEIGHBOURS} neighbours: {same:.3%}")


@click.command()
@click.option("--weights", type=click.Path(exists=True), help="Only this file.")
def main(weights: str | None) -> None:
    """Measure the engines' rounding."""
    if weights:
        found = inspect(weights)
        errors(found.network.name, weights, found.deepest)
        return
    errors("vgg16", "random:0")
    errors("vgg16-tiny", "builtin")
    use()


if __name__ == "__main__":
    main()
