"""Maxima of regions: summed (R-MAC), or side by side (spatial pyramid)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

from vggfeat.layers import Shape
from vggfeat.pooling.base import Pooling
from vggfeat.pooling.sharing import at_maximum, weighted

if TYPE_CHECKING:
    from torch import Tensor

_OVERLAP = Fraction(2, 5)


@dataclass(frozen=True)
class RMAC(Pooling):
    """Regional maximum activations of convolutions; (C,), of length 1.

    Each square region of :func:`rmac_regions` gives the vector of its channels' maxima; these
    are L2-normalised, summed, and the sum is L2-normalised: Tolias, Sicre and Jégou, "Particular
    Object Retrieval with Integral Max-Pooling of CNN Activations" (ICLR 2016, arXiv 1511.05879).
    The paper PCA-whitens the regions' vectors before they are summed, with a
    whitening learnt from other images; that is not part of it, and the paper's numbers are not
    to be expected without it. A region whose maxima are all 0 adds nothing, and a map that is 0
    all over gives 0.

    The authors take the last convolutional layer of the network, rectified; ``relu5_3`` and
    ``pool5`` are that. Of linear layers the maxima may be negative, which the paper did not mean.

    Attributes
    ----------
    levels : int
        L, the number of sizes of regions, at least 1.

    Raises
    ------
    LayerError
        `levels` is out of its range.
    """

    name: ClassVar[str] = "rmac"
    usage: ClassVar[str] = "rmac[:L]"
    summary: ClassVar[str] = "maxima of regions of L = 3 sizes, normalised and summed"
    refusal: ClassVar[str] = "rmac's L is {given!r}; give a whole number from 1 on, as in rmac:3."

    levels: int = 3

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise self.refused(str(self.levels))

    def __call__(self, maps: Tensor) -> Tensor:
        """Pool maps."""
        total = maps.new_zeros(maps.shape[:2])  # (B, C)
        for side, tops, lefts in rmac_regions(maps.shape[2], maps.shape[3], self.levels):
            for top in tops:
                band = maps[:, :, top : top + side].amax(dim=2)  # (B, C, H, W) -> (B, C, W)
                for left in lefts:
                    total = total + _unit(band[:, :, left : left + side].amax(dim=2))
        return _unit(total)

    def contributions(self, maps: Tensor, weights: Tensor) -> Tensor:
        """Give each region's maxima, by their weight in the feature, to where they are."""
        total = maps.new_zeros(maps.shape[:2])  # (B, C), as above
        found = maps.new_zeros(len(maps), *maps.shape[2:])
        for side, tops, lefts in rmac_regions(maps.shape[2], maps.shape[3], self.levels):
            for top in tops:
                for left in lefts:
                    place = slice(top, top + side), slice(left, left + side)
                    region = maps[:, :, *place]
                    largest = region.amax(dim=(2, 3))
                    total = total + _unit(largest)
                    own = weighted(at_maximum(region), weights)
                    found[:, *place] += own / _length(largest)[:, :, None]
        return found / _length(total)[:, :, None]

    @staticmethod
    def parsed(parameter: str) -> tuple[int]:
        """Return the number of sizes that a text such as ``"3"`` says."""
        return (int(parameter),)

    @property
    def parameter(self) -> str:
        """The number of sizes."""
        return str(self.levels)


def rmac_regions(
    height: int, width: int, levels: int
) -> Iterator[tuple[int, list[int], list[int]]]:
    """Give the regions of R-MAC, size by size.

    Regions of size l = 1, 2, ..., `levels` are squares with a side of
    ``2 * min(height, width) / (l + 1)``, rounded down; l of them are spread evenly along the
    map's shorter side and ``l + m - 1`` along its longer one. m is 1 for a square map and
    otherwise at least 2: the number with which neighbours of size 1 overlap by as near to 40 %
    as can be (the smaller one of two that are as near).

    Positions are rounded down, as in the authors' code, which also has one more region, the
    whole map, and at most 7 for m; the paper has neither.

    Parameters
    ----------
    height, width : int
        Of the map, at least 1.
    levels : int
        Number of sizes.

    Yields
    ------
    side : int
        Of the squares; sizes that would round to 0 are left out.
    tops, lefts : list of int
        First rows and first columns; a region for each pair. On maps of a few cells two regions
        may coincide, and then count twice.
    """
    short, long = sorted((height, width))
    m = _along_longer_side(short, long)
    for level in range(1, min(levels, 2 * short - 1) + 1):
        side = 2 * short // (level + 1)
        yield (
            side,
            _spread(height, side, level + (m - 1) * (height > width)),
            _spread(width, side, level + (m - 1) * (width > height)),
        )


