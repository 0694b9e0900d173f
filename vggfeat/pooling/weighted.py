"""Sums over space in which some places, and some channels, count for more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vggfeat.pooling.base import Pooling
from vggfeat.pooling.sharing import weighted

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SPoC(Pooling):
    """Sum pooling with a centring prior; (C,).

    For each channel the sum over space of ``w(y, x) * f(y, x)`` with
    ``w = exp(-(dy ** 2 + dx ** 2) / (2 * sigma ** 2))``, where (dy, dx) leads from the map's
    centre to the middle of the cell, in cells, and sigma is a third of the distance from the
    centre to the nearest border, ``min(H, W) / 6``: Babenko and Lempitsky, "Aggregating Deep
    Convolutional Features for Image Retrieval" (ICCV 2015, arXiv 1510.07493).
    Distances are taken to the cells' middles, so that a mirrored map has the same feature; the
    paper's ``H / 2`` leaves open where a cell lies.

    The authors take the last convolutional layer, after its ReLU. Being linear it suits any
    layer. The sum is not normalised, and the paper's PCA whitening, which must be learnt from
    other images, is not part of it.
    """

    name: ClassVar[str] = "spoc"
    usage: ClassVar[str] = "spoc"
    summary: ClassVar[str] = "sum, the centre counting for more"

    def __call__(self, maps: Tensor) -> Tensor:
        """Pool maps."""
        return (maps * self._prior(maps)).sum(dim=(2, 3))  # (B, C)

    def contributions(self, maps: Tensor, weights: Tensor) -> Tensor:
        """Weigh each value by the prior of its position."""
        return weighted(maps * self._prior(maps), weights)

    @staticmethod
    def _prior(maps: Tensor) -> Tensor:
        height, width = maps.shape[2:]
        sigma = min(height, width) / 6

        def bell(cells: int) -> Tensor:
            places = [((i - (cells - 1) / 2) / sigma) ** 2 / -2 for i in range(cells)]
            return maps.new_tensor(places).exp()

        return bell(height)[:, None] * bell(width)  # (H, W)


@dataclass(frozen=True)
class CroW(Pooling):
    """Cross-dimensional weighting; (C,).

    For channel k ``I_k * (sum over space of S * X_k)``: Kalantidis, Mellina and Osindero,
    "Cross-dimensional Weighting for Aggregated Deep Convolutional Features" (ECCV 2016
    workshops, arXiv 1512.04065), with weights of the image's own:

    - of places: ``S = sqrt(S' / sqrt(sum over space of S' ** 2))``, where S' is the sum of the
      channels (the paper's a = b = 2);
    - of channels: ``I_k = log((K * e + sum of all Q) / (e + Q_k))``, where Q_k is the share of
      places with ``X_k > 0`` of channel k, K the number of channels, and e = 1e-6. Rarely active
      channels count for more, like rare words.

    It is meant for maps that are not negative and mostly zero, such as ``relu5_3`` and ``pool5``
    (the authors take pool5 of VGG-16). Negative values of linear layers count as 0, so that
    ``conv5_3`` gives what ``relu5_3`` gives. The sum is not normalised, and the paper's PCA
    whitening, which must be learnt from other images, is not part of it.
    """

    name: ClassVar[str] = "crow"
    usage: ClassVar[str] = "crow"
    summary: ClassVar[str] = "sum, active places and rare channels counting for more"

    def __call__(self, maps: Tensor) -> Tensor:
        """Pool maps."""
        terms, rarity = self._weighed(maps)
        return terms.sum(dim=(2, 3)) * rarity

    def contributions(self, maps: Tensor, weights: Tensor) -> Tensor:
        """Weigh each value by the image's own weights of its place and its channel."""
        terms, rarity = self._weighed(maps)
        return weighted(terms * rarity[:, :, None, None], weights)

    @staticmethod
    def _weighed(maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return values weighed by place, (B, C, H, W), and the weights of channels, (B, C)."""
        epsilon, tiny = 1e-6, 1e-30  # the latter keeps 0 / 0 from maps that are 0 all over
        active = maps.clamp(min=0)
        places = active.sum(dim=1, keepdim=True)  # (B, 1, H, W)
        places = places / places.amax(dim=(2, 3), keepdim=True).clamp(min=tiny)
        length = places.square().sum(dim=(2, 3), keepdim=True).sqrt().clamp(min=tiny)
        counts = (active > 0).to(maps.dtype).sum(dim=(2, 3))  # (B, C)
        cells, channels = maps.shape[2] * maps.shape[3], maps.shape[1]
        own, others = counts / cells, (counts.sum(dim=1, keepdim=True) - counts) / cells
        # The quotient less 1, as it is all but 1 where no other channel is active.
        rarity = ((others + (channels - 1) * epsilon) / (own + epsilon)).log1p()
        return active * (places / length).sqrt(), rarity
