"""How well features find the images of a benchmark of image retrieval.

Queries go the way of searches: whitened and compared as the index's vectors are, expanded if asked
for. The search is exact and ranks all images; the benchmark's own rules say what counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SearchError
from vggfeat.evaluation.retrieval.results import RetrievalEvaluation, RetrievalScore
from vggfeat.index import SimilarityIndex
from vggfeat.index.preparing import prepare_vectors
from vggfeat.metrics.retrieval import (
    UKBENCH_VIEWS,
    Area,
    precision_at,
    ranked_average_precision,
    ukbench_score,
)
from vggfeat.progress import Progress, silent

if TYPE_CHECKING:
    from vggfeat.datasets import RetrievalBenchmark
    from vggfeat.datasets.retrieval import Query
    from vggfeat.feature_table import FeatureTable
    from vggfeat.index import Expansion
    from vggfeat.index.preparing import Integers, Metric
    from vggfeat.whitening import Whitening

_AT_ONCE = 64  # queries, whose rankings of all images are in memory together


def score_benchmark(
    benchmark: RetrievalBenchmark,
    store: FeatureTable,
    queries: FeatureTable | None = None,
    *,
    layer: str | None = None,
    metric: Metric = "cosine",
    whitening: Whitening | int | None = None,
    augment: Expansion | None = None,
    expand: Expansion | None = None,
    area: Area | None = None,
    progress: Progress = silent,
) -> RetrievalEvaluation:
    """Score a benchmark on features that were extracted from it.

    Parameters
    ----------
    benchmark : RetrievalBenchmark
        From :func:`vggfeat.datasets.open_benchmark`.
    store : FeatureTable
        Of ``benchmark.source()``.
    queries : FeatureTable, optional
        Of ``benchmark.query_source()``, or of that with ``whole=True``: then whole images are the
        queries. By default whole images too, which must be among those of `store`.
    layer : str, optional
        May be left out where the store has one only.
    metric : {"cosine", "l2", "ip"}
        How nearness is measured.
    whitening, augment, expand :
        See :meth:`vggfeat.index.SimilarityIndex.build` and ``search``.
    area : {"trapezoid", "step"}, optional
        Definition of average precision; by default the benchmark's.
    progress : callable
        Told the stage, how many more of it are done, and how many there are.

    Returns
    -------
    RetrievalEvaluation

    Raises
    ------
    SearchError
        No query has features, or none has something to be found; or `store` holds other images,
        from which a whitening or augmentation would learn.
    StoreMismatchError
        The two stores were made in different ways, or a whitening of features made otherwise.
    LayerError
        A store has no such layer.
    """
    if layer is None and len(store.layers) > 1:
        raise SearchError(f"{store.path} has {', '.join(store.layers)}; say which layer to take.")
    name = store.layer(layer or store.layers[0])
    others = sorted(set(store.paths[store.done].tolist()) - set(benchmark.images))
    if others and (isinstance(whitening, int) or augment is not None):
        raise SearchError(
            f"{store.path} holds {len(others):,} images that are not searched, as {others[0]!r}, "
            "and a whitening or augmentation would learn from them. Extract the benchmark into a "
            "new store."
        )
    index = SimilarityIndex.build(
        store, name, kind="flat", metric=metric, whitening=whitening, augment=augment,
        progress=progress,
    )  # fmt: skip
    alive = set(map(index.path, index.ids.tolist()))
    index.remove([path for path in others if path in alive])
    query_set = _QuerySet(benchmark, index, store, queries, name)
    chosen = area or benchmark.protocol.area
    tallies = {level: _Tally(benchmark, chosen) for level in benchmark.levels}
    ids = {index.path(number): number for number in index.ids.tolist()}
    k = UKBENCH_VIEWS if benchmark.protocol.metric == "N-S score" else len(index)
    for numbers, X in query_set.blocks():
        rankings = _rankings(index, X, k, expand)
        for number, ranking in zip(numbers, rankings, strict=True):
            query_set.incomparable += ranking is None
            for level, tally in tallies.items():
                tally.add(benchmark.levels[level][number], ranking, ids)
        progress("Searching", len(numbers), len(query_set.numbers))
    return RetrievalEvaluation(
        benchmark=benchmark.name,
        protocol=benchmark.protocol,
        scores=tuple(tally.score(level) for level, tally in tallies.items()),
        images=len(index),
        settings=_settings(benchmark, index, store, query_set, chosen, expand, whitening),
        departures=_departures(benchmark, index, query_set, area),
    )


def _rankings(
    index: SimilarityIndex, X: npt.NDArray[np.float32], k: int, expand: Expansion | None
) -> list[Integers | None]:
    """Search for each query; None for one that cannot be compared, such as zeros."""
    ready = prepare_vectors(X, index.metric, index.catalogue.whitening)
    rankings: list[Integers | None] = [None] * len(X)
    if len(ready.kept):
        ids, _ = index.nearest(ready.vectors, k, expand=expand, prepared=True)
        for number, ranking in zip(ready.kept, ids, strict=True):
            rankings[number] = ranking
    return rankings


@dataclass(eq=False)
class _QuerySet:
    """Where the features of queries are, and how many of them cannot be compared."""

    benchmark: RetrievalBenchmark
    index: SimilarityIndex
    store: FeatureTable
    queries: FeatureTable | None
    layer: str
    incomparable: int = 0

    def __post_init__(self) -> None:
        if self.queries is not None:
            self.index.check(self.queries.provenance.config)
        holder = self.queries or self.store
        rows = {path: row for row, path in enumerate(holder.paths.tolist())}
        requested = self.benchmark.queries
        self.whole = not (
            self.benchmark.boxed and any(self.benchmark.key(one) in rows for one in requested)
        )
        done = holder.done
        keys = [self.benchmark.key(one, whole=self.whole) for one in requested]
        usable = [key in rows and bool(done[rows[key]]) for key in keys]
        self.holder = holder
        self.numbers = [number for number, good in enumerate(usable) if good]
        self.rows = [rows[keys[number]] for number in self.numbers]
        self.missing = [key for key, good in zip(keys, usable, strict=True) if not good]
        if not self.numbers:
            raise SearchError(
                f"None of the {len(keys):,} queries, as {keys[0]!r}, has features in {holder.path}."
                " Extract the benchmark's queries first; `vggfeat info` tells which images failed."
            )

    def blocks(self) -> Iterator[tuple[list[int], npt.NDArray[np.float32]]]:
        """Read features of queries, which may be images that occur in several."""
        for start in range(0, len(self.numbers), _AT_ONCE):
            rows = self.rows[start : start + _AT_ONCE]
            yield self.numbers[start : start + _AT_ONCE], self.holder.matrix(self.layer, rows)[1]


class _Tally:
    """What the queries of one level have scored so far."""

    def __init__(self, benchmark: RetrievalBenchmark, area: Area) -> None:
        self.protocol, self.area = benchmark.protocol, area
        self.scores: dict[str, float] = {}
        self.precisions: list[list[float]] = []
        self.empty = 0

    def add(self, query: Query, ranking: Integers | None, ids: dict[str, int]) -> None:
        if not query.relevant:
            self.empty += 1
            return
        if ranking is None:
            self.scores[query.name] = 0.0
            if self.protocol.metric == "mAP":
                self.precisions.append([0.0] * len(self.protocol.at))
            return
        relevant, junk = (
            np.isin(ranking, [ids[path] for path in paths if path in ids])
            for paths in (query.relevant, query.junk)
        )
        if self.protocol.metric == "N-S score":
            self.scores[query.name] = ukbench_score(_padded(relevant))
            return
        self.scores[query.name] = ranked_average_precision(
            relevant, junk, len(query.relevant), self.area
        )
        self.precisions.append(
            [_precision(relevant, k, junk, self.protocol.capped) for k in self.protocol.at]
        )

    def score(self, level: str) -> RetrievalScore:
        if not self.scores:
            raise SearchError(f"No query has anything to be found {level or 'in the images'}.")
        means = np.mean(self.precisions, axis=0).tolist() if self.precisions else []
        return RetrievalScore(
            level=level,
            score=math.fsum(self.scores.values()) / len(self.scores),
            precision=dict(zip(self.protocol.at, means, strict=bool(means))),
            queries=self.scores,
            empty=self.empty,
        )


def _padded(relevant: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the first four as a row; images that are not there are no answers."""
    row = np.zeros((1, UKBENCH_VIEWS), np.bool_)
    row[0, : len(relevant)] = relevant[:UKBENCH_VIEWS]
    return row


