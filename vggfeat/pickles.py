"""Pickles of strangers, read by an unpickler that imports nothing and runs nothing.

A pickle is a program. This reader knows lists, tuples, dictionaries, numbers and texts; what else a
pickle may name is for a subclass to say. Nothing in it sizes what is taken: each length is compared
with the bytes that are left; operations are counted, and so is what functions are given; no key is
hashed but texts and small numbers, since tuples within tuples can take for ever to hash, and large
numbers can be made to collide.
"""

from __future__ import annotations

import pickle
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, ClassVar

MOST_BYTES = 1 << 24
"""Longer pickles are refused where they are read into memory; no data that vggfeat knows has a
megabyte. Of such a pickle's making there is memory of 256 MiB at the most."""

LONGEST_NAME = 1024
"""Characters in a name."""

_MOST_READS = 1 << 20  # an operation takes one or two; a VGG's checkpoint has some 10,000
_LONGEST_NUMBER = 2048  # bits
_LARGEST_KEY = 1 << 60  # numbers below are their own hashes
_LONGEST_PLACE = 12  # digits of a number in the memo
_TEXT = 6  # texts cost a read for so many bits of their length


class _Bytes:
    """The file of a pickle, of which no more is read than there is."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, at = file, file.tell()
        self._left = file.seek(0, 2) - at
        self._reads = 0
        file.seek(at)

    def spend(self, reads: int) -> None:
        """Count what is done."""
        self._reads += reads
        if self._reads > _MOST_READS:
            raise pickle.UnpicklingError(f"it has more than {_MOST_READS:,} operations.")

    def read(self, count: int) -> bytes:
        """Read so many bytes."""
        self.spend(1)
        if count > self._left:
            raise EOFError("it is truncated.")
        self._left -= count
        return self._file.read(count)

    def readline(self) -> bytes:
        """Read to the end of a line."""
        self.spend(1)
        line = self._file.readline()
        self._left -= len(line)
        return line


def _bounded(load: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a step of the unpickler that puts a number on the stack, refusing a long one."""

    def step(unpickler: Any) -> None:
        load(unpickler)
        if unpickler.stack[-1].bit_length() > _LONGEST_NUMBER:
            raise pickle.UnpicklingError("it holds a number of too many digits.")

    return step


