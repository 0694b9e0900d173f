"""RDMs of others: .npy, .mat, .csv and rsatoolbox's .h5, read as strangers' files.

Nothing here runs what is in a file: pickles are refused. What a file says of its size is compared
with its bytes before memory is taken.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.array_files import StoredArray, open_array, parts_of
from vggfeat.errors import ImageError, RepresentationError, SourceError
from vggfeat.files import open_regular
from vggfeat.representations.distances import condition_count
from vggfeat.representations.given_checks import checked_rdms, symmetric
from vggfeat.representations.given_tables import read_table
from vggfeat.representations.rdms import RDMs

Matrix = npt.NDArray[Any]

_NAMES = ("path", "image", "stimulus", "stimuli", "filename", "name", "conds", "class")
"""Descriptors of conditions in rsatoolbox's files that may name them, the likeliest first."""

_TITLES = ("layer", "subject", "subj", "name")
"""Those of RDMs."""

SUFFIXES = (".npy", ".mat", ".csv", ".tsv", ".h5", ".hdf5")


def read_rdms(path: str | os.PathLike[str]) -> RDMs:
    """Read RDMs that some program has written.

    Parameters
    ----------
    path : path
        ``.npy``: (n, n), (r, n, n), (pairs,) or (r, pairs), with the conditions' names in the first
        column of ``FILE.paths.csv`` beside it, if that is there. ``.mat``, of any version: such an
        array, or (n, n, r) as MATLAB's users stack them; ``FILE.mat#NAME`` chooses a variable.
        ``.csv`` or ``.tsv``: a square table, with names in its first line, first column, or both.
        ``.h5``: as rsatoolbox saves RDMs, or `vggfeat rdm` does.

    Returns
    -------
    RDMs
        Condensed, float64. `names` is None where the file has none.

    Raises
    ------
    RepresentationError
        It cannot be read, is no RDM (not symmetric, similarities instead of dissimilarities, values
        that are not finite, names that are not different), or is of another kind of file.
    """
    file, variable = parts_of(path)
    ending = file.suffix.lower()
    if ending in (".pkl", ".pickle"):
        raise RepresentationError(
            f"{file} is a pickle, which may run any program as it is read. Save it as .h5 instead: "
            "rdms.save('rdms.h5', file_type='hdf5') in rsatoolbox."
        )
    if ending not in READERS:
        raise RepresentationError(
            f"{file} ends in {ending or 'nothing'!r}, which names no file of RDMs. Known are "
            f"{', '.join(SUFFIXES)}."
        )
    if variable and ending != ".mat":
        raise RepresentationError(f"#{variable} chooses a variable of a .mat file; {file} is none.")
    try:
        open_regular(file).close()
        return READERS[ending](file, variable)
    except RepresentationError:
        raise
    except (ImageError, SourceError) as error:
        raise RepresentationError(f"{file} cannot be read: {error}.") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RepresentationError(
            f"{file} cannot be read as RDMs: {reason.rstrip('.')}."
        ) from error


def _array(file: Path, variable: str) -> StoredArray:
    spec = f"{file}#{variable}" if variable else file
    return open_array(spec, _fits, "RDMs of shape (n, n) or (r, n, n)", RepresentationError)


