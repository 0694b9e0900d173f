"""Promises of an index about memory: features may be many times what there is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from index_rows import make_store

# So many that a quarter holds, beside what grows with them, FAISS's 16 MiB for any comparison.
ROWS, WIDTH = 56_000, 1024
CODE = """
import resource, sys
import numpy as np, faiss
from vggfeat.index import SimilarityIndex
from vggfeat.store import FeatureStore

kind, store, path, room = *sys.argv[1:4], int(sys.argv[4])
# Libraries take what they keep for themselves, whatever comes.
faiss.knn(np.ones((500, 500), np.float32), np.ones((5000, 500), np.float32), 3)
np.ones((500, 500), np.float32) @ np.ones((500, 500), np.float32)
np.ones((500, 500)) @ np.ones((500, 500))
taken = int(open("/proc/self/status").read().partition("VmData:")[2].split()[0]) << 10
# All that a process allocates counts, and not the files that it maps.
resource.setrlimit(resource.RLIMIT_DATA, (taken + room, taken + room))
with FeatureStore(store) as opened:
    index = SimilarityIndex.build(opened, "relu7", path=path, kind=kind, memory=room // 4)
    queries = opened["relu7"][:200:4]
answers = index.search(queries, 5)
assert [answer[0].row for answer in answers] == list(range(0, 200, 4)), answers[:3]
index.remove([index.path(3)])
index.compact()
print("done", len(index))
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="RLIMIT_DATA counts what is allocated on Linux only"
)
def test_a_quarter_of_what_the_features_take_suffices_to_build_search_and_compact(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(300, WIDTH)).astype(np.float32)
    X = centres[rng.integers(0, 300, ROWS)] + rng.standard_normal((ROWS, WIDTH), np.float32)
    store = make_store(tmp_path / "s.h5", X)
    room = X.nbytes // 4
    for kind in ("flat", "IVF64,PQ64x4fs"):
        words = [kind, str(store), str(tmp_path / "i"), str(room)]
        done = subprocess.run(
            [sys.executable, "-c", CODE, *words],
            capture_output=True,
            text=True,
            # One thread, as docs/search.md explains: where memory ends in a parallel region of
            # FAISS, or of its BLAS, the process ends, too.
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"done {ROWS - 1}\n"
