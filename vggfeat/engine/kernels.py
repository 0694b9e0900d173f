"""The convolutions: each kernel runs one step of a plan, shared with other threads by a counter.

Layouts, all float32 and without gaps unless said otherwise:

=========  ===========================  =========================================================
maps       (image, row, column, C)      channels are padded with zeros to whole vectors
filters    (36, K / panel, C, panel)    36 matrices in panels of output channels; between the
                                        matrices a gap, as below
V          (36, tile, C)                transformed inputs of a block of tiles
M          (36, tile, K)                their products with the filters
=========  ===========================  =========================================================

The 36 matrices of filters, V and M begin :data:`~vggfeat.engine.steps.GAP` bytes further apart than
their sizes ask for: without that the 36 places a tile is written to would share one set of the
first-level cache. :mod:`~vggfeat.engine.compiling` says what all kernels have in common.
"""

from __future__ import annotations

from vggfeat.engine import blocks, products, transforming
from vggfeat.engine.buffers import AT_FILTERS, AT_INPUTS, AT_M, AT_OUTPUTS, AT_V
from vggfeat.engine.compiling import F32, jit, outside
from vggfeat.engine.steps import GAP
from vggfeat.engine.transforms import ELEMENTS, OUTPUTS, TILE

_LINE = 64  # bytes of a cache line


