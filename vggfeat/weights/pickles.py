"""The pickles that ``torch.save`` wrote, read by an unpickler that runs nothing.

It knows tensors and plain containers. Whatever else a checkpoint holds beside them becomes an empty
stand-in. A stranger may have made the pickle, so nothing in it sizes what is taken: each length is
compared with the bytes that are left, operations are counted, and no key is hashed but text and
small numbers, since tuples within tuples can take for ever to hash or to compare.
"""

from __future__ import annotations

import math
import pickle
import struct
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar

import torch
from torch import Tensor

_DEEPEST = 8  # dictionaries within dictionaries
_MOST_READS = 1 << 20  # an operation takes one or two; a VGG's checkpoint has some 10,000
_MOST_DIMENSIONS = 16
_LONGEST_NAME = 1024  # characters
_LONGEST_NUMBER = 2048  # bits
_REPEATED = 1 << 16  # values of a view that says those of its storage several times


class RemediedError(ValueError):
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
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=dtype)
        extent = 1 + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        if self.offset < 0 or min(self.stride, default=0) < 0:
            raise ValueError("it has a tensor that begins before its storage.")
        if self.offset + extent > self.storage.count:
            raise ValueError("it has a tensor that is larger than its storage.")
        if math.prod(self.shape) > max(self.storage.count, _REPEATED):
            raise ValueError("it has a tensor of more values than its storage.")
        file.seek(0, 2)
        if start + (self.offset + extent) * dtype.itemsize > file.tell():
            raise ValueError("it is truncated.")
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
            name = ".".join(path)
            if len(name) > _LONGEST_NAME:
                raise ValueError(f"it has a name of {len(name):,} characters.")
            found.setdefault(name, value)
        elif isinstance(value, Mapping) and id(value) not in seen and len(path) < _DEEPEST:
            seen.add(id(value))
            for key, inner in value.items():
                visit(inner, (*path, str(key)))

    visit(held, ())
    models = [held, *(held.values() if isinstance(held, Mapping) else ())]
    pickled = next((one for one in models if isinstance(one, Stand) and one.model), None)
    if pickled is not None and not any(len(one.shape) == 4 for one in found.values()):
        raise RemediedError(
            f"it is a whole pickled model ({pickled.what}), which only the program that made it "
            "can load. There, save its tensors: torch.save(model.state_dict(), PATH)"
        )
    if not found:
        raise ValueError("it holds no dictionary of tensors by name.")
    return found


class Stand:
    """Stands for an object, a class or a function that a pickle names: it does nothing.

    Attributes
    ----------
    what : str
        Its name.
    model : bool
        Whether its state was that of a torch module.
    """

    __slots__ = ("model", "what")

    def __init__(self, what: str = "?") -> None:
        self.what, self.model = what, False

    def take(self, state: Any) -> None:
        """Look at a state, and keep nothing of it."""
        inner = state[0] if isinstance(state, tuple) and state else state
        self.model = isinstance(inner, Mapping) and "_modules" in inner

    def append(self, _value: Any) -> None:
        """Do nothing, as for what is no list."""

    extend = add = append


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Any:
    if not isinstance(storage, Storage):
        return Stand()
    if len(shape) > _MOST_DIMENSIONS or len(shape) != len(stride):
        raise ValueError("it has a tensor whose shape is none.")
    held = Held(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))
    if min(held.shape, default=0) < 0:
        raise ValueError(f"it has a tensor of shape {held.shape}.")
    return held


def _first(value: Any = None, *_: Any) -> Any:
    return value


def _typed(function: Any, _kind: Any, arguments: Any, _state: Any = None) -> Any:
    return function(*arguments) if function in (_tensor, _first) else Stand()


def _dictionary(items: Any = (), *_: Any) -> dict[Any, Any]:
    """Make a dictionary, as Python 2 pickled them: of a list of pairs."""
    made: dict[Any, Any] = OrderedDict()
    if isinstance(items, list | tuple):
        pairs = [one for one in items if isinstance(one, list | tuple) and len(one) == 2]
        _put(made, pairs)
    return made


def _put(held: Any, pairs: Iterable[Sequence[Any]]) -> None:
    """Put items into a dictionary, of which those whose keys are no names are left out."""
    if isinstance(held, dict):
        for key, value in pairs:
            if key is None or isinstance(key, str | bytes | int | float):
                held[key] = value


_TYPES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
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


