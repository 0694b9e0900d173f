"""The kernels of what is no convolution: pooling and ReLU alone, and fully connected layers.

Layouts are those of :mod:`~vggfeat.engine.kernels`; rows of fully connected layers are (row, unit),
their weights (unit, input), as torch has them.
"""

from __future__ import annotations

from vggfeat.engine import blocks, products
from vggfeat.engine.buffers import AT_INPUTS, AT_OUTPUTS
from vggfeat.engine.compiling import F32, jit, outside

_RESIDENT_ROWS = 32  # rows of a fully connected layer's inputs that stay in the second-level cache


@jit
def pool(target, counter, images, height, width, channels, x, floor, y):
    """Write the maxima of 2 x 2 pixels, at least `floor`; a row of outputs is a job."""
    down, across = height // 2, width // 2
    pixel, wide = channels * F32, blocks.lanes(target) * F32
    while True:
        job = blocks.take(target, counter)
        if job >= images * down:
            return 0
        source = x + (job // down * height + job % down * 2) * width * pixel
        start = y + job * across * pixel
        if blocks.checked(target):
            if outside(source, source + 2 * width * pixel, x, images * height * width * pixel):
                return AT_INPUTS
            if outside(start, start + across * pixel, y, images * down * across * pixel):
                return AT_OUTPUTS
        for column in range(across):
            for c in range(0, pixel, wide):
                blocks.maxima(
                    target, source + 2 * column * pixel + c, width * pixel, pixel, floor,
                    start + column * pixel + c,
                )  # fmt: skip


@jit
def rectify(target, counter, step, count, x, floor, y):
    """Write the larger of each of `count` numbers, whole vectors, and `floor`; `step` a job."""
    while True:
        first = blocks.take(target, counter) * step
        if first >= count:
            return 0
        past = min(first + step, count)
        if blocks.checked(target) and past % blocks.lanes(target):
            return AT_OUTPUTS
        for i in range(first, past, blocks.lanes(target)):
            blocks.rectified(target, x + i * F32, floor, y + i * F32)


@jit
def connect(target, counter, step, rows, inputs, units, depth, x, w, bias, floor, lowest, y):
    """Run a fully connected layer: max(x w^T + bias, floor); `step` units a job.

    Weights are read once for every :data:`_RESIDENT_ROWS` rows, `depth` inputs at a time, so that
    those parts of the rows stay near. A sum's terms are added in an order that depends on `inputs`
    and `depth` alone, so a row's outputs do not depend on how many rows there are.
    """
    wide = blocks.lanes(target)
    tall, broad = blocks.dot_rows(target), blocks.dot_units(target)
    row, out = inputs * F32, units * F32
    while True:
        job = blocks.take(target, counter) * step
        if job >= units:
            return 0
        past = min(job + step, units)
        if blocks.checked(target) and (inputs % wide or depth % wide or rows < 1):
            return AT_INPUTS
        for base in range(0, rows, _RESIDENT_ROWS):
            top = min(base + _RESIDENT_ROWS, rows)
            for k in range(0, inputs, depth):
                steps = min(depth, inputs - k) // wide
                least = floor if k + depth >= inputs else lowest
                unit = job
                while unit < past:
                    some = broad if past - unit >= broad else 1
                    weights = w + unit * row + k * F32
                    r = base
                    while r < top:
                        source, to = x + r * row + k * F32, y + r * out + unit * F32
                        start, start_row = (to, out) if k else (bias + unit * F32, 0)
                        if some == 1:
                            products.dots_one_unit(
                                target, source, row, weights, row, steps, start, start_row, least,
                                to, out,
                            )  # fmt: skip
                            r += 1
                        elif top - r >= tall:
                            products.dots(
                                target, source, row, weights, row, steps, start, start_row, least,
                                to, out,
                            )  # fmt: skip
                            r += tall
                        else:
                            products.dots_one_row(
                                target, source, row, weights, row, steps, start, start_row, least,
                                to, out,
                            )  # fmt: skip
                            r += 1
                    unit += some


KERNELS = (pool, rectify, connect)
