"""Opening a store for reading, and saying what is wrong with a file that is none."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import h5py
import numpy as np
import numpy.typing as npt

from vggfeat import hdf5
from vggfeat._version import __version__
from vggfeat.errors import StoreError
from vggfeat.failures import reading
from vggfeat.labels import Origin, from_signs
from vggfeat.labels.targets import Targets
from vggfeat.provenance import Provenance, RunInfo, SourcePlace
from vggfeat.store.contents import (
    ERROR_BYTES,
    FORMAT,
    FORMAT_VERSION,
    IMAGES,
    SINCE_2,
    STATUSES,
    Contents,
)

if TYPE_CHECKING:
    import io

COLUMNS = ("splits", "groups")
"""Groups of the file that hold a name an image, or none."""

_DATASETS = (
    *(f"images/{name}" for name in ("path", *IMAGES, *SINCE_2)),
    *(f"sources/{name}" for name in SourcePlace._fields),
    *("labels/classes", "labels/targets", "runs"),
    *(f"{group}/{name}" for group in COLUMNS for name in ("names", "numbers")),
)


def open_hdf5(path: Path, newer: bool = False) -> h5py.File:
    """Open a store for reading without disturbing whoever writes it.

    Parameters
    ----------
    path : Path
        The file.
    newer : bool
        Accept stores of newer formats, whose contents are then not looked at.

    Raises
    ------
    StoreError
        There is no file, or it is not a store that this version can read; the message says
        what was found instead.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise StoreError(
            f"There is no store at {path}. `vggfeat extract SOURCE {path}` makes one."
        ) from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}.") from error
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise StoreError(f"{path} is {what}, not a store. Give the .h5 file that extract made.")
    with reading(path):
        if not h5py.is_hdf5(path):
            with path.open("rb") as raw:
                start = raw.read(8)
            actual = f"begins with {start!r}" if start else "is empty"
            raise StoreError(
                f"{path} is not a store: it {actual}, and an HDF5 file would begin with "
                r"b'\x89HDF\r\n\x1a\n'. Give the .h5 file that `vggfeat extract` made."
            )
        file = hdf5.opened(path, StoreError, ())
    return _checked(file, path, newer)


def open_far(name: str, file: BinaryIO) -> h5py.File:
    """Open a store that is a file far away.

    Parameters
    ----------
    name : str
        Its URL, for messages.
    file : binary file
        Its bytes.

    Raises
    ------
    StoreError
        It is no store that this version can read.
    """
    with reading(name):
        opened = hdf5.opened(name, StoreError, (), member=cast("io.IOBase", file))
    return _checked(opened, name, newer=False)


def _checked(file: h5py.File, path: Path | str, newer: bool) -> h5py.File:
    try:
        with reading(path):
            _check(file, path, newer)
    except BaseException:
        file.close()
        raise
    return file


def read_provenance(file: h5py.File, path: Path | str) -> Provenance:
    """Read the root attribute ``provenance``."""
    with reading(path):
        return Provenance.loads(hdf5.text(file, "provenance"))


def read_version(file: h5py.File) -> int:
    """Read which version of the format a store is of."""
    return hdf5.integer(file, "format_version")


def read_part(file: h5py.File) -> str:
    """Read which part of which store a file is; empty where it is a store of its own."""
    return hdf5.text(file, "part", "")


def read_runs(file: h5py.File) -> list[RunInfo]:
    """Read the runs so far, oldest first, leaving out slots that were cut short by a kill."""
    if not isinstance(file.get("runs"), h5py.Dataset):
        return []
    runs = []
    for slot in hdf5.raw_texts(file["runs"]):
        try:
            runs.append(RunInfo.from_json(json.loads(slot)))
        except (ValueError, TypeError, AttributeError, RecursionError):
            continue
    return runs


def read_contents(file: h5py.File, path: Path | str) -> Contents:
    """Read everything but features and checksums."""
    with reading(path):
        provenance = read_provenance(file, path)
        images, runs = file["images"], read_runs(file)
        count = len(images["path"])
        later = {
            name: images[name][:].astype(kind) if name in images else _unknown(name, count)
            for name, (kind, _) in SINCE_2.items()
        }
        return Contents(
            provenance=provenance,
            shapes={layer: file["features"][layer].shape[1:] for layer in provenance.config.layers},
            paths=hdf5.texts(images["path"]),
            sizes=images["size"][:].astype(np.int64),
            mtimes=images["mtime_ns"][:].astype(np.int64),
            ctimes=later["ctime_ns"],
            digests=later["digest"],
            present=later["present"].astype(np.bool_),
            source=later["source"],
            status=images["status"][:].astype(np.uint8),
            errors=images["error"][:].astype(f"S{ERROR_BYTES}"),
            targets=read_targets(file),
            splits=read_column(file, "splits"),
            groups=read_column(file, "groups"),
            runs=runs,
            sources=read_sources(file),
            version=read_version(file),
            part=read_part(file),
        )


