"""One state dict in every format, written as their own programs do, by nothing of vggfeat's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx_writers
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from safetensors.torch import save_file
from scipy.io import savemat

State = Mapping[str, torch.Tensor]
Writer = Callable[[State, Path], None]

CONVOLUTIONS = {
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
MATCONVNET_MEAN = (121.5, 117.25, 105.75)
"""RGB, and unlike the usual one, so that a reader that does not look is found out."""


def layers(state: State) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return weights and biases by Caffe's names, from torchvision's state dict of 16 or 19."""
    modules = list(dict.fromkeys(name.rpartition(".")[0] for name in state))
    features = [name for name in modules if name.startswith("features")]
    blocks = next(b for b in CONVOLUTIONS.values() if sum(b) == len(features))
    names = [f"conv{i}_{j}" for i, n in enumerate(blocks, 1) for j in range(1, n + 1)]
    names += ["fc6", "fc7", "fc8"][: len(modules) - len(features)]
    return {
        name: (state[f"{module}.weight"].numpy(), state[f"{module}.bias"].numpy())
        for name, module in zip(names, modules, strict=True)
    }


# PyTorch


def torchvision(state: State, path: Path) -> None:
    torch.save(dict(state), path)


def wrapped(state: State, path: Path) -> None:
    inner = {f"module.{name}": tensor for name, tensor in state.items()}
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({"epoch": 3, "arch": "vgg16", "state_dict": inner, "optimizer": optimizer}, path)


def wrapped_legacy(state: State, path: Path) -> None:
    torch.save({"model": dict(state), "epoch": 3}, path, _use_new_zipfile_serialization=False)


def safetensors(state: State, path: Path) -> None:
    save_file(dict(state), path, metadata={"format": "pt"})


def timm(state: State, path: Path) -> None:
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2"}
    names["classifier.6"] = "head.fc"
    made = {}
    for name, tensor in state.items():
        module, _, kind = name.rpartition(".")
        if kind == "weight" and module in ("classifier.0", "classifier.3"):
            grid = 1 if module == "classifier.3" else round((tensor.shape[1] / width(state)) ** 0.5)
            tensor = tensor.reshape(len(tensor), -1, grid, grid)
        made[f"{names.get(module, module)}.{kind}"] = tensor.contiguous()
    save_file(made, path, metadata={"format": "pt"})


def width(state: State) -> int:
    last = [n for n in state if n.startswith("features") and state[n].ndim == 4][-1]
    return len(state[last])


# Caffe


def _message(file: Any, name: str, fields: list[tuple[str, int, str, bool, str]]) -> None:
    message, kinds = file.message_type.add(name=name), descriptor_pb2.FieldDescriptorProto
    for field, number, kind, repeated, of in fields:
        row = message.field.add(name=field, number=number, type=getattr(kinds, f"TYPE_{kind}"))
        row.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
        if kind == "MESSAGE":
            row.type_name = f".caffe.{of}"
        row.options.packed = of == "packed"


def net_parameter() -> Any:
    """Return the class of Caffe's NetParameter, as far as VGG's files need caffe.proto."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    _message(file, "BlobShape", [("dim", 1, "INT64", True, "packed")])
    _message(
        file,
        "BlobProto",
        [
            ("num", 1, "INT32", False, ""),
            ("channels", 2, "INT32", False, ""),
            ("height", 3, "INT32", False, ""),
            ("width", 4, "INT32", False, ""),
            ("data", 5, "FLOAT", True, "packed"),
            ("diff", 6, "FLOAT", True, "packed"),
            ("shape", 7, "MESSAGE", False, "BlobShape"),
            ("double_data", 8, "DOUBLE", True, "packed"),
        ],
    )
    numbers = (("num_output", 1), ("pad", 3), ("kernel_size", 4), ("stride", 6))
    _message(file, "ConvolutionParameter", [(n, i, "UINT32", False, "") for n, i in numbers])
    numbers = (("pool", 1), ("kernel_size", 2), ("stride", 3))
    _message(file, "PoolingParameter", [(n, i, "UINT32", False, "") for n, i in numbers])
    _message(file, "BatchNormParameter", [("eps", 3, "FLOAT", False, "")])
    _message(
        file,
        "V1LayerParameter",
        [
            ("bottom", 2, "STRING", True, ""),
            ("top", 3, "STRING", True, ""),
            ("name", 4, "STRING", False, ""),
            ("type", 5, "INT32", False, ""),
            ("blobs", 6, "MESSAGE", True, "BlobProto"),
            ("blobs_lr", 7, "FLOAT", True, ""),
            ("convolution_param", 10, "MESSAGE", False, "ConvolutionParameter"),
            ("pooling_param", 19, "MESSAGE", False, "PoolingParameter"),
        ],
    )
    _message(
        file,
        "LayerParameter",
        [
            ("name", 1, "STRING", False, ""),
            ("type", 2, "STRING", False, ""),
            ("bottom", 3, "STRING", True, ""),
            ("top", 4, "STRING", True, ""),
            ("blobs", 7, "MESSAGE", True, "BlobProto"),
            ("convolution_param", 106, "MESSAGE", False, "ConvolutionParameter"),
            ("pooling_param", 121, "MESSAGE", False, "PoolingParameter"),
            ("batch_norm_param", 139, "MESSAGE", False, "BatchNormParameter"),
        ],
    )
    _message(
        file,
        "NetParameter",
        [
            ("name", 1, "STRING", False, ""),
            ("layers", 2, "MESSAGE", True, "V1LayerParameter"),
            ("input", 3, "STRING", True, ""),
            ("input_dim", 4, "INT32", True, ""),
            ("force_backward", 5, "BOOL", False, ""),
            ("layer", 100, "MESSAGE", True, "LayerParameter"),
        ],
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


def caffe_v1(state: State, path: Path) -> None:
    """Write V1LayerParameters whose blobs have four dimensions, as the authors' release."""
    net = net_parameter()(name="VGG", input=["data"], input_dim=[10, 3, 224, 224])
    kinds = {"conv": 4, "fc": 14, "relu": 18, "pool": 17, "prob": 20, "drop": 6}
    below = "data"
    for name, kind, arrays in ordered(state):
        top = below if kind in ("relu", "drop") else name
        layer = net.layers.add(name=name, type=kinds[kind], bottom=[below], top=[top])
        _caffe_parameters(layer, kind, arrays)
        for array in arrays:
            num, channels, height, width_ = (*[1] * (4 - array.ndim), *array.shape)
            blob = layer.blobs.add(num=num, channels=channels, height=height, width=width_)
            blob.data.extend(array.ravel())
            layer.blobs_lr.append(1)
        below = top
    path.write_bytes(net.SerializeToString())


