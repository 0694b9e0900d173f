"""A sweep as a picture: layers from left to right, accuracy upwards."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from vggfeat.layers import layer_of
from vggfeat.report.score_axes import (
    COLOURS,
    INK,
    PAPER,
    canvas,
    legend,
    shares_upwards,
)
from vggfeat.report.text import percent, shortened

if TYPE_CHECKING:
    from vggfeat.evaluation import LayerPrecision, LayerScore
    from vggfeat.evaluation.layers.differences import Classifier
    from vggfeat.report.figure import PageFigure

    Score = LayerScore | LayerPrecision

_BAND = {False: "#f5f3ee", True: "#22272c"}
_LINES: dict[Classifier, dict[str, Any]] = {
    "probe": {"linestyle": "-", "marker": "o"},
    "kNN": {"linestyle": (0, (4, 2)), "marker": "s"},
}


_INCH = 100  # of the page's pixels


def sweep_figure(
    series: Mapping[str, Sequence[Score]], chance: float, *, dark: bool = False
) -> bytes:
    """Return :func:`draw_sweep` as a PNG file."""
    return draw_sweep(series, chance, dark=dark).png()


def draw_sweep(
    series: Mapping[str, Sequence[Score]], chance: float, *, dark: bool = False
) -> PageFigure:
    """Draw how well each layer tells classes apart.

    Depth goes to the right, a place a layer; blocks of convolutions lie on bands. For each series
    a solid line with dots is the linear probe's accuracy and a broken one with squares that of
    nearest neighbours; of several labels an image, their mean average precision. The best layer of
    each has a larger mark and is named in the legend. The axis of scores covers what is drawn, and
    says where it does not begin at 0.

    Parameters
    ----------
    series : mapping of str to sequence of LayerScore or LayerPrecision
        Scores by the name that the legend shows, as of :func:`vggfeat.evaluation.sweep`; of
        different layers too, which then share one axis.
    chance : float
        Score of guessing, in 0..1, drawn as a line.
    dark : bool
        Light on dark instead of dark on light. The picture has a ground of its own.

    Returns
    -------
    PageFigure

    Raises
    ------
    ValueError
        There is no score to draw.
    """
    layers = ordered_layers([[score.layer for score in scores] for scores in series.values()])
    if not layers:
        raise ValueError("a picture of a sweep needs one score or more")
    width = min(max(420, 150 + 22 * len(layers)), 1300) / _INCH
    axes = canvas(width, 4.3, dark=dark)
    _bands(axes, layers, _BAND[dark])
    for number, (name, scores) in enumerate(series.items()):
        colour = COLOURS[dark][number % len(COLOURS[dark])]
        prefix = f"{shortened(name, 28)}: " if len(series) > 1 else ""
        for classifier, line in _LINES.items():
            values = {score.layer: score.by(classifier) for score in scores}
            _line(axes, layers, values, f"{prefix}{classifier}", colour, line, PAPER[dark])
    axes.set_xlim(-0.6, len(layers) - 0.4)
    axes.set_xticks(range(len(layers)), layers, rotation=90, fontsize=8.5, color=INK[dark])
    every = [score for scores in series.values() for score in scores]
    drawn = [score.by(classifier) for score in every for classifier in _LINES]
    several = hasattr(every[0], "mean_average_precision")
    title = "mean average precision" if several else "test images named rightly"
    shares_upwards(axes, title, drawn, chance, dark=dark)
    lines, labels = axes.get_legend_handles_labels()
    columns = 2 if width > 6.5 else 1  # probes in one, neighbours in the other
    if columns == 2:
        lines, labels = lines[::2] + lines[1::2], labels[::2] + labels[1::2]
    legend(axes, lines, labels, columns=columns, dark=dark)
    figure: PageFigure = axes.figure
    return figure


def ordered_layers(sequences: Sequence[Sequence[str]]) -> list[str]:
    """Unite sequences of layers so that each keeps its order.

    Parameters
    ----------
    sequences : sequence of sequence of str
        Layers in the order they run, of networks that need not be the same.

    Returns
    -------
    list of str
        Every layer once; one that the sequences so far lack follows the one before it.
    """
    layers: list[str] = []
    for sequence in sequences:
        at = 0
        for layer in sequence:
            if layer not in layers:
                layers.insert(at, layer)
            at = layers.index(layer) + 1
    return layers


def _line(
    axes: Any,
    layers: Sequence[str],
    values: Mapping[str, float],
    label: str,
    colour: str,
    style: Mapping[str, Any],
    paper: str,
) -> None:
    if not values:
        return
    at = [layers.index(layer) for layer in values]
    heights = [100 * value for value in values.values()]
    best = max(values, key=lambda layer: values[layer])
    filled = colour if style["linestyle"] == "-" else paper
    mark = {"color": colour, "marker": style["marker"], "markerfacecolor": filled}
    axes.plot(
        at, heights, linestyle=style["linestyle"], linewidth=1.6, markersize=4, **mark,
        label=f"{label}, best {percent(values[best])} at {best}",
    )  # fmt: skip
    axes.plot([layers.index(best)], [100 * values[best]], markersize=9, markeredgewidth=1.6, **mark)


def _bands(axes: Any, layers: Sequence[str], colour: str) -> None:
    """Lay a band under every other block: conv1_1 to pool1, conv2_1 to pool2, ..., the head."""
    starts = [0]
    for _, block in groupby(layers, key=_block):
        starts.append(starts[-1] + len(list(block)))
    blocks = list(pairwise(starts))
    for first, end in blocks[::2] if len(blocks) > 1 else []:
        axes.axvspan(first - 0.5, end - 0.5, color=colour, linewidth=0, zorder=0)


def _block(layer: str) -> str:
    layer = layer_of(layer)
    match = re.match(r"(?:conv|relu|pool)(\d)(?:_|$)", layer)
    return match[1] if match and (layer.startswith("pool") or "_" in layer) else "head"
