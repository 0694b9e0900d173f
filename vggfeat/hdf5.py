"""Opening HDF5 files that a stranger may have made, for reading.

HDF5 lets a file name others: external raw data, external links, virtual datasets. Whoever reads one
then reads whatever its author has named. All files of this package hold what they say themselves,
so here a file that names another is refused before anything is read through it, and so is one that
says it holds more than can be in it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from vggfeat.errors import ImageError, VggfeatError
from vggfeat.files import LARGEST_RATIO, open_regular
from vggfeat.hdf5_texts import check_attribute, check_dataset, register_member

if TYPE_CHECKING:
    import io
    from collections.abc import Iterable, Iterator

DAMAGED = (
    *(OSError, RuntimeError, LookupError, ArithmeticError),
    *(ValueError, TypeError, AttributeError),
)
"""What h5py, and whoever believes what it reads, raises over files that are damaged."""

_ALLOWANCE = 1 << 20  # bytes that a dataset may take whatever is stored of it
_DEEPEST = 64  # groups within groups
_BLOCK = 1024  # strings of any length that are read at a time
_FILTERS = frozenset({1, 2, 3, 4, 5, 6, h5py.h5z.FILTER_LZF})
_TYPES = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING, h5py.h5t.ENUM)
_LINKS = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "a link to another file"}
_COPY = "Ask for a copy that holds its own data (`h5repack`, or h5py's `dataset[...]`)."


def opened(
    path: Path | str,
    error: type[VggfeatError],
    names: Iterable[str] | None = None,
    *,
    member: io.IOBase | None = None,
) -> h5py.File:
    """Open a file for reading, and check all that will be read of it.

    Parameters
    ----------
    path : Path
        A plain file: no FIFO, no device.
    error : type of VggfeatError
        What is raised over a file that is refused.
    names : iterable of str, optional
        Datasets that will be read, as :func:`check` takes them; by default all there are.
    member : binary file, optional
        The HDF5 file where it is a part of the one at `path`, or lies far away.

    Raises
    ------
    VggfeatError
        Of type `error`: see :func:`check`.
    OSError
        It is no HDF5 file, or damaged.
    """
    if member is None:
        try:
            open_regular(path).close()
        except ImageError as reason:
            raise error(f"{path} cannot be read: {reason}. Give a plain HDF5 file.") from reason
        file = h5py.File(path, "r", locking=False)
    else:
        file = h5py.File(member, "r")
        register_member(file, member)
    try:
        check(file, path, error, dataset_names(file, path, error) if names is None else names)
    except BaseException:
        file.close()
        raise
    return file


def check(
    file: h5py.File, path: Path | str, error: type[VggfeatError], names: Iterable[str]
) -> None:
    """Refuse datasets that lie in other files, or say that they hold more than they can.

    Parameters
    ----------
    file : h5py.File
        The open file.
    path : Path
        Where it lies, for messages.
    error : type of VggfeatError
        What is raised over what is refused.
    names : iterable of str
        Datasets that will be read; those that are not there are left to the caller.

    Raises
    ------
    VggfeatError
        Of type `error`: on the way to a dataset is a soft or an external link; its values lie in
        another file, or are another dataset's; it has a filter that is not HDF5's own or LZF; it
        takes more memory than :data:`~vggfeat.files.LARGEST_RATIO` times what is stored of it, or
        than the bytes of the file where it is not compressed.
    """
    size = file.id.get_filesize()
    for name in names:
        at, parts = file.id, [part.encode() for part in name.split("/") if part not in ("", ".")]
        for depth, part in enumerate(parts):
            if not at.links.exists(part):
                break
            where = b"/".join(parts[: depth + 1]).decode()
            if reason := _link(at, part):
                raise _refused(path, where, f"is {reason}", error)
            at = h5py.h5o.open(at, part)
            if not isinstance(at, h5py.h5g.GroupID):
                if isinstance(at, h5py.h5d.DatasetID) and (reason := _hostile(at, size)):
                    raise _refused(path, where, reason, error)
                break


def dataset_names(file: h5py.File, path: Path | str, error: type[VggfeatError]) -> Iterator[str]:
    """Yield the names of all datasets, which :func:`check` then has to see.

    Raises
    ------
    VggfeatError
        Of type `error`: there is a soft or external link, a group has two ways to it, or lies too
        deep.
    """
    waiting: list[tuple[str, Any, int]] = [("", file.id, 0)]
    seen = {h5py.h5o.get_info(file.id).addr}
    while waiting:
        above, group, depth = waiting.pop()
        for part in list(group):
            name = f"{above}/{part.decode(errors='surrogateescape')}".lstrip("/")
            if reason := _link(group, part):
                raise _refused(path, name, f"is {reason}", error)
            info = h5py.h5o.get_info(group, part)
            if info.type == h5py.h5o.TYPE_DATASET:
                yield name
            elif info.type == h5py.h5o.TYPE_GROUP:
                if info.addr in seen:
                    raise _refused(path, name, "is a group of another name as well", error)
                if depth == _DEEPEST:
                    raise _refused(path, name, f"lies below {_DEEPEST} groups", error)
                seen.add(info.addr)
                waiting.append((name, h5py.h5g.open(group, part), depth + 1))


def texts(dataset: h5py.Dataset) -> list[str]:
    """Read a dataset of UTF-8 strings, which together are no longer than the file.

    Raises
    ------
    ValueError
        It holds no UTF-8; or its strings are longer than the file, which says one many times.
    """
    return [value.decode() for value in raw_texts(dataset)]


def one_text(dataset: h5py.Dataset) -> str:
    """Read a dataset that is one UTF-8 string; ValueError where it is anything else."""
    if h5py.check_string_dtype(dataset.dtype) is None or dataset.shape != ():
        raise ValueError(f"{dataset.name} is no text")
    if h5py.check_string_dtype(dataset.dtype).length is None:
        check_dataset(dataset.id)
    value: bytes = dataset[()]
    return value.decode()


def raw_texts(dataset: h5py.Dataset) -> list[bytes]:
    """Read a dataset of strings as bytes; ValueError where they are longer than the file."""
    if h5py.check_string_dtype(dataset.dtype) is None or dataset.ndim != 1:
        raise ValueError(f"{dataset.name} does not hold strings in a row")
    if h5py.check_string_dtype(dataset.dtype).length is not None:
        return [bytes(value) for value in dataset[:]]
    check_dataset(dataset.id)
    values: list[bytes] = []
    left = dataset.file.id.get_filesize()
    for start in range(0, len(dataset), _BLOCK):
        block = dataset[start : start + _BLOCK]
        left -= sum(map(len, block))
        if left < 0:
            raise ValueError(f"the strings of {dataset.name} are longer than the whole file")
        values.extend(block)
    return values


def attribute(holder: h5py.File | h5py.Group | h5py.Dataset, name: str, default: Any = None) -> Any:
    """Read an attribute: numbers, a text, or texts, no more than the file can hold.

    Parameters
    ----------
    holder : h5py.File, Group or Dataset
    name : str
    default : optional
        What is returned where there is none of that name.

    Raises
    ------
    KeyError
        There is none, and no default.
    ValueError
        It is of another type, or larger.
    """
    key = name.encode()
    if not h5py.h5a.exists(holder.id, key):
        if default is None:
            raise KeyError(f"there is no attribute {name!r}")
        return default
    stored = h5py.h5a.open(holder.id, key)
    kind, count = stored.get_type(), math.prod(stored.shape)
    if (
        kind.get_class() not in _TYPES
        or stored.get_space().get_simple_extent_type() == h5py.h5s.NULL
    ):
        raise ValueError(f"its attribute {name!r} is neither numbers nor text")
    # Texts of any length may all be the same one, which is no longer than the file.
    any_length = kind.get_class() == h5py.h5t.STRING and kind.is_variable_str()
    size = holder.file.id.get_filesize()
    most = LARGEST_RATIO if any_length else size // kind.get_size()
    if count > most:
        raise ValueError(f"its attribute {name!r} has {count:,} values, and may have {most:,}")
    if any_length:
        check_attribute(holder, name)
    return holder.attrs[name]


def integer(holder: h5py.File | h5py.Group, name: str) -> int:
    """Read an attribute that is a whole number; ValueError where it is anything else."""
    value = attribute(holder, name)
    if not isinstance(value, np.integer):
        raise ValueError(f"its attribute {name!r} is {value!r}, no whole number")
    return int(value)


def text(holder: h5py.File | h5py.Group, name: str, default: str | None = None) -> str:
    """Read an attribute that is a text, of a fixed length or not; ValueError where it is none."""
    value = attribute(holder, name, default)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str):
        return value
    raise ValueError(f"its attribute {name!r} is {value!r}, no text")


def _link(group: Any, part: bytes) -> str:
    """Return what a link is, where it is none that puts the object itself into its group."""
    kind = group.links.get_info(part).type
    return "" if kind == h5py.h5l.TYPE_HARD else _LINKS.get(kind, "a link of an unknown kind")


def _hostile(dataset: Any, file_size: int) -> str:
    """Return what is wrong with a dataset; empty where it may be read."""
    made = dataset.get_create_plist()
    layout = made.get_layout()
    if made.get_external_count():
        return "keeps its values in another file"
    if layout == h5py.h5d.VIRTUAL:
        return "is put together from datasets of other files"
    filters = [made.get_filter(number)[0] for number in range(made.get_nfilters())]
    if unknown := sorted(set(filters) - _FILTERS):
        return f"is compressed by filter {unknown[0]}, which is not HDF5's own"
    kind = dataset.get_type()
    if kind.get_class() not in _TYPES:
        return "holds neither numbers nor strings"
    row = kind.get_size()
    needed = math.prod(dataset.shape) * row
    if layout == h5py.h5d.CHUNKED:
        needed = max(needed, math.prod(made.get_chunk()) * row if needed else 0)
    stored = min(dataset.get_storage_size(), file_size)
    if layout == h5py.h5d.COMPACT:
        stored = min(row * math.prod(dataset.shape), 1 << 16)
    allowed = stored * (LARGEST_RATIO if filters else 1) + _ALLOWANCE
    if needed > allowed:
        return f"would take {needed:,} bytes, of which {stored:,} are in the file"
    return ""


def _refused(path: Path | str, name: str, reason: str, error: type[VggfeatError]) -> VggfeatError:
    text = name.encode(errors="backslashreplace").decode()
    return error(f"{path} is refused: /{text} {reason}. {_COPY}")
