"""Files that ``torch.save`` wrote, in both of its formats, reading only what is asked for.

A file holds a state dict, alone or inside a checkpoint. Both formats are pickles and raw values of
tensors: a zip archive of ``data.pkl`` and ``data/KEY``, or, before torch 1.6, five pickles with the
storages behind them (``vgg16-397923af.pth`` is still served so). The pickle is read here by an
unpickler that knows tensors and plain containers. Whatever else a checkpoint holds beside them, as
Lightning's ``hyper_parameters`` do, becomes an empty stand-in: nothing of it is imported or run.
Each tensor is then read from its place in the file.
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
from typing import Any, BinaryIO, ClassVar

import torch
from torch import Tensor

from vggfeat.errors import WeightsError
from vggfeat.weights import zip_members
from vggfeat.weights.tensor_file import TensorFile
from vggfeat.weights.torch_names import translated

# What unpicklers raise over damaged files.
_BROKEN = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError),
    *(AttributeError, IndexError, MemoryError, OverflowError, ImportError, zipfile.BadZipFile),
    *(NotImplementedError, AssertionError),
)
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DEEPEST = 8  # dictionaries within dictionaries


@contextmanager
def open_file(path: Path, part: str = "") -> Iterator[TensorFile]:
    """Open a file of either format for reading.

    Parameters
    ----------
    path : Path
        The file.
    part : str
        What stands before the names of the network's tensors, where several are in the file.

    Raises
    ------
    WeightsError
        The file is neither, is truncated, holds no dictionary of tensors, or is made to run code.
    """
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    yield translated(ArchiveFile(archive, file), part)
            else:
                file.seek(0)
                yield translated(LegacyFile(file), part)
    except _BROKEN as error:
        reason = str(error).strip("'\" ").partition("\n")[0].rstrip(".")
        told = isinstance(error, _Remedied)
        remedy = "" if told else " Save it with torch.save(model.state_dict(), PATH)."
        reason = reason or "it is damaged"
        raise WeightsError(
            f"{path} cannot be read as a state dict of tensors: {reason}.{remedy}"
        ) from error


class _Remedied(ValueError):
    """A refusal that says itself what to do."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Values in a file: which, of what type, and how many."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True, slots=True)
class Held:
    """A tensor in a file: a view of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self, file: Any, start: int) -> Tensor:
        """Read it from a file in which its storage begins at `start`."""
        dtype = self.storage.dtype
        extent = 1 + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=dtype)
        if self.offset < 0 or min(self.stride, default=0) < 0:
            raise ValueError("it has a tensor that begins before its storage.")
        if self.offset + extent > self.storage.count:
            raise ValueError("it has a tensor that is larger than its storage.")
        file.seek(start + self.offset * dtype.itemsize)
        data = bytearray(extent * dtype.itemsize)
        if _fill(file, data) != len(data):
            raise ValueError("it is truncated.")
        return torch.frombuffer(data, dtype=dtype).as_strided(self.shape, self.stride)


def _fill(file: Any, data: bytearray) -> int:
    view, done = memoryview(data), 0
    while done < len(data) and (count := file.readinto(view[done:])):
        done += count
    return done


class ArchiveFile:
    """A file of torch's zip format.

    Parameters
    ----------
    archive : zipfile.ZipFile
        The archive.
    file : binary file
        The same.
    """

    def __init__(self, archive: zipfile.ZipFile, file: BinaryIO) -> None:
        names = archive.namelist()
        pickled = next((name for name in names if name.rpartition("/")[2] == "data.pkl"), None)
        if pickled is None:
            raise ValueError("it is a zip archive, but none that torch.save wrote.")
        self._archive, self._file = archive, file
        self._root = pickled.removesuffix("data.pkl")
        if any(name.startswith(f"{self._root}code/") for name in names):
            raise _Remedied(
                "it is a TorchScript archive, a program with its weights. Where you trust it, save "
                "them alone: torch.save(torch.jit.load(PATH).state_dict(), 'weights.pth')"
            )
        order = f"{self._root}byteorder"
        if order in names and archive.read(order).strip() != b"little":
            raise ValueError("its values are big-endian, which is not supported.")
        unpickler = _Unpickler(io.BytesIO(archive.read(pickled)))
        self._state = tensors(unpickler.load())
        self.shapes = {name: tensor.shape for name, tensor in self._state.items()}
        for storage in {tensor.storage.key for tensor in self._state.values()}:
            archive.getinfo(f"{self._root}data/{storage}")

    def read(self, name: str) -> Tensor:
        """Return one tensor, read from its place in the file."""
        tensor = self._state[name]
        member = f"{self._root}data/{tensor.storage.key}"
        return tensor.read(zip_members.opened(self._archive, self._file, member), 0)


class LegacyFile:
    """A file of the format before torch 1.6: pickles, then storages one after the other.

    After five pickles (magic number, protocol, system, the object, the storages' keys) each
    storage follows as its number of elements (8 bytes, little-endian) and its raw values.

    Parameters
    ----------
    file : binary file
        At its start.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        if _Unpickler(file).load() != _MAGIC or _Unpickler(file).load() != _PROTOCOL:
            raise ValueError("it is not a file written by torch.save.")
        _Unpickler(file).load()  # byte order and type sizes of the writer
        unpickler = _Unpickler(file)
        self._state = tensors(unpickler.load())
        keys = _Unpickler(file).load()
        self._starts: dict[str, int] = {}
        for key in keys:
            storage = unpickler.storages[key]
            self._starts[key] = file.tell() + 8
            file.seek(8 + storage.count * storage.dtype.itemsize, io.SEEK_CUR)
        if file.tell() > file.seek(0, io.SEEK_END):
            raise ValueError("it is truncated.")
        self.shapes = {name: tensor.shape for name, tensor in self._state.items()}

    def read(self, name: str) -> Tensor:
        """Return one tensor, read from its place in the file."""
        tensor = self._state[name]
        return tensor.read(self._file, self._starts[tensor.storage.key])


def tensors(held: Any) -> dict[str, Held]:
    """Return the tensors of a checkpoint, named by the keys that lead to them.

    Parameters
    ----------
    held : Any
        What was unpickled: a dictionary, of tensors or of dictionaries and whatever else.

    Raises
    ------
    ValueError
        There are none, or a whole model was pickled.
    """
    found: dict[str, Held] = {}
    seen: set[int] = set()

    def visit(value: Any, path: tuple[str, ...]) -> None:
        if isinstance(value, Held):
            found.setdefault(".".join(path), value)
        elif isinstance(value, Mapping) and id(value) not in seen and len(path) < _DEEPEST:
            seen.add(id(value))
            for key, inner in value.items():
                visit(inner, (*path, str(key)))

    visit(held, ())
    models = [held, *(held.values() if isinstance(held, Mapping) else ())]
    pickled = next((one for one in models if isinstance(one, Stand) and one.is_model()), None)
    if pickled is not None and not any(len(one.shape) == 4 for one in found.values()):
        raise _Remedied(
            f"it is a whole pickled model ({pickled.what}), which only the program that made it "
            "can load. There, save its tensors: torch.save(model.state_dict(), PATH)"
        )
    if not found:
        raise ValueError("it holds no dictionary of tensors by name.")
    return found


class Stand:
    """Stands for an object or function that a pickle names: it does nothing, and holds nothing."""

    what = "?"

    def __init__(self, *_args: Any, **_options: Any) -> None:
        self._model = False

    def __call__(self, *_args: Any, **_options: Any) -> Stand:
        """Return itself: it is what it would make, too."""
        return self

    def __setstate__(self, state: Any) -> None:
        inner = state[0] if isinstance(state, tuple) and state else state
        self._model = isinstance(inner, Mapping) and "_modules" in inner

    def is_model(self) -> bool:
        """Whether its state was that of a torch module."""
        return getattr(self, "_model", False)

    def append(self, _value: Any) -> None:
        """Do nothing, as for what is no list."""

    extend = update = append

    def __setitem__(self, _key: Any, _value: Any) -> None:
        """Do nothing, as for what is no dictionary."""

    def __hash__(self) -> int:
        return id(self)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Any:
    if not isinstance(storage, Storage):
        return Stand()
    return Held(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))


