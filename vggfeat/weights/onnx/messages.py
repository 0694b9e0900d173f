"""What an ``.onnx`` file says, read in place: nodes, attributes, and where tensors lie.

Of ``onnx.proto`` these fields count (number: name):

==================  ===========================================================================
``ModelProto``      2: producer_name, 7: graph, 25: functions
``GraphProto``      1: node, 5: initializer, 11: input, 12: output
``NodeProto``       1: input, 2: output, 3: name, 4: op_type, 5: attribute, 7: domain
``AttributeProto``  1: name, 2: f, 3: i, 4: s, 5: t, 6: g, 7: floats, 8: ints
``TensorProto``     1: dims, 2: data_type, 4: float_data, 5: int32_data, 7: int64_data, 8: name,
                    9: raw_data, 10: double_data, 13: external_data, 14: data_location
``ValueInfoProto``  1: name, 2: type; therein 1: tensor_type; therein 2: shape; therein 1: dim;
                    therein 1: dim_value
==================  ===========================================================================

Nothing here recurses: graphs within nodes are noticed, and not looked into. Whatever a file says of
counts is bounded, so that a damaged or hostile one costs an error and no more.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vggfeat.weights.wire import Buffer, Field, fields, varints

_MOST_BYTES = 1 << 16  # of a name, or a list of numbers
_MOST_DIMENSIONS = 16
_LARGEST = 1 << 40  # values in one tensor

FLOAT, INT64, FLOAT16, DOUBLE, BFLOAT16 = 1, 7, 10, 11, 16
FLOATING = (FLOAT, FLOAT16, DOUBLE, BFLOAT16)
"""Data types of tensors that may be weights."""

DTYPES: Mapping[int, str] = {
    FLOAT: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", INT64: "<i8", 9: "?",
    FLOAT16: "<f2", DOUBLE: "<f8", 12: "<u4", 13: "<u8", BFLOAT16: "<u2",
}  # fmt: skip
"""numpy's type of each data type's values; bfloat16's are read as their bits."""

_RAW, _FLOAT_DATA, _INT32_DATA, _INT64_DATA, _DOUBLE_DATA = 9, 4, 5, 7, 10
_EXTERNAL = 1  # of data_location


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """An array in the file, or in one beside it.

    Attributes
    ----------
    name : str
        As nodes call it.
    shape : tuple of int
        As the file has it.
    kind : int
        ONNX's data type, a key of :data:`DTYPES`.
    places : tuple of (int, int)
        Byte ranges that hold the values, one behind the other.
    integers : bool
        Whether the values are variable-length integers, rather than of `kind`'s own type.
    location, offset, length : str, int, int or None
        The file beside it that holds them, and where; an empty name where this file does.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    places: tuple[tuple[int, int], ...] = ()
    integers: bool = False
    location: str = ""
    offset: int = 0
    length: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation.

    Attributes
    ----------
    op : str
        Its type; with the domain before it where that is not ONNX's own.
    name : str
        Its name, or that of its first output.
    inputs, outputs : tuple of str
        Names of values; empty where an optional one is left out.
    attributes : mapping of str to Any
        Whole numbers, floats, text, lists of numbers and :class:`Tensor`; None for graphs.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def ints(self, name: str, default: list[int]) -> list[int]:
        """Return an attribute that is a list of whole numbers.

        Raises
        ------
        ValueError
            It is something else.
        """
        value = self.attributes.get(name, default)
        if not isinstance(value, list) or not all(isinstance(one, int) for one in value):
            raise ValueError(f"{self.op} {self.name!r} has no list of numbers for {name}.")
        return value

    def number(self, name: str, default: Any) -> Any:
        """Return an attribute that is a number.

        Raises
        ------
        ValueError
            It is something else.
        """
        value = self.attributes.get(name, default)
        if not isinstance(value, int | float):
            raise ValueError(f"{self.op} {self.name!r} has no number for {name}.")
        return value


@dataclass(slots=True)
class Model:
    """What a file says.

    Attributes
    ----------
    producer : str
        The program that wrote it.
    functions : bool
        Whether it defines operations of its own.
    nodes : list of Node
        In the file's order.
    tensors : dict of str to Tensor
        The initializers by name.
    inputs : dict of str to tuple of int, or None
        Names of the graph's inputs that are no initializers, with their shape; 0 for a dimension
        that is not fixed, None where nothing is said.
    outputs : list of str
        Names of the graph's outputs.
    """

    producer: str = ""
    functions: bool = False
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, tuple[int, ...] | None] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)


def model(data: Buffer) -> Model:
    """Read what a file says.

    Parameters
    ----------
    data : bytes or mmap
        All of the file.

    Raises
    ------
    ValueError
        It is no ONNX model, or is damaged.
    """
    read, graphs = Model(), []
    for one in fields(data, 0, len(data)):
        if one.number == 2:
            read.producer = _text(data, one)
        elif one.number == 7 and one.value is None:
            graphs.append(one)
        elif one.number == 25:
            read.functions = True
    if len(graphs) != 1:
        raise ValueError(f"it holds {len(graphs) or 'no'} graphs, where ONNX has one.")
    for one in fields(data, graphs[0].start, graphs[0].stop):
        if one.value is not None:
            continue
        if one.number == 1:
            read.nodes.append(_node(data, one))
        elif one.number == 5:
            tensor = _tensor(data, one)
            read.tensors[tensor.name] = tensor
        elif one.number == 11:
            name, shape = _value_info(data, one)
            read.inputs[name] = shape
        elif one.number == 12:
            read.outputs.append(_value_info(data, one)[0])
    for name in read.tensors:  # files of ONNX before 1.4 name them among the inputs
        read.inputs.pop(name, None)
    if not read.nodes:
        raise ValueError("its graph holds no nodes.")
    return read


def _text(data: Buffer, one: Field) -> str:
    if one.value is not None:
        raise ValueError(f"there is a number in place of text at byte {one.start}.")
    if one.stop - one.start > _MOST_BYTES:
        raise ValueError(f"it has a name of {one.stop - one.start:,} bytes.")
    return bytes(data[one.start : one.stop]).decode("utf-8", "replace")


def _integers(data: Buffer, one: Field) -> list[int]:
    if one.stop - one.start > _MOST_BYTES:
        raise ValueError(f"it has a list of {one.stop - one.start:,} bytes.")
    return [signed(value) for value in varints(data, one, _MOST_BYTES)]


def signed(value: int) -> int:
    """Return a variable-length integer as the signed 64-bit number that it is."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


