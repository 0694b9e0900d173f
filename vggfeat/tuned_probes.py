"""The head of a fine-tuned network as a probe, so that all that takes a probe takes its file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vggfeat.errors import ProbeError
from vggfeat.extract import FeatureExtractor
from vggfeat.probe import LinearProbe, SavedProbe, SavedRidge
from vggfeat.provenance import Provenance, RunInfo, now, versions
from vggfeat.weights.trained_head import TrainedHead, trained_head, training_of

SUFFIX = ".safetensors"


def is_weights(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is that of weights, by its ending, rather than of a saved probe."""
    return Path(path).suffix.lower() == SUFFIX


def tuned_probe(path: str | os.PathLike[str]) -> SavedProbe | SavedRidge:
    """Return the head of a file that `vggfeat finetune` made.

    Parameters
    ----------
    path : path
        The weights.

    Returns
    -------
    SavedProbe, or SavedRidge where it predicts numbers
        Its provenance is that of features by these weights.

    Raises
    ------
    ProbeError
        The file is missing, or has no head.
    WeightsError
        It is damaged.
    """
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        raise ProbeError(f"{path} is not a file. `vggfeat finetune SOURCE {path}` makes one.")
    head = trained_head(file)
    if head is None:
        raise ProbeError(
            f"{path} has no head of its own. `vggfeat finetune` makes weights with one; with these "
            "weights, train a probe on their features: `vggfeat extract`, then `vggfeat probe "
            "--save`."
        )
    extractor = FeatureExtractor(head.model, weights=file, layers=[head.column], view=head.view)
    told = training_of(file) or {}
    run = RunInfo(
        source=str(told.get("source", "")), weights=str(file), device="cpu", precision="float32",
        start=now(), versions=versions(), preprocessing=extractor.resolved_weights.why,
    )  # fmt: skip
    (column,) = extractor.shapes
    provenance = Provenance(extractor.config, run)
    if head.kind == "numbers":
        return SavedRidge(
            head.weight, head.bias, np.asarray(head.strength, np.float64), head.names,
            head.normalize, column, provenance, head.n_train,
        )  # fmt: skip
    return SavedProbe(_classifier(head), head.names, column, provenance, head.n_train)


def _classifier(head: TrainedHead) -> LinearProbe:
    """Return the head as logistic regression, which computes the same."""
    several = head.kind == "several"
    weight, bias = head.weight, head.bias
    if len(bias) == 2 and not several:  # (2, d) -> (1, d): a probe of two classes has one column
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    return LinearProbe.fitted(
        "logreg", C=np.asarray(head.strength, np.float64) if several else head.strength[0],
        normalize=head.normalize, classes=np.arange(len(head.names)), coef=weight, intercept=bias,
        multi_label=several,
    )  # fmt: skip
