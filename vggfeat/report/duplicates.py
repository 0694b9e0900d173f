"""The contact sheet of near-identical images: each group with sizes and paths."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggfeat.report.facts import Facts
from vggfeat.report.page import write_page
from vggfeat.report.search import METRICS
from vggfeat.report.text import decimals
from vggfeat.report.thumbnails import originals, picture

if TYPE_CHECKING:
    from vggfeat.evaluation.duplicates import Copies, Copy, Duplicates

_UNITS = ("B", "kB", "MB", "GB")


def duplicates_page(
    path: str | os.PathLike[str],
    found: Duplicates,
    *,
    name: str,
    explanation: str,
    facts: Facts | None = None,
    progress: Callable[[int], None] = lambda _done: None,
) -> Path:
    """Write the contact sheet of near-identical images.

    Parameters
    ----------
    path : path
        The HTML file to make or replace.
    found : Duplicates
        See :func:`vggfeat.evaluation.duplicates.find_duplicates`.
    name : str
        Of the store or index.
    explanation : str
        How the threshold was found, as a sentence.
    facts : mapping of str to str, optional
        What decides the scores, see :func:`~vggfeat.report.deciding_facts`.
    progress : callable
        Told how many more images have their thumbnails.

    Returns
    -------
    Path
        The file.
    """
    return write_page(
        path,
        "duplicates.html",
        groups=[_group_view(group, progress) for group in found.groups],
        name=name,
        images=found.images,
        spare=len(found.spare),
        bytes=size_text(sum(one.bytes for one in found.spare)),
        explanation=explanation,
        facts=facts or {},
        metric=METRICS.get(found.metric, found.metric),
    )


def size_text(count: int) -> str:
    """Write a number of bytes with three digits or so: ``1.42 MB``."""
    size = float(count)
    for unit in _UNITS[:-1]:
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} {_UNITS[-1]}"


def _group_view(group: Copies, progress: Callable[[int], None]) -> dict[str, Any]:
    scores = [group.least, *(one.score for one in group.images[1:])]
    places = max(4, decimals(scores))
    view = partial(_image_view, places=places, progress=progress)
    return {
        "least": f"{group.least:.{places}f}",
        "chain": group.chain,
        "images": [view(one) for one in group.images],
    }


def _image_view(one: Copy, places: int, progress: Callable[[int], None]) -> dict[str, Any]:
    drawn = picture(originals(one.source)(one.path))
    progress(1)
    return {
        "path": one.path,
        "picture": drawn,
        "score": f"{one.score:.{places}f}",
        "near": one.near,
        "problem": one.problem,
        "size": f"{one.width:,} × {one.height:,}",
        "bytes": size_text(one.bytes),
    }
