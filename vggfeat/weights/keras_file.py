"""Keras's files: ``.h5`` of Keras 2, ``.keras`` and ``.weights.h5`` of Keras 3.

========================  =============================================================
``.h5`` of Keras 2        the attribute ``layer_names`` lists a group a layer, and each
                          group's ``weight_names`` its datasets; ``model.save`` has the
                          same below ``model_weights``, and the graph in ``model_config``
``.keras``                a zip archive of ``config.json``, the graph, and
                          ``model.weights.h5``
``.weights.h5``           of Keras 3: the layers by class and number, see
                          :mod:`vggfeat.weights.keras3`; without the graph
========================  =============================================================

Where there is a graph, it is followed (:mod:`vggfeat.weights.graph`); else names and order have
to do (:mod:`vggfeat.weights.keras_names`). Kernels are stored (height, width, inputs, outputs),
matrices (inputs, outputs), and ``fc1`` sees the map flattened as (row, column, channel): all
become torch's order here.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import takewhile
from math import isqrt
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from vggfeat import hdf5, zip_members
from vggfeat.errors import WeightsError
from vggfeat.preprocessing import CAFFE
from vggfeat.weights import keras3, keras_config, keras_names
from vggfeat.weights.record import WeightFormat
from vggfeat.weights.tensor_file import TensorFile
from vggfeat.weights.understood import Understood

_BROKEN = (*hdf5.DAMAGED, zipfile.BadZipFile, zlib.error, EOFError, MemoryError)
_LARGEST_CONFIG = 1 << 23  # bytes; a VGG's has 20,000
_MOST_NAMES, _LONGEST_NAME = 10_000, 1024
_MOST_POSITIONS = 1 << 10  # of the map that fc1 sees; VGG's has 49
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_ROLES = {
    "kernel": "weight", "W": "weight", "bias": "bias", "b": "bias", "gamma": "gamma",
    "beta": "beta", "moving_mean": "mean", "moving_variance": "variance",
}  # fmt: skip


@contextmanager
def open_file(path: Path, part: str = "") -> Iterator[TensorFile]:
    """Open a file for reading.

    Parameters
    ----------
    path : Path
        The file.
    part : str
        The network in it, where it holds several.

    Raises
    ------
    WeightsError
        The file is no HDF5 and no archive of Keras's, is truncated, or none that Keras wrote.
    """
    try:
        if path.suffix.lower() == ".keras":
            with path.open("rb") as file, zip_members.open_archive(file) as archive:
                config = json.loads(zip_members.read(archive, _CONFIG, _LARGEST_CONFIG))
                member = zip_members.opened(archive, file, _WEIGHTS)
                with hdf5.opened(path, WeightsError, member=member) as hdf5_file:
                    yield _keras3(hdf5_file, config, part)
        else:
            with hdf5.opened(path, WeightsError) as hdf5_file:
                yield (
                    _legacy(hdf5_file, part)
                    if _is_legacy(hdf5_file)
                    else _keras3(hdf5_file, None, part)
                )
    except _BROKEN as error:
        reason = str(error).strip("'\"").partition("\n")[0]
        raise WeightsError(f"{path} cannot be read as a file of Keras's: {reason}") from error


def _is_legacy(file: h5py.File) -> bool:
    root = file.get("model_weights", file)
    return bool(_listed(root, "layer_names"))


def _legacy(file: h5py.File, part: str) -> TensorFile:
    root = file.get("model_weights", file)
    layers = _listed(root, "layer_names")
    tensors_of: dict[str, list[tuple[str, str, str]]] = {}
    sets: dict[str, Any] = {}
    for group in layers:
        for weight in _listed(root[group], "weight_names"):
            data, name = root[group][weight], f"{group}/{weight}"
            sets[name] = data
            tensor = keras_names.layer_of(group, weight), _role(weight, data.ndim), name
            tensors_of.setdefault(group, []).append(tensor)
        if len(sets) > _MOST_NAMES:
            raise ValueError(f"it holds more than {_MOST_NAMES:,} tensors.")
    raw = KerasTensors(sets)
    if config := hdf5.text(file, "model_config", ""):
        if len(config) > _LARGEST_CONFIG:
            raise ValueError(f"its configuration has {len(config):,} characters.")

        def lookup(path: keras_config.Path) -> Mapping[str, str]:
            every = tensors_of.get(path[0], [])
            return {role: name for of, role, name in every if len(path) == 1 or of == path[-1]}

        if nodes := keras_config.graph(json.loads(config), lookup):
            return Understood.of_graph(raw, nodes, part)
    items = keras_names.listed(layers, tensors_of)
    return keras_names.understood(raw, items, part, ordered=True)


def _keras3(file: h5py.File, config: Any, part: str) -> TensorFile:
    sets, lookup = keras3.tensors(file, config)
    if not sets:
        raise ValueError(
            "it has no list of layers (layer_names), and no layers of Keras 3. Save the model with "
            "model.save('model.keras')."
        )
    raw = KerasTensors(sets)
    if config is not None and (nodes := keras_config.graph(config, lookup)):
        return Understood.of_graph(raw, nodes, part)
    items = [keras_names.Item(path, tensors) for path, tensors in keras3.named(file)]
    return keras_names.understood(raw, items, part, ordered=False)


class KerasTensors:
    """Datasets by the file's names, in torch's order, read one by one.

    Parameters
    ----------
    sets : mapping of str to h5py.Dataset
        By name.
    """

    def __init__(self, sets: Mapping[str, Any]) -> None:
        self._sets = sets
        for name, data in sets.items():
            if data.dtype.kind not in "fiub":
                raise ValueError(f"{name} holds no real numbers.")
        self.shapes = {name: _shape(data.shape) for name, data in sets.items()}

    def read(self, name: str, channels: int = 0) -> NDArray[Any]:
        """Return one tensor; a matrix whose rows are of maps of so many channels put in order."""
        data = self._sets[name]
        if data.ndim == 4:
            return np.ascontiguousarray(data[()].transpose(3, 2, 0, 1))
        if data.ndim < 2:
            return np.asarray(data[()])
        return _matrix(data, channels or data.shape[0])


def _listed(group: Any, attribute: str) -> list[str]:
    """Return an attribute's names; long lists are split over numbered attributes."""
    names: list[str] = []
    numbered = (f"{attribute}{number}" for number in range(_MOST_NAMES))
    parts = [attribute] if attribute in group.attrs else numbered
    for name in takewhile(lambda name: name in group.attrs, parts):
        part = hdf5.attribute(group, name)
        names += [each.decode() if isinstance(each, bytes) else str(each) for each in part]
        if len(names) > _MOST_NAMES or max(map(len, names), default=0) > _LONGEST_NAME:
            raise ValueError(f"its {attribute} are too many, or too long.")
    return names


