"""``.safetensors`` files, with torchvision's or timm's names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from vggfeat.errors import WeightsError
from vggfeat.preprocessing import TORCHVISION, Preprocessing
from vggfeat.weights.record import WeightFormat
from vggfeat.weights.torch_names import Translated, translated

if TYPE_CHECKING:
    from torch import Tensor

PREPROCESSING_KEY = "vggfeat.preprocessing"
"""Where a file's metadata may hold a :class:`Preprocessing` as JSON."""

_NUMPY = ("F16", "F32", "F64", "I64", "I32", "I16", "I8", "U8")


def _open(path: Path, framework: str) -> Any:  # the library's handle has no types
    return safe_open(str(path), framework=framework)


def metadata(path: Path) -> dict[str, str]:
    """Return what a file says of itself, without importing torch.

    Raises
    ------
    WeightsError
        The file is not in the safetensors format, or is truncated.
    """
    try:
        return dict(_open(path, "numpy").metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


class SafetensorsFile:
    """An open file; tensors are read from their places one by one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _open(path, "numpy")
        self.shapes = {
            name: tuple(self._file.get_slice(name).get_shape())
            for name in self._file.keys()  # noqa: SIM118 (no mapping)
        }

    def read(self, name: str) -> NDArray[Any] | Tensor:
        """Return one tensor; by torch only where numpy lacks the type."""
        if self._file.get_slice(name).get_dtype() in _NUMPY:
            array: NDArray[Any] = self._file.get_tensor(name)
            return array
        tensor: Tensor = _open(self._path, "pt").get_tensor(name).clone()  # not the mapped file
        return tensor


@contextmanager
def open_file(path: Path, part: str = "") -> Iterator[Translated]:
    """Open a file for reading.

    Parameters
    ----------
    path : Path
        The file.
    part : str
        What stands before the names of the network's tensors, where several are in the file.

    Raises
    ------
    WeightsError
        The file is not in the safetensors format, is truncated, or holds no such network.
    """
    try:
        file = SafetensorsFile(path)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error
    try:
        translated_file = translated(file, part)
    except ValueError as error:
        raise _unreadable(path, error) from error
    if text := metadata(path).get(PREPROCESSING_KEY):
        where = f"metadata {PREPROCESSING_KEY!r}"
        spec, unclear = None, ""
        try:
            spec = Preprocessing.from_json(json.loads(text))
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            unclear = f"its {where} is no preprocessing: {error}"
        translated_file.understanding = replace(
            translated_file.understanding,
            preprocessing=spec,
            any_size=False,
            where=where,
            unclear=unclear,
        )
    yield translated_file


def _unreadable(path: Path, error: Exception) -> WeightsError:
    return WeightsError(f"{path} cannot be read as safetensors: {str(error).rstrip('.')}.")


FORMAT = WeightFormat(
    "safetensors", (".safetensors",), open_file, TORCHVISION, "torchvision trains"
)
