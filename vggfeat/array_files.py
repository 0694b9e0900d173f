"""Arrays in files of NumPy, HDF5 and MATLAB, read piece by piece, as strangers may have made them.

A file is named as ``FILE``, or as ``FILE#NAME`` where it holds several arrays: a dataset of HDF5
(``nsd_stimuli.hdf5#imgBrick``), a variable of MATLAB's. Both of MATLAB's formats are read, version
5 (:mod:`vggfeat.mat_file`) and 7.3, which is HDF5 with the axes of each array in reverse order; an
array has the axes that MATLAB shows.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from vggfeat import hdf5, mat_file
from vggfeat.errors import ImageError, VggfeatError
from vggfeat.files import open_regular

HDF5 = (".h5", ".hdf5", ".hdf")
SUFFIXES = (".npy", *HDF5, ".mat")
"""Endings of files that hold arrays, in lower case."""

Fits = Callable[[tuple[int, ...], np.dtype[Any]], bool]
_SHOWN = 8
_BROKEN = (*hdf5.DAMAGED, EOFError, MemoryError, zlib.error)
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_USER_BLOCK = 512  # bytes before HDF5's own in files of MATLAB 7.3


class StoredArray:
    """An array in a file, of which a piece is read at a time.

    It is a context manager, and a :class:`~vggfeat.solver.rows.Reader` where it has two axes.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        Of the array in it; empty where a file is one array.
    held : ndarray, h5py.Dataset
        The values.
    backwards : bool
        Whether `held` has the axes in reverse order.
    file : h5py.File, optional
        Closed with this.

    Attributes
    ----------
    path, name
        As above.
    shape : tuple of int
    dtype : dtype
    """

    def __init__(
        self, path: Path, name: str, held: Any, *, backwards: bool = False, file: Any = None
    ) -> None:
        self.path, self.name = path, name
        self._held, self._backwards, self._file = held, backwards, file
        self.shape: tuple[int, ...] = tuple(held.shape)[:: -1 if backwards else 1]
        self.dtype = np.dtype(held.dtype)

    @property
    def spec(self) -> str:
        """What names it: ``FILE`` or ``FILE#NAME``."""
        return f"{self.path}#{self.name}" if self.name else str(self.path)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, where: slice) -> npt.NDArray[Any]:
        """Return a piece along the first axis, in memory."""
        if self._backwards:
            return np.asarray(self._held[..., where]).T
        return np.array(self._held[where])

    def columns(self, where: slice) -> npt.NDArray[Any]:
        """Return a piece along the second axis of two, in memory."""
        if self._backwards:
            return np.asarray(self._held[where]).T
        return np.array(self._held[:, where])

    def along_last(self, where: int) -> npt.NDArray[Any]:
        """Return what is at one place of the last axis, which it lacks then."""
        if self._backwards:
            return np.asarray(self._held[where]).T
        return np.array(self._held[..., where])

    def close(self) -> None:
        """Let go of the file."""
        self._held = None
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


def is_array_file(spec: str | os.PathLike[str]) -> bool:
    """Tell by its name whether something is a file of arrays, or an array in one."""
    return parts_of(spec)[0].suffix.lower() in SUFFIXES


def parts_of(spec: str | os.PathLike[str]) -> tuple[Path, str]:
    """Split ``FILE#NAME``; the name is empty where there is none, or a file is called just so."""
    text = os.fspath(spec)
    file, mark, name = text.rpartition("#")
    if mark and Path(file).suffix.lower() in SUFFIXES and not Path(text).exists():
        return Path(file), name
    return Path(text), ""


