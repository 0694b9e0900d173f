"""What the head puts out for the test images, scored as a probe is."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, softmax

from vggfeat.feature_table import FeatureTable
from vggfeat.finetuning.data import Data
from vggfeat.finetuning.results import Result
from vggfeat.finetuning.tasks import Array, NumberTargets, Start, Task
from vggfeat.metrics import reliability, score_targets
from vggfeat.probe import MultiLabelResult, ProbeResult, RegressionResult
from vggfeat.probe.scoring import answers_of


def tuned_result(
    table: FeatureTable, layer: str, data: Data, task: Task, start: Start, outputs: Array, seed: int
) -> Result:
    """Score what the head puts out for the test images, (n, K), as a probe is scored."""
    test = data.test
    paths = tuple(map(str, table.paths[data.rows[test]]))
    y, groups = data.y[test], data.division.test_groups
    if data.labelled is None:
        assert isinstance(task, NumberTargets)
        assert data.numbers is not None
        said = outputs * task.spread + task.mean
        return RegressionResult(
            layer=layer, names=task.names, alpha=np.array(start.strength),
            scores=score_targets(y, said, groups=groups, seed=seed), paths=paths, y=y,
            predicted=said, n_train=len(data.learn), division=data.division,
            origin=data.numbers.origin, unmatched=data.numbers.unmatched, normalize=False,
            standardize=False, scoring="r2", seed=seed,
        )  # fmt: skip
    common: dict[str, Any] = {
        "layer": layer, "classifier": "logreg", "normalize": True, "seed": seed,
        "classes": data.names, "n_train": len(data.learn), "left_out": data.labelled.left_out,
        "division": data.division, "test_groups": groups,
    }  # fmt: skip
    if data.labelled.multi_label:
        likely = expit(outputs)
        common["reliability"] = reliability(y, likely, None)
        return MultiLabelResult(
            **common, C=start.strength, paths=paths, y=data.labelled.y[test], scores=likely
        )
    likely = softmax(outputs, axis=1)
    truth = y.astype(np.int64)
    common["reliability"] = reliability(truth, likely, likely.argmax(axis=1))
    commonest = np.bincount(data.y[data.learn].astype(np.int64)).argmax()
    return ProbeResult(
        **common, C=start.strength[0], majority=float(np.mean(truth == commonest)),
        **answers_of(data.names, truth, paths, likely, likely),
    )  # fmt: skip
