"""``.onnx`` files: a graph of operations, as torch, tf2onnx, Keras and the ONNX model zoo write it.

The graph is followed from its input (:mod:`vggfeat.weights.onnx.graph`), whatever its tensors are
called, and a graph that is of no VGG is refused with what differs. The file is mapped and walked,
as Caffe's is, and a tensor's values are read from their place when asked; so are those that lie in
a file beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import isqrt
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggfeat.errors import WeightsError
from vggfeat.preprocessing import TORCHVISION
from vggfeat.weights import graph
from vggfeat.weights.onnx import messages
from vggfeat.weights.onnx.constants import Constant, Constants
from vggfeat.weights.onnx.graph import follow
from vggfeat.weights.onnx.steps import Flow, Step, following
from vggfeat.weights.onnx.values import Values, siblings
from vggfeat.weights.record import WeightFormat
from vggfeat.weights.tensor_file import Obstacle
from vggfeat.weights.understood import Understood

_BROKEN = (ValueError, OSError, OverflowError, MemoryError)
_KERAS = ("tf2onnx", "keras2onnx")
_ROLES = {
    "BatchNormalization": ("gamma", "beta", "mean", "variance"),
    "Add": ("beta",), "Sub": ("mean",), "Mul": ("gamma",), "Div": ("deviation",),
}  # fmt: skip
"""What the constants of an operation on channels are to an affine map."""


@contextmanager
def open_file(path: Path) -> Iterator[Understood]:
    """Open a file for reading.

    Raises
    ------
    WeightsError
        The file is no ONNX model, is damaged, or its graph is of no VGG.
    """
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            model = messages.model(data)
            flow = follow(model, Constants(model, Values(path, file)))
            ported = model.producer.startswith(_KERAS) or flow.pixels.layout == "NHWC"
            yield _understood(flow, "Keras" if ported else "")
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def beside(path: Path) -> list[Path]:
    """Return the files that hold some of a file's tensors, sorted by their names.

    Raises
    ------
    WeightsError
        As for :func:`open_file`.
    """
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            return siblings(path, messages.model(data))
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> WeightsError:
    reason = str(error).partition("\n")[0]
    return WeightsError(f"{path} cannot be read as a VGG in ONNX: {reason}")


class OnnxTensors:
    """The constants that layers are made of, each read from its place when it is asked for.

    Parameters
    ----------
    steps : sequence of Step
        Layers with weights.

    Attributes
    ----------
    steps : list of vggfeat.weights.graph.Step
        The same, with the names of their tensors.
    """

    def __init__(self, steps: list[Step]) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._constants: dict[str, Constant] = {}
        self.steps: list[graph.Step] = []
        for step in steps:
            weight = _matrix(step) if step.kind == "linear" else step.weight
            assert weight is not None
            outputs, kind = step.outputs, "linear" if step.kind == "linear" else "conv"
            shape = (outputs, weight.size // outputs) if kind == "linear" else weight.shape
            tensors = {"weight": self._added(f"{step.name}.weight", weight, shape)}
            if step.bias is not None:
                tensors["bias"] = self._added(f"{step.name}.bias", step.bias, (outputs,))
            norms = []
            for number, (op, constants, eps) in enumerate(step.after):
                name = f"{step.name}.{number}"
                roles = {
                    role: self._added(f"{name}.{role}", constant, (outputs,))
                    for role, constant in zip(_ROLES[op], constants, strict=True)
                }
                norms.append(graph.Node(f"{op} {number + 1}", "norm", tensors=roles, eps=eps))
            node = graph.Node(step.name, kind, tensors=tensors)  # type: ignore[arg-type]
            self.steps.append(graph.Step(step.name, node, tuple(norms)))

    def read(self, name: str, channels: int = 0) -> NDArray[Any]:  # noqa: ARG002 (in order already)
        """Return one tensor; one value for all channels is said for each."""
        values = self._constants[name].read()
        shape = self.shapes[name]
        return values.reshape(shape) if values.size != 1 else np.full(shape, values.item())

    def _added(self, name: str, constant: Constant, shape: tuple[int, ...]) -> str:
        self._constants[name], self.shapes[name] = constant, shape
        return name


def _understood(flow: Flow, origin: str) -> Understood:
    raw = OnnxTensors([step for step in flow.steps if step.weight is not None])
    obstacle = Obstacle(following(flow), f"{flow.end}.") if flow.end else None
    understood = Understood(raw, graph.Walk(tuple(raw.steps), obstacle=obstacle))
    preprocessing, unclear = None, ""
    try:
        preprocessing = flow.pixels.preprocessing()
    except ValueError as error:
        unclear = str(error)
    understood.understanding = replace(
        understood.understanding, preprocessing=preprocessing, where="graph", unclear=unclear,
        origin=origin,
    )  # fmt: skip
    return understood


def _matrix(step: Step) -> Constant:
    """Arrange a matrix as (outputs, inputs), with a map flattened as (channel, row, column)."""
    weight, inputs_first, order = step.weight, step.inputs_first, step.order
    assert weight is not None
    if order in ("", "CHW"):
        return weight.transposed((1, 0)) if inputs_first else weight
    if weight.stored and weight.stored[3] == (1, 0):  # take it as it is stored
        weight, inputs_first = weight.transposed((1, 0)), not inputs_first
    side = isqrt(weight.size // step.outputs // step.channels)
    sizes = [step.channels if axis == "C" else side for axis in order]
    places = [order.index(axis) for axis in "CHW"]
    if inputs_first:  # (row, column, channel, outputs), say -> (outputs, channel, row, column)
        return weight.reshaped([*sizes, step.outputs]).transposed([3, *places])
    return weight.reshaped([step.outputs, *sizes]).transposed([0, *(1 + at for at in places)])


FORMAT = WeightFormat(
    "ONNX", (".onnx",), open_file, TORCHVISION, "torchvision trains", parts=False, beside=beside
)
