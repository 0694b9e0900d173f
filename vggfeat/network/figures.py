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

from vggfeat.layers import Architecture, Layer, architecture
from vggfeat.preprocessing import CAFFE, CAFFE_RGB, Preprocessing
from vggfeat.weights.state import names

if TYPE_CHECKING:
    from torch import Tensor


def _by_layer(model: str, last: str, *figures: float) -> dict[str, float]:
    layers = architecture(model).upto([last])
    return dict(zip([layer.name for layer in layers], figures, strict=True))


FIGURES: Mapping[str, Mapping[str, float]] = {
    # vgg16-tiny.safetensors
    "c6232dd643c8c83d4b623efe9a3d980f8272d2ab4a5a6018a476f3737d006a5e": _by_layer(
        "vgg16-tiny", "prob",
        1.97124, 1.61976, 2.08001, 1.64654, 2.44038,
        1.97163, 1.11275, 1.68953, 1.01963, 1.57291,
        1.3449, 0.665621, 1.14801, 0.762307, 1.34237, 0.599019, 0.935286,
        1.15919, 0.485721, 1.10773, 0.430714, 1.13395, 0.442414, 0.646234,
        0.926866, 0.660438, 0.992236, 0.865341, 1.10922, 0.904844, 1.49544,
        1.49544,
        1.09498, 0.661142, 0.992396, 0.41121, 1.21469, 0.0217657,
    ),
}  # fmt: skip
"""By the file's SHA-256 and by layer, here in the order that they run, a block a line."""


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


_AUTHORS_16 = _by_layer(
    "vgg16", "flatten",
    78.1351, 56.1935, 289.109, 254.458, 339.965,
    578.615, 442.349, 994.937, 660.593, 959.373,
    1113.91, 687.574, 1062.69, 761.167, 1286.03, 627.814, 916.11,
    1005.02, 471.594, 765.477, 243.64, 494.607, 69.0353, 105.739,
    135.999, 52.074, 86.6859, 20.279, 55.1348, 3.26411, 4.57173,
    4.57173,
)  # fmt: skip
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
