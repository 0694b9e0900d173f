"""The plan: which kernels run on which memory to reach the layers that were asked for.

A plan is made for one size of input, and says all that happens
(:meth:`~vggfeat.engine.steps.Plan.describe` prints it). ReLU and pooling are part of the
convolution before them wherever nobody asked for the value in between. The first blocks of a
network, whose maps are large and whose filters are small, run on a few images at a time, so that
what one step writes is still near when the next one reads it; the last ones, whose filters are
large, run on all images together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from math import ceil, prod

from vggfeat.engine.memory import GUARD, Lifetime, placed
from vggfeat.engine.packing import padded
from vggfeat.engine.processor import second_level_cache
from vggfeat.engine.steps import Buffer, Plan, Section, Step
from vggfeat.engine.transforms import ELEMENTS
from vggfeat.layers import Architecture, Layer

_NEAR = 24 << 20
"""Bytes of a step's inputs and outputs that are hoped to stay in the last-level cache."""
_LARGE_FILTERS = 16 << 20
"""Bytes of transformed filters from which on a layer runs on all images together."""
_LEAST_TILES, _MOST_TILES = 36, 96
"""Tiles of a block; fewer would read the filters too often, more would not stay near."""
_LEAST_TILES_OF_LARGE = 48
_SHARED_TILES = 48
"""Tiles a thread below which threads share a convolution's phases, rather than its tiles."""


def compiled(
    network: Architecture,
    requested: Collection[str],
    images: int,
    height: int,
    width: int,
    *,
    threads: int,
    guarded: bool = False,
) -> Plan:
    """Plan how to reach layers.

    Parameters
    ----------
    network : Architecture
        Whose layers are named.
    requested : collection of str
        Canonical names of convolutions, ReLUs and poolings of the maps.
    images, height, width : int
        Inputs that run together.
    threads : int
        That run them.
    guarded : bool
        Whether each buffer gets guards.

    Raises
    ------
    LayerError
        The input is too small for the deepest layer.
    """
    layers = [layer for layer in network.upto(requested) if layer.spatial]
    network.output_shape(layers[-1].name, height, width)  # raises for inputs that are too small
    steps = list(_steps(list(_folded(layers, requested)), requested, height, width))
    sections = _sections(steps, images, threads)
    buffers = _buffers(sections, threads, GUARD if guarded else 0)
    offsets, total = placed([buffer.life for buffer in buffers])
    guards = GUARD if guarded else 0
    settled = tuple(
        Buffer(b.name, b.images, b.values, b.life, offset + guards)
        for b, offset in zip(buffers, offsets, strict=True)
    )
    return Plan(images, height, width, threads, sections, settled, total, guards)


def _folded(layers: Sequence[Layer], requested: Collection[str]) -> Iterator[Layer]:
    """Give the layers as they run: batch normalisation as the convolution that it is folded into.

    A convolution's own output is then not on the way; it is computed beside it if asked for.
    """
    for layer, behind in zip(layers, [*layers[1:], None], strict=True):
        if layer.kind == "bn":
            continue
        if behind is None or behind.kind != "bn":
            yield layer
            continue
        if layer.name in requested:
            yield layer
        yield replace(layer, name=behind.name)


def _steps(
    layers: Sequence[Layer], requested: Collection[str], height: int, width: int
) -> Iterator[Step]:
    """Fuse layers to steps, each of which reads what the one before it wrote.

    Only a convolution directly before another one stands beside that chain: both read the same.
    """
    channels = layers[0].inputs
    yield Step("border", ("input",), -1, 0, height, width, channels, channels, channels)
    at = buffer = written = 0
    while at < len(layers):
        direct = buffer == 0  # the first layer has too few channels to be worth transforming
        fused = _fused(layers[at:], requested, pools=not direct)
        layer, kinds = fused[0], [one.kind for one in fused]
        kind = "pool" if "pool" in kinds else "rectify"
        if layer.kind == "conv":
            kind = "direct" if direct else "winograd"
        target = buffer if kind == "rectify" else written + 1
        behind = layers[at + len(fused) :][:1]
        beside = kinds == ["conv"] and any(one.kind == "conv" for one in behind)
        step = Step(
            kind=kind,
            layers=tuple(one.name for one in fused),
            source=buffer,
            target=target,
            height=height,
            width=width,
            inputs=layer.inputs if direct else padded(layer.inputs),
            outputs=padded(layer.outputs),
            channels=layer.outputs,
            rectified="relu" in kinds,
            pooled=kind == "winograd" and "pool" in kinds,
            captured=fused[-1].name in requested,
        )
        yield step
        if step.halved:
            height, width = height // 2, width // 2
        written, at = target, at + len(fused)
        buffer = buffer if beside else target


