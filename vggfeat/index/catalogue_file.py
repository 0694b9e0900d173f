"""The catalogue of an index in a plain HDF5 file; docs/index-format.md specifies it.

Whoever replaces this file changes the index: it names the files that belong to it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from vggfeat import hdf5
from vggfeat.errors import SearchError
from vggfeat.index.catalogue import Catalogue
from vggfeat.index.excluded import Excluded
from vggfeat.index.preparing import METRICS
from vggfeat.index.rows import Rows, Texts
from vggfeat.index.settings import Files, LeftOut, settings_of
from vggfeat.index.validation import check, check_arrays
from vggfeat.provenance import FeatureConfig, RunInfo
from vggfeat.whitening import Whitening

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT = "vggfeat-index"
FORMAT_VERSION = 2
_BUILD = "Build it anew: `vggfeat index build STORE INDEX`."
_ARRAYS = (
    *("path_bytes", "path_ends", "row", "origin", "checksum", "label", "removed"),
    *("whitening/mean", "whitening/projection", "whitening/eigenvalues"),
)


def write(catalogue: Catalogue, path: Path) -> None:
    """Write a new file."""
    head, arrays = _head(catalogue), _arrays(catalogue)
    with h5py.File(path, "x", libver=("earliest", "v110"), locking=False) as file:
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["sha256"] = _digest(head, arrays)
        # Not as attributes, which HDF5 limits to 64 KiB.
        file["about"] = np.frombuffer(json.dumps(head, indent=1).encode(), np.uint8)
        for name, array in arrays.items():
            file[name] = array
        file.flush()


def read(path: Path) -> Catalogue:
    """Read a file.

    Raises
    ------
    SearchError
        The file is damaged, something else, or of another format version.
    """
    if format_of(path) != FORMAT:
        raise SearchError(f"{path} is not the catalogue of an index, or damaged. {_BUILD}")
    try:
        with hdf5.opened(path, SearchError, ("about", *_ARRAYS)) as file:
            check_version(path, hdf5.integer(file, "format_version"))
            head = json.loads(file["about"][:].tobytes())
            names = [name for name in _ARRAYS if name in file]
            arrays = {name: file[name][:] for name in names}
            if hdf5.text(file, "sha256") != _digest(head, arrays):
                raise ValueError("its content does not have its checksum")
        return _parsed(head, arrays)
    except SearchError:
        raise
    except (*hdf5.DAMAGED, StopIteration) as error:
        raise SearchError(
            f"{path} is damaged ({' '.join(str(error).split())}). Copy the index again from "
            "where it came, or build it anew."
        ) from error


def format_of(path: Path) -> str | None:
    """Return the ``format`` of an HDF5 file; None where it has none or is no such file."""
    try:
        with hdf5.opened(path, SearchError, ()) as file:
            return hdf5.text(file, "format")
    except (*hdf5.DAMAGED, SearchError):
        return None


def check_version(path: Path, version: int) -> None:
    """Refuse formats that this version does not read."""
    if version > FORMAT_VERSION:
        raise SearchError(
            f"{path} was made by a newer vggfeat (format {version}; this one reads up to "
            f"{FORMAT_VERSION}). Upgrade vggfeat."
        )
    if version < FORMAT_VERSION:
        raise SearchError(f"{path} was made by an older vggfeat (format {version}). {_BUILD}")


def _head(catalogue: Catalogue) -> dict[str, Any]:
    head = {
        "layer": catalogue.layer,
        "metric": catalogue.metric,
        "deciding": catalogue.config.to_json(),
        "sources": [source.to_json() for source in catalogue.sources],
        "label_names": list(catalogue.rows.names),
        "longest": catalogue.longest,
        "left_out": asdict(catalogue.left_out),
        "settings": asdict(catalogue.settings),
        "files": asdict(catalogue.files),
    }
    if catalogue.whitening is not None:
        head["whitening"] = {"count": catalogue.whitening.count, "made": catalogue.whitening.made}
    if len(catalogue.excluded):
        head["excluded"] = catalogue.excluded.to_json()
    if catalogue.stores:
        head["stores"] = list(catalogue.stores)
    return json.loads(json.dumps(head))  # type: ignore[no-any-return]


def _arrays(catalogue: Catalogue) -> dict[str, Any]:
    rows = catalogue.rows
    arrays = {
        "path_bytes": rows.paths.bytes,
        "path_ends": rows.paths.ends,
        "row": rows.row,
        "origin": rows.origin,
        "checksum": rows.checksum,
        "label": rows.label,
        "removed": rows.removed.astype(np.uint8),
    }
    if catalogue.whitening is not None:
        arrays |= {
            "whitening/mean": catalogue.whitening.mean,
            "whitening/projection": catalogue.whitening.projection,
            "whitening/eigenvalues": catalogue.whitening.eigenvalues,
        }
    return arrays


def _parsed(head: Mapping[str, Any], arrays: Mapping[str, Any]) -> Catalogue:
    check_arrays(arrays)
    rows = Rows(
        Texts(arrays["path_bytes"], arrays["path_ends"]),
        arrays["row"],
        arrays["origin"],
        arrays["checksum"],
        arrays["label"],
        tuple(head["label_names"]),
        arrays["removed"].astype(np.bool_),
    )
    files = head["files"]
    parts = tuple((count, crc32) for count, crc32 in files["parts"])
    whitening = None
    if "whitening" in head:
        whitening = Whitening(
            arrays["whitening/mean"],
            arrays["whitening/projection"],
            arrays["whitening/eigenvalues"],
            **head["whitening"],
        )
    catalogue = Catalogue(
        head["layer"],
        next(metric for metric in METRICS if metric == head["metric"]),
        FeatureConfig.from_json(head["deciding"]),
        tuple(RunInfo.from_json(source) for source in head["sources"]),
        rows,
        float(head["longest"]),
        LeftOut(**head["left_out"]),
        settings_of(head["settings"]),
        Files(**{**files, "parts": parts}),
        whitening,
        Excluded.from_json(head["excluded"]) if "excluded" in head else Excluded(),
        tuple(head.get("stores", ())),
    )
    check(catalogue)
    return catalogue


def _digest(head: Mapping[str, Any], arrays: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.shape}".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()
