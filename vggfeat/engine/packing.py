"""Weights as kernels read them: transformed filters, in panels of output channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vggfeat.engine.machine_code import kernels_for
from vggfeat.engine.memory import Floats, aligned
from vggfeat.engine.steps import GAP
from vggfeat.engine.target import Target
from vggfeat.engine.thread_pool import thread_pool
from vggfeat.engine.transforms import ELEMENTS, TAPS

WHOLE = 16
"""Channels are padded with zeros to a multiple of this, whole vectors of any width."""


def padded(channels: int) -> int:
    """Return how many channels a map has in memory."""
    return -(-channels // WHOLE) * WHOLE


@dataclass(frozen=True)
class Filters:
    """A convolution's weights, packed.

    Attributes
    ----------
    target : Target
        For which the panels are.
    inputs, outputs : int
        Channels, padded; of a direct convolution `inputs` is as it is.
    direct : bool
        Whether they are (K / panel, 3, 3, C, panel), for a convolution as it is defined; else
        they are (36, K / panel, C, panel), transformed.
    values : ndarray of float32
        The packed filters, flat.
    bias : ndarray of float32, (outputs,)
    """

    target: Target
    inputs: int
    outputs: int
    direct: bool
    values: Floats
    bias: Floats


@dataclass(frozen=True)
class Packed:
    """All convolutions of a network, ready to run.

    Attributes
    ----------
    filters : dict of str to Filters
        By canonical name.
    targets : tuple of Target
        From :func:`~vggfeat.engine.target.targets`.
    zeros : ndarray of float32
        A pixel outside of a map.
    spill : ndarray of float32
        A vector a thread, where outputs go that lie outside of a map.
    """

    filters: dict[str, Filters]
    targets: tuple[Target, ...]
    zeros: Floats
    spill: Floats

    @classmethod
    def of(cls, filters: dict[str, Filters], choices: tuple[Target, ...], threads: int) -> Packed:
        """Add the memory that runs of them need beside a plan's."""
        most = max((max(one.inputs, one.outputs) for one in filters.values()), default=0)
        return cls(filters, choices, aligned(most), aligned(threads * WHOLE))


def pack(
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    choices: tuple[Target, ...],
    threads: int,
    *,
    direct: bool,
) -> Filters:
    """Pack the weights of a convolution.

    Parameters
    ----------
    weight : ndarray of float32, (K, C, 3, 3)
    bias : ndarray of float32, (K,)
    choices : tuple of Target
        From :func:`~vggfeat.engine.target.targets`.
    threads : int
        That share the work.
    direct : bool
        Whether it is computed as it is defined, as the first layer is: with its three inputs,
        fewer than a vector has lanes, Winograd's transforms would work on padding.
    """
    outputs, inputs = padded(weight.shape[0]), weight.shape[1]
    target = next(t for t in choices if outputs % t.panel == 0)
    biases = aligned(outputs)
    biases[: len(bias)] = bias
    # (K, C, 3, 3) -> (3, 3, C, K)
    taps = np.zeros((TAPS, TAPS, inputs, outputs), np.float32)
    taps[..., : weight.shape[0]] = weight.transpose(2, 3, 1, 0)
    if direct:
        values = aligned(taps.size)
        panels = taps.reshape(TAPS, TAPS, inputs, -1, target.panel).transpose(3, 0, 1, 2, 4)
        values.reshape(panels.shape)[...] = panels
        return Filters(target, inputs, outputs, True, values, biases)
    space = padded(inputs)
    element = 4 * space * outputs + GAP
    values = aligned(ELEMENTS * element // 4)
    addresses = (taps.ctypes.data, values.ctypes.data)
    kernel = kernels_for(target).pack
    with thread_pool().lock:
        thread_pool().run(
            lambda counter, _thread: kernel(counter, inputs, space, outputs, *addresses, element),
            threads,
        )
    return Filters(target, space, outputs, False, values, biases)
