"""Keras models of any graph, written as Keras 2 and Keras 3 do, by nothing of vggfeat's or Keras's.

The layouts were compared with those that Keras 3.15 writes (``.keras``, ``.weights.h5``, ``.h5``).
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import weight_writers

VARIABLES = {
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "Conv2D": ("kernel", "bias"),
    "Dense": ("kernel", "bias"),
}
SNAKE = {
    "BatchNormalization": "batch_normalization", "Conv2D": "conv2d", "Dense": "dense",
    "MaxPooling2D": "max_pooling2d", "InputLayer": "input_layer", "Flatten": "flatten",
    "Activation": "activation", "Rescaling": "rescaling", "Functional": "functional",
    "GlobalAveragePooling2D": "global_average_pooling2d",
}  # fmt: skip

Arrays = Sequence[np.ndarray]


@dataclass
class Spec:
    """A layer, or a model that is one."""

    kind: str
    name: str
    inputs: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    arrays: Arrays = ()
    layers: list[Spec] = field(default_factory=list)


def norm_arrays(channels: int, seed: int) -> list[np.ndarray]:
    """Return gamma, beta, mean and variance that change much."""
    rng = np.random.default_rng(seed)
    gamma, variance = rng.uniform(0.5, 2, (2, channels))
    beta, mean = rng.normal(0, 0.3, (2, channels))
    return [array.astype(np.float32) for array in (gamma, beta, mean, variance)]


def vgg(
    state: weight_writers.State, norm: str = "", head: bool = True, named: bool = True
) -> list[Spec]:
    """Return the layers of a VGG, as a Functional model has them.

    Parameters
    ----------
    norm : str
        ``"before"`` puts batch normalisation between convolutions and ReLU, ``"after"`` behind it.
    named : bool
        With the names of Keras's applications; otherwise those that Keras makes up.
    """
    specs = [Spec("InputLayer", "input_1", config={"batch_shape": [None, 64, 64, 3]})]
    counts: dict[str, int] = {}

    def add(
        kind: str, name: str, config: dict[str, Any], arrays: Sequence[np.ndarray] = ()
    ) -> None:
        number = counts[kind] = counts.get(kind, -1) + 1
        made_up = f"{SNAKE[kind]}_{number}" if number else SNAKE[kind]
        name = name if named else made_up
        specs.append(Spec(kind, name, [specs[-1].name], config, arrays))

    made = weight_writers.keras_arrays(state)
    names = list(made)
    for number, name in enumerate(names):
        arrays = made[name]
        fused = {"activation": "linear" if norm == "before" else "relu", "use_bias": True}
        if arrays[0].ndim == 4:
            config = {"kernel_size": [3, 3], "strides": [1, 1], "padding": "same", **fused}
            add("Conv2D", name, config, arrays)
            if norm:
                config = {"axis": [3], "epsilon": 0.01, "scale": True, "center": True}
                own = norm_arrays(len(arrays[1]), number)
                add("BatchNormalization", name.replace("conv", "bn"), config, own)
            if norm == "before":
                add("Activation", name.replace("conv", "relu"), {"activation": "relu"})
            if number + 1 == len(names) or names[number + 1][:6] != name[:6]:
                config = {"pool_size": [2, 2], "strides": [2, 2], "padding": "valid"}
                add("MaxPooling2D", f"{name[:6]}_pool", config)
        elif head:
            if specs[-1].kind == "MaxPooling2D":
                add("Flatten", "flatten", {})
            act = "softmax" if name == "predictions" else "relu"
            add("Dense", name, {"activation": act, "use_bias": True}, arrays)
    return specs


def config_of(specs: Sequence[Spec], name: str = "model", old: bool = False) -> dict[str, Any]:
    """Return the configuration of a Functional model, as Keras 2 (`old`) or 3 writes it."""
    layers = []
    for spec in specs:
        if spec.layers:
            told = config_of(spec.layers, spec.name, old)
        else:
            told = {"class_name": spec.kind, "config": {"name": spec.name, **spec.config}}
        histories = [[name, 0, 0] for name in spec.inputs]
        if old:
            nodes = [[[*one, {}] for one in histories]] if histories else []
        else:
            keras_tensors = [
                {"class_name": "__keras_tensor__", "config": {"keras_history": one}}
                for one in histories
            ]
            nodes = [{"args": keras_tensors, "kwargs": {}}] if histories else []
        layers.append({**told, "name": spec.name, "inbound_nodes": nodes})
    taken = {name for spec in specs for name in spec.inputs}
    return {
        "class_name": "Functional",
        "config": {
            "name": name,
            "layers": layers,
            "input_layers": [[s.name, 0, 0] for s in specs if s.kind == "InputLayer"],
            "output_layers": [[s.name, 0, 0] for s in specs if s.name not in taken],
        },
    }


def _tensors(spec: Spec) -> list[tuple[str, np.ndarray]]:
    if spec.layers:
        return [pair for inner in spec.layers for pair in _tensors(inner)]
    names = VARIABLES.get(spec.kind, ())
    return [
        (f"{spec.name}/{name}:0", array) for name, array in zip(names, spec.arrays, strict=False)
    ]


def legacy(specs: Sequence[Spec], path: Path, config: bool = True) -> None:
    """Write as `model.save` of Keras 2 does, or, without `config`, as `save_weights`."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if config else file
        if config:
            file.attrs["model_config"] = json.dumps(config_of(specs, old=True)).encode()
        root.attrs["layer_names"] = np.array([spec.name.encode() for spec in specs])
        for spec in specs:
            group, pairs = root.create_group(spec.name), _tensors(spec)
            group.attrs["weight_names"] = np.array(
                [name.encode() for name, _ in pairs] or [], "S99"
            )
            for name, array in pairs:
                group[name] = array


def _variables(specs: Sequence[Spec], at: h5py.Group, named: bool) -> None:
    counts: dict[str, int] = {}
    for spec in specs:
        number = counts[spec.kind] = counts.get(spec.kind, -1) + 1
        snake = SNAKE[spec.kind]
        own = f"layers/{snake}_{number}" if number else f"layers/{snake}"
        if spec.layers:
            _variables(spec.layers, at.require_group(own), named)
        if named or spec.arrays:
            group = at.require_group(f"{own}/vars")
            for index, array in enumerate(spec.arrays):
                group[str(index)] = array
            if named:
                group.attrs["name"] = spec.name


def weights_h5(specs: Sequence[Spec], path: Path | BytesIO, named: bool = True) -> None:
    """Write as `save_weights('x.weights.h5')` of Keras 3; its first versions noted no names."""
    with h5py.File(path, "w") as file:
        _variables(specs, file, named)


def keras(specs: Sequence[Spec], path: Path, config: Mapping[str, Any] | None = None) -> None:
    """Write as `model.save('x.keras')` of Keras 3."""
    held = BytesIO()
    weights_h5(specs, held)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("config.json", json.dumps(config or config_of(specs)))
        archive.writestr("model.weights.h5", held.getvalue())
