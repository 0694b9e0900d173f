"""The page of an evaluation: our numbers beside the paper's, and where they come from."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vggfeat.report.confusion import confusion_view
from vggfeat.report.page import write_page
from vggfeat.report.text import shown
from vggfeat.report.thumbnails import ImageSource, picture
from vggfeat.sources.base import file_path

if TYPE_CHECKING:
    from vggfeat.evaluation import Evaluation, Outcome, Paired

_HOW = {"mean": "averaged", "stack": "stacked"}


def evaluation_page(
    path: str | os.PathLike[str],
    result: Evaluation,
    *,
    images: Callable[[str], ImageSource] | None = None,
    mistakes: int = 24,
) -> Path:
    """Write the page of an evaluation.

    Parameters
    ----------
    path : path
        The HTML file to make or replace.
    result : Evaluation
        From :func:`vggfeat.evaluate` or :func:`vggfeat.evaluation.score_dataset`.
    images : callable, optional
        Gives the original of a path in the dataset, see :func:`~vggfeat.report.originals`; by
        default the file below the dataset's root, which the user named: links may lead anywhere.
    mistakes : int
        At most so many of the most confident mistakes of each row are shown.

    Returns
    -------
    Path
        The file.
    """
    originals = images or partial(file_path, result.root)
    return write_page(
        path,
        "evaluation.html",
        result=result,
        rows=[_view(result, row, originals, mistakes) for row in result.rows],
        several=len(result.rows[0].splits),
        facts=evaluation_facts(result),
        paired=[pair_text(result, pair) for pair in result.paired],
    )


def _view(
    result: Evaluation, row: Outcome, images: Callable[[str], ImageSource], mistakes: int
) -> dict[str, Any]:
    """Return a row with its pictures drawn, as the template takes it."""
    bars: list[dict[str, Any]] = [
        {"name": name, "share": float(share)}
        for name, share in zip(result.classes, row.by_class, strict=True)
        if not np.isnan(share)
    ]
    if row.confusion is not None:
        right, total = np.diag(row.confusion), row.confusion.sum(axis=1)
        seen = np.flatnonzero(total)
        for bar, k in zip(bars, seen, strict=True):
            bar |= {"right": int(right[k]), "total": int(total[k])}
    bars.sort(key=lambda bar: bar["share"])
    return {
        "row": row,
        "bars": bars,
        "result": {"chance": 0 if row.confusion is None else 1 / len(result.classes)},
        "widest_name": min(18, max(len(shown(name)) for name in result.classes)) + 1,
        "confusion": (
            None if row.confusion is None else confusion_view(row.confusion, result.classes)
        ),
        "mistakes": [
            {
                "path": mistake.path,
                "true": mistake.true,
                "predicted": mistake.predicted,
                "probability": "",  # the paper's classifiers give none
                "picture": picture(images(mistake.path.partition("#")[0])),
            }
            for mistake in row.mistakes[:mistakes]
        ],
    }


def pair_text(result: Evaluation, pair: Paired) -> str:
    """Say how two rows compare."""
    first, second = result.rows[pair.first].name, result.rows[pair.second].name
    text = f"{first} against {second}: {100 * pair.difference:+.1f}"
    if pair.low is not None and pair.high is not None:
        text += f" (95 % interval {100 * pair.low:+.1f} to {100 * pair.high:+.1f})"
    if pair.p is not None:
        text += f", p = {pair.p:.2g}"
    return f"{text}; {pair.method}"


def evaluation_facts(result: Evaluation) -> dict[str, str]:
    """Name everything that decides the numbers."""
    settings, dataset = result.settings, result.dataset
    rule, protocol = dataset["rule"], dataset["protocol"]
    facts = {}
    for store in settings["stores"]:
        scales = ", ".join(map(str, store["scales"]))
        how = f" {_HOW[store['combine']]}" if len(store["scales"]) > 1 else ""
        pooling = store["layers"][store["layer"]]
        spec = store["preprocessing"]
        facts[f"{store['model']}{', box' if store['boxes'] else ''}"] = (
            f"{store['layer']}{f' ({pooling})' if pooling else ''}, {store['view']} at scales "
            f"{scales}{how}{', with mirror images' if store['flip'] else ''}; weights "
            f"{shown(store['weights'])}, SHA-256 {store['weights_sha256'][:16]}; "
            f"{spec['channels']} x {spec['scale']:.4g}, mean {spec['mean']}, std {spec['std']}, "
            f"{spec['interpolation']}; {shown(store['path'])}"
        )
    held_out = settings["validation"]
    if isinstance(held_out, str):
        chosen = f"the images of {held_out}"
    elif held_out < 1:
        chosen = f"{held_out:.0%} of the training images"
    else:
        chosen = f"{held_out:g} folds"
    classifier = {"svm": "linear SVMs, one against the rest", "logreg": "logistic regression"}
    facts["classifier"] = (
        f"{classifier[settings['classifier']]}, on L2-normalised descriptors; C chosen on "
        f"{chosen}, then all train"
    )
    facts["C"] = "; ".join(f"{row.name}: {_values(row)}" for row in result.rows)
    if rule is None:
        official = f"the official sets, {protocol['train']} and {protocol['test']}"
        facts["splits"] = official if protocol["published"] else folders_text(protocol)
    else:
        most = rule["max_test_per_class"]
        facts["splits"] = (
            f"{settings['splits']} random ones of {rule['train_per_class']} training images a "
            f"class, {'all others' if most is None else f'at most {most}'} for the test; seed "
            f"{settings['seed']}"
        )
    if protocol["unscored"]:
        facts["not scored"] = ", ".join(protocol["unscored"])
    if dataset["deviations"] and not protocol["published"]:  # else they are departures
        facts["dataset"] = "; ".join(map(shown, dataset["deviations"]))
    facts["dataset's SHA-256"] = dataset["sha256"]
    return facts


def folders_text(protocol: dict[str, Any]) -> str:
    """Say by which folders of one's own images were divided."""
    val = f" and {protocol['val']} ({protocol['val']} chose C)" if protocol["val"] else ""
    return f"by folders: trained on {protocol['train']}{val}, tested on {protocol['test']}"


def _values(row: Outcome) -> str:
    values = [value for split in row.splits for value in split.C]
    if len(values) <= 3:
        return ", ".join(f"{value:.3g}" for value in values)
    return f"{min(values):.3g} to {max(values):.3g}, one a class"
