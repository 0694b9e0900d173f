"""Mutations of HDF5 files by somebody who knows the format: h5py writes them, and all is valid."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

from fuzzing.bytes_of_files import INTEGERS
from fuzzing.json_values import TEXTS, changed, value
from fuzzing.kinds import Mutation

Repair = Callable[[Path], object]
"""Computes checksums anew, as an attacker does."""

_TYPES: tuple[Any, ...] = (
    *("i1", "u1", "<i4", ">i4", "<i8", "<u8", "<f2", "<f4", ">f4", "<f8", "?", "S3", "S300", "c8"),
    *(h5py.string_dtype(), h5py.string_dtype("ascii"), h5py.string_dtype("utf-8", 2)),
    *(h5py.vlen_dtype(np.int32), h5py.enum_dtype({"a": 1}), h5py.ref_dtype, np.dtype("V4")),
    *(np.dtype([("a", "<i4"), ("b", "<f8")]), np.dtype(("<f4", (3,)))),
)  # fmt: skip
_LENGTHS = (0, 1, 2, 3, 1000, 70_000, 1 << 20, 1 << 24, 1 << 31, 1 << 40, 1 << 61)

_LARGEST = 1 << 26  # bytes of a dataset that is read here


def valid(name: str, repair: Repair | None = None) -> Mutation:
    """Return the mutation of what an HDF5 file below the folder holds.

    Parameters
    ----------
    name : str
    repair : callable, optional
        Makes checksums fit what is there then; it may fail.
    """

    def mutate(folder: Path, random: Random) -> None:
        path = folder / name
        with h5py.File(path, "r+", libver="latest", locking=False) as file:
            for _ in range(random.choice((1, 1, 1, 2))):
                with suppress(Exception):  # h5py cannot write all that is thought of
                    _change(file, random)
            sizes: list[int] = []
            file.visititems(lambda _, held: sizes.append(getattr(held, "nbytes", 0)))
        if repair is not None and max(sizes) <= _LARGEST and random.random() < 0.8:
            with suppress(Exception):
                repair(path)

    return mutate


def _change(file: h5py.File, random: Random) -> None:
    names: list[str] = []
    file.visit(names.append)
    holders = [file, *(file[name] for name in names)]
    attributes = [(held, name) for held in holders for name in held.attrs]
    datasets = [name for name in names if isinstance(file[name], h5py.Dataset)]
    if attributes and (not datasets or random.random() < 0.35):
        _attribute(*random.choice(attributes), random)
    else:
        name = random.choice(datasets)
        random.choice(_WAYS)(file, name, random)


def _attribute(held: Any, name: str, random: Random) -> None:
    old = held.attrs[name]
    if isinstance(old, str) and old.startswith("{") and random.random() < 0.7:
        new: Any = json.dumps(changed(json.loads(old), random))
    else:
        way = random.randrange(9)
        if way == 0:
            del held.attrs[name]
            return
        if way == 1:
            new = h5py.Empty(random.choice(("<f4", "S3", h5py.string_dtype())))
        elif way == 2:
            new = random.choice(TEXTS)
        elif way == 3:
            shape = (random.choice((0, 1, 3, 5000)),)
            held.attrs.create(name, np.ones(shape), shape, random.choice(_TYPES))
            return
        elif way == 4:
            new = np.array([random.choice(TEXTS)] * random.choice((0, 1, 2000)), object)
            held.attrs.create(name, new, dtype=h5py.string_dtype())
            return
        elif way == 5:
            held.attrs.create(name, 1, dtype=random.choice(_TYPES))
            return
        elif way == 6:
            new = np.bytes_(random.choice(TEXTS).encode(errors="replace") + b"\xff")
        elif way == 7:
            new = random.choice((0.5, float("nan"), float("inf"), -1e308, True))
        else:
            new = random.choice(INTEGERS)
    held.attrs[name] = new


def _again(file: h5py.File, name: str, data: Any = None, **options: Any) -> None:
    """Put a dataset in the place of another, with its attributes."""
    attributes = dict(file[name].attrs)
    del file[name]
    file.create_dataset(name, data=data, **options)
    file[name].attrs.update(attributes)


def _values(file: h5py.File, name: str, random: Random) -> None:
    """Change some of the values."""
    dataset = file[name]
    if dataset.nbytes > _LARGEST:
        return
    data = dataset[()]
    if dataset.ndim == 0 or not dataset.size:
        with suppress(ValueError):
            if isinstance(data, bytes) and data.startswith(b"{"):
                _again(file, name, json.dumps(changed(json.loads(data), random)))
                return
        dataset[()] = random.choice(TEXTS)
        return
    for _ in range(random.choice((1, 1, 3, 50))):
        at = tuple(random.randrange(length) for length in data.shape)
        if random.random() < 0.1:
            at = (slice(None), *at[1:])
        if data.dtype.kind in "iu":
            bits = 8 * data.dtype.itemsize
            number = random.choice(INTEGERS) & ((1 << bits) - 1)
            if data.dtype.kind == "i" and number >> (bits - 1):
                number -= 1 << bits
            data[at] = number
        elif data.dtype.kind == "f":
            odd = (0, 1e38, -1e38, np.nan, np.inf, 1e-40, 3.5)
            data[at] = random.choice(odd)
        elif data.dtype.kind == "S":
            data[at] = random.choice(TEXTS).encode(errors="surrogateescape")
        else:
            data[at] = random.choice((random.choice(TEXTS), b"\xff\xfe", data.flat[0]))
    with suppress(ValueError):
        if name == "about" or bytes(data[:1]) == b"{":
            text = json.dumps(changed(json.loads(data.tobytes()), random)).encode()
            _again(file, name, np.frombuffer(text, np.uint8))
            return
    dataset[...] = data


def _shape(file: h5py.File, name: str, random: Random) -> None:
    """Say that it is of another shape; what is not there reads as zeros."""
    old, dtype = file[name].shape, file[name].dtype
    way = random.randrange(6)
    rank = len(old)
    if way == 0:
        shape = (random.choice(_LENGTHS), *old[1:])
    elif way == 1:
        shape = (*old[:-1], random.choice(_LENGTHS))
    elif way == 2:
        shape = (*old, random.choice((1, 2, 0)))
    elif way == 3:
        shape = old[1:]
    elif way == 4:
        shape = (1,) * random.choice((0, 1, 4, 32))
    else:
        shape = tuple(random.choice(_LENGTHS) for _ in range(rank))
    options: dict[str, Any] = {}
    if shape and random.random() < 0.5:
        options = {
            "chunks": tuple(max(1, min(length, 1 << 12)) for length in shape) if rank < 3 else True,
            "compression": random.choice((None, "gzip", "lzf")),
        }
    _again(file, name, shape=shape, dtype=dtype, **options)


def _rows(file: h5py.File, name: str, random: Random) -> None:
    """Add rows, or take some away."""
    data = file[name][()]
    few = data[: random.randrange(len(data) + 1)]
    more = np.concatenate([data] * random.choice((2, 3)))
    _again(file, name, random.choice((few, more)), dtype=file[name].dtype)


def _type(file: h5py.File, name: str, random: Random) -> None:
    """Write the values, or none, as another type."""
    data, dtype = file[name][()], random.choice(_TYPES)
    try:
        _again(file, name, data, dtype=dtype)
    except Exception:
        file.create_dataset(name, np.shape(data), dtype)


def _compressed(file: h5py.File, name: str, random: Random) -> None:
    """Compress it: many zeros in few bytes."""
    shape = (random.choice((8, 1000, 1 << 16, 1 << 20)), *file[name].shape[1:])
    dtype = file[name].dtype
    if np.prod(shape) * dtype.itemsize < 1 << 26 and dtype.kind != "O":
        _again(file, name, np.zeros(shape, dtype), compression="gzip", compression_opts=9)


def _gone(file: h5py.File, name: str, random: Random) -> None:
    """Remove it, or put something else there."""
    del file[name]
    way = random.randrange(6)
    if way == 1:
        file.create_group(name)
    elif way == 2:
        file[name] = h5py.SoftLink(random.choice(("/", "/images", f"/{name}", "nowhere")))
    elif way == 3:
        file[name] = np.dtype("<f4")  # a type with a name
    elif way == 4:
        file.create_dataset(name, data=h5py.Empty("<f4"))
    elif way == 5:
        file[name] = random.choice(TEXTS)


def _added(file: h5py.File, name: str, random: Random) -> None:
    """Add what there was not."""
    where = file[name].parent
    new = random.choice(("unknown", "a\x1bb", "..", "present", "source", "held_out", "targets"))
    data = value(random)
    where[new] = data if isinstance(data, int | float | str) else [1, 2, 3]


_WAYS = (*[_values] * 5, *[_shape] * 3, _rows, _type, _compressed, _gone, _added)
