"""Benchmarks of image retrieval by their own rules, our scores beside published ones."""

from __future__ import annotations

from vggfeat.evaluation.retrieval.evaluating import score_benchmark
from vggfeat.evaluation.retrieval.results import RetrievalEvaluation, RetrievalScore

__all__ = ["RetrievalEvaluation", "RetrievalScore", "score_benchmark"]
