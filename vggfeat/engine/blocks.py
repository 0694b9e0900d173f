"""The unrolled blocks that kernels are made of, on raw addresses.

Each is an intrinsic of numba's: a function that writes the instructions for one call, for the
vectors of a :class:`~vggfeat.engine.target.Target`. Arguments are addresses, strides in bytes and
counts, all 64-bit integers; "a vector" is one of ``target.lanes`` float32 values. Nothing here
checks an address: :mod:`~vggfeat.engine.kernels` does, in checked targets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from vggfeat.engine.emitting import FLOAT, FLOAT_BYTES, INT, Emitter, Value
from vggfeat.engine.target import Target, TargetType
from vggfeat.engine.transforms import (
    FILTER_STAGES,
    INPUT_STAGES,
    OUTPUT_STAGES,
    OUTPUTS,
    TAPS,
    TILE,
)

Write = Callable[[Emitter, Target, list[Value]], Value | None]


def _block(
    write: Write, count: int, target: types.Type, *, result: types.Type = types.void, **how: bool
) -> Any:
    """Return what an intrinsic must: its signature, and the function that writes it."""
    if not isinstance(target, TargetType):
        return None
    chosen = target.target

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Value:
        emitter = Emitter(builder, chosen.lanes, **how)
        found = write(emitter, chosen, list(arguments[1:]))
        return context.get_dummy_value() if found is None else found

    return result(target, *[types.int64] * count), generate


@intrinsic
def checked(_context, target):
    """Tell, at compile time, whether addresses are to be checked."""
    return _block(
        lambda _e, own, _a: ir.Constant(ir.IntType(1), int(own.checked)),
        0, target, result=types.boolean,
    )  # fmt: skip


@intrinsic
def lanes(_context, target):
    """Return the values in a vector."""
    return _block(lambda e, own, _a: e.number(own.lanes), 0, target, result=types.int64)


@intrinsic
def panel(_context, target):
    """Return the output channels in the block of a product."""
    return _block(lambda e, own, _a: e.number(own.panel), 0, target, result=types.int64)


@intrinsic
def block_rows(_context, target):
    """Return the rows in the largest block of a product."""
    return _block(lambda e, own, _a: e.number(own.rows), 0, target, result=types.int64)


@intrinsic
def dot_rows(_context, target):
    """Return the rows in the largest block of a fully connected layer's product."""
    return _block(lambda e, own, _a: e.number(own.dots[0]), 0, target, result=types.int64)


@intrinsic
def dot_units(_context, target):
    """Return the units in the largest block of a fully connected layer's product."""
    return _block(lambda e, own, _a: e.number(own.dots[1]), 0, target, result=types.int64)


@intrinsic
def take(_context, target, counter):
    """Return what a counter holds and add one to it, as one step that threads cannot interrupt."""

    def write(e: Emitter, _target: Target, values: list[Value]) -> Value:
        pointer = e.builder.inttoptr(values[0], INT.as_pointer())
        return e.builder.atomic_rmw("add", pointer, e.number(1), "monotonic")

    return _block(write, 1, target, result=types.int64)


@intrinsic
def transform_filters(_context, target, w, tap_bytes, u, element_bytes):
    """Transform a vector of filters: G g G^T in float64, rounded once.

    Reads 3 x 3 vectors at `w`, one every `tap_bytes`; writes 6 x 6 at `u`, one every
    `element_bytes`.
    """

    def write(e: Emitter, _target: Target, values: list[Value]) -> None:
        w, tap, u, element = values

        def read(i: int, j: int) -> Value:
            return e.load(e.at(w, tap, i * TAPS + j))

        e.on_both_sides(FILTER_STAGES, read, _elements(e, u, element))

    return _block(write, 4, target, double=True)


@intrinsic
def transform_inputs(
    _context, target, x, row_bytes, pixel_bytes, top, left, height, width, zeros, v, element_bytes
):
    """Transform a tile of inputs, one vector of channels: B^T d B.

    Reads 6 x 6 pixels, the first of which, at `x`, is in row `top` and column `left` of a map of
    `height` x `width`; where they lie outside of it, it reads the zeros at `zeros` instead. Writes
    6 x 6 vectors at `v`, one every `element_bytes`.
    """

    def write(e: Emitter, _target: Target, values: list[Value]) -> None:
        x, row, pixel, top, left, height, width, zeros, v, element = values
        build = e.builder
        rows = [build.icmp_unsigned("<", e.past(top, i), height) for i in range(TILE)]
        columns = [build.icmp_unsigned("<", e.past(left, j), width) for j in range(TILE)]

        def read(i: int, j: int) -> Value:
            inside = build.and_(rows[i], columns[j])
            return e.load(build.select(inside, e.at(e.at(x, row, i), pixel, j), zeros))

        e.on_both_sides(INPUT_STAGES, read, _elements(e, v, element))

    return _block(write, 10, target)


def _elements(e: Emitter, base: Value, stride: Value) -> Callable[[int, list[Value]], None]:
    """Return how to store a row of a 6 x 6 square, one vector every `stride` bytes."""

    def write(i: int, row: list[Value]) -> None:
        for j, value in enumerate(row):
            e.store(value, e.at(base, stride, i * TILE + j))

    return write


