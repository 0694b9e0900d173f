"""Exact nearest neighbours through FAISS, whose answers depend on nothing but the vectors.

FAISS computes in float32, in another order for one query than for many, and keeps any of several
vectors that are equally near. So it only proposes candidates here: all that rounding could have
put among the first k. Their scores are computed again in float64, and ties go to the lower row.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SearchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Metric = Literal["cosine", "l2", "ip"]
METRICS: tuple[Metric, ...] = ("cosine", "l2", "ip")
"""Known measures: cosine similarity, Euclidean distance, inner product."""

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

_SPARE = 8  # candidates beyond k that mostly show, at no cost, that none was missed
_BLOCK = 1 << 21  # numbers scored again at a time


def build(
    blocks: Iterable[tuple[Rows, Vectors]], *, dimension: int, count: int, metric: Metric
) -> Any:
    """Fill a flat FAISS index block by block.

    Parameters
    ----------
    blocks : iterable of (rows, vectors)
        Rows of the store, which become the index's ids, and their vectors (n, d): of length 1
        for the cosine.
    dimension : int
        d.
    count : int
        At most so many vectors will come.
    metric : {"cosine", "l2", "ip"}

    Returns
    -------
    faiss.IndexIDMap2
        Around an IndexFlatL2 or IndexFlatIP.
    """
    import faiss

    flat = faiss.IndexFlatL2(dimension) if metric == "l2" else faiss.IndexFlatIP(dimension)
    # A vector of C++ keeps its memory when it shrinks. Without this it would double as it grows,
    # and hold the matrix twice while it moves.
    try:
        flat.codes.resize(count * dimension * 4)
    except MemoryError:
        raise SearchError(
            f"An exact index of {count} vectors of length {dimension} takes "
            f"{count * dimension * 4 / 2**30:.1f} GiB of memory, more than there is. "
            "Choose a layer or pooling with shorter vectors."
        ) from None
    flat.codes.resize(0)
    index = faiss.IndexIDMap2(flat)
    for rows, vectors in blocks:
        index.add_with_ids(np.ascontiguousarray(vectors, np.float32), rows.astype(np.int64))
    return index


def search(
    index: Any, queries: npt.NDArray[np.float64], k: int, *, metric: Metric, longest: float
) -> Iterator[tuple[Rows, npt.NDArray[np.float64]]]:
    """Find the k nearest vectors of each query.

    Parameters
    ----------
    index : faiss.IndexIDMap2
        As :func:`build` made it.
    queries : ndarray of float64, shape (q, d)
        Of length 1 for the cosine.
    k : int
        At least 1; an index of fewer vectors gives all it has.
    metric : {"cosine", "l2", "ip"}
        That the index was built with.
    longest : float
        Length of the longest vector in the index.

    Yields
    ------
    rows : ndarray of int64, shape (min(k, n),)
        The nearest first, of equally near ones the lower row.
    scores : ndarray of float64, same shape
        Cosine in -1..1, Euclidean distance, or inner product; rounded to float32.

    Raises
    ------
    SearchError
        Numbers are too large for float32.
    """
    rough = queries.astype(np.float32)
    tolerances = _tolerances(queries, metric, longest)
    wanted = min(k + _SPARE, index.ntotal)
    proposed_scores, proposed = index.search(rough, wanted)
    # FAISS measures l2 as squared distance, where less is nearer.
    sign = 1 if metric == "l2" else -1
    for i, (query, tolerance) in enumerate(zip(queries, tolerances, strict=True)):
        candidates = proposed[i][proposed[i] >= 0]
        if k < wanted < index.ntotal:
            bound = sign * float(proposed_scores[i, k - 1]) + tolerance
            if sign * float(proposed_scores[i, -1]) <= bound:  # more may be as near
                radius = float(np.nextafter(np.float32(sign * bound), np.float32(sign * np.inf)))
                limits, _, found = index.range_search(rough[i : i + 1], radius)
                candidates = found[: limits[1]]
        yield _first(index, candidates, query, k, metric, tolerance)


def _first(
    index: Any,
    candidates: Rows,
    query: npt.NDArray[np.float64],
    k: int,
    metric: Metric,
    tolerance: float,
) -> tuple[Rows, npt.NDArray[np.float64]]:
    """Return the k nearest candidates and their scores, both (min(k, n),)."""
    sign = 1 if metric == "l2" else -1
    if len(candidates) > k + _SPARE:
        # Sieve with BLAS in float64, whose errors are far below the rounding of the scores.
        keys = np.empty(len(candidates))
        for part in _parts(len(candidates), index.d):
            vectors = index.reconstruct_batch(candidates[part]).astype(np.float64)
            keys[part] = -(vectors @ query)
            if metric == "l2":  # |v - q|^2 - |q|^2
                keys[part] = 2 * keys[part] + np.einsum("nd,nd->n", vectors, vectors)
        margin = tolerance / (math.sqrt(index.d) + 1)
        candidates = candidates[keys <= np.partition(keys, k - 1)[k - 1] + margin]
    scores = np.empty(len(candidates), np.float32)
    for part in _parts(len(candidates), index.d):
        vectors = index.reconstruct_batch(candidates[part]).astype(np.float64)
        scores[part] = _scores(vectors, query, metric)
    order = np.lexsort((candidates, sign * scores))[:k]
    return candidates[order].astype(np.int64), scores[order].astype(np.float64)


def _parts(count: int, dimension: int) -> Iterator[slice]:
    step = max(1, _BLOCK // dimension)
    return (slice(start, start + step) for start in range(0, count, step))


def _tolerances(
    queries: npt.NDArray[np.float64], metric: Metric, longest: float
) -> npt.NDArray[np.float64]:
    """Bound, for each query, how far apart float32 can put two vectors that are equally near.

    Sums of d products of float32 err by about eps * sqrt(d) * |q| * |v| (Higham, "Accuracy and
    Stability of Numerical Algorithms", 2002, section 2.8: the rule of thumb of errors that are
    not all of one sign, and for one running sum, where FAISS keeps eight or more). Four times
    that leaves room for both of two vectors, and once more eps for scores rounded to float32.
    FAISS may expand squared distances into |q|^2 - 2 q.v + |v|^2, of size (|q| + |v|)^2.
    """
    lengths = np.linalg.norm(queries, axis=1)
    scale = (lengths + longest) ** 2 if metric == "l2" else lengths * longest
    if scale.max(initial=0) > np.finfo(np.float32).max / 4:
        raise SearchError(
            "Features are too large to compare in float32; scale them, or use the cosine."
        )
    eps = float(np.finfo(np.float32).eps)
    return np.asarray(4 * eps * (math.sqrt(queries.shape[1]) + 1) * scale)


def _scores(
    vectors: npt.NDArray[np.float64], query: npt.NDArray[np.float64], metric: Metric
) -> npt.NDArray[np.float64]:
    # Sums along rows, not a matrix product: BLAS may round equal rows differently by their place.
    if metric == "l2":
        return np.asarray(np.sqrt(((vectors - query) ** 2).sum(axis=1)))
    products: npt.NDArray[np.float64] = (vectors * query).sum(axis=1)
    if metric == "ip":
        return products
    lengths = np.sqrt((vectors**2).sum(axis=1))  # 1 but for the rounding to float32
    return np.asarray(np.clip(products / lengths, -1, 1))
