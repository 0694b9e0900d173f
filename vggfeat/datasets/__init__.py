"""Labelled datasets in their official layouts, with the splits and metrics they are known by.

:func:`open_dataset` reads one, :func:`download` fetches it; :func:`open_benchmark` reads one of
image retrieval. Nothing here imports torch, but for a
download.
"""

from __future__ import annotations

from vggfeat.datasets.dataset import Dataset
from vggfeat.datasets.protocols import Protocol, Published
from vggfeat.datasets.record import Archive, DatasetRecord
from vggfeat.datasets.registry import DATASETS, DOWNLOADABLE, dataset_record, download, open_dataset
from vggfeat.datasets.retrieval import (
    BENCHMARKS,
    BenchmarkRecord,
    RetrievalBenchmark,
    open_benchmark,
)
from vggfeat.datasets.splits import Split, SplitRule

__all__ = [
    "BENCHMARKS",
    "DATASETS",
    "DOWNLOADABLE",
    "Archive",
    "BenchmarkRecord",
    "Dataset",
    "DatasetRecord",
    "Protocol",
    "Published",
    "RetrievalBenchmark",
    "Split",
    "SplitRule",
    "dataset_record",
    "download",
    "open_benchmark",
    "open_dataset",
]
