"""Benchmarks of image retrieval by their own rules, our scores beside published ones."""

from __future__ import annotations

from vggfeat.evaluation.retrieval.evaluating import evaluate_retrieval
from vggfeat.evaluation.retrieval.results import RetrievalEvaluation, RetrievalScore

__all__ = ["RetrievalEvaluation", "RetrievalScore", "evaluate_retrieval"]
