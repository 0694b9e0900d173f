"""Which layers of a store are scored, and whether their images fit into memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vggfeat.errors import ProbeError
from vggfeat.feature_table import requested_layers
from vggfeat.layers import layer_of
from vggfeat.memory import available_memory

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

__all__ = ["check_memory", "none_finite", "requested_layers"]


def check_memory(store: FeatureTable, layer: str, n_train: int, n_test: int) -> None:
    """Refuse a layer that surely does not fit.

    Counted is what no classifier can do without: all features in float32, and the training
    images' in float64.

    Parameters
    ----------
    store : FeatureTable
        Where the layer is.
    layer : str
        Canonical name.
    n_train, n_test : int
        Number of images.

    Raises
    ------
    ProbeError
        The layer takes more memory than there is; the message says which pooling to take.
    """
    shape = store.shape(layer)
    needed = math.prod(shape) * (12 * n_train + 4 * n_test)
    free = available_memory()
    if free is None or needed <= free:
        return
    plain = layer_of(layer)
    size = " x ".join(map(str, shape))
    remedy = (
        f"Extract it pooled, with --layers {plain}:avg or {plain}:max, which makes vectors of "
        f"length {shape[0]},"
        if len(shape) > 1
        else "Train on fewer images,"
    )
    raise ProbeError(
        f"{layer} of {store.path} does not fit into memory: {n_train + n_test:,} images of {size} "
        f"numbers take at least {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free. "
        f"{remedy} or leave it out with --layers."
    )


def none_finite(store: FeatureTable, layers: Sequence[str]) -> ProbeError:
    """Return what is raised where no layer of a store could be scored."""
    return ProbeError(
        f"No layer of {store.path} has finite features: {', '.join(layers)}. "
        "`vggfeat verify` lists damaged rows."
    )
