"""Pickles of plain values and NumPy arrays, read without running anything that they hold.

Some ground truth is published as a pickle, and a pickle is a program. The reader here knows lists,
tuples, dictionaries, numbers, texts and arrays of numbers. The few names that arrays need stand for
functions of this file, and all others are refused.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SourceError
from vggfeat.pickles import MOST_BYTES, Unpickler

_BROKEN = (
    *(pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError, AttributeError),
    *(IndexError, MemoryError, OverflowError, RecursionError, struct.error),
)
_DTYPE = re.compile(r"[|<>=]?([biufUS])(\d{1,6})")


def load_plain(path: str | os.PathLike[str]) -> Any:
    """Read a pickle of plain values.

    Parameters
    ----------
    path : path
        Written by Python 2 or 3, with protocol 0 to 4.

    Returns
    -------
    object
        Lists, tuples, dictionaries, numbers and texts; arrays are :class:`PickledArray`.

    Raises
    ------
    SourceError
        The file cannot be read, is damaged or too large, or holds anything else.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error}.") from error
    if len(data) > MOST_BYTES:
        raise SourceError(f"{path} has more than {MOST_BYTES:,} bytes; no ground truth has.")
    try:
        return _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    except _BROKEN as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise SourceError(
            f"{path} is no pickle of plain values and arrays, or damaged: {reason.rstrip('.')}. "
            "Nothing in it was run. Fetch the official file anew."
        ) from error


def values(given: Any) -> list[Any]:
    """Return the entries of a list, tuple or array of one dimension.

    Raises
    ------
    TypeError
        It is something else.
    """
    array = given.array if isinstance(given, PickledArray) else given
    if isinstance(array, np.ndarray) and array.ndim == 1:
        return list(array.tolist())
    if isinstance(array, list | tuple):
        return list(array)
    raise TypeError(f"{type(given).__name__} in place of a list")


class PickledArray:
    """An array of a pickle.

    Attributes
    ----------
    array : ndarray or None
        None until the pickle has said what is in it.
    """

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: npt.NDArray[Any] | None = None


@dataclass(slots=True)
class _Type:
    """Of an array's entries."""

    text: str
    order: str = "="

    @property
    def dtype(self) -> np.dtype[Any]:
        """What it is to NumPy."""
        if not _DTYPE.fullmatch(self.text) or self.order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"it holds an array of {self.text!r}, not of numbers.")
        dtype_ = np.dtype(self.text)
        return dtype_ if self.order == "|" else dtype_.newbyteorder(self.order)  # type: ignore[arg-type]


def _reconstruct(*_: Any) -> PickledArray:
    return PickledArray()


def _dtype(text: Any, *_: Any) -> _Type:
    return _Type(str(text))


def _scalar(kind: Any, data: Any) -> Any:
    if not isinstance(kind, _Type):
        raise pickle.UnpicklingError("it holds a number of no type.")
    (number,) = np.frombuffer(_raw(data), kind.dtype).tolist()
    return number


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("it holds bytes in an unknown form.")
    return text.encode("latin1")  # how old protocols write bytes


def _no_bytes() -> bytes:
    return b""  # how Python 3 writes those of an empty array in old protocols


_NDARRAY = "ndarray"  # stands for the class, which nothing is made of
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}


class _PlainUnpickler(Unpickler):
    """Knows plain values and arrays."""

    def named(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it holds {module}.{name}, which is neither a plain value nor an array."
            ) from None

    def filled(self, target: Any, state: Any) -> None:
        if isinstance(target, PickledArray):
            _version, shape, kind, columns_first, data = state
            if not isinstance(kind, _Type):
                raise pickle.UnpicklingError("it holds an array of no type.")
            raw, dtype = _raw(data), kind.dtype
            flat = np.frombuffer(raw, dtype) if raw else np.empty(0, dtype)
            target.array = flat.reshape(tuple(shape), order="F" if columns_first else "C")
        elif isinstance(target, _Type):
            _version, order, subtype, names, fields, *_ = state
            if (subtype, names, fields) != (None, None, None):
                raise pickle.UnpicklingError("it holds an array of records, not of numbers.")
            target.order = order
        else:
            raise pickle.UnpicklingError(f"it sets attributes of a {type(target).__name__}.")


def _raw(data: Any) -> bytes:
    if isinstance(data, str):  # bytes of Python 2
        return data.encode("latin1")
    if isinstance(data, bytes):
        return data
    raise pickle.UnpicklingError("it holds an array of objects, not of numbers.")
