"""The fully connected layers at every position of a map: "dense", as convolutions.

Simonyan & Zisserman (arXiv 1409.1556), section 3.2 and appendix B, turn fc6 into a convolution
with kernels as large as the map it was trained on (7 x 7), and fc7 and fc8 into ones of 1 x 1.
A convolution is a matrix product over its windows, and so it is computed here: each window is a
row, the fully connected layers run over rows as they always do, and rows of images of differing
sizes share one product. No weights are reordered, and on an input of the network's own size, whose
map is a single window, it is the ordinary network to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_ROWS = 512
"""Rows of several parts that run together at most: their windows take 51 MB for VGG."""


class Portion(NamedTuple):
    """Rows that run through the fully connected layers together.

    Attributes
    ----------
    rows : Tensor, (R, D)
        At least those that `shapes` names; zeros follow where they would be few.
    shapes : list of tuple of int
        For each part (inputs,), or (inputs, height, width) of its positions.
    """

    rows: Tensor
    shapes: list[tuple[int, ...]]

    def split(self, activation: Tensor) -> Iterator[Tensor]:
        """Give each part its own of what a layer puts out.

        Parameters
        ----------
        activation : Tensor, (R, D)
            One row for each of `rows`.

        Yields
        ------
        Tensor, (inputs, D) or (inputs, D, height, width)
        """
        sizes = [math.prod(shape) for shape in self.shapes]
        parts = torch.split_with_sizes(activation[: sum(sizes)], sizes)
        for part, shape in zip(parts, self.shapes, strict=True):
            yield part.reshape(*shape, -1).movedim(-1, 1)

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """Lay out as rows (R, D) what :meth:`split` gave."""
        rows = torch.cat([part.movedim(1, -1).flatten(0, -2) for part in parts])
        return torch.nn.functional.pad(rows, (0, 0, 0, len(self.rows) - len(rows)))


def portions(parts: Iterable[Tensor], grid: int, least: int = 1) -> Iterator[Portion]:
    """Lay out what the fully connected layers see, in portions that bound memory.

    Parameters
    ----------
    parts : iterable of Tensor
        (b, D), one row an input, or maps (b, C, H, W), of whose every window of `grid` x `grid`
        a row is made. Parts stay whole.
    grid : int
        Side of the map that the first fully connected layer was trained on.
    least : int
        Rows that a portion has at least, zeros if need be. Matrix libraries pick other kernels,
        with other rounding, for a handful of rows; with enough of them, an image's features do
        not depend on how many images share its batch.

    Yields
    ------
    Portion
        All parts, in their order.
    """
    waiting: list[Tensor] = []
    shapes: list[tuple[int, ...]] = []
    for part in parts:
        own = (len(part), *(size - grid + 1 for size in part.shape[2:]))
        if waiting and sum(map(math.prod, [*shapes, own])) > _ROWS:
            yield _portion(waiting, shapes, grid, least)
            waiting, shapes = [], []
        waiting.append(part)
        shapes.append(own)
    if waiting:
        yield _portion(waiting, shapes, grid, least)


def windows(maps: Tensor, grid: int) -> Tensor:
    """Make a row of every window of a map, as ``flatten`` makes one of a whole map.

    Parameters
    ----------
    maps : Tensor, (B, C, H, W)
    grid : int
        Side of the square windows; neighbours are one step apart.

    Returns
    -------
    Tensor, (B * (H - grid + 1) * (W - grid + 1), C * grid * grid)
        Image by image, row by row, from left to right.
    """
    cut = maps.contiguous().unfold(2, grid, 1).unfold(3, grid, 1)
    # (B, C, h, w, grid, grid) -> (B, h, w, C, grid, grid) -> (B * h * w, C * grid * grid)
    return cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)


def _portion(parts: list[Tensor], shapes: list[tuple[int, ...]], grid: int, least: int) -> Portion:
    laid = [windows(part, grid) if part.ndim == 4 else part for part in parts]
    rows = laid[0] if len(laid) == 1 else torch.cat(laid)
    missing = max(0, least - len(rows))
    return Portion(torch.nn.functional.pad(rows, (0, 0, 0, missing)) if missing else rows, shapes)
