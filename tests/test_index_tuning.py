"""Promises of the recall that an index is tuned to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from index_rows import make_store

from vggfeat.index import SimilarityIndex
from vggfeat.index.kinds import plan
from vggfeat.index.tuning import _surely
from vggfeat.store import FeatureStore


def test_a_recall_is_not_believed_from_too_few_queries() -> None:
    assert _surely(np.ones(50)) < 0.95 < _surely(np.ones(100))
    assert _surely(np.ones(200)) < 0.99 < _surely(np.ones(500))
    assert _surely(np.r_[np.zeros(10), np.ones(990)]) < 0.99


def test_the_recall_asked_for_is_reached_by_queries_that_tuning_did_not_see(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(300, 32))
    X = centres[rng.integers(0, 300, 13_000)] + 0.6 * rng.normal(size=(13_000, 32))
    X = np.float32(X / np.linalg.norm(X, axis=1, keepdims=True))
    vectors, queries = X[:12_000], X[12_000:]
    nearest = np.argsort(-queries @ vectors.T, axis=1)[:, :10]
    with FeatureStore(make_store(tmp_path / "s.h5", vectors)) as store:
        index = SimilarityIndex.build(store, "relu7", kind="IVF128,PQ16x4fs", recall=0.95)
    tuning = index.info().tuning
    assert tuning is not None
    assert tuning.setting.effort < 128
    rows = index.catalogue.rows.row[index.nearest(queries, 10)[0]]
    found = np.mean([len(set(a) & set(b)) for a, b in zip(rows, nearest, strict=True)]) / 10
    assert found >= 0.95
    assert found < 1


@pytest.mark.parametrize(
    ("metric", "memory", "codes"),
    [
        ("cosine", "2 a number", "SQfp16"),
        ("cosine", "1 a number", "SQ8"),
        ("l2", "4 a number", "Flat"),
        ("l2", "2 a number", "SQ8"),  # 16 bits may not hold numbers of any size
    ],
)
def test_a_graph_keeps_the_most_precise_numbers_that_fit(metric, memory, codes) -> None:
    count, dimension = 1000, 512
    room = count * (int(memory[0]) * dimension + 272)
    chosen = plan("hnsw", count, dimension, metric, memory=room, recall=0.95)
    assert chosen.factory == f"HNSW32,{codes}"
    assert chosen.size <= room
