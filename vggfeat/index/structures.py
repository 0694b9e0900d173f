"""FAISS's structures: made by their names, given their effort, put in a form for the disk."""

from __future__ import annotations

import math
import os
import re
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SearchError
from vggfeat.index import faiss_layout
from vggfeat.index.folder import checksum
from vggfeat.index.named_files import open_plain
from vggfeat.index.preparing import Metric

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vggfeat.index.settings import Files

FLAT = "Flat"
"""Exact search over the vectors' own file, which needs no structure of FAISS."""

_REFINED = re.compile(r",R(Flat|efine\(Flat\))$")
_MAPPED = 1 << 30  # bytes of FAISS's file from which it is left on the disk


def cleaned(factory: str) -> str:
    """Return a factory string without exact re-ranking, which every search has anyway.

    Raises
    ------
    SearchError
        It asks for what the index does itself: other numbers for vectors, another refinement.
    """
    name = _REFINED.sub("", factory.strip())
    for part, reason in (
        ("IDMap", "the index numbers its vectors itself"),
        ("Refine", "the index compares candidates with the exact vectors itself"),
        ("L2norm", "the index scales vectors itself, for the cosine"),
    ):
        if part in name:
            raise SearchError(f"The FAISS factory string {factory!r} has {part}; {reason}.")
    return name


def make(factory: str, dimension: int, metric: Metric) -> Any:
    """Return an empty structure.

    Raises
    ------
    SearchError
        FAISS knows no such structure for vectors of this length.
    """
    import faiss

    measure = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    try:
        index = faiss.index_factory(dimension, factory, measure)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise SearchError(
            f"FAISS makes no index {factory!r} of vectors of {dimension} numbers ({reason}). "
            "Kinds are auto, flat, hnsw, ivf, ivfpq, or a string of FAISS's index_factory."
        ) from error
    try:
        faiss_layout.check_bytes(faiss.serialize_index(index).tobytes())
    except faiss_layout.LayoutError as error:
        raise SearchError(
            f"vggfeat builds no {factory!r}, which it could not read back safely: {error}. Kinds "
            "are auto, flat, hnsw, ivf, ivfpq."
        ) from error
    inner = core(index)
    if isinstance(inner, faiss.IndexIVF):
        # Small collections are indexed too; FAISS would only warn.
        inner.cp.min_points_per_centroid = 1
        inner.cp.seed = 0
        quantizer = faiss.downcast_index(inner.quantizer)
        if isinstance(quantizer, faiss.IndexHNSW):
            quantizer.hnsw.efSearch = 64
    return index


def train(index: Any, sample: npt.NDArray[np.float32]) -> None:
    """Train a structure; a small sample is repeated until FAISS accepts it.

    Raises
    ------
    SearchError
        FAISS cannot train it.
    """
    if index.is_trained:
        return
    inner = core(index)
    lists = int(getattr(inner, "nlist", 1))
    bits = int(getattr(getattr(inner, "pq", None), "nbits", 0) or 0)
    needed = max(lists, 1 << max(bits, 8))
    if len(sample) < needed:
        sample = np.tile(sample, (math.ceil(needed / len(sample)), 1))
    lent = _without_warnings(index)
    coder = _storage(inner)
    if hasattr(coder, "do_polysemous_training"):
        # Seconds for each part of a code, to order it for a search that we never ask for.
        coder.do_polysemous_training = False
    try:
        index.train(np.ascontiguousarray(sample, np.float32))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise SearchError(
            f"FAISS cannot train the index ({reason}). Choose another kind."
        ) from None
    finally:
        for rotation in lent:
            rotation.pq = None


def _without_warnings(index: Any) -> dict[Any, Any]:
    """Let code books be learnt from few vectors: FAISS would warn once for each sub-space.

    Returns
    -------
    dict
        Rotations, and the quantisers lent to them for the training.
    """
    import faiss

    quantizers = [getattr(_storage(core(index)), "pq", None)]
    lent = {}
    transformed = isinstance(index, faiss.IndexPreTransform)
    for at in range(index.chain.size() if transformed else 0):
        rotation = faiss.downcast_VectorTransform(index.chain.at(at))
        if isinstance(rotation, faiss.OPQMatrix):
            rotation.pq = lent[rotation] = faiss.ProductQuantizer(rotation.d_out, rotation.M, 8)
            quantizers.append(lent[rotation])
    for quantizer in quantizers:
        if quantizer is not None:
            quantizer.cp.min_points_per_centroid = 1
    return lent


def _storage(inner: Any) -> Any:
    """Return what holds the codes of a structure."""
    import faiss

    return faiss.downcast_index(inner.storage) if isinstance(inner, faiss.IndexHNSW) else inner


