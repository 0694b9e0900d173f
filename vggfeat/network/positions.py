"""The fully connected layers at every position of a map: "dense", as convolutions.

Simonyan & Zisserman (arXiv 1409.1556), section 3.2 and appendix B, turn fc6 into a convolution
with kernels as large as the map it was trained on (7 x 7), and fc7 and fc8 into ones of 1 x 1.
A convolution is a matrix product over its windows, and so it is computed here: each window is a
row, the fully connected layers run over rows as they always do, and rows of images of differing
sizes share one product. No weights are reordered, and on an input of the network's own size, whose
map is a single window, it is the ordinary network to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
        At least those that `counts` names; zeros follow where they would be few.
    counts : list of (int, int)
        For each part how many inputs it has, and how many rows, or positions, each of these.
    """

    rows: Tensor
    counts: list[tuple[int, int]]

    def per_input(self, activation: Tensor) -> Tensor:
        """Average what a layer puts out over each input's positions.

        Parameters
        ----------
        activation : Tensor, (R, D)
            One row for each of `rows`.

        Returns
        -------
        Tensor, (inputs, D)
        """
        sizes = [inputs * positions for inputs, positions in self.counts]
        parts = torch.split_with_sizes(activation[: sum(sizes)], sizes)
        # (inputs * positions, D) -> (inputs, D)
        means = [
            part if counts[1] == 1 else part.reshape(*counts, -1).mean(1)
            for part, counts in zip(parts, self.counts, strict=True)
        ]
        return torch.cat(means)


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
    counts: list[tuple[int, int]] = []
    for part in parts:
        height, width = (size - grid + 1 for size in part.shape[2:]) if part.ndim == 4 else (1, 1)
        own = (len(part), height * width)
        if waiting and sum(n * p for n, p in [*counts, own]) > _ROWS:
            yield _portion(waiting, counts, grid, least)
            waiting, counts = [], []
        waiting.append(part)
        counts.append(own)
    if waiting:
        yield _portion(waiting, counts, grid, least)


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


def _portion(parts: list[Tensor], counts: list[tuple[int, int]], grid: int, least: int) -> Portion:
    laid = [windows(part, grid) if part.ndim == 4 else part for part in parts]
    rows = laid[0] if len(laid) == 1 else torch.cat(laid)
    missing = max(0, least - len(rows))
    return Portion(torch.nn.functional.pad(rows, (0, 0, 0, missing)) if missing else rows, counts)
