"""MatConvNet's ``.mat`` files, as ``imagenet-vgg-verydeep-16.mat``, and the mean they bring.

A file holds the fields of one network, alone or below ``net``: ``layers``, a cell array of
structs with ``type``, ``name`` and ``weights`` (a cell array of filters and biases; ``filters`` and
``biases`` in the oldest files), and ``meta.normalization`` (``normalization`` before) with
``averageImage``, ``imageSize`` and ``interpolation``. The layers run in their order. Filters are
stored (height, width, inputs, outputs); fully connected layers are convolutions over the whole map.
``bnorm`` has gains, offsets, and moments: the mean and the root of the variance, to which epsilon
was added already. The first filters see RGB in 0..255.

These are MAT-files of version 5 (:mod:`vggfeat.mat_file`), which hold a network as one
compressed variable: all of it is read, whatever is asked for.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggfeat import mat_file
from vggfeat.errors import WeightsError
from vggfeat.preprocessing import CAFFE_RGB, INTERPOLATIONS, Preprocessing
from vggfeat.weights.graph import Kind, Node
from vggfeat.weights.record import WeightFormat
from vggfeat.weights.tensor_file import Understanding
from vggfeat.weights.understood import Understood

_BROKEN = (OSError, ValueError, OverflowError, MemoryError, zlib.error)
_MOST_NUMBERS = 16  # of a layer's option, such as its strides

_KINDS: Mapping[str, Kind] = {
    "conv": "conv", "relu": "relu", "pool": "pool", "bnorm": "norm", "dropout": "same",
    "softmax": "softmax", "softmaxloss": "softmax",
}  # fmt: skip
_ROLES: Mapping[str, tuple[str, ...]] = {
    "conv": ("weight", "bias"),
    "bnorm": ("gamma", "beta", "mean", "deviation"),
}


@contextmanager
def open_file(path: Path, part: str = "") -> Iterator[Understood]:
    """Open a file for reading.

    Parameters
    ----------
    path : Path
        The file.
    part : str
        Name of the first convolution of the network, where several are in the file.

    Raises
    ------
    WeightsError
        The file is no MAT-file of version 5, or holds no network of MatConvNet's.
    """
    try:
        names = ["layers", "net", "params", "vars", "meta", "normalization"]
        variables = mat_file.read(path, names)
        network_file = MatConvNetFile(variables)
        understood = Understood.of_graph(network_file, network_file.nodes, part)
        network = _fields(variables.get("net", variables))
        normalization = _fields(_fields(network.get("meta", network)).get("normalization"))
        if "averageImage" in normalization:
            understood.understanding = _with_pixels(understood.understanding, normalization)
        yield understood
    except _BROKEN as error:
        raise _unreadable(path, error) from error


class MatConvNetFile:
    """A loaded file; each tensor is put into torch's order when it is asked for.

    Parameters
    ----------
    variables : dict of str to Any
        By name, as :func:`vggfeat.mat_file.read` gives them.
    """

    def __init__(self, variables: dict[str, Any]) -> None:
        network = _fields(variables.get("net", variables))
        if "layers" not in network:
            raise ValueError("it holds no layers of MatConvNet's.")
        if "params" in network:
            raise ValueError(
                "it is a DagNN. Save a SimpleNN, or the model in another format, such as ONNX."
            )
        if not isinstance(network["layers"], list):
            raise ValueError("its layers are no cell array.")
        self._arrays: dict[str, NDArray[Any]] = {}
        self.nodes: list[Node] = [Node("input", "input")]
        taken = {"input"}
        for number, cell in enumerate(network["layers"]):
            layer = _fields(cell)
            name = _text(layer.get("name")) or f"layer {number + 1}"
            if name in taken:
                name = f"{name}@{number + 1}"
            taken.add(name)
            self.nodes.append(self._node(layer, name, (self.nodes[-1].name,)))
        self.shapes = {name: _shape(name, array) for name, array in self._arrays.items()}

    def read(self, name: str, channels: int = 0) -> NDArray[Any]:  # noqa: ARG002 (in order already)
        """Return one tensor in torch's order."""
        array, shape = self._arrays[name], self.shapes[name]
        if not name.endswith(".weight"):
            return array.reshape(shape).copy()
        # (height, width, inputs, outputs) -> (outputs, inputs, height, width)
        kernel = _padded(array).transpose(3, 2, 0, 1)
        return np.ascontiguousarray(kernel).reshape(shape)

    def _node(self, layer: dict[str, Any], name: str, inputs: tuple[str, ...]) -> Node:
        what = _text(layer.get("type"))
        if "weights" in layer:
            arrays = layer["weights"] if isinstance(layer["weights"], list) else []
        else:
            arrays = [layer[field] for field in ("filters", "biases") if field in layer]
        if not all(isinstance(array, np.ndarray) for array in arrays):
            raise ValueError(f"layer {name!r} has weights that are no real numbers.")
        if what == "bnorm" and len(arrays) == 3:
            mean, deviation = arrays[2].reshape(-1, 2, order="F").T
            arrays = [*arrays[:2], mean, deviation]
        roles = _ROLES.get(what, ())
        tensors: dict[str, str] = {}
        for number, array in enumerate(arrays):
            if array.size:
                role = roles[number] if number < len(roles) else f"tensor{number}"
                tensors[role] = f"{name}.{role}"
                self._arrays[f"{name}.{role}"] = array
        unlike = "" if set(tensors) <= set(roles) else f"it has {len(tensors)} tensors"
        kind = _KINDS.get(what, "other")
        padded = True
        if kind == "conv":
            padded, said = _convolution(layer)
            unlike = unlike or said or ("" if "weight" in tensors else "it has no filters")
        elif kind == "norm" and not {"gamma", "beta", "mean", "deviation"} <= set(tensors):
            unlike = "it has no moments"
        elif kind == "pool":
            unlike = _pooling(layer)
        elif kind == "relu" and any(_numbers(layer, "leak", 0)):
            unlike = "a leaky one"
        elif kind == "other" and not what:
            what = "no type"
        return Node(name, kind, inputs, what, tensors, padded=padded, unlike=unlike)


