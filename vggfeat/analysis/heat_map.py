"""Heat maps: what each place of an image adds to a score.

Each network input gives a value for every cell of a layer's map. :meth:`HeatMap.of` lays the cells
of all inputs (crops, mirror images, scales) where they lie in the image and adds them up, so that
the sum over the image is the sum over all cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from vggfeat.errors import PlotError
from vggfeat.placements import Placement
from vggfeat.regions import Region

Values = npt.NDArray[np.float64]

SIDE = 256
"""Cells along the longer side of a heat map."""

SHARE = 0.8
"""Share of all that speaks for a score that a suggested box holds."""

_BOX_SIDE = 64  # steps of a suggested box along the longer side


class Cells(NamedTuple):
    """What one network input says.

    Attributes
    ----------
    values : ndarray of float64, shape (h, w)
        Of the cells of a layer's map.
    placement : Placement
        Where the input lies in the image.
    size : tuple of int
        Width and height of the input in pixels.
    stride : int
        Side of a cell in pixels of the input. Convolutions of VGG keep size, so it is 2 for each
        pooling before, and what is left of the input at its right and lower edge is in no cell.
    """

    values: Values
    placement: Placement
    size: tuple[int, int]
    stride: int


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """What each place of an image adds to a score.

    Attributes
    ----------
    values : ndarray of float64, shape (h, w)
        On a grid over the whole upright image.
    seen : ndarray of bool, shape (h, w)
        Places that lie in a cell of any input: not the margin that a centre crop leaves out.
    size : tuple of int
        Width and height of the image in pixels.
    cell : tuple of float
        Height and width of the smallest cell, in places of the grid.
    """

    values: Values
    seen: npt.NDArray[np.bool_]
    size: tuple[int, int]
    cell: tuple[float, float]

    @classmethod
    def of(cls, parts: Sequence[Cells], size: tuple[int, int]) -> Self:
        """Lay the cells of an image's inputs on one grid, and add them up.

        The value of a cell is shared among the places that it covers by their area.

        Parameters
        ----------
        parts : sequence of Cells
            At least one.
        size : tuple of int
            Width and height of the upright image.

        Raises
        ------
        PlotError
            Values are not finite.
        """
        width, height = size
        scale = SIDE / max(size)
        grid = max(1, round(height * scale)), max(1, round(width * scale))
        values, seen = np.zeros(grid), np.zeros(grid, bool)
        cells = []
        for part in parts:
            if not np.isfinite(part.values).all():
                raise PlotError("A map holds NaN or infinite values; there is nothing to show.")
            place, (across, down) = part.placement, part.size
            rows, columns = part.values.shape
            y = _edges(rows, part.stride, down, place.upper, place.height, height)
            x = _edges(columns, part.stride, across, place.left, place.width, width)
            own = part.values
            if place.mirrored:
                middle = 2 * place.left + place.width
                x, own = middle / width - x[::-1], own[:, ::-1]
            over_y, over_x = _shares(y, grid[0]), _shares(x, grid[1])
            values += over_y @ own @ over_x.T
            seen |= np.outer(over_y.any(axis=1), over_x.any(axis=1))
            cells.append((grid[0] * (y[1] - y[0]), grid[1] * (x[1] - x[0])))
        return cls(values, seen, size, min(cells))

    @property
    def total(self) -> float:
        """Sum over all places."""
        return float(self.values.sum())

    @property
    def favour(self) -> float:
        """Sum of what speaks for the score: of the places above 0."""
        return float(np.maximum(self.values, 0).sum())

    @property
    def against(self) -> float:
        """Sum of what speaks against it: of the places below 0."""
        return float(np.minimum(self.values, 0).sum())

    @property
    def peak(self) -> tuple[float, float]:
        """Where most speaks for the score: x and y in 0..1 of the image's sides."""
        dense = self.density()
        row, column = np.unravel_index(int(dense.argmax()), dense.shape)
        return (float(column) + 0.5) / dense.shape[1], (float(row) + 0.5) / dense.shape[0]

    def density(self) -> Values:
        """Return the map as it is drawn: smooth, and per hundredth of the image's area.

        The mean over a cell's size around each place, which makes of cells with hard edges what
        bilinear interpolation between their middles gives.
        """
        from scipy.ndimage import uniform_filter

        sides = [max(1, round(side)) for side in self.cell]
        smooth: Values = uniform_filter(self.values, sides, mode="nearest")
        return smooth * (self.values.size / 100)

    def share_within(self, box: Region) -> float:
        """Return the share of what speaks for the score that lies in a part of the image, 0..1."""
        left, upper, right, lower = box.within(*self.size)
        (height, width), (across, down) = self.values.shape, self.size
        rows = _shares(np.array([upper, lower]) / down, height) * (lower - upper) / down * height
        columns = _shares(np.array([left, right]) / across, width)
        columns = columns * (right - left) / across * width
        inside = rows[:, 0] @ np.maximum(self.values, 0) @ columns[:, 0]
        return float(inside / self.favour) if self.favour else 0.0

    def box(self, share: float = SHARE) -> Region | None:
        """Return the smallest box that holds a share of what speaks for the score.

        Its edges lie on a grid of 64 steps along the longer side; of boxes of one area it is the
        one that holds most.

        Parameters
        ----------
        share : float
            Above 0, at most 1.

        Returns
        -------
        Region or None
            In whole pixels of the upright image, as ``vggfeat search --box`` takes it. None where
            nothing speaks for the score.
        """
        if not 0 < share <= 1:
            raise PlotError(f"share is {share:g}; it must be above 0 and at most 1.")
        if not self.favour > 0:
            return None
        coarse = _coarser(np.maximum(self.values, 0), _BOX_SIDE)
        upper, lower, left, right = _smallest(coarse, share)
        rows, columns = coarse.shape
        width, height = self.size
        x, y = left * width // columns, upper * height // rows
        across, down = -(-right * width // columns) - x, -(-lower * height // rows) - y
        return Region(x, y, across, down)

    def to_json(self) -> dict[str, Any]:
        """Return it in short, JSON-ready: sums, the peak and the suggested box."""
        box = self.box()
        return {
            "total": self.total,
            "for": self.favour,
            "against": self.against,
            "peak": list(self.peak),
            "box": None if box is None else str(box),
        }


def rank_correlation(one: HeatMap, other: HeatMap) -> float:
    """Return Spearman's rank correlation of two maps of one image, over places that both see.

    Adebayo et al., "Sanity Checks for Saliency Maps" (NeurIPS 2018, arXiv 1810.03292), section 3,
    compare maps of trained and random weights by it.

    Returns
    -------
    float
        In -1..1; 0 where one of the maps is the same everywhere.

    Raises
    ------
    PlotError
        The maps are of images of different shapes.
    """
    from scipy.stats import spearmanr

    if one.values.shape != other.values.shape:
        raise PlotError("The maps are of images of different shapes; compare maps of one image.")
    both = one.seen & other.seen
    a, b = one.density()[both], other.density()[both]
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a, b).statistic)


