"""Weight files of any format as safetensors that say what belongs to them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from vggfeat._version import __version__
from vggfeat.atomic import atomic_file
from vggfeat.errors import WeightsError
from vggfeat.network.checking import FIGURES_KEY, figures
from vggfeat.preprocessing import ByHand, Preprocessing
from vggfeat.weights import AUTO, PREPROCESSING_KEY, inspect, names, resolve
from vggfeat.weights.formats import split

DTYPES = {"float32": torch.float32, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written.

    Attributes
    ----------
    path : Path
        The new file.
    model : str
        The network.
    deepest : str
        The deepest layer that it serves.
    size : int
        In bytes.
    left_out : tuple of str
        Tensors of the old file that are not in the new one.
    why : str
        Why its preprocessing is what it is.
    """

    path: Path
    model: str
    deepest: str
    size: int
    left_out: tuple[str, ...]
    why: str

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self) | {"path": str(self.path)}


def convert(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    model: str | None = None,
    preprocessing: str | Preprocessing | ByHand = AUTO,
    dtype: str = "float32",
    overwrite: bool = False,
) -> Converted:
    """Write a weight file anew as safetensors, with torchvision's names.

    Its metadata holds the preprocessing, the network, the file that it was made of with its
    SHA-256, and what each layer puts out for a synthetic image, which
    :func:`~vggfeat.network.check` compares.

    Parameters
    ----------
    path : path
        A file in any of :data:`vggfeat.weights.FORMATS`.
    out : path
        The new file, which ends in ``.safetensors``.
    model : str, optional
        The network; by default the one whose convolutions the file has.
    preprocessing : str, Preprocessing or ByHand
        As for :func:`vggfeat.weights.resolve`.
    dtype : str
        ``"float32"`` or ``"float16"``, which halves the file.
    overwrite : bool
        Replace a file of that name.

    Raises
    ------
    WeightsError
        The file is unreadable or of no use, or the new one exists or cannot be written.
    """
    target = Path(out).expanduser().absolute()
    if target.suffix.lower() != ".safetensors":
        raise WeightsError(f"{target} must end in .safetensors, which is what is written.")
    if dtype not in DTYPES:
        raise WeightsError(f"Unknown dtype {dtype!r}. Allowed are {', '.join(DTYPES)}.")
    if target.exists() and not overwrite:
        raise WeightsError(f"{target} exists. Name another file, or give --overwrite.")
    if not target.parent.is_dir():
        raise WeightsError(f"{target}: there is no folder {target.parent}. Make it first.")
    inspected = inspect(path, model)
    if not inspected.deepest:
        why = inspected.obstacle or "it lacks the first layer."
        raise WeightsError(f"{inspected.path}: nothing can be made of it: {why}")
    weights = resolve(str(inspected.path), inspected.network, preprocessing)
    deepest = inspected.deepest
    try:
        expected = figures(inspected.network, weights, deepest)
    except WeightsError:  # fully connected layers of nothing but NaN; if it is not they, it shows
        deepest = "flatten"
        expected = figures(inspected.network, weights, deepest)
    kept = names(inspected.network.upto([deepest]))
    metadata = _own(inspected.path) | {
        "format": "pt",
        PREPROCESSING_KEY: json.dumps(weights.preprocessing.to_json()),
        FIGURES_KEY: json.dumps(expected),
        "vggfeat.model": inspected.network.name,
        "vggfeat.source": json.dumps({"file": inspected.path.name, "sha256": inspected.sha256}),
        "vggfeat.preprocessing_why": weights.why,
        "vggfeat.version": __version__,
    }
    tensors = weights.load(inspected.network, kept)
    for name, tensor in tensors.items():
        tensors[name] = tensor.to(DTYPES[dtype]).contiguous()
    _write(tensors, metadata, target)
    every = [name for layer in inspected.layers if layer.shape for name in [layer.name]]
    served = {layer.name for layer in inspected.network.upto([deepest])}
    left = [*(name for name in every if name not in served), *inspected.others]
    return Converted(
        target, inspected.network.name, deepest, target.stat().st_size, tuple(left), weights.why
    )


def _own(path: Path) -> dict[str, str]:
    """Return what a safetensors file says of itself, to be carried on."""
    file = split(path)[0]
    if file.suffix.lower() != ".safetensors":
        return {}
    from vggfeat.weights import safetensors_file

    return safetensors_file.metadata(file)


def _write(tensors: dict[str, torch.Tensor], metadata: dict[str, str], target: Path) -> None:
    try:
        with atomic_file(target) as temporary:
            save_file(tensors, temporary, metadata=metadata)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{target} cannot be written: {error}. Check the folder's permissions and the disk."
        ) from error
