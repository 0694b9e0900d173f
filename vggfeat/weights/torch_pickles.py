"""The pickles that ``torch.save`` wrote, read by an unpickler that runs nothing.

It knows tensors and plain containers. Whatever else a checkpoint holds beside them becomes an empty
stand-in.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vggfeat.pickles import LONGEST_NAME, Unpickler, put

if TYPE_CHECKING:
    from torch import Tensor

_DEEPEST = 8  # dictionaries within dictionaries
_MOST_DIMENSIONS = 16
_MOST_OF_STORAGE = 8  # values by which a storage is named
_LARGEST = 1 << 62  # number of values
_REPEATED = 1 << 16  # values of a view that says those of its storage several times


class RemediedError(ValueError):
    """A refusal that says itself what to do."""


@dataclass(frozen=True, slots=True)
class DType:
    """A type of values, by torch's name, which is numpy's where numpy has it."""

    name: str

    @property
    def size(self) -> int:
        """Bytes of a value."""
        return 2 if self.name == "bfloat16" else np.dtype(self.name).itemsize


@dataclass(frozen=True, slots=True)
class Storage:
    """Values in a file: which, of what type, and how many."""

    key: str
    dtype: DType
    count: int


@dataclass(frozen=True, slots=True)
class TensorView:
    """A tensor in a file: a view of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self, file: Any, start: int) -> NDArray[Any] | Tensor:
        """Read it from a file in which its storage begins at `start`."""
        size = self.storage.dtype.size
        if 0 in self.shape:
            return np.empty(self.shape, np.float32)
        extent = 1 + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        if self.offset < 0 or min(self.stride, default=0) < 0:
            raise ValueError("it has a tensor that begins before its storage.")
        if self.offset + extent > self.storage.count:
            raise ValueError("it has a tensor that is larger than its storage.")
        if math.prod(self.shape) > max(self.storage.count, _REPEATED):
            raise ValueError("it has a tensor of more values than its storage.")
        file.seek(0, 2)
        if start + (self.offset + extent) * size > file.tell():
            raise ValueError("it is truncated.")
        file.seek(start + self.offset * size)
        data = bytearray(extent * size)
        if _fill(file, data) != len(data):
            raise ValueError("it is truncated.")
        if self.storage.dtype.name == "bfloat16":
            import torch

            return torch.frombuffer(data, dtype=torch.bfloat16).as_strided(self.shape, self.stride)
        steps = [size * step for step in self.stride]
        values = np.frombuffer(data, self.storage.dtype.name)
        return np.lib.stride_tricks.as_strided(values, self.shape, steps)


def _fill(file: Any, data: bytearray) -> int:
    view, done = memoryview(data), 0
    while done < len(data) and (count := file.readinto(view[done:])):
        done += count
    return done


def tensors(checkpoint: Any) -> dict[str, TensorView]:
    """Return the tensors of a checkpoint, named by the keys that lead to them.

    Parameters
    ----------
    checkpoint : Any
        What was unpickled: a dictionary, of tensors or of dictionaries and whatever else.

    Raises
    ------
    ValueError
        There are none, or a whole model was pickled.
    """
    named: dict[str, TensorView] = {}
    seen: set[int] = set()

    def visit(value: Any, path: tuple[str, ...]) -> None:
        if isinstance(value, TensorView):
            name = ".".join(path)
            if len(name) > LONGEST_NAME:
                raise ValueError(f"it has a name of {len(name):,} characters.")
            named.setdefault(name, value)
        elif isinstance(value, Mapping) and id(value) not in seen and len(path) < _DEEPEST:
            seen.add(id(value))
            for key, inner in value.items():
                if not isinstance(key, bytes):
                    visit(inner, (*path, str(key)))

    visit(checkpoint, ())
    models = [checkpoint, *(checkpoint.values() if isinstance(checkpoint, Mapping) else ())]
    pickled = next((one for one in models if isinstance(one, Stand) and one.model), None)
    if pickled is not None and not any(len(one.shape) == 4 for one in named.values()):
        raise RemediedError(
            f"it is a whole pickled model ({pickled.module}.{pickled.name}), which only the "
            "program that made it can load. There, save its tensors: "
            "torch.save(model.state_dict(), PATH)"
        )
    if not named:
        raise ValueError("it holds no dictionary of tensors by name.")
    return named


class Stand:
    """Stands for an object, a class or a function that a pickle names: it does nothing.

    Attributes
    ----------
    module, name : str
        What the pickle calls it; not put together, since many may have one long name.
    model : bool
        Whether its state was that of a torch module.
    """

    __slots__ = ("model", "module", "name")

    def __init__(self, module: str = "?", name: str = "?") -> None:
        self.module, self.name, self.model = module, name, False

    def take(self, state: Any) -> None:
        """Look at a state, and keep nothing of it."""
        inner = state[0] if isinstance(state, tuple) and state else state
        self.model = isinstance(inner, Mapping) and "_modules" in inner

    def append(self, _value: Any) -> None:
        """Do nothing, as for what is no list."""

    extend = add = append