def _outputs(pooled: bool) -> Write:
    def write(e: Emitter, _target: Target, values: list[Value]) -> None:
        m, element, bias, floor, y, row, pixel, rows, columns, spill = values
        build = e.builder
        add = e.load(bias)
        least = e.spread(build.load(build.inttoptr(floor, FLOAT.as_pointer())))
        above: list[list[Value]] = []

        def read(i: int, j: int) -> Value:
            return e.load(e.at(m, element, i * TILE + j))

        def put(i: int, line: list[Value]) -> None:
            if pooled and i % 2 == 0:
                above[:] = [line]
                return
            if pooled:
                upper = [e.larger(a, b) for a, b in zip(above[0], line, strict=True)]
                line, i = [e.larger(upper[j], upper[j + 1]) for j in range(0, OUTPUTS, 2)], i // 2
            for j, value in enumerate(line):
                inside = build.and_(
                    build.icmp_signed(">", rows, e.number(i)),
                    build.icmp_signed(">", columns, e.number(j)),
                )
                where = build.select(inside, e.at(e.at(y, row, i), pixel, j), spill)
                e.store(e.larger(build.fadd(value, add), least), where)

        e.on_both_sides(OUTPUT_STAGES, read, put)

    return write


@intrinsic
def transform_outputs(
    _context, target, m, element_bytes, bias, floor, y, row_bytes, pixel_bytes, rows, columns, spill
):
    """Transform a tile of products back, one vector of channels: max(A^T m A + bias, floor).

    Reads 6 x 6 vectors at `m`, one every `element_bytes`, a vector at `bias` and a number at
    `floor` (0 is ReLU, minus infinity leaves all as it is). Writes 4 x 4 pixels at `y`; those
    from row `rows` or column `columns` on are outside of the map, and go to `spill`.
    """
    return _block(_outputs(pooled=False), 10, target)


@intrinsic
def transform_outputs_pooled(
    _context, target, m, element_bytes, bias, floor, y, row_bytes, pixel_bytes, rows, columns, spill
):
    """Do as :func:`transform_outputs`, and write the maxima of 2 x 2: 2 x 2 pixels in all."""
    return _block(_outputs(pooled=True), 10, target)


def _product(rows: int | None) -> Write:
    """Write a block of `rows` x panel of a product, whose sums stay in registers."""

    def write(e: Emitter, target: Target, values: list[Value]) -> None:
        a, a_row, u, c, c_row, count, ahead = values
        height = rows or target.rows
        sums = [[_register(e, e.constant(0)) for _ in range(target.vectors)] for _ in range(height)]
        with cgutils.for_range(e.builder, count) as loop:
            e.prefetch(e.at(ahead, loop.index, 64))
            _accumulate(e, target, sums, a, a_row, u, loop.index)
        for r, line in enumerate(sums):
            for q, one in enumerate(line):
                e.store(e.builder.load(one), e.past(e.at(c, c_row, r), q * e.bytes))

    return write


def _register(e: Emitter, value: Value) -> Value:
    """Return a variable that LLVM will keep in a register."""
    place = cgutils.alloca_once(e.builder, e.vector)
    e.builder.store(value, place)
    return place


def _accumulate(
    e: Emitter, target: Target, sums: list[list[Value]], a: Value, a_row: Value, u: Value, k: Value
) -> None:
    """Add the k-th term: a column of `a`, one number a row, times a row of `u`, one panel."""
    line = e.at(u, k, target.panel * FLOAT_BYTES)
    weights = [e.load(e.past(line, q * e.bytes)) for q in range(target.vectors)]
    for r, own in enumerate(sums):
        factor = e.broadcast(e.builder.add(e.at(a, a_row, r), e.at(e.number(0), k, FLOAT_BYTES)))
        for weight, place in zip(weights, own, strict=True):
            e.builder.store(e.fma(factor, weight, e.builder.load(place)), place)


@intrinsic
def product(_context, target, a, a_bytes, u, c, c_bytes, count, ahead):
    """Multiply ``target.rows`` rows of `count` numbers at `a` with a panel at `u`.

    The panel holds `count` rows of ``target.panel`` numbers, one behind the other. Sums go to `c`.
    Rows of a and c are `a_bytes` and `c_bytes` apart. Brings `count` cache lines at `ahead`
    near, no faster than memory delivers them.
    """
    return _block(_product(None), 7, target)


@intrinsic
def product_four(_context, target, a, a_bytes, u, c, c_bytes, count, ahead):
    """Do as :func:`product` for four rows."""
    return _block(_product(4), 7, target)


@intrinsic
def product_one(_context, target, a, a_bytes, u, c, c_bytes, count, ahead):
    """Do as :func:`product` for one row."""
    return _block(_product(1), 7, target)