def core(index: Any) -> Any:
    """Return what is inside transformations."""
    import faiss

    inner = faiss.downcast_index(index)
    while isinstance(inner, faiss.IndexPreTransform):
        inner = faiss.downcast_index(inner.index)
    return inner


def effort_limits(index: Any) -> tuple[int, int]:
    """Return the least and greatest effort of a structure; (0, 0) where it has none to choose."""
    import faiss

    inner = core(index)
    if isinstance(inner, faiss.IndexIVF):
        return 1, int(inner.nlist)
    if isinstance(inner, faiss.IndexHNSW):
        return 8, max(8, min(4096, int(inner.ntotal)))
    return 0, 0


def lossless(index: Any) -> bool:
    """Return whether the structure holds the vectors as they are."""
    import faiss

    inner = core(index)
    if inner is not faiss.downcast_index(index):
        return False
    return isinstance(inner, faiss.IndexFlat | faiss.IndexIVFFlat | faiss.IndexHNSWFlat)


def selects(index: Any) -> bool:
    """Return whether the structure can search among chosen vectors alone."""
    import faiss

    return not isinstance(core(index), faiss.IndexFastScan)


def parameters(index: Any, effort: int, selector: Any = None) -> Any:
    """Return FAISS's parameters for one search."""
    import faiss

    inner = faiss.downcast_index(index)
    if isinstance(inner, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(
            index_params=parameters(inner.index, effort, selector)
        )
    given = {} if selector is None else {"sel": selector}
    if isinstance(inner, faiss.IndexIVF):
        return faiss.SearchParametersIVF(nprobe=effort, **given)
    if isinstance(inner, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(efSearch=effort, **given)
    return faiss.SearchParameters(**given) if given else None


def search(
    index: Any, queries: npt.NDArray[np.float32], count: int, given: Any
) -> npt.NDArray[np.int64]:
    """Return what a structure proposes for each query, the best first.

    Parameters
    ----------
    index : faiss.Index
    queries : ndarray of float32, shape (q, d), C-contiguous
    count : int
        Proposals for each.
    given : faiss.SearchParameters or None
        Of :func:`parameters`.

    Returns
    -------
    ndarray of int64, shape (q, count)
        -1 where there are fewer.

    Raises
    ------
    SearchError
        FAISS refuses.
    """
    shape = len(queries), count
    scores, ids = np.empty(shape, np.float32), np.empty(shape, np.int64)
    at = _pointer()
    try:  # what FAISS's own wrapper calls, after checks that take longer than some searches
        index.search_c(shape[0], at(queries), count, at(scores), at(ids), given)
    except RuntimeError as error:
        raise _refused("search", error) from error
    return ids


@cache
def _pointer() -> Any:
    import faiss

    return faiss.swig_ptr


@contextmanager
def refusing(step: str) -> Iterator[None]:
    """Turn what FAISS refuses to do into a SearchError; `step` is ``"add to"``."""
    try:
        yield
    except RuntimeError as error:
        raise _refused(step, error) from error


def _refused(step: str, error: RuntimeError) -> SearchError:
    reason = " ".join(str(error).split())
    return SearchError(
        f"FAISS cannot {step} the structure of this index: {reason}. Build the index anew."
    )


def opened(path: Path, files: Files, *, change: bool = False) -> Any:
    """Read a structure from its file; a large one stays on the disk, where FAISS can leave it.

    Parameters
    ----------
    path : Path
    files : Files
        What the file should be.
    change : bool
        Read it into memory in any case, so that vectors can be added.

    Raises
    ------
    SearchError
        It is damaged.
    """
    import faiss

    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
    mapped = size >= _MAPPED and not change
    # Before FAISS reads it: damaged sizes make its reader ask for any amount of memory.
    if size != files.faiss_size or (not mapped and checksum(path)[1] != files.faiss_crc32):
        raise SearchError(damaged(path))
    with open_plain(path) as file:
        try:
            faiss_layout.check(file)
        except faiss_layout.LayoutError as error:
            raise SearchError(
                f"{path} is refused before FAISS reads it: {error}. Build the index anew."
            ) from error
    try:
        index = faiss.read_index(os.fspath(path), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise SearchError(f"FAISS cannot read {path}: {reason}. Build the index anew.") from error
    if index.ntotal != files.count or index.d != files.dimension:
        raise SearchError(damaged(path))
    return index


def damaged(path: Path) -> str:
    """Say that a file is not the one that was written."""
    return (
        f"{path} is damaged: its size or CRC-32 is not what the catalogue says. Copy the index "
        "again from where it came, or build it anew."
    )
