"""Weight files of each format, of the network vgg16-tiny."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import keras_writers
import onnx_writers
import torch
import weight_writers
from weight_writers import State

from fuzzing import hdf5_values, protobuf_values
from fuzzing.bytes_of_files import plain
from fuzzing.kinds import DEFLATE, Kind, Mutation, command
from fuzzing.weight_values import (
    archived,
    as_json,
    at_the_edges,
    described,
    elements,
    headed,
    legacy,
    pickled,
    within,
)
from vggfeat.layers import architecture
from vggfeat.preprocessing import TORCHVISION
from vggfeat.weights import PREPROCESSING_KEY, resolve, shapes
from vggfeat.weights.formats import open_file

Writer = Callable[[State, Path], object]
_TINY = architecture("vgg16-tiny")


def read(path: Path) -> None:
    """Read every tensor."""
    with open_file(path) as file:
        for name in file.shapes:
            file.read(name)


def inspect(path: Path) -> None:
    """Look what it is."""
    command("weights", "inspect", path, "--json")
    command("weights", "inspect", path)


def load(path: Path) -> None:
    """Load the network's convolutions, or as far as it goes, as `extract` does."""
    weights = resolve(str(path), _TINY)
    weights.load(_TINY, [n for n in shapes(_TINY) if n.startswith("features")], "pool5")


def convert(path: Path) -> None:
    """Write it as safetensors."""
    command("weights", "convert", path, path.with_name("out.safetensors"), "--model", "vgg16-tiny")


def check(path: Path) -> None:
    """Try the network on a synthetic image."""
    command("weights", "check", path, "--model", "vgg16-tiny")


def _kind(
    name: str, suffix: str, writer: Writer, *valid: Mutation, head: bool = False, factor: float = 16
) -> Kind:
    def make(folder: Path) -> None:
        torch.set_num_threads(1)
        state = resolve("random:5", _TINY).load(_TINY, list(shapes(_TINY)))
        own = {k: v for k, v in state.items() if head or k.startswith("features")}
        writer(own, folder / f"w{suffix}")

    file = f"w{suffix}"
    mutations = (plain(file), at_the_edges(file), *valid * (4 // max(1, len(valid))))
    steps = (read, inspect, load, convert, check)
    return Kind(name, make, file, mutations, steps, factor=factor)


def _said(state: State, path: Path) -> None:
    from safetensors.torch import save_file

    text = json.dumps(TORCHVISION.sized(_TINY.input_size).to_json())
    save_file(dict(state), path, metadata={"format": "pt", PREPROCESSING_KEY: text})


def _external(state: State, path: Path) -> None:
    """Write an ONNX model whose largest tensors lie in a file beside it."""
    onnx_writers.as_torch(state, path)
    model = onnx_writers.message("ModelProto")()
    model.ParseFromString(path.read_bytes())
    with path.with_name("w.data").open("wb") as out:
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) > 4096:
                at = out.tell()
                out.write(tensor.raw_data)
                told = {"location": "w.data", "offset": str(at), "length": str(out.tell() - at)}
                tensor.ClearField("raw_data")
                tensor.data_location = 1
                for key, value in told.items():
                    tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())


def _h5(specs: Callable[[State], list[keras_writers.Spec]]) -> Writer:
    return lambda state, path: keras_writers.legacy(specs(state), path)


def _saved(state: State, path: Path) -> None:
    keras_writers.keras(keras_writers.vgg(state), path)


def _bare(state: State, path: Path) -> None:
    keras_writers.weights_h5(keras_writers.vgg(state), path)


_ARCHIVE = {"data.pkl": pickled}
_KERAS = {"config.json": as_json, "model.weights.h5": within("w.h5", hdf5_values.valid)}

KINDS = (
    _kind("torch", ".pth", weight_writers.wrapped, archived("w.pth", _ARCHIVE), factor=DEFLATE),
    _kind("torch-legacy", ".pt", weight_writers.wrapped_legacy, legacy("w.pt")),
    _kind("safetensors", ".safetensors", _said, headed("w.safetensors")),
    _kind("caffe-v1", ".caffemodel", weight_writers.caffe_v1,
          protobuf_values.valid("w.caffemodel"), factor=64),
    _kind("caffe", ".caffemodel", weight_writers.caffe_v2, protobuf_values.valid("w.caffemodel"),
          factor=64),
    _kind("onnx", ".onnx", onnx_writers.as_torch, protobuf_values.valid("w.onnx"), head=True,
          factor=64),
    _kind("onnx-keras", ".onnx", onnx_writers.as_tf2onnx, protobuf_values.valid("w.onnx"),
          head=True, factor=64),
    _kind("onnx-beside", ".onnx", _external, protobuf_values.valid("w.onnx"), head=True,
          factor=64),
    _kind("keras-released", ".h5", weight_writers.keras_released, hdf5_values.valid("w.h5"),
          head=True, factor=DEFLATE),
    _kind("keras-h5", ".h5", _h5(lambda s: keras_writers.vgg(s, "before")),
          hdf5_values.valid("w.h5"), described("w.h5"), factor=DEFLATE),
    _kind("keras", ".keras", _saved, archived("w.keras", _KERAS), factor=DEFLATE),
    _kind("keras-weights", ".weights.h5", _bare, hdf5_values.valid("w.weights.h5"),
          factor=DEFLATE),
    _kind("matconvnet", ".mat", weight_writers.matconvnet, elements("w.mat"), factor=DEFLATE),
    _kind("matconvnet-old", ".mat", weight_writers.matconvnet_old, elements("w.mat"),
          factor=DEFLATE),
)  # fmt: skip
