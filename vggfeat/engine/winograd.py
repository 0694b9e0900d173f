"""The engine: packed weights and plans, and the walk along a plan's steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping

import numpy as np

from vggfeat.engine import kernels
from vggfeat.engine.crew import Crew, crew
from vggfeat.engine.memory import Floats, aligned, guard, unharmed
from vggfeat.engine.packing import WHOLE, Filters, pack, targets
from vggfeat.engine.plan import Buffer, Plan, Step, compiled
from vggfeat.engine.processor import debugging, unsuited, widths
from vggfeat.errors import DeviceError, EngineError
from vggfeat.layers import Architecture

_log = logging.getLogger(__name__)

Keep = Callable[[str, Floats], None]
"""Called with a layer and its activation; the array's memory is used anew afterwards."""
Parameters = Mapping[str, tuple[Floats, Floats]]

_FLOORS = np.array([0, -np.inf], np.float32)
_DEPTH = 2048  # inputs of a fully connected layer that are read together
_UNITS = 48  # of a fully connected layer in one job
_PANELS = 9  # of filters in one job, where threads share a convolution's phases
_PLANS = 64  # kept; dense views have inputs of many sizes


class Winograd:
    """Runs a VGG network's layers on the CPU, by Winograd's algorithm.

    Parameters
    ----------
    network : Architecture
        Whose layers are named.
    parameters : mapping of str to (ndarray, ndarray)
        Weight and bias, float32, of the layers that will run, by canonical name, shaped as torch
        has them. Those of fully connected layers are used where they are, not copied.
    threads : int
        That share the work.
    lanes : int, optional
        float32 values in a vector, 16 or 8; by default the widest that the processor has.
    debug : bool, optional
        Check every address before it is used, and after every step that nothing around its
        buffers has changed; by default as the environment's ``VGGFEAT_ENGINE_DEBUG`` says.

    Raises
    ------
    DeviceError
        This machine cannot run it.

    Notes
    -----
    Results do not depend on the number of threads, nor on the images that share a batch: every
    sum has its terms in one order.
    """

    def __init__(
        self,
        network: Architecture,
        parameters: Parameters,
        *,
        threads: int,
        lanes: int | None = None,
        debug: bool | None = None,
    ) -> None:
        if why := unsuited():
            raise DeviceError(f"The Winograd engine cannot run: {why}. Take --engine torch.")
        if lanes is not None and lanes not in widths():
            raise DeviceError(
                f"Vectors of {lanes} values are not available. This processor has: "
                f"{', '.join(map(str, widths()))}."
            )
        self.network = network
        self.threads = threads
        self.debug = debugging() if debug is None else debug
        self.lanes = lanes or widths()[0]
        self._targets = targets(self.lanes, self.debug)
        self._filters: dict[str, Filters] = {}
        self._linear: dict[str, tuple[Floats, Floats]] = {}
        self._plans: dict[tuple[object, ...], Plan] = {}
        for layer in network.layers:
            if layer.name not in parameters:
                continue
            weight, bias = parameters[layer.name]
            if layer.kind == "conv":
                self._filters[layer.name] = pack(weight, bias, self._targets, threads)
            else:
                # Addresses are taken of them: copied only where they are not as they should be.
                self._linear[layer.name] = (
                    np.ascontiguousarray(weight, np.float32),
                    np.ascontiguousarray(bias, np.float32),
                )
        most = max((f.outputs for f in self._filters.values()), default=0)
        self._zeros = aligned(max([most, *(f.inputs for f in self._filters.values())], default=0))
        self._spill = aligned(threads * WHOLE)

    def plan(self, asked: Collection[str], images: int, height: int, width: int) -> Plan:
        """Return the plan by which layers of the maps are reached, as :func:`compiled` makes it."""
        key = (frozenset(asked), images, height, width)
        if key not in self._plans:
            if len(self._plans) == _PLANS:
                self._plans.clear()
            self._plans[key] = compiled(
                self.network, asked, images, height, width,
                threads=self.threads, guarded=self.debug,
            )  # fmt: skip
            _log.debug("plan: %s", self._plans[key].describe())
        return self._plans[key]

    def maps(
        self,
        inputs: Floats,
        asked: Collection[str],
        keep: Keep,
        *,
        observe: Callable[[Step, float], None] | None = None,
    ) -> None:
        """Run the layers up to the deepest asked one that puts out maps.

        Parameters
        ----------
        inputs : ndarray of float32, (B, H, W, 3)
            Normalised pixels.
        asked : collection of str
            Canonical names of convolutions, ReLUs and poolings.
        keep : callable
            Called with a name and its activation (b, h, w, C) for some images at a time, in their
            order. The array is valid during the call only.
        observe : callable, optional
            Called with each step and the seconds that it took.

        Raises
        ------
        EngineError
            In debug mode: something was written outside of its place.
        """
        inputs = np.ascontiguousarray(inputs, np.float32)
        images, height, width, _ = inputs.shape
        plan = self.plan(asked, images, height, width)
        own = crew()
        with own.lock:
            run = _Run(self, plan, own, inputs, keep, observe or (lambda _step, _seconds: None))
            run.section(len(plan.sections) - 1, 0, images)

    def connects(self, layer: str) -> bool:
        """Tell whether a fully connected layer can run here: its inputs fill whole vectors."""
        return layer in self._linear and self._linear[layer][0].shape[1] % WHOLE == 0

    def connect(self, layer: str, rows: Floats, *, rectified: bool = False) -> Floats:
        """Run a fully connected layer.

        Parameters
        ----------
        layer : str
            Canonical name.
        rows : ndarray of float32, (R, inputs)
        rectified : bool
            Whether ReLU follows.

        Returns
        -------
        ndarray of float32, (R, units)
        """
        weight, bias = self._linear[layer]
        rows = np.ascontiguousarray(rows, np.float32)
        units, inputs = weight.shape
        fits = rows.ndim == 2 and rows.shape[1] == inputs and bias.shape == (units,)
        if not fits or inputs % WHOLE or not len(rows):
            raise EngineError(f"{layer} takes rows of {inputs} values, not {rows.shape}.")
        target = self._targets[0]
        out = np.empty((len(rows), units), np.float32)
        fixed = (
            _UNITS, len(rows), inputs, units, _DEPTH, rows.ctypes.data, weight.ctypes.data,
            bias.ctypes.data, _floor(rectified), _floor(False), out.ctypes.data,
        )  # fmt: skip
        own = crew()
        with own.lock:
            fault = own.run(
                lambda counter, _thread: kernels.connect(target, counter, *fixed), self.threads
            )
        if fault:
            raise EngineError(f"{layer}: an address lies outside of its {kernels.BUFFERS[fault]}.")
        return out


