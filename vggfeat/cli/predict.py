"""``vggfeat predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vggfeat.cli.choices import network_of, query_options
from vggfeat.cli.output import json_option, print_json, printable, table

if TYPE_CHECKING:
    from vggfeat.predictions import Predictions

_COLUMNS = 8  # of numbers that are printed


@click.command()
@click.argument("probe", type=click.Path(dir_okay=False))
@click.argument("source")
@query_options
@json_option
def predict(probe: str, source: str, as_json: bool, **options: Any) -> None:
    """Label the images of SOURCE with PROBE, a file that `vggfeat probe --save` made.

    SOURCE is a folder, an image, a list or a tar archive, as for `extract`. The images go the way
    of those the probe was trained on. The margin is by how much the named class's score is above
    the next one's. A probe of several labels tells all classes whose score is above 0 (with
    `--classifier logreg`: whose probability is above 0.5). Exit status 1 if no image could be
    labelled. A probe of numbers (`vggfeat probe --classifier ridge`) predicts these.

    \b
    Example:
      vggfeat predict photos.probe new-photos/
    """
    from vggfeat.predictions import predict as predicted
    from vggfeat.probe.saved_ridge import FORMAT, format_of

    if format_of(Path(probe)) == FORMAT:
        _numbers(probe, source, as_json, options)
        return
    predictions = predicted(probe, source, **network_of(options))
    if as_json:
        print_json({"probe": probe} | predictions.to_json())
    else:
        if predictions.images:
            click.echo(_several(predictions) if predictions.multi_label else _single(predictions))
        for path, why in predictions.failed.items():
            click.echo(f"failed: {printable(path)}: {why}", err=True)
    if not predictions.images:
        raise click.exceptions.Exit(1)


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


def _single(predictions: Predictions) -> str:
    rows = [[one.path, one.labels[0], f"{one.margin:.3f}"] for one in predictions.images]
    return table(rows, ["image", "label", "margin"], right="margin")


def _several(predictions: Predictions) -> str:
    rows = [
        [one.path, ", ".join(f"{name} {one.scores[name]:.2f}" for name in one.labels) or "-"]
        for one in predictions.images
    ]
    return table(rows, ["image", "labels"])
