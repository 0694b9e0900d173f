"""The page of copies: each beside the image to keep, with what differs."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggfeat.progress import Progress, silent
from vggfeat.report.facts import Facts
from vggfeat.report.page import write_page
from vggfeat.report.search import METRICS
from vggfeat.report.thumbnails import original, picture
from vggfeat.sources import Originals

if TYPE_CHECKING:
    from vggfeat.duplicates import Copies, Copy, Duplicates

LARGE, SMALL = 560, 320
"""Longest side of pictures in pixels, where there are few images and where there are many."""
MANY = 120
"""Images beyond which pictures are smaller, so that a page stays below some ten megabytes."""

_UNITS = ("B", "kB", "MB", "GB")


def duplicates_page(
    path: str | os.PathLike[str],
    result: Duplicates,
    *,
    name: str,
    explanation: str,
    facts: Facts | None = None,
    images: Originals | None = None,
    progress: Progress = silent,
) -> Path:
    """Write the page of copies, each beside the image to keep.

    Parameters
    ----------
    path : path
        The HTML file to make or replace.
    result : Duplicates
        See :func:`vggfeat.duplicates.find_duplicates`.
    name : str
        Of the store or index.
    explanation : str
        How the threshold was found, as a sentence.
    facts : mapping of str to str, optional
        What decides the scores, see :func:`~vggfeat.report.config_facts`.
    images : Originals, optional
        Opens them, as it did for `result`.
    progress : Progress
        Told of thumbnails.

    Returns
    -------
    Path
        The file.
    """
    total = sum(len(group.images) for group in result.groups)
    side = LARGE if total <= MANY else SMALL
    return write_page(
        path,
        "duplicates.html",
        groups=[
            _group_view(group, images, side, lambda: progress("drawing", 1, total))
            for group in result.groups
        ],
        name=name,
        images=result.images,
        copies=result.count("identical", "copy"),
        likely=result.count("likely"),
        unread=sum(bool(one.file.problem) for group in result.groups for one in group.images),
        spare=len(result.spare),
        bytes=size_text(sum(one.file.bytes for one in result.spare)),
        different=result.different,
        explanation=explanation,
        facts=facts or {},
        metric=METRICS.get(result.metric, result.metric),
    )


def size_text(count: int) -> str:
    """Write a number of bytes with three digits or so: ``1.42 MB``."""
    size = float(count)
    for unit in _UNITS[:-1]:
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} {_UNITS[-1]}"


def _group_view(
    group: Copies, images: Originals | None, side: int, drawn: Callable[[], object]
) -> dict[str, Any]:
    view = partial(_image_view, images=images, side=side, drawn=drawn)
    best, *others = (view(one) for one in group.images)
    return {
        "best": best,
        "others": others,
        "verified": group.verified,
        "drawn": any(one["picture"] for one in (best, *others)),
    }


def _image_view(
    one: Copy, images: Originals | None, side: int, drawn: Callable[[], object]
) -> dict[str, Any]:
    file = one.file
    shown = original(images or Originals([one.source]), one.source, one.path)
    small = None if file.problem else picture(shown, side)
    drawn()
    return {
        "path": one.path,
        "picture": None if small is None or small.missing else small,
        "score": f"{one.score:.4f}",
        "verdict": one.verdict,
        "spare": one.spare,
        "problem": file.problem,
        "size": f"{file.width:,} × {file.height:,}",
        "bytes": size_text(file.bytes),
        "format": f"{file.format} of quality {file.quality}" if file.quality else file.format,
        "differences": one.differences,
    }
