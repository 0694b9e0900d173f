"""From activations to features: how a layer's map (C, H, W) becomes what a store holds.

A pooling is named on the command line as ``NAME`` or ``NAME:PARAMETER``, for all convolutional
layers (``--pool``, or ``--layers all:max``) or for one (``--layers conv5_3:max,pool5:gem:2.5``).
To add one, write a :class:`Pooling` with its paper and add it to :data:`POOLINGS`; choices, shapes
and checks follow from it.

None of them whitens, and but for R-MAC none normalises: the probe and the index do that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING

from vggfeat.errors import LayerError
from vggfeat.layers import Architecture, Shape, split_layers
from vggfeat.pooling.base import Pooling
from vggfeat.pooling.gem import GeM
from vggfeat.pooling.plain import Average, Maximum, Whole
from vggfeat.pooling.regions import RMAC, SpatialPyramid
from vggfeat.pooling.weighted import CroW, SPoC

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ALL",
    "POOLINGS",
    "RMAC",
    "Average",
    "CroW",
    "GeM",
    "Maximum",
    "Pooling",
    "SPoC",
    "SpatialPyramid",
    "Whole",
    "apply",
    "canonical",
    "feature_shape",
    "parse_layers",
    "read",
]

POOLINGS: Mapping[str, type[Pooling]] = {
    kind.name: kind for kind in (Average, Maximum, GeM, RMAC, SPoC, CroW, SpatialPyramid, Whole)
}
"""Known poolings by name."""

ALL = "all"
"""Stands for every layer of a network where layers are asked for."""


def parse_layers(layers: str | Iterable[str], pool: str, network: Architecture) -> dict[str, str]:
    """Read the layers that were asked for, each with its pooling.

    Parameters
    ----------
    layers : str or iterable of str
        Names or aliases, as ``"conv5_3:max,pool5:gem:2.5,relu7"`` or one an item. Levels of
        ``spp`` are written ``spp:1+2+4``, or with commas; a comma before a digit ends no layer.
        ``"all"`` is every layer of the network, and ``"all:max"`` pools those that have maps; a
        layer named beside it keeps the pooling of its own, as in ``"all,pool5:none"``. A layer may
        come several times, each time with another pooling.
    pool : str
        Pooling of convolutional layers that name none themselves.
    network : Architecture
        The network whose names count.

    Returns
    -------
    dict of str to str
        Canonical name to the :func:`canonical` text of its pooling, in the order the layers
        run; ``""`` for layers whose activation is a vector already. A layer with several poolings
        is there with each, as ``LAYER:POOL``.

    Raises
    ------
    LayerError
        An unknown layer or pooling, a parameter out of its range, a layer named twice with one
        pooling or none at all, or a pooling for a layer that has no map.
    """
    requested = split_layers(layers) if isinstance(layers, str) else list(layers)
    poolings: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    default = canonical(pool)
    for text in filter(None, (item.strip() for item in requested)):
        name, colon, own = text.partition(":")
        chosen = canonical(own) if colon else default
        if name.strip().lower() == ALL:
            if others:
                raise LayerError(f"{ALL!r} is asked for twice ({text!r}); name it once.")
            others = {each.name: [chosen if each.spatial else ""] for each in network.layers}
            continue
        layer = network.layer(name)
        if own and not layer.spatial:
            raise LayerError(
                f"{text!r}: {layer.name} is a vector, so there is nothing to pool. "
                f"Ask for {layer.name!r} alone."
            )
        several = poolings.setdefault(layer.name, [])
        if (own_pool := chosen if layer.spatial else "") in several:
            raise LayerError(
                f"Layer {layer.name} is asked for twice ({text!r}); name it once, or each time "
                "with another pooling, as in pool5:avg,pool5:gem."
            )
        several.append(own_pool)
    poolings = others | poolings
    if not poolings:
        raise LayerError("No layer was asked for. Name at least one, such as relu7.")
    return {
        name if len(poolings[name]) == 1 else f"{name}:{each}": each
        for name in network.names
        for each in poolings.get(name, ())
    }


@cache
def read(pool: str) -> Pooling:
    """Return the pooling that a text names, as ``"gem"`` or ``"gem:2.5"``.

    Raises
    ------
    LayerError
        The pooling is unknown, or its parameter out of its range.
    """
    name, colon, parameter = pool.strip().lower().partition(":")
    if name not in POOLINGS:
        known = ", ".join(kind.usage for kind in POOLINGS.values())
        raise LayerError(f"Unknown pooling {pool!r}. Known poolings: {known}.")
    return POOLINGS[name].read(parameter) if colon else POOLINGS[name]()


def canonical(pool: str) -> str:
    """Return a pooling's text with its parameter written out, so that equals read the same.

    As :func:`read`, this raises :class:`LayerError` for what is no pooling.

    Examples
    --------
    >>> canonical("gem"), canonical("gem:3.0"), canonical("spp:1,2"), canonical("avg")
    ('gem:3', 'gem:3', 'spp:1+2', 'avg')
    """
    return str(read(pool))


def feature_shape(network: Architecture, layer: str, pool: str) -> Shape:
    """Return the shape of one image's feature for a view of the network's own input size."""
    shape = network.output_shape(layer)
    return read(pool).shape(shape) if pool else shape


def apply(activation: Tensor, pool: str) -> Tensor:
    """Pool a batch of activations.

    Parameters
    ----------
    activation : Tensor
        (B, C, H, W) or (B, D), of any floating type, on any device.
    pool : str
        Text of a pooling, ``""`` for vectors.

    Returns
    -------
    Tensor
        float32, (B, ...) as the pooling's :meth:`~Pooling.shape` says; pooled in float32
        whatever the type of the activation.
    """
    single = activation.float()
    return read(pool)(single) if pool else single