def _fits(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Return whether an array may be RDMs by its shape."""
    if dtype.kind not in "fiu" or not shape or len(shape) > 3:
        return False
    if len(shape) == 3:
        return shape[0] == shape[1] > 2 or shape[1] == shape[2] > 2
    if len(shape) == 2 and shape[0] == shape[1]:
        return shape[0] > 2
    return any((condition_count(size) or 0) > 2 for size in shape)


def _npy(file: Path, _: str) -> RDMs:
    with _array(file, "") as stored:
        values = stored[:]
    names, classes = _names_beside(file)
    return checked_rdms(file, values, names, classes)


def _names_beside(file: Path) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    from vggfeat.representations.rdm_files import names_beside
    from vggfeat.tables import legible, read_records

    beside = names_beside(file)
    if not beside.exists():
        return None, ()
    records = read_records(beside).cells
    if not records or records[0][0] not in ("path", "class"):
        raise RepresentationError(
            f"{beside} is to name the conditions of {file.name} in a column 'path' or 'class'."
        )
    rows = records[1:]
    classes = tuple(legible(row[1]) if len(row) > 1 else "" for row in rows)
    return tuple(legible(row[0]) for row in rows), classes


def _mat(file: Path, variable: str) -> RDMs:
    with _array(file, variable) as stored:
        name, values = stored.name, stored[:]
    found = checked_rdms(file, _matlab_order(values), None, ())
    titles = (name,) if len(found) == 1 else tuple(f"{name} {k + 1}" for k in range(len(found)))
    return RDMs(found.values, titles, None, found.classes, source=str(file))


def _matlab_order(values: Matrix) -> Matrix:
    """Return (n, n, r) as (r, n, n)."""
    if values.ndim == 3 and values.shape[0] == values.shape[1]:
        if values.shape[1] != values.shape[2] or symmetric(values[:, :, 0]):
            return np.moveaxis(values, 2, 0)
        return values
    return values


def _hdf5(file: Path, _: str) -> RDMs:
    from vggfeat.hdf5 import opened, text

    with opened(file, RepresentationError) as source:
        if "dissimilarities" not in source:
            raise RepresentationError(
                f"{file} has no RDMs: /dissimilarities, where rsatoolbox and `vggfeat rdm` keep "
                "them, is not there."
            )
        values = np.asarray(source["dissimilarities"][()])
        patterns = source.get("pattern_descriptors", {})
        by, names = _named(patterns)
        classes = _strings(patterns["class"]) if "class" in patterns else ()
        described = source.get("rdm_descriptors", {})
        titles: tuple[str, ...] = next(
            (_strings(described[key]) for key in _TITLES if key in described), ()
        )
        measure = text(source, "dissimilarity_measure", "")
        ours = source.get("descriptors")
        kind = text(ours, "by", "") if ours is not None else ""
        measure = text(ours, "measure", measure) if ours is not None else measure
    found = checked_rdms(
        file,
        values,
        names,
        classes,
        measure,
        kind or {"path": "image", "class": "class"}.get(by, ""),
    )
    if titles and len(titles) == len(found):
        return RDMs(
            found.values, titles, found.names, found.classes, found.measure, found.by, found.source
        )
    return found


def _named(patterns: Any) -> tuple[str, tuple[str, ...] | None]:
    """Return the descriptor that tells conditions apart, and what it says; None where none does."""
    for key in _NAMES:
        if key in patterns:
            names = _strings(patterns[key])
            if len(set(names)) == len(names) or key == "path":
                return key, names
    return "", None


def _strings(dataset: Any) -> tuple[str, ...]:
    from vggfeat.hdf5 import raw_texts

    if dataset.dtype.kind in "fiu":
        return tuple(str(value) for value in dataset[()].tolist())
    return tuple(value.decode("utf-8", "replace") for value in raw_texts(dataset))


READERS: dict[str, Callable[[Path, str], RDMs]] = {
    ".npy": _npy, ".mat": _mat, ".csv": read_table, ".tsv": read_table, ".h5": _hdf5, ".hdf5": _hdf5
}  # fmt: skip


def holds_rdms(file: Path) -> bool:
    """Return whether an HDF5 file has RDMs where rsatoolbox keeps them, rather than a store."""
    import h5py

    try:
        open_regular(file).close()
        with h5py.File(file, "r", locking=False) as source:
            links = source.id.links  # not followed: one may lead to another file
            return bool(links.exists(b"dissimilarities")) and not links.exists(b"images")
    except (ImageError, OSError, RuntimeError):
        return False
