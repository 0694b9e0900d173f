"""What named layers put out: one way, on which features, heat maps and training stand."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from vggfeat import pooling
from vggfeat.errors import LayerError
from vggfeat.layers import Architecture, layer_of
from vggfeat.network.engines import Runner
from vggfeat.network.positions import Portion, portions


def activations(
    runner: Runner,
    network: Architecture,
    names: Sequence[str],
    inputs: Iterable[Tensor],
    poolings: Mapping[str, str],
    *,
    dense: bool = False,
) -> dict[str, Tensor]:
    """Run layers over parts of a batch, the fully connected ones on many parts together.

    Parameters
    ----------
    runner : Runner
        What runs them.
    network : Architecture
        Whose layers they are.
    names : sequence of str
        Of the layers that run, in this order.
    inputs : iterable of Tensor
        Parts of a batch, each for the first layer; they may differ in size where poolings do away
        with it.
    poolings : dict of str to str
        What to keep: layers, or ``LAYER:POOL``, each with its pooling; ``""`` keeps the activation
        itself.
    dense : bool
        Run the fully connected layers at every position of the map
        (:mod:`~vggfeat.network.positions`). Otherwise the map is resampled to what they were
        trained on.

    Returns
    -------
    dict of str to Tensor
        By the keys of `poolings` float32 values in the order of the inputs: (B, C, H, W), (B, D),
        in a dense run (B, D, h, w) of fully connected layers, or what a pooling makes of it. Where
        autograd records and there is one part, later layers see these very tensors, so that scores
        have gradients with respect to each.
    """
    results: dict[str, list[Tensor]] = {name: [] for name in poolings}
    running: list[Portion] = []

    columns: dict[str, list[str]] = {}
    for column in poolings:
        columns.setdefault(layer_of(column), []).append(column)

    def keep(name: str, activation: Tensor) -> Tensor:
        shown = activation
        for column in columns[name]:
            pooled = pooling.apply(activation, poolings[column])
            if pooled.data_ptr() == activation.data_ptr() and not runner.lasting:
                pooled = pooled.clone()
            results[column].append(pooled)
            if not poolings[column]:
                shown = pooled.to(activation.dtype)
        return shown

    def keep_rows(name: str, rows: Tensor) -> Tensor:
        parts = [keep(name, part) for part in running[-1].split(rows)]
        return running[-1].joined(parts) if rows.requires_grad else rows

    at = network.names.index("flatten")
    head = [name for name in names if name in network.names[at + 1 :]]
    body = [name for name in names[: len(names) - len(head)] if not (dense and name == "flatten")]
    listeners = {
        name: functools.partial(keep_rows if name in head else keep, name) for name in columns
    }
    grid = network.grid if head[:1] == ["fc6"] else 1
    maps = []
    for part in inputs:
        x = runner.body(part, body, listeners, result=bool(head)) if body else part
        if head and x.ndim == 4 and min(x.shape[2:]) < grid:
            size = " x ".join(map(str, x.shape[2:]))
            raise LayerError(
                f"A map of {size} is smaller than the {grid} x {grid} that fc6 sees. Give inputs "
                f"of at least {network.input_size} x {network.input_size} pixels."
            )
        if head:  # else it would be kept for nothing
            maps.append(x)
    for portion in portions(maps, grid, runner.least_rows):
        running[:] = [portion]
        runner.head(portion.rows, head, listeners)
    return {
        name: torch.cat(parts) if len(parts) > 1 else parts[0] for name, parts in results.items()
    }


def route(
    network: Architecture,
    built: Sequence[str],
    layers: Iterable[str],
    first: str = "",
    *,
    dense: bool = False,
) -> tuple[list[str], list[str]]:
    """Return the layers that are asked for, and those that run to reach them.

    Parameters
    ----------
    network : Architecture
        Whose layers they are.
    built : sequence of str
        Canonical names of what is there to run, in its order.
    layers : iterable of str
        Names or aliases of the layers that are asked for.
    first : str
        Name or alias of the layer that the run starts at; by default the first of `built`.
    dense : bool
        Whether the fully connected layers run at every position.

    Returns
    -------
    list of str, list of str
        Canonical names, both in the order they run.

    Raises
    ------
    LayerError
        Unknown names, a layer that is not built, or that does not follow `first`; or the vector
        ``flatten``, which a dense run has not.
    """
    order = network.names
    start = network.layer(first or built[0])
    folded = f"bn{start.name.removeprefix('conv')}"  # a convolution that is part of it
    if start.kind == "bn" and first:
        raise LayerError(
            f"A run cannot start at {start.name}, which is one with the convolution before it. "
            f"Start at conv{start.name.removeprefix('bn')}."
        )
    begin = start.name if start.name in built else folded
    if begin not in built:
        raise LayerError(
            f"{start.name} is not built; {built[0]} to {built[-1]} are. Ask for it, or for a "
            "deeper layer, when the network is loaded."
        )
    requested = {network.layer(name).name for name in layers}
    if not requested:
        raise LayerError(f"No layer was asked for. Name at least one, such as {built[-1]}.")
    for name in requested:
        if order.index(name) < order.index(start.name):
            raise LayerError(
                f"{name} comes before {start.name}, where the run starts. Ask for layers from "
                f"{start.name} on, or start at {name} or before."
            )
        if name not in built:
            raise LayerError(
                f"{name} is not built; {built[0]} to {built[-1]} are. Ask for it when the network "
                "is loaded."
            )
    if dense and "flatten" in requested:
        raise LayerError("A dense run has no flatten: it is a vector. Ask for pool5.")
    past = max(built.index(name) for name in requested) + 1
    return [name for name in built if name in requested], list(built[built.index(begin) : past])


def check_input(network: Architecture, first: str, x: Tensor, *, dense: bool = False) -> None:
    """Refuse what cannot go into a layer.

    Parameters
    ----------
    network : Architecture
        Whose layer it is.
    first : str
        Canonical name of the layer.
    x : Tensor
        What the layer before it put out.
    dense : bool
        Whether the fully connected layers run at every position.

    Raises
    ------
    LayerError
        `x` has another shape, or holds no floating-point numbers.
    """
    at = network.names.index(first)
    flat = network.names.index("flatten")
    source = flat if dense and at == flat + 1 else at  # fc6 sees the maps themselves
    before = network.names[source - 1] if source else "normalised pixels"
    channels = network.layers[source].inputs
    fits = x.is_floating_point() and x.ndim == (4 if source <= flat or dense else 2)
    if not fits or x.shape[1] != channels or not x.numel():
        shape = f"(B, {channels}, H, W)" if source <= flat or dense else f"(B, {channels})"
        raise LayerError(
            f"{first} takes {before}, floating-point numbers {shape}, not {tuple(x.shape)} of "
            f"{str(x.dtype).removeprefix('torch.')}. Give what activations() returns of {before}, "
            "with the same `dense`."
        )