def _edges(cells: int, stride: int, pixels: int, start: float, length: float, whole: int) -> Values:
    """Return the edges of cells along a side, as shares of the image's side."""
    inside = np.minimum(np.arange(cells + 1) * stride, pixels) / pixels
    return np.asarray((start + inside * length) / whole)


def _shares(edges: Values, places: int) -> Values:
    """Return which share of each cell (c + 1 edges, in 0..1) lies in each place, (places, c)."""
    at = np.clip(edges, 0, 1) * places
    low, high = np.arange(places)[:, None], np.arange(1, places + 1)[:, None]
    overlap = np.clip(np.minimum(high, at[1:]) - np.maximum(low, at[:-1]), 0, None)
    sums = overlap.sum(axis=0)
    return np.asarray(overlap / np.where(sums > 0, sums, 1))


def _coarser(values: Values, side: int) -> Values:
    """Add up places, to at most `side` along the longer side."""
    step = max(1, -(-max(values.shape) // side))
    for axis in (0, 1):
        values = np.add.reduceat(values, np.arange(0, values.shape[axis], step), axis=axis)
    return values


def _smallest(values: Values, share: float) -> tuple[int, int, int, int]:
    """Return upper, lower, left and right edge of the smallest box that holds a share."""
    rows, columns = values.shape
    wanted = share * values.sum() * (1 - 1e-9)
    down = np.vstack([np.zeros(columns), values.cumsum(axis=0)])
    best, found = (rows * columns + 1, 0.0), (0, rows, 0, columns)
    for upper in range(rows):
        for lower in range(upper + 1, rows + 1):
            along = np.concatenate([[0.0], np.cumsum(down[lower] - down[upper])])
            if along[-1] < wanted:
                continue
            # For each left edge the nearest right one with enough between them.
            right = np.searchsorted(along, along[:-1] + wanted)
            enough = np.flatnonzero(right <= columns)
            held = along[right[enough]] - along[enough]
            areas = (right[enough] - enough) * (lower - upper)
            first = np.lexsort((-held, areas))[0]
            if (one := (int(areas[first]), -float(held[first]))) < best:
                best, left = one, int(enough[first])
                found = (upper, lower, left, int(right[left]))
    return found
