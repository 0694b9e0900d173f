"""Winograd's transforms of a tile, unrolled: filters, inputs and outputs.

Intrinsics like those of :mod:`~vggfeat.engine.blocks`, which says what they have in common. The
matrices are those that :mod:`~vggfeat.engine.transforms` derives.
"""

from __future__ import annotations

from collections.abc import Callable

from numba.extending import intrinsic

from vggfeat.engine.blocks import Write, block
from vggfeat.engine.emitting import FLOAT, Emitter, Value
from vggfeat.engine.target import Target
from vggfeat.engine.transforms import (
    FILTER_STAGES,
    INPUT_STAGES,
    OUTPUT_STAGES,
    OUTPUTS,
    TAPS,
    TILE,
)


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

    return block(write, 4, target, double=True)


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

    return block(write, 10, target)


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
    return block(_outputs(pooled=False), 10, target)


@intrinsic
def transform_outputs_pooled(
    _context, target, m, element_bytes, bias, floor, y, row_bytes, pixel_bytes, rows, columns, spill
):
    """Do as :func:`transform_outputs`, and write the maxima of 2 x 2: 2 x 2 pixels in all."""
    return block(_outputs(pooled=True), 10, target)
