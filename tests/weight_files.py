"""Weight files of many kinds, as people have them, and the table of what vggfeat makes of each.

    python tests/weight_files.py

prints the table of docs/weights.md; a test compares the two.
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras_writers
import numpy as np
import torch
import weight_writers
from keras_writers import Spec, norm_arrays, vgg
from scipy.io import savemat
from torch import nn

from vggfeat.errors import WeightsError
from vggfeat.layers import architecture
from vggfeat.preprocessing import TORCHVISION
from vggfeat.weights import Weights, inspect, names, resolve, shapes

TINY = architecture("vgg16-tiny")


def folded(state, eps: float) -> dict[str, torch.Tensor]:
    """Fold the norms that `vgg` puts behind convolutions, by the formula, in float64."""
    made = dict(state)
    convolutions = [name for name in state if name.startswith("features.") and "weight" in name]
    for number, name in enumerate(convolutions):
        gamma, beta, mean, variance = (
            torch.from_numpy(a).double() for a in norm_arrays(len(state[name]), number)
        )
        scale = gamma / (variance + eps).sqrt()
        made[name] = (state[name].double() * scale[:, None, None, None]).float()
        bias = name.replace("weight", "bias")
        made[bias] = (beta + scale * (state[bias].double() - mean)).float()
    return made


def masked(state) -> list[Spec]:
    """Return a VGG with a branch whose name comes last in the alphabet."""
    specs = vgg(state)
    at = next(i for i, spec in enumerate(specs) if spec.name == "block5_pool")
    kernel = np.ones((3, 3, 128, 96), np.float32)
    config = {"kernel_size": [3, 3], "padding": "same", "activation": "sigmoid"}
    branch = Spec("Conv2D", "mask_conv", ["block5_conv3"], config, [kernel, np.ones(96, "f4")])
    return [*specs[:at], branch, *specs[at:]]


def nested(state, name: str) -> Spec:
    return Spec("Functional", name, ["input_0"], layers=vgg(state, head=False))


def outer(*models: Spec, front: Spec | None = None) -> list[Spec]:
    """Return a model of models, with a head of its own."""
    specs = [Spec("InputLayer", "input_0")]
    if front:
        specs.append(front)
    for model in models:
        model.inputs = [specs[-1].name if front else "input_0"]
        pool = Spec("GlobalAveragePooling2D", f"gap_{model.name}", [model.name])
        weight, bias = np.ones((128, 5), "f4"), np.ones(5, "f4")
        dense = Spec("Dense", f"own_{model.name}", [pool.name], {}, [weight, bias])
        specs += [model, pool, dense]
    return specs


def prefixed(state, prefix: str, extra: dict | None = None) -> dict:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()} | (extra or {})


def at(state, places: dict[str, str], root: str = "") -> dict:
    """Put modules at other places."""
    made = {}
    for name, tensor in state.items():
        module, _, kind = name.rpartition(".")
        made[f"{root}{places.get(module, module)}.{kind}"] = tensor
    return made


def bare(state) -> dict:
    body = {k: v for k, v in state.items() if k.startswith("features.")}
    return {k.removeprefix("features."): v for k, v in body.items()}


def dropout_first(state) -> dict:
    return at(state, {"classifier.0": "classifier.1", "classifier.3": "classifier.4"})


def without_dropout(state) -> dict:
    return at(state, {"classifier.3": "classifier.2", "classifier.6": "classifier.4"})


def imagenet_example(state) -> dict:
    """Return names as the old ImageNet example's: only the convolutions were in DataParallel."""
    return {k.replace("features.", "features.module."): v for k, v in state.items()}


def lightning(state) -> dict:
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": prefixed(state, "model.", {"criterion.pos_weight": torch.ones(3)}),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
        "hyper_parameters": argparse.Namespace(path=pathlib.PurePosixPath("x"), lr=0.1),
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best": torch.tensor(0.5)}},
    }


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x)


