"""The loops: each kernel runs one step of a plan, shared with other threads by a counter.

Layouts, all float32 and without gaps unless said otherwise:

=========  ===========================  =========================================================
maps       (image, row, column, C)      channels are padded with zeros to whole vectors
filters    (36, K / panel, C, panel)    36 matrices in panels of output channels; between the
                                        matrices a gap, as below
V          (36, tile, C)                transformed inputs of a block of tiles
M          (36, tile, K)                their products with the filters
rows       (row, unit)                  of fully connected layers; weights (unit, input)
=========  ===========================  =========================================================

The 36 matrices of filters, V and M begin :data:`~vggfeat.engine.steps.GAP`
bytes further apart than their sizes ask for:
without that the 36 places a tile is written to would share one set of the first-level cache.

Every kernel takes jobs from a counter until none is left; threads call it with the same arguments
and scratch memory of their own. In a checked target each returns, before it touches anything
outside of a buffer, the number of that buffer in :data:`BUFFERS`; 0 is success.
"""

from __future__ import annotations

import logging
from typing import Any

from numba import njit, types
from numba.core.caching import FunctionCache

from vggfeat.engine import blocks
from vggfeat.engine.steps import GAP
from vggfeat.engine.target import Target
from vggfeat.engine.transforms import ELEMENTS, OUTPUTS, TILE

_log = logging.getLogger(__name__)

BUFFERS = ("", "inputs", "filters", "outputs", "transformed inputs", "products")
"""What the number that a kernel returns stands for."""
_INPUTS, _FILTERS, _OUTPUTS, _V, _M = range(1, len(BUFFERS))
_F32 = 4  # bytes
_LINE = 64  # bytes of a cache line
_RESIDENT_ROWS = 32  # rows of a fully connected layer's inputs that stay in the second-level cache
KERNELS: dict[str, int] = {}
"""Kernels by name, with the number of their arguments behind the target."""


def _cacheable() -> bool:
    """Tell whether numba finds a place on disk for what it compiles."""
    try:
        FunctionCache(_cacheable)
    except RuntimeError as error:
        _log.info("Compiled kernels cannot be kept: %s", error)
        return False
    return True


_jit = njit(nogil=True, cache=_cacheable(), error_model="numpy")


def _kernel(function: Any) -> Any:
    KERNELS[function.__name__] = function.__code__.co_argcount - 1
    return _jit(function)


def compile_kernel(name: str, target: Target) -> None:
    """Compile a kernel for a target, or load what was compiled before."""
    signature = (target.numba_type, *[types.int64] * KERNELS[name])
    globals()[name].compile(signature)


@_jit
def _outside(first, past, low, size):
    """Tell whether bytes from `first` to `past` leave a buffer of `size` bytes at `low`."""
    return first < low or past > low + size


