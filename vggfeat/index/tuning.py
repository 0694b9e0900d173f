"""Choosing how hard an approximate structure must search: measured on queries it does not hold."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vggfeat.index import exact, structures
from vggfeat.index.searching import TUNED_FOR
from vggfeat.index.settings import Measured, Tuning

if TYPE_CHECKING:
    from vggfeat.index.preparing import Metric, Vectors
    from vggfeat.index.searching import Searcher

QUERIES = 1000
"""Most vectors that are held out."""
_SPARE = 8  # ids kept beyond k: float32 may order the last ones otherwise
_TIMED = 100  # queries timed one by one
_CANDIDATES = (16, 32, 64, 128, 256, 512, 1024)
_SURE = 1.645  # standard errors: one side of 95 %

Shares = npt.NDArray[np.float64]


class Truth:
    """The nearest vectors of some queries by exact search, found while blocks stream by.

    Parameters
    ----------
    queries : ndarray of float32, shape (q, d)
    metric : {"cosine", "l2", "ip"}
    k : int
        Neighbours.
    """

    def __init__(self, queries: Vectors, metric: Metric, k: int = TUNED_FOR) -> None:
        self.queries = queries
        self.metric: Metric = metric
        self.k = k
        self._sign = 1 if metric == "l2" else -1
        self._ids = np.full((len(queries), k + _SPARE), -1, np.int64)
        self._keys = np.full((len(queries), k + _SPARE), np.inf, np.float32)

    def update(self, vectors: Vectors, start: int) -> None:
        """Look at more vectors, whose ids begin at `start`."""
        if not len(vectors) or not len(self.queries):
            return
        kept = self._ids.shape[1]
        scores, ids = exact.propose(vectors, self.queries, min(kept, len(vectors)), self.metric)
        keys = np.concatenate([self._keys, self._sign * scores], axis=1)
        both = np.concatenate([self._ids, np.where(ids >= 0, ids + start, -1)], axis=1)
        first = np.argpartition(keys, kept - 1, axis=1)[:, :kept]
        self._keys = np.take_along_axis(keys, first, axis=1)
        self._ids = np.take_along_axis(both, first, axis=1)

    def bounds(self, vectors: Vectors) -> npt.NDArray[np.float32]:
        """Return the score of each query's k-th neighbour, signed so that less is nearer; (q,)."""
        scores = exact.score(vectors, self.queries, self._ids, self.metric)
        return np.asarray(np.sort(self._sign * scores, axis=1)[:, self.k - 1])


def tune(searcher: Searcher, truth: Truth, target: float) -> Tuning:
    """Find the fastest setting that reaches a recall.

    For each number of candidates the least effort is found whose recall is surely at least
    `target`; the settings found are timed, and the fastest is chosen. Where none reaches it, the
    one of the greatest recall is. Surely means that the recall, reckoned with one more query that
    finds nothing, less 1.645 standard errors is that large: queries mostly find all or, rarely,
    almost nothing, and a sample may hold none of the rare ones.

    Parameters
    ----------
    searcher : Searcher
        Of all vectors but the queries.
    truth : Truth
        What exact search finds among them.
    target : float
        Recall, in 0..1.
    """
    bounds = truth.bounds(searcher.vectors)
    queries = truth.queries.astype(np.float64)

    def shares_by(effort: int, candidates: int) -> Shares:
        return _shares(searcher.set(effort, candidates), queries, truth, bounds)

    tried: list[Measured] = []
    enough: list[bool] = []
    efforts = _efforts(*structures.effort_limits(searcher.structure))
    lossless = structures.lossless(searcher.structure)
    for candidates in (truth.k + _SPARE,) if lossless else _CANDIDATES:
        low, high = 0, len(efforts) - 1
        while low < high:  # the least effort that suffices
            middle = (low + high) // 2
            suffices = _surely(shares_by(efforts[middle], candidates)) >= target
            low, high = (low, middle) if suffices else (middle + 1, high)
        effort = efforts[low]
        shares = shares_by(effort, candidates)
        seconds = _seconds(searcher.set(effort, candidates), queries)
        tried.append(Measured(*_mean(shares), seconds, effort, candidates))
        enough.append(_surely(shares) >= target)
        reached = [one for one, suffices in zip(tried, enough, strict=True) if suffices]
        if candidates >= len(searcher.vectors) or _settled(tried[-1], reached, efforts[0]):
            break
    if reached:
        chosen = tried.index(min(reached, key=lambda one: one.seconds))
    else:
        chosen = max(range(len(tried)), key=lambda i: tried[i].recall)
    return Tuning(target, truth.k, len(queries), chosen, tuple(tried))


def _shares(
    searcher: Searcher,
    queries: npt.NDArray[np.float64],
    truth: Truth,
    bounds: npt.NDArray[np.float32],
) -> Shares:
    """Return the share of its nearest vectors that each query finds."""
    ids, _ = searcher.nearest(queries, truth.k)
    scores = exact.score(searcher.vectors, truth.queries, ids, truth.metric)
    sign = 1 if truth.metric == "l2" else -1
    hits = (sign * scores <= bounds[:, None]) & (ids >= 0)
    return np.asarray(hits.mean(axis=1))


def _mean(shares: Shares) -> tuple[float, float]:
    """Return the mean and its standard error."""
    return float(shares.mean()), float(shares.std(ddof=1) / np.sqrt(len(shares)))


def _surely(shares: Shares) -> float:
    """Return what the recall exceeds with 95 % confidence."""
    mean, error = _mean(np.append(shares, 0))
    return mean - _SURE * error


def _seconds(searcher: Searcher, queries: npt.NDArray[np.float64]) -> float:
    taken = []
    for query in queries[:_TIMED]:
        start = time.perf_counter()
        searcher.nearest(query[None], TUNED_FOR)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def _efforts(least: int, most: int) -> list[int]:
    """Return efforts to try, in steps of the square root of 2, the greatest among them."""
    if not most:
        return [0]
    efforts, effort = [], float(least)
    while effort < most:
        efforts.append(round(effort))
        effort *= 2**0.5
    return sorted({*efforts, most})


def _settled(last: Measured, reached: list[Measured], least: int) -> bool:
    """Return whether more candidates than the last cannot make a search faster."""
    if not reached or reached[-1] is not last:
        return False
    return last.effort == least or any(a.effort <= b.effort for a, b in pairwise(reached))
