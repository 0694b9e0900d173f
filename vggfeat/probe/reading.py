"""Features of a table as rows, read at once or, where they are too many, in blocks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.memory import available_memory

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable
    from vggfeat.solver.rows import Positions, Reader


class LayerRows:
    """Rows of a layer as vectors, a :class:`~vggfeat.solver.rows.Reader`.

    Parameters
    ----------
    table : FeatureTable
        Open as long as this is read.
    layer : str
        Canonical name.
    rows : ndarray of int64, shape (n,)
        Rows of the table, in any order, also repeated.

    Attributes
    ----------
    shape : (int, int)
        (n, d); maps (C, H, W) are vectors of length C * H * W.
    """

    def __init__(self, table: FeatureTable, layer: str, rows: Positions) -> None:
        self.table, self.layer, self.rows = table, layer, rows
        self.shape = len(rows), table.dimension(layer)

    def __getitem__(self, where: slice) -> npt.NDArray[np.float32]:
        """Read rows as float32.

        Raises
        ------
        ProbeError
            One of them is not finite.
        """
        rows, X = self.table.matrix(self.layer, self.rows[where])
        finite = np.isfinite(X).all(axis=1)
        if not finite.all():
            path = self.table.paths[rows[~finite][0]]
            raise ProbeError(
                f"{int((~finite).sum())} rows of {self.layer} in {self.table.path} hold NaN or "
                f"infinite values, the first for {path!r}. `vggfeat verify` lists damaged rows."
            )
        return X


def fits(rows: Reader, memory: int | None = None, copies: int = 2) -> bool:
    """Tell whether rows may be held in memory as float32.

    Parameters
    ----------
    rows : Reader of shape (n, d)
    memory : int, optional
        Bytes that there are; half of what is free by default.
    copies : int
        How often they are held at once; training holds them twice.
    """
    if memory is None:
        free = available_memory()
        memory = None if free is None else free // 2
    return memory is None or copies * 4 * math.prod(rows.shape) <= memory