@_kernel
def pack(target, counter, inputs, padded, outputs, w, u, u_element):
    """Transform filters (3, 3, inputs, outputs) into panels; one input channel a job."""
    size, wide = blocks.panel(target), blocks.lanes(target)
    while True:
        c = blocks.take(target, counter)
        if c >= inputs:
            return 0
        for k in range(0, outputs, wide):
            to = u + ((k // size * padded + c) * size + k % size) * _F32
            source = w + (c * outputs + k) * _F32
            if blocks.checked(target) and _outside(
                to, to + (ELEMENTS - 1) * u_element + wide * _F32, u, ELEMENTS * u_element
            ):
                return _FILTERS
            blocks.transform_filters(target, source, inputs * outputs * _F32, to, u_element)


@_jit
def _gather(target, first, count, size, images, height, width, inputs, x, zeros, v):
    """Transform the inputs of `count` tiles from the tile `first` on into V."""
    down, across = -(-height // OUTPUTS), -(-width // OUTPUTS)
    row, pixel = width * inputs * _F32, inputs * _F32
    element = size * pixel + GAP
    for t in range(count):
        image, place = (first + t) // (down * across), (first + t) % (down * across)
        top, left = place // across * OUTPUTS - 1, place % across * OUTPUTS - 1
        start = x + ((image * height + top) * width + left) * pixel
        if blocks.checked(target):
            begin = max(top, 0) * width + max(left, 0) + image * height * width
            last = min(top + TILE, height) * width - width + min(left + TILE, width)
            past = last + image * height * width
            if _outside(x + begin * pixel, x + past * pixel, x, images * height * row):
                return _INPUTS
            if t >= size or image >= images:
                return _V
        for c in range(0, pixel, blocks.lanes(target) * _F32):
            blocks.transform_inputs(
                target, start + c, row, pixel, top, left, height, width, zeros,
                v + t * pixel + c, element,
            )  # fmt: skip
    return 0


@_jit
def _multiply(target, first, past, count, size, inputs, outputs, u, v, m):
    """Multiply V with the panels `first` to `past` of the filters, matrix by matrix, into M."""
    wide, most = blocks.panel(target), blocks.block_rows(target)
    panels = outputs // wide
    panel_bytes = inputs * wide * _F32
    u_element = panels * panel_bytes + GAP
    v_element, m_element = size * inputs * _F32 + GAP, size * outputs * _F32 + GAP
    for p in range(first, past):
        element, j = p // panels, p % panels
        here = u + element * u_element + j * panel_bytes
        following = u + (p + 1) // panels * u_element + (p + 1) % panels * panel_bytes
        if blocks.checked(target):
            if _outside(here, here + panel_bytes, u, ELEMENTS * u_element):
                return _FILTERS
            if count > size or element >= ELEMENTS:
                return _M
        r = done = 0
        while r < count:
            left = count - r
            a = v + element * v_element + r * inputs * _F32
            c = m + element * m_element + (r * outputs + j * wide) * _F32
            # The first blocks of rows bring the next panel near while they compute.
            near = p + 1 < past and done * _LINE < wide * _F32
            ahead = following + done * inputs * _LINE if near else here
            done += 1
            if left >= most and not (most == 6 and left == 8):
                blocks.product(target, a, inputs * _F32, here, c, outputs * _F32, inputs, ahead)
                r += most
            elif left >= 4:
                blocks.product_four(
                    target, a, inputs * _F32, here, c, outputs * _F32, inputs, ahead
                )
                r += 4
            else:
                blocks.product_one(target, a, inputs * _F32, here, c, outputs * _F32, inputs, ahead)
                r += 1
    return 0


@_jit
def _scatter(
    target, first, count, size, images, height, width, outputs, pooled, m, bias, floor, y, spill
):
    """Transform the products of `count` tiles back, and write what lies inside the map."""
    down, across = -(-height // OUTPUTS), -(-width // OUTPUTS)
    side = OUTPUTS // 2 if pooled else OUTPUTS
    if pooled:
        height, width = height // 2, width // 2
    row, pixel = width * outputs * _F32, outputs * _F32
    element = size * pixel + GAP
    for t in range(count):
        image, place = (first + t) // (down * across), (first + t) % (down * across)
        top, left = place // across * side, place % across * side
        start = y + ((image * height + top) * width + left) * pixel
        rows, columns = height - top, width - left
        if blocks.checked(target) and rows > 0 and columns > 0:
            past = start + (min(rows, side) - 1) * row + min(columns, side) * pixel
            if _outside(start, past, y, images * height * row):
                return _OUTPUTS
            if t >= size:
                return _M
        for k in range(0, pixel, blocks.lanes(target) * _F32):
            source = m + t * pixel + k
            if pooled:
                blocks.transform_outputs_pooled(
                    target, source, element, bias + k, floor, start + k, row, pixel, rows, columns,
                    spill,
                )  # fmt: skip
            else:
                blocks.transform_outputs(
                    target, source, element, bias + k, floor, start + k, row, pixel, rows, columns,
                    spill,
                )  # fmt: skip
    return 0


@_kernel
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


@_kernel
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
            v + first * inputs * _F32,
        )  # fmt: skip
    return fault


@_kernel
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


@_kernel
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
            m + first * outputs * _F32, bias, floor, y, spill,
        )  # fmt: skip
    return fault


@_kernel
def direct(target, counter, images, height, width, inputs, outputs, x, u, bias, floor, y):
    """Convolve as it is defined, for few input channels; a row of a map is a job.

    The inputs (image, height + 2, width + 2, inputs) bring a border of zeros, and have channels as
    they are, none padded. Filters are (K / panel, 3, 3, inputs, panel).
    """
    wide, most = blocks.panel(target), blocks.block_rows(target)
    pixel, line = inputs * _F32, (width + 2) * inputs * _F32
    out = outputs * _F32
    while True:
        job = blocks.take(target, counter)
        if job >= images * height:
            return 0
        source = x + (job // height * (height + 2) + job % height) * line
        start = y + job * width * out
        if blocks.checked(target):
            if _outside(source, source + 3 * line, x, images * (height + 2) * line):
                return _INPUTS
            if _outside(start, start + width * out, y, images * height * width * out):
                return _OUTPUTS
        for k in range(0, outputs, wide):
            filters = u + 9 * inputs * k * _F32
            column = 0
            while column < width:
                a, to = source + column * pixel, start + column * out + k * _F32
                if column + most <= width:
                    blocks.window(
                        target, a, line, pixel, 3 * inputs, filters, bias + k * _F32, floor, to, out
                    )
                    column += most
                else:
                    blocks.window_one(
                        target, a, line, pixel, 3 * inputs, filters, bias + k * _F32, floor, to, out
                    )
                    column += 1


@_kernel
def pool(target, counter, images, height, width, channels, x, floor, y):
    """Write the maxima of 2 x 2 pixels, at least `floor`; a row of outputs is a job."""
    down, across = height // 2, width // 2
    pixel, wide = channels * _F32, blocks.lanes(target) * _F32
    while True:
        job = blocks.take(target, counter)
        if job >= images * down:
            return 0
        source = x + (job // down * height + job % down * 2) * width * pixel
        start = y + job * across * pixel
        if blocks.checked(target):
            if _outside(source, source + 2 * width * pixel, x, images * height * width * pixel):
                return _INPUTS
            if _outside(start, start + across * pixel, y, images * down * across * pixel):
                return _OUTPUTS
        for column in range(across):
            for c in range(0, pixel, wide):
                blocks.maxima(
                    target, source + 2 * column * pixel + c, width * pixel, pixel, floor,
                    start + column * pixel + c,
                )  # fmt: skip


@_kernel
def rectify(target, counter, step, count, x, floor, y):
    """Write the larger of each of `count` numbers, whole vectors, and `floor`; `step` a job."""
    while True:
        first = blocks.take(target, counter) * step
        if first >= count:
            return 0
        past = min(first + step, count)
        if blocks.checked(target) and past % blocks.lanes(target):
            return _OUTPUTS
        for i in range(first, past, blocks.lanes(target)):
            blocks.rectified(target, x + i * _F32, floor, y + i * _F32)


@_kernel
def connect(target, counter, step, rows, inputs, units, depth, x, w, bias, floor, lowest, y):
    """Run a fully connected layer: max(x w^T + bias, floor); `step` units a job.

    Weights are read once for every :data:`_RESIDENT_ROWS` rows, `depth` inputs at a time, so that
    those parts of the rows stay near. A sum's terms are added in an order that depends on `inputs`
    and `depth` alone, so a row's outputs do not depend on how many rows there are.
    """
    wide = blocks.lanes(target)
    tall, broad = blocks.dot_rows(target), blocks.dot_units(target)
    row, out = inputs * _F32, units * _F32
    while True:
        job = blocks.take(target, counter) * step
        if job >= units:
            return 0
        past = min(job + step, units)
        if blocks.checked(target) and (inputs % wide or depth % wide or rows < 1):
            return _INPUTS
        for base in range(0, rows, _RESIDENT_ROWS):
            top = min(base + _RESIDENT_ROWS, rows)
            for k in range(0, inputs, depth):
                steps = min(depth, inputs - k) // wide
                least = floor if k + depth >= inputs else lowest
                unit = job
                while unit < past:
                    some = broad if past - unit >= broad else 1
                    weights = w + unit * row + k * _F32
                    r = base
                    while r < top:
                        source, to = x + r * row + k * _F32, y + r * out + unit * _F32
                        start, start_row = (to, out) if k else (bias + unit * _F32, 0)
                        if some == 1:
                            blocks.dots_one_unit(
                                target, source, row, weights, row, steps, start, start_row, least,
                                to, out,
                            )  # fmt: skip
                            r += 1
                        elif top - r >= tall:
                            blocks.dots(
                                target, source, row, weights, row, steps, start, start_row, least,
                                to, out,
                            )  # fmt: skip
                            r += tall
                        else:
                            blocks.dots_one_row(
                                target, source, row, weights, row, steps, start, start_row, least,
                                to, out,
                            )  # fmt: skip
                            r += 1
                    unit += some
