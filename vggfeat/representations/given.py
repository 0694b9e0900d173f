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

from vggfeat.array_files import StoredArray, open_array
from vggfeat.errors import ImageError, RepresentationError, SourceError
from vggfeat.files import open_regular
from vggfeat.representations.distances import condition_count
from vggfeat.representations.rdms import RDMs

Matrix = npt.NDArray[Any]

SUFFIXES = (".npy", ".mat", ".csv", ".tsv", ".h5", ".hdf5")
_SYMMETRY = 1e-5
"""By which share of its largest value an RDM may differ from its transpose: float32 and rounding
in text."""

_MOST_TEXT = 1 << 28  # bytes of a table


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
    text = os.fspath(path)
    name, _, variable = text.partition("#") if not Path(text).exists() else (text, "", "")
    file = Path(name)
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
    return (condition_count(max(shape)) or 0) > 2


def _npy(file: Path, _: str) -> RDMs:
    with _array(file, "") as stored:
        values = stored[:]
    names, classes = _names_beside(file)
    return _rdms(file, values, names, classes)


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
    found = _rdms(file, _matlab_order(values), None, ())
    titles = (name,) if len(found) == 1 else tuple(f"{name} {k + 1}" for k in range(len(found)))
    return RDMs(found.values, titles, None, found.classes, source=str(file))


def _matlab_order(values: Matrix) -> Matrix:
    """Return (n, n, r) as (r, n, n), and a column of pairs as a row."""
    if values.ndim == 3 and values.shape[0] == values.shape[1]:
        if values.shape[1] != values.shape[2] or _symmetric(values[:, :, 0]):
            return np.moveaxis(values, 2, 0)
        return values
    if values.ndim == 2 and values.shape[0] != values.shape[1] and values.shape[1] == 1:
        return values.T
    return values


def _symmetric(matrix: Matrix) -> bool:
    largest = float(np.nanmax(np.abs(matrix))) if matrix.size else 0.0
    return bool(np.allclose(matrix, matrix.T, rtol=0, atol=_SYMMETRY * largest, equal_nan=True))


def _table(file: Path, _: str) -> RDMs:
    from vggfeat.tables import legible, read_records

    if file.stat().st_size > _MOST_TEXT:
        raise RepresentationError(
            f"{file} has {file.stat().st_size / 2**20:,.0f} MiB of text, and at most "
            f"{_MOST_TEXT >> 20} are read. Give the RDM as .npy."
        )
    cells = read_records(file).cells
    if len(cells) < 2:
        raise RepresentationError(f"{file} has no table of two lines or more.")
    header = not _numeric(cells[0][1:])
    rows = cells[1:] if header else cells
    named = any(not _is_number(row[0]) for row in rows)
    first = 1 if named or (header and len(cells[0]) == len(rows) + 1) else 0
    count = len(rows)
    numbers = [row[first:] for row in rows]
    if any(len(row) != count for row in numbers):
        widths = sorted({len(row) for row in numbers})
        raise RepresentationError(
            f"{file} is no square table: {count} lines of {' or '.join(map(str, widths))} numbers."
        )
    names = None
    if header:
        names = tuple(legible(name) for name in cells[0][-count:])
    if first:
        beside = tuple(legible(row[0]) for row in rows)
        if names is not None and names != beside:
            raise RepresentationError(
                f"{file} names other conditions in its first line than in its first column, or in "
                f"another order, as {_first_other(names, beside)}."
            )
        names = beside
    if any(not _is_number(cell) for row in numbers for cell in row):
        raise RepresentationError(f"{file} has cells that are no numbers.")
    return _rdms(file, np.array(numbers, np.float64), names, ())


def _first_other(names: tuple[str, ...], others: tuple[str, ...]) -> str:
    pairs = zip(names, others, strict=False)
    one, other = next(((a, b) for a, b in pairs if a != b), ("", ""))
    return f"{one!r} and {other!r}"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numeric(cells: list[str]) -> bool:
    return len(cells) > 0 and all(_is_number(cell) for cell in cells)


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
        by = next((key for key in ("path", "class") if key in patterns), "")
        names = _strings(patterns[by]) if by else None
        classes = _strings(patterns["class"]) if "class" in patterns else ()
        described = source.get("rdm_descriptors", {})
        titles = next((_strings(described[k]) for k in ("layer", "subject", "name")
                       if k in described), ())  # fmt: skip
        measure = text(source, "dissimilarity_measure", "")
        ours = source.get("descriptors")
        kind = text(ours, "by", "") if ours is not None else ""
        measure = text(ours, "measure", measure) if ours is not None else measure
    found = _rdms(file, values, names, classes, measure, kind or {"path": "image"}.get(by, by))
    if titles and len(titles) == len(found):
        return RDMs(
            found.values, titles, found.names, found.classes, found.measure, found.by, found.source
        )
    return found


