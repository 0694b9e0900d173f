"""Having rows computed again."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from vggfeat.store.following import redo_file
from vggfeat.store.parts import is_parted
from vggfeat.store.parts.working import redo_rows


def redo(path: str | os.PathLike[str], rows: npt.NDArray[np.int64]) -> None:
    """Mark rows pending, such as damaged ones, so that the next extraction does them again.

    Parameters
    ----------
    path : path
        The store, a file or a folder of parts.
    rows : ndarray of int64
        Row numbers, ascending.
    """
    if is_parted(path):
        redo_rows(path, rows)
    else:
        redo_file(path, rows)