def _first(value: Any = None, *_: Any) -> Any:
    return value


def _typed(function: Any, _kind: Any, arguments: Any, _state: Any = None) -> Any:
    return function(*arguments) if function in (_tensor, _first) else Stand()


_TYPES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool, "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}  # fmt: skip
_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): lambda *_: {},
    ("builtins", "dict"): dict,
    ("builtins", "set"): set,
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


def _refuse_nested(values: list[Any]) -> None:
    """Refuse tuples that lie too deep in one another: each level may say the one below twice."""
    for value in values:
        level, depth = [value], 0
        while level:
            inner = {id(one): one for held in level if isinstance(held, tuple) for one in held}
            level, depth = list(inner.values()), depth + 1
            if depth > _DEEPEST:
                raise pickle.UnpicklingError("it holds tuples within tuples without end.")


class _Unpickler(pickle._Unpickler):
    """Knows tensors and plain containers; all else becomes a :class:`Stand`, so no code runs.

    A file that names what no checkpoint needs and code is run by is refused all the same: nothing
    in it deserves trust. It is the unpickler written in Python: that in C takes memory for as many
    objects as a damaged number says.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self.storages: dict[str, Storage] = {}

    def pop_mark(self) -> Any:
        """Refuse what takes hashing for ever, before it becomes a key or a member of a set."""
        items = super().pop_mark()  # type: ignore[misc]
        _refuse_nested(items)
        return items

    def load_setitem(self) -> None:
        """Do the same for a single key."""
        _refuse_nested(self.stack[-2:-1])  # type: ignore[attr-defined]
        super().load_setitem()  # type: ignore[misc]

    dispatch: ClassVar[Any] = {**pickle._Unpickler.dispatch, pickle.SETITEM[0]: load_setitem}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch.cuda" and name in _TYPES:  # old files of tensors on a GPU
            module = "torch"
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module.partition(".")[0] in _HOSTILE or (
            module in ("builtins", "__builtin__") and name in _RUNNING
        ):
            raise pickle.UnpicklingError(f"it is made to run {module}.{name}. Do not trust it")
        return type("Stand", (Stand,), {"what": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        if pid[0] == "module":  # the class of a pickled module, with its source
            return pid[1]
        kind, dtype, key, _location, count, *view = pid
        if not isinstance(key, str | int):
            raise pickle.UnpicklingError("it calls a storage by no name.")
        if kind != "storage" or any(one is not None for one in view):
            raise pickle.UnpicklingError("it holds views of storages, which are not supported.")
        if not isinstance(dtype, torch.dtype):
            return Stand()
        return self.storages.setdefault(str(key), Storage(str(key), dtype, int(count)))