def _convolution(layer: dict[str, Any]) -> tuple[bool, str]:
    """Return whether a convolution keeps the map's size, and how it is unlike VGG's."""
    pad, unlike = _numbers(layer, "pad", 0), []
    for field in ("stride", "dilate"):
        if set(numbers := _numbers(layer, field, 1)) != {1}:
            unlike.append(f"{field} {numbers}")
    if set(pad) not in ({0}, {1}):
        unlike.append(f"pad {pad}")
    return set(pad) == {1}, ", ".join(unlike)


def _pooling(layer: dict[str, Any]) -> str:
    size, stride = _numbers(layer, "pool", 1), _numbers(layer, "stride", 1)
    method = _text(layer.get("method")) or "max"
    if method != "max":
        return f"of the {method}"
    return "" if set(size) == set(stride) == {2} else f"of {size}, stride {stride}"


def _numbers(layer: dict[str, Any], field: str, default: float) -> list[float]:
    """Return a layer's option; NaN, which is none that is known, where it is no few numbers."""
    value = layer.get(field, np.empty(0))
    if not isinstance(value, np.ndarray) or value.size > _MOST_NUMBERS:
        return [float("nan")]
    return [float(number) for number in value.ravel()] or [default]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _padded(array: NDArray[Any]) -> NDArray[Any]:
    """Return filters with all four dimensions: MATLAB drops trailing ones."""
    return array.reshape(*array.shape, *[1] * (4 - array.ndim))


def _shape(name: str, array: NDArray[Any]) -> tuple[int, ...]:
    if not name.endswith(".weight"):
        return (array.size,)
    height, width, inputs, outputs = _padded(array).shape
    return (outputs, inputs, height, width)


def _with_pixels(understanding: Understanding, normalization: dict[str, Any]) -> Understanding:
    spec, unclear = None, ""
    try:
        spec = _told(normalization)
    except ValueError as error:
        unclear = str(error).rstrip(".")
    return replace(
        understanding, preprocessing=spec, any_size=False, where="normalization", unclear=unclear
    )


def _told(normalization: dict[str, Any]) -> Preprocessing:
    mean = normalization["averageImage"]
    if not isinstance(mean, np.ndarray) or not (
        mean.size == 3 or (mean.ndim == 3 and mean.shape[2] == 3 and mean.size)
    ):
        shape = getattr(mean, "shape", None)
        raise ValueError(f"averageImage has shape {shape}, which is no colour and no image.")
    # (H, W, 3) -> (3,): the authors subtract a mean colour; their mean image is of one colour.
    colour = mean.ravel() if mean.size == 3 else mean.mean((0, 1), dtype=np.float64)
    red, green, blue = colour.astype(np.float64).tolist()
    if not np.isfinite([red, green, blue]).all():
        raise ValueError(f"averageImage is {red}, {green}, {blue}.")
    side = int(_numbers(normalization, "imageSize", CAFFE_RGB.crop)[0])
    filter_ = _text(normalization.get("interpolation"))
    sized = CAFFE_RGB.sized(side)
    return Preprocessing(
        resize=sized.resize,
        crop=sized.crop,
        interpolation=filter_ if filter_ in INTERPOLATIONS else CAFFE_RGB.interpolation,
        channels="RGB",
        scale=1.0,
        mean=(round(red, 4), round(green, 4), round(blue, 4)),
        std=(1.0, 1.0, 1.0),
    )


def _fields(value: Any) -> dict[str, Any]:
    """Return a struct's fields by name; the first one's of several, and none of what is no struct.

    A cell may be around it.
    """
    while isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, dict) else {}


def _unreadable(path: Path, error: Exception) -> WeightsError:
    reason = str(error).strip().partition("\n")[0].rstrip(".") or "it takes too much memory"
    return WeightsError(f"{path} cannot be read as MatConvNet's network: {reason}.")


FORMAT = WeightFormat(
    "MatConvNet",
    (".mat",),
    open_file,
    CAFFE_RGB,
    "MatConvNet's ports of the authors' release need",
    md5=True,
)