def open_array(
    spec: str | os.PathLike[str],
    fits: Fits,
    what: str,
    error: type[VggfeatError],
) -> StoredArray:
    """Open an array, which need not be named where a file holds one alone that fits.

    Parameters
    ----------
    spec : path
        ``FILE`` or ``FILE#NAME``.
    fits : callable
        Whether an array of such a shape and type is what is looked for.
    what : str
        That in words, for messages: "numbers of shape (n,) or (n, t)".
    error : type of VggfeatError
        What is raised.

    Raises
    ------
    VggfeatError
        Of type `error`: the file cannot be read, is damaged or names other files (see
        :func:`vggfeat.hdf5.check`); no array in it fits, or several do and none is named.
    """
    path, name = parts_of(spec)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise error(
            f"{path} is no file of arrays by its name; give one that ends in "
            f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}."
        )
    try:
        open_regular(path).close()  # a FIFO or device would be waited for
        if suffix == ".npy":
            return _one(path, name, fits, what, error)
        if suffix in HDF5 or _is_hdf5(path):
            return _of_hdf5(path, name, fits, what, error, backwards=suffix == ".mat")
        return _of_matlab(path, name, fits, what, error)
    except ImageError as reason:
        raise error(f"{path} cannot be read: {reason}.") from reason
    except VggfeatError:
        raise
    except _BROKEN as reason:
        said = " ".join(str(reason).split()) or type(reason).__name__
        raise error(f"{path} cannot be read: {said.rstrip('.')}.") from reason


def _one(path: Path, name: str, fits: Fits, what: str, error: type[VggfeatError]) -> StoredArray:
    if name:
        raise error(f"{path} is one array and has none called {name!r}; leave out #{name}.")
    held = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(held, np.ndarray):
        held.close()
        raise error(f"{path} holds several arrays. Save one with numpy.save.")
    return _checked(StoredArray(path, "", held), fits, what, error)


def _of_hdf5(
    path: Path, name: str, fits: Fits, what: str, error: type[VggfeatError], *, backwards: bool
) -> StoredArray:
    file = hdf5.opened(path, error, [name] if name else [])
    try:
        if not name:
            name = _only(path, _datasets(file, path, error, backwards), fits, what, error)
            hdf5.check(file, path, error, [name])
        held = file.get(name)
        if not isinstance(held, h5py.Dataset):
            there = sorted(_datasets(file, path, error, backwards))
            raise error(f"{path} has no array {name!r}; it has {_some(there)}.")
        found = StoredArray(path, name, held, backwards=backwards, file=file)
        return _checked(found, fits, what, error)
    except BaseException:
        file.close()
        raise


def _datasets(
    file: h5py.File, path: Path, error: type[VggfeatError], backwards: bool
) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shape and type of all arrays of numbers, by their names."""
    found = {}
    for name in hdf5.dataset_names(file, path, error):
        kind = h5py.h5d.open(file.id, name.encode(errors="surrogateescape"))
        numeric = kind.get_type().get_class() in (h5py.h5t.INTEGER, h5py.h5t.FLOAT)
        if numeric and not name.startswith("#"):
            found[name] = kind.shape[:: -1 if backwards else 1], kind.dtype
    return found


def _of_matlab(
    path: Path, name: str, fits: Fits, what: str, error: type[VggfeatError]
) -> StoredArray:
    found = mat_file.read(path, [name] if name else None)
    arrays = {key: value for key, value in found.items() if isinstance(value, np.ndarray)}
    if not name:
        shapes = {key: (value.shape, value.dtype) for key, value in arrays.items()}
        name = _only(path, shapes, fits, what, error)
    if name not in arrays:
        there = sorted(found or mat_file.read(path, None))
        raise error(f"{path} has no array of numbers {name!r}; its variables: {_some(there)}.")
    return _checked(StoredArray(path, name, arrays[name]), fits, what, error)


def _only(
    path: Path,
    arrays: dict[str, tuple[tuple[int, ...], np.dtype[Any]]],
    fits: Fits,
    what: str,
    error: type[VggfeatError],
) -> str:
    fitting = sorted(name for name, (shape, dtype) in arrays.items() if fits(shape, dtype))
    if len(fitting) == 1:
        return fitting[0]
    shown = [f"{name} {arrays[name][0]}" for name in sorted(arrays)]
    if not fitting:
        raise error(f"{path} holds no {what}; its arrays of numbers: {_some(shown) or 'none'}.")
    raise error(
        f"{path} holds several arrays that could be {what}: {_some(fitting)}. Name one: "
        f"{path}#{fitting[0]}."
    )


def _checked(found: StoredArray, fits: Fits, what: str, error: type[VggfeatError]) -> StoredArray:
    if not fits(found.shape, found.dtype):
        raise error(
            f"{found.spec} holds {found.dtype} of shape {found.shape}; {what} are expected."
        )
    return found


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_USER_BLOCK + len(_HDF5_MAGIC))
    return head.startswith(_HDF5_MAGIC) or head[_USER_BLOCK:] == _HDF5_MAGIC


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
