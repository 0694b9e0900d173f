"""ONNX files as torch, tf2onnx and others write them, by protobuf and nothing of vggfeat's."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

State = Mapping[str, torch.Tensor]

FLOAT, INT64, FLOAT16, DOUBLE, BFLOAT16 = 1, 7, 10, 11, 16
_KINDS = {"f4": FLOAT, "i8": INT64, "f2": FLOAT16, "f8": DOUBLE, "i1": 3, "u1": 2}
_MESSAGES: dict[str, list[tuple[str, int, str, str]]] = {  # name, number, type, one or many
    "StringStringEntryProto": [("key", 1, "STRING", ""), ("value", 2, "STRING", "")],
    "TensorProto": [
        ("dims", 1, "INT64", "*"), ("data_type", 2, "INT32", ""), ("float_data", 4, "FLOAT", "*"),
        ("int32_data", 5, "INT32", "*"), ("int64_data", 7, "INT64", "*"),
        ("name", 8, "STRING", ""), ("raw_data", 9, "BYTES", ""), ("double_data", 10, "DOUBLE", "*"),
        ("external_data", 13, "StringStringEntryProto", "*"), ("data_location", 14, "INT32", ""),
    ],
    "Dimension": [("dim_value", 1, "INT64", ""), ("dim_param", 2, "STRING", "")],
    "TensorShapeProto": [("dim", 1, "Dimension", "*")],
    "TensorTypeProto": [("elem_type", 1, "INT32", ""), ("shape", 2, "TensorShapeProto", "")],
    "TypeProto": [("tensor_type", 1, "TensorTypeProto", "")],
    "ValueInfoProto": [("name", 1, "STRING", ""), ("type", 2, "TypeProto", "")],
    "AttributeProto": [
        ("name", 1, "STRING", ""), ("f", 2, "FLOAT", ""), ("i", 3, "INT64", ""),
        ("s", 4, "BYTES", ""), ("t", 5, "TensorProto", ""), ("floats", 7, "FLOAT", "*"),
        ("ints", 8, "INT64", "*"), ("type", 20, "INT32", ""),
    ],
    "NodeProto": [
        ("input", 1, "STRING", "*"), ("output", 2, "STRING", "*"), ("name", 3, "STRING", ""),
        ("op_type", 4, "STRING", ""), ("attribute", 5, "AttributeProto", "*"),
        ("domain", 7, "STRING", ""),
    ],
    "GraphProto": [
        ("node", 1, "NodeProto", "*"), ("name", 2, "STRING", ""),
        ("initializer", 5, "TensorProto", "*"), ("input", 11, "ValueInfoProto", "*"),
        ("output", 12, "ValueInfoProto", "*"),
    ],
    "OperatorSetIdProto": [("domain", 1, "STRING", ""), ("version", 2, "INT64", "")],
    "ModelProto": [
        ("ir_version", 1, "INT64", ""), ("producer_name", 2, "STRING", ""),
        ("graph", 7, "GraphProto", ""), ("opset_import", 8, "OperatorSetIdProto", "*"),
    ],
}  # fmt: skip


@functools.cache
def message(name: str) -> Any:
    """Return the class of one of ONNX's messages, as far as VGG's graphs need onnx.proto."""
    file = descriptor_pb2.FileDescriptorProto(name="onnx.proto", package="onnx", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for own, rows in _MESSAGES.items():
        made = file.message_type.add(name=own)
        for field, number, kind, many in rows:
            row = made.field.add(name=field, number=number)
            row.label = kinds.LABEL_REPEATED if many else kinds.LABEL_OPTIONAL
            if kind in _MESSAGES:
                row.type, row.type_name = kinds.TYPE_MESSAGE, f".onnx.{kind}"
            else:
                row.type = getattr(kinds, f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"onnx.{name}"))


class Graph:
    """A graph that grows node by node; each call returns the name of the node's output.

    Parameters
    ----------
    shape : sequence of int
        Of the input; 0 for a dimension that is not fixed.
    producer : str
        The program that is said to have written it.
    """

    def __init__(self, shape: tuple[int, ...] = (0, 3, 64, 64), producer: str = "pytorch") -> None:
        self.model = message("ModelProto")(ir_version=8, producer_name=producer)
        self.model.opset_import.add(version=17)
        self.graph = self.model.graph
        self.input = self.add_input("input", shape)

    def add_input(self, name: str, shape: tuple[int, ...]) -> str:
        """Add an input of floats."""
        kind = self.graph.input.add(name=name).type.tensor_type
        kind.elem_type = FLOAT
        for size in shape:
            kind.shape.dim.add(dim_value=size) if size else kind.shape.dim.add(dim_param="n")
        return name

    def tensor(self, array: np.ndarray, name: str = "", how: str = "raw") -> str:
        """Add an initializer; `how` is ``raw``, ``listed`` or ``bfloat16``."""
        name = name or f"t{len(self.graph.initializer)}"
        fill(self.graph.initializer.add(name=name), array, how)
        return name

    def node(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node of one output."""
        made = self.graph.node.add(op_type=op, input=inputs)
        made.name = name or f"{op}_{len(self.graph.node)}"
        made.output.append(f"{made.name}:0")
        for key, value in attributes.items():
            own = made.attribute.add(name=key)
            if isinstance(value, bool | int):
                own.i, own.type = value, 2
            elif isinstance(value, float):
                own.f, own.type = value, 1
            elif isinstance(value, str):
                own.s, own.type = value.encode(), 3
            elif isinstance(value, np.ndarray):
                fill(own.t, value)
                own.type = 4
            else:
                own.ints.extend(value)
                own.type = 7
        return made.output[0]

    def save(self, path: Path, output: str) -> None:
        """End the graph, and write it."""
        self.graph.output.add(name=output)
        path.write_bytes(self.model.SerializeToString())


