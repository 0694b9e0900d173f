"""``.caffemodel`` files: Caffe's ``NetParameter``, of both generations of layer messages.

Of ``caffe.proto`` these fields count (number: name), and for the graph those of
:mod:`vggfeat.weights.caffe_layers`:

========================  =============================================================
``NetParameter``          2: layers (``V1LayerParameter``), 100: layer (``LayerParameter``)
``V1LayerParameter``      4: name, 6: blobs
``LayerParameter``        1: name, 7: blobs
``BlobProto``             1 2 3 4: num channels height width (before ``shape`` came), 5: data,
                          7: shape, 8: double_data
``BlobShape``             1: dim
========================  =============================================================

The file is mapped and walked (:mod:`vggfeat.weights.wire`), and a blob's values are read from
their place: the protobuf library would copy every layer's message, of which fc6's takes 411 MB,
also where conv5_3 alone is wanted.

A convolution's weights lie as (outputs, inputs, height, width), and a matrix has the map that it
sees flattened as (channel, row, column), as torch has both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vggfeat.errors import WeightsError
from vggfeat.preprocessing import CAFFE
from vggfeat.weights.caffe_layers import GENERATIONS, Generation, Message, graph, message
from vggfeat.weights.record import WeightFormat
from vggfeat.weights.understood import Understood
from vggfeat.weights.wire import Buffer, Field, fields, varints

_KINDS = ("weight", "bias")
_DATA, _SHAPE, _DOUBLE_DATA = 5, 7, 8
_MOST_LAYERS = 10_000
_MOST_BLOBS, _MOST_DIMENSIONS = 64, 16


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
        The file is no Caffe model with layers that have weights, or is damaged.
    """
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            model = CaffeFile(data, file)
            yield Understood.of_graph(model, graph(data, model.layers), part)
    except (ValueError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as a Caffe model: {error}") from error


@dataclass(frozen=True, slots=True)
class Blob:
    """An array in the file.

    Attributes
    ----------
    shape : tuple of int
        As torch would have it.
    dtype : str
        Of the file's values, little-endian.
    places : sequence of (int, int)
        Byte ranges that hold them, one behind the other.
    """

    shape: tuple[int, ...]
    dtype: str
    places: Sequence[tuple[int, int]]


class CaffeFile:
    """An open file; blobs are read from their places one by one.

    Parameters
    ----------
    data : bytes or mmap
        All of it, to be walked.
    file : binary file
        The same, to be read from.
    """

    def __init__(self, data: Buffer, file: BinaryIO) -> None:
        self._data, self._file = data, file
        self._blobs: dict[str, Blob] = {}
        self.layers: list[Message] = []
        for layer in fields(data, 0, len(data)):
            if layer.number in GENERATIONS and layer.value is None:
                if len(self.layers) == _MOST_LAYERS:
                    raise ValueError(f"it has more than {_MOST_LAYERS:,} layers.")
                self._add(layer, GENERATIONS[layer.number])
        if not self._blobs:
            raise ValueError("it holds no layer with weights.")
        self.shapes = {name: blob.shape for name, blob in self._blobs.items()}

    def read(self, name: str, channels: int = 0) -> NDArray[Any]:  # noqa: ARG002 (in order already)
        """Return one blob."""
        blob, parts = self._blobs[name], []
        for start, stop in blob.places:  # read, since pages of a mapping would count as memory
            self._file.seek(start)
            count = (stop - start) // np.dtype(blob.dtype).itemsize
            parts.append(np.fromfile(self._file, blob.dtype, count))
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty(0)])
        return whole.reshape(blob.shape)

    def _add(self, layer: Field, numbers: Generation) -> None:
        layer_message, blobs = message(self._data, layer, numbers)
        if len(blobs) > _MOST_BLOBS:
            raise ValueError(f"{layer_message.name} has {len(blobs):,} blobs.")
        for number, blob in enumerate(blobs):
            kind = _KINDS[number] if number < len(_KINDS) else f"blob{number}"
            name = f"{layer_message.name}.{kind}"
            if name in self._blobs:
                name = f"{layer_message.name}@{len(self.layers)}.{kind}"
            self._blobs[name] = self._blob(blob, name, layer_message.kind)
            layer_message.blobs.append(name)
        self.layers.append(layer_message)

    def _blob(self, blob: Field, name: str, kind: str) -> Blob:
        legacy, shape = [0, 0, 0, 0], None
        places: dict[int, list[tuple[int, int]]] = {_DATA: [], _DOUBLE_DATA: []}
        for field in fields(self._data, blob.start, blob.stop):
            if field.value is not None and 1 <= field.number <= len(legacy):
                legacy[field.number - 1] = field.value
            elif field.value is None and field.number in places:
                places[field.number].append((field.start, field.stop))
            elif field.value is None and field.number == _SHAPE:
                dims = fields(self._data, field.start, field.stop)
                shape = [
                    size
                    for dim in dims
                    if dim.number == 1
                    for size in varints(self._data, dim, _MOST_DIMENSIONS)
                ]
        dtype, at = ("<f8", _DOUBLE_DATA) if places[_DOUBLE_DATA] else ("<f4", _DATA)
        shape = legacy if shape is None else shape
        if len(shape) > _MOST_DIMENSIONS:
            raise ValueError(f"{name} has {len(shape):,} dimensions.")
        torch_shape = _as_torch(shape, name, kind)
        size = sum(stop - start for start, stop in places[at])
        if size != math.prod(torch_shape) * np.dtype(dtype).itemsize:
            raise ValueError(f"{name} of shape {torch_shape} has {size:,} bytes of values.")
        return Blob(torch_shape, dtype, places[at])


def _as_torch(shape: Sequence[int], name: str, kind: str) -> tuple[int, ...]:
    """Drop the ones that fill up legacy shapes; a convolution over a whole map is a matrix."""
    if name.endswith(".bias") or kind in ("BatchNorm", "Scale"):
        return (math.prod(shape),)
    if len(shape) == 4 and shape[:2] == [1, 1]:
        return tuple(shape[2:])  # (1, 1, outputs, inputs)
    if len(shape) == 4 and (kind == "InnerProduct" or name.startswith("fc")):
        return (shape[0], math.prod(shape[1:]))  # (outputs, channel, row, column)
    return tuple(shape)


FORMAT = WeightFormat(
    "Caffe", (".caffemodel",), open_file, CAFFE, "the authors' Caffe release needs"
)
