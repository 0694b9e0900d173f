"""How the command line tells what an index is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vggfeat.cli.output import print_json, printable, table

if TYPE_CHECKING:
    from vggfeat.index import IndexInfo


def tell(info: IndexInfo, path: str, as_json: bool) -> None:
    """Print an index in short, as text or JSON."""
    if as_json:
        print_json({"index": path} | info.to_json())
        return
    click.echo(
        f"{printable(path)}: {info.images:,} images, {info.kind} {info.metric} search over "
        f"{info.layer} of {info.model} ({info.dimension:,} numbers an image), from "
        + ", ".join(map(printable, info.sources))
    )
    left_out = {name: count for name, count in info.to_json()["left_out"].items() if count}
    if left_out:
        counts = ", ".join(
            f"{count:,} {name.replace('_', ' ')}" for name, count in left_out.items()
        )
        click.echo(f"left out: {counts}")
    if info.removed:
        click.echo(f"removed: {info.removed:,}, whose room `vggfeat index compact` frees")
    if info.excluded:
        click.echo(f"removed by hand: {info.excluded:,}, which `vggfeat index add` leaves out")
    if info.whitening:
        click.echo(
            f"whitened: {info.whitening['explained']:.1%} of the variance kept, learnt from "
            f"{info.whitening['images']:,} images"
        )
    if info.augmented:
        click.echo(f"augmented: each image averaged with its nearest, {info.augmented}")
    click.echo(f"{info.bytes / 1e6:,.1f} MB on disk, built in {info.seconds:,.1f} s")
    if info.tuning:
        _tell_tuning(info)


def _tell_tuning(info: IndexInfo) -> None:
    tuning = info.tuning
    assert tuning is not None
    click.echo(
        f"\n{info.structure}, tuned to a recall of {tuning.asked:g} of the {tuning.k} nearest, "
        f"by {tuning.queries:,} images held out:\n"
    )
    rows = [
        [
            *(f"{one.effort:,}", f"{one.candidates:,}"),
            f"{one.recall:.4f} +- {one.error:.4f}",
            f"{1000 * one.seconds:.2f}",
            "chosen" if number == tuning.chosen else "",
        ]
        for number, one in enumerate(tuning.tried)
    ]
    header = ["effort", "compared", "recall", "ms", ""]
    click.echo(table(rows, header, right="effort compared recall ms"))
    if tuning.setting.recall < tuning.asked:
        click.echo("that recall is not reached: try --kind ivf or flat")
