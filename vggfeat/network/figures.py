"""What layers put out for the synthetic image, by the SHA-256 of the weight file.

The root of the mean square of each layer, as ``vggfeat weights check FILE --json`` prints it.
Published weights were not at hand, so that only those in the package are here.
"""

from __future__ import annotations

from collections.abc import Mapping

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
