"""Weights: where they come from, what identifies them, and the preprocessing they need.

:func:`resolve` answers without importing torch, so that a finished store is recognised at once;
:meth:`Weights.load` reads only the tensors of the layers that will run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vggfeat.errors import WeightsError
from vggfeat.layers import Architecture
from vggfeat.preprocessing import TORCHVISION, TORCHVISION_FEATURES, Preprocessing
from vggfeat.weights import builtin, imagenet, seeded

if TYPE_CHECKING:
    from torch import Tensor

PREPROCESSING_KEY = "vggfeat.preprocessing"
"""Where a safetensors file's metadata may hold a :class:`Preprocessing` as JSON."""

_LISTED = 6  # names of tensors shown in one message


class TensorFile(Protocol):
    """An open weight file, whatever its format: names and shapes now, tensors when asked."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor by name."""

    def read(self, name: str) -> Tensor:
        """Return one tensor, in memory of its own."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Identified weights of one network.

    Attributes
    ----------
    spec : str
        As asked for: ``"imagenet"``, ``"builtin"``, an absolute path, or ``"random:SEED"``.
    sha256 : str
        Of the file, in hexadecimal; for random weights of the recipe that makes them.
    preprocessing : Preprocessing
        What the pixels must go through for these weights.
    path : Path or None
        The file; None for random weights.
    """

    spec: str
    sha256: str
    preprocessing: Preprocessing
    path: Path | None = None

    def load(self, network: Architecture, names: list[str]) -> dict[str, Tensor]:
        """Read tensors by their names in torchvision's state dict.

        Parameters
        ----------
        network : Architecture
            Gives the shapes that the tensors must have.
        names : list of str
            Such as ``"features.0.weight"``; no others are read into memory.

        Returns
        -------
        dict of str to Tensor
            float32 tensors on the CPU.

        Raises
        ------
        WeightsError
            The file is unreadable, lacks tensors, has ones this network does not know or of
            other shapes, or holds values that are not finite.
        """
        if self.path is None:
            return seeded.tensors(network, seeded.seed_of(self.spec), names)
        with _open(self.path) as file:
            _check(file.shapes, network, names, self.path)
            return {name: _finite(file.read(name).float(), name, self.path) for name in names}


def usual(network: Architecture) -> str:
    """Return the weights that a network has by default.

    Returns
    -------
    str
        ``"builtin"`` where its weights travel with the package, else ``"imagenet"``.
    """
    return "builtin" if network.name in builtin.FILES else "imagenet"


def resolve(spec: str, network: Architecture) -> Weights:
    """Find weights and identify them, downloading where that is asked for.

    Parameters
    ----------
    spec : str
        ``"imagenet"`` for torchvision's ``IMAGENET1K_V1`` (downloaded once into torch's cache),
        ``"builtin"`` for those in the package, a path to a ``.pth``, ``.pt`` or ``.safetensors``
        file in torchvision's layout, or ``"random"`` or ``"random:SEED"``.
    network : Architecture
        The network that they are for.

    Raises
    ------
    WeightsError
        No such file, an unknown format, or a download that failed.
    """
    if spec == "random" or spec.startswith("random:"):
        seed = seeded.seed_of(spec)
        digest = seeded.fingerprint(network, seed)
        return Weights(f"random:{seed}", digest, standard_preprocessing(network))
    if spec == "imagenet":
        path = imagenet.cached_or_downloaded(network.name)
        digest = _sha256(path)
        imagenet.check_digest(network.name, path, digest)
        return Weights(spec, digest, TORCHVISION, path)
    if spec == "builtin":
        path = builtin.path_of(network.name)
        digest = _sha256(path)
        return Weights(spec, digest, preprocessing_of(path, digest, network), path)
    path = Path(spec).expanduser().absolute()
    if not path.is_file():
        raise WeightsError(
            f"No weight file {spec!r}. Allowed are a path to a {_allowed()} file, "
            "'imagenet', 'builtin', and 'random' or 'random:SEED'."
        )
    if path.suffix.lower() not in _FORMATS:
        raise WeightsError(f"{path}: unknown kind of weight file. Allowed are {_allowed()}.")
    digest = _sha256(path)
    return Weights(str(path), digest, preprocessing_of(path, digest, network), path)


