"""Whose filters these are, and in which order they see the channels: told by their values.

The scale of the first layer does not tell networks apart, as far as printed values show: the
authors' filters, which see 0..255, and torchvision's, which see about -2..2, both have weights of
about 0.3, and the difference of 60 is spread over the layers that follow. But values of the first
filter have been printed in public often enough to know these networks by them, in whatever format,
precision and company they come; and as the authors' filter was printed in both orders of the
channels, so is the order.

The values below are from such printed output (Keras's ``get_weights`` and a port's unit test for
the authors' networks in BGR order, a Julia port's for MatConvNet's RGB order, PyTorch's printed
state dicts for torchvision's), not from the files. Those of the authors' 16-layer network were
compared with the network itself since: they equal its filter to the last digit
(:mod:`vggfeat.network.figures`). The others are as printed, not verified.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggfeat.preprocessing import CAFFE, CAFFE_RGB, TORCHVISION, Preprocessing

_ = float("nan")  # not printed anywhere that was found

_AUTHORS_16 = (  # channels in the order B, G, R
    ((0.42947057, 0.373467, -0.06136011), (0.27476987, 0.03868078, -0.36722335),
     (-0.05746817, -0.26224968, -0.35009676)),
    ((0.55037946, _, _), (_, _, _), (_, _, _)),
    ((0.4800154, _, _), (_, _, _), (_, _, _)),
)  # fmt: skip
_AUTHORS_19 = (  # channels in the order B, G, R
    ((0.341195, 0.339992, -0.0448442), (0.232159, 0.0897821, -0.303314),
     (-0.0726092, -0.246675, -0.336833)),
    ((0.464184, _, _), (_, _, _), (_, _, _)),
    ((_, _, _), (_, _, _), (_, _, _)),
)  # fmt: skip
_TORCHVISION_16 = (  # channels in the order R, G, B
    ((-0.5537, 0.1427, 0.5290), (-0.5831, 0.3566, 0.7657), (-0.6902, -0.0480, 0.4841)),
    ((0.1755, 0.0099, -0.0814), (0.0441, -0.0703, -0.2604), (0.1324, -0.1728, -0.1323)),
    ((0.3130, -0.1659, -0.4275), (0.4752, -0.0827, -0.4870), (0.6320, 0.0193, -0.2775)),
)
_TORCHVISION_19 = (  # channels in the order R, G, B
    ((-0.053474, -0.049257, -0.067942), (0.015314, 0.045068, 0.0021444),
     (0.036226, 0.019999, 0.019864)),
    ((0.017015, 0.055403, -0.0062293), (0.14165, 0.22705, 0.13758), (0.12, 0.2003, 0.092114)),
    ((-0.044885, 0.01268, -0.014497), (0.059742, 0.13955, 0.054102),
     (-0.00096141, 0.058304, -0.029663)),
)  # fmt: skip

_TOLERANCE = 0.1
"""Largest distance from the printed values, relative to their norm: 16-bit floats are far nearer,
fine-tuning hardly moves first filters, and strangers are farther than 1."""


@dataclass(frozen=True, slots=True)
class Filters:
    """First filters that are known.

    Attributes
    ----------
    whose : str
        For people.
    preprocessing : Preprocessing
        What belongs to them.
    """

    whose: str
    preprocessing: Preprocessing


_KNOWN: Mapping[Filters, Any] = {
    Filters("the authors' 16-layer network, in BGR order", CAFFE): _AUTHORS_16,
    Filters("the authors' 16-layer network, in RGB order", CAFFE_RGB): _AUTHORS_16[::-1],
    Filters("the authors' 19-layer network, in BGR order", CAFFE): _AUTHORS_19,
    Filters("the authors' 19-layer network, in RGB order", CAFFE_RGB): _AUTHORS_19[::-1],
    Filters("torchvision's vgg16", TORCHVISION): _TORCHVISION_16,
    Filters("torchvision's vgg19", TORCHVISION): _TORCHVISION_19,
}


def recognised(weights: NDArray[Any]) -> tuple[Filters, float] | None:
    """Tell whose a network's first filters are.

    Parameters
    ----------
    weights : ndarray, (filters, 3, 3, 3)
        Of ``conv1_1``: filter, channel, row, column.

    Returns
    -------
    Filters and float, or None
        The known ones whose first filter this is, and its relative distance from the printed
        values; None where it is nobody's that is known.
    """
    if weights.ndim != 4 or weights.shape[1:] != (3, 3, 3) or not len(weights):
        return None
    first = np.asarray(weights[0], np.float64)
    distances = {known: _distance(first, np.asarray(printed)) for known, printed in _KNOWN.items()}
    nearest = min(distances, key=distances.__getitem__)
    return (nearest, distances[nearest]) if distances[nearest] <= _TOLERANCE else None


def _distance(first: NDArray[np.float64], printed: NDArray[np.float64]) -> float:
    known = ~np.isnan(printed)
    distance = np.linalg.norm(first[known] - printed[known]) / np.linalg.norm(printed[known])
    return float(distance) if np.isfinite(distance) else float("inf")
