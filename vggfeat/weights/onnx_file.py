"""``.onnx`` files: a graph of operations, as torch, tf2onnx, Keras and the ONNX model zoo write it.

The graph is followed from its input (:mod:`vggfeat.weights.onnx.graph`), whatever its tensors are
called, and a graph that is of no VGG is refused with what differs. The file is mapped and walked,
as Caffe's is, and a tensor's values are read from their place when asked; so are those that lie in
a file beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isqrt
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vggfeat.errors import WeightsError
from vggfeat.preprocessing import TORCHVISION
from vggfeat.weights.onnx import messages
from vggfeat.weights.onnx.constants import Constant, Constants
from vggfeat.weights.onnx.graph import follow
from vggfeat.weights.onnx.steps import Step, following
from vggfeat.weights.onnx.values import Values, siblings
from vggfeat.weights.record import WeightFormat
from vggfeat.weights.tensor_file import Obstacle, Understanding
from vggfeat.weights.wire import Buffer

_EPS = 1e-5  # what batch normalisation adds to the variance in torch, and in `network.folding`
_NORM = ("weight", "bias", "running_mean", "running_var")
_KERAS = ("tf2onnx", "keras2onnx")


@contextmanager
def open_file(path: Path) -> Iterator[OnnxFile]:
    """Open a file for reading.

    Raises
    ------
    WeightsError
        The file is no ONNX model, is damaged, or its graph is of no VGG.
    """
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            yield OnnxFile(path, data, file)
    except (ValueError, OSError, OverflowError, MemoryError) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{path} cannot be read as a VGG in ONNX: {reason}") from error


def beside(path: Path) -> list[Path]:
    """Return the files that hold some of a file's tensors, sorted by their names.

    Raises
    ------
    WeightsError
        As for :func:`open_file`.
    """
    with open_file(path) as file:
        return [path.with_name(name) for name in file.siblings]


class OnnxFile:
    """An open file; tensors are read from their places one by one.

    Parameters
    ----------
    path : Path
        Where it is.
    data : bytes or mmap
        All of it, to be walked.
    file : binary file
        The same, to be read from.

    Attributes
    ----------
    understanding : Understanding
        Why no more layers are there than are, where the graph goes on, what was folded, and what
        the graph does to pixels before its first convolution.
    siblings : list of str
        Names of the files that hold some of its tensors.
    """

    def __init__(self, path: Path, data: Buffer, file: BinaryIO) -> None:
        model = messages.model(data)
        flow = follow(model, Constants(model, Values(path, file)))
        self.siblings = siblings(model)
        obstacle = Obstacle(following(flow), f"{flow.end}.") if flow.end else None
        self._readers: dict[str, Callable[[], NDArray[Any]]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        layers = [step for step in flow.steps if step.weight is not None]
        body = [step for step in layers if step.kind == "conv"]
        normed = all([op for op, _, _ in step.after] == ["BatchNormalization"] for step in body)
        notes = []
        for step in layers:
            if step.kind == "conv" and normed:
                self._add(step.name, step, fold=False)
                self._add_norm(step)
            else:
                self._add(step.name, step, fold=bool(step.after))
                if step.after:
                    behind = " and ".join(op for op, _, _ in step.after)
                    notes.append(f"{behind} behind {step.name} is folded into it")
        preprocessing, unclear = None, ""
        try:
            preprocessing = flow.pixels.preprocessing()
        except ValueError as error:
            unclear = str(error)
        ported = model.producer.startswith(_KERAS) or flow.pixels.layout == "NHWC"
        self.understanding = Understanding(
            obstacle=obstacle, notes=tuple(notes), preprocessing=preprocessing, where="graph",
            unclear=unclear, origin="Keras" if ported else "",
        )  # fmt: skip

    def read(self, name: str) -> NDArray[Any]:
        """Return one tensor as torch lays it out."""
        return self._readers[name]().reshape(self.shapes[name])

    def _add(self, name: str, step: Step, *, fold: bool) -> None:
        weight = _matrix(step) if step.kind == "linear" else step.weight
        assert weight is not None
        outputs, shape = step.outputs, weight.shape
        if step.kind == "linear":
            shape = (outputs, weight.size // outputs)
        self.shapes[f"{name}.weight"], self.shapes[f"{name}.bias"] = shape, (outputs,)
        if fold:
            self._readers[f"{name}.weight"] = lambda: _scaled(weight, step)
            self._readers[f"{name}.bias"] = lambda: _shifted(step)
            return
        self._readers[f"{name}.weight"] = weight.read
        self._readers[f"{name}.bias"] = lambda: _bias(step)

    def _add_norm(self, step: Step) -> None:
        ((_, tensors, epsilon),) = step.after
        norm = step.name.replace("conv", "bn")
        for kind, tensor in zip(_NORM, tensors, strict=True):
            self.shapes[f"{norm}.{kind}"] = tensor.shape
            self._readers[f"{norm}.{kind}"] = tensor.read
        if not np.isclose(epsilon, _EPS, rtol=1e-6):  # Keras has 1e-3, say
            variance = tensors[-1]
            self._readers[f"{norm}.running_var"] = lambda: (
                variance.read().astype(np.float64) + (epsilon - _EPS)
            )


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


def _bias(step: Step) -> NDArray[Any]:
    return np.zeros(step.outputs, np.float32) if step.bias is None else step.bias.read()


def _affine(step: Step) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what follows a layer as a factor and a summand for each channel."""
    gain, offset = np.ones(step.outputs), np.zeros(step.outputs)
    for op, constants, epsilon in step.after:
        values = [constant.read().astype(np.float64) for constant in constants]
        factor, summand = np.ones(1), np.zeros(1)
        match op:
            case "BatchNormalization":
                gamma, beta, mean, variance = values
                factor = gamma / np.sqrt(variance + epsilon)
                summand = beta - mean * factor
            case "Add":
                summand = values[0]
            case "Sub":
                summand = -values[0]
            case "Mul":
                factor = values[0]
            case "Div":
                factor = 1 / values[0]
        gain, offset = gain * factor, offset * factor + summand
    return gain, offset


def _scaled(weight: Constant, step: Step) -> NDArray[np.float32]:
    """Return weights with what follows folded in: computed in float64, and rounded once."""
    stored, gain = weight.read(), _affine(step)[0]
    made = np.empty(stored.shape, np.float32)
    for number, row in enumerate(stored):
        made[number] = row.astype(np.float64) * gain[number]
    return made


def _shifted(step: Step) -> NDArray[np.float32]:
    gain, offset = _affine(step)
    return (_bias(step).astype(np.float64) * gain + offset).astype(np.float32)


FORMAT = WeightFormat(
    "ONNX", (".onnx",), open_file, TORCHVISION, "torchvision trains", parts=False, beside=beside
)
