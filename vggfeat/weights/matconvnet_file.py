"""MatConvNet's ``.mat`` files, as ``imagenet-vgg-verydeep-16.mat``, and the mean they bring.

A file holds the fields of one network, alone or below ``net``: ``layers``, a cell array of
structs with ``name`` and ``weights`` (a cell array of filters and biases; ``filters`` and
``biases`` in the oldest files), and ``meta.normalization`` (``normalization`` before) with
``averageImage``, ``imageSize`` and ``interpolation``. Filters are stored (height, width, inputs,
outputs); fully connected layers are convolutions over the whole map. The first filters see RGB in
0..255.

These are MAT-files of version 5, which hold a network as one compressed variable: all of it is
read, whatever is asked for.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggfeat.errors import WeightsError
from vggfeat.preprocessing import CAFFE_RGB, INTERPOLATIONS, Preprocessing

_BROKEN = (
    *(OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError),
    *(NotImplementedError, MemoryError, OverflowError, zlib.error, UnicodeDecodeError),
)


@contextmanager
def open_file(path: Path) -> Iterator[MatConvNetFile]:
    """Open a file for reading.

    Raises
    ------
    WeightsError
        The file is no MAT-file that scipy reads, or holds no network of MatConvNet's.
    """
    try:
        yield MatConvNetFile(_loaded(path, ["layers", "net"]))
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def preprocessing(path: Path) -> Preprocessing | None:
    """Return the preprocessing that a file brings, or None where it brings none.

    Raises
    ------
    WeightsError
        As for :func:`open_file`, or the mean is no colour and no image.
    """
    try:
        found = _loaded(path, ["meta", "normalization"]) or _loaded(path, ["net"])
        network = _fields(found.get("net", found))
        told = _fields(_fields(network.get("meta", network)).get("normalization"))
        return _told(told) if "averageImage" in told else None
    except _BROKEN as error:
        raise _unreadable(path, error) from error


class MatConvNetFile:
    """A loaded file; each tensor is put into torch's order when it is asked for.

    Parameters
    ----------
    variables : dict of str to Any
        By name, as scipy reads them.
    """

    def __init__(self, variables: dict[str, Any]) -> None:
        network = _fields(variables.get("net", variables))
        if "layers" not in network:
            raise ValueError("it holds no layers of MatConvNet's.")
        self._arrays: dict[str, NDArray[Any]] = {}
        for cell in network["layers"].ravel():
            layer = _fields(cell)
            if "weights" in layer:
                arrays = list(layer["weights"].ravel())
            else:
                arrays = [layer[name] for name in ("filters", "biases") if name in layer]
            name = "".join(np.asarray(layer["name"]).ravel().tolist()) if "name" in layer else ""
            for kind, array in zip(("weight", "bias"), arrays, strict=False):
                if array.size:
                    self._arrays[f"{name}.{kind}"] = array
        self.shapes = {name: _shape(name, array) for name, array in self._arrays.items()}

    def read(self, name: str) -> NDArray[Any]:
        """Return one tensor in torch's order."""
        array, shape = self._arrays[name], self.shapes[name]
        if name.endswith(".bias"):
            return array.reshape(shape).copy()
        # (height, width, inputs, outputs) -> (outputs, inputs, height, width)
        kernel = _padded(array).transpose(3, 2, 0, 1)
        return np.ascontiguousarray(kernel).reshape(shape)


def _padded(array: NDArray[Any]) -> NDArray[Any]:
    """Return filters with all four dimensions: MATLAB drops trailing ones."""
    return array.reshape(*array.shape, *[1] * (4 - array.ndim))


def _shape(name: str, array: NDArray[Any]) -> tuple[int, ...]:
    if name.endswith(".bias"):
        return (array.size,)
    height, width, inputs, outputs = _padded(array).shape
    dense = name.startswith("fc")
    return (outputs, inputs * height * width) if dense else (outputs, inputs, height, width)


def _told(told: dict[str, Any]) -> Preprocessing:
    mean = np.asarray(told["averageImage"], np.float64)
    if mean.size % 3 or (mean.size > 3 and (mean.ndim != 3 or mean.shape[2] != 3)):
        raise ValueError(f"averageImage has shape {mean.shape}, which is no colour and no image.")
    # (H, W, 3) -> (3,): the authors subtract a mean colour; their mean image is of one colour.
    red, green, blue = mean.reshape(-1, 3).mean(0).tolist()
    side = int(np.asarray(told["imageSize"]).ravel()[0]) if "imageSize" in told else CAFFE_RGB.crop
    filter_ = "".join(np.asarray(told.get("interpolation", "")).ravel().tolist())
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


def _loaded(path: Path, names: list[str]) -> dict[str, Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found: dict[str, Any] = loadmat(path, variable_names=names)
    except MatReadError as error:
        raise ValueError(str(error)) from error
    return {name: value for name, value in found.items() if name in names}


def _fields(value: Any) -> dict[str, Any]:
    """Return a struct's fields by name; empty for what is no struct."""
    if isinstance(value, dict):
        return value
    while isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
        value = value.ravel()[0]  # a cell around it
    if not isinstance(value, np.ndarray) or not value.dtype.names or not value.size:
        return {}
    record = value.ravel()[0]
    return {name: record[name] for name in value.dtype.names}


def _unreadable(path: Path, error: Exception) -> WeightsError:
    reason = str(error).strip().partition("\n")[0].rstrip(".")
    if isinstance(error, NotImplementedError):
        reason = "it is of version 7.3. In MATLAB or Octave, save it again with -v7"
    return WeightsError(f"{path} cannot be read as MatConvNet's network: {reason}.")
