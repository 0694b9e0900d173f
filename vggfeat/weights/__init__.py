"""Weights: where they come from, what identifies them, and the preprocessing they need.

:func:`resolve` identifies them without torch, so that a finished store is recognised at once;
:meth:`Weights.load` reads only the tensors of the layers that will run. The formats are in
:mod:`vggfeat.weights.formats`, one module each.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from vggfeat.errors import WeightsError
from vggfeat.layers import Architecture
from vggfeat.preprocessing import ByHand, Preprocessing
from vggfeat.weights import builtin, imagenet, pairing, seeded
from vggfeat.weights.formats import FORMATS, allowed, fingerprint, format_of, open_file, split
from vggfeat.weights.inspection import Inspection, inspect
from vggfeat.weights.known import Published, published
from vggfeat.weights.pairing import (
    AUTO,
    CHOICES,
    STRICT,
    Pairing,
    standard_preprocessing,
)
from vggfeat.weights.safetensors_file import PREPROCESSING_KEY
from vggfeat.weights.state import check, located, names, shapes
from vggfeat.weights.tensor_file import TensorFile, Understanding

if TYPE_CHECKING:
    from torch import Tensor

_LISTED = 8  # names of tensors in a line of the log

_log = logging.getLogger(__name__)

__all__ = [
    "AUTO",
    "CHOICES",
    "FORMATS",
    "PREPROCESSING_KEY",
    "STRICT",
    "Inspection",
    "Pairing",
    "Published",
    "TensorFile",
    "Weights",
    "inspect",
    "names",
    "published",
    "resolve",
    "shapes",
    "standard_preprocessing",
    "usual",
]


@dataclass(frozen=True, slots=True)
class Weights:
    """Identified weights of one network.

    Attributes
    ----------
    spec : str
        As asked for: ``"imagenet"``, ``"builtin"``, an absolute path, or ``"random:SEED"``.
    sha256 : str
        Of the file, in hexadecimal, together with the name of the network where one in the file
        was chosen; for random weights of the recipe that makes them.
    preprocessing : Preprocessing
        What the pixels must go through for these weights.
    path : Path or None
        The file, as ``FILE#NAME`` where one of its networks was chosen; None for random weights.
    why : str
        Why `preprocessing` belongs to them: one clause for people.
    """

    spec: str
    sha256: str
    preprocessing: Preprocessing
    path: Path | None = None
    why: str = ""

    def load(self, network: Architecture, names: list[str], deepest: str = "") -> dict[str, Tensor]:
        """Read tensors by their names in torchvision's state dict.

        Of memory this takes the tensors (4 bytes a value), once more the largest of them, of the
        file's type, and what opening the file takes, which does not depend on which are asked for.
        A file whose tensors are compressed is unpacked first. (Random weights:
        :func:`vggfeat.weights.seeded.tensors`.)

        Parameters
        ----------
        network : Architecture
            Gives the shapes that the tensors must have.
        names : list of str
            Such as ``"features.0.weight"``; no others are read into memory.
        deepest : str
            Canonical name of the deepest layer that will run, which may have no tensors; by default
            the deepest of those that `names` are of.

        Returns
        -------
        dict of str to Tensor
            float32 tensors on the CPU.

        Raises
        ------
        WeightsError
            The file is unreadable, lacks tensors, has convolutions this network does not know or
            tensors of other shapes, has what is not understood before the deepest layer, or
            holds values that are not finite.
        """
        if self.path is None:
            return seeded.tensors(network, seeded.seed_of(self.spec), names)
        with open_file(self.path) as file:
            check(file, network, names, self.path, deepest)
            _report(file.understanding, self.path)
            places = located(file.shapes, network)
            return {
                name: _finite(_float32(file.read(places[name])), name, self.path) for name in names
            }


def usual(network: Architecture) -> str:
    """Return the weights that a network has by default.

    Returns
    -------
    str
        ``"builtin"`` where its weights travel with the package, else ``"imagenet"``.
    """
    return "builtin" if network.name in builtin.FILES else "imagenet"


def resolve(
    spec: str, network: Architecture, preprocessing: str | Preprocessing | ByHand = AUTO
) -> Weights:
    """Find weights and identify them, downloading where that is asked for.

    Parameters
    ----------
    spec : str
        ``"imagenet"`` for torchvision's ``IMAGENET1K_V1``, ``"imagenet-features"`` for its
        ``IMAGENET1K_FEATURES`` (downloaded once into torch's cache), ``"builtin"`` for those in
        the package, a path to a file in any of :data:`FORMATS` (``FILE#NAME`` for one network
        of several in it), or ``"random"`` or
        ``"random:SEED"``.
    network : Architecture
        The network that they are for.
    preprocessing : str, Preprocessing or ByHand
        ``"auto"`` for what belongs to the weights; ``"strict"`` for the same, refusing files of
        which it is only assumed; a name of :data:`~vggfeat.preprocessing.PRESETS`, with a warning
        where it contradicts the weights; the preprocessing itself; or its values, with sizes and
        interpolation as belong to the weights, and the same warning.

    Raises
    ------
    WeightsError
        No such file, an unknown format, a download that failed, or a file that is refused.
    """
    if spec == "random" or spec.startswith("random:"):
        seed = seeded.seed_of(spec)
        standard = standard_preprocessing(network)
        default = Pairing(
            standard, "random weights had no training", preprocessing in (AUTO, STRICT)
        )
        chosen = pairing.chosen(default, preprocessing, network, spec)
        sha256 = seeded.fingerprint(network, seed)
        return Weights(f"random:{seed}", sha256, chosen.preprocessing, why=chosen.why)
    path = _place(spec, network)
    sha256 = fingerprint(path)
    if spec in imagenet.SPECS:
        imagenet.check_digest(path, sha256)
    given = spec if spec in ("builtin", *imagenet.SPECS) else str(path)
    if isinstance(preprocessing, Preprocessing):
        return Weights(given, sha256, preprocessing, path, "as given")
    default = pairing.decided(path, sha256, network, strange=preprocessing not in (AUTO, STRICT))
    chosen = pairing.chosen(default, preprocessing, network, str(path))
    return Weights(given, sha256, chosen.preprocessing, path, chosen.why)


def _place(spec: str, network: Architecture) -> Path:
    if spec in imagenet.SPECS:
        return imagenet.cached_or_downloaded(network.name, spec)
    if spec == "builtin":
        return builtin.path_of(network.name)
    path = Path(spec).expanduser().absolute()
    if not split(path)[0].is_file():
        raise WeightsError(
            f"No weight file {spec!r}. Allowed are a path to a {allowed()} file, "
            "'imagenet', 'imagenet-features', 'builtin', and 'random' or 'random:SEED'."
        )
    format_of(path)
    return path


def _report(understood: Understanding, path: Path) -> None:
    """Log what became of tensors that the network does not have."""
    for note in understood.notes:
        _log.info("%s: %s", path, note)
    if understood.elsewhere:
        shown = ", ".join(understood.elsewhere[:_LISTED])
        more = (
            f" and {len(understood.elsewhere) - _LISTED} more"
            if len(understood.elsewhere) > _LISTED
            else ""
        )
        _log.info("%s: not on the way to these layers: %s%s", path, shown, more)


def _float32(values: NDArray[Any] | Tensor) -> Tensor:
    import torch

    return torch.as_tensor(values, device="cpu").float()


def _finite(tensor: Tensor, name: str, path: Path) -> Tensor:
    # A sum is finite only if all of it is, and takes no memory; but it may overflow by itself.
    if not bool(tensor.sum().isfinite()) and not bool(tensor.isfinite().all()):
        raise WeightsError(
            f"{path}: {name} holds values that are not finite, so every layer from there on would "
            "be NaN. (torchvision's IMAGENET1K_FEATURES has no fully connected layers, but NaN in "
            "their place: ask for layers up to pool5, or give other weights.)"
        )
    return tensor