def caffe_v2(state: State, path: Path) -> None:
    net = net_parameter()(name="VGG", force_backward=True)
    net.layer.add(name="data", type="Input", top=["data"])
    below = "data"
    for name, kind, arrays in ordered(state):
        below = caffe_layer(net, name, kind, below, arrays)
    path.write_bytes(net.SerializeToString())


def caffe_layer(
    net: Any, name: str, kind: str, below: str, arrays: Sequence[np.ndarray] = ()
) -> str:
    """Add a LayerParameter on top of a blob; return the name of the blob that it makes."""
    kinds = {"conv": "Convolution", "fc": "InnerProduct", "relu": "ReLU", "pool": "Pooling"}
    kinds |= {"prob": "Softmax", "drop": "Dropout"}
    top = below if kind in ("relu", "drop", "BatchNorm", "Scale") else name
    layer = net.layer.add(name=name, type=kinds.get(kind, kind), bottom=[below], top=[top])
    _caffe_parameters(layer, kind, arrays)
    for array in arrays:
        blob = layer.blobs.add()
        blob.shape.dim.extend(array.shape)
        blob.data.extend(array.ravel())
    return top


def ordered(state: State) -> Iterator[tuple[str, str, tuple[np.ndarray, ...]]]:
    """Give VGG's layers in their order: name, kind, arrays."""
    made = layers(state)
    for name, arrays in made.items():
        kind = "conv" if arrays[0].ndim == 4 else "fc"
        yield name, kind, arrays
        if kind == "conv":
            yield name.replace("conv", "relu"), "relu", ()
            block, _, number = name.removeprefix("conv").partition("_")
            if f"conv{block}_{int(number) + 1}" not in made:
                yield f"pool{block}", "pool", ()
        elif name != "fc8":
            yield name.replace("fc", "relu"), "relu", ()
            yield name.replace("fc", "drop"), "drop", ()
        else:
            yield "prob", "prob", ()


def _caffe_parameters(layer: Any, kind: str, arrays: Sequence[np.ndarray]) -> None:
    if kind == "conv":
        told = layer.convolution_param
        told.num_output, told.pad, told.kernel_size = len(arrays[0]), 1, arrays[0].shape[-1]
    elif kind == "pool":
        told = layer.pooling_param
        told.pool, told.kernel_size, told.stride = 0, 2, 2


# Keras


def keras_arrays(state: State) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return kernels and biases by Keras's names: (h, w, in, out), fc1's rows as (h, w, c)."""
    names = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
    made = {}
    for name, (weight, bias) in layers(state).items():
        if weight.ndim == 4:
            kernel = np.moveaxis(weight, (0, 1), (3, 2))
        elif name == "fc6":
            grid = round((weight.shape[1] / width(state)) ** 0.5)
            maps = weight.reshape(len(weight), -1, grid, grid)
            kernel = np.moveaxis(maps, 1, 3).reshape(len(weight), -1).T
        else:
            kernel = weight.T
        made[names.get(name, name.replace("conv", "block").replace("_", "_conv"))] = (kernel, bias)
    return made


def _keras_group(group: Any, arrays: Mapping[str, tuple[np.ndarray, ...]], names: str) -> None:
    group.attrs["backend"] = b"tensorflow"
    group.attrs["keras_version"] = b"2.1.6"
    group.attrs["layer_names"] = np.array([b"input_1", *(n.encode() for n in arrays), b"flatten"])
    for empty in ("input_1", "flatten"):
        group.create_group(empty).attrs["weight_names"] = np.array([], "S1")
    for layer, pair in arrays.items():
        own = group.create_group(layer)
        weights = [template.format(layer) for template in names.split()]
        own.attrs["weight_names"] = np.array([name.encode() for name in weights])
        for name, array in zip(weights, pair, strict=True):
            own[name] = array


def keras_released(state: State, path: Path) -> None:
    """Write as the files of Keras's applications are."""
    with h5py.File(path, "w") as file:
        _keras_group(file, keras_arrays(state), "{}_W_1:0 {}_b_1:0")


