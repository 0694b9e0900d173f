"""Which of many points can have thumbnails without one hiding another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]


class Places:
    """Squares of one size, each centred on its point, of which no two overlap.

    Parameters
    ----------
    points : ndarray of float64, shape (n, 2)
        Where the squares' centres would be.
    side : float
        Of a square, in the unit of the points.
    """

    def __init__(self, points: Points, side: float) -> None:
        self.points, self.side = points, side
        self._cells: dict[tuple[int, int], int] = {}  # a cell can hold one centre

    def take(self, candidates: Sequence[int], most: int) -> list[int]:
        """Give places to candidates that are free of those taken before, first come first served.

        Parameters
        ----------
        candidates : sequence of int
            Numbers of points, in the order in which they are asked.
        most : int
            At most so many places are given.

        Returns
        -------
        list of int
            Candidates that now have a place.
        """
        taken: list[int] = []
        for number in candidates:
            if len(taken) >= most:
                break
            cell = self._cell(number)
            if self._free(number, cell):
                self._cells[cell] = number
                taken.append(number)
        return taken

    def give_back(self, number: int) -> None:
        """Make the place of a point free again."""
        del self._cells[self._cell(number)]

    def _cell(self, number: int) -> tuple[int, int]:
        x, y = self.points[number] // self.side
        return int(x), int(y)

    def _free(self, number: int, cell: tuple[int, int]) -> bool:
        x, y = self.points[number]
        for column in range(cell[0] - 1, cell[0] + 2):
            for row in range(cell[1] - 1, cell[1] + 2):
                other = self._cells.get((column, row))
                if other is not None:
                    apart = np.abs(self.points[other] - (x, y)).max()
                    if apart < self.side:
                        return False
        return True