def _along_longer_side(short: int, long: int) -> int:
    if short == long:
        return 1

    def miss(m: int) -> Fraction:
        return abs(1 - Fraction(long - short, short * (m - 1)) - _OVERLAP)

    enough = 3 + int(Fraction(long - short, short) / (1 - _OVERLAP))
    return min(range(2, enough + 1), key=miss)


def _spread(cells: int, side: int, count: int) -> list[int]:
    return [i * (cells - side) // max(count - 1, 1) for i in range(count)]


def _unit(vectors: Tensor) -> Tensor:
    return vectors / _length(vectors)


def _length(vectors: Tensor) -> Tensor:
    """Return what rows (B, C) are divided by to have length 1, (B, 1)."""
    return vectors.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-12)


@dataclass(frozen=True)
class SpatialPyramid(Pooling):
    """Maxima of the cells of several grids, side by side; (C * sum of the squared levels,).

    Level n divides the map into n x n bins: row i has ``floor(i * H / n)`` up to
    ``ceil((i + 1) * H / n)``, and so the columns; bins overlap by a cell where n does not divide
    the size, and none is empty, however small the map. He, Zhang, Ren and Sun, "Spatial Pyramid
    Pooling in Deep Convolutional Networks for Visual Recognition" (ECCV 2014, arXiv 1406.4729),
    section 2.2 and, for the bins, appendix A. The authors put it after the last convolutional
    layer, rectified; maxima of linear layers are as good.

    A feature holds level after level, in the order given; within a level it is (C, n, n).

    Attributes
    ----------
    levels : tuple of int
        Bins along a side, each at least 1 and given once.

    Raises
    ------
    LayerError
        `levels` is empty or out of its range.
    """

    name: ClassVar[str] = "spp"
    usage: ClassVar[str] = "spp[:1,2,4]"
    summary: ClassVar[str] = "maxima of 1 x 1, 2 x 2 and 4 x 4 bins"
    refusal: ClassVar[str] = (
        "spp's levels are {given!r}; give whole numbers from 1 on, each once, as in spp:1,2,4 "
        "or spp:1+2+4."
    )

    levels: tuple[int, ...] = (1, 2, 4)

    def __post_init__(self) -> None:
        levels = self.levels
        if not levels or min(levels) < 1 or len(set(levels)) < len(levels):
            raise self.refused(self.parameter)

    def __call__(self, maps: Tensor) -> Tensor:
        """Pool maps."""
        import torch

        bins = (torch.nn.functional.adaptive_max_pool2d(maps, n) for n in self.levels)
        return torch.cat([grid.flatten(1) for grid in bins], dim=1)  # (B, C, n, n) -> (B, ...)

    def contributions(self, maps: Tensor, weights: Tensor) -> Tensor:
        """Give the maximum of each bin to where it is."""
        (height, width), channels = maps.shape[2:], maps.shape[1]
        found = maps.new_zeros(len(maps), height, width)
        start = 0
        for n in self.levels:
            own = weights[start : start + channels * n * n].view(channels, n, n)
            start += own.numel()
            for i in range(n):
                rows = slice(i * height // n, -(-(i + 1) * height // n))
                for j in range(n):
                    place = rows, slice(j * width // n, -(-(j + 1) * width // n))
                    found[:, *place] += weighted(at_maximum(maps[:, :, *place]), own[:, i, j])
        return found

    def shape(self, shape: Shape) -> Shape:
        """Return (C * sum of the squared levels,)."""
        return (shape[0] * sum(n * n for n in self.levels),)

    @staticmethod
    def parsed(parameter: str) -> tuple[tuple[int, ...]]:
        """Return the levels that a text such as ``"1,2,4"`` or ``"1+2+4"`` says."""
        return (tuple(int(level) for level in parameter.replace("+", ",").split(",")),)

    @property
    def parameter(self) -> str:
        """The levels, with ``+`` between them: a comma would end it in a list of layers."""
        return "+".join(map(str, self.levels))
