"""Euclidean lengths of rows, however large or small their numbers are."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

_Float = TypeVar("_Float", bound=np.floating[Any])


def row_norms(X: npt.NDArray[_Float]) -> npt.NDArray[_Float]:
    """Return the length of each row, (n, d) to (n,); NaN where a row holds NaN or infinity."""
    scaled, largest = _scaled(X, None)
    return np.asarray(largest * np.linalg.norm(scaled, axis=1))


def unit_length(
    X: npt.NDArray[_Float], *, out: npt.NDArray[_Float] | None = None
) -> npt.NDArray[_Float]:
    """Scale rows (n, d) to length 1, rows of zeros excepted; the kind of float stays.

    Parameters
    ----------
    X : ndarray of float, shape (n, d)
    out : ndarray of the same shape and type, optional
        Takes the result; `X` itself may do so.
    """
    scaled, _ = _scaled(X, out)
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    scaled /= np.where(lengths > 0, lengths, 1)
    return scaled


def _scaled(
    X: npt.NDArray[_Float], out: npt.NDArray[_Float] | None
) -> tuple[npt.NDArray[_Float], npt.NDArray[_Float]]:
    """Divide each row by its largest number, if that is not 0; return these numbers, too."""
    largest = np.maximum(X.max(axis=1, initial=0), -X.min(axis=1, initial=0))
    divisors = np.where(largest > 0, largest, largest.dtype.type(1))
    return np.divide(X, divisors[:, None], out=out), largest