def _window(rows: int | None) -> Write:
    """Write a block of a convolution computed as it is defined: `rows` pixels x panel."""

    def write(e: Emitter, target: Target, values: list[Value]) -> None:
        x, line, pixel, taps, u, bias, floor, y, y_pixel = values
        height = rows or target.rows
        starts = [e.load(e.past(bias, q * e.bytes)) for q in range(target.vectors)]
        sums = [[_register(e, start) for start in starts] for _ in range(height)]
        for i in range(TAPS):
            weights = e.at(u, e.builder.mul(taps, e.number(target.panel * FLOAT_BYTES)), i)
            with cgutils.for_range(e.builder, taps) as loop:
                _accumulate(e, target, sums, e.at(x, line, i), pixel, weights, loop.index)
        least = e.spread(e.builder.load(e.builder.inttoptr(floor, FLOAT.as_pointer())))
        for r, own in enumerate(sums):
            for q, one in enumerate(own):
                value = e.larger(e.builder.load(one), least)
                e.store(value, e.past(e.at(y, y_pixel, r), q * e.bytes))

    return write


@intrinsic
def window(_context, target, x, line_bytes, pixel_bytes, taps, u, bias, floor, y, y_bytes):
    """Convolve for ``target.rows`` neighbouring pixels as it is defined: max(sum + bias, floor).

    A pixel's window begins at `x`: three lines, `line_bytes` apart, of `taps` numbers each. The
    next pixel's begins `pixel_bytes` further, and its panel of outputs goes `y_bytes` further.
    """
    return _block(_window(None), 9, target)


@intrinsic
def window_one(_context, target, x, line_bytes, pixel_bytes, taps, u, bias, floor, y, y_bytes):
    """Do as :func:`window` for one pixel."""
    return _block(_window(1), 9, target)


def _dots(rows: int | None, units: int | None) -> Write:
    """Write a block of rows x units of a product of rows with rows."""

    def write(e: Emitter, target: Target, values: list[Value]) -> None:
        x, x_row, w, w_row, steps, start, start_row, floor, y, y_row = values
        build = e.builder
        height, width = rows or target.dots[0], units or target.dots[1]
        zero = e.constant(0)
        sums = [[_register(e, zero) for _ in range(width)] for _ in range(height)]
        with cgutils.for_range(build, steps) as loop:
            here = e.at(e.number(0), loop.index, e.bytes)
            ours = [e.load(build.add(e.at(x, x_row, r), here)) for r in range(height)]
            for u in range(width):
                weight = e.load(build.add(e.at(w, w_row, u), here))
                for r in range(height):
                    place = sums[r][u]
                    build.store(e.fma(ours[r], weight, build.load(place)), place)
        least = build.load(build.inttoptr(floor, FLOAT.as_pointer()))
        for r in range(height):
            for u in range(width):
                begun = e.past(e.at(start, start_row, r), u * FLOAT_BYTES)
                value = build.fadd(
                    e.total(build.load(sums[r][u])),
                    build.load(build.inttoptr(begun, FLOAT.as_pointer())),
                )
                value = build.select(build.fcmp_ordered("<", value, least), least, value)
                where = e.past(e.at(y, y_row, r), u * FLOAT_BYTES)
                build.store(value, build.inttoptr(where, FLOAT.as_pointer()))

    return write


@intrinsic
def dots(_context, target, x, x_bytes, w, w_bytes, steps, start, start_bytes, floor, y, y_bytes):
    """Multiply rows at `x` with rows at `w`, `steps` vectors of each: max(x w^T + start, floor).

    ``target.dots`` says how many of each. `start` and `y` hold numbers, one a row of w, and
    `start_bytes` and `y_bytes` lead to those of the next row of x.
    """
    return _block(_dots(None, None), 10, target)


@intrinsic
def dots_one_row(
    _context, target, x, x_bytes, w, w_bytes, steps, start, start_bytes, floor, y, y_bytes
):
    """Do as :func:`dots` for one row at `x`."""
    return _block(_dots(1, None), 10, target)


@intrinsic
def dots_one_unit(
    _context, target, x, x_bytes, w, w_bytes, steps, start, start_bytes, floor, y, y_bytes
):
    """Do as :func:`dots` for one row at `x` and one at `w`."""
    return _block(_dots(1, 1), 10, target)


@intrinsic
def maxima(_context, target, x, row_bytes, pixel_bytes, floor, y):
    """Write the maxima of 2 x 2 pixels at `x`, at least `floor`, one vector of channels."""

    def write(e: Emitter, _target: Target, values: list[Value]) -> None:
        x, row, pixel, floor, y = values
        least = e.spread(e.builder.load(e.builder.inttoptr(floor, FLOAT.as_pointer())))
        found = e.load(x)
        for i, j in ((0, 1), (1, 0), (1, 1)):
            found = e.larger(found, e.load(e.at(e.at(x, row, i), pixel, j)))
        e.store(e.larger(found, least), y)

    return _block(write, 5, target)


@intrinsic
def rectified(_context, target, x, floor, y):
    """Write the larger of a vector at `x` and the number at `floor` to `y`."""

    def write(e: Emitter, _target: Target, values: list[Value]) -> None:
        x, floor, y = values
        least = e.spread(e.builder.load(e.builder.inttoptr(floor, FLOAT.as_pointer())))
        e.store(e.larger(e.load(x), least), y)

    return _block(write, 3, target)
