"""The curves of a run as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from training import log

SUFFIXES = (".png", ".svg", ".pdf")
_PAPER, _INK, _QUIET = "#ffffff", "#38424b", "#8b949c"
_SEEN, _FIRST, _FIFTH = "#c2703d", "#2b6d8c", "#78aac0"  # training; top-1, top-5 of the average
_STAGE = "#f3f1ea"


def draw(rows: Sequence[log.Row], file: Path) -> None:
    """Draw a run's losses and accuracies by epoch.

    The ground changes with the input's resolution; the grey line is the learning rate, to no
    scale.

    Parameters
    ----------
    rows : sequence of Row
        Of the log, at least one.
    file : Path
        The picture; its suffix is one of :data:`SUFFIXES`.

    Raises
    ------
    click.ClickException
        There are no rows, the suffix is another, or the file cannot be written.
    """
    # Not pyplot: no display is needed, and no state is left behind.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if not rows:
        raise click.ClickException("the log has no epochs yet. Train for an epoch at least.")
    if file.suffix.lower() not in SUFFIXES:
        raise click.ClickException(f"{file}: a picture's name must end in {', '.join(SUFFIXES)}.")
    figure = Figure(
        figsize=(10, 4.3), facecolor=_PAPER, layout=ConstrainedLayoutEngine(wspace=0.04)
    )
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    epochs = [row.epoch for row in rows]
    rate = _furnish(left, "Loss", rows)
    _furnish(right, "Accuracy on the validation images, %", rows)
    _line(left, epochs, [row.loss for row in rows], _SEEN, "training")
    _line(left, epochs, [row.val_loss for row in rows], _FIRST, "validation")
    _line(right, epochs, [row.top5 for row in rows], _FIFTH, "top-5")
    _line(right, epochs, [row.top1 for row in rows], _FIRST, "top-1")
    _line(right, epochs, [row.raw_top1 for row in rows], _SEEN, "top-1, not averaged", dashed=True)
    right.set_ylim(bottom=0)
    for axes, more in ((left, [rate]), (right, [])):
        legend = axes.legend(
            handles=[*axes.get_lines(), *more], loc="lower left", bbox_to_anchor=(-0.02, 0.99),
            ncols=3, frameon=False, fontsize=8.5, labelcolor=_INK, handlelength=1.4,
            columnspacing=1.4, handletextpad=0.5,
        )  # fmt: skip
        legend.set_in_layout(False)  # wider than its axes, it would push them apart
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=160, facecolor=_PAPER, metadata=_nameless(file))
    except OSError as error:
        raise click.ClickException(
            f"{file} cannot be written ({error.strerror}). Check the path and its permissions."
        ) from error


def _furnish(axes: Any, title: str, rows: Sequence[log.Row]) -> Any:
    """Prepare axes, and return the line of the learning rate, which lies beneath them."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, loc="left", color=_INK, fontsize=11, pad=26)
    axes.set_xlabel("epoch", color=_INK, fontsize=9)
    axes.tick_params(colors=_QUIET, labelcolor=_INK, labelsize=9, length=3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 4, 5, 10]))
    axes.grid(axis="y", color="#e2e4e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlim(rows[0].epoch - 1, rows[-1].epoch + 0.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_QUIET)
    beneath = axes.twinx()
    beneath.axis("off")
    axes.set_zorder(beneath.get_zorder() + 1)
    axes.patch.set_visible(False)
    _name_stages(beneath, rows)
    highest = max(row.rate for row in rows)
    beneath.set_ylim(0, 1.12 * max(highest, 1e-12))
    (line,) = beneath.plot(
        [row.epoch for row in rows], [row.rate for row in rows], color="#c9ced2", linewidth=1.2,
        label=f"learning rate, from {highest:.2g}",
    )  # fmt: skip
    return line


def _line(
    axes: Any, x: list[int], y: list[float], colour: str, name: str, dashed: bool = False
) -> None:
    axes.plot(
        x, y, color=colour, label=f"{name} {y[-1]:.{1 if y[-1] > 9 else 2}f}",
        linewidth=1.2 if dashed else 2, linestyle=(0, (3, 2)) if dashed else "-",
        marker="o" if len(x) < 4 else "", markersize=4, solid_capstyle="round",
    )  # fmt: skip


def _name_stages(axes: Any, rows: Sequence[log.Row]) -> None:
    """Shade every second stage of the resolution, and write its side at the top."""
    changes = [after.epoch - 1 for before, after in pairwise(rows) if after.side != before.side]
    edges = [rows[0].epoch - 1, *changes, rows[-1].epoch + 0.5]
    for number, (start, end) in enumerate(pairwise(edges)):
        if number % 2:
            axes.axvspan(start, end, color=_STAGE, linewidth=0)
        side = next(row.side for row in rows if row.epoch > start)
        axes.annotate(
            f"{side} px", (start, 1), xycoords=axes.get_xaxis_transform(), xytext=(4, -2),
            textcoords="offset points", va="top", fontsize=8.5, color=_QUIET,
        )  # fmt: skip


def _nameless(file: Path) -> dict[str, None]:
    """Keep versions and dates out of the file, so that equal logs give equal pictures."""
    keys = {".png": ["Software"], ".svg": ["Date"], ".pdf": ["CreationDate", "Producer", "Creator"]}
    return dict.fromkeys(keys[file.suffix.lower()])
