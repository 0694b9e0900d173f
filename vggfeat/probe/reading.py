"""Features of a store as the solver reads them, at once or, where they are too many, in blocks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.memory import available_memory
from vggfeat.solver.rows import Positions

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable


class StoreRows:
    """Rows of a layer as vectors, a :class:`~vggfeat.solver.rows.Reader`.

    Parameters
    ----------
    store : FeatureTable
        Open as long as this is read.
    layer : str
        Canonical name.
    rows : ndarray of int64, shape (n,)
        Rows of the store, ascending.

    Attributes
    ----------
    shape : (int, int)
        (n, d); maps (C, H, W) are vectors of length C * H * W.
    """

    def __init__(self, store: FeatureTable, layer: str, rows: Positions) -> None:
        self.store, self.layer, self.rows = store, layer, rows
        self.shape = len(rows), store.dimension(layer)

    def __getitem__(self, where: slice) -> npt.NDArray[np.float32]:
        """Read rows as float32.

        Raises
        ------
        ProbeError
            One of them is not finite.
        """
        rows, X = self.store.matrix(self.layer, self.rows[where])
        finite = np.isfinite(X).all(axis=1)
        if not finite.all():
            path = self.store.paths[rows[~finite][0]]
            raise ProbeError(
                f"{int((~finite).sum())} rows of {self.layer} in {self.store.path} hold NaN or "
                f"infinite values, the first for {path!r}. `vggfeat verify` lists damaged rows."
            )
        return X

    def fits(self, memory: int | None = None) -> bool:
        """Tell whether training may hold the rows in memory.

        Parameters
        ----------
        memory : int, optional
            Bytes that there are; half of what is free by default. Training holds them twice.
        """
        if memory is None:
            free = available_memory()
            memory = None if free is None else free // 2
        return memory is None or 2 * 4 * math.prod(self.shape) <= memory