class Unpickler(pickle._Unpickler, ABC):
    """Reads plain values; a subclass says what stands for the classes and functions of a pickle.

    It is the unpickler written in Python, whose steps can be replaced: that in C takes memory for
    as many objects as a damaged number says.

    Parameters
    ----------
    file : binary file
        At the start of the pickle; it is left behind it.
    encoding, errors : str
        How texts of Python 2 are decoded.
    """

    stack: list[Any]
    append: Any

    def __init__(self, file: BinaryIO, encoding: str, errors: str = "strict") -> None:
        self._bytes = _Bytes(file)
        super().__init__(self._bytes, encoding=encoding, errors=errors)

    @abstractmethod
    def named(self, module: str, name: str) -> Any:
        """Return what stands for a class or a function; nothing is to be imported."""

    def called(self, what: Any, arguments: tuple[Any, ...]) -> Any:
        """Return what a call gives, or an object of a class.

        Raises
        ------
        pickle.UnpicklingError
            Nothing is called or made so.
        """
        if not callable(what):
            raise pickle.UnpicklingError("it makes an object of what is no class.")
        return what(*arguments)

    @abstractmethod
    def filled(self, target: Any, state: Any) -> None:
        """Give an object its state, never any attributes that the pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for what a pickle names."""
        if len(module) + len(name) > LONGEST_NAME:
            raise pickle.UnpicklingError("it calls a class by a name that is too long.")
        return self.named(module, name)

    # What makes objects

    def _make(self, what: Any, arguments: Any) -> None:
        if not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("it calls something with no arguments.")
        self._bytes.spend(_cost(arguments))
        self.append(self.called(what, arguments))

    def _reduce(self) -> None:
        arguments, what = self.stack.pop(), self.stack.pop()
        self._make(what, arguments)

    def _new_of_named(self) -> None:
        del self.stack[-1]  # arguments by name
        self._reduce()

    def _inst(self) -> None:
        module, name = (self.readline()[:-1].decode("ascii") for _ in range(2))  # type: ignore[attr-defined]
        self._make(self.find_class(module, name), tuple(self.pop_mark()))  # type: ignore[attr-defined]

    def _obj(self) -> None:
        what, *arguments = self.pop_mark()  # type: ignore[attr-defined]
        self._make(what, tuple(arguments))

    def _build(self) -> None:
        state = self.stack.pop()
        if isinstance(state, tuple):
            self._bytes.spend(_cost(state))
        self.filled(self.stack[-1], state)

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("it names what was registered where it was written.")

    # What hashes

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        put(self.stack[-1], [(key, value)])

    def _set_items(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        put(self.stack[-1], zip(items[::2], items[1::2], strict=True))

    def _dict(self) -> None:
        made: dict[Any, Any] = {}
        items = self.pop_mark()  # type: ignore[attr-defined]
        put(made, zip(items[::2], items[1::2], strict=True))
        self.append(made)

    def _empty_set(self) -> None:
        self.append(self.named("builtins", "set"))

    def _add_items(self) -> None:
        self.pop_mark()  # type: ignore[attr-defined]

    def _frozen_set(self) -> None:
        self.pop_mark()  # type: ignore[attr-defined]
        self.append(self.named("builtins", "frozenset"))

    def _put_at(self) -> None:
        place = self.readline()[:-1]  # type: ignore[attr-defined]
        if len(place) > _LONGEST_PLACE:
            raise pickle.UnpicklingError("it keeps an object at too large a number.")
        self.memo[int(place)] = self.stack[-1]  # type: ignore[attr-defined]

    # What is as long as a number says

    def _frame(self) -> None:
        self.read(8)  # type: ignore[attr-defined]  # it helps who reads ahead

    def _byte_array(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        self.append(bytearray(self.read(size)))  # type: ignore[attr-defined]

    dispatch: ClassVar[Any] = {
        **pickle._Unpickler.dispatch,
        **{
            code[0]: load
            for code, load in {
                pickle.REDUCE: _reduce, pickle.NEWOBJ: _reduce, pickle.NEWOBJ_EX: _new_of_named,
                pickle.INST: _inst, pickle.OBJ: _obj, pickle.BUILD: _build,
                pickle.EXT1: _refuse, pickle.EXT2: _refuse, pickle.EXT4: _refuse,
                pickle.SETITEM: _set_item, pickle.SETITEMS: _set_items, pickle.DICT: _dict,
                pickle.EMPTY_SET: _empty_set, pickle.ADDITEMS: _add_items,
                pickle.FROZENSET: _frozen_set, pickle.PUT: _put_at, pickle.FRAME: _frame,
                pickle.BYTEARRAY8: _byte_array,
            }.items()
        },
        **{
            code[0]: _bounded(pickle._Unpickler.dispatch[code[0]])
            for code in (pickle.INT, pickle.LONG, pickle.LONG4)
        },
    }  # fmt: skip


def put(target: Any, pairs: Iterable[Sequence[Any]]) -> None:
    """Put items into a dictionary, of which those whose keys are no names are left out."""
    if isinstance(target, dict):
        for key, value in pairs:
            if isinstance(key, str | bytes) or (isinstance(key, int) and abs(key) < _LARGEST_KEY):
                target[key] = value


def _cost(values: Sequence[Any]) -> int:
    """Return what it costs to look at all of some values, as a number of operations."""
    inner = (
        len(one) >> (0 if isinstance(one, list | tuple | dict) else _TEXT)
        for one in values
        if isinstance(one, list | tuple | dict | str | bytes | bytearray)
    )
    return len(values) + sum(inner)
