"""Stores, indexes and results as HTML in a notebook, on light and on dark ground.

A few photographs go with them, small, where they can be read: none that is far away, no more than
:data:`~vggfeat.notebook.parts.PHOTOS` of each, and for no longer than
:data:`~vggfeat.notebook.parts.SECONDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vggfeat.notebook import figures, images, representations, scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vggfeat.showing import Drawn, Shown

MAKERS: dict[str, Callable[[Any], str]] = {
    "answer": images.answer,
    "encoding": representations.encoding,
    "evaluation": scores.evaluation,
    "finetune": scores.finetune,
    "fits": representations.fits,
    "index": images.index,
    "knn": scores.knn,
    "layers": lambda found: scores.sweep(found.compared),
    "lowshot": scores.lowshot,
    "neighbours": images.neighbours,
    "numbers": scores.numbers,
    "probe": scores.probe,
    "rdms": representations.rdms,
    "repeated": scores.repeated,
    "results": images.results,
    "similarities": representations.similarities,
    "sweep": scores.sweep,
    "table": images.table,
}
"""What makes the HTML, by :attr:`vggfeat.showing.Shown.shown_as`."""

DRAWERS: dict[str, Callable[[Any, bool], Figure]] = {
    "encoding": figures.of_encoding,
    "finetune": figures.of_finetune,
    "fits": figures.of_fits,
    "layers": lambda found, dark: figures.of_sweep(found.compared, dark),
    "lowshot": figures.of_lowshot,
    "numbers": figures.of_numbers,
    "probe": figures.of_probe,
    "rdms": figures.of_rdms,
    "similarities": figures.of_similarities,
    "sweep": figures.of_sweep,
}
"""What draws, by the same; told whether light on dark."""


def html(value: Shown) -> str:
    """Return an object as HTML; what it holds of names is escaped."""
    inner = MAKERS[value.shown_as](value)
    return f'<div style="font-size:90%;line-height:1.4;max-width:60em">{inner}</div>'


def draw(value: Drawn, dark: bool) -> Figure:
    """Return a result as a figure."""
    return DRAWERS[value.shown_as](value, dark)
