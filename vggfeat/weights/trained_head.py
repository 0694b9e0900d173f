"""The head of a fine-tuned network: what a safetensors file says of its own classes or numbers.

``head.weight`` (K, d) and ``head.bias`` (K,) stand beside the network's tensors, float32. Metadata
:data:`HEAD_KEY` says, as JSON, which features they are of and what they tell apart
(:class:`TrainedHead`), :data:`TRAINED_KEY` what the network was trained on, and how.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vggfeat.errors import WeightsError
from vggfeat.norms import unit_length
from vggfeat.weights.formats import split

HEAD_KEY = "vggfeat.head"
TRAINED_KEY = "vggfeat.trained"
WEIGHT, BIAS = "head.weight", "head.bias"
KINDS = ("one", "several", "numbers")

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TrainedHead:
    """A linear layer on a layer's features.

    Attributes
    ----------
    kind : str
        ``"one"`` class an image, ``"several"``, or ``"numbers"``.
    model : str
        The network.
    layer, pool : str
        Canonical name of the layer, and its pooling; ``""`` of vectors.
    view : str
        Of :data:`vggfeat.views.VIEWS`: how images were tested.
    normalize : bool
        Whether features are scaled to length 1 first.
    names : tuple of str
        Of the K classes or numbers.
    strength : tuple of float
        Of the linear probe that it began as: C, or alpha of each number.
    n_train : int
        Training images.
    weight, bias : ndarray of float64, shape (K, d), (K,)
    """

    kind: Literal["one", "several", "numbers"]
    model: str
    layer: str
    pool: str
    view: str
    normalize: bool
    names: tuple[str, ...]
    strength: tuple[float, ...]
    n_train: int
    weight: Array
    bias: Array

    @property
    def column(self) -> str:
        """The layer with its pooling, as ``--layers`` takes it."""
        return f"{self.layer}:{self.pool}" if self.pool else self.layer

    def to_json(self) -> dict[str, Any]:
        """Return what metadata holds under :data:`HEAD_KEY`."""
        names = ("kind", "model", "layer", "pool", "view", "normalize", "n_train")
        told = {name: getattr(self, name) for name in names}
        return told | {"names": list(self.names), "strength": list(self.strength)}

    def outputs(self, features: npt.NDArray[Any]) -> Array:
        """Return what it puts out for features (n, d), before any softmax: (n, K)."""
        rows = np.asarray(features, np.float64).reshape(len(features), -1)
        rows = unit_length(rows) if self.normalize else rows
        return np.asarray(rows @ self.weight.T + self.bias)

    def probabilities(self, features: npt.NDArray[Any]) -> Array:
        """Return the probability of each class, (n, K); they sum to 1 for one class an image."""
        from scipy.special import expit, softmax

        outputs = self.outputs(features)
        return np.asarray(softmax(outputs, axis=1) if self.kind == "one" else expit(outputs))


def trained_head(path: Path | None) -> TrainedHead | None:
    """Read the head of a file; None where it has none.

    Raises
    ------
    WeightsError
        What the file says of its head is incomplete, or does not fit its tensors.
    """
    told = _told(path, HEAD_KEY)
    if told is None or path is None:
        return None
    from vggfeat.weights.safetensors_file import SafetensorsFile

    try:
        file = SafetensorsFile(split(path)[0])
        weight, bias = (np.asarray(file.read(name), np.float64) for name in (WEIGHT, BIAS))
        head = TrainedHead(
            kind=told["kind"], model=str(told["model"]), layer=str(told["layer"]),
            pool=str(told["pool"]), view=str(told["view"]), normalize=bool(told["normalize"]),
            names=tuple(map(str, told["names"])), strength=tuple(map(float, told["strength"])),
            n_train=int(told["n_train"]), weight=weight, bias=bias,
        )  # fmt: skip
    except Exception as error:  # of many kinds: the file is a stranger's
        raise WeightsError(
            f"{path}: its metadata {HEAD_KEY!r} or its head cannot be read: {error}."
        ) from error
    shapes = weight.ndim == 2 and bias.shape == weight.shape[:1] == (len(head.names),)
    if head.kind not in KINDS or not shapes or len(set(head.names)) < len(head.names):
        raise WeightsError(
            f"{path}: its head is {weight.shape} with {bias.shape}, for {len(head.names)} names of "
            f"the kind {head.kind!r}; these do not fit."
        )
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise WeightsError(f"{path}: its head holds values that are not finite.")
    return head


def training_of(path: Path | None) -> dict[str, Any] | None:
    """Return what a fine-tuned file says of its training; None where it says nothing."""
    return _told(path, TRAINED_KEY)


def _told(path: Path | None, key: str) -> dict[str, Any] | None:
    if path is None or split(path)[0].suffix.lower() != ".safetensors":
        return None
    from vggfeat.weights import safetensors_file

    text = safetensors_file.metadata(split(path)[0]).get(key)
    if text is None:
        return None
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: its metadata {key!r} is no JSON: {error}.") from error
    if not isinstance(told, dict):
        raise WeightsError(f"{path}: its metadata {key!r} is no JSON object.")
    return told
