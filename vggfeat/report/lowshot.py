"""Low-shot curves as a picture: images a class from left to right, recall upwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
    from vggfeat.evaluation import LowShotPrecision, LowShotScore
    from vggfeat.metrics import Interval
    from vggfeat.report.figure import PageFigure

    Score = LowShotScore | LowShotPrecision

_LINES: dict[str, dict[str, Any]] = {
    "svm": {"linestyle": "-", "marker": "o"},
    "logreg": {"linestyle": (0, (6, 1.5, 1.2, 1.5)), "marker": "D"},
    "mean": {"linestyle": (0, (4, 2)), "marker": "s"},
    "nearest": {"linestyle": (0, (1.2, 1.5)), "marker": "^"},
}


def lowshot_figure(
    series: Mapping[str, Sequence[Score]], chance: float, *, dark: bool = False
) -> bytes:
    """Return :func:`draw_lowshot` as a PNG file."""
    return draw_lowshot(series, chance, dark=dark).png()


def draw_lowshot(
    series: Mapping[str, Sequence[Score]], chance: float, *, dark: bool = False
) -> PageFigure:
    """Draw scores over the number of images a class, on a scale of doublings.

    The score is mean class recall; of several labels an image, mean average precision. A colour is
    a layer of a store, a kind of line a classifier; of more than six layers the six best with most
    shots are drawn. The band around a line is one standard deviation over the repetitions to
    either side.

    Parameters
    ----------
    series : mapping of str to sequence of LowShotScore or LowShotPrecision
        Scores by the name that the legend shows where there are several, as of
        :func:`vggfeat.evaluation.low_shot`.
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
    curves = _curves(series)
    if not curves:
        raise ValueError("a picture of low-shot scores needs one score or more")
    axes = canvas(6.4, 4.3, dark=dark)
    every = list(dict.fromkeys((name, layer) for name, layer, _ in curves))
    colours = _best(curves, len(COLOURS[dark]))
    for (name, layer, classifier), scores in curves.items():
        if (name, layer) not in colours:
            continue
        colour = COLOURS[dark][colours.index((name, layer))]
        prefix = f"{shortened(name, 28)}: " if len(series) > 1 else ""
        label, line = f"{prefix}{layer}, {classifier}", _LINES[classifier]
        _curve(axes, scores, label, colour, line, PAPER[dark])
    drawn = [one for key, scores in curves.items() if key[:2] in colours for one in scores]
    _shots(axes, sorted({score.shots for score in drawn}), INK[dark])
    edges = [edge for span in (score.score for score in drawn) for edge in _band(span)]
    several = hasattr(drawn[0], "mean_average_precision")
    title = "mean average precision" if several else "mean class recall"
    shares_upwards(axes, title, edges, chance, dark=dark)
    if len(colours) < len(every):
        note = f"the best {len(colours)} of {len(every)} layers"
        axes.annotate(
            note, (1, 0), (-4, 6), xycoords="axes fraction", textcoords="offset points",
            ha="right", fontsize=8, color=INK[dark],
        )  # fmt: skip
    lines, labels = axes.get_legend_handles_labels()
    columns = 2 if len(labels) > 3 and max(map(len, labels)) < 40 else 1
    legend(axes, lines, labels, columns=columns, dark=dark)
    figure: PageFigure = axes.figure
    return figure


def _best(
    curves: Mapping[tuple[str, str, str], Sequence[Score]], most: int
) -> list[tuple[str, str]]:
    """Return the layers of highest recall with most shots by any classifier, in their order."""
    heights: dict[tuple[str, str], float] = {}
    for (name, layer, _), scores in curves.items():
        recall = scores[-1].score.mean
        heights[name, layer] = max(recall, heights.get((name, layer), 0.0))
    chosen = sorted(heights, key=lambda key: -heights[key])[:most]
    return [key for key in heights if key in chosen]


def _curves(
    series: Mapping[str, Sequence[Score]],
) -> dict[tuple[str, str, str], list[Score]]:
    curves: dict[tuple[str, str, str], list[Score]] = {}
    for name, scores in series.items():
        for score in scores:
            curves.setdefault((name, score.layer, score.classifier), []).append(score)
    return {key: sorted(scores, key=lambda score: score.shots) for key, scores in curves.items()}


def _curve(
    axes: Any,
    scores: Sequence[Score],
    label: str,
    colour: str,
    style: Mapping[str, Any],
    paper: str,
) -> None:
    shots = [score.shots for score in scores]
    spans = [score.score for score in scores]
    heights = [100 * span.mean for span in spans]
    below, above = zip(*map(_band, spans), strict=True)
    axes.fill_between(
        shots, [100 * edge for edge in below], [100 * edge for edge in above],
        color=colour, alpha=0.13, linewidth=0,
    )  # fmt: skip
    axes.plot(
        shots, heights, **style, color=colour, linewidth=1.6, markersize=4.5,
        markerfacecolor=colour if style["linestyle"] == "-" else paper,
        label=f"{label}: {percent(spans[-1].mean)} from {shots[-1]}",
    )  # fmt: skip


def _band(span: Interval) -> tuple[float, float]:
    """Return one standard deviation below and above a mean, within 0..1."""
    return max(0.0, span.mean - span.sd), min(1.0, span.mean + span.sd)


def _shots(axes: Any, shots: Sequence[int], ink: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(shots[0] / 1.15, shots[-1] * 1.15)
    axes.set_xticks(shots, [str(count) for count in shots], color=ink)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("images of each class to learn from", color=ink, fontsize=9.5, labelpad=8)