def caffe(state, path, behind=lambda *_: None):
    """Write a Caffe model; `behind` may add layers behind each, before its ReLU."""
    net = weight_writers.net_parameter()()
    net.layer.add(name="data", type="Input", top=["data"])
    below = "data"
    for name, kind, arrays in weight_writers.ordered(state):
        below = weight_writers.caffe_layer(net, name, kind, below, arrays)
        below = behind(net, name, below) or below
    path.write_bytes(net.SerializeToString())
    return path


def normalised(net, name, below):
    """Add batch normalisation as Caffe has it, in two layers and with a factor."""
    if name.startswith("conv"):
        outputs = len(net.layer[-1].blobs[1].data)
        number = sum(layer.type == "Convolution" for layer in net.layer) - 1
        gamma, beta, mean, variance = norm_arrays(outputs, number)
        factor = np.float32([4])
        moments = [mean * factor, variance * factor, factor]
        below = weight_writers.caffe_layer(net, f"bn_{name}", "BatchNorm", below, moments)
        net.layer[-1].batch_norm_param.eps = 0.01
        return weight_writers.caffe_layer(net, f"scale_{name}", "Scale", below, [gamma, beta])
    return None


def moments(name, outputs):
    """Return MatConvNet's batch normalisation behind a convolution."""
    if not name.startswith("conv"):
        return []
    blocks = (0, 2, 4, 7, 10)
    number = blocks[int(name[4]) - 1] + int(name[6]) - 1
    gamma, beta, mean, variance = norm_arrays(outputs, number)
    both = np.stack([mean, np.sqrt(variance + 0.01)], 1)
    weights = weight_writers.cell([gamma[:, None], beta[:, None], both])
    return [{"name": f"bn_{name}", "type": "bnorm", "weights": weights}]


def matconvnet(state, path, between):
    made = weight_writers.matconvnet_network(state, 64, old=False, between=between)
    savemat(path, made)
    return path


def extra(state, name: str, *shape: int) -> dict:
    return {**state, name: torch.ones(shape)}


def _saved(make: Callable) -> Callable:
    return lambda state, path: torch.save(make(state), path)


def _two(state, path):
    other = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"student": dict(state), "teacher": other}, path)


def _siamese(state, path):
    other = {name: tensor + 1 for name, tensor in state.items()}
    keras_writers.keras(outer(nested(state, "left"), nested(other, "right")), path)


def _rescaled(state, path):
    front = Spec("Rescaling", "rescaling", ["input_0"], {"scale": 1 / 255, "offset": 0})
    keras_writers.keras(outer(nested(state, "vgg16"), front=front), path)


def _lambda(state, path):
    front = Spec("Lambda", "preprocess", ["input_0"])
    keras_writers.legacy(outer(nested(state, "vgg16"), front=front), path)


def _script(_state, path):
    torch.jit.script(Small()).save(path)


