"""What a saved probe scores on new images whose classes are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.labels import PRESENT, RawLabels, Targets, as_floats, class_name, from_folders
from vggfeat.labels.targets import from_names
from vggfeat.metrics import (
    Reliability,
    accuracy,
    average_precisions,
    mean_class_recall,
    reliability,
)

Array = npt.NDArray[np.float64]

_SHOWN = 3


@dataclass(frozen=True, slots=True, eq=False)
class SourceScore:
    """How well a probe named the images of a source that says their classes.

    Attributes
    ----------
    labels_from : str
        What says them: ``"source"``, or ``"folder:N"``, the N-th folder of each path.
    n : int
        Images that were scored.
    unlabelled : int
        Images without a label; they are not scored.
    unknown : int
        Images of classes that the probe does not know. They are not scored: it cannot be right.
        Of several labels such an image is scored by its other classes.
    unknown_classes : tuple of str
        Those classes.
    classes : tuple of str
        Classes that were scored: some of the images are of them.
    measures : dict of str to float
        ``accuracy`` and ``mean_class_recall``, or ``mean_average_precision``; in 0..1.
    reliability : Reliability or None
        How far the probabilities can be believed; None without such.
    """

    labels_from: str
    n: int
    unlabelled: int
    unknown: int
    unknown_classes: tuple[str, ...]
    classes: tuple[str, ...]
    measures: dict[str, float]
    reliability: Reliability | None

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "labels_from": self.labels_from,
            "n": self.n,
            **self.measures,
            "unlabelled": self.unlabelled,
            "of_unknown_classes": self.unknown,
            "unknown_classes": list(self.unknown_classes),
            "n_classes": len(self.classes),
            "reliability": None if self.reliability is None else self.reliability.to_json(),
        }


def labels_of_source(
    paths: Sequence[str], given: RawLabels | None, classes: Sequence[str]
) -> tuple[RawLabels, str] | None:
    """Return the class names of a source's images and what says them; None where nothing does.

    Parameters
    ----------
    paths : sequence of str
        Its images.
    given : dict or None
        What the source says itself; else folders do, at the level at which most images lie in
        one that is called as a class of the probe.
    classes : sequence of str
        Of the probe.
    """
    if given is not None:
        return (given, "source") if given else None
    known = {class_name(name) for name in classes}
    folders = [path.split("/")[:-1] for path in paths]
    deepest = max(map(len, folders), default=0)
    hits = [
        sum(len(parts) > at and class_name(parts[at]) in known for parts in folders)
        for at in range(deepest)
    ]
    if not any(hits):
        return None
    level = int(np.argmax(hits)) + 1
    return from_folders(paths, level), f"folder:{level}"


def score_source(
    paths: Sequence[str],
    labels: RawLabels,
    labels_from: str,
    *,
    classes: Sequence[str],
    multi_label: bool,
    scores: Array,
    probabilities: Array | None,
) -> SourceScore:
    """Score what a probe says of labelled images.

    Parameters
    ----------
    paths : sequence of str
        The n images that it judged.
    labels, labels_from :
        From :func:`labels_of_source`.
    classes : sequence of str
        Of the probe.
    multi_label : bool
        Whether the probe gives several labels an image.
    scores : ndarray of shape (n, K)
        Class scores; the largest names the class.
    probabilities : ndarray of shape (n, K) or None

    Raises
    ------
    ProbeError
        No image is of a class of the probe; or of probe and labels one has several classes an
        image, and the other one.
    """
    targets = from_names(paths, labels)
    if targets.multi_label != multi_label:
        one, several = ("source", "probe") if multi_label else ("probe", "source")
        raise ProbeError(f"the {several} has several labels an image, and the {one} has one")
    number = {class_name(name): k for k, name in enumerate(classes)}
    column = np.array([number.get(name, -1) for name in targets.classes], np.int64)
    common = {"labels_from": labels_from, "unlabelled": int((~targets.known).sum())}
    score = _several if multi_label else _single
    return score(targets, column, classes, scores, probabilities, common)


def _single(
    targets: Targets,
    column: npt.NDArray[np.int64],
    classes: Sequence[str],
    scores: Array,
    probabilities: Array | None,
    common: dict[str, Any],
) -> SourceScore:
    y = np.append(column, -1)[targets.values]
    rows = np.flatnonzero(y >= 0)
    unknown = targets.known & (y < 0)
    names = tuple(targets.classes[k] for k in np.unique(targets.values[unknown]))
    if not len(rows):
        raise ProbeError(_none_known(names, classes))
    truth, said = y[rows], scores[rows].argmax(axis=1)
    P = None if probabilities is None else probabilities[rows]
    return SourceScore(
        **common,
        n=len(rows),
        unknown=int(unknown.sum()),
        unknown_classes=names,
        classes=tuple(classes[k] for k in np.unique(truth)),
        measures={
            "accuracy": accuracy(truth, said),
            "mean_class_recall": mean_class_recall(truth, said),
        },
        reliability=None if P is None else reliability(truth, P, said),
    )


def _several(
    targets: Targets,
    column: npt.NDArray[np.int64],
    classes: Sequence[str],
    scores: Array,
    probabilities: Array | None,
    common: dict[str, Any],
) -> SourceScore:
    shown = targets.values == PRESENT
    tested = np.flatnonzero((column >= 0) & shown.any(axis=0))
    strange = np.flatnonzero((column < 0) & shown.any(axis=0))
    names = tuple(targets.classes[k] for k in strange)
    if not len(tested):
        raise ProbeError(_none_known(names, classes))
    y, at = as_floats(targets.values[:, tested]), column[tested]
    P = None if probabilities is None else probabilities[:, at]
    return SourceScore(
        **common,
        n=int((~np.isnan(y)).any(axis=1).sum()),
        unknown=int(shown[:, strange].any(axis=1).sum()),
        unknown_classes=names,
        classes=tuple(classes[k] for k in at),
        measures={"mean_average_precision": float(average_precisions(y, scores[:, at]).mean())},
        reliability=None if P is None else reliability(y, P),
    )


def _none_known(names: Sequence[str], classes: Sequence[str]) -> str:
    if not names:
        return "no image that could be read has a label"
    shown, ours = (", ".join(map(repr, some[:_SHOWN])) for some in (names, classes))
    more = ", ..." if len(classes) > _SHOWN else ""
    return f"the images' classes, such as {shown}, are none of the probe's ({ours}{more})"
