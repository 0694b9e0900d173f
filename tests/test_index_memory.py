"""Promises of an index about memory: features may be many times what there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from index_rows import make_store

# So many that a third holds, beside what grows with them, FAISS's 16 MiB for any comparison.
ROWS, WIDTH = 62_000, 1024
TWO_THREADS = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
CODE = """
import resource, sys
import faiss
from vggfeat.index import SimilarityIndex, memory_limits
from vggfeat.store import FeatureStore

kind, store, path, room = *sys.argv[1:4], int(sys.argv[4])
assert faiss.omp_get_max_threads() == 2
memory_limits.take_buffers()  # libraries take what they keep for themselves, whatever comes
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
def test_a_third_of_what_the_features_take_suffices_to_build_search_and_compact(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(300, WIDTH)).astype(np.float32)
    X = centres[rng.integers(0, 300, ROWS)] + rng.standard_normal((ROWS, WIDTH), np.float32)
    store = make_store(tmp_path / "s.h5", X)
    room = X.nbytes // 3
    for kind in ("flat", "IVF64,PQ64x4fs"):
        words = [kind, str(store), str(tmp_path / "i"), str(room)]
        done = subprocess.run(
            [sys.executable, "-c", CODE, *words],
            capture_output=True,
            text=True,
            env=os.environ | TWO_THREADS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"done {ROWS - 1}\n"


LIMITED = """
import os, resource, sys
import faiss
from vggfeat.errors import SearchError
from vggfeat.index import SimilarityIndex, memory_limits
from vggfeat.index.building import needed_to_build
from vggfeat.index.vector_sources import StoreVectors
from vggfeat.index.kinds import plan
from vggfeat.store import FeatureStore

store, path, kind = sys.argv[1:]
assert faiss.omp_get_max_threads() == 2
memory_limits.take_buffers()
with FeatureStore(store) as opened:
    vectors = StoreVectors(opened, "relu7", "cosine")
    count, width = len(vectors.positions), vectors.dimension
    chosen = plan(kind, count, width, "cosine", memory=MEMORY, recall=0.95)
    needed = needed_to_build(chosen, vectors)
    opened_index = 256 * count
    needed = max(needed, memory_limits.to_search(50, width, 5, 1024) + opened_index)
    needed += 4 * count * width  # the vectors, which are mapped
for share in (0.0, 0.9, 1.05):
    child = os.fork()
    if not child:
        taken = int(open("/proc/self/status").read().partition("VmSize:")[2].split()[0]) << 10
        room = taken + max(int(share * needed), 4 << 20)  # Python takes some to come that far
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
        try:
            with FeatureStore(store) as opened:
                given = {"path": f"{path}{share}", "kind": kind, "memory": MEMORY}
                index = SimilarityIndex.build(opened, "relu7", **given)
                answers = index.search(opened["relu7"][:50], 5)
            assert [answer[0].row for answer in answers] == list(range(50))
            os._exit(0)
        except SearchError as error:
            print(error, flush=True)
            os._exit(3)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(4)
    print(share, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
""".replace("MEMORY", str(8 << 20))


@pytest.mark.skipif(sys.platform != "linux", reason="the room left is read from Linux's /proc")
@pytest.mark.parametrize("kind", ["flat", "IVF16,PQ16x4fs"])
def test_too_little_address_space_is_refused_and_enough_is_enough(
    tmp_path: Path, kind: str
) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((8000, 64), np.float32)
    store = make_store(tmp_path / "s.h5", X)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(store), str(tmp_path / "i"), kind],
        capture_output=True,
        text=True,
        env=os.environ | TWO_THREADS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"(Building this index takes up to .* \(ulimit -v\) leaves .* Raise the limit, or .*\n"
        r"0\.0 3\n).*0\.9 [03]\n1\.05 0\n",
        done.stdout,
        re.DOTALL,
    ), done.stdout
