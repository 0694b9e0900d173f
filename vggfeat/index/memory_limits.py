"""Room for FAISS where a process may only allocate so much (``ulimit -v``, ``ulimit -d``).

Each thread of FAISS allocates memory of its own in a parallel region of OpenMP, which no exception
may leave, and its BLAS does not look whether it got its buffers: where memory ends in there, the
process ends by a signal. So under a limit FAISS runs on one thread, and only where what is left
covers the most that a step takes. Without a limit nothing of this happens.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vggfeat import malloc
from vggfeat.errors import SearchError
from vggfeat.failures import amount
from vggfeat.index.structures import FLAT
from vggfeat.index.vector_sources import block_bytes
from vggfeat.thread_pools import one_thread

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from vggfeat.index.kinds import Plan

BUFFER_BYTES = (128 + 2 * 32) << 20
"""What OpenBLAS sets aside for a thread at its first product: FAISS's, then NumPy's and SciPy's."""

# FAISS's block of scores: distance_compute_blas_query_bs, ..._database_bs
_COMPARING = 4096 * 1024 * 4
_PLACES, _KNOWN = 64, 256  # bytes an image: its place in several orders; what is known of it
_STATUS = Path("/proc/self/status")
_taking = threading.Lock()
_taken = False


def to_build(plan: Plan, count: int, dimension: int, *, queries: int) -> int:
    """Return the most bytes that building allocates at a time.

    That is the greatest of three phases. Training holds the sample twice (FAISS takes residuals of
    it), 16 bytes for each of its vectors, and FAISS's block of scores. Filling takes what
    :func:`to_fill` says, and the held-out queries. Tuning holds the structure twice, a block of
    scores, the queries (as float32, as float64 and as the float32 that are searched for) and the
    pairs that are looked at, as in :func:`to_search`.

    Parameters
    ----------
    plan : Plan
    count, dimension : int
        Vectors, and numbers in each.
    queries : int
        Vectors that are held out.
    """
    filling = to_fill(plan.size, count, dimension)
    if plan.factory == FLAT:
        return filling
    sample = min(plan.sample, count)
    training = sample * (2 * 4 * dimension + 16) + _COMPARING
    tuning = 2 * plan.size + _COMPARING + queries * dimension * (4 + 8 + 4) + _pairs(queries * 1024)
    return max(_PLACES * count + max(training, tuning), filling + 4 * queries * dimension)


def to_fill(size: int, count: int, dimension: int) -> int:
    """Return the most bytes that putting vectors into a structure allocates at a time.

    The structure twice, since its lists grow by doubling, and FAISS's block of scores; a block of
    vectors, and six times that to bring it into its form; 64 bytes an image for its place in
    several orders. Without a structure (`size` 0), not the former. At the end, 256 bytes an image:
    path, row, checksum and label, as they are read and as they are written.
    """
    structure = 2 * size + _COMPARING if size else 0
    return max(structure + 7 * block_bytes(dimension) + _PLACES * count, _KNOWN * count)


def to_search(queries: int, dimension: int, k: int, wanted: int) -> int:
    """Return the most bytes that a search allocates at a time.

    The queries as float64 and as float32, two copies of ids and scores, FAISS's block of
    scores, 64 bytes for each pair of a query and a candidate that is looked at, and what exact
    search looks at again of one query, as float32 and twice as float64.
    """
    answers = 2 * 12 * queries * (k + 8)
    again = 20 * min(1 << 21, (k + 8) * dimension)
    return 12 * queries * dimension + answers + _COMPARING + _pairs(queries * wanted) + again


def _pairs(count: int) -> int:
    return 64 * min(1 << 17, count)


@contextmanager
def within_limits(
    needed: int | None = None,
    step: str = "This",
    *,
    mapped: int = 0,
    remedy: str = "give less --memory or another --kind",
) -> Iterator[None]:
    """Give FAISS one thread where memory is limited, after a check that there is enough.

    Parameters
    ----------
    needed : int, optional
        Bytes that the step allocates. Without it nothing is checked, as for changes of an index
        that is open: how much of what it holds will be freed meanwhile is not known beforehand.
    step : str
        What needs them: ``"Building this index"``.
    mapped : int
        Bytes of files that it maps, which count where the address space is limited.
    remedy : str
        What to do beside raising the limit.

    Raises
    ------
    SearchError
        Less is left than the step needs.
    """
    if room() is None:
        yield
        return
    import faiss  # noqa: F401  (before its threads are limited)

    with one_thread():
        if needed is not None:
            take_buffers(step)
        malloc.return_freed_blocks()
        if needed is not None:
            _check(needed, step, remedy, mapped)
        yield


def take_buffers(step: str = "The first product of matrices") -> None:
    """Let FAISS's BLAS and NumPy's set their buffers aside, once a process.

    Raises
    ------
    SearchError
        There is no room for them.
    """
    global _taken
    import faiss

    with _taking, one_thread():
        if _taken:
            return
        _check(BUFFER_BYTES, step, "run it where there is none")
        for kind in (np.float32, np.float64):
            square = np.ones((500, 500), kind)
            square @ square
        faiss.knn(np.ones((500, 500), np.float32), np.ones((1000, 500), np.float32), 1)
        _taken = True


def room() -> tuple[int | None, int | None] | None:
    """Return how many bytes may still be allocated, and mapped as well; None without limits."""
    if resource is None:
        return None
    kinds = (resource.RLIMIT_DATA, resource.RLIMIT_AS)
    limits = [resource.getrlimit(kind)[0] for kind in kinds]
    if limits == [resource.RLIM_INFINITY, resource.RLIM_INFINITY]:
        return None
    try:
        status = _STATUS.read_text()
    except OSError:  # not Linux
        return None
    left: list[int | None] = []
    for limit, name in zip(limits, ("VmData", "VmSize"), strict=True):
        used = 1024 * int(status.partition(f"{name}:")[2].split()[0])
        left.append(None if limit == resource.RLIM_INFINITY else limit - used)
    return left[0], left[1]


def _check(needed: int, step: str, remedy: str, mapped: int = 0) -> None:
    wanted_bytes = (needed, needed + mapped)
    if (rest := room()) is None:
        return
    if any(left is not None and left < one for left, one in zip(rest, wanted_bytes, strict=True)):
        gc.collect()  # what nobody holds any more counts until it is collected
        malloc.return_freed_blocks()
        rest = room() or rest
    for left, wanted, flag in zip(rest, wanted_bytes, "dv", strict=True):
        if left is not None and left < wanted:
            raise SearchError(
                f"{step} takes up to {amount(wanted)} of memory, and the limit of this process "
                f"(ulimit -{flag}) leaves {amount(max(0, left))}. Raise the limit, or {remedy}."
            )
