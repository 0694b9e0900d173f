"""Where Keras 3 keeps the tensors of layers: ``layers/CLASS_NUMBER/vars/INDEX``.

The layers of a model lie below its ``layers`` in groups called after their class in snake case,
with a number where a class comes again, counted in the model's order: ``conv2d``, ``conv2d_1``. A
model that is a layer has ``layers`` of its own. Newer versions note each layer's name in an
attribute of its ``vars``. In TensorFlow 2.12, ``layers`` were ``_layer_checkpoint_dependencies``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import h5py

from vggfeat import hdf5
from vggfeat.weights.keras_config import Lookup, Path, layers_of, name_of

_MOST, _LONGEST_NAME = 10_000, 4096
_ROOTS = ("layers", "_layer_checkpoint_dependencies")
_VARIABLES = {
    "Conv2D": ("weight", "bias"),
    "Dense": ("weight", "bias"),
    "BatchNormalization": ("gamma", "beta", "mean", "variance"),
}
_LEFT_OUT = {"bias": "use_bias", "gamma": "scale", "beta": "center"}
"""Roles, each with the option that leaves it out."""


def tensors(file: h5py.File, config: Mapping[str, Any] | None) -> tuple[dict[str, Any], Lookup]:
    """Return a file's datasets by their paths, and where each layer of a model has its own.

    The optimiser's state is left out.
    """
    sets = dict(_datasets(file))
    places: dict[Path, dict[str, str]] = {}
    if config is not None:
        for path, layer, group in _placed(config, (), file):
            names = (
                sorted((n for n in group if n.isdecimal()), key=int) if group is not None else []
            )
            paths = [f"{group.name.strip('/')}/{name}" for name in names]
            places[path] = _roles(layer, paths)
    return sets, lambda path: places.get(path, {})


def named(file: h5py.File) -> list[tuple[Path, dict[str, str]]]:
    """Return the layers of a file without a graph: path with its own name last, and tensors.

    The name is the one that Keras noted, else that of the group. Layers without tensors are there
    where Keras noted names.
    """
    layers: list[tuple[Path, dict[str, str]]] = []

    def visit(group: h5py.Group, path: Path) -> None:
        variables = group.get("vars")
        if isinstance(variables, h5py.Group):
            noted = hdf5.text(variables, "name", "")
            path = (*path[:-1], noted) if noted and path else path
            names = sorted((n for n in variables if n.isdecimal()), key=int)
            roles = _by_rank([variables[name].ndim for name in names])
            paths = [f"{variables.name.strip('/')}/{name}" for name in names]
            if names or (path and not any(root in group for root in _ROOTS)):
                layers.append((path, dict(zip(roles, paths, strict=True))))
        for name in sorted(group, key=_counted):
            inner = group[name]
            if name not in ("vars", "optimizer") and isinstance(inner, h5py.Group):
                visit(inner, path if name in _ROOTS else (*path, name))

    visit(file, ())
    return layers


def _by_rank(ranks: list[int]) -> list[str]:
    match ranks:
        case []:
            return []
        case [4] | [2]:
            return ["weight"]
        case [4, 1] | [2, 1]:
            return ["weight", "bias"]
        case [1, 1, 1, 1]:
            return ["gamma", "beta", "mean", "variance"]
        case _:
            return [f"variable {number}" for number in range(len(ranks))]


def _placed(
    config: Mapping[str, Any], path: Path, at: h5py.Group
) -> Iterator[tuple[Path, Mapping[str, Any], Any]]:
    """Give each layer of a model with its path and its group of variables, if it has one."""
    root = next((at[name] for name in _ROOTS if name in at), None)
    seen: dict[str, int] = {}
    for layer in layers_of(config):
        snake = _snake(str(layer["class_name"]))
        number = seen[snake] = seen.get(snake, -1) + 1
        inner, name = (*path, name_of(layer)), f"{snake}_{number}" if number else snake
        group = root.get(name) if root is not None else None
        if group is None:
            continue
        if layers_of(layer):
            yield from _placed(layer, inner, group)
            continue
        variables = group.get("vars")
        noted = hdf5.text(variables, "name", "") if variables is not None else ""
        if noted and noted != inner[-1]:
            raise ValueError(
                f"its configuration calls a layer {inner[-1]!r} whose tensors are those of "
                f"{noted!r}."
            )
        yield inner, layer, variables


def _roles(layer: Mapping[str, Any], paths: list[str]) -> dict[str, str]:
    config = layer["config"]
    roles = [
        role
        for role in _VARIABLES.get(str(layer["class_name"]), ())
        if config.get(_LEFT_OUT.get(role, ""), True)
    ]
    if len(roles) != len(paths):
        return {f"variable {number}": path for number, path in enumerate(paths)}
    return dict(zip(roles, paths, strict=True))


def _datasets(file: h5py.File) -> list[tuple[str, Any]]:
    datasets: list[tuple[str, Any]] = []

    def visit(name: str, one: Any) -> None:
        of_a_layer = "/vars/" in f"/{name}" and not name.startswith("optimizer/")
        if of_a_layer and isinstance(one, h5py.Dataset):
            datasets.append((name, one))
            if len(datasets) > _MOST or len(name) > _LONGEST_NAME:
                raise ValueError("its tensors are too many, or have too long names.")

    file.visititems(visit)
    return datasets


def _snake(name: str) -> str:
    """Return Keras's snake case: Conv2D is conv2d, MaxPooling2D max_pooling2d, ReLU re_lu."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _counted(name: str) -> tuple[str, int]:
    stem, _, number = name.rpartition("_")
    return (stem, int(number)) if number.isdecimal() else (name, 0)
