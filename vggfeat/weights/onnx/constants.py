"""What a graph knows before it sees an image: weights, and what is computed of them.

Constants have a shape at once and values when asked. What only arranges a stored tensor anew
(``Transpose``, ``Reshape`` and the like) is done while it is read, so that a matrix of hundreds
of megabytes never lies in memory twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggfeat.weights.onnx.messages import BFLOAT16, DTYPES, FLOATING, Model, Node, Tensor
from vggfeat.weights.onnx.values import Values

_MOST_COMPUTED = 1 << 20  # values of a vector that the graph puts together
_DEEPEST = 16  # operations between a stored tensor and what is made of it
_MOST_READS = 64  # of stored tensors, to compute one constant

QUANTISED = ("QLinear", "Quantize", "Dequantize", "DynamicQuantize")
"""How types of operations on quantised numbers begin; others end in ``Integer``."""


def quantised(op: str) -> bool:
    """Whether an operation computes with whole numbers in place of floats."""
    name = op.rpartition("::")[2]
    return name.startswith(QUANTISED) or name.endswith("Integer")


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """An array whose values no image changes.

    Attributes
    ----------
    name : str
        For people, and to tell whether two are the same.
    shape : tuple of int
        Its shape.
    floating : bool
        Whether its values are floating-point numbers.
    compute : callable
        Returns its values.
    stored : tuple, or None
        Where it is a tensor of the file that was at most arranged anew: the reader, the tensor,
        the shape that it is taken to have, and the order of its axes.
    reads : int
        How many tensors are read to compute it.
    """

    name: str
    shape: tuple[int, ...]
    floating: bool
    compute: Callable[[], NDArray[Any]]
    stored: tuple[Values, Tensor, tuple[int, ...], tuple[int, ...]] | None = None
    reads: int = 1

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def read(self) -> NDArray[Any]:
        """Return the values in memory of their own.

        Raises
        ------
        ValueError
            They are not where the file says, or cannot be computed.
        """
        return self.compute()

    def transposed(self, order: Sequence[int]) -> Constant:
        """Return the same with its axes in another order."""
        if sorted(order) != list(range(len(self.shape))):
            raise ValueError(f"{self.name!r} of shape {self.shape} has no axes {list(order)}.")
        if self.stored:
            values, tensor, dims, axes = self.stored
            return _arranged(values, tensor, dims, tuple(axes[axis] for axis in order))
        shape = tuple(self.shape[axis] for axis in order)
        return replace(
            self, shape=shape, compute=lambda: np.ascontiguousarray(self.read().transpose(order))
        )

    def reshaped(self, shape: Sequence[int]) -> Constant:
        """Return the same values in another shape."""
        if math.prod(shape) != self.size:
            raise ValueError(f"{self.name!r} of shape {self.shape} is no {tuple(shape)}.")
        if self.stored and list(self.stored[3]) == list(range(len(self.shape))):
            return _arranged(*self.stored[:2], tuple(shape), tuple(range(len(shape))))
        return replace(
            self, shape=tuple(shape), compute=lambda: self.read().reshape(shape), stored=None
        )


def _arranged(
    values: Values, tensor: Tensor, dims: tuple[int, ...], order: tuple[int, ...]
) -> Constant:
    return Constant(
        tensor.name, tuple(dims[axis] for axis in order), tensor.kind in FLOATING,
        lambda: values.read(tensor, dims, order), (values, tensor, dims, order),
    )  # fmt: skip


class Constants:
    """The constants of a graph by name.

    Parameters
    ----------
    model : Model
        The graph.
    values : Values
        Reads its tensors.
    """

    def __init__(self, model: Model, values: Values) -> None:
        self._model, self._values = model, values
        self._makers = {name: node for node in model.nodes for name in node.outputs if name}
        self._found: dict[str, Constant | None] = {}

    def get(self, name: str, depth: int = 0) -> Constant | None:
        """Return a constant; None for what an image decides, or what is not understood.

        Raises
        ------
        ValueError
            What the file says of it cannot be.
        """
        if name not in self._found:
            self._found[name] = None  # what is made of itself is no constant
            self._found[name] = self._find(name, depth)
        return self._found[name]

    def small(self, name: str, most: int = 4096) -> NDArray[Any] | None:
        """Return a constant's values where it is a small one; None where there is none."""
        constant = self.get(name) if name else None
        return constant.read() if constant is not None and constant.size <= most else None

    def maker(self, name: str) -> Node | None:
        """Return the node that puts out a value."""
        return self._makers.get(name)

    def _find(self, name: str, depth: int) -> Constant | None:
        if name in self._model.tensors:
            return self._stored(self._model.tensors[name])
        node = self._makers.get(name)
        if node is None or depth == _DEEPEST:
            return None
        if node.op == "Constant":
            return self._literal(node)
        operands = [self.get(one, depth + 1) for one in node.inputs if one]
        known = [one for one in operands if one is not None]
        return _folded(node, known) if known and len(known) == len(operands) else None

    def _stored(self, tensor: Tensor) -> Constant:
        self._values.check(tensor)
        axes = tuple(range(len(tensor.shape)))
        return _arranged(self._values, tensor, tensor.shape, axes)

    def _literal(self, node: Node) -> Constant | None:
        for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
            value = node.attributes.get(name)
            if isinstance(value, Tensor):
                return self._stored(value)
            if isinstance(value, int | float | list):
                kind = np.float32 if "float" in name else np.int64
                array = np.asarray(value, kind)
                return Constant(node.name, array.shape, "float" in name, array.copy)
        return None


_ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide,
    "Sqrt": np.sqrt, "Neg": np.negative, "Reciprocal": np.reciprocal,
}  # fmt: skip
_TYPES = {kind: np.dtype(dtype) for kind, dtype in DTYPES.items() if kind != BFLOAT16}


def _folded(node: Node, operands: list[Constant]) -> Constant | None:
    """Return what a node makes of constants, or None where that is not known here."""
    first = operands[0]
    match node.op:
        case "Identity":
            return first
        case "Transpose":
            backwards = list(range(len(first.shape)))[::-1]
            return first.transposed(node.ints("perm", backwards))
        case "Cast" if (dtype := _TYPES.get(node.number("to", 0))) is not None:
            floating = dtype.kind == "f"
            if floating and first.floating and first.stored and _exact(first.stored[1], dtype):
                return first  # a wider type holds the same values
            return _computed(
                node, operands, first.shape, lambda: first.read().astype(dtype), floating
            )
        case "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten":
            shape = _new_shape(node, operands)
            return None if shape is None else first.reshaped(shape)
        case "Concat" if sum(one.size for one in operands) <= _MOST_COMPUTED:
            return _concatenated(node, operands)
        case op if op in _ARITHMETIC and first.floating:
            joint = np.broadcast_shapes(*(one.shape for one in operands))
            if math.prod(joint) > max(*(one.size for one in operands), 1 << 16):
                raise ValueError(f"{op} {node.name!r} makes a constant of shape {joint}.")
            return _computed(
                node, operands, joint, lambda: _ARITHMETIC[op](*(one.read() for one in operands))
            )
        case _:
            return None


def _exact(tensor: Tensor, dtype: np.dtype[Any]) -> bool:
    wide = {BFLOAT16: 4}.get(tensor.kind, np.dtype(DTYPES[tensor.kind]).itemsize)
    return wide <= dtype.itemsize


def _concatenated(node: Node, operands: list[Constant]) -> Constant | None:
    axis, shapes = node.number("axis", 0), [one.shape for one in operands]
    if any(len(shape) != 1 for shape in shapes) or axis not in (0, -1):
        return None
    return _computed(
        node, operands, (sum(shape[0] for shape in shapes),),
        lambda: np.concatenate([one.read() for one in operands]), operands[0].floating,
    )  # fmt: skip


def _computed(
    node: Node,
    operands: list[Constant],
    shape: tuple[int, ...],
    compute: Callable[[], NDArray[Any]],
    floating: bool = True,
) -> Constant:
    reads = sum(one.reads for one in operands)
    if reads > _MOST_READS:
        raise ValueError(f"{node.op} {node.name!r} is computed of {reads:,} tensors.")
    return Constant(node.name, shape, floating, compute, None, reads)


def _new_shape(node: Node, operands: list[Constant]) -> list[int] | None:
    old = list(operands[0].shape)
    if node.op == "Flatten":
        axis = node.number("axis", 1) % (len(old) + 1)
        return [math.prod(old[:axis]), math.prod(old[axis:])]
    named = "shape" if node.op == "Reshape" else "axes"
    if len(operands) > 1:
        requested = (
            [int(one) for one in operands[1].read().ravel()] if operands[1].size < 16 else None
        )
    else:
        requested = node.ints(named, []) or None
    if node.op == "Reshape":
        return None if requested is None else filled(requested, old)
    if node.op == "Squeeze":
        dropped = (
            range(len(old))
            if requested is None
            else [axis % max(1, len(old)) for axis in requested]
        )
        return [n for axis, n in enumerate(old) if not (axis in dropped and n == 1)]
    if requested is None:
        return None
    added = {axis % (len(old) + len(requested)) for axis in requested}
    rest = iter(old)
    return [1 if axis in added else next(rest) for axis in range(len(old) + len(added))]


def filled(requested: Sequence[int], old: Sequence[int]) -> list[int]:
    """Return the shape that ``Reshape`` makes: 0 keeps a dimension, and -1 takes what is left.

    Raises
    ------
    ValueError
        There is no such shape.
    """
    shape = [old[axis] if n == 0 and axis < len(old) else n for axis, n in enumerate(requested)]
    rest = math.prod(n for n in shape if n != -1)
    if shape.count(-1) == 1 and rest > 0 and math.prod(old) % rest == 0:
        shape = [math.prod(old) // rest if n == -1 else n for n in shape]
    if min(shape, default=0) < 0 or math.prod(shape) != math.prod(old):
        raise ValueError(f"there is no shape {list(requested)} of {list(old)}.")
    return shape
