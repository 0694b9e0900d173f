"""Predicted numbers as a picture and a page: prediction against truth, target by target."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vggfeat.report.confusion import DENSITY
from vggfeat.report.facts import Facts
from vggfeat.report.page import write_page
from vggfeat.report.score_axes import COLOURS, INK, PAPER, new_figure
from vggfeat.report.text import shortened
from vggfeat.report.thumbnails import png_picture

if TYPE_CHECKING:
    from vggfeat.probe import RegressionResult
    from vggfeat.report.figure import PageFigure

MOST = 9
"""Targets that are drawn one by one; of more, the distribution of their scores."""

_POINTS = 4000
_ROWS = 1000  # of the page's table


def numbers_figure(result: RegressionResult, *, dark: bool = False) -> bytes:
    """Return :func:`draw_numbers` as a PNG file."""
    return draw_numbers(result, dark=dark).png()


def draw_numbers(result: RegressionResult, *, dark: bool = False) -> PageFigure:
    """Draw predictions against truth, and of more than nine targets how their scores spread.

    Parameters
    ----------
    result : RegressionResult
        From :func:`vggfeat.probe.evaluate_numbers`.
    dark : bool
        Light on dark instead of dark on light. The picture has a ground of its own.

    Returns
    -------
    PageFigure
    """
    targets = len(result.names)
    columns = min(targets, 3) if targets <= MOST else 2
    rows = -(-targets // columns) if targets <= MOST else 1
    figure = new_figure(3.1 * columns, 3.15 * rows, dark=dark)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    figure.subplots_adjust(hspace=0.5, wspace=0.38)
    if targets <= MOST:
        for k, axes in enumerate(panels):
            if k < targets:
                _scatter(axes, result, k, dark)
            else:
                axes.set_visible(False)
    else:
        _histogram(panels[0], result.scores.r2, "R2", dark)
        _histogram(panels[1], result.scores.r, "Pearson's r", dark)
    return figure


def numbers_page(
    path: str | os.PathLike[str],
    result: RegressionResult,
    *,
    store: str,
    facts: Facts | None = None,
) -> Path:
    """Write the page of predicted numbers; parameters are those of :func:`probe_page`."""
    scores = result.scores
    order = np.argsort(-np.nan_to_num(scores.r2, nan=-np.inf), kind="stable")[:_ROWS]
    light, dark = (numbers_figure(result, dark=each) for each in (False, True))
    view = png_picture(light, DENSITY)
    return write_page(
        path,
        "numbers.html",
        result=result,
        store=store,
        many=len(result.names) > MOST,
        figure={"light": view.uri, "dark": png_picture(dark, DENSITY).uri,
                "width": view.width, "height": view.height},
        targets=[
            {
                "name": result.names[k],
                "r2": scores.text("r2", k),
                "r": scores.text("r", k),
                "n": int(scores.n[k]),
                "alpha": f"{result.alpha[k]:.3g}",
                "reason": scores.reasons.get(int(k), ""),
            }
            for k in order.tolist()
        ],
        facts={
            "classifier": "ridge regression"
            + (", rows L2-normalised" if result.normalize else "")
            + (", features divided by their deviation" if result.standardize else ""),
            "targets": f"{len(result.names):,} from {result.origin}",
            "images": f"{result.n_train:,} to train, {result.n_test:,} to test",
            **({"divided": divided} if (divided := result.division.describe()) else {}),
            "seed": str(result.seed),
        }
        | dict(facts or {}),
    )  # fmt: skip


def _scatter(axes: Any, result: RegressionResult, k: int, dark: bool) -> None:
    true, said = result.y[:, k], result.predicted[:, k]
    known = np.flatnonzero(np.isfinite(true))
    shown = known[np.linspace(0, len(known) - 1, min(_POINTS, len(known))).astype(int)]
    low, high = _range(np.concatenate([true[shown], said[shown]]))
    axes.plot([low, high], [low, high], color=INK[dark], linewidth=0.9, linestyle=(0, (4, 3)))
    axes.scatter(true[shown], said[shown], s=9, color=COLOURS[dark][0], alpha=0.55, linewidths=0)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    r2, r = result.scores.r2[k], result.scores.r[k]
    title = f"{shortened(result.names[k], 24)}\nR2 {r2:.3f}, r {r:.3f}"
    _dress(axes, title, "true", "predicted", dark)


def _histogram(axes: Any, values: Any, name: str, dark: bool) -> None:
    known = values[np.isfinite(values)]
    if len(known):
        low = max(float(known.min()), float(np.median(known)) - 2)  # R2 has no lower bound
        bins = np.linspace(low, max(float(known.max()), low + 1e-3), 41)
        axes.hist(np.clip(known, low, None), bins=bins, color=COLOURS[dark][0])
        axes.axvline(np.median(known), color=COLOURS[dark][1], linewidth=1.6)
        middle = f"median {np.median(known):.3f}"
    else:
        middle = "none is known"
    _dress(axes, f"{name} of {len(known):,} targets\n{middle}", name, "targets", dark)


def _dress(axes: Any, title: str, x: str, y: str, dark: bool) -> None:
    ink = INK[dark]
    axes.set_facecolor(PAPER[dark])
    axes.set_title(title, color=ink, fontsize=9.5, parse_math=False)
    axes.set_xlabel(x, color=ink, fontsize=9)
    axes.set_ylabel(y, color=ink, fontsize=9)
    axes.tick_params(colors=ink, labelsize=8, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)


def _range(values: Any) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin
