"""The page of a probe: its score, what it confuses, and everything that decides the number."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggfeat.report.confusion import confusion_view
from vggfeat.report.facts import Facts
from vggfeat.report.page import write_page
from vggfeat.report.reliability import reliability_view
from vggfeat.report.text import percent, shown
from vggfeat.report.thumbnails import ImageSource, picture

if TYPE_CHECKING:
    from vggfeat.probe import MultiLabelResult, ProbeResult

CLASSIFIERS = {"svm": "linear SVM", "logreg": "logistic regression"}
"""Names that a person knows the classifiers by."""


def probe_page(
    path: str | os.PathLike[str],
    result: ProbeResult | MultiLabelResult,
    *,
    store: str,
    images: Callable[[str], ImageSource] = lambda _path: None,
    facts: Facts | None = None,
    mistakes: int | None = None,
) -> Path:
    """Write the page of a probe.

    Parameters
    ----------
    path : path
        The HTML file to make or replace.
    result : ProbeResult or MultiLabelResult
        From :func:`vggfeat.probe.evaluate`.
    store : str
        Name of the store it was trained on.
    images : callable
        Gives the original of a stored path, see :func:`~vggfeat.report.originals`.
    facts : mapping of str to str, optional
        What decided the features, see :func:`~vggfeat.report.config_facts`.
    mistakes : int, optional
        At most so many of the most confident mistakes are shown: 24, or 6 of each of several
        labels.

    Returns
    -------
    Path
        The file.
    """
    from vggfeat.probe import ProbeResult

    if isinstance(result, ProbeResult):
        template, view = "probe.html", probe_view(result, images, mistakes or 24)
    else:
        template, view = "multilabel.html", _several_view(result, images, mistakes or 6)
    return write_page(
        path,
        template,
        probe=view,
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
        {
            "name": name,
            "share": 0.0 if share != share else float(share),
            "right": int(row[k]),
            "total": int(row.sum()),
            "precision": float(precision),
            "f1": float(f1),
        }
        for k, (name, share, precision, f1, row) in enumerate(
            zip(classes, result.recall, result.precision, result.f1, confusion, strict=True)
        )
    ]
    if many:
        bars.sort(key=lambda bar: bar["share"])
    return {
        "result": result,
        "classifier": CLASSIFIERS.get(result.classifier, result.classifier),
        "confusion": confusion_view(confusion, classes),
        "reliability": reliability_view(result),
        "bars": bars,
        "sorted": many,
        "widest_name": min(18, max(len(shown(name)) for name in classes)) + 1,
        "mistakes": [
            {
                "path": mistake.path,
                "true": mistake.true,
                "predicted": mistake.predicted,
                "margin": f"{mistake.margin:.2f}",
                "probability": "" if mistake.probability is None else percent(mistake.probability),
                "picture": picture(images(mistake.path)),
            }
            for mistake in result.mistakes[:mistakes]
        ],
    }


def _several_view(
    result: MultiLabelResult, images: Callable[[str], ImageSource], mistakes: int
) -> dict[str, Any]:
    known = (result.y >= 0).sum(axis=0)
    bars: list[dict[str, Any]] = [
        {"name": name, "share": float(share), "total": int(total), "chance": float(total / of)}
        for name, share, total, of in zip(
            result.classes, result.average_precision, result.present, known, strict=True
        )
    ]
    many = len(bars) > 20
    if many:
        bars.sort(key=lambda bar: bar["share"])
    shots = [
        {
            "name": bar["name"],
            "found": [
                {"path": one.path, "present": one.present, "picture": picture(images(one.path))}
                for present in (True, False)
                for one in result.mistakes_of(bar["name"], present=present)[: mistakes // 2]
            ],
        }
        for bar in bars
    ]
    return {
        "result": result,
        "classifier": CLASSIFIERS.get(result.classifier, result.classifier),
        "kind": result.kind,
        "reliability": reliability_view(result),
        "bars": bars,
        "sorted": many,
        "widest_name": min(18, max(len(shown(name)) for name in result.classes)) + 1,
        "mistakes": [shot for shot in shots if shot["found"]],
    }


def protocol_facts(result: ProbeResult | MultiLabelResult) -> dict[str, str]:
    """Name what decided a probe's number beyond the features themselves."""
    left = result.left_out
    reasons = {
        "without features": left.not_done,
        "without a label": left.unlabelled,
        "alone in their class": left.alone,
        "in no split that counts": left.other_split,
        "of classes that are never learnt from": left.unseen,
    }
    out = ", ".join(f"{count:,} {why}" for why, count in reasons.items() if count)
    if left.classes:
        out += ("; " if out else "") + f"classes {', '.join(left.classes)}"
    divided = "" if result.division is None else result.division.describe()
    return {
        "classifier": CLASSIFIERS.get(result.classifier, result.classifier)
        + (", rows L2-normalised" if result.normalize else "")
        + (", classes weighed alike" if result.class_weight else ""),
        "C": result.C_text,
        **({} if result.calibration is None else {"probabilities": result.calibration.describe()}),
        "images": f"{result.n_train:,} to train, {result.n_test:,} to test",
        **({"divided": divided} if divided else {}),
        "left out": out or "none",
        "seed": str(result.seed),
    }
