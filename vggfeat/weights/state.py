"""What a network's state consists of, where a file has it, and whether the two fit.

The state is torchvision's state dict. A file may name its tensors as torchvision does or by the
canonical names of layers; nothing else needs to know which.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vggfeat.errors import WeightsError
from vggfeat.layers import ARCHITECTURES, Architecture, Layer
from vggfeat.weights.tensor_file import TensorFile

Shapes = Mapping[str, tuple[int, ...]]

_LISTED = 6  # names of tensors shown in one message
_CONVOLUTIONAL = re.compile(r"(features\.|conv\d|bn\d)")


def layer_shapes(layer: Layer) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a layer's tensors: ``weight``, ``bias`` and running statistics."""
    vector = (layer.outputs,)
    match layer.kind:
        case "conv":
            return {"weight": (*vector, layer.inputs, *[layer.kernel] * 2), "bias": vector}
        case "linear":
            return {"weight": (*vector, layer.inputs), "bias": vector}
        case "bn":
            return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), vector)
        case _:
            return {}


def shapes(network: Architecture) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in torchvision's state dict of a network."""
    return {
        f"{layer.module}.{kind}": shape
        for layer in network.layers
        for kind, shape in layer_shapes(layer).items()
    }


def names(layers: Iterable[Layer]) -> list[str]:
    """Return the names of some layers' tensors in torchvision's state dict."""
    return [f"{layer.module}.{kind}" for layer in layers for kind in layer_shapes(layer)]


def located(in_file: Shapes, network: Architecture) -> dict[str, str]:
    """Return where a file has a network's tensors: torchvision's name to the file's.

    Parameters
    ----------
    in_file : mapping of str to tuple of int
        Shapes by the file's names; tensors that it lacks are left out.
    network : Architecture
        Which network.
    """
    names_in_file: dict[str, str] = {}
    for layer in network.layers:
        for kind in layer_shapes(layer):
            name, canonical = f"{layer.module}.{kind}", f"{layer.name}.{kind}"
            if name in in_file:
                names_in_file[name] = name
            elif canonical in in_file:
                names_in_file[name] = canonical
    return names_in_file


def recognised(in_file: Shapes) -> Architecture | None:
    """Return the network whose convolutions are those of a file, or None.

    The fully connected layers may be missing, or tell other classes apart.
    """
    convolutions = {name for name in in_file if _CONVOLUTIONAL.match(name)}
    for network in ARCHITECTURES.values():
        expected, names_in_file = shapes(network), located(in_file, network)
        body = names(layer for layer in network.layers if layer.kind in ("conv", "bn"))
        fitting = (
            name in names_in_file and in_file[names_in_file[name]] == expected[name]
            for name in body
        )
        if all(fitting) and convolutions == {names_in_file[name] for name in body}:
            return network
    return None


def reach(file: TensorFile, network: Architecture) -> str:
    """Return the deepest layer that a file has everything for; empty where it is none."""
    in_file, obstacle = file.shapes, file.understanding.obstacle
    expected, names_in_file = shapes(network), located(in_file, network)
    deepest = ""
    for layer in network.layers:
        if obstacle is not None and layer.name == obstacle.before:
            return deepest
        for name in names([layer]):
            if name not in names_in_file or in_file[names_in_file[name]] != expected[name]:
                return deepest
        deepest = layer.name
    return deepest


def check(
    file: TensorFile, network: Architecture, requested: Iterable[str], path: Path, deepest: str = ""
) -> None:
    """Refuse a file that is of another network, lacks what was asked for, or is not understood.

    What belongs to layers that were not asked for may be missing, or have other shapes: a network
    trained for other classes, or without its fully connected layers, serves as far as it goes.

    Parameters
    ----------
    file : TensorFile
        Opened file.
    network : Architecture
        What the file should be of.
    requested : iterable of str
        Names in torchvision's state dict.
    path : Path
        The file, for the message.
    deepest : str
        Canonical name of the deepest layer that will run; by default the deepest that something
        is asked for.

    Raises
    ------
    WeightsError
        The message lists what does not fit, and says what would.
    """
    in_file, wanted = file.shapes, list(requested)
    expected, names_in_file = shapes(network), located(in_file, network)
    missing = [name for name in wanted if name not in names_in_file]
    problems = [f"{name} is missing" for name in missing]
    problems += [
        f"{name} has shape {in_file[names_in_file[name]]}, not {expected[name]}"
        for name in wanted
        if name in names_in_file and in_file[names_in_file[name]] != expected[name]
    ]
    strange = sorted(set(in_file) - set(names_in_file.values()))
    # A head of another make may stand in the file as long as nothing of it is asked for.
    unknown = [name for name in strange if _CONVOLUTIONAL.match(name)]
    obstacle = file.understanding.obstacle
    modules = {name.rpartition(".")[0] for name in wanted}
    run = {layer.name for layer in network.layers if layer.module in modules} | {deepest}
    order = [*network.names, ""]
    blocked = obstacle is not None and order.index(obstacle.before) <= max(
        (order.index(name) for name in run if name), default=-1
    )
    if obstacle is not None and (blocked or problems):
        what = f"{network.name} cannot be read from it" if blocked else f"{_listed(problems)}"
        far = reach(file, network)
        goes = f" Its last usable layer is {far}." if far else ""
        raise WeightsError(f"{path}: {what}: {obstacle.reason}{goes}")
    if problems or unknown:
        strangers = [f"{name} is unknown" for name in unknown]
        there = _there(file, set(names_in_file.values())) if missing else []
        every = "; ".join([_listed(problems + strangers), *there])
        raise WeightsError(f"{path} does not fit {network.name}: {every}. {_remedy(file, network)}")


def _listed(problems: Sequence[str]) -> str:
    more = f"; and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
    return f"{'; '.join(problems[:_LISTED])}{more}"


def _there(file: TensorFile, placed: set[str]) -> list[str]:
    """Say which tensors a file has that stand for none of the network's, where some are missing."""
    rest = [n for n in (*file.shapes, *file.understanding.elsewhere) if n not in placed]
    if not rest:
        return []
    more = f" and {len(rest) - _LISTED} more" if len(rest) > _LISTED else ""
    return [f"what it has instead is {', '.join(rest[:_LISTED])}{more}"]


def _remedy(file: TensorFile, network: Architecture) -> str:
    other = recognised(file.shapes)
    if other and other.name != network.name:
        return f"Its convolutions are those of {other.name}: give --model {other.name}."
    if other and (deepest := reach(file, network)):
        return f"Its last usable layer is {deepest}: ask for layers up to it, or give another file."
    return f"Give a file of {network.name}, or another --model."
