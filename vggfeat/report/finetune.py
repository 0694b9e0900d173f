"""The page of a fine-tuned network: its curves, and its scores beside the linear probe's."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vggfeat.report.confusion import DENSITY, confused_pairs
from vggfeat.report.page import write_page
from vggfeat.report.score_axes import COLOURS, INK, PAPER, new_figure
from vggfeat.report.text import duration, number, percent
from vggfeat.report.thumbnails import png_picture

if TYPE_CHECKING:
    from vggfeat.finetuning.results import FinetuneResult, Result
    from vggfeat.report.figure import PageFigure

_PAIRS = 10


def finetune_figure(result: FinetuneResult, *, dark: bool = False) -> bytes:
    """Return :func:`draw_finetune` as a PNG file."""
    return draw_finetune(result, dark=dark).png()


def draw_finetune(result: FinetuneResult, *, dark: bool = False) -> PageFigure:
    """Draw the loss of each epoch, and the score of the images that choose one, where there are.

    Parameters
    ----------
    result : FinetuneResult
        From :func:`vggfeat.finetune`.
    dark : bool
        Light on dark instead of dark on light. The picture has a ground of its own.

    Returns
    -------
    PageFigure
    """
    watched = [(one.number, 100 * one.score) for one in result.epochs if one.score is not None]
    panels = 2 if watched else 1
    figure = new_figure(4.4 * panels, 3.1, dark=dark)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    figure.subplots_adjust(wspace=0.32)
    trained = [one for one in result.epochs if math.isfinite(one.loss)]
    _curve(axes[0], [one.number for one in trained], [one.loss for one in trained], 0, dark)
    _dress(axes[0], "Loss on the training images, as augmented", "", dark)
    if watched:
        _curve(axes[1], [number for number, _ in watched], [score for _, score in watched], 1, dark)
        for at in (one for one in watched if one[0] == result.best):
            axes[1].plot(*at, marker="o", markersize=9, color=COLOURS[dark][1])
            axes[1].annotate(
                "kept", at, (0, 9), ha="center", textcoords="offset points", fontsize=8.5,
                color=INK[dark],
            )  # fmt: skip
        axes[1].margins(y=0.2)
        if max(score for _, score in watched) > 98:  # no mark above what there can be
            axes[1].set_ylim(top=101)
        _dress(axes[1], f"Validation: {result.measure}", " %", dark)
    return figure


def finetune_page(path: str | os.PathLike[str], result: FinetuneResult) -> Path:
    """Write the page of a run.

    Parameters
    ----------
    path : path
        The HTML file to make or replace.
    result : FinetuneResult
        From :func:`vggfeat.finetune`.

    Returns
    -------
    Path
        The file.
    """
    light, dark = (finetune_figure(result, dark=each) for each in (False, True))
    view = png_picture(light, DENSITY)
    gain = result.gain
    return write_page(
        path,
        "finetune.html",
        result=result,
        figure={"light": view.uri, "dark": png_picture(dark, DENSITY).uri,
                "width": view.width, "height": view.height},
        scores=[_score(name, one) for name, one in (("fine-tuned network", result.tuned),
                                                    ("linear probe", result.probe))],
        gain={
            "points": f"{100 * gain.difference:+.2f}",
            "low": f"{100 * gain.low:+.2f}",
            "high": f"{100 * gain.high:+.2f}",
            "p": f"{gain.p:.2g}",
        },
        classes=_classes(result),
        pairs=_pairs(result.tuned),
        epochs=[
            {
                "number": one.number,
                "loss": f"{one.loss:.4f}" if math.isfinite(one.loss) else "–",
                "score": "–" if one.score is None else percent(one.score),
                "rate": f"{one.rate:.2g}",
                "speed": f"{one.images_per_second:.1f}" if one.seconds else "–",
            }
            for one in result.epochs
        ],
        facts=_facts(result),
    )  # fmt: skip


def _score(name: str, result: Result) -> dict[str, str]:
    from vggfeat.finetuning.results import interval_of, score_of

    shown = interval_of(result)
    interval = f"{percent(shown.low)} to {percent(shown.high)}" if shown else "–"
    return {"name": name, "score": f"{100 * score_of(result):.2f} %", "interval": interval}


def _classes(result: FinetuneResult) -> list[dict[str, Any]]:
    """Return each class's score of either, those that gain least first."""
    rows = [
        {"name": name, "total": int(total), "tuned": float(tuned), "probe": float(probe),
         "gain": float(tuned - probe)}
        for name, total, tuned, probe in zip(
            result.tuned.names if not hasattr(result.tuned, "classes") else result.tuned.classes,
            *_each(result.tuned, result.probe), strict=True,
        )
    ]  # fmt: skip
    known = [row for row in rows if row["gain"] == row["gain"]]
    known.sort(key=lambda row: (row["gain"], row["name"]))
    return [
        row | {"tuned": percent(row["tuned"]), "probe": percent(row["probe"]),
               "gain": f"{100 * row['gain']:+.1f}"}
        for row in known
    ]  # fmt: skip


