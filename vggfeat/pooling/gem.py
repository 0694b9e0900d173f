"""Generalised mean: from the average to the maximum, by one exponent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vggfeat.pooling.base import Pooling
from vggfeat.pooling.sharing import weighted

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GeM(Pooling):
    """Generalised-mean pooling; (C,).

    For each channel ``(mean over space of max(x, EPSILON) ** p) ** (1 / p)``: equation 3 of
    Radenović, Tolias and Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation"
    (TPAMI 2018, arXiv 1711.02512). With p = 1 it is the mean, and it approaches the maximum as p
    grows. The authors put it after the last convolution's ReLU and begin with p = 3.

    It is meant for maps that are not negative, such as ``relu5_3`` and ``pool5``. Smaller values,
    which linear layers such as ``conv5_3`` have, are raised to :data:`EPSILON`, as in the
    authors' code; so a channel that is never active becomes 1e-6, not 0. Neither the paper's
    final L2 normalisation nor its whitening is part of it.

    Attributes
    ----------
    p : float
        The exponent, finite and above 0. Powers are taken of x over the channel's maximum, so
        that no p overflows; for p below 1 the relative error grows as about 1e-7 / p.

    Raises
    ------
    LayerError
        `p` is out of its range.
    """

    name: ClassVar[str] = "gem"
    usage: ClassVar[str] = "gem[:P]"
    summary: ClassVar[str] = "generalised mean, exponent P = 3"
    refusal: ClassVar[str] = "gem's P is {given!r}; give a finite number above 0, as in gem:3."

    EPSILON: ClassVar[float] = 1e-6
    """Smaller values are raised to this one."""

    p: float = 3.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.p) and self.p > 0):
            raise self.refused(f"{self.p:g}")

    def __call__(self, maps: Tensor) -> Tensor:
        """Pool maps."""
        positive = maps.clamp(min=self.EPSILON)
        top = positive.amax(dim=(2, 3), keepdim=True)
        mean = (positive / top).pow(self.p).mean(dim=(2, 3))
        return top[:, :, 0, 0] * mean.pow(1 / self.p)  # (B, C)

    def contributions(self, maps: Tensor, weights: Tensor) -> Tensor:
        """Divide a channel's generalised mean by the powers of its values."""
        positive = maps.clamp(min=self.EPSILON)
        powers = (positive / positive.amax(dim=(2, 3), keepdim=True)).pow(self.p)
        shares = powers / powers.sum(dim=(2, 3), keepdim=True)
        return weighted(shares * self(maps)[:, :, None, None], weights)

    @staticmethod
    def parsed(parameter: str) -> tuple[float]:
        """Return the exponent that a text such as ``"2.5"`` says."""
        return (float(parameter),)

    @property
    def parameter(self) -> str:
        """The exponent, in as few digits as give it back."""
        return repr(float(self.p)).removesuffix(".0")
