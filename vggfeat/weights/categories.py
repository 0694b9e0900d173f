"""What the classes of a network are called."""

from __future__ import annotations

import json

from vggfeat.errors import WeightsError
from vggfeat.layers import Architecture
from vggfeat.weights import Weights

CLASSES_KEY = "vggfeat.classes"
"""Where a safetensors file's metadata may hold the classes as JSON: a list of names, or of pairs of
WordNet's identifier and a name."""

_IMAGENET = 1000


def categories(weights: Weights, network: Architecture) -> list[str]:
    """Return the name of every class, in the order of the network's last layer.

    They come from the file where it has them; a thousand classes are otherwise taken to be
    ImageNet's, whose order all publishers of VGG networks share, and called as torchvision's
    weights have them. Where nobody names them they are "class 0", "class 1" and so on.

    Parameters
    ----------
    weights : Weights
        Of the network.
    network : Architecture
        Gives the number of classes.

    Raises
    ------
    WeightsError
        The file's own names are none, or not as many as there are classes.
    """
    if weights.path is not None and weights.path.suffix.lower() == ".safetensors":
        from vggfeat.weights import safetensors_file

        if text := safetensors_file.metadata(weights.path).get(CLASSES_KEY):
            return _read(text, network, weights)
    if network.classes == _IMAGENET:
        from torchvision.models import VGG16_Weights

        return list(VGG16_Weights.IMAGENET1K_V1.meta["categories"])
    return [f"class {number}" for number in range(network.classes)]


def _read(text: str, network: Architecture, weights: Weights) -> list[str]:
    try:
        names = [entry if isinstance(entry, str) else str(entry[-1]) for entry in json.loads(text)]
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise WeightsError(f"{weights.path}: its metadata {CLASSES_KEY!r}: {error}.") from error
    if len(names) != network.classes:
        raise WeightsError(
            f"{weights.path}: its metadata names {len(names)} classes, but {network.name} has "
            f"{network.classes}."
        )
    return names