def _each(tuned: Result, probe: Result) -> tuple[Any, Any, Any]:
    """Return the test images of each class or number, and its score by either."""
    from vggfeat.probe import MultiLabelResult, ProbeResult

    if isinstance(tuned, ProbeResult) and isinstance(probe, ProbeResult):
        return tuned.support, tuned.recall, probe.recall
    if isinstance(tuned, MultiLabelResult) and isinstance(probe, MultiLabelResult):
        return tuned.present, tuned.average_precision, probe.average_precision
    scores: Any = tuned
    other: Any = probe
    return scores.scores.n, scores.scores.r2, other.scores.r2


def _pairs(result: Result) -> list[Any]:
    from vggfeat.probe import ProbeResult

    if not isinstance(result, ProbeResult):
        return []
    return list(confused_pairs(np.asarray(result.confusion), result.classes, _PAIRS))


def _facts(result: FinetuneResult) -> dict[str, str]:
    recipe, tuned = result.recipe, result.tuned
    views = f"{recipe.augment} drawn views of each and the plain one" if recipe.augment else "plain"
    watched = f", {number(result.n_watch)} to choose the epoch" if result.n_watch else ""
    division = tuned.division.describe() if tuned.division is not None else ""
    facts = {
        "network": result.model,
        "trained": "the head alone" if recipe.first == "head" else f"from {recipe.first} on",
        "because": result.why,
        "head": f"linear, on {recipe.layer}, beginning as a linear probe",
        "images": f"{number(tuned.n_train)} to train{watched}, {number(tuned.n_test)} to test",
        **({"divided": division} if division else {}),
        "views": f"{views}; crops from {recipe.crop:g} of the area, colours by {recipe.colour:g}"
        + (", mirrored" if recipe.mirror else ""),
        "epochs": f"{recipe.epochs} of {recipe.batch_size} images a step; epoch {result.best} kept",
        "optimiser": f"{recipe.optimiser}, {recipe.schedule}, rates {recipe.rate:g} and "
        f"{recipe.head_rate:g} (head), decay {recipe.decay:g}",
        "loss": f"label smoothing {recipe.smoothing:g}"
        + (", classes weighed alike" if recipe.class_weight else "")
        + (f", weights averaged by {recipe.average:g}" if recipe.average else ""),
        "precision": recipe.precision,
        "seed": str(recipe.seed),
    }
    facts["time"] = ", ".join(
        f"{stage} {duration(value)}" for stage, value in result.seconds.items()
    )
    return facts


def _curve(axes: Any, x: list[int], y: list[float], colour: int, dark: bool) -> None:
    mark = "o" if colour == 0 else "s"
    axes.plot(x, y, color=COLOURS[dark][colour], marker=mark, markersize=4.5, linewidth=1.7)
    axes.set_xticks(x if len(x) <= 12 else x[:: -(-len(x) // 12)])


def _dress(axes: Any, title: str, unit: str, dark: bool) -> None:
    ink = INK[dark]
    axes.set_facecolor(PAPER[dark])
    axes.set_title(title, color=ink, fontsize=9.5, loc="left")
    axes.set_xlabel("epoch", color=ink, fontsize=9)
    axes.tick_params(colors=ink, labelsize=8.5, length=3)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}{unit}")
    axes.grid(axis="y", color=ink, alpha=0.18, linewidth=0.7)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)
