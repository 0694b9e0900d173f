"""What makes an array that somebody gives RDMs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import RepresentationError
from vggfeat.representations.distances import condition_count
from vggfeat.representations.rdms import RDMs

Matrix = npt.NDArray[Any]

_SYMMETRY = 1e-5
"""By which share of its largest value an RDM may differ from its transpose: float32 and rounding
in text."""


def checked_rdms(
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
        vectors = _rows_of_pairs(file, np.atleast_2d(np.asarray(stack, np.float64)))
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


def _rows_of_pairs(file: Path, vectors: Matrix) -> Matrix:
    """Return (r, pairs), also where it is given as (pairs, r) and cannot be the other."""
    first, last = (condition_count(size) for size in vectors.shape)
    if last is not None and (first is None or vectors.shape[1] >= vectors.shape[0]):
        return vectors
    if first is None:
        raise RepresentationError(
            f"{file} is of shape {vectors.shape}; neither is a number of pairs, n (n - 1) / 2. "
            "Give (n, n), or (r, n (n - 1) / 2) for r RDMs."
        )
    if last is None or vectors.shape[1] == 1:
        return vectors.T
    raise RepresentationError(
        f"{file} is of shape {vectors.shape}, which may be {vectors.shape[0]:,} RDMs of {last} "
        f"conditions or {vectors.shape[1]:,} of {first}. Save it transposed, or as (r, n, n)."
    )


def _above(file: Path, matrix: Matrix, number: int) -> Matrix:
    """Return the values above the diagonal of a matrix that is an RDM."""
    whole = np.asarray(matrix, np.float64)
    where = f"{file}, RDM {number + 1}," if number else f"{file}"
    diagonal, largest = np.diag(whole), float(np.nanmax(np.abs(whole), initial=0))
    if not symmetric(whole):
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


def symmetric(matrix: Matrix) -> bool:
    """Return whether a matrix equals its transpose, but for rounding."""
    largest = float(np.nanmax(np.abs(matrix))) if matrix.size else 0.0
    return bool(np.allclose(matrix, matrix.T, rtol=0, atol=_SYMMETRY * largest, equal_nan=True))