@jit
def pack(target, counter, inputs, padded, outputs, w, u, u_element):
    """Transform filters (3, 3, inputs, outputs) into panels; one input channel a job."""
    size, wide = blocks.panel(target), blocks.lanes(target)
    while True:
        c = blocks.take(target, counter)
        if c >= inputs:
            return 0
        for k in range(0, outputs, wide):
            to = u + ((k // size * padded + c) * size + k % size) * F32
            source = w + (c * outputs + k) * F32
            if blocks.checked(target) and outside(
                to, to + (ELEMENTS - 1) * u_element + wide * F32, u, ELEMENTS * u_element
            ):
                return AT_FILTERS
            transforming.transform_filters(target, source, inputs * outputs * F32, to, u_element)


@jit
def _gather(target, first, count, size, images, height, width, inputs, x, zeros, v):
    """Transform the inputs of `count` tiles from the tile `first` on into V."""
    down, across = -(-height // OUTPUTS), -(-width // OUTPUTS)
    row, pixel = width * inputs * F32, inputs * F32
    element = size * pixel + GAP
    for t in range(count):
        image, place = (first + t) // (down * across), (first + t) % (down * across)
        top, left = place // across * OUTPUTS - 1, place % across * OUTPUTS - 1
        start = x + ((image * height + top) * width + left) * pixel
        if blocks.checked(target):
            begin = max(top, 0) * width + max(left, 0) + image * height * width
            last = min(top + TILE, height) * width - width + min(left + TILE, width)
            past = last + image * height * width
            if outside(x + begin * pixel, x + past * pixel, x, images * height * row):
                return AT_INPUTS
            if t >= size or image >= images:
                return AT_V
        for c in range(0, pixel, blocks.lanes(target) * F32):
            transforming.transform_inputs(
                target, start + c, row, pixel, top, left, height, width, zeros,
                v + t * pixel + c, element,
            )  # fmt: skip
    return 0


@jit
def _multiply(target, first, past, count, size, inputs, outputs, u, v, m):
    """Multiply V with the panels `first` to `past` of the filters, matrix by matrix, into M."""
    wide, most = blocks.panel(target), blocks.block_rows(target)
    panels = outputs // wide
    panel_bytes = inputs * wide * F32
    u_element = panels * panel_bytes + GAP
    v_element, m_element = size * inputs * F32 + GAP, size * outputs * F32 + GAP
    for p in range(first, past):
        element, j = p // panels, p % panels
        here = u + element * u_element + j * panel_bytes
        following = u + (p + 1) // panels * u_element + (p + 1) % panels * panel_bytes
        if blocks.checked(target):
            if outside(here, here + panel_bytes, u, ELEMENTS * u_element):
                return AT_FILTERS
            if count > size or element >= ELEMENTS:
                return AT_M
        r = done = 0
        while r < count:
            left = count - r
            a = v + element * v_element + r * inputs * F32
            c = m + element * m_element + (r * outputs + j * wide) * F32
            # The first blocks of rows bring the next panel near while they compute.
            near = p + 1 < past and done * _LINE < wide * F32
            ahead = following + done * inputs * _LINE if near else here
            done += 1
            if left >= most and not (most == 6 and left == 8):
                products.product(target, a, inputs * F32, here, c, outputs * F32, inputs, ahead)
                r += most
            elif left >= 4:
                products.product_four(
                    target, a, inputs * F32, here, c, outputs * F32, inputs, ahead
                )
                r += 4
            else:
                products.product_one(target, a, inputs * F32, here, c, outputs * F32, inputs, ahead)
                r += 1
    return 0


@jit
def _scatter(
    target, first, count, size, images, height, width, outputs, pooled, m, bias, floor, y, spill
):
    """Transform the products of `count` tiles back, and write what lies inside the map."""
    down, across = -(-height // OUTPUTS), -(-width // OUTPUTS)
    side = OUTPUTS // 2 if pooled else OUTPUTS
    if pooled:
        height, width = height // 2, width // 2
    row, pixel = width * outputs * F32, outputs * F32
    element = size * pixel + GAP
    for t in range(count):
        image, place = (first + t) // (down * across), (first + t) % (down * across)
        top, left = place // across * side, place % across * side
        start = y + ((image * height + top) * width + left) * pixel
        rows, columns = height - top, width - left
        if blocks.checked(target) and rows > 0 and columns > 0:
            past = start + (min(rows, side) - 1) * row + min(columns, side) * pixel
            if outside(start, past, y, images * height * row):
                return AT_OUTPUTS
            if t >= size:
                return AT_M
        for k in range(0, pixel, blocks.lanes(target) * F32):
            source = m + t * pixel + k
            if pooled:
                transforming.transform_outputs_pooled(
                    target, source, element, bias + k, floor, start + k, row, pixel, rows, columns,
                    spill,
                )  # fmt: skip
            else:
                transforming.transform_outputs(
                    target, source, element, bias + k, floor, start + k, row, pixel, rows, columns,
                    spill,
                )  # fmt: skip
    return 0


@jit
def convolve(
    target, counter, size, images, height, width, inputs, outputs, pooled,
    x, u, bias, floor, y, zeros, spill, v, m,
):  # fmt: skip
    """Convolve: blocks of `size` tiles go through all three phases, one block a job.

    V and M are the thread's own, and small enough to stay near.
    """
    tiles = images * -(-height // OUTPUTS) * -(-width // OUTPUTS)
    pairs = ELEMENTS * outputs // blocks.panel(target)
    fault = 0
    while fault == 0:
        first = blocks.take(target, counter) * size
        if first >= tiles:
            return 0
        count = min(size, tiles - first)
        fault = _gather(target, first, count, size, images, height, width, inputs, x, zeros, v)
        if fault == 0:
            fault = _multiply(target, 0, pairs, count, size, inputs, outputs, u, v, m)
        if fault == 0:
            fault = _scatter(
                target, first, count, size, images, height, width, outputs, pooled, m, bias, floor,
                y, spill,
            )  # fmt: skip
    return fault


@jit
def gather(target, counter, step, images, height, width, inputs, x, zeros, v):
    """Do the first phase of few tiles: V is shared by all threads; `step` tiles a job."""
    tiles = images * -(-height // OUTPUTS) * -(-width // OUTPUTS)
    fault = 0
    while fault == 0:
        first = blocks.take(target, counter) * step
        if first >= tiles:
            return 0
        # V holds all tiles; a job's begin behind those of the jobs before it.
        fault = _gather(
            target, first, min(step, tiles - first), tiles, images, height, width, inputs, x, zeros,
            v + first * inputs * F32,
        )  # fmt: skip
    return fault


@jit
def multiply(target, counter, step, tiles, inputs, outputs, u, v, m):
    """Do the second phase of few tiles: each panel of filters is read once; `step` a job."""
    pairs = ELEMENTS * outputs // blocks.panel(target)
    fault = 0
    while fault == 0:
        first = blocks.take(target, counter) * step
        if first >= pairs:
            return 0
        past = min(first + step, pairs)
        fault = _multiply(target, first, past, tiles, tiles, inputs, outputs, u, v, m)
    return fault


@jit
def scatter(
    target, counter, step, images, height, width, outputs, pooled, bias, floor, y, spill, m
):
    """Do the third phase of few tiles: M is shared by all threads; `step` tiles a job."""
    tiles = images * -(-height // OUTPUTS) * -(-width // OUTPUTS)
    fault = 0
    while fault == 0:
        first = blocks.take(target, counter) * step
        if first >= tiles:
            return 0
        fault = _scatter(
            target, first, min(step, tiles - first), tiles, images, height, width, outputs, pooled,
            m + first * outputs * F32, bias, floor, y, spill,
        )  # fmt: skip
    return fault


@jit
def direct(target, counter, images, height, width, inputs, outputs, x, u, bias, floor, y):
    """Convolve as it is defined, for few input channels; a row of a map is a job.

    The inputs (image, height + 2, width + 2, inputs) bring a border of zeros, and have channels as
    they are, none padded. Filters are (K / panel, 3, 3, inputs, panel).
    """
    wide, most = blocks.panel(target), blocks.block_rows(target)
    pixel, line = inputs * F32, (width + 2) * inputs * F32
    out = outputs * F32
    while True:
        job = blocks.take(target, counter)
        if job >= images * height:
            return 0
        source = x + (job // height * (height + 2) + job % height) * line
        start = y + job * width * out
        if blocks.checked(target):
            if outside(source, source + 3 * line, x, images * (height + 2) * line):
                return AT_INPUTS
            if outside(start, start + width * out, y, images * height * width * out):
                return AT_OUTPUTS
        for k in range(0, outputs, wide):
            filters = u + 9 * inputs * k * F32
            column = 0
            while column < width:
                a, to = source + column * pixel, start + column * out + k * F32
                if column + most <= width:
                    products.window(
                        target, a, line, pixel, 3 * inputs, filters, bias + k * F32, floor, to, out
                    )
                    column += most
                else:
                    products.window_one(
                        target, a, line, pixel, 3 * inputs, filters, bias + k * F32, floor, to, out
                    )
                    column += 1


KERNELS = (pack, convolve, gather, multiply, scatter, direct)