def keras_notop(state: State, path: Path) -> None:
    body = {name: tensor for name, tensor in state.items() if name.startswith("features")}
    keras_released(body, path)


def keras_model(state: State, path: Path) -> None:
    """Write as `model.save` of Keras 2 does, below `model_weights`."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = b"{}"
        _keras_group(
            file.create_group("model_weights"), keras_arrays(state), "{0}/kernel:0 {0}/bias:0"
        )


def keras_part(state: State, path: Path) -> None:
    """Write a VGG that is one layer of a larger model: all its weights are in one group."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"vgg16"])
        group = file.create_group("vgg16")
        names = []
        for layer, pair in keras_arrays(state).items():
            for kind, array in zip(("kernel", "bias"), pair, strict=True):
                names.append(f"{layer}/{kind}:0".encode())
                group[names[-1].decode()] = array
        group.attrs["weight_names"] = np.array(names)


# MatConvNet


def cell(values: list[Any]) -> np.ndarray:
    made = np.empty((1, len(values)), object)
    made[0, :] = values
    return made


def _nothing(_name: str, _outputs: int) -> list[dict[str, Any]]:
    return []


def matconvnet_network(
    state: State,
    side: int,
    *,
    old: bool,
    between: Callable[[str, int], list[dict[str, Any]]] = _nothing,
) -> dict[str, Any]:
    """Return a network's variables; `between` gives layers behind a convolution by its name."""
    found = []
    for name, kind, arrays in ordered(state):
        if not arrays:
            own = {"pool": [2, 2], "stride": [2, 2], "method": "max"} if kind == "pool" else {}
            what = {"prob": "softmax", "drop": "dropout"}.get(kind, kind)
            found += [{"name": name, "type": what, **own}]
            continue
        weight, bias = arrays
        pad = int(weight.ndim == 4)
        if weight.ndim == 2:  # fully connected layers are convolutions over the whole map
            grid = round((weight.shape[1] / width(state)) ** 0.5) if name == "fc6" else 1
            weight = weight.reshape(len(weight), -1, grid, grid)
        filters, biases = np.moveaxis(weight, (0, 1), (3, 2)), bias[None]
        own = {"filters": filters, "biases": biases} if old else {"weights": cell([0, biases])}
        if not old:
            own["weights"][0, 0] = filters
        found += [{"name": name, "type": "conv", "stride": [1, 1], "pad": [pad] * 4, **own}]
        found += between(name, len(bias))
    mean = np.ones((side, side, 3), np.float32) * np.float32(MATCONVNET_MEAN)
    told = {"imageSize": [side, side, 3], "averageImage": mean, "interpolation": "bicubic"}
    if old:
        return {"layers": cell(found), "normalization": told, "classes": {"name": "x"}}
    told["averageImage"] = np.float64(MATCONVNET_MEAN).reshape(1, 1, 3)
    return {"layers": cell(found), "meta": {"normalization": told, "inputs": "data"}}


def matconvnet(state: State, path: Path, side: int = 64) -> None:
    savemat(path, matconvnet_network(state, side, old=False), do_compression=True)


def matconvnet_old(state: State, path: Path, side: int = 64) -> None:
    savemat(path, matconvnet_network(state, side, old=True))


def matconvnet_net(state: State, path: Path, side: int = 64) -> None:
    savemat(path, {"net": matconvnet_network(state, side, old=False)})


FORMATS: dict[str, tuple[str, Writer]] = {
    "torchvision": (".pth", torchvision),
    "wrapped checkpoint": (".pth", wrapped),
    "wrapped checkpoint, legacy": (".pt", wrapped_legacy),
    "safetensors": (".safetensors", safetensors),
    "timm": (".safetensors", timm),
    "Caffe, V1": (".caffemodel", caffe_v1),
    "Caffe, V2": (".caffemodel", caffe_v2),
    "Keras, released": (".h5", keras_released),
    "Keras, saved model": (".h5", keras_model),
    "Keras, part of a model": (".hdf5", keras_part),
    "MatConvNet": (".mat", matconvnet),
    "MatConvNet, old": (".mat", matconvnet_old),
    "MatConvNet, net": (".mat", matconvnet_net),
    "ONNX": (".onnx", onnx_writers.as_torch),
    "Keras, by tf2onnx": (".onnx", onnx_writers.as_tf2onnx),
}
"""Every way of writing a whole network: suffix and writer."""
