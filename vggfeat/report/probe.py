"""The page of a probe: its score, what it confuses, and everything that decides the number."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggfeat.report.confusion import confusion_view
from vggfeat.report.facts import Facts
from vggfeat.report.page import write_page
from vggfeat.report.text import shown
from vggfeat.report.thumbnails import ImageSource, picture

if TYPE_CHECKING:
    from vggfeat.probe import ProbeResult

CLASSIFIERS = {"svm": "linear SVM", "logreg": "logistic regression"}
"""Names that a person knows the classifiers by."""


def probe_page(
    path: str | os.PathLike[str],
    result: ProbeResult,
    *,
    store: str,
    images: Callable[[str], ImageSource] = lambda _path: None,
    facts: Facts | None = None,
    mistakes: int = 24,
) -> Path:
    """Write the page of a probe.

    Parameters
    ----------
    path : path
        The HTML file to make or replace.
    result : ProbeResult
        From :func:`vggfeat.probe.evaluate`.
    store : str
        Name of the store it was trained on.
    images : callable
        Gives the original of a stored path, see :func:`~vggfeat.report.originals`.
    facts : mapping of str to str, optional
        What decided the features, see :func:`~vggfeat.report.deciding_facts`.
    mistakes : int
        At most so many of the most confident mistakes are shown.

    Returns
    -------
    Path
        The file.
    """
    return write_page(
        path,
        "probe.html",
        probe=probe_view(result, images, mistakes),
        store=store,
        facts=protocol_facts(result) | dict(facts or {}),
    )


def probe_view(
    result: ProbeResult, images: Callable[[str], ImageSource], mistakes: int
) -> dict[str, Any]:
    """Return a result with its pictures drawn, as templates take it."""
    confusion, classes = result.confusion, result.classes
    many = len(classes) > 20
    bars: list[dict[str, Any]] = [
        {"name": name, "share": float(share), "right": int(row[k]), "total": int(row.sum())}
        for k, (name, share, row) in enumerate(zip(classes, result.recall, confusion, strict=True))
    ]
    if many:
        bars.sort(key=lambda bar: bar["share"])
    return {
        "result": result,
        "classifier": CLASSIFIERS.get(result.classifier, result.classifier),
        "confusion": confusion_view(confusion, classes),
        "bars": bars,
        "sorted": many,
        "widest_name": min(18, max(len(shown(name)) for name in classes)) + 1,
        "mistakes": [
            {
                "path": mistake.path,
                "true": mistake.true,
                "predicted": mistake.predicted,
                "margin": f"{mistake.margin:.2f}",
                "picture": picture(images(mistake.path)),
            }
            for mistake in result.mistakes[:mistakes]
        ],
    }


def protocol_facts(result: ProbeResult) -> dict[str, str]:
    """Name what decided a probe's number beyond the features themselves."""
    left = result.left_out
    reasons = {
        "without features": left.not_done,
        "without a label": left.unlabelled,
        "alone in their class": left.alone,
    }
    out = ", ".join(f"{count:,} {why}" for why, count in reasons.items() if count)
    return {
        "classifier": CLASSIFIERS.get(result.classifier, result.classifier)
        + (", rows L2-normalised" if result.normalize else ""),
        "C": f"{result.C:.4g}",
        "images": f"{result.n_train:,} to train, {result.n_test:,} to test",
        "left out": out or "none",
        "seed": str(result.seed),
    }
