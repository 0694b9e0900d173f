"""From a run to the file that travels with the package: folded, proved, measured, written."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import safetensors.torch
import torch
from torch import Tensor, nn

from training.fit import Run, hits, predictions
from training.tiny_imagenet import Pictures, names
from vggfeat.layers import Architecture, architecture
from vggfeat.network import build
from vggfeat.weights import PREPROCESSING_KEY, resolve, standard_preprocessing

SHIPPED = "float16"
KINDS = ("float32", SHIPPED, "int8")
TOLERANCE = 1e-4
"""Largest relative error of the logits that folding may make: float32 rounds at 6e-8, and errors
add up over 16 layers."""

PROVED_ON = 500
"""Validation images that the folding is proved on."""

TERMS = (
    "Trained on Tiny ImageNet, 200 classes of ImageNet at 64 x 64 pixels, whose terms allow "
    "non-commercial research and educational use. The file holds no images."
)
_SCALE = ".scale"


@dataclass(frozen=True)
class Stored:
    """What one way to store the weights costs.

    Attributes
    ----------
    kind : str
        One of :data:`KINDS`.
    megabytes : float
        Of the file, in 10^6 bytes.
    top1, top5 : float
        Accuracy on the validation images, in percent.
    change : float
        Largest absolute difference of a class's probability from float32's, over all images.
    """

    kind: str
    megabytes: float
    top1: float
    top5: float
    change: float


@dataclass(frozen=True)
class Export:
    """A run's weights, ready to be written.

    Attributes
    ----------
    fold_error : float
        Of the logits, as :func:`fold_error` tells it.
    stored : list of Stored
        Each way of storing, in the order of :data:`KINDS`.
    shipped : bytes
        The file with the weights as :data:`SHIPPED`; equal for equal checkpoints.
    """

    fold_error: float
    stored: list[Stored]
    shipped: bytes


def export(run: Run, data: Path, pictures: Pictures) -> Export:
    """Fold a run's averaged weights, prove the folding, and measure what storing costs.

    Parameters
    ----------
    run : Run
        Finished or not.
    data : Path
        Tiny ImageNet's folder, for the classes' names.
    pictures : Pictures
        Its validation images.

    Raises
    ------
    click.ClickException
        The data has other classes than the run's network, or folding changes the logits by more
        than :data:`TOLERANCE`.
    """
    network, told = architecture(run.recipe.model), metadata(run, data)
    trained: Any = run.average.module
    tensors = trained.folded()
    held = {kind: compressed(tensors, kind) for kind in KINDS}
    files = {kind: serialised(held[kind], told) for kind in KINDS}
    with tempfile.TemporaryDirectory() as scratch:
        models = {}
        for kind in KINDS:
            path = Path(scratch, f"{kind}.safetensors")
            # int8 is a layout of our own, so the network is given what it stands for.
            as_read = serialised(expanded(held[kind]), told) if kind == "int8" else files[kind]
            path.write_bytes(as_read)
            models[kind] = plain(path, network)
        side = network.input_size
        error = proved(trained, models["float32"], pictures, side)
        logits = {kind: _logits(model, pictures, side) for kind, model in models.items()}
    stored = [_stored(kind, len(files[kind]), logits, pictures) for kind in KINDS]
    return Export(error, stored, files[SHIPPED])


def write(file: Path, data: bytes) -> None:
    """Write a file at once or not at all.

    Raises
    ------
    click.ClickException
        It cannot be written; what was there before is untouched.
    """
    fresh = file.with_name(f"{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(data)
        fresh.replace(file)
    except OSError as error:
        raise click.ClickException(
            f"{file} cannot be written ({error.strerror}). Check the path and its permissions."
        ) from error


def metadata(run: Run, data: Path) -> dict[str, str]:
    """Return what the file says of itself.

    Raises
    ------
    click.ClickException
        The data has other classes than the run's network.
    """
    network, classes = architecture(run.recipe.model), names(data)
    if len(classes) != network.classes:
        raise click.ClickException(
            f"{data} has {len(classes)} classes, but the run's network tells {network.classes} "
            "apart. Give the data that it was trained on."
        )
    return {
        PREPROCESSING_KEY: json.dumps(standard_preprocessing(network).to_json()),
        "vggfeat.model": network.name,
        "vggfeat.classes": json.dumps(classes),
        "vggfeat.recipe": json.dumps(run.recipe.to_json()),
        "vggfeat.epochs_done": str(run.epoch),
        "vggfeat.terms": TERMS,
    }


def plain(path: Path, network: Architecture) -> nn.Module:
    """Return the network that users run, with a file's weights, up to the logits."""
    modules = build(network, resolve(str(path), network), {"fc8": ""})
    return nn.Sequential(*modules.values()).to(memory_format=torch.channels_last)


