"""The Newton systems of many columns: each is solved in the way that takes fewest multiplications.

Conjugate gradients share each product with the rows among all columns, and take a few iterations
where C is small and some dozens where it is large, when a column's own few active rows decide and
what all have in common says little. Those rows are then few enough for a factorisation. How many
iterations a column will take is told by how many it took last, along the whole path of values of C.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vggfeat.solver.conjugate import FORCING, conjugate_gradients
from vggfeat.solver.deflation import Deflation
from vggfeat.solver.factors import CACHED_BYTES, Factors
from vggfeat.solver.losses import Curvature, Diagonal, Loss, SquaredHinge
from vggfeat.solver.rows import Floats, Positions
from vggfeat.solver.spaces import Space

_STARTING, _A_PAIR, _ITERATING = 6e6, 20, 2e6
"""Multiply-adds that fit into the time that a factorisation takes beside its own; that it takes for
each pair of its rows to be copied and bordered; and that an iteration takes beside its own for all
columns. Measured with 100 to 1,000 rows."""

Array = npt.NDArray[np.float64]


class Systems:
    """Newton systems in a space, of columns that are known by numbers.

    Parameters
    ----------
    space : Space
        Of n rows.
    deflation : Deflation, optional
        Of `space`; made by default.
    seed : int
        Of the deflation that is made.
    """

    def __init__(self, space: Space, deflation: Deflation | None = None, *, seed: int = 0) -> None:
        self.space = space
        self.deflation = Deflation(space, seed) if deflation is None else deflation
        self._factors = Factors(space)
        directions = len(self.deflation.values)
        self._iteration_cost = space.product_cost + 2.0 * space.dimension * directions
        self._taken: dict[int, int] = {}

    @property
    def precise(self) -> bool:
        """Whether steps are searched for in double precision."""
        return self.space.working == np.float64

    def in_double(self) -> Systems:
        """Return the same in double precision."""
        return Systems(self.space.precise(), self.deflation)

    def fresh(self) -> None:
        """Forget factors, whose curvature was that of another loss."""
        self._factors = Factors(self.space)

    def step(self, loss: Loss, names: Positions, f: Array, g: Array) -> tuple[Floats, Floats]:
        """Return the Newton step of each column.

        Parameters
        ----------
        loss : Loss
            Of m columns.
        names : ndarray of int64, shape (groups,)
            What they are known by in all steps.
        f : ndarray of float64, shape (n, m)
            Scores.
        g : ndarray of float64, shape (dimension, m)
            Gradients.

        Returns
        -------
        d : ndarray of shape (dimension, m)
        Fd : ndarray of shape (n, m)
            The scores of `d`.
        """
        curvature, low = loss.curvature(f, self.space.working), g.astype(self.space.working)
        if not (isinstance(loss, SquaredHinge) and isinstance(curvature, Diagonal)):
            return self._iterated(names, curvature, low, loss.width)
        few = np.flatnonzero(self.factorised(names, curvature))
        if not len(few):
            return self._iterated(names, curvature, low, 1)
        d, Fd = np.zeros_like(low), np.zeros(f.shape, low.dtype)
        steps, done = self._factors.step(names[few], curvature.take(few), low[:, few])
        few = few[done]
        d[:, few] = steps[:, done]
        Fd[:, few] = self.space.fast(d[:, few])
        many = np.setdiff1d(np.arange(len(names)), few)
        if len(many):
            d[:, many], Fd[:, many] = self._iterated(
                names[many], curvature.take(many), low[:, many], 1
            )
        return d, Fd

    def factorised(self, names: Positions, curvature: Diagonal) -> npt.NDArray[np.bool_]:
        """Tell for which columns a factorisation takes fewer multiply-adds than iterations."""
        s = (curvature.D > 0).sum(axis=0).astype(np.float64)
        # a factor serves two steps or more
        factor = _STARTING + _A_PAIR * s**2 + (self.space.block_cost(s) + s**3 / 6) / 2
        factor[8 * s**2 > CACHED_BYTES] = np.inf
        # Iterations for a share of the gradient grow with the root of the condition that the
        # preconditioner leaves; 3 was found by counting.
        condition = 1 + curvature.scale * self.deflation.rest
        first = 3 * np.sqrt(condition) * np.log(2 / FORCING)
        known = np.array([self._taken.get(name, -1) for name in names.tolist()])
        iterations = np.where(known >= 0, known, first)
        each = self._iteration_cost + _ITERATING / len(names)
        return np.asarray(self._factors.holds(names) | (factor < iterations * each))

    def _iterated(
        self, names: Positions, curvature: Curvature, g: Floats, width: int
    ) -> tuple[Floats, Floats]:
        d, Fd, taken = conjugate_gradients(self.space, curvature, g, self.deflation, width)
        self._taken.update(zip(names.tolist(), taken.tolist(), strict=True))
        return d, Fd
