"""Blocks of products, unrolled, whose sums stay in registers.

Intrinsics like those of :mod:`~vggfeat.engine.blocks`, which says what they have in common. Three
kinds: tiles with panels of filters, windows of a map with panels of filters, and rows with rows.
"""

from __future__ import annotations

from numba.core import cgutils
from numba.extending import intrinsic

from vggfeat.engine.blocks import Write, block
from vggfeat.engine.emitting import FLOAT, FLOAT_BYTES, Emitter, Value
from vggfeat.engine.target import Target
from vggfeat.engine.transforms import TAPS


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
    return block(_product(None), 7, target)


@intrinsic
def product_four(_context, target, a, a_bytes, u, c, c_bytes, count, ahead):
    """Do as :func:`product` for four rows."""
    return block(_product(4), 7, target)


@intrinsic
def product_one(_context, target, a, a_bytes, u, c, c_bytes, count, ahead):
    """Do as :func:`product` for one row."""
    return block(_product(1), 7, target)


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
    return block(_window(None), 9, target)


@intrinsic
def window_one(_context, target, x, line_bytes, pixel_bytes, taps, u, bias, floor, y, y_bytes):
    """Do as :func:`window` for one pixel."""
    return block(_window(1), 9, target)


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
    return block(_dots(None, None), 10, target)


@intrinsic
def dots_one_row(
    _context, target, x, x_bytes, w, w_bytes, steps, start, start_bytes, floor, y, y_bytes
):
    """Do as :func:`dots` for one row at `x`."""
    return block(_dots(1, None), 10, target)


@intrinsic
def dots_one_unit(
    _context, target, x, x_bytes, w, w_bytes, steps, start, start_bytes, floor, y, y_bytes
):
    """Do as :func:`dots` for one row at `x` and one at `w`."""
    return block(_dots(1, 1), 10, target)
