"""What a weight file is: format, network, layers, and how pixels are prepared for it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vggfeat.errors import WeightsError
from vggfeat.layers import Architecture, architecture
from vggfeat.weights import known, pairing
from vggfeat.weights.digests import digest
from vggfeat.weights.formats import allowed, fingerprint, format_of, open_file, split
from vggfeat.weights.known import Published
from vggfeat.weights.state import located, names, reach, recognised
from vggfeat.weights.tensor_file import Understanding
from vggfeat.weights.trained_head import BIAS, WEIGHT, TrainedHead, trained_head, training_of

_SHOWN = 8  # shapes in a message


@dataclass(frozen=True)
class FileLayer:
    """A layer of a network, as a file has it.

    Attributes
    ----------
    name : str
        Canonical name.
    shape : tuple of int
        Of its weights in torch's order; () where the file lacks them.
    parameters : int
        Values in the file, running statistics among them.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class Inspection:
    """What a weight file is.

    Attributes
    ----------
    path : Path
        The file.
    format : str
        Name of its format.
    size : int
        In bytes.
    sha256 : str
        In hexadecimal.
    network : Architecture
        The network whose convolutions it has.
    layers : tuple of FileLayer
        Every layer of the network that has weights.
    deepest : str
        The deepest layer that it serves; its values were not read, and may still be NaN.
    others : tuple of str
        Names of tensors that belong to no layer of the network.
    notes : tuple of str
        What was made of tensors that the network does not have, such as what was folded.
    obstacle : str
        Why it goes no further than `deepest`; empty where it just ends.
    parts : tuple of str
        Names of the networks in it, where it has several.
    published : Published or None
        The published file with its digest.
    filters : str
        Whose its first filter is, and how far from the printed values; empty if nobody's known.
    pairing : Pairing
        The preprocessing that belongs to it, and why.
    head : TrainedHead or None
        Its own head, where it was fine-tuned by vggfeat.
    trained : dict or None
        What it was fine-tuned on, and how.
    """

    path: Path
    format: str
    size: int
    sha256: str
    network: Architecture
    layers: tuple[FileLayer, ...]
    deepest: str
    others: tuple[str, ...]
    notes: tuple[str, ...]
    obstacle: str
    parts: tuple[str, ...]
    published: Published | None
    filters: str
    pairing: pairing.Pairing
    head: TrainedHead | None = None
    trained: dict[str, Any] | None = None

    @property
    def parameters(self) -> int:
        """Values of all layers in the file."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def classes(self) -> int | None:
        """Classes that it tells apart; None where it has no last layer and no head of its own."""
        if self.head is not None:
            return None if self.head.kind == "numbers" else len(self.head.names)
        shape = self.layers[-1].shape
        return shape[0] if shape else None

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "file": str(self.path),
            "format": self.format,
            "bytes": self.size,
            "sha256": self.sha256,
            "published": self.published.file if self.published else None,
            "model": self.network.name,
            "classes": self.classes,
            "deepest": self.deepest,
            "parameters": self.parameters,
            "layers": [asdict(layer) | {"shape": list(layer.shape)} for layer in self.layers],
            "others": list(self.others),
            "notes": list(self.notes),
            "obstacle": self.obstacle or None,
            "networks": list(self.parts),
            "first_filter": self.filters or None,
            "preprocessing": self.pairing.preprocessing.to_json(),
            "why": self.pairing.why,
            "sure": self.pairing.sure,
            "head": self.head.to_json() if self.head else None,
            "trained": self.trained,
        }


def inspect(path: str | os.PathLike[str], model: str | None = None) -> Inspection:
    """Say what a weight file is, reading little more of it than names and shapes.

    Parameters
    ----------
    path : path
        The file.
    model : str, optional
        The network; by default the one whose convolutions the file has.

    Raises
    ------
    WeightsError
        There is no such file, or it is unreadable, or holds no network that is known.
    LayerError
        The model is unknown.
    """
    path = Path(path).expanduser().absolute()
    file_path = split(path)[0]
    if not file_path.is_file():
        raise WeightsError(f"No weight file {str(path)!r}. Give a {allowed()} file.")
    form = format_of(path)
    with open_file(path) as file:
        shapes, understood = dict(file.shapes), file.understanding
        network = architecture(model) if model else recognised(shapes)
        if network is None:
            raise WeightsError(_unknown(path, shapes, understood))
        deepest, whose = reach(file, network), pairing.whose(file, network)
    sha256 = fingerprint(path)
    md5 = digest(file_path, "md5") if form.md5 else ""
    places, head = located(shapes, network), trained_head(path)
    own = (WEIGHT, BIAS) if head else ()
    return Inspection(
        path=path,
        format=form.name,
        size=file_path.stat().st_size,
        sha256=sha256,
        network=network,
        layers=_layers(network, shapes, places),
        deepest=deepest,
        others=tuple(sorted({*shapes, *understood.elsewhere} - {*places.values(), *own})),
        notes=understood.notes,
        obstacle=understood.obstacle.reason if understood.obstacle else "",
        parts=understood.parts,
        published=known.matching(sha256, md5),
        filters=f"that of {whose[0].whose} (distance {whose[1]:.1e})" if whose else "",
        pairing=pairing.decided(path, sha256, network, md5, strange=True),
        head=head,
        trained=training_of(path),
    )


def _unknown(path: Path, shapes: Mapping[str, tuple[int, ...]], understood: Understanding) -> str:
    """Say why nothing is known of a file."""
    if understood.obstacle and not shapes:
        return f"{path}: {understood.obstacle.reason}"
    listed = _listed(shapes) if shapes else ", ".join(understood.elsewhere[:_SHOWN]) or "no tensors"
    why = f" What stops it: {understood.obstacle.reason}" if understood.obstacle else ""
    return f"{path} holds no network that is known here: it has {listed}.{why}"


def _layers(
    network: Architecture, shapes: Mapping[str, tuple[int, ...]], names_in_file: Mapping[str, str]
) -> tuple[FileLayer, ...]:
    layers = []
    for layer in network.layers:
        tensor_names = names([layer])
        if tensor_names:
            present = [
                shapes[names_in_file[name]] for name in tensor_names if name in names_in_file
            ]
            shape = (
                shapes[names_in_file[tensor_names[0]]] if tensor_names[0] in names_in_file else ()
            )
            layers.append(FileLayer(layer.name, shape, sum(map(math.prod, present))))
    return tuple(layers)


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    shown = [f"{name} {shape}" for name, shape in list(shapes.items())[:_SHOWN]]
    more = f" and {len(shapes) - _SHOWN} more" if len(shapes) > _SHOWN else ""
    return ", ".join(shown) + more if shown else "no tensors"