def read_sources(file: h5py.File) -> list[SourcePlace]:
    """Read where the images come from; of format 1, where the last run found them."""
    if "sources" in file:
        columns = [hdf5.texts(file["sources"][name]) for name in SourcePlace._fields]
        if sources := [SourcePlace(*texts) for texts in zip(*columns, strict=True)]:
            return sources
    runs = read_runs(file)
    run = runs[-1] if runs else Provenance.loads(hdf5.text(file, "provenance")).run
    return [SourcePlace("", run.source, run.source)]


def _unknown(column: str, count: int) -> npt.NDArray[Any]:
    """Return a column that format 1 does not have."""
    kind, shape = SINCE_2[column]
    return np.full((count, *shape), column == "present", kind)


def read_targets(file: h5py.File) -> Targets | None:
    """Read class names and targets; None where the store has no labels."""
    if "labels/targets" not in file:
        return None
    classes = tuple(hdf5.texts(file["labels/classes"]))
    values = file["labels/targets"][:]
    values = from_signs(values) if values.ndim == 2 else values
    return Targets(classes, values, _read_origin(file["labels"]))


def read_column(file: h5py.File, group: str) -> Targets | None:
    """Read ``splits`` or ``groups``: a name an image, or none; None where the store has no such."""
    if f"{group}/numbers" not in file:
        return None
    names = tuple(hdf5.texts(file[f"{group}/names"]))
    return Targets(names, file[f"{group}/numbers"][:], _read_origin(file[group]))


def _read_origin(group: h5py.Group) -> Origin:
    """Read where names came from, as far as the store says."""
    return Origin.parse(hdf5.text(group, "origin", ""))


def _check(file: h5py.File, path: Path | str, newer: bool) -> None:
    if hdf5.text(file, "format", "") != FORMAT:
        raise StoreError(
            f"{path} is an HDF5 file, but not a store of vggfeat: its attribute 'format' is not "
            f"{FORMAT!r}. Give the .h5 file that `vggfeat extract` made."
        )
    version = read_version(file)
    if version > FORMAT_VERSION:
        if newer:
            return
        raise StoreError(
            f"{path} was made by a newer vggfeat: its format is {version}, and vggfeat "
            f"{__version__} reads up to {FORMAT_VERSION}. `pip install --upgrade vggfeat`."
        )
    provenance = read_provenance(file, path)
    layers = provenance.config.layers
    hdf5.check(file, path, StoreError, [
        *_DATASETS,
        *(f"{group}/{layer}" for group in ("features", "checksums") for layer in layers),
    ])  # fmt: skip
    count = _texts(file, "images/path")
    if not count:
        raise ValueError("it has no rows")
    columns = IMAGES if version < 2 else IMAGES | SINCE_2
    for name, (kind, row) in columns.items():
        if name == "error":
            if _texts(file, "images/error") != count:
                raise ValueError("images/error has not a text for each row")
        else:
            _numbers(file, f"images/{name}", (count, *row), kind.kind)
    dtype = np.dtype(provenance.config.dtype)
    for layer in layers:
        features = file[f"features/{layer}"]
        if features.dtype != dtype:
            raise ValueError(f"features/{layer} are {features.dtype}, not {dtype}")
        if features.ndim < 2 or 0 in features.shape[1:] or len(features) != count:
            raise ValueError(f"features/{layer} are of shape {features.shape}, for {count} rows")
        _numbers(file, f"checksums/{layer}", (count,), "u")
    _check_values(file, count)


def _check_values(file: h5py.File, count: int) -> None:
    """Refuse numbers of statuses, sources and classes that there are not; ValueError."""
    _within(file, "images/status", 0, len(STATUSES))
    if "images/source" in file:
        sources = _texts(file, "sources/name") if "sources/name" in file else 0
        _within(file, "images/source", 0, sources or 1)
    if "labels/targets" in file:
        classes, targets = _texts(file, "labels/classes"), file["labels/targets"]
        several = targets.ndim == 2
        _numbers(file, targets.name, (count, classes) if several else (count,), "i")
        if not several:
            _within(file, targets.name, -1, classes)
    for group in COLUMNS:
        if f"{group}/numbers" in file:
            _numbers(file, f"{group}/numbers", (count,), "i")
            _within(file, f"{group}/numbers", -1, _texts(file, f"{group}/names"))


def _texts(file: h5py.File, name: str) -> int:
    """Return how many texts are in a row; ValueError where a dataset is anything else."""
    texts = file[name]
    if texts.ndim != 1 or h5py.check_string_dtype(texts.dtype) is None:
        raise ValueError(f"{name} is {texts.dtype} of shape {texts.shape}")
    return len(texts)


def _numbers(file: h5py.File, name: str, shape: tuple[int, ...], kind: str) -> None:
    """Refuse a dataset of another shape, or of another kind of NumPy's types; ValueError."""
    dataset = file[name]
    if dataset.shape != shape or dataset.dtype.kind != kind:
        raise ValueError(f"{name} is {dataset.dtype} of shape {dataset.shape}, not {shape}")


def _within(file: h5py.File, name: str, low: int, end: int) -> None:
    values = file[name][:]
    if values.min(initial=low) < low or values.max(initial=low) >= end:
        wrong = values[(values < low) | (values >= end)][0]
        raise ValueError(f"{name} has {wrong}, and may have {low} to {end - 1}")
