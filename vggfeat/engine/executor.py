"""A plan's steps carried out: kernels called with addresses, sizes checked before."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from vggfeat.engine.buffers import BUFFERS
from vggfeat.engine.machine_code import kernels_for
from vggfeat.engine.memory import Floats, guard, unharmed
from vggfeat.engine.packing import WHOLE, Packed
from vggfeat.engine.steps import Buffer, Plan, Step
from vggfeat.engine.thread_pool import ThreadPool
from vggfeat.errors import EngineError

Keep = Callable[[str, Floats], None]
"""Called with a layer and its activation; the array's memory is used anew afterwards."""

_PANELS = 9  # of filters in one job, where threads share a convolution's phases
_FLOORS = np.array([0, -np.inf], np.float32)


def address_of_floor(rectified: bool) -> int:
    """Return the address of what outputs are at least: 0, or minus infinity."""
    return _FLOORS.ctypes.data + (0 if rectified else 4)


class Executor:
    """Carries out a plan once, on memory that is its own meanwhile.

    Parameters
    ----------
    plan : Plan
        What to do.
    packed : Packed
        Weights of all its layers.
    pool : ThreadPool
        Whose lock the caller holds.
    inputs : ndarray of float32, (B, H, W, 3)
        As many images as the plan is for, or fewer.
    keep, observe : callable
        As for :meth:`vggfeat.engine.winograd.Winograd.maps`.
    """

    def __init__(
        self,
        plan: Plan,
        packed: Packed,
        pool: ThreadPool,
        inputs: Floats,
        keep: Keep,
        observe: Callable[[Step, float], None],
    ) -> None:
        self.plan, self.packed, self.pool = plan, packed, pool
        self.inputs, self.keep, self.observe = inputs, keep, observe
        self.memory = pool.memory(-(-plan.bytes // 4))
        self.base = self.memory.ctypes.data
        self.numbers = {id(step): number for number, step in enumerate(plan.steps)}

    def run(self) -> None:
        """Carry out the plan.

        Raises
        ------
        EngineError
            A buffer is too small, or in debug mode something else was written than it.
        """
        self._section(len(self.plan.sections) - 1, 0, len(self.inputs))

    def _section(self, number: int, low: int, high: int) -> None:
        """Run a section, and those before it, for the images from `low` to `high`."""
        section = self.plan.sections[number]
        for start in range(low, high, section.images):
            past = min(start + section.images, high)
            if number:
                self._section(number - 1, start, past)
            for step in section.steps:
                # The last step of a section writes where the next one reads all its images.
                last = step is section.steps[-1] and number + 1 < len(self.plan.sections)
                began = time.perf_counter()
                self._step(step, start, past - start, start - low if last else 0)
                self.observe(step, time.perf_counter() - began)

    def _step(self, step: Step, first: int, images: int, behind: int) -> None:
        target = self.plan.buffers[step.target]
        values = self._values(target)
        # (images * h * w * C) -> (b, h, w, C)
        out = values.reshape(-1, *step.shape)[behind : behind + images]
        self._guard(step)
        if step.kind == "border":
            out[:] = 0
            out[:, 1:-1, 1:-1] = self.inputs[first : first + images]
        else:
            source = self._values(self.plan.buffers[step.source])
            fault = self._kernel(step, images, source, out)
            if fault:
                raise EngineError(
                    f"{step.layers[-1]}: an address lies outside of its {BUFFERS[fault]}."
                )
        self._check(step)
        if step.captured:
            self.keep(step.layers[-1], out[..., : step.channels])

    def _kernel(self, step: Step, images: int, source: Floats, out: Floats) -> int:
        """Run the kernel of a step, or for few tiles its three phases."""
        border = 2 if step.kind == "direct" else 0
        needed = images * step.inputs * (step.height + border) * (step.width + border)
        scratch = [self.plan.scratch(i) for i in range(self.plan.threads)]
        room = all(
            place.bytes >= size
            for pair in (scratch if step.tiles else scratch[:1])
            for place, size in zip(pair, step.scratch(images), strict=True)
        )
        if source.size < needed or out.size != images * prod(step.shape) or not room:
            raise EngineError(f"{step.layers[-1]}: a buffer is smaller than {images} maps.")
        x, y, run = source.ctypes.data, out.ctypes.data, self.pool.run
        threads, packed = self.plan.threads, self.packed
        floor = address_of_floor(step.rectified)
        if step.kind in ("pool", "rectify"):
            kernels = kernels_for(packed.targets[-1])
            if step.kind == "pool":
                size = (images, step.height, step.width, step.outputs)
                return run(lambda c, _: kernels.pool(c, *size, x, floor, y), threads)
            part = -(-out.size // (8 * threads * WHOLE)) * WHOLE
            return run(lambda c, _: kernels.rectify(c, part, out.size, x, floor, y), threads)
        filters = packed.filters[step.layers[0]]
        if (filters.inputs, filters.outputs) != (step.inputs, step.outputs):
            raise EngineError(f"{step.layers[0]}: its weights are for other channels.")
        kernels = kernels_for(filters.target)
        u, bias = filters.values.ctypes.data, filters.bias.ctypes.data
        shape = (images, step.height, step.width)
        channels = (step.inputs, step.outputs)
        if step.kind == "direct":
            return run(
                lambda c, _: kernels.direct(c, *shape, *channels, x, u, bias, floor, y),
                threads,
            )
        own = [tuple(self.base + place.offset for place in pair) for pair in scratch]
        zeros, spills = packed.zeros.ctypes.data, packed.spill.ctypes.data
        if step.tiles:
            return run(
                lambda c, thread: kernels.convolve(
                    c, step.tiles, *shape, *channels, step.pooled, x, u, bias, floor, y,
                    zeros, spills + 4 * WHOLE * thread, *own[thread],
                ),
                threads,
            )  # fmt: skip
        (v, m), tiles = own[0], step.tiles_of(images)
        part = -(-tiles // (4 * threads))

        def gather(counter: int, _thread: int) -> Any:
            return kernels.gather(counter, part, *shape, channels[0], x, zeros, v)

        def multiply(counter: int, _thread: int) -> Any:
            return kernels.multiply(counter, _PANELS, tiles, *channels, u, v, m)

        def scatter(counter: int, thread: int) -> Any:
            spill = spills + 4 * WHOLE * thread
            return kernels.scatter(
                counter, part, *shape, channels[1], step.pooled, bias, floor, y, spill, m
            )

        return run(gather, threads) or run(multiply, threads) or run(scatter, threads)

    def _values(self, buffer: Buffer) -> Floats:
        return self.memory[buffer.offset // 4 : (buffer.offset + buffer.bytes) // 4]

    def _guards(self, step: Step) -> list[tuple[Buffer, Floats]]:
        """Return what lies around the buffers that are alive at a step."""
        number, size = self.numbers[id(step)], self.plan.guards // 4
        guards = []
        for buffer in self.plan.buffers if size else ():
            if buffer.life.first <= number <= buffer.life.last:
                start, past = buffer.offset // 4, (buffer.offset + buffer.bytes) // 4
                guards.append((buffer, self.memory[start - size : start]))
                guards.append((buffer, self.memory[past : past + size]))
        return guards

    def _guard(self, step: Step) -> None:
        number = self.numbers[id(step)]
        for buffer, around in self._guards(step):
            if buffer.life.first == number:
                guard(around)

    def _check(self, step: Step) -> None:
        for buffer, around in self._guards(step):
            if not unharmed(around):
                raise EngineError(
                    f"{step.layers[-1]} wrote outside of its buffer: what lies around "
                    f"{buffer.name!r} has changed."
                )