def _role(weight: str, dimensions: int) -> str:
    """Return what a dataset is to its layer, by how its name ends: ``kernel:0``, ``_W_1:0``."""
    last = weight.rpartition("/")[2].partition(":")[0]
    for end, role in _ROLES.items():
        if last == end or last.endswith((f"_{end}", f"_{end}_1")):
            return role
    return last if dimensions > 1 else f"{last}?"


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
    square = positions <= _MOST_POSITIONS and isqrt(positions) ** 2 == positions
    if positions * channels != inputs or not square:
        raise ValueError(
            f"fc1 sees {inputs} values, which are no square map of {channels} channels."
        )
    if not outputs:
        return np.empty((0, inputs), data.dtype)
    made = np.empty((outputs, channels, positions), data.dtype)
    step = max(1, (1 << 20) // outputs)  # rows read at a time: 4 MiB
    for position in range(positions):
        for start in range(0, channels, step):
            stop = min(start + step, channels)
            at = position * channels
            made[:, start:stop, position] = data[at + start : at + stop].T
    return made.reshape(outputs, inputs)


FORMAT = WeightFormat(
    "Keras",
    (".h5", ".hdf5", ".keras"),
    open_file,
    CAFFE,
    "Keras's applications need, which port the authors' Caffe release",
    md5=True,
)
