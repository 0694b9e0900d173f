"""From activations to features: how a layer's map (C, H, W) becomes what a store holds.

A pooling is named on the command line as ``NAME`` or ``NAME:PARAMETER``, for all convolutional
layers (``--pool``, or ``--layers all:max``) or for one (``--layers conv5_3:max``). To add one, add
a row to :data:`POOLINGS`; choices, shapes and checks follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vggfeat.errors import LayerError
from vggfeat.layers import Architecture, Shape

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Pooling:
    """One way to pool.

    Attributes
    ----------
    apply : callable
        (B, C, H, W) float32 tensor to (B, ...) tensor.
    shape : callable
        (C, H, W) to the shape of one image's feature.
    summary : str
        One line for help texts.
    """

    apply: Callable[[Tensor], Tensor]
    shape: Callable[[Shape], Shape]
    summary: str


def _mean(maps: Tensor) -> Tensor:
    return maps.mean(dim=(2, 3))  # (B, C, H, W) -> (B, C)


def _maximum(maps: Tensor) -> Tensor:
    return maps.amax(dim=(2, 3))  # (B, C, H, W) -> (B, C)


def _whole(maps: Tensor) -> Tensor:
    return maps


def _channels(shape: Shape) -> Shape:
    return shape[:1]


def _same(shape: Shape) -> Shape:
    return shape


POOLINGS: Mapping[str, Pooling] = {
    "avg": Pooling(_mean, _channels, "mean over space"),
    "max": Pooling(_maximum, _channels, "maximum over space"),
    "none": Pooling(_whole, _same, "the whole map (C, H, W)"),
}
"""Known poolings by name."""

ALL = "all"
"""Stands for every layer of a network where layers are asked for."""


def parse_layers(layers: str | Iterable[str], pool: str, network: Architecture) -> dict[str, str]:
    """Read the layers that were asked for, each with its pooling.

    Parameters
    ----------
    layers : str or iterable of str
        Names or aliases, as ``"conv5_3:max,relu7"`` or one an item. ``"all"`` is every layer of
        the network, and ``"all:max"`` pools those that have maps; a layer named beside it keeps
        the pooling of its own, as in ``"all,pool5:none"``.
    pool : str
        Pooling of convolutional layers that name none themselves.
    network : Architecture
        The network whose names count.

    Returns
    -------
    dict of str to str
        Canonical name to pooling, in the order the layers run; ``""`` for layers whose
        activation is a vector already.

    Raises
    ------
    LayerError
        An unknown layer or pooling, a layer named twice or none at all, or a pooling for a
        layer that has no map.
    """
    asked = layers.split(",") if isinstance(layers, str) else list(layers)
    found: dict[str, str] = {}
    others: dict[str, str] = {}
    check(pool)
    for text in filter(None, (item.strip() for item in asked)):
        name, colon, own = text.partition(":")
        if own or colon:
            check(own)
        if name.strip().lower() == ALL:
            if others:
                raise LayerError(f"{ALL!r} is asked for twice ({text!r}); name it once.")
            others = {each.name: (own or pool) if each.spatial else "" for each in network.layers}
            continue
        layer = network.layer(name)
        if own and not layer.spatial:
            raise LayerError(
                f"{text!r}: {layer.name} is a vector, so there is nothing to pool. "
                f"Ask for {layer.name!r} alone."
            )
        if layer.name in found:
            raise LayerError(f"Layer {layer.name} is asked for twice ({text!r}); name it once.")
        found[layer.name] = (own or pool) if layer.spatial else ""
    found = others | found
    if not found:
        raise LayerError("No layer was asked for. Name at least one, such as relu7.")
    return {name: found[name] for name in network.names if name in found}


def check(pool: str) -> None:
    """Raise :class:`LayerError` unless `pool` names a known pooling."""
    if pool not in POOLINGS:
        raise LayerError(f"Unknown pooling {pool!r}. Known poolings: {', '.join(POOLINGS)}.")


def feature_shape(network: Architecture, layer: str, pool: str) -> Shape:
    """Return the shape of one image's feature for a view of the network's own input size."""
    shape = network.output_shape(layer)
    return POOLINGS[pool].shape(shape) if pool else shape


def apply(activation: Tensor, pool: str) -> Tensor:
    """Pool a batch of activations.

    Parameters
    ----------
    activation : Tensor
        (B, C, H, W) or (B, D), of any floating type.
    pool : str
        Name of a pooling, ``""`` for vectors.

    Returns
    -------
    Tensor
        float32, (B, ...) as :func:`feature_shape` says; pooled in float32 whatever the type of
        the activation.
    """
    single = activation.float()
    return POOLINGS[pool].apply(single) if pool else single
