"""``vggfeat predict``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vggfeat.cli.choices import network_of, query_options
from vggfeat.cli.meanings import meanings
from vggfeat.cli.output import bars, json_option, print_json, printable, table

if TYPE_CHECKING:
    from vggfeat.predictions import Prediction, Predictions
    from vggfeat.probe.source_score import SourceScore

_COLUMNS = 8  # of numbers that are printed
_EXPLAINED = 200  # images of a page, of 50 to 100 KB each


@click.command()
@click.argument("probe", type=click.Path(dir_okay=False))
@click.argument("source")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    metavar="K",
    help="Show the K likeliest classes of each image.  [default: its own; with --json all]",
)
@click.option(
    "--explain",
    "html",
    type=click.Path(dir_okay=False),
    metavar="OUT",
    help="Write a page that shows where in each image is what speaks for its class, as `vggfeat "
    "explain` does.",
)
@query_options
@json_option
def predict(
    probe: str, source: str, as_json: bool, top: int | None, html: str | None, **options: Any
) -> None:
    """Label the images of SOURCE with PROBE, a file that `vggfeat probe --save` made.

    PROBE may also be weights that `vggfeat finetune` made.

    SOURCE is a folder, an image, a list or an archive, as for `extract`. The images are processed
    like those the probe was trained on. The probability of the named class stands beside it; SVMs
    that an earlier version saved have none, and the margin tells by how much the class's score is
    above the next one's. A probe of several labels names all classes whose score is above 0 (with
    `--classifier logreg`: whose probability is above 0.5).

    Where the source says what its images show (a list with labels, an archive with .cls, folders
    named like the probe's classes), the score is printed, too. Exit status 1 if no image could be
    labelled. A probe of numbers (`vggfeat probe --classifier ridge`) predicts numbers.

    \b
    Example:
      vggfeat predict photos.probe new/
      vggfeat predict photos.probe labelled.csv --top 5 --json
      vggfeat predict photos.probe new/ --explain why.html
      vggfeat predict tuned.safetensors new/
    """
    from vggfeat.predictions import predict as predicted
    from vggfeat.predictions import predicts_numbers

    if html:
        from vggfeat.report import destination

        destination(html)  # refused now rather than after the work
    if predicts_numbers(probe):
        if html:
            raise click.UsageError(
                "--explain shows classes, and this probe predicts numbers: `vggfeat explain PROBE "
                "IMAGE... --class NAME` explains one of them."
            )
        if top is not None:
            raise click.UsageError("--top shows classes, and this probe predicts numbers.")
        _numbers(probe, source, as_json, options)
        return
    predictions = predicted(probe, source, **network_of(options))
    if html:
        _explain(probe, source, html, network_of(options))
    if as_json:
        print_json({"probe": probe} | predictions.to_json(top))
    else:
        if predictions.images:
            show = _several if predictions.multi_label else _single
            click.echo(show(predictions, top))
        if predictions.score is not None:
            click.echo("\n" + "\n".join(_score(predictions.score)))
        for path, why in predictions.failed.items():
            click.echo(f"failed: {printable(path)}: {why}", err=True)
        if html:
            click.echo(f"\nReport: {printable(html)}")
        if predictions.unscored:
            click.echo(f"No score: {printable(predictions.unscored)}.", err=True)
    if not predictions.images:
        raise click.exceptions.Exit(1)


def _explain(probe: str, source: str, html: str, network: dict[str, Any]) -> None:
    """Write the page of why each image has its class."""
    from vggfeat.cli.explain import write_page
    from vggfeat.explain import explain_source
    from vggfeat.explain.subjects import subject_of
    from vggfeat.extract import Failure
    from vggfeat.sources import open_source

    judge, images = subject_of(probe, network), open_source(source)
    if len(images.entries) > _EXPLAINED:
        click.echo(
            f"The page has the first {_EXPLAINED} of {len(images.entries):,} images. "
            "`vggfeat explain PROBE IMAGE...` explains others.",
            err=True,
        )
    entries = {one.path: one for one in images.entries}
    with bars("it") as progress:
        found = list(explain_source(judge, images, most=_EXPLAINED, progress=progress))
    write_page(
        html, judge, probe,
        [one for one in found if not isinstance(one, Failure)],
        [one for one in found if isinstance(one, Failure)],
        lambda path: lambda: images.open(entries[path]),
    )  # fmt: skip


def _numbers(probe: str, source: str, as_json: bool, options: dict[str, Any]) -> None:
    """Predict numbers with a probe that `vggfeat probe --classifier ridge` made."""
    from vggfeat.predictions import predict_numbers

    predicted = predict_numbers(probe, source, **network_of(options))
    if as_json:
        print_json({"probe": probe} | predicted.to_json())
    else:
        names = predicted.names[:_COLUMNS]
        rows = [
            [path, *(f"{value:.4g}" for value in row[:_COLUMNS])]
            for path, row in zip(predicted.paths, predicted.values.tolist(), strict=True)
        ]
        if rows:
            click.echo(table(rows, ["image", *names], right=" ".join(names)))
            if len(predicted.names) > _COLUMNS:
                click.echo(f"and {len(predicted.names) - _COLUMNS:,} more numbers: --json has all")
        for path, why in predicted.failed.items():
            click.echo(f"failed: {printable(path)}: {why}", err=True)
    if not predicted.paths:
        raise click.exceptions.Exit(1)


def _single(predictions: Predictions, top: int | None) -> str:
    value = "margin" if predictions.images[0].probabilities is None else "probability"
    rows = [[one.path, one.labels[0], _sure(one)] for one in predictions.images]
    if top is None:
        shown = table(rows, ["image", "label", value], right=value)
        return "\n".join([shown, *(["", *meanings(value)] if value == "margin" else [])])
    rows = [[*row, _top(one, top)] for row, one in zip(rows, predictions.images, strict=True)]
    return table(rows, ["image", "label", value, "likeliest"], right=value)


def _sure(one: Prediction) -> str:
    if one.probabilities is None:
        return f"{one.margin:.3f}"
    return f"{one.probabilities[one.labels[0]]:.3f}"


def _top(one: Prediction, count: int) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in one.top(count).items())


def _several(predictions: Predictions, top: int | None) -> str:
    rows = [
        [one.path, ", ".join(f"{name} {one.values[name]:.2f}" for name in one.labels) or "-"]
        for one in predictions.images
    ]
    if top is None:
        return table(rows, ["image", "labels"])
    rows = [[*row, _top(one, top)] for row, one in zip(rows, predictions.images, strict=True)]
    return table(rows, ["image", "labels", "likeliest"])


def _score(score: SourceScore) -> list[str]:
    """Return a score in lines."""
    where = "its labels" if score.labels_from == "source" else f"its folders ({score.labels_from})"
    lines = [f"Scored by {where}: {score.n:,} images, {len(score.classes)} classes"]
    lines += [f"{name.replace('_', ' ')}: {value:.2%}" for name, value in score.measures.items()]
    if (found := score.reliability) is not None:
        lines.append(
            f"expected calibration error: {found.ece:.2%} (right probabilities would have "
            f"{found.by_chance:.2%} by chance), log-loss {found.log_loss:.3f}"
        )
    if score.unknown:
        names = ", ".join(score.unknown_classes[:5])
        more = ", ..." if len(score.unknown_classes) > 5 else ""
        lines.append(
            f"of classes that the probe does not know: {score.unknown:,} images "
            f"({printable(names)}{more}), not counted"
        )
    if score.unlabelled:
        lines.append(f"without a label: {score.unlabelled:,} images, not counted")
    return lines
