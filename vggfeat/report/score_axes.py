"""What pictures of scores have in common: colours, an axis of shares, a legend above."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

from vggfeat.report.confusion import DENSITY
from vggfeat.report.text import percent

PAPER = {False: "#ffffff", True: "#1b1f23"}
INK = {False: "#4c555e", True: "#b3bcc4"}
COLOURS = {  # told apart also with the common kinds of colour blindness
    False: ("#2b6d8c", "#c2571a", "#7a4fa0", "#3d8043", "#8a6d00", "#b03a63"),
    True: ("#67b2cf", "#f0935a", "#b694dd", "#7dc184", "#d8b63c", "#ec86a8"),
}
"""By whether the picture is dark."""

INCH = 100
"""Of the page's pixels."""


def canvas(width: float, height: float, *, dark: bool) -> Any:
    """Return the axes of an empty picture; its sides are in inches."""
    # Not pyplot: it would touch the state of a program that draws figures of its own.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor=PAPER[dark])
    FigureCanvasAgg(figure)
    return figure.add_axes((0, 0, 1, 1), facecolor=PAPER[dark])


def guessing(axes: Any, chance: float, *, dark: bool) -> None:
    """Draw the share that guessing gets as a line with its name at the right."""
    axes.axhline(100 * chance, color=INK[dark], linewidth=0.9, linestyle=(0, (1, 2)))
    axes.annotate(
        f"guessing\n{percent(chance)}", (1, 100 * chance), (6, 0), ha="left", va="center",
        xycoords=axes.get_yaxis_transform(), textcoords="offset points", fontsize=8,
        color=INK[dark],
    )  # fmt: skip


def shares_upwards(axes: Any, title: str, ink: str) -> None:
    """Let shares of 0 to 100 % go upwards, with fine lines across and no frame."""
    axes.set_ylim(0, 102)
    axes.set_yticks(range(0, 101, 20), [f"{share} %" for share in range(0, 101, 20)], color=ink)
    axes.set_ylabel(title, color=ink, fontsize=9.5, labelpad=8)
    axes.grid(axis="y", color=ink, alpha=0.18, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8.5)
    for spine in axes.spines.values():
        spine.set_visible(False)


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


def png(axes: Any, *, dark: bool) -> bytes:
    """Return the picture as a PNG file."""
    file = io.BytesIO()
    with warnings.catch_warnings():  # a name in a script that the font lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        axes.figure.savefig(
            file, format="png", dpi=INCH * DENSITY, bbox_inches="tight", pad_inches=0.12,
            facecolor=PAPER[dark], metadata={"Software": None},
        )  # fmt: skip
    return file.getvalue()
