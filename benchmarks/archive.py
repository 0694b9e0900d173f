"""A large archive of made-up features: many clusters of unequal size, as photographs have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt

from vggfeat.preprocessing import TORCHVISION
from vggfeat.provenance import FeatureConfig, Provenance, RunInfo, now
from vggfeat.store import StoreWriter

LAYER = "relu7"
NOISE = 0.6
"""Length of what is added to a cluster's centre, whose own length is 1."""
_BLOCK = 20_000

Vectors = npt.NDArray[np.float32]


def vectors(count: int, dimension: int, clusters: int, seed: int) -> Iterator[Vectors]:
    """Give unit vectors around centres that are the same for every seed, in blocks."""
    centres = np.random.default_rng(0).normal(size=(clusters, dimension)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        noise = rng.standard_normal((size, dimension), np.float32) * np.float32(
            NOISE / np.sqrt(dimension)
        )
        block = centres[rng.integers(0, clusters, size)] + noise
        yield block / np.linalg.norm(block, axis=1, keepdims=True)


def make(store: Path, queries: Path, count: int, dimension: int, clusters: int, asked: int) -> None:
    """Write a store of `count` features, and an array of `asked` queries of the same kind."""
    config = FeatureConfig("vgg16", "0" * 64, TORCHVISION.to_json(), "center", {LAYER: ""})
    run = RunInfo("/made-up", "random:0", "cpu", "float32", now())
    entries = [
        SimpleNamespace(path=f"{i // 1000:04d}/{i:07d}.jpg", size=1, mtime_ns=1)
        for i in range(count)
    ]
    with StoreWriter.open(
        store,
        entries=entries,
        shapes={LAYER: (dimension,)},
        provenance=Provenance(config, run),
        overwrite=True,
    ) as writer:
        start = 0
        for block in vectors(count, dimension, clusters, seed=1):
            writer.write(np.arange(start, start + len(block)), {LAYER: block})
            start += len(block)
    np.save(queries, np.concatenate(list(vectors(asked, dimension, clusters, seed=2))))
