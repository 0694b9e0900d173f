"""The smallest parts of kernels, on raw addresses: what a target is like, counters, and maxima.

Each is an intrinsic of numba's: a function that writes the instructions for one call, for the
vectors of a :class:`~vggfeat.engine.target.Target`. :mod:`~vggfeat.engine.transforming` holds
Winograd's transforms, :mod:`~vggfeat.engine.products` all that multiplies. Arguments are addresses,
strides in bytes and counts, all 64-bit integers; "a vector" is one of ``target.lanes`` float32
values. Nothing here checks an address: :mod:`~vggfeat.engine.kernels` does, in checked targets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from vggfeat.engine.compiling import TargetType
from vggfeat.engine.emitting import FLOAT, INT, Emitter, Value
from vggfeat.engine.target import Target

Write = Callable[[Emitter, Target, list[Value]], Value | None]


def block(
    write: Write, count: int, target: types.Type, *, result: types.Type = types.void, **how: bool
) -> Any:
    """Return what an intrinsic must: its signature, and the function that writes it."""
    if not isinstance(target, TargetType):
        return None
    chosen = target.target

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Value:
        emitter = Emitter(builder, chosen.lanes, **how)
        value = write(emitter, chosen, list(arguments[1:]))
        return context.get_dummy_value() if value is None else value

    return result(target, *[types.int64] * count), generate


@intrinsic
def checked(_context, target):
    """Tell, at compile time, whether addresses are to be checked."""
    return block(
        lambda _e, own, _a: ir.Constant(ir.IntType(1), int(own.checked)),
        0, target, result=types.boolean,
    )  # fmt: skip


@intrinsic
def lanes(_context, target):
    """Return the values in a vector."""
    return block(lambda e, own, _a: e.number(own.lanes), 0, target, result=types.int64)


@intrinsic
def panel(_context, target):
    """Return the output channels in the block of a product."""
    return block(lambda e, own, _a: e.number(own.panel), 0, target, result=types.int64)


@intrinsic
def block_rows(_context, target):
    """Return the rows in the largest block of a product."""
    return block(lambda e, own, _a: e.number(own.rows), 0, target, result=types.int64)


@intrinsic
def dot_rows(_context, target):
    """Return the rows in the largest block of a fully connected layer's product."""
    return block(lambda e, own, _a: e.number(own.dots[0]), 0, target, result=types.int64)


@intrinsic
def dot_units(_context, target):
    """Return the units in the largest block of a fully connected layer's product."""
    return block(lambda e, own, _a: e.number(own.dots[1]), 0, target, result=types.int64)


@intrinsic
def take(_context, target, counter):
    """Return what a counter holds and add one to it, as one step that threads cannot interrupt."""

    def write(e: Emitter, _target: Target, values: list[Value]) -> Value:
        pointer = e.builder.inttoptr(values[0], INT.as_pointer())
        return e.builder.atomic_rmw("add", pointer, e.number(1), "monotonic")

    return block(write, 1, target, result=types.int64)


@intrinsic
def maxima(_context, target, x, row_bytes, pixel_bytes, floor, y):
    """Write the maxima of 2 x 2 pixels at `x`, at least `floor`, one vector of channels."""

    def write(e: Emitter, _target: Target, values: list[Value]) -> None:
        x, row, pixel, floor, y = values
        least = e.spread(e.builder.load(e.builder.inttoptr(floor, FLOAT.as_pointer())))
        largest = e.load(x)
        for i, j in ((0, 1), (1, 0), (1, 1)):
            largest = e.larger(largest, e.load(e.at(e.at(x, row, i), pixel, j)))
        e.store(e.larger(largest, least), y)

    return block(write, 5, target)


@intrinsic
def rectified(_context, target, x, floor, y):
    """Write the larger of a vector at `x` and the number at `floor` to `y`."""

    def write(e: Emitter, _target: Target, values: list[Value]) -> None:
        x, floor, y = values
        least = e.spread(e.builder.load(e.builder.inttoptr(floor, FLOAT.as_pointer())))
        e.store(e.larger(e.load(x), least), y)

    return block(write, 3, target)
