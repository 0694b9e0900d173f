"""Exact nearest neighbours through FAISS, whose answers depend on nothing but the vectors.

FAISS computes in float32, in another order for one query than for many, and keeps any of several
vectors that are equally near. So it only proposes candidates here: all that rounding could have
put among the first k. Their scores are computed again in float64, and ties go to the lower row.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.index.preparing import Integers, Metric, Vectors, check_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vggfeat.index.filters import Selection

Scores = npt.NDArray[np.float64]

_SPARE = 8  # candidates beyond k that mostly show, at no cost, that none was missed
_BLOCK = 1 << 21  # numbers looked at again at a time
_GATHERED = 1 << 24  # numbers of chosen vectors that are copied together rather than skipped to


def search(
    vectors: Vectors,
    queries: Scores,
    k: int,
    *,
    metric: Metric,
    longest: float,
    order: Integers,
    chosen: Selection | None = None,
) -> tuple[Integers, Vectors]:
    """Find the k nearest vectors of each query.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
        Of length 1 for the cosine.
    queries : ndarray of float64, shape (q, d)
        Of length 1 for the cosine.
    k : int
        At least 1.
    metric : {"cosine", "l2", "ip"}
    longest : float
        Length of the longest vector.
    order : ndarray of int64, shape (n,)
        Of equally near vectors, those with the lower number come first.
    chosen : Selection, optional
        The vectors that may be found; all by default.

    Returns
    -------
    ids : ndarray of int64, shape (q, k)
        The nearest first; -1 where there are no more.
    scores : ndarray of float32, shape (q, k)
        Cosine in -1..1, Euclidean distance, or inner product; NaN where there are no more.

    Raises
    ------
    SearchError
        Numbers are too large for float32.
    """
    count = len(vectors) if chosen is None else len(chosen)
    ids = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), np.nan, np.float32)
    if not count or not len(queries):
        return ids, scores
    wanted = min(k + _SPARE, count)
    rough = queries.astype(np.float32)
    tolerances = _tolerances(queries, metric, longest)
    proposed_scores, proposed = propose(vectors, rough, wanted, metric, chosen)
    # FAISS measures l2 as squared distance, where less is nearer.
    sign = 1 if metric == "l2" else -1
    for i, (query, tolerance) in enumerate(zip(queries, tolerances, strict=True)):
        candidates = proposed[i][proposed[i] >= 0]
        if k < wanted < count:
            bound = sign * float(proposed_scores[i, k - 1]) + tolerance
            if sign * float(proposed_scores[i, -1]) <= bound:  # more may be as near
                candidates = _within(vectors, rough[i], bound, metric, chosen)
        near, near_scores = _first(vectors, candidates, query, k, metric, tolerance, order)
        ids[i, : len(near)], scores[i, : len(near)] = near, near_scores
    return ids, scores


def propose(
    vectors: Vectors, queries: Vectors, k: int, metric: Metric, chosen: Selection | None = None
) -> tuple[Vectors, Integers]:
    """Let FAISS compare each query with all vectors, or all chosen ones, in float32.

    Returns
    -------
    scores : ndarray of float32, shape (q, k)
        Squared distances for ``"l2"``, inner products otherwise; the nearest first.
    ids : ndarray of int64, shape (q, k)
        -1 where there are no more.
    """
    if chosen is not None and len(chosen) * vectors.shape[1] <= _GATHERED:
        scores, ids = propose(vectors[chosen.ids], queries, k, metric)
        return scores, np.where(ids >= 0, chosen.ids[ids], -1)
    import faiss

    queries = np.ascontiguousarray(queries, np.float32)
    scores = np.empty((len(queries), k), np.float32)
    ids = np.empty((len(queries), k), np.int64)
    selector = None if chosen is None else chosen.selector
    at: Any = faiss.swig_ptr
    sizes = (vectors.shape[1], len(queries), len(vectors), k)
    given = (at(queries), at(vectors), *sizes, at(scores), at(ids))
    if metric == "l2":
        faiss.knn_L2sqr(*given, None, selector)
    else:
        faiss.knn_inner_product(*given, selector)
    return scores, ids


def score(vectors: Vectors, queries: Vectors, ids: Integers, metric: Metric) -> Vectors:
    """Compare each query with vectors of its own, in float32, one pair at a time.

    Equal vectors have equal scores, whichever queries are given together.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
    queries : ndarray of float32, shape (q, d)
    ids : ndarray of int64, shape (q, c)
        Vectors to compare each query with; -1 for none.

    Returns
    -------
    ndarray of float32, shape (q, c)
        Squared distances for ``"l2"``, inner products otherwise; infinitely far for -1.
    """
    if not queries.flags.c_contiguous or not ids.flags.c_contiguous:
        queries, ids = np.ascontiguousarray(queries), np.ascontiguousarray(ids)
    scores = np.empty(ids.shape, np.float32)
    at, l2, products, threads, set_threads = _faiss()
    compare = l2 if metric == "l2" else products
    sizes = (vectors.shape[1], len(queries), ids.shape[1])
    if len(queries) > 1:
        compare(at(scores), at(queries), at(vectors), at(ids), *sizes)
        return scores
    # FAISS divides queries among threads, and waking them for one takes longer than all else.
    usual = threads()  # of this thread alone
    set_threads(1)
    try:
        compare(at(scores), at(queries), at(vectors), at(ids), *sizes)
    finally:
        set_threads(usual)
    return scores


@cache
def _faiss() -> tuple[Any, ...]:
    """Return the functions of FAISS that each query takes, imported once."""
    import faiss

    return (
        *(faiss.swig_ptr, faiss.fvec_L2sqr_by_idx, faiss.fvec_inner_products_by_idx),
        *(faiss.omp_get_max_threads, faiss.omp_set_num_threads),
    )


def _within(
    vectors: Vectors, query: Vectors, bound: float, metric: Metric, chosen: Selection | None
) -> Integers:
    """Return all vectors that may be at least as near as `bound`."""
    sign = 1 if metric == "l2" else -1
    near = []
    ids = np.arange(len(vectors)) if chosen is None else chosen.ids
    for part in _parts(len(ids), vectors.shape[1]):
        block = vectors[part] if chosen is None else vectors[ids[part]]
        rough = block @ query
        if metric == "l2":
            rough = np.einsum("nd,nd->n", block, block) - 2 * rough + query @ query
        near.append(ids[part][sign * rough <= bound])
    return np.concatenate(near)


def _first(
    vectors: Vectors,
    candidates: Integers,
    query: Scores,
    k: int,
    metric: Metric,
    tolerance: float,
    order: Integers,
) -> tuple[Integers, npt.NDArray[np.float32]]:
    """Return the k nearest candidates and their scores, both (min(k, n),)."""
    sign = 1 if metric == "l2" else -1
    dimension = vectors.shape[1]
    if len(candidates) > k + _SPARE:
        # Sieve with BLAS in float64, whose errors are far below the rounding of the scores.
        keys = np.empty(len(candidates))
        for part in _parts(len(candidates), dimension):
            block = vectors[candidates[part]].astype(np.float64)
            keys[part] = -(block @ query)
            if metric == "l2":  # |v - q|^2 - |q|^2
                keys[part] = 2 * keys[part] + np.einsum("nd,nd->n", block, block)
        margin = tolerance / (math.sqrt(dimension) + 1)
        candidates = candidates[keys <= np.partition(keys, k - 1)[k - 1] + margin]
    scores = np.empty(len(candidates), np.float32)
    for part in _parts(len(candidates), dimension):
        block = vectors[candidates[part]].astype(np.float64)
        scores[part] = _scores(block, query, metric)
    first = np.lexsort((order[candidates], sign * scores))[:k]
    return candidates[first].astype(np.int64), scores[first]


def _parts(count: int, dimension: int) -> Iterator[slice]:
    step = max(1, _BLOCK // dimension)
    return (slice(start, start + step) for start in range(0, count, step))


def _tolerances(queries: Scores, metric: Metric, longest: float) -> Scores:
    """Bound, for each query, how far apart float32 can put two vectors that are equally near.

    Sums of d products of float32 err by about eps * sqrt(d) * |q| * |v| (Higham, "Accuracy and
    Stability of Numerical Algorithms", 2002, section 2.8: the rule of thumb of errors that are
    not all of one sign, and for one running sum, where FAISS keeps eight or more). Four times
    that leaves room for both of two vectors, and once more eps for scores rounded to float32.
    FAISS may expand squared distances into |q|^2 - 2 q.v + |v|^2, of size (|q| + |v|)^2.
    """
    lengths = np.linalg.norm(queries, axis=1)
    check_size(max(longest, lengths.max(initial=0)))
    scale = (lengths + longest) ** 2 if metric == "l2" else lengths * longest
    eps = float(np.finfo(np.float32).eps)
    return np.asarray(4 * eps * (math.sqrt(queries.shape[1]) + 1) * scale)


def _scores(vectors: Scores, query: Scores, metric: Metric) -> Scores:
    # Sums along rows, not a matrix product: BLAS may round equal rows differently by their place.
    if metric == "l2":
        return np.asarray(np.sqrt(((vectors - query) ** 2).sum(axis=1)))
    products: Scores = (vectors * query).sum(axis=1)
    if metric == "ip":
        return products
    lengths = np.sqrt((vectors**2).sum(axis=1))  # 1 but for the rounding to float32
    return np.asarray(np.clip(products / lengths, -1, 1))