class _Run:
    """One walk along a plan, on memory that is its own meanwhile."""

    def __init__(
        self,
        engine: Winograd,
        plan: Plan,
        crew: Crew,
        inputs: Floats,
        keep: Keep,
        observe: Callable[[Step, float], None],
    ) -> None:
        self.engine, self.plan, self.crew = engine, plan, crew
        self.inputs, self.keep, self.observe = inputs, keep, observe
        self.memory = crew.memory(-(-plan.bytes // 4))
        self.base = self.memory.ctypes.data
        self.numbers = {id(step): number for number, step in enumerate(plan.steps)}

    def section(self, number: int, low: int, high: int) -> None:
        """Run a section, and those before it, for the images from `low` to `high`."""
        section = self.plan.sections[number]
        for start in range(low, high, section.images):
            past = min(start + section.images, high)
            if number:
                self.section(number - 1, start, past)
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
                    f"{step.layers[-1]}: an address lies outside of its {kernels.BUFFERS[fault]}."
                )
        self._check(step)
        if step.captured:
            name = step.layers[-1]
            self.keep(name, out[..., : self.engine.network.layer(name).outputs])

    def _kernel(self, step: Step, images: int, source: Floats, out: Floats) -> int:
        """Run the kernel of a step, or for few tiles its three phases."""
        needed = images * step.inputs * step.height * step.width
        if step.kind == "direct":
            needed = images * step.inputs * (step.height + 2) * (step.width + 2)
        if source.size < needed or out.size != images * int(np.prod(step.shape)):
            raise EngineError(f"{step.layers[-1]}: a buffer is smaller than {images} maps.")
        x, y, run = source.ctypes.data, out.ctypes.data, self.crew.run
        threads, engine = self.engine.threads, self.engine
        floor = _floor(step.rectified)
        if step.kind in ("pool", "rectify"):
            target = engine._targets[-1]
            if step.kind == "pool":
                size = (images, step.height, step.width, step.outputs)
                return run(lambda c, _: kernels.pool(target, c, *size, x, floor, y), threads)
            part = -(-out.size // (8 * threads * WHOLE)) * WHOLE
            return run(
                lambda c, _: kernels.rectify(target, c, part, out.size, x, floor, y), threads
            )
        filters = engine._filters[step.layers[0]]
        if (filters.inputs, filters.outputs) != (step.inputs, step.outputs):
            raise EngineError(f"{step.layers[0]}: its weights are for other channels.")
        target, u, bias = filters.target, filters.values.ctypes.data, filters.bias.ctypes.data
        shape = (images, step.height, step.width)
        channels = (step.inputs, step.outputs)
        if step.kind == "direct":
            return run(
                lambda c, _: kernels.direct(target, c, *shape, *channels, x, u, bias, floor, y),
                threads,
            )
        scratch = [tuple(map(self._address, self.plan.scratch(i))) for i in range(threads)]
        zeros, spills = engine._zeros.ctypes.data, engine._spill.ctypes.data
        if step.tiles:
            return run(
                lambda c, thread: kernels.convolve(
                    target, c, step.tiles, *shape, *channels, step.pooled, x, u, bias, floor, y,
                    zeros, spills + 4 * WHOLE * thread, *scratch[thread],
                ),
                threads,
            )  # fmt: skip
        (v, m), tiles = scratch[0], step.tiles_of(images)
        part = -(-tiles // (4 * threads))

        def gather(counter: int, _thread: int) -> int:
            return kernels.gather(target, counter, part, *shape, channels[0], x, zeros, v)

        def multiply(counter: int, _thread: int) -> int:
            return kernels.multiply(target, counter, _PANELS, tiles, *channels, u, v, m)

        def scatter(counter: int, thread: int) -> int:
            spill = spills + 4 * WHOLE * thread
            return kernels.scatter(
                target, counter, part, *shape, channels[1], step.pooled, bias, floor, y, spill, m
            )

        return run(gather, threads) or run(multiply, threads) or run(scatter, threads)

    def _address(self, buffer: Buffer) -> int:
        return self.base + buffer.offset

    def _values(self, buffer: Buffer) -> Floats:
        return self.memory[buffer.offset // 4 : (buffer.offset + buffer.bytes) // 4]

    def _guards(self, step: Step) -> list[tuple[Buffer, Floats]]:
        """Return what lies around the buffers that are alive at a step."""
        number, size = self.numbers[id(step)], self.plan.guards // 4
        found = []
        for buffer in self.plan.buffers if size else ():
            if buffer.life.first <= number <= buffer.life.last:
                start, past = buffer.offset // 4, (buffer.offset + buffer.bytes) // 4
                found.append((buffer, self.memory[start - size : start]))
                found.append((buffer, self.memory[past : past + size]))
        return found

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


def _floor(rectified: bool) -> int:
    """Return the address of what outputs are at least: 0, or minus infinity."""
    return _FLOORS.ctypes.data + (0 if rectified else 4)