class _Bytes:
    """The file of a pickle, of which no more is read than there is."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, at = file, file.tell()
        self._left = file.seek(0, 2) - at
        self._reads = 0
        file.seek(at)

    def read(self, count: int) -> bytes:
        """Read so many bytes."""
        self._reads += 1
        if self._reads > _MOST_READS:
            raise pickle.UnpicklingError(f"it has more than {_MOST_READS:,} operations.")
        if count > self._left:
            raise EOFError("it is truncated.")
        self._left -= count
        return self._file.read(count)

    def readline(self) -> bytes:
        """Read to the end of a line."""
        line = self._file.readline()
        self._left -= len(line)
        self._reads += 1
        return line


class Unpickler(pickle._Unpickler):
    """Knows tensors and plain containers; all else becomes a :class:`Stand`, so no code runs.

    A file that names what no checkpoint needs and code is run by is refused all the same: nothing
    in it deserves trust. It is the unpickler written in Python: that in C takes memory for as many
    objects as a damaged number says.

    Parameters
    ----------
    file : binary file
        At the start of the pickle; it is left behind it.

    Attributes
    ----------
    storages : dict of str to Storage
        Those that tensors are views of, by their keys.
    """

    stack: list[Any]
    append: Any

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(_Bytes(file), encoding="utf-8", errors="replace")
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle names: something known, or a stand-in; nothing is imported."""
        if len(module) + len(name) > _LONGEST_NAME:
            raise pickle.UnpicklingError("it calls a class by a name that is too long.")
        if module == "torch.cuda" and name in _TYPES:  # old files of tensors on a GPU
            module = "torch"
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module.partition(".")[0] in _HOSTILE or (
            module in ("builtins", "__builtin__") and name in _RUNNING
        ):
            raise pickle.UnpicklingError(f"it is made to run {module}.{name}. Do not trust it")
        return Stand(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """Return a storage."""
        if pid[0] == "module":  # the class of a pickled module, with its source
            return pid[1]
        kind, dtype, key, _location, count, *view = pid
        if not isinstance(key, str | int) or len(str(key)) > _LONGEST_NAME:
            raise pickle.UnpicklingError("it calls a storage by no name.")
        if kind != "storage" or any(one is not None for one in view):
            raise pickle.UnpicklingError("it holds views of storages, which are not supported.")
        if not isinstance(dtype, torch.dtype):
            return Stand()
        if int(count) < 0:
            raise pickle.UnpicklingError("it has a storage of fewer values than none.")
        return self.storages.setdefault(str(key), Storage(str(key), dtype, int(count)))

    # What makes objects

    def _make(self, what: Any, arguments: Any) -> None:
        if isinstance(what, Stand):
            self.append(Stand(what.what))
        elif callable(what) and isinstance(arguments, tuple):
            self.append(what(*arguments))
        else:
            raise pickle.UnpicklingError("it makes an object of what is no class.")

    def _reduce(self) -> None:
        arguments, what = self.stack.pop(), self.stack.pop()
        self._make(what, arguments)

    def _new_of_named(self) -> None:
        del self.stack[-1]  # arguments by name
        self._reduce()

    def _inst(self) -> None:
        module, name = (self.readline()[:-1].decode("ascii") for _ in range(2))  # type: ignore[attr-defined]
        arguments = tuple(self.pop_mark())  # type: ignore[attr-defined]
        self._make(self.find_class(module, name), arguments)

    def _obj(self) -> None:
        what, *arguments = self.pop_mark()  # type: ignore[attr-defined]
        self._make(what, tuple(arguments))

    def _build(self) -> None:
        """Let a stand-in look at its state; what else has one does without."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], Stand):
            self.stack[-1].take(state)

    # What hashes

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _put(self.stack[-1], [(key, value)])

    def _set_items(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        _put(self.stack[-1], zip(items[::2], items[1::2], strict=True))

    def _dict(self) -> None:
        made: dict[Any, Any] = {}
        items = self.pop_mark()  # type: ignore[attr-defined]
        _put(made, zip(items[::2], items[1::2], strict=True))
        self.append(made)

    def _empty_set(self) -> None:
        self.append(Stand("set"))

    def _add_items(self) -> None:
        self.pop_mark()  # type: ignore[attr-defined]

    def _frozen_set(self) -> None:
        self.pop_mark()  # type: ignore[attr-defined]
        self._empty_set()

    # What is as long as a number says

    def _frame(self) -> None:
        self.read(8)  # type: ignore[attr-defined]  # it helps who reads ahead

    def _byte_array(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        self.append(bytearray(self.read(size)))  # type: ignore[attr-defined]

    def _number(self, load: Any) -> None:
        load(self)
        if self.stack[-1].bit_length() > _LONGEST_NUMBER:
            raise pickle.UnpicklingError("it holds a number of too many digits.")

    def _int(self) -> None:
        self._number(pickle._Unpickler.load_int)  # type: ignore[attr-defined]

    def _long(self) -> None:
        self._number(pickle._Unpickler.load_long)  # type: ignore[attr-defined]

    def _long4(self) -> None:
        self._number(pickle._Unpickler.load_long4)  # type: ignore[attr-defined]

    dispatch: ClassVar[Any] = {
        **pickle._Unpickler.dispatch,
        **{
            code[0]: load
            for code, load in {
                pickle.REDUCE: _reduce, pickle.NEWOBJ: _reduce, pickle.NEWOBJ_EX: _new_of_named,
                pickle.INST: _inst, pickle.OBJ: _obj, pickle.BUILD: _build,
                pickle.SETITEM: _set_item, pickle.SETITEMS: _set_items, pickle.DICT: _dict,
                pickle.EMPTY_SET: _empty_set, pickle.ADDITEMS: _add_items,
                pickle.FROZENSET: _frozen_set, pickle.FRAME: _frame,
                pickle.BYTEARRAY8: _byte_array, pickle.INT: _int, pickle.LONG: _long,
                pickle.LONG4: _long4,
            }.items()
        },
    }  # fmt: skip