def _floats(data: Buffer, one: Field) -> list[float]:
    size = one.stop - one.start
    if one.value is not None or size % 4 or size > _MOST_BYTES:
        raise ValueError(f"it has {size:,} bytes in place of numbers.")
    return list(struct.unpack(f"<{size // 4}f", data[one.start : one.stop]))


def _node(data: Buffer, place: Field) -> Node:
    inputs, outputs = [], []
    attributes: dict[str, Any] = {}
    op, name, domain = "", "", ""
    for one in fields(data, place.start, place.stop):
        match one.number:
            case 1:
                inputs.append(_text(data, one))
            case 2:
                outputs.append(_text(data, one))
            case 3:
                name = _text(data, one)
            case 4:
                op = _text(data, one)
            case 5 if one.value is None:
                attributes.update([_attribute(data, one)])
            case 7:
                domain = _text(data, one)
    if domain not in ("", "ai.onnx"):
        op = f"{domain}::{op}"
    name = name or next(iter(outputs), "")
    return Node(op, name, tuple(inputs), tuple(outputs), attributes)


def _attribute(data: Buffer, place: Field) -> tuple[str, Any]:
    name = ""
    value: Any = None
    numbers: list[Any] = []
    for one in fields(data, place.start, place.stop):
        match one.number:
            case 1:
                name = _text(data, one)
            case 2:
                value = _floats(data, one)[0] if one.stop - one.start == 4 else None
            case 3:
                value = None if one.value is None else signed(one.value)
            case 4:
                value = _text(data, one)
            case 5 if one.value is None:
                value = _tensor(data, one)
            case 7:
                numbers += _floats(data, one)
            case 8:
                numbers += _integers(data, one)
    return name, numbers or ([] if value is None else value)


def _tensor(data: Buffer, place: Field) -> Tensor:
    name, shape, kind, external = "", [], 0, False
    places: dict[int, list[tuple[int, int]]] = {}
    external_data: dict[str, str] = {}
    for one in fields(data, place.start, place.stop):
        match one.number:
            case 1:
                shape += _integers(data, one)
            case 2 if one.value is not None:
                kind = one.value
            case 8:
                name = _text(data, one)
            case 13 if one.value is None:
                pair = {f.number: _text(data, f) for f in fields(data, one.start, one.stop)}
                external_data[pair.get(1, "")] = pair.get(2, "")
            case 14:
                external = one.value == _EXTERNAL
            case _:  # a number outside a packed list lies at its place as well
                places.setdefault(one.number, []).append((one.start, one.stop))
    size = 1
    for dimension in shape:
        size *= dimension
        if dimension < 0 or size > _LARGEST or len(shape) > _MOST_DIMENSIONS:
            raise ValueError(f"tensor {name!r} has shape {tuple(shape[:8])}.")
    if external:
        length = external_data.get("length")
        return Tensor(
            name, tuple(shape), kind, location=external_data.get("location", "") or "?",
            offset=int(external_data.get("offset", "0")),
            length=None if length is None else int(length),
        )  # fmt: skip
    number = _RAW
    if _RAW not in places:
        listed = {FLOAT: _FLOAT_DATA, DOUBLE: _DOUBLE_DATA, INT64: _INT64_DATA}
        number = listed.get(kind, _INT32_DATA)
    integers = number in (_INT32_DATA, _INT64_DATA)
    return Tensor(name, tuple(shape), kind, tuple(places.get(number, [])), integers)


def _value_info(data: Buffer, place: Field) -> tuple[str, tuple[int, ...] | None]:
    name, shape = "", None
    for one in fields(data, place.start, place.stop):
        if one.number == 1:
            name = _text(data, one)
        elif one.number == 2:
            for dims in _nested(data, one, 1, 2):
                sizes = [_nested(data, dim, 1) for dim in _nested(data, dims, 1)]
                shape = tuple((dim[0].value or 0) if dim else 0 for dim in sizes)
    return name, shape


def _nested(data: Buffer, place: Field, *path: int) -> list[Field]:
    """Return the fields at the end of a path of field numbers, one for each message between."""
    inner = [place]
    for number in path:
        inner = [
            one
            for outer in inner
            if outer.value is None
            for one in fields(data, outer.start, outer.stop)
            if one.number == number
        ]
    return inner
