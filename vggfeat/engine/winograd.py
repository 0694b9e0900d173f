"""The engine: packed weights, plans for every size of input, and fully connected layers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable

import numpy as np

from vggfeat.engine.buffers import BUFFERS
from vggfeat.engine.executor import Executor, Keep, address_of_floor
from vggfeat.engine.machine_code import kernels_for
from vggfeat.engine.memory import Floats
from vggfeat.engine.packing import WHOLE, Filters, Packed, pack
from vggfeat.engine.plan import compiled
from vggfeat.engine.processor import debugging, unsuited, widths
from vggfeat.engine.steps import Plan, Step
from vggfeat.engine.target import targets
from vggfeat.engine.thread_pool import thread_pool
from vggfeat.errors import DeviceError, EngineError
from vggfeat.layers import Architecture

_log = logging.getLogger(__name__)

Parameters = Iterable[tuple[str, tuple[Floats, Floats]]]

_DEPTH = 2048  # inputs of a fully connected layer that are read together
_UNITS = 48  # of a fully connected layer in one job
_PLANS = 64  # kept; dense views have inputs of many sizes


class Winograd:
    """Runs a VGG network's layers on the CPU, by Winograd's algorithm.

    Parameters
    ----------
    network : Architecture
        Whose layers are named.
    parameters : iterable of (str, (ndarray, ndarray))
        Canonical name, weight and bias, float32, of the layers that will run, shaped as torch has
        them; for batch normalisation those of the convolution that it is folded into. A
        convolution's are not needed any more when the next are asked for; those of fully connected
        layers are used where they are, not copied.
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
        self._plans: dict[tuple[object, ...], Plan] = {}
        choices = targets(self.lanes, self.debug)
        first = {layer.name for layer in network.layers[:2]}  # and what may be folded into it
        filters: dict[str, Filters] = {}
        self._linear: dict[str, tuple[Floats, Floats]] = {}
        for name, (weight, bias) in parameters:
            if weight.ndim == 4:
                filters[name] = pack(weight, bias, choices, threads, direct=name in first)
            else:  # addresses are taken of these: copied where they are not as they should be
                laid = (np.ascontiguousarray(values, np.float32) for values in (weight, bias))
                self._linear[name] = next(laid), next(laid)
        self._packed = Packed.of(filters, choices, threads)

    def plan(self, requested: Collection[str], images: int, height: int, width: int) -> Plan:
        """Return the plan by which layers of the maps are reached, as :func:`compiled` makes it."""
        key = (frozenset(requested), images, height, width)
        plan = self._plans.get(key)  # in one step, since other threads make plans, too
        if plan is None:
            plan = compiled(
                self.network, requested, images, height, width,
                threads=self.threads, guarded=self.debug,
            )  # fmt: skip
            _log.debug("plan: %s", plan.describe())
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def maps(
        self,
        inputs: Floats,
        requested: Collection[str],
        keep: Keep,
        *,
        observe: Callable[[Step, float], None] | None = None,
    ) -> None:
        """Run the layers up to the deepest requested one that puts out maps.

        Parameters
        ----------
        inputs : ndarray of float32, (B, H, W, 3)
            Normalised pixels.
        requested : collection of str
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
        plan = self.plan(requested, images, height, width)
        pool = thread_pool()
        with pool.lock:
            Executor(plan, self._packed, pool, inputs, keep, observe or _unobserved).run()

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
        kernel = kernels_for(self._packed.targets[0]).connect
        out = np.empty((len(rows), units), np.float32)
        fixed = (
            _UNITS, len(rows), inputs, units, _DEPTH, rows.ctypes.data, weight.ctypes.data,
            bias.ctypes.data, address_of_floor(rectified), address_of_floor(False), out.ctypes.data,
        )  # fmt: skip
        pool = thread_pool()
        with pool.lock:
            fault = pool.run(
                lambda counter, _thread: kernel(counter, *fixed),
                self.threads,
            )
        if fault:
            raise EngineError(f"{layer}: an address lies outside of its {BUFFERS[fault]}.")
        return out


def _unobserved(_step: Step, _seconds: float) -> None:
    """Do nothing."""