def _precision(
    relevant: npt.NDArray[np.bool_], k: int, junk: npt.NDArray[np.bool_], capped: bool
) -> float:
    if capped:
        ranks = np.flatnonzero(relevant[~junk]) + 1
        if not len(ranks):
            return 0.0
        k = min(k, int(ranks[-1]))
    return precision_at(relevant, k, junk)


def _settings(
    benchmark: RetrievalBenchmark,
    index: SimilarityIndex,
    store: FeatureTable,
    query_set: _QuerySet,
    area: Area,
    expand: Expansion | None,
    whitening: Whitening | int | None,
) -> dict[str, Any]:
    learnt = index.catalogue.whitening
    whitened = None
    if learnt is not None:
        whitened = learnt.summary() | {
            "learnt_on": "the searched images" if isinstance(whitening, int) else "other images"
        }
    return {
        "store": str(store.path),
        "queries": None if query_set.queries is None else str(query_set.queries.path),
        "layer": index.layer,
        "weights": store.latest.weights,
        **index.provenance.config.to_json(),
        "dimension": index.dimension,
        "metric": index.metric,
        "whitening": whitened,
        "augmented": index.catalogue.settings.augmented,
        "expand": "" if expand is None else str(expand),
        "query": "crop" if benchmark.boxed and not query_set.whole else "whole image",
        "query_itself": benchmark.protocol.itself,
        "junk": benchmark.protocol.junk,
        "average_precision": area if benchmark.protocol.metric == "mAP" else None,
        "search": "exact, all images ranked; of equally near ones the first path comes first",
    }


def _departures(
    benchmark: RetrievalBenchmark, index: SimilarityIndex, query_set: _QuerySet, area: Area | None
) -> tuple[str, ...]:
    """Name in what a run differs from the benchmark."""
    departures = list(benchmark.deviations)
    if missing := len(benchmark.images) - len(index):
        departures.append(f"{missing:,} images have no features and are never found")
    if query_set.missing:
        departures.append(f"{_some(query_set.missing)} without features, left out of the mean")
    if query_set.incomparable:
        departures.append(
            f"{query_set.incomparable:,} queries of zeros, which are like nothing, find nothing"
        )
    if benchmark.boxed and query_set.whole:
        departures.append("whole images are the queries, not their boxes")
    if area is not None and area != benchmark.protocol.area:
        departures.append(f"average precision by {area}, not by {benchmark.protocol.area}")
    return tuple(departures)


def _some(names: Sequence[str]) -> str:
    return f"{len(names):,} queries (as {names[0]!r})" if len(names) > 1 else f"query {names[0]!r}"
