"""Indexes of given vectors, and a program whose children change an index until they are killed.

For each line ``VERB STORE INDEX`` on its input, separated by tabs, it starts a process that
builds, adds to, or compacts INDEX; it prints that process's number at once, and its status at its
end. So a test waits for no imports.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from vggfeat.index import LeftOut, Metric, SimilarityIndex
from vggfeat.index.building import construct
from vggfeat.index.catalogue import Catalogue
from vggfeat.index.folder import commit, creating
from vggfeat.index.kinds import plan
from vggfeat.index.rows import Rows, Texts
from vggfeat.index.vector_sources import IndexVectors
from vggfeat.preprocessing import TORCHVISION
from vggfeat.provenance import FeatureConfig, Provenance, RunInfo
from vggfeat.store import FeatureStore, StoreWriter

PROVENANCE = Provenance(
    FeatureConfig(
        "vgg16", "ab" * 32, TORCHVISION.to_json(), "center", {"relu7": "", "pool5": "none"}
    ),
    RunInfo("/photos", "random:0", "cpu", "float32", "2026-01-01T00:00:00+00:00"),
)
ENDED = "2026-01-01T01:00:00+00:00"
Floats = npt.NDArray[np.float32]


def make_store(
    path: Path,
    X: Floats,
    labels: Mapping[int, tuple[str, ...]] | None = None,
    left_out: tuple[int, ...] = (),
    first: int = 0,
) -> Path:
    """Write a store with `X` as relu7 and maps of the same numbers as pool5.

    Of one run, which ends at one time: an index tells runs apart, and of equally near images puts
    those of an earlier run first.
    """
    maps = X.reshape(len(X), 2, 2, -1)
    numbers = range(first, first + len(X))
    entries = [SimpleNamespace(path=f"{i:05d}.jpg", size=1, mtime_ns=1) for i in numbers]
    with (
        patch("vggfeat.store.changes.now", lambda: ENDED),
        StoreWriter.open(
            path,
            entries=entries,
            shapes={"relu7": X.shape[1:], "pool5": maps.shape[1:]},
            provenance=PROVENANCE,
            labels={entries[i].path: names for i, names in (labels or {}).items()},
            overwrite=path.exists(),
        ) as writer,
    ):
        rows = np.array([i for i in range(len(X)) if i not in left_out])
        writer.write(rows, {"relu7": X[rows], "pool5": maps[rows]})
    return path


def index_of(
    X: Floats,
    metric: Metric,
    kind: str = "flat",
    path: Path | None = None,
    recall: float = 0.95,
    exhaustive: bool = False,
    names: Sequence[str] = (),
    source: str = "/photos",
) -> SimilarityIndex:
    """Index the rows of an array under the numbers 0, 2, 4 and so on, or under names."""
    vectors = np.float64(X)
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    row = 2 * np.arange(len(X))
    rows = Rows(
        Texts.of(names or (f"{one}.jpg" for one in row)),
        row,
        np.zeros(len(X), np.uint16),
        np.zeros(len(X), np.uint32),
        np.int32(np.arange(len(X)) % 4 - 1),
        ("ant", "bee", "ant|bee"),
        np.zeros(len(X), np.bool_),
    )
    indexed = IndexVectors([(np.float32(vectors), np.arange(len(X)))], rows)
    chosen = plan(kind, len(X), X.shape[1], metric, memory=1 << 30, recall=recall)
    place = path or Path(tempfile.mkdtemp()) / "test.index"
    with creating(place) as folder:
        built = construct(folder, indexed, chosen, metric, recall=recall, progress=lambda *_: None)
        catalogue = Catalogue(
            "relu7",
            metric,
            PROVENANCE.config.for_layer("relu7"),
            (replace(PROVENANCE.run, source=source),),
            indexed.rows(built.positions),
            built.longest,
            LeftOut(0, 0, 0),
            built.settings,
            built.files,
        )
        commit(folder, catalogue)
    return SimilarityIndex.open(place)


def change(verb: str, store_path: str, path: str) -> None:
    """Change an index."""
    with FeatureStore(store_path) as store:
        if verb == "build":
            SimilarityIndex.build(store, "relu7", path=path, kind="IVF16,SQ8")
        elif verb == "add":
            SimilarityIndex.open(path).add(store)
        else:
            SimilarityIndex.open(path).compact()


def main() -> None:
    import faiss  # noqa: F401  (not among what is to be interrupted)

    for line in sys.stdin:
        child = os.fork()
        if not child:
            change(*line.split("\t")[:3])
            os._exit(0)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    main()
