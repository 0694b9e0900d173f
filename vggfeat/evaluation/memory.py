"""Whether a layer fits into memory, asked before hours of work instead of found out after."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vggfeat.errors import ProbeError

if TYPE_CHECKING:
    from vggfeat.store import FeatureStore

_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container
_FREE = Path("/proc/meminfo")


def check_memory(store: FeatureStore, layer: str, n_train: int, n_test: int) -> None:
    """Refuse a layer that surely does not fit.

    Counted is what no classifier can do without: all features in float32, and the training
    images' in float64.

    Parameters
    ----------
    store : FeatureStore
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
    shape = store[layer].shape[1:]
    needed = math.prod(shape) * (12 * n_train + 4 * n_test)
    free = available_memory()
    if free is None or needed <= free:
        return
    size = " x ".join(map(str, shape))
    remedy = (
        f"Extract it pooled, with --layers {layer}:avg or {layer}:max, which makes vectors of "
        f"length {shape[0]},"
        if len(shape) > 1
        else "Train on fewer images,"
    )
    raise ProbeError(
        f"{layer} of {store.path} does not fit into memory: {n_train + n_test:,} images of {size} "
        f"numbers take at least {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free. "
        f"{remedy} or leave it out with --layers."
    )


def available_memory() -> int | None:
    """Return how many bytes of memory a program can still take; None where that is unknown."""
    known = []
    with suppress(OSError, ValueError, KeyError):
        lines = dict(line.split(":") for line in _FREE.read_text().splitlines())
        known.append(int(lines["MemAvailable"].split()[0]) * 1024)
    with suppress(OSError, ValueError):  # "max" where there is none
        known.append(int(_LIMIT.read_text()))
    if not known:
        with suppress(AttributeError, OSError, ValueError):  # Windows has no sysconf
            known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(known, default=None)