def _fused(layers: Sequence[Layer], requested: Collection[str], *, pools: bool) -> list[Layer]:
    """Return the first layer and those behind it that one step computes together with it.

    A step that starts with a convolution whose kernel never `pools` ends before a pooling layer.
    """
    fused = [layers[0]]
    for behind in layers[1:3]:
        last = fused[-1]
        # The larger of maxima and 0 is the maximum of what is larger than 0.
        follows = (last.kind, behind.kind) in (("conv", "relu"), ("relu", "pool"))
        if not follows or last.name in requested or (behind.kind == "pool" and not pools):
            break
        fused.append(behind)
    return fused


def _sections(steps: Sequence[Step], images: int, threads: int) -> tuple[Section, ...]:
    """Group steps by how many images they run on at a time."""
    blocks: list[list[Step]] = [[]]
    for step in steps:
        blocks[-1].append(step)
        if step.halved:
            blocks.append([])
    sections: list[tuple[int, list[Step]]] = []
    least = 1
    for block in filter(None, blocks):
        least = max(least, min(images, _together(block, threads) or images))
        if sections and sections[-1][0] == least:
            sections[-1][1].extend(block)
        else:
            sections.append((least, block))
    sections[-1] = (images, sections[-1][1])
    if len(sections) > 1 and sections[-2][0] == images:
        sections[-2:] = [(images, [*sections[-2][1], *sections[-1][1]])]
    return tuple(
        Section(count, tuple(replace(s, tiles=_tiles(s, count, threads)) for s in block))
        for count, block in sections
    )


def _together(block: Sequence[Step], threads: int) -> int:
    """Return how many images suit a block, a power of two, or 0 for all of them."""
    convolutions = [step for step in block if step.kind == "winograd"]
    if any(_filters(step) >= _LARGE_FILTERS for step in convolutions):
        return 0
    largest = max(4 * (s.height * s.width * s.inputs + prod(s.shape)) for s in block)
    near = _NEAR // largest
    busy = max((threads * _LEAST_TILES / s.tiles_of(1) for s in convolutions), default=1)
    return 1 << max(0, max(near, ceil(busy)).bit_length() - 1)


def _filters(step: Step) -> int:
    return 4 * ELEMENTS * step.inputs * step.outputs


def _tiles(step: Step, images: int, threads: int) -> int:
    """Return how many tiles make a block, 0 where threads rather share the phases."""
    if step.kind != "winograd":
        return 0
    tiles = step.tiles_of(images)
    if tiles < threads * _SHARED_TILES and _filters(step) > second_level_cache():
        return 0
    fitting = second_level_cache() * 3 // 4 // (4 * ELEMENTS * (step.inputs + step.outputs))
    least = _LEAST_TILES_OF_LARGE if _filters(step) >= _LARGE_FILTERS else _LEAST_TILES
    jobs = -(-tiles // max(least, min(_MOST_TILES, fitting)))
    if jobs < 32 * threads:  # few enough that one more or less would leave threads idle
        jobs = -(-jobs // threads) * threads
    each = -(-tiles // jobs)
    return each + each % 2 if each > 4 else each  # even numbers are whole blocks of rows


def _buffers(sections: Sequence[Section], threads: int, guards: int) -> list[Buffer]:
    """Lay out what lives when: maps, and behind them V and M of each thread."""
    steps = [(step, section) for section in sections for step in section.steps]
    numbered = list(enumerate(steps))
    buffers = []
    for number in range(steps[-1][0].target + 1):
        writing = [i for i, (step, _) in numbered if step.target == number]
        using = [i for i, (step, _) in numbered if number in (step.source, step.target)]
        home = numbered[max(using)][1][1]
        # What leads from one section to the next waits while the sections before run again.
        waits = any(section is not home for _, (_, section) in (numbered[i] for i in writing))
        step = numbered[writing[0]][1][0]
        values = prod(step.shape)
        size = 4 * home.images * values + 2 * guards
        life = Lifetime(size, 0 if waits else min(writing), max(using))
        buffers.append(Buffer("+".join(step.layers), home.images, values, life))
    scratch = [step.scratch(section.images) for step, section in steps]
    for thread in range(threads):
        for name, place in (("V", 0), ("M", 1)):
            # For shared phases the first thread's is everybody's.
            sizes = [
                each[place]
                for (step, _), each in zip(steps, scratch, strict=True)
                if step.tiles or not thread
            ]
            size = max(sizes, default=0)
            life = Lifetime(size + 2 * guards, 0, len(steps))
            buffers.append(Buffer(f"{name} of thread {thread}", 1, size // 4, life))
    return buffers
