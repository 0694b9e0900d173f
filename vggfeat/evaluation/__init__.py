"""What scores networks: three jobs that know nothing of each other.

:mod:`~vggfeat.evaluation.paper` runs the paper's protocols on whole datasets,
:mod:`~vggfeat.evaluation.layers` scores and compares the layers of stores, and
:mod:`~vggfeat.evaluation.retrieval` runs the benchmarks of image retrieval. Nothing here imports
torch.
"""

from __future__ import annotations

from vggfeat.evaluation.layers import (
    AnswersVersus,
    Comparison,
    LayerPrecision,
    LayerScore,
    LowShot,
    LowShotPrecision,
    LowShotScore,
    Neighbourhoods,
    NeighbourPrecision,
    NeighbourScore,
    RankingsVersus,
    Sweep,
    Versus,
    compare,
    knn_accuracy,
    knn_answers,
    knn_scores,
    low_shot,
    requested_layers,
    score_neighbours,
    sweep,
)
from vggfeat.evaluation.paper import (
    Descriptors,
    Evaluation,
    Mistake,
    Outcome,
    Paired,
    Part,
    Rules,
    SplitScore,
    rules_of,
    score_dataset,
)
from vggfeat.evaluation.retrieval import (
    RetrievalEvaluation,
    RetrievalScore,
    score_benchmark,
)

__all__ = [
    "AnswersVersus",
    "Comparison",
    "Descriptors",
    "Evaluation",
    "LayerPrecision",
    "LayerScore",
    "LowShot",
    "LowShotPrecision",
    "LowShotScore",
    "Mistake",
    "NeighbourPrecision",
    "NeighbourScore",
    "Neighbourhoods",
    "Outcome",
    "Paired",
    "Part",
    "RankingsVersus",
    "RetrievalEvaluation",
    "RetrievalScore",
    "Rules",
    "SplitScore",
    "Sweep",
    "Versus",
    "compare",
    "knn_accuracy",
    "knn_answers",
    "knn_scores",
    "low_shot",
    "requested_layers",
    "rules_of",
    "score_benchmark",
    "score_dataset",
    "score_neighbours",
    "sweep",
]