KINDS: dict[str, tuple[str, Callable]] = {
    "torchvision's state dict": (".pth", weight_writers.torchvision),
    "the same before torch 1.6, below `model`": (".pt", weight_writers.wrapped_legacy),
    "a checkpoint: `state_dict` with `module.`, optimiser": (".pth.tar", weight_writers.wrapped),
    "Lightning: `model.`, `criterion.pos_weight`, a Namespace": (".ckpt", _saved(lightning)),
    "`vgg.` before all names": (".bin", _saved(lambda s: prefixed(s, "vgg."))),
    "only the convolutions in DataParallel": (".pth", _saved(imagenet_example)),
    "the convolutions alone: `0.weight`": (".pth", _saved(bare)),
    "`classifier.1`, `.4`, `.6`": (".pth", _saved(dropout_first)),
    "`classifier.0`, `.2`, `.4`": (".pth", _saved(without_dropout)),
    "timm": (".safetensors", weight_writers.timm),
    "a student and its teacher": (".pth", _two),
    "attention beside the convolutions": (
        ".pth", _saved(lambda s: extra(s, "attention.weight", 128, 128)),
    ),
    "LoRA of a convolution": (".pth", _saved(lambda s: extra(s, "features.0.lora_A", 4, 27))),
    "a TorchScript archive": (".pt", _script),
    "a whole pickled model": (".pth", lambda _state, path: torch.save(Small(), path)),
    "Caffe, `layers`": (".caffemodel", weight_writers.caffe_v1),
    "Caffe, BatchNorm and Scale": (".caffemodel", lambda s, p: caffe(s, p, normalised)),
    "Keras 2, weights of the application": (".h5", weight_writers.keras_released),
    "Keras 2, without top": (".h5", weight_writers.keras_notop),
    "Keras 2, `model.save`": (".h5", lambda s, p: keras_writers.legacy(vgg(s), p)),
    "Keras 2, a branch `mask_conv`, `model.save`": (
        ".h5", lambda s, p: keras_writers.legacy(masked(s), p),
    ),
    "the same, weights alone": (
        ".h5", lambda s, p: keras_writers.legacy(masked(s), p, config=False),
    ),
    "Keras 2, batch normalisation before the ReLU": (
        ".h5", lambda s, p: keras_writers.legacy(vgg(s, "before"), p),
    ),
    "Keras 2, batch normalisation behind the ReLU": (
        ".h5", lambda s, p: keras_writers.legacy(vgg(s, "after"), p),
    ),
    "Keras 2, the same, weights alone": (
        ".h5", lambda s, p: keras_writers.legacy(vgg(s, "after"), p, config=False),
    ),
    "Keras 2, a Lambda before a VGG": (".h5", _lambda),
    "Keras 3, names made up by Keras": (
        ".keras", lambda s, p: keras_writers.keras(vgg(s, named=False), p),
    ),
    "Keras 3, Rescaling, a VGG, a head of its own": (".keras", _rescaled),
    "Keras 3, a siamese model of two VGGs": (".keras", _siamese),
    "Keras 3, weights alone": (".weights.h5", lambda s, p: keras_writers.weights_h5(vgg(s), p)),
    "Keras 3, batch normalisation, weights alone": (
        ".weights.h5", lambda s, p: keras_writers.weights_h5(vgg(s, "before"), p),
    ),
    "MatConvNet": (".mat", weight_writers.matconvnet),
    "MatConvNet, bnorm": (".mat", lambda s, p: matconvnet(s, p, moments)),
}  # fmt: skip
"""What a file is: its suffix and its writer."""


def loaded(path: Path | str, upto: str = "fc8") -> dict[str, torch.Tensor]:
    """Read a file's tensors, without finding out what identifies it."""
    wanted = names(TINY.upto([upto]))
    return Weights(str(path), "", TORCHVISION, Path(path)).load(TINY, wanted, upto)


def outcome(path: Path, state, normalised: dict[str, torch.Tensor]) -> str:
    """Return what becomes of a file, in one line."""
    try:
        found = inspect(path)
        if not found.deepest:
            return f"refused: {found.obstacle}"
        tensors = loaded(path, found.deepest)
    except WeightsError as error:
        text = str(error).replace(str(path), "FILE").replace("__main__", Path(__file__).stem)
        return f"refused: {text.removeprefix('FILE: ')}"
    exact = all(torch.equal(value, state[name]) for name, value in tensors.items())
    close = all(
        torch.allclose(value, normalised[name], 2e-6, 1e-6) for name, value in tensors.items()
    )
    assert exact or (close and found.notes), path
    how = "bit for bit" if exact else f"{len(found.notes)} normalisations folded"
    told = f"read as far as {found.deepest}, {how}"
    if found.pairing.sure and "before the first" in found.pairing.why:
        told += f"; pixels x {found.pairing.preprocessing.scale:.6f}, as it says itself"
    if found.others:
        told += f"; not on the way: {', '.join(found.others[:2])}"
    return f"{told}; then: {found.obstacle}" if found.obstacle else told


def table(folder: Path) -> str:
    """Write a file of each kind into a folder, and return the table of what becomes of them."""
    state = resolve("random:5", TINY).load(TINY, list(shapes(TINY)))
    normalised = folded(state, 0.01)
    rows = ["| file | | what becomes of it |", "| --- | --- | --- |"]
    for number, (kind, (suffix, writer)) in enumerate(KINDS.items()):
        path = folder / f"{number}{suffix}"
        writer(state, path)
        rows.append(f"| {kind} | `{suffix}` | {outcome(path, state, normalised)} |")
        path.unlink()
    return "\n".join(rows)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        print(table(Path(made)))