def proved(trained: nn.Module, folded: nn.Module, pictures: Pictures, side: int) -> float:
    """Return the error of the folding on the first :data:`PROVED_ON` images.

    Raises
    ------
    click.ClickException
        It is more than :data:`TOLERANCE`, or not a number.
    """
    some = Pictures(pictures.pixels[:PROVED_ON], pictures.targets[:PROVED_ON])
    error = fold_error(_logits(trained, some, side), _logits(folded, some, side))
    if not error <= TOLERANCE:
        raise click.ClickException(
            f"folding the batch normalisation changes the logits by {error:.1e} of their size; "
            f"at most {TOLERANCE:.0e} is rounding. Nothing was written. Is the run's loss finite?"
        )
    return error


def fold_error(before: Tensor, after: Tensor) -> float:
    """Return the largest relative error of an image's logits.

    Parameters
    ----------
    before, after : Tensor, (N, classes)
        Logits without and with folding.

    Returns
    -------
    float
        The Euclidean norm of the difference over that of `before`; the worst image counts.
    """
    return float(((after - before).norm(dim=1) / before.norm(dim=1)).max())


def compressed(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Return float32 tensors as a file of a kind holds them.

    int8 holds each matrix or kernel ``w`` as ``round(w / scale)`` in -127..127, with a float32
    ``scale = max |w| / 127`` for each output channel beside it; biases stay float32.
    """
    if kind == "float32":
        return dict(tensors)
    if kind == "float16":
        return {name: tensor.half() for name, tensor in tensors.items()}
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.dim() == 1:
            found[name] = tensor
            continue
        scale = tensor.flatten(1).abs().amax(1).clamp(min=1e-30) / 127  # (outputs,)
        found[name] = (tensor / _beside(scale, tensor)).round().to(torch.int8)
        found[name + _SCALE] = scale
    return found


def expanded(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return float32 tensors of those that :func:`compressed` made int8."""
    return {
        name: tensor.float() * _beside(held[name + _SCALE], tensor)
        if name + _SCALE in held
        else tensor
        for name, tensor in held.items()
        if not name.endswith(_SCALE)
    }


def serialised(tensors: dict[str, Tensor], told: Mapping[str, str]) -> bytes:
    """Return a safetensors file with equal bytes for equal contents.

    The library writes the metadata in another order each time; here it is sorted. (The format:
    the header's length as 8 bytes, little-endian; the header as JSON, padded with blanks to a
    multiple of 8 bytes; the tensors.)
    """
    data = safetensors.torch.save(tensors, dict(told))
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(told.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _beside(scale: Tensor, tensor: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (tensor.dim() - 1))


def _logits(model: nn.Module, pictures: Pictures, side: int) -> Tensor:
    return torch.cat([logits for logits, _ in predictions(model, pictures, side)])


def _stored(kind: str, size: int, logits: Mapping[str, Tensor], pictures: Pictures) -> Stored:
    targets, count = torch.from_numpy(pictures.targets), len(pictures)
    top1, top5 = (100 * hits(logits[kind], targets, first) / count for first in (1, 5))
    change = logits[kind].softmax(1) - logits["float32"].softmax(1)
    return Stored(kind, size / 1e6, top1, top5, float(change.abs().max()))
