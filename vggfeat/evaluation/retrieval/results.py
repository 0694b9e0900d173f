"""What comes of an evaluation of image retrieval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vggfeat.datasets.retrieval import RetrievalProtocol


@dataclass(frozen=True, slots=True)
class RetrievalScore:
    """The score at one level.

    Attributes
    ----------
    level : str
        As ``"easy"``; empty where a benchmark has one only.
    score : float
        Mean over queries: average precision in 0..1, or UKBench's score in 0..4.
    precision : dict of int to float
        By k, the mean share of images to be found among the first k, in 0..1.
    queries : dict of str to float
        Score of each query, by its name.
    empty : int
        Queries that have nothing to be found at this level, and do not count.
    """

    level: str
    score: float
    precision: Mapping[int, float]
    queries: Mapping[str, float]
    empty: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "level": self.level,
            "score": self.score,
            "precision": {str(k): value for k, value in self.precision.items()},
            "empty": self.empty,
            "queries": dict(self.queries),
        }


@dataclass(frozen=True, slots=True)
class RetrievalEvaluation:
    """A benchmark's result, and all that decided it.

    Attributes
    ----------
    benchmark : str
        Its name.
    protocol : RetrievalProtocol
        Its rules, with the published numbers.
    scores : tuple of RetrievalScore
        Level by level.
    images : int
        How many were searched.
    settings : dict
        What decided the numbers, JSON-ready.
    departures : tuple of str
        In what the run differs from the benchmark, one phrase each.
    """

    benchmark: str
    protocol: RetrievalProtocol
    scores: tuple[RetrievalScore, ...]
    images: int
    settings: Mapping[str, Any]
    departures: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "benchmark": self.benchmark,
            "images": self.images,
            "scores": [score.to_json() for score in self.scores],
            "published": [asdict(row) for row in self.protocol.published],
            "protocol": self.protocol.to_json(),
            "settings": dict(self.settings),
            "departures": list(self.departures),
        }
