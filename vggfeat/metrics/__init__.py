"""How good scores and answers are, and how sure one may be of that.

Average precision ranks the images of one class (``ranking``), recall and accuracy count right
answers (``answers``), and intervals and paired comparisons say what a number (``shares``) or a
difference (``certainty``; of rankings ``resampling``) is worth, also where there are several
(``multiplicity``); numbers that are predicted have scores of their own (``regression``), as have
probabilities (``reliability``). SciPy, which knows the distributions, is imported where an interval
is requested. All scores are shares in 0..1; where entries have equal scores, results never depend
on their order. Ranked lists, as searches give them, have scores of their own (``retrieval``).
"""

from __future__ import annotations

from vggfeat.metrics.answers import accuracy, class_recalls, mean_class_recall, top_k_accuracy
from vggfeat.metrics.certainty import (
    Disagreement,
    Interval,
    compare_answers,
    mean_interval,
)
from vggfeat.metrics.multiplicity import (
    CORRECTIONS,
    Correction,
    adjusted,
    benjamini_hochberg,
    holm,
)
from vggfeat.metrics.ranking import (
    AP_KINDS,
    APKind,
    Ranking,
    average_precision,
    average_precisions,
    mean_average_precision,
)
from vggfeat.metrics.regression import (
    TargetScores,
    fisher_interval,
    pearson_scores,
    r2_scores,
    score_targets,
)
from vggfeat.metrics.reliability import Reliability, expected_calibration_error, reliability
from vggfeat.metrics.resampling import Difference, SampledPrecision, compare_rankings
from vggfeat.metrics.shares import Share, accuracy_interval, recall_interval, wilson

__all__ = [
    "AP_KINDS",
    "CORRECTIONS",
    "APKind",
    "Correction",
    "Difference",
    "Disagreement",
    "Interval",
    "Ranking",
    "Reliability",
    "SampledPrecision",
    "Share",
    "TargetScores",
    "accuracy",
    "accuracy_interval",
    "adjusted",
    "average_precision",
    "average_precisions",
    "benjamini_hochberg",
    "class_recalls",
    "compare_answers",
    "compare_rankings",
    "expected_calibration_error",
    "fisher_interval",
    "holm",
    "mean_average_precision",
    "mean_class_recall",
    "mean_interval",
    "pearson_scores",
    "r2_scores",
    "recall_interval",
    "reliability",
    "score_targets",
    "top_k_accuracy",
    "wilson",
]
