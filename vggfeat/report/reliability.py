"""How far probabilities can be believed, as a picture and in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vggfeat.report.confusion import DENSITY
from vggfeat.report.score_axes import COLOURS, INK, PAPER, legend, new_figure
from vggfeat.report.text import counted, percent
from vggfeat.report.thumbnails import png_picture

if TYPE_CHECKING:
    from vggfeat.metrics import Reliability
    from vggfeat.probe import MultiLabelResult, ProbeResult

_LEVEL = 0.95
_TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)
_SHARES = [f"{100 * share:.0f} %" for share in _TICKS]
_BAR = {False: "#cfdfe6", True: "#24414f"}


def reliability_figure(found: Reliability, *, intervals: bool = True, dark: bool = False) -> bytes:
    """Draw how often answers of each confidence are right, and how many there are of each.

    A bar a bin is as high as its share of right answers, with a dot at the bin's mean confidence;
    the hatched part is what that is away from it. On the broken line all would be right as
    often as they say: below it they are too sure, above it not sure enough.

    Parameters
    ----------
    found : Reliability
        From :func:`vggfeat.metrics.reliability`.
    intervals : bool
        Whether to draw each share's 95 % interval (:func:`vggfeat.metrics.wilson`), which is right
        where answers do not depend on one another.
    dark : bool
        Light on dark instead of dark on light. The picture has a ground of its own.

    Returns
    -------
    bytes
        A PNG file.
    """
    figure = new_figure(4.6, 5.5, dark=dark)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4.4, 1))
    figure.subplots_adjust(hspace=0.12)
    some = np.flatnonzero(found.counts)
    middles = (found.limits[some] + found.limits[some + 1]) / 2
    width = 0.9 / len(found.counts)
    _bars(above, found, some, middles, width, dark)
    if intervals:
        _intervals(above, found, some, dark)
    above.set(xlim=(0, 1), ylim=(0, 1.02))
    said = "images that show the class" if found.several else "named rightly"
    _dress(above, said, dark)
    above.set_yticks(_TICKS, _SHARES)
    below.bar(middles, found.counts[some], width, color=_BAR[dark], edgecolor=COLOURS[dark][0])
    _dress(below, "answers" if found.several else "images", dark)
    below.set_xlabel(
        "probability of the class" if found.several else "probability of the named class",
        color=INK[dark],
        fontsize=9.5,
    )
    below.set_xticks(_TICKS, _SHARES)
    below.yaxis.get_major_locator().set_params(nbins=3, integer=True)
    legend(above, *above.get_legend_handles_labels(), columns=2, dark=dark)
    return figure.png()


def reliability_view(result: ProbeResult | MultiLabelResult) -> dict[str, Any] | None:
    """Return both pictures and what they show, as templates take them; None without any."""
    if (found := result.reliability) is None:
        return None
    intervals = not found.several and result.test_groups is None
    light, dark = (
        png_picture(reliability_figure(found, intervals=intervals, dark=each), DENSITY)
        for each in (False, True)
    )
    learnt = "" if result.calibration is None else result.calibration.describe()
    return {
        "light": light.uri,
        "dark": dark.uri,
        "width": light.width,
        "height": light.height,
        "alt": describe_reliability(found),
        "found": found,
        "intervals": intervals,
        "grouped": result.test_groups is not None,
        "how": learnt,
        "bins": found.to_json()["bins"],
    }


def describe_reliability(found: Reliability) -> str:
    """Say what the picture shows, for those who cannot see it."""
    some = np.flatnonzero(found.counts)
    gaps = (found.share - found.confidence)[some]
    worst = some[np.abs(gaps * found.counts[some]).argmax()]
    low, high = found.limits[worst], found.limits[worst + 1]
    right = "show the class" if found.several else "are right"
    return (
        f"Reliability of {counted(found.n, 'probability', 'probabilities')}: expected calibration "
        f"error {percent(found.ece)}. What counts most: of {found.counts[worst]:,} between "
        f"{percent(low)} and {percent(high)}, {percent(found.share[worst])} {right}, where "
        f"{percent(found.confidence[worst])} is said."
    )


def _bars(axes: Any, found: Reliability, some: Any, middles: Any, width: float, dark: bool) -> None:
    colour, other = COLOURS[dark][0], COLOURS[dark][1]
    share, confidence = found.share[some], found.confidence[some]
    axes.bar(middles, share, width, color=_BAR[dark], edgecolor=colour, label="share right")
    axes.bar(
        middles, np.abs(confidence - share), width, bottom=np.minimum(share, confidence),
        color="none", edgecolor=other, hatch="////", linewidth=0.8, label="away from what is said",
    )  # fmt: skip
    axes.plot(
        [0, 1],
        [0, 1],
        color=INK[dark],
        linewidth=1,
        linestyle=(0, (4, 3)),
        label="as often as said",
    )
    axes.plot(
        confidence, share, linestyle="none", marker="o", markersize=4.5, color=colour,
        markeredgecolor=PAPER[dark], zorder=4,
    )  # fmt: skip


def _intervals(axes: Any, found: Reliability, some: Any, dark: bool) -> None:
    from vggfeat.metrics import wilson

    for at in some.tolist():
        n, share = int(found.counts[at]), float(found.share[at])
        low, high = wilson(round(share * n), n, _LEVEL)
        name = "95 % interval" if at == some[0] else "_"  # one line of the legend
        x = [found.confidence[at]] * 2
        axes.plot(x, [low, high], color=INK[dark], linewidth=1, zorder=3, label=name)


def _dress(axes: Any, title: str, dark: bool) -> None:
    ink = INK[dark]
    axes.set_facecolor(PAPER[dark])
    axes.set_ylabel(title, color=ink, fontsize=9.5)
    axes.tick_params(colors=ink, labelsize=8.5, length=0)
    axes.grid(axis="y", color=ink, alpha=0.18, linewidth=0.7)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
