"""Where in the HDF5 file things are: ``docs/store-format.md`` in code.

A file is made once, with every dataset allocated in full; then its rows are found by their place.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vggfeat import hdf5
from vggfeat.failures import reading
from vggfeat.labels import to_signs
from vggfeat.provenance import NEVER, RunInfo, SourcePlace
from vggfeat.store.contents import FORMAT, FORMAT_VERSION, IMAGES, SINCE_2, Contents
from vggfeat.store.opening import open_hdf5
from vggfeat.store.rows import Region, RowFile
from vggfeat.store.sparse import SparseFile

_SPARE_RUNS = 16
_HEAD_BYTES = 1 << 20  # where a provenance attribute that was written first is found
_TEXT = h5py.string_dtype("utf-8")


def create(path: Path, contents: Contents) -> None:
    """Make a new HDF5 file with every dataset allocated in full.

    The HDF5 library does not touch the disk; see :mod:`vggfeat.store.sparse`.

    Features and checksums are left unwritten: the caller fills them through
    :class:`~vggfeat.store.rows.RowFile`.
    """
    count = len(contents.paths)
    image = SparseFile()
    with h5py.File(image, "w", libver=("earliest", "v110")) as file:
        # First of all, so that its bytes lie near the beginning, where locate() finds them.
        text = contents.provenance.dumps().encode()
        kind = h5py.string_dtype("utf-8", len(text))
        file.attrs.create("provenance", np.bytes_(text), dtype=kind)
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        if contents.part:
            file.attrs["part"] = np.bytes_(contents.part.encode())
        file.create_dataset("images/path", data=np.array(contents.paths, object), dtype=_TEXT)
        for name, values in contents.columns.items():
            kind, shape = (IMAGES | SINCE_2)[name]
            _allocate(file, f"images/{name}", (count, *shape), kind)[...] = values
        for name, texts in _sources(contents).items():
            file.create_dataset(f"sources/{name}", data=np.array(texts, object), dtype=_TEXT)
        if contents.targets is not None:
            names = np.array(contents.targets.classes, object)
            file.create_dataset("labels/classes", data=names, dtype=_TEXT)
            values = contents.targets.values
            if contents.targets.multi_label:
                values = to_signs(values)
            _allocate(file, "labels/targets", values.shape, values.dtype)[...] = values
            if origin := str(contents.targets.origin):
                file["labels"].attrs["origin"] = np.bytes_(origin.encode())
        for group, column in (("splits", contents.splits), ("groups", contents.groups)):
            if column is not None:
                names = np.array(column.classes, object)
                file.create_dataset(f"{group}/names", data=names, dtype=_TEXT)
                numbers = column.values.astype("<i4")
                _allocate(file, f"{group}/numbers", numbers.shape, numbers.dtype)[...] = numbers
                file[group].attrs["origin"] = np.bytes_(str(column.origin).encode())
        _create_runs(file, contents)
        for layer, shape in contents.shapes.items():
            _allocate(file, f"checksums/{layer}", (count,), np.dtype("<u4"))
            _allocate(file, f"features/{layer}", (count, *shape), contents.dtype, np.nan)
    with path.open("xb", buffering=0) as file_on_disk:
        file_on_disk.truncate(image.size)
    raw = RowFile(path, {})
    try:
        for offset, data in image.written():
            raw.write_at(offset, data)
    finally:
        raw.close()


def locate(path: Path, contents: Contents) -> dict[str, Region] | None:
    """Find where in the file each dataset's bytes are.

    Returns
    -------
    dict of str to Region or None
        By dataset name without the leading slash, and ``"end"``: the time at which the last run
        ended, inside the provenance attribute. None where the file is not laid out as
        :func:`create` does it (another program has rewritten it), so that rows cannot be
        written in place.
    """
    columns = IMAGES if contents.version < 2 else IMAGES | SINCE_2
    names = [f"images/{name}" for name in columns]
    names += [f"{group}/{name}" for group in ("checksums", "features") for name in contents.shapes]
    kinds = {f"images/{name}": kind for name, (kind, _) in columns.items()}
    kinds |= {f"checksums/{name}": np.dtype("<u4") for name in contents.shapes}
    kinds |= {f"features/{name}": contents.dtype for name in contents.shapes}
    regions = {}
    with reading(path), open_hdf5(path) as file:
        for name in [*names, "runs"]:
            dataset = file.get(name)
            offset = dataset.id.get_offset() if isinstance(dataset, h5py.Dataset) else None
            if offset is None or (name in kinds and dataset.dtype != kinds[name]):
                return None
            row_bytes = dataset.dtype.itemsize * math.prod(dataset.shape[1:])
            regions[name] = Region(offset, dataset.shape[0], row_bytes)
        text = hdf5.text(file, "provenance").encode()
    with path.open("rb") as raw:
        head = raw.read(_HEAD_BYTES)
    # Superblocks of version 2 and later come with checksummed headers, which must not be touched.
    if head[8] != 0 or head.count(text) != 1:
        return None
    end = end_of(text)
    if end < 0:
        return None
    regions["end"] = Region(head.index(text) + end, 1, len(NEVER))
    return regions


def end_of(text: bytes) -> int:
    """Return where the value of ``end`` begins in JSON of a RunInfo, or -1."""
    key = b'"end": "'  # no string can hold this: its quotation marks would be escaped
    start = text.find(key)
    value = start + len(key)
    fits = start >= 0 and text[value + len(NEVER) : value + len(NEVER) + 1] == b'"'
    return value if fits else -1


def run_slot(run: RunInfo, width: int) -> bytes:
    """Return a run as it fills one slot of ``/runs``, `width` bytes wide, padded with NUL."""
    values = run.to_json()
    text = json.dumps(values).encode()
    for key in (
        "versions",
        "preprocessing",
        "source",
        "weights",
    ):  # a slot of an older run may be too narrow
        if len(text) > width:
            values[key] = {} if key == "versions" else "..."
            text = json.dumps(values).encode()
    return text.ljust(width, b"\0")[:width]


def _sources(contents: Contents) -> dict[str, list[str]]:
    """Return the columns of ``/sources``."""
    columns = zip(*contents.sources, strict=True)
    return {name: list(texts) for name, texts in zip(SourcePlace._fields, columns, strict=True)}


def _create_runs(file: h5py.File, contents: Contents) -> None:
    runs = contents.runs or [contents.provenance.run]
    longest = max(len(json.dumps(run.to_json())) for run in runs)
    width = 1024 * math.ceil((longest + 512) / 1024)  # room for longer paths of later runs
    kind = h5py.string_dtype("utf-8", width)
    slots = [run_slot(run, width) for run in contents.runs]
    slots += [b""] * _SPARE_RUNS
    _allocate(file, "runs", (len(slots),), kind)[...] = np.array(slots, dtype=kind)


def _allocate(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: Any, fill: float | None = None
) -> h5py.Dataset:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # whoever calls create() writes it all
    if fill is not None:
        properties.set_fill_value(np.array(fill, dtype))
    return file.create_dataset(name, shape, dtype=dtype, dcpl=properties)
