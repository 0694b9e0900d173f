"""Compare heat maps with those of the package grad-cam on one network, and their speed.

The package (PyPI ``grad-cam``, extra ``bench``) hooks torchvision's modules; ours goes by
``Network.activations``. Both map the score of the likeliest class before the softmax, at the same
layer, on the same pixels. Maps are compared as the package gives them before it resamples them:
from 0 to 1, each over its own range. Times are of both in turn, in one process.

    python benchmarks/explain.py [IMAGE...] [--model vgg16 --weights imagenet]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch
from pytorch_grad_cam import GradCAM, LayerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torchvision.models import vgg

from vggfeat import FeatureExtractor
from vggfeat.explain.gradients import gradient_maps
from vggfeat.explain.maps import Method
from vggfeat.explain.subjects import NetworkClasses
from vggfeat.weights import shapes

THEIRS = {"gradcam": GradCAM, "layercam": LayerCAM}
LAYERS = ("relu3_3", "relu4_3", "relu5_3", "pool5")


def torchvisions(extractor: FeatureExtractor) -> nn.Module:
    """Return torchvision's modules with the same weights, and nothing in place."""
    table = extractor.architecture
    plan: list[int | str] = []
    for count, width in zip(table.convolutions, table.widths, strict=True):
        plan += [*[width] * count, "M"]
    model = vgg.VGG(vgg.make_layers(plan, batch_norm=table.batch_norm), init_weights=False)
    model.avgpool = nn.AdaptiveAvgPool2d(table.grid)
    sides = (table.widths[-1] * table.grid**2, table.units, table.units, table.classes)
    for at, inputs, outputs in zip((0, 3, 6), sides, sides[1:], strict=False):
        model.classifier[at] = nn.Linear(inputs, outputs)
    state = extractor.resolved_weights.load(table, list(shapes(table)))
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return model.eval()


def scaled(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Bring a map to 0..1, as the package does."""
    values = values - values.min()
    return values / (1e-7 + values.max())


class Raw:
    """Keeps the map of a class of the package's as it is before it is resampled."""

    def __init__(self, kind: type, model: nn.Module, layer: nn.Module) -> None:
        self.cam = kind(model=model, target_layers=[layer])

    def __call__(self, x: Tensor, number: int) -> np.ndarray[Any, Any]:
        """Return the map of normalised pixels (1, 3, H, W), in 0..1."""
        cam = self.cam
        outputs = cam.activations_and_grads(x)
        cam.model.zero_grad()
        ClassifierOutputTarget(number)(outputs[0]).backward()
        activations = cam.activations_and_grads.activations[0].cpu().numpy()
        gradients = cam.activations_and_grads.gradients[0].cpu().numpy()
        targets = [ClassifierOutputTarget(number)]
        found = cam.get_cam_image(x, cam.target_layers[0], targets, activations, gradients, False)
        return scaled(np.maximum(found[0], 0))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("images", nargs="*")
    parser.add_argument("--model", default="vgg16-tiny")
    parser.add_argument("--weights")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    images: list[Any] = given.images or list(load_sample_images().images)
    judge = NetworkClasses(given.weights, {"model": given.model, "device": "cpu"})
    extractor = judge.extractor
    model = torchvisions(extractor)
    print(f"{given.model}, {len(images)} images: largest difference of maps scaled to 0..1")
    for method, kind in THEIRS.items():
        for layer in LAYERS:
            at = extractor.architecture.layer(layer).module
            theirs = Raw(kind, model, model.get_submodule(at))
            chosen = Method.chosen(extractor, "fc8", method, layer)
            worst, seconds = 0.0, {"ours": [0.0] * 0, "theirs": [0.0] * 0}
            for image in images:
                (pixels,) = extractor.inputs(image)
                x = extractor.network.normalised([pixels])
                for _ in range(given.rounds):
                    start = time.perf_counter()
                    seen = chosen.seen(image)
                    number = judge.answer(seen.feature)[0]
                    coefficients, _ = judge.score(number).terms(seen.feature)
                    (own,) = gradient_maps(
                        coefficients, extractor, "fc8", seen.activations, layer, method
                    )
                    middle = time.perf_counter()
                    other = theirs(x.clone(), number)
                    seconds["ours"].append(middle - start)
                    seconds["theirs"].append(time.perf_counter() - middle)
                worst = max(worst, float(np.abs(scaled(own) - other).max()))
            ratio = statistics.median(seconds["theirs"]) / statistics.median(seconds["ours"])
            print(f"{method:9} {layer:8} {worst:.1e}   their time / ours {ratio:.2f}")
            theirs.cam.activations_and_grads.release()


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
