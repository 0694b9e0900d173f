"""What ``vggfeat finetune`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vggfeat.cli.output import printable, table

if TYPE_CHECKING:
    from vggfeat.finetuning.results import FinetuneResult, Result


def describe(result: FinetuneResult) -> str:
    """Return what a run made as a few lines and a table."""
    recipe = result.recipe
    began = "the head alone" if recipe.first == "head" else f"from {recipe.first} on"
    division = result.tuned.division
    how = division.describe() if division is not None else ""
    rows = [["linear probe", *_score(result.probe)], ["fine-tuned", *_score(result.tuned)]]
    gain = result.gain
    chance = f"p = {gain.p:.2g}"
    if gain.only_tuned is not None:
        chance += (
            f" (McNemar: {gain.only_tuned:,} images are named rightly by the fine-tuned network "
            f"alone, {gain.only_probe:,} by the probe alone)"
        )
    watched = f", chosen on {result.n_watch:,} images" if result.n_watch else ""
    seconds = ", ".join(f"{stage} {value:,.0f} s" for stage, value in result.seconds.items())
    lines = [
        f"{printable(str(result.path))}: {result.model}, {began}, {recipe.epochs} epochs "
        f"(epoch {result.best} is kept{watched}), {result.tuned.n_train:,} images to train, "
        f"{result.tuned.n_test:,} to test",
        *([printable(how)] if how else []),
        "",
        table(rows, ["", result.measure, "95 % interval"], right=result.measure),
        "",
        f"difference: {100 * gain.difference:+.2f} points of {gain.measure}, 95 % interval "
        f"{100 * gain.low:+.2f} to {100 * gain.high:+.2f}, {chance}",
        result.advice,
        f"time: {seconds}",
    ]
    return "\n".join(lines)


def _score(result: Result) -> list[str]:
    from vggfeat.finetuning.results import interval_of, score_of

    shown = interval_of(result)
    interval = f"{shown.low:.2%} to {shown.high:.2%}" if shown else "-"
    return [f"{score_of(result):.2%}", interval]