def _strings(dataset: Any) -> tuple[str, ...]:
    from vggfeat.hdf5 import raw_texts

    if dataset.dtype.kind in "fiu":
        return tuple(str(value) for value in dataset[()].tolist())
    return tuple(value.decode("utf-8", "replace") for value in raw_texts(dataset))


def _rdms(
    file: Path,
    values: Matrix,
    names: tuple[str, ...] | None,
    classes: tuple[str, ...],
    measure: str = "",
    by: str = "",
) -> RDMs:
    """Check what was read, and return it condensed."""
    if values.dtype.kind not in "fiub":
        raise RepresentationError(f"{file} holds {values.dtype}, not numbers.")
    stack = values
    if values.ndim == 2 and values.shape[0] == values.shape[1]:
        stack = values[None]
    if stack.ndim == 3:
        if stack.shape[1] != stack.shape[2]:
            raise RepresentationError(
                f"{file} is of shape {values.shape}; RDMs are (n, n) or (r, n, n)."
            )
        vectors = np.stack([_above(file, one, k) for k, one in enumerate(stack)])
    elif stack.ndim in (1, 2):
        vectors = np.atleast_2d(np.asarray(stack, np.float64))
        if condition_count(vectors.shape[1]) is None:
            raise RepresentationError(
                f"{file} is of shape {values.shape}; {vectors.shape[1]:,} values are the pairs of "
                "no number of conditions. Give (n, n), or n (n - 1) / 2 values."
            )
    else:
        raise RepresentationError(f"{file} is of shape {values.shape}; RDMs are (n, n).")
    if not len(vectors) or vectors.shape[1] < 3:
        raise RepresentationError(
            f"{file} has {len(vectors)} RDMs; give one of 3 conditions or more."
        )
    if not np.isfinite(vectors).all():
        bad = int((~np.isfinite(vectors)).sum())
        raise RepresentationError(
            f"{file} has {bad:,} dissimilarities that are not finite. Leave out the conditions "
            "that were not measured."
        )
    count = condition_count(vectors.shape[1]) or 0
    if names is not None:
        if len(names) != count:
            raise RepresentationError(f"{file} names {len(names):,} conditions, of {count:,}.")
        if len(set(names)) < count:
            twice = next(name for name in names if names.count(name) > 1)
            raise RepresentationError(
                f"{file} has two conditions of one name ({twice!r}), which cannot be told apart."
            )
    titles = (file.stem,) if len(vectors) == 1 else tuple(
        f"{file.stem} {k}" for k in range(1, len(vectors) + 1)
    )  # fmt: skip
    return RDMs(
        vectors, titles, names, classes if len(classes) == count else ("",) * count, measure, by,
        str(file),
    )  # fmt: skip


def _above(file: Path, matrix: Matrix, number: int) -> Matrix:
    """Return the values above the diagonal of a matrix that is an RDM."""
    whole = np.asarray(matrix, np.float64)
    where = f"{file}, RDM {number + 1}," if number else f"{file}"
    diagonal, largest = np.diag(whole), float(np.nanmax(np.abs(whole), initial=0))
    if not _symmetric(whole):
        i, j = np.unravel_index(int(np.nanargmax(np.abs(whole - whole.T))), whole.shape)
        raise RepresentationError(
            f"{where} is not symmetric: {whole[i, j]:g} in row {i + 1}, column {j + 1}, and "
            f"{whole[j, i]:g} the other way. Give an RDM, or its mean with its transpose."
        )
    zero = np.isnan(diagonal) | (np.abs(diagonal) <= _SYMMETRY * largest)
    if not zero.all():
        hint = (
            "It looks like similarities; give 1 less each."
            if np.allclose(diagonal, diagonal[0], rtol=_SYMMETRY) and diagonal[0] >= largest * 0.999
            else "A condition is at 0 from itself."
        )
        raise RepresentationError(
            f"{where} has {diagonal[~zero][0]:g} on its diagonal, not 0. {hint}"
        )
    both = (whole + whole.T) / 2
    return np.asarray(both[np.triu_indices(len(whole), 1)])


READERS: dict[str, Callable[[Path, str], RDMs]] = {
    ".npy": _npy, ".mat": _mat, ".csv": _table, ".tsv": _table, ".h5": _hdf5, ".hdf5": _hdf5
}  # fmt: skip


def holds_rdms(file: Path) -> bool:
    """Return whether an HDF5 file has RDMs where rsatoolbox keeps them, rather than a store."""
    import h5py

    try:
        open_regular(file).close()
        with h5py.File(file, "r", locking=False) as source:
            return "dissimilarities" in source and "images" not in source
    except (ImageError, OSError, RuntimeError):
        return False
