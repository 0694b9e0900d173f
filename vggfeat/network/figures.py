"""What layers put out for the synthetic image, where that is known.

The root of the mean square of each layer, as ``vggfeat weights check FILE --json`` prints it, of
the weights in the package by their file's SHA-256, and of the authors' convolutions by the SHA-256
of their values, in whatever file and format they come.

The authors' are those of their 16-layer network. That these are they was verified: the first filter
equals the values that Keras's file prints to the last digit; each convolution's first weight and
bias equal those printed for MatConvNet's release; the bias of conv5_3 has the published mean
0.14986369, deviation 0.4928213, minimum -0.50036746 and maximum 9.431553; and pool5 of 647
photographs equals what others computed with Keras to 2e-6. Their fully connected layers, and other
published files, were not at hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vggfeat.layers import Architecture, Layer
from vggfeat.preprocessing import CAFFE, CAFFE_RGB, Preprocessing
from vggfeat.weights.state import names

if TYPE_CHECKING:
    from torch import Tensor

FIGURES: Mapping[str, Mapping[str, float]] = {
    # vgg16-tiny.safetensors
    "c6232dd643c8c83d4b623efe9a3d980f8272d2ab4a5a6018a476f3737d006a5e": {
        "conv1_1": 1.97124,
        "relu1_1": 1.61976,
        "conv1_2": 2.08001,
        "relu1_2": 1.64654,
        "pool1": 2.44038,
        "conv2_1": 1.97163,
        "relu2_1": 1.11275,
        "conv2_2": 1.68953,
        "relu2_2": 1.01963,
        "pool2": 1.57291,
        "conv3_1": 1.3449,
        "relu3_1": 0.665621,
        "conv3_2": 1.14801,
        "relu3_2": 0.762307,
        "conv3_3": 1.34237,
        "relu3_3": 0.599019,
        "pool3": 0.935286,
        "conv4_1": 1.15919,
        "relu4_1": 0.485721,
        "conv4_2": 1.10773,
        "relu4_2": 0.430714,
        "conv4_3": 1.13395,
        "relu4_3": 0.442414,
        "pool4": 0.646234,
        "conv5_1": 0.926866,
        "relu5_1": 0.660438,
        "conv5_2": 0.992236,
        "relu5_2": 0.865341,
        "conv5_3": 1.10922,
        "relu5_3": 0.904844,
        "pool5": 1.49544,
        "flatten": 1.49544,
        "fc6": 1.09498,
        "relu6": 0.661142,
        "fc7": 0.992396,
        "relu7": 0.41121,
        "fc8": 1.21469,
        "prob": 0.0217657,
    },
}


@dataclass(frozen=True, slots=True)
class Reference:
    """Convolutions that are known by their values.

    Attributes
    ----------
    whose : str
        For people.
    preprocessing : Preprocessing
        What the figures were computed with.
    figures : mapping of str to float
        By layer.
    tolerance : float
        Relative difference of a figure that is put down to rounding.
    """

    whose: str
    preprocessing: Preprocessing
    figures: Mapping[str, float]
    tolerance: float


_AUTHORS_16 = {
    "conv1_1": 78.1351,
    "relu1_1": 56.1935,
    "conv1_2": 289.109,
    "relu1_2": 254.458,
    "pool1": 339.965,
    "conv2_1": 578.615,
    "relu2_1": 442.349,
    "conv2_2": 994.937,
    "relu2_2": 660.593,
    "pool2": 959.373,
    "conv3_1": 1113.91,
    "relu3_1": 687.574,
    "conv3_2": 1062.69,
    "relu3_2": 761.167,
    "conv3_3": 1286.03,
    "relu3_3": 627.814,
    "pool3": 916.11,
    "conv4_1": 1005.02,
    "relu4_1": 471.594,
    "conv4_2": 765.477,
    "relu4_2": 243.64,
    "conv4_3": 494.607,
    "relu4_3": 69.0353,
    "pool4": 105.739,
    "conv5_1": 135.999,
    "relu5_1": 52.074,
    "conv5_2": 86.6859,
    "relu5_2": 20.279,
    "conv5_3": 55.1348,
    "relu5_3": 3.26411,
    "pool5": 4.57173,
    "flatten": 4.57173,
}
_TOLERANCE = 3e-3
"""The authors' mean colour is written in two ways; torchvision's moves figures by up to 1.2e-3."""

CONVOLUTIONS: Mapping[str, tuple[Reference, Reference]] = {
    "dd21191fd3ba4d9b2b0104621c806227994d029acdf7f88d3ca0afd5774c15cf": (
        Reference("the authors' 16-layer network", CAFFE, _AUTHORS_16, _TOLERANCE),
        Reference(
            "the authors' 16-layer network, in RGB order", CAFFE_RGB, _AUTHORS_16, _TOLERANCE
        ),
    ),
}
"""By :func:`values_digest`: as they were digested, and with the channels of images turned round."""


def values_digest(tensors: Iterable[Tensor]) -> str:
    """Return the SHA-256 of tensors' values in hexadecimal, as little-endian float32."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def reference(network: Architecture, tensors: Mapping[str, Tensor]) -> Reference | None:
    """Return what is known of a network's convolutions, or None.

    Parameters
    ----------
    network : Architecture
        Which network.
    tensors : mapping of str to Tensor
        Those of its convolutions by torchvision's names, in float32.
    """
    ordered = [tensors[name] for name in names(convolutions(network))]
    turned = [ordered[0].flip(1), *ordered[1:]]  # (outputs, channels, rows, columns)
    for number, many in enumerate((ordered, turned)):
        if known := CONVOLUTIONS.get(values_digest(many)):
            return known[number]
    return None


def convolutions(network: Architecture) -> list[Layer]:
    """Return the layers of a network that are convolutions."""
    return [layer for layer in network.layers if layer.kind == "conv"]
