"""How labels are coded everywhere inside: 1 present, 0 absent, -1 left out or unknown.

Floats have NaN instead of -1. Files of others, and stores, have VOC's code, in which 0 and -1 swap
meaning: 1 present, -1 absent, 0 left out. They are converted where they are read and written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

PRESENT, ABSENT, UNKNOWN = 1, 0, -1


def from_signs(signs: npt.ArrayLike) -> npt.NDArray[np.int8]:
    """Turn labels as VOC's files and stores have them into codes.

    Parameters
    ----------
    signs : array_like, any shape
        1 present, -1 absent, 0 difficult, left out or unknown.

    Returns
    -------
    ndarray of int8, of that shape
        1 present, 0 absent, -1 left out or unknown.

    Raises
    ------
    ValueError
        There is another value.
    """
    values = np.asarray(signs)
    if not np.isin(values, (-1, 0, 1)).all():
        raise ValueError("labels hold other values than 1 (present), -1 (absent), 0 (left out)")
    codes = np.array([UNKNOWN, PRESENT, ABSENT], np.int8)  # of 0, 1 and, from the end, -1
    return np.asarray(codes[values.astype(np.int8)])


def to_signs(codes: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """Turn codes into labels as stores have them, the opposite of :func:`from_signs`."""
    signs = np.array([-1, 1, 0], np.int8)  # of ABSENT, PRESENT and, from the end, UNKNOWN
    return np.asarray(signs[codes])


def as_floats(codes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Turn codes into what probes and metrics take: 1 present, 0 absent, NaN left out."""
    return np.where(codes == UNKNOWN, np.nan, codes == PRESENT)
