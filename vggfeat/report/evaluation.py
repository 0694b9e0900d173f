"""The page of an evaluation: our numbers beside the paper's, and where they come from."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vggfeat.report.confusion import confusion_view
from vggfeat.report.facts import Facts
from vggfeat.report.page import write_page
from vggfeat.report.text import shown
from vggfeat.report.thumbnails import ImageSource, picture

if TYPE_CHECKING:
    from vggfeat.evaluation import Evaluation, Outcome


def evaluation_page(
    path: str | os.PathLike[str],
    result: Evaluation,
    *,
    images: Callable[[str], ImageSource] = lambda _path: None,
    facts: Facts | None = None,
    paired: Sequence[str] = (),
    mistakes: int = 24,
) -> Path:
    """Write the page of an evaluation.

    Parameters
    ----------
    path : path
        The HTML file to make or replace.
    result : Evaluation
        From :func:`vggfeat.evaluation.evaluate_dataset`.
    images : callable
        Gives the original of a path in the dataset, see :func:`~vggfeat.report.originals`.
    facts : mapping of str to str, optional
        What decides the numbers.
    paired : sequence of str
        How rows compare on the same test images, a sentence each.
    mistakes : int
        At most so many of the most confident mistakes of each row are shown.

    Returns
    -------
    Path
        The file.
    """
    return write_page(
        path,
        "evaluation.html",
        result=result,
        rows=[_view(result, row, images, mistakes) for row in result.rows],
        several=len(result.rows[0].splits),
        facts=dict(facts or {}),
        paired=paired,
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
                "picture": picture(images(mistake.path.partition("#")[0])),
            }
            for mistake in row.mistakes[:mistakes]
        ],
    }
