"""``.pth`` and ``.pt`` files, in both of torch's formats, reading only what is asked for.

A file holds a state dict, torchvision's or timm's, alone or inside a checkpoint.

Files of the present format (a zip archive) are mapped by ``torch.load(weights_only=True)``. The
format before torch 1.6, in which torchvision still serves ``vgg16-397923af.pth``, cannot be
mapped by torch, and loading it whole would take the 494 MB of the fully connected layers even
where conv5_3 alone is wanted. So its index is read here by an unpickler that knows nothing but
tensors, and each tensor then from its place in the file.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from vggfeat.errors import WeightsError
from vggfeat.weights.torch_names import Translated, unwrapped

# What unpicklers raise over damaged files.
_BROKEN = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError),
    *(AttributeError, IndexError, MemoryError, OverflowError, ImportError),
)
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


@contextmanager
def open_file(path: Path) -> Iterator[Translated]:
    """Open a file of either format for reading.

    Raises
    ------
    WeightsError
        The file is neither, is truncated, holds no dictionary of tensors, or holds anything
        beside tensors and plain values, which might run code.
    """
    try:
        if zipfile.is_zipfile(path):
            yield Translated(MappedFile(path))
        else:
            with path.open("rb") as file:
                yield Translated(LegacyFile(file))
    except _BROKEN as error:
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(
            f"{path} cannot be read as a state dict of tensors: {reason} "
            "Save it with torch.save(model.state_dict(), PATH)."
        ) from error


class MappedFile:
    """A file of torch's zip format, mapped into memory."""

    def __init__(self, path: Path) -> None:
        held = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        self._state: Mapping[str, Tensor] = unwrapped(held, Tensor)
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self._state.items()}

    def read(self, name: str) -> Tensor:
        """Return a copy of one tensor, so that the mapping can go."""
        return self._state[name].detach().clone()


class LegacyFile:
    """A file of the format before torch 1.6: pickles, then storages one after the other.

    After five pickles (magic number, protocol, system, the object, the storages' keys) each
    storage follows as its number of elements (8 bytes, little-endian) and its raw values.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        if _Unpickler(file).load() != _MAGIC or _Unpickler(file).load() != _PROTOCOL:
            raise ValueError("it is not a file written by torch.save.")
        _Unpickler(file).load()  # byte order and type sizes of the writer
        unpickler = _Unpickler(file)
        state: Mapping[str, _Tensor] = unwrapped(unpickler.load(), _Tensor)
        keys = _Unpickler(file).load()
        self._offsets: dict[str, int] = {}
        for key in keys:
            storage = unpickler.storages[key]
            self._offsets[key] = file.tell() + 8
            file.seek(8 + storage.count * storage.dtype.itemsize, io.SEEK_CUR)
        if file.tell() > file.seek(0, io.SEEK_END):
            raise ValueError("it is truncated.")
        self._state = state
        self.shapes = {name: tensor.shape for name, tensor in state.items()}

    def read(self, name: str) -> Tensor:
        """Return one tensor, read from its place in the file."""
        tensor = self._state[name]
        dtype = tensor.storage.dtype
        self._file.seek(self._offsets[tensor.storage.key] + tensor.offset * dtype.itemsize)
        extent = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride, strict=True))
        data = bytearray(extent * dtype.itemsize)
        if self._file.readinto(data) != len(data):  # type: ignore[attr-defined]
            raise ValueError("it is truncated.")
        return torch.frombuffer(data, dtype=dtype).as_strided(tensor.shape, tensor.stride)


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _tensor(storage: _Storage, offset: int, shape: Any, stride: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, int(offset), tuple(shape), tuple(stride))


def _parameter(tensor: _Tensor, *_: Any) -> _Tensor:
    return tensor


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "FloatStorage"): torch.float32,
    ("torch", "DoubleStorage"): torch.float64,
    ("torch", "HalfStorage"): torch.float16,
    ("torch", "BFloat16Storage"): torch.bfloat16,
    ("torch", "LongStorage"): torch.int64,
}


class _Unpickler(pickle._Unpickler):
    """Knows tensors and nothing else, so a hostile file can run no code.

    It is the one written in Python: that in C takes memory for as many objects as a damaged
    number says.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, not only tensors.") from None

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _location, count, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError("it holds views of storages, which are not supported.")
        return self.storages.setdefault(str(key), _Storage(str(key), dtype, int(count)))
