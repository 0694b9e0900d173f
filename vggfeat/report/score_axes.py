"""What pictures of scores have in common: colours, an axis of shares, a legend above."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vggfeat.report.text import percent

if TYPE_CHECKING:
    from vggfeat.report.figure import PageFigure

PAPER = {False: "#ffffff", True: "#1b1f23"}
INK = {False: "#4c555e", True: "#b3bcc4"}
COLOURS = {  # told apart also with the common kinds of colour blindness
    False: ("#2b6d8c", "#c2571a", "#7a4fa0", "#3d8043", "#8a6d00", "#b03a63"),
    True: ("#67b2cf", "#f0935a", "#b694dd", "#7dc184", "#d8b63c", "#ec86a8"),
}
"""By whether the picture is dark."""


def canvas(width: float, height: float, *, dark: bool) -> Any:
    """Return the axes of an empty picture; its sides are in inches."""
    return new_figure(width, height, dark=dark).add_axes((0, 0, 1, 1), facecolor=PAPER[dark])


def new_figure(width: float, height: float, *, dark: bool) -> PageFigure:
    """Return an empty picture; its sides are in inches."""
    from vggfeat.report.figure import PageFigure

    return PageFigure(width, height, PAPER[dark])


def shares_upwards(
    axes: Any, title: str, shares: Sequence[float], chance: float, *, dark: bool
) -> None:
    """Let shares go upwards over the range that they fill, so that close ones are told apart.

    Fine lines go across, without a frame. Guessing is a line with its name at the right, or, where
    the axis begins above it, a note at the foot; an axis that does not begin at 0 says so.

    Parameters
    ----------
    axes : matplotlib's Axes
    title : str
        What the shares are of.
    shares : sequence of float
        All that is drawn, in 0..1.
    chance : float
        What guessing gets, in 0..1.
    dark : bool
    """
    ink = INK[dark]
    low, high, step = span(shares, chance)
    axes.set_ylim(low, high + 0.02 * (high - low))
    ticks = range(low, high + 1, step)
    axes.set_yticks(ticks, [f"{share} %" for share in ticks], color=ink)
    begins = f" (axis begins at {low} %)" if low else ""
    axes.set_ylabel(title + begins, color=ink, fontsize=9.5, labelpad=8)
    shown = 100 * chance >= low
    if shown:
        axes.axhline(100 * chance, color=ink, linewidth=0.9, linestyle=(0, (1, 2)))
    axes.annotate(
        f"guessing\n{percent(chance)}" + ("" if shown else "\n(below)"),
        (1, 100 * chance if shown else low), (6, 0), ha="left", va="center" if shown else "bottom",
        xycoords=axes.get_yaxis_transform(), textcoords="offset points", fontsize=8, color=ink,
    )  # fmt: skip
    axes.grid(axis="y", color=ink, alpha=0.18, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8.5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def span(shares: Sequence[float], chance: float) -> tuple[int, int, int]:
    """Return where an axis of percent begins and ends, and the step of its marks.

    It covers all shares (in 0..1) with whole steps. It reaches down to guessing where that lies
    within as much again as the shares themselves span.
    """
    lowest, highest = 100 * min(shares), 100 * max(shares)
    if 100 * chance >= lowest - (highest - lowest):
        lowest = min(lowest, 100 * chance)
    step = next(step for step in (1, 2, 5, 10, 20) if highest - lowest <= 6 * step or step == 20)
    low = max(0, step * math.floor((lowest - 0.2 * step) / step))
    high = min(100, step * math.ceil((highest + 0.2 * step) / step))
    if low <= 2 * step:  # an axis that nearly begins at 0 may as well
        low = 0
    return low, max(high, low + step), step


def legend(
    axes: Any, lines: Sequence[Any], labels: Sequence[str], *, columns: int, dark: bool
) -> None:
    """Write the legend above the picture; names are shown as they are, never as formulas."""
    made = axes.legend(
        lines, labels, loc="lower left", bbox_to_anchor=(-0.01, 1.01), ncols=columns,
        frameon=False, fontsize=9, labelcolor=INK[dark], handlelength=2.6, columnspacing=2.4,
    )  # fmt: skip
    for text in made.get_texts():
        text.set_parse_math(False)
