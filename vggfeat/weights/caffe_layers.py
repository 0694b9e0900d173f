"""The layers of a Caffe model as a graph.

Of ``caffe.proto`` these fields count beside those of :mod:`vggfeat.weights.caffe_file`:

========================  =============================================================
``V1LayerParameter``      2: bottom, 3: top, 5: type (a number), and the parameters 10:
                          convolution, 19: pooling
``LayerParameter``        2: type (a name), 3: bottom, 4: top; 106: convolution, 121: pooling,
                          139: batch normalisation
``ConvolutionParameter``  3: pad, 4: kernel_size, 5: group, 6: stride, 9 and 10: pad_h and _w,
                          11 and 12: kernel_h and _w, 13 and 14: stride_h and _w, 18: dilation
``PoolingParameter``      1: pool (0 is MAX), 2: kernel_size, 3: stride, 4: pad
``BatchNormParameter``    3: eps
========================  =============================================================

A layer takes its bottoms and makes its tops; where one works in place the two have one name, so
what a later layer takes is what the last one made. Files of layers without bottoms and tops, as
some programs wrote them, are taken for a chain in the order of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vggfeat.weights.graph import Kind, Node
from vggfeat.weights.wire import Buffer, Field, fields, varints

_NUMBERS = {
    4: "Convolution", 5: "Data", 6: "Dropout", 8: "Flatten", 14: "InnerProduct", 17: "Pooling",
    18: "ReLU", 20: "Softmax", 21: "SoftmaxWithLoss", 22: "Split", 12: "ImageData", 1: "Accuracy",
}  # fmt: skip
"""Kinds of layers by their number in V1LayerParameter."""

_KINDS: Mapping[str, Kind] = {
    "Convolution": "conv", "InnerProduct": "linear", "ReLU": "relu", "Pooling": "pool",
    "Flatten": "flatten", "Softmax": "softmax", "SoftmaxWithLoss": "softmax", "Dropout": "same",
    "Split": "same", "BatchNorm": "norm", "Scale": "norm", "Data": "input", "Input": "input",
    "ImageData": "input", "MemoryData": "input", "HDF5Data": "input", "WindowData": "input",
}  # fmt: skip
_ROLES: Mapping[str, Sequence[str]] = {
    "Convolution": ("weight", "bias"),
    "InnerProduct": ("weight", "bias"),
    "BatchNorm": ("mean", "variance", "factor"),
    "Scale": ("gamma", "beta"),
}
_EPS = 1e-5  # Caffe's default
_LONGEST_NAME = 1024  # bytes
_MOST_NUMBERS = 64  # of an option, such as a convolution's strides


@dataclass(slots=True)
class Message:
    """A layer's message, as far as it is read.

    Attributes
    ----------
    name, kind : str
        Its name and its type's.
    bottoms, tops : list of str
        Names of the blobs that it takes and makes.
    blobs : list of str
        Names of its tensors in the file.
    convolution, pooling, norm : Field or None
        Where its parameters lie.
    """

    name: str = ""
    kind: str = ""
    bottoms: list[str] = field(default_factory=list)
    tops: list[str] = field(default_factory=list)
    blobs: list[str] = field(default_factory=list)
    convolution: Field | None = None
    pooling: Field | None = None
    norm: Field | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """Numbers of fields in one of the two generations of layer messages."""

    name: int
    kind: int
    bottom: int
    top: int
    blobs: int
    convolution: int
    pooling: int
    norm: int = 0


GENERATIONS = {
    2: Generation(name=4, kind=5, bottom=2, top=3, blobs=6, convolution=10, pooling=19),
    100: Generation(
        name=1, kind=2, bottom=3, top=4, blobs=7, convolution=106, pooling=121, norm=139
    ),
}
"""By the field of NetParameter that the messages stand in."""


def message(data: Buffer, at: Field, numbers: Generation) -> tuple[Message, list[Field]]:
    """Read a layer's message; the fields that hold its blobs are given beside it."""
    layer, blobs = Message(), []
    for each in fields(data, at.start, at.stop):
        if each.value is not None:
            if each.number == numbers.kind:
                layer.kind = _NUMBERS.get(each.value, f"type {each.value}")
            continue
        match each.number:
            case numbers.name:
                layer.name = _text(data, each)
            case numbers.kind:
                layer.kind = _text(data, each)
            case numbers.bottom:
                layer.bottoms.append(_text(data, each))
            case numbers.top:
                layer.tops.append(_text(data, each))
            case numbers.blobs:
                blobs.append(each)
            case numbers.convolution:
                layer.convolution = each
            case numbers.pooling:
                layer.pooling = each
            case numbers.norm:
                layer.norm = each
    return layer, blobs


def graph(data: Buffer, layers: Sequence[Message]) -> list[Node]:
    """Return the nodes of a model."""
    made: dict[str, str] = {}
    taken: set[str] = set()
    nodes: list[Node] = []
    bare = not any(layer.bottoms for layer in layers)
    for number, layer in enumerate(layers):
        name = f"{layer.name}@{number}" if layer.name in taken else layer.name
        taken.add(name)
        inputs = [made.get(bottom, bottom) for bottom in layer.bottoms]
        if bare and nodes:
            inputs = [nodes[-1].name]
        nodes.append(_node(data, layer, name, tuple(inputs)))
        for top in layer.tops:
            made[top] = name
    return nodes


def _node(data: Buffer, layer: Message, name: str, inputs: tuple[str, ...]) -> Node:
    if not layer.kind:  # a file that names no types: the names have to do
        layer.kind = {"c": "Convolution", "f": "InnerProduct"}.get(layer.name[:1], "")
    kind = _KINDS.get(layer.kind, "other")
    roles = _ROLES.get(layer.kind, ())
    tensors = dict(zip(roles, layer.blobs, strict=False))
    unlike = "" if len(layer.blobs) <= len(roles) else f"it has {len(layer.blobs)} blobs"
    padded = True
    if kind == "conv":
        if "weight" not in tensors:
            unlike = unlike or "it has no weights"
        if layer.convolution is not None:
            padded, said = _convolution(data, layer.convolution)
            unlike = unlike or said
    elif kind == "linear" and "weight" not in tensors:
        unlike = "it has no weights"
    elif kind == "norm" and not tensors:
        unlike = unlike or "it has no blobs"
    elif kind == "pool" and layer.pooling is not None:
        unlike = _pooling(data, layer.pooling)
    eps = _float(data, layer.norm, 3, _EPS) if layer.kind == "BatchNorm" else 0.0
    return Node(name, kind, inputs, layer.kind, tensors, eps, padded, unlike)


def _convolution(data: Buffer, at: Field) -> tuple[bool, str]:
    """Return whether a convolution keeps the map's size, and how it is unlike VGG's."""
    options = _numbers(data, at)
    kernel = options.get(4) or options.get(11, []) + options.get(12, [])
    pad = options.get(3) or options.get(9, []) + options.get(10, [])
    stride = options.get(6) or options.get(13, []) + options.get(14, [])
    if not kernel:  # not the parameters of a real layer: its weights' shape has to do
        return True, ""
    padded = any(pad)
    unlike = []
    if set(stride) - {1}:
        unlike.append(f"stride {stride}")
    if set(options.get(18, [])) - {1}:
        unlike.append(f"dilation {options[18]}")
    if set(options.get(5, [])) - {1}:
        unlike.append(f"{options[5][0]} groups")
    if padded and (set(pad), set(kernel)) != ({1}, {3}):
        unlike.append(f"kernel {kernel}, pad {pad}")
    return padded, ", ".join(unlike)


def _pooling(data: Buffer, at: Field) -> str:
    options = _numbers(data, at)
    size, stride, pad = (options.get(number, [0])[-1] for number in (2, 3, 4))
    if options.get(1, [0])[-1] != 0:
        return "not of the maximum"
    return "" if (size, stride, pad) == (2, 2, 0) else f"of {size}, stride {stride}, pad {pad}"


def _numbers(data: Buffer, at: Field) -> dict[int, list[int]]:
    options: dict[int, list[int]] = {}
    for each in fields(data, at.start, at.stop):
        if each.value is not None or each.number in (3, 4, 6, 18):  # the latter may be packed
            options.setdefault(each.number, []).extend(varints(data, each, _MOST_NUMBERS))
            if len(options[each.number]) > _MOST_NUMBERS:
                raise ValueError(f"it has more than {_MOST_NUMBERS} numbers for an option.")
    return options


def _float(data: Buffer, at: Field | None, number: int, default: float) -> float:
    if at is not None:
        for each in fields(data, at.start, at.stop):
            if each.number == number and each.value is None and each.stop - each.start == 4:
                default = struct.unpack("<f", bytes(data[each.start : each.stop]))[0]
    return default


def _text(data: Buffer, at: Field) -> str:
    if at.stop - at.start > _LONGEST_NAME:
        raise ValueError(f"it has a name of {at.stop - at.start:,} bytes.")
    return bytes(data[at.start : at.stop]).decode("utf-8", "replace")
