"""Which layers of a store are meant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from vggfeat.errors import LayerError
from vggfeat.layers import ARCHITECTURES

if TYPE_CHECKING:
    from vggfeat.store import FeatureStore


def asked_layers(store: FeatureStore, layers: Iterable[str] | None) -> list[str]:
    """Return the canonical names of the layers asked for, in the order they run.

    Parameters
    ----------
    store : FeatureStore
        That must have them.
    layers : iterable of str, optional
        Names or aliases, also in one text with commas between; all of the store by default.

    Raises
    ------
    LayerError
        The store has no such layer, or none is named.
    """
    network = ARCHITECTURES.get(store.provenance.deciding.model)
    depth = {name: at for at, name in enumerate(network.names if network else store.layers)}
    held = sorted(store.layers, key=lambda name: depth.get(name, len(depth)))
    if layers is None:
        return held
    texts = layers.split(",") if isinstance(layers, str) else layers
    wanted = {store.layer(name) for name in texts if name.strip()}
    if not wanted:
        raise LayerError(f"No layer was asked for. {store.path} has {', '.join(held)}.")
    return [name for name in held if name in wanted]