def _tensor(
    storage: Any,
    offset: Any,
    shape: Any,
    stride: Any,
    _gradient: Any = None,
    _hooks: Any = None,
    metadata: Any = None,
) -> Any:
    if not isinstance(storage, Storage):
        return Stand()
    if metadata:  # torch has none but these marks
        raise RemediedError(
            "it has a tensor that is marked as the negative, or the conjugate, of what is stored. "
            "Save tensor.resolve_conj().resolve_neg() in its place"
        )
    few = len(shape) == len(stride) <= _MOST_DIMENSIONS
    if (
        not few
        or any(type(n) is not int or abs(n) > _LARGEST for n in (offset, *shape, *stride))
        or any(n < 0 for n in shape)
    ):
        raise ValueError("it has a tensor whose shape, strides or offset are none.")
    return TensorView(storage, offset, tuple(shape), tuple(stride))


def _first(value: Any = None, *_: Any) -> Any:
    return value


def _typed(function: Any, _kind: Any, arguments: Any, _state: Any = None) -> Any:
    return function(*arguments) if function in (_tensor, _first) else Stand()


def _dictionary(items: Any = (), *_: Any) -> dict[Any, Any]:
    """Make a dictionary, as Python 2 pickled them: of a list of pairs."""
    made: dict[Any, Any] = OrderedDict()
    if isinstance(items, list | tuple):
        pairs = [one for one in items if isinstance(one, list | tuple) and len(one) == 2]
        put(made, pairs)
    return made


_TYPES = {
    name + "Storage": DType(dtype)
    for name, dtype in {
        "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16",
        "Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8",
        "Bool": "bool",
    }.items()
}  # fmt: skip
"""Storages of real numbers; tensors of others are no weights."""

_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _dictionary,
    ("collections", "defaultdict"): lambda *_: {},
    ("builtins", "dict"): _dictionary,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch._tensor", "_rebuild_from_type_v2"): _typed,
    **{("torch", name): dtype for name, dtype in _TYPES.items()},
}
_HOSTILE = frozenset({
    *("os", "posix", "nt", "subprocess", "sys", "shutil", "runpy", "importlib", "socket"),
    *("ctypes", "pty", "commands", "webbrowser", "codeop", "multiprocessing", "asyncio"),
})  # fmt: skip
_RUNNING = frozenset({"eval", "exec", "execfile", "compile", "__import__", "open", "input"})


class TorchUnpickler(Unpickler):
    """Knows tensors and plain containers; all else becomes a :class:`Stand`, so no code runs.

    A file that names what no checkpoint needs and code is run by is refused all the same: nothing
    in it deserves trust.

    Parameters
    ----------
    file : binary file
        At the start of the pickle; it is left behind it.

    Attributes
    ----------
    storages : dict of str to Storage
        Those that tensors are views of, by their keys.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self.storages: dict[str, Storage] = {}

    def named(self, module: str, name: str) -> Any:
        """Return something known, or a stand-in."""
        if module == "torch.cuda" and name in _TYPES:  # old files of tensors on a GPU
            module = "torch"
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module.partition(".")[0] in _HOSTILE or (
            module in ("builtins", "__builtin__") and name in _RUNNING
        ):
            raise pickle.UnpicklingError(f"it is made to run {module}.{name}. Do not trust it")
        return Stand(module, name)

    def called(self, what: Any, arguments: tuple[Any, ...]) -> Any:
        """Return a tensor, a dictionary, or a stand-in for an object."""
        if isinstance(what, Stand):
            return Stand(what.module, what.name)
        return super().called(what, arguments)

    def filled(self, target: Any, state: Any) -> None:
        """Let a stand-in look at its state; what else has one does without."""
        if isinstance(target, Stand):
            target.take(state)

    def persistent_load(self, pid: Any) -> Any:
        """Return a storage."""
        if not isinstance(pid, tuple) or not 2 <= len(pid) <= _MOST_OF_STORAGE:
            raise pickle.UnpicklingError("it calls a storage by no name.")
        if pid[0] == "module":  # the class of a pickled module, with its source
            return pid[1]
        kind, dtype, key, _location, count, *view = pid
        if not isinstance(key, str | int) or len(str(key)) > LONGEST_NAME:
            raise pickle.UnpicklingError("it calls a storage by no name.")
        if kind != "storage" or any(one is not None for one in view):
            raise pickle.UnpicklingError("it holds views of storages, which are not supported.")
        if not isinstance(dtype, DType):
            return Stand()
        if type(count) is not int or count < 0:
            raise pickle.UnpicklingError("it has a storage of fewer values than none.")
        return self.storages.setdefault(str(key), Storage(str(key), dtype, count))