def preprocessing_of(path: Path, sha256: str, network: Architecture) -> Preprocessing:
    """Return what the pixels must go through for a weight file.

    What the file itself says counts first (a safetensors file's metadata under
    :data:`PREPROCESSING_KEY`), then what is known of its SHA-256. Any other file is taken to be
    trained as torchvision trains, at the network's own input size.

    Raises
    ------
    WeightsError
        What the file says is no preprocessing, or one for inputs of another size.
    """
    if _FORMATS[path.suffix.lower()] == "safetensors":
        from vggfeat.weights import safetensors_file

        if said := safetensors_file.metadata(path).get(PREPROCESSING_KEY):
            return _read_preprocessing(said, path, network)
    if sha256.startswith(imagenet.FEATURES_SHA256):
        return TORCHVISION_FEATURES
    return standard_preprocessing(network)


def standard_preprocessing(network: Architecture) -> Preprocessing:
    """Return torchvision's preprocessing; for networks of another input size, to that size."""
    side = network.input_size
    return TORCHVISION if side == TORCHVISION.crop else replace(TORCHVISION, resize=side, crop=side)


def _read_preprocessing(said: str, path: Path, network: Architecture) -> Preprocessing:
    try:
        found = Preprocessing.from_json(json.loads(said))
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{path}: its metadata {PREPROCESSING_KEY!r} is no preprocessing: {error}."
        ) from error
    if found.crop != network.input_size:
        raise WeightsError(
            f"{path} is for inputs of {found.crop} pixels, but {network.name} takes "
            f"{network.input_size}. Give the --model that it was made for."
        )
    return found


def shapes(network: Architecture) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in torchvision's state dict of a network."""
    found: dict[str, tuple[int, ...]] = {}
    for layer in network.layers:
        if layer.kind == "conv":
            found[f"{layer.module}.weight"] = (layer.outputs, layer.inputs, *[layer.kernel] * 2)
        elif layer.kind == "linear":
            found[f"{layer.module}.weight"] = (layer.outputs, layer.inputs)
        else:
            continue
        found[f"{layer.module}.bias"] = (layer.outputs,)
    return found


def _open(path: Path) -> AbstractContextManager[TensorFile]:
    kind = _FORMATS[path.suffix.lower()]
    if kind == "safetensors":
        from vggfeat.weights import safetensors_file

        return safetensors_file.open_file(path)
    from vggfeat.weights import torch_file

    return torch_file.open_file(path)


_FORMATS = {".pth": "torch", ".pt": "torch", ".safetensors": "safetensors"}


def _allowed() -> str:
    return ", ".join(_FORMATS)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.") from error


def _check(
    found: Mapping[str, tuple[int, ...]], network: Architecture, names: list[str], path: Path
) -> None:
    expected = shapes(network)
    problems = [f"{name} is missing" for name in names if name not in found]
    problems += [
        f"{name} has shape {found[name]}, not {expected[name]}"
        for name in names
        if name in found and found[name] != expected[name]
    ]
    problems += [f"{name} is unknown" for name in sorted(set(found) - set(expected))]
    if problems:
        more = f"; and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise WeightsError(
            f"{path} does not fit {network.name}: {'; '.join(problems[:_LISTED])}{more}. "
            f"Give a file in torchvision's layout for {network.name}, or another --model."
        )


def _finite(tensor: Tensor, name: str, path: Path) -> Tensor:
    if not bool(tensor.isfinite().all()):
        raise WeightsError(
            f"{path}: {name} holds values that are not finite, so every layer from there on would "
            "be NaN. (torchvision's IMAGENET1K_FEATURES files have no fully connected layers: "
            "ask for convolutional layers, or give other weights.)"
        )
    return tensor
