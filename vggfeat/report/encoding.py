"""What layers predict of responses, as a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vggfeat.report.canvas import Canvas, picture_destination
from vggfeat.report.score_axes import COLOURS
from vggfeat.report.text import shortened

if TYPE_CHECKING:
    from vggfeat.encoding import Encoding, Scores

_LEFT, _TOP, _HEIGHT = 62, 74, 250
_GAP, _LAYER, _PANEL = 66, 26, 270  # pixels between panels, of a layer, of the last panel
_POINTS = 5000


def plot_encoding(
    path: str | os.PathLike[str], encoding: Encoding, *, title: str = "", dark: bool = False
) -> Path:
    """Draw how well each layer predicts, which targets prefer which, and how far it could go.

    From left to right: the mean score of each layer with its interval, beside that of each
    target's own layer and of all layers together; the share of targets whose best layer each is;
    and each target's score over its noise ceiling, or where there is none how scores spread.

    Parameters
    ----------
    path : path
        Ending in .png, .svg or .pdf.
    encoding : Encoding
        From :func:`vggfeat.encoding.encode`.
    title : str
        By default the names of the responses' file and the store's.
    dark : bool
        Light on dark instead of dark on light.

    Returns
    -------
    Path
        The file, written whole or not at all.
    """
    picture_destination(path)
    return draw_encoding(encoding, title=title, dark=dark).save(path)


def draw_encoding(encoding: Encoding, *, title: str = "", dark: bool = False) -> Canvas:
    """Draw what :func:`plot_encoding` writes."""
    names = [shortened(one.layer, 16) for one in encoding.layers]
    wide = max(200, _LAYER * len(names) + 30)
    width = _LEFT + wide + _GAP + wide + _GAP + _PANEL + 30
    canvas = Canvas(width, _TOP + _HEIGHT + 46 + 7 * max(8, *map(len, names)), dark=dark)
    files = (Path(encoding.origin).name, Path(encoding.store).name)
    text = title or f"{files[0]} predicted from {files[1]}"
    canvas.fitted(_LEFT - 40, 30, text, width - _LEFT, size=17)
    at = float(_LEFT)
    _layers(_panel(canvas, at, wide), encoding, names, dark)
    at += wide + _GAP
    _shares(_panel(canvas, at, wide), encoding, names, dark)
    at += wide + _GAP
    _ceiling(_panel(canvas, at, _PANEL), encoding, dark)
    said = [
        f"{encoding.n_images:,} images", f"{len(encoding.names):,} targets", encoding.division,
        *([f"{encoding.level:.0%} intervals over test images"] if encoding.samples else []),
        *(["best layers of targets with p < 0.05"] if encoding.nulls else []),
    ]  # fmt: skip
    canvas.sentences(_LEFT - 40, canvas.height - 14, said, width - _LEFT, size=12)
    return canvas


def _panel(canvas: Canvas, left: float, width: float) -> Any:
    """Return axes of a panel, which begins at a pixel of the page."""
    bottom = canvas.height - _TOP - _HEIGHT
    place = (
        left / canvas.width, bottom / canvas.height, width / canvas.width, _HEIGHT / canvas.height
    )  # fmt: skip
    axes = canvas.figure.add_axes(place, facecolor=canvas.tones.paper)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(canvas.tones.line)
    axes.tick_params(colors=canvas.tones.faint, labelsize=8.5, length=3)
    axes.grid(axis="y", color=canvas.tones.line, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.label.set_color(canvas.tones.ink)
    axes.yaxis.label.set_color(canvas.tones.ink)
    return axes


def _titled(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=10, loc="left", pad=8, color=axes.yaxis.label.get_color())


def _named(axes: Any, names: list[str]) -> None:
    axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
    axes.set_xlim(-0.7, len(names) - 0.3)


def _layers(axes: Any, encoding: Encoding, names: list[str], dark: bool) -> None:
    r2 = encoding.scoring == "r2"
    score = "R2" if r2 else "Pearson's r"
    means = [one.mean_r2 if r2 else one.mean_r for one in encoding.layers]
    values = np.array([one.value for one in means])
    low, high = (np.array([getattr(one, end) for one in means]) for end in ("low", "high"))
    colour, other, third = COLOURS[dark][:3]
    if np.isfinite(low).all():
        axes.vlines(range(len(values)), low, high, color=colour, linewidth=1.4)
    axes.plot(
        range(len(values)), values, color=colour, marker="o", markersize=5, linewidth=1,
        label="each layer",
    )  # fmt: skip
    lines: list[tuple[str, Scores, str, Any]] = [
        ("each target's own layer", encoding.best.scores, other, (0, (5, 2)))
    ]
    if encoding.banded is not None:
        lines.append(("all layers, banded", encoding.banded.scores, third, (0, (1, 1.5))))
    for label, scores, tone, dashes in lines:
        value = _mean(scores.r2 if r2 else scores.r)
        if np.isfinite(value):
            axes.axhline(value, color=tone, linewidth=1.4, linestyle=dashes, label=label)
    ceiling = encoding.ceiling if r2 else np.sqrt(encoding.ceiling)
    if np.isfinite(ceiling).any():
        axes.axhline(
            _mean(ceiling), color=axes.yaxis.label.get_color(), linewidth=1, label="ceiling"
        )
    _titled(axes, f"mean {score} of test images")
    bottom, top = axes.get_ylim()
    bottom = min(bottom, 0.0)
    axes.set_ylim(bottom, top + 0.42 * (top - bottom))  # with room for the legend
    made = axes.legend(frameon=False, fontsize=8, loc="upper left", handlelength=2.6)
    for text in made.get_texts():
        text.set_color(axes.yaxis.label.get_color())
    _named(axes, names)


def _shares(axes: Any, encoding: Encoding, names: list[str], dark: bool) -> None:
    shares = [100 * np.nan_to_num(one.chosen) for one in encoding.layers]
    axes.bar(range(len(shares)), shares, width=0.72, color=COLOURS[dark][0])
    for at, share in enumerate(shares):
        if share:
            axes.annotate(
                f"{share:.0f}", (at, share), (0, 2), textcoords="offset points", ha="center",
                fontsize=8, color=axes.yaxis.label.get_color(),
            )  # fmt: skip
    _titled(axes, "targets by best layer, %")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(0, 1.1 * max(shares, default=0) or 1)
    _named(axes, names)


def _ceiling(axes: Any, encoding: Encoding, dark: bool) -> None:
    scores = encoding.best.scores.r2
    known = np.flatnonzero(np.isfinite(scores) & np.isfinite(encoding.ceiling))
    colour, other = COLOURS[dark][:2]
    if not len(known):
        values = encoding.best.scores.r[np.isfinite(encoding.best.scores.r)]
        if len(values):
            axes.hist(values, bins=30, color=colour)
            axes.axvline(np.median(values), color=other, linewidth=1.6)
        _titled(axes, "targets by r with their own layer")
        axes.set_xlabel("Pearson's r (line: median)", fontsize=9)
        return
    shown = known[np.linspace(0, len(known) - 1, min(_POINTS, len(known))).astype(int)]
    found = np.maximum(scores[shown], -0.2)
    axes.plot(
        [0, 1], [0, 1], color=axes.yaxis.label.get_color(), linewidth=0.9, linestyle=(0, (4, 3))
    )
    sure = encoding.q[shown] < 0.05 if encoding.nulls else np.ones(len(shown), bool)
    for chosen, tone, marker, label in (
        (~sure, other, "x", "no more than chance"), (sure, colour, "o", "q < 0.05"),
    ):  # fmt: skip
        if chosen.any():
            axes.scatter(
                encoding.ceiling[shown][chosen], found[chosen], s=11, color=tone, marker=marker,
                alpha=0.6, linewidths=0 if marker == "o" else 0.9, label=label,
            )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(min(-0.02, float(found.min()) - 0.03), 1))
    _titled(axes, "R2 with each target's own layer")
    axes.set_xlabel("noise ceiling of R2", fontsize=9)
    if encoding.nulls:
        made = axes.legend(frameon=False, fontsize=8, loc="upper left", handletextpad=0.2)
        for text in made.get_texts():
            text.set_color(axes.yaxis.label.get_color())


def _mean(values: Any) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