def fill(tensor: Any, array: np.ndarray, how: str = "raw") -> None:
    """Put an array into a TensorProto."""
    array = np.asarray(array)
    tensor.dims.extend(array.shape)
    tensor.data_type = BFLOAT16 if how == "bfloat16" else _KINDS[array.dtype.str[1:]]
    if how == "bfloat16":
        tensor.raw_data = (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    elif how == "raw":
        tensor.raw_data = array.tobytes()
    else:
        flat = array.ravel()
        match tensor.data_type:
            case 1:
                tensor.float_data.extend(flat)
            case 11:
                tensor.double_data.extend(flat)
            case 7:
                tensor.int64_data.extend(flat)
            case 10:
                tensor.int32_data.extend(flat.view(np.uint16).tolist())
            case _:
                tensor.int32_data.extend(flat)


def arrays(state: State) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Return weights and biases: blocks of convolutions, and the fully connected layers."""
    blocks: list[list[tuple[np.ndarray, np.ndarray]]] = []
    expected = ""
    for name in (one for one in state if one.endswith(".weight")):
        module = name.rpartition(".")[0]
        part, number = module.split(".")
        if module != expected and not (part == "classifier" and number != "0"):
            blocks.append([])  # a pooling lies between
        expected = f"{part}.{int(number) + 2}"
        blocks[-1].append((state[name].numpy(), state[f"{module}.bias"].numpy()))
    return blocks


def as_torch(
    state: State, path: Path, graph: Graph | None = None, how: str = "raw", x: str = ""
) -> None:
    """Write as torch's first exporter does: named initializers, Flatten, Gemm with transB."""
    graph = graph or Graph()
    x = x or graph.input
    *blocks, head = arrays(state)
    number = 0
    for block in blocks:
        for weight, bias in block:
            tensors = [
                graph.tensor(weight, f"features.{number}.weight", how),
                graph.tensor(bias, f"features.{number}.bias", how),
            ]
            x = graph.node(
                "Conv", x, *tensors, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1],
                dilations=[1, 1], group=1,
            )  # fmt: skip
            x, number = graph.node("Relu", x), number + 2
        x = graph.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4, ceil_mode=0)
        number += 1
    x = graph.node("AveragePool", x, kernel_shape=[1, 1], strides=[1, 1])
    x = graph.node("Flatten", x, axis=1)
    for place, (weight, bias) in enumerate(head):
        tensors = [graph.tensor(weight, how=how), graph.tensor(bias, how=how)]
        x = graph.node("Gemm", x, *tensors, alpha=1.0, beta=1.0, transB=1)
        if place < len(head) - 1:
            x = graph.node("Dropout", graph.node("Relu", x))
    graph.save(path, x)


def as_tf2onnx(
    state: State, path: Path, graph: Graph | None = None, x: str = "", softmax: bool = True
) -> None:
    """Write as tf2onnx does: images as (row, column, channel), and MatMul with Add behind.

    The shape of what is flattened is computed of the map's own shape.
    """
    graph = graph or Graph((0, 64, 64, 3), "tf2onnx")
    x = graph.node("Transpose", x or graph.input, perm=[0, 3, 1, 2])
    *blocks, head = arrays(state)
    for block in blocks:
        for weight, bias in block:
            x = graph.node("Conv", x, graph.tensor(weight), auto_pad="SAME_UPPER", strides=[1, 1])
            x = graph.node("Add", x, graph.tensor(bias.reshape(1, -1, 1, 1)))
            x = graph.node("Relu", x)
        x = graph.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], auto_pad="VALID")
    channels = len(blocks[-1][-1][0])
    x = graph.node("Transpose", x, perm=[0, 2, 3, 1])
    count = graph.node("Slice", graph.node("Shape", x), *map(graph.tensor, np.int64([[0], [1]])))
    shape = graph.node("Concat", count, graph.tensor(np.int64([-1])), axis=0)
    x = graph.node("Reshape", x, shape)
    for place, (weight, bias) in enumerate(head):
        if place == 0:  # columns from (channel, row, column) to (row, column, channel)
            side = round((weight.shape[1] / channels) ** 0.5)
            maps = weight.reshape(len(weight), channels, side, side)
            weight = np.moveaxis(maps, 1, 3).reshape(len(weight), -1)
        x = graph.node("MatMul", x, graph.tensor(np.ascontiguousarray(weight.T)))
        x = graph.node("Add", x, graph.tensor(bias))
        if place < len(head) - 1:
            x = graph.node("Relu", x)
    graph.save(path, graph.node("Softmax", x) if softmax else x)
