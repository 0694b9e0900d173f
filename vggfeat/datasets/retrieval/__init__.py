"""Benchmarks of image retrieval: what is to be found for which query, and how that is scored."""

from __future__ import annotations

from vggfeat.datasets.retrieval.benchmark import RetrievalBenchmark
from vggfeat.datasets.retrieval.query import Query
from vggfeat.datasets.retrieval.record import (
    BenchmarkRecord,
    PublishedRetrieval,
    RetrievalProtocol,
)
from vggfeat.datasets.retrieval.registry import BENCHMARKS, open_benchmark

__all__ = [
    "BENCHMARKS",
    "BenchmarkRecord",
    "PublishedRetrieval",
    "Query",
    "RetrievalBenchmark",
    "RetrievalProtocol",
    "open_benchmark",
]
