"""Keras's ``.h5`` files of its VGG applications, with and without the fully connected layers.

The root's attribute ``layer_names`` lists a group a layer, and each group's ``weight_names`` its
datasets; a file of a whole model has the same below ``model_weights``. Kernels are stored (height,
width, inputs, outputs), matrices (inputs, outputs), and ``fc1`` sees the map flattened as (row,
column, channel): all become torch's order here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from math import isqrt
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from vggfeat.errors import WeightsError

_BLOCK = re.compile(r"block(\d)_conv(\d)$")
_DENSE = {"fc1": "fc6", "fc2": "fc7", "predictions": "fc8"}
_BROKEN = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError)


@contextmanager
def open_file(path: Path) -> Iterator[KerasFile]:
    """Open a file for reading.

    Raises
    ------
    WeightsError
        The file is no HDF5, is truncated, or is none that Keras wrote.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield KerasFile(file)
    except _BROKEN as error:
        reason = str(error).strip("'\"").partition("\n")[0]
        raise WeightsError(f"{path} cannot be read as Keras's HDF5: {reason}") from error


class KerasFile:
    """An open file; datasets are read one by one.

    Parameters
    ----------
    file : h5py.File
        Opened for reading.
    """

    def __init__(self, file: h5py.File) -> None:
        root = file.get("model_weights", file)
        if not (names := _listed(root, "layer_names")):
            raise ValueError(
                "it has no list of layers (layer_names). Save the model's weights in the legacy "
                "HDF5 format: model.save_weights('weights.h5')."
            )
        self._sets: dict[str, Any] = {}
        for group in names:
            for weight in _listed(root[group], "weight_names"):
                self._sets[_name(group, weight, root[group][weight].ndim)] = root[group][weight]
        self._channels = max(
            ((name, data.shape[-1]) for name, data in self._sets.items() if data.ndim == 4),
            default=("", 0),
        )[1]
        self.shapes = {name: _shape(data.shape) for name, data in self._sets.items()}

    def read(self, name: str) -> NDArray[Any]:
        """Return one tensor in torch's order."""
        data = self._sets[name]
        if data.ndim == 4:
            return np.ascontiguousarray(data[()].transpose(3, 2, 0, 1))
        if data.ndim < 2:
            return np.asarray(data[()])
        channels = self._channels if name == "fc6.weight" else data.shape[0]
        return _matrix(data, channels)


def _listed(group: Any, attribute: str) -> list[str]:
    """Return an attribute's names; long lists are split over numbered attributes."""
    if attribute in group.attrs:
        parts = [group.attrs[attribute]]
    else:
        numbered = (f"{attribute}{number}" for number in count())
        parts = []
        for each in numbered:
            if each not in group.attrs:
                break
            parts.append(group.attrs[each])
    return [n.decode() if isinstance(n, bytes) else str(n) for part in parts for n in part]


def _name(group: str, weight: str, dimensions: int) -> str:
    """Name a dataset by its layer: that in its path where a VGG is part of a larger model."""
    kind = "bias" if dimensions == 1 else "weight"
    for part in reversed([group, *weight.split("/")[:-1]]):
        if block := _BLOCK.match(part):
            return f"conv{block[1]}_{block[2]}.{kind}"
        if part in _DENSE:
            return f"{_DENSE[part]}.{kind}"
    return f"{group}.{kind}"


def _shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == 4:
        height, width, inputs, outputs = shape
        return (outputs, inputs, height, width)
    return tuple(reversed(shape))


def _matrix(data: Any, channels: int) -> NDArray[Any]:
    """Read a matrix (row * column * channel, outputs) as (outputs, channel * row * column).

    It is read position by position, so that there is never a second copy of it.
    """
    inputs, outputs = data.shape
    positions = inputs // channels if channels else 0
    if positions * channels != inputs or isqrt(positions) ** 2 != positions:
        raise ValueError(
            f"fc1 sees {inputs} values, which are no square map of {channels} channels."
        )
    made = np.empty((outputs, channels, positions), data.dtype)
    step = max(1, (1 << 20) // outputs)  # rows read at a time: 4 MiB
    for position in range(positions):
        for start in range(0, channels, step):
            stop = min(start + step, channels)
            at = position * channels
            made[:, start:stop, position] = data[at + start : at + stop].T
    return made.reshape(outputs, inputs)
