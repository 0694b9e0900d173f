"""``vggfeat info``, ``verify``, ``merge`` and ``export``: what is done with a store as a file."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from vggfeat.cli.output import bars, json_option, print_json, printable, table
from vggfeat.errors import StoreError

_existing = click.Path()


@click.command()
@click.argument("store", type=_existing)
@click.option("--failed", is_flag=True, help="List the failed images with the reason of each.")
@json_option
def info(store: str, failed: bool, as_json: bool) -> None:
    """Show what a store holds and how it was made, also while it is being written.

    \b
    Example:
      vggfeat info photos.h5
      vggfeat info photos.h5 --failed
    """
    from vggfeat.store import FeatureStore

    with FeatureStore(store) as opened:
        failures = opened.failures()
        facts = opened.to_json()
    if as_json:
        print_json(facts["failures"] if failed else facts)
    elif failed:
        if failures:
            click.echo(table(failures, ["path", "reason"]))
        else:
            click.echo("No image failed.", err=True)
    else:
        click.echo(_page(facts))


@click.command()
@click.argument("store", type=_existing)
@click.option(
    "--redo",
    is_flag=True,
    help="Mark damaged images pending, so that the next extract does them again.",
)
@json_option
def verify(store: str, redo: bool, as_json: bool) -> None:
    """Read all features again and compare them with their checksums.

    Exit status 1 if anything is wrong.

    \b
    Example:
      vggfeat verify photos.h5
    """
    from vggfeat.store import FeatureStore
    from vggfeat.store import redo as reopen

    with FeatureStore(store) as opened:
        counts = opened.counts()
        with bars("row") as progress:
            report = opened.verify(progress)
    if redo and len(report.damaged):
        reopen(store, report.damaged)
    if as_json:
        print_json(counts | report.to_json())
    elif report.ok:
        layers = ", ".join(report.checked)
        click.echo(f"{printable(store)}: {counts['done']:,} images are as written ({layers}).")
    else:
        rows = [[problem.path, problem.layer, problem.problem] for problem in report.problems]
        click.echo(table(rows, ["path", "layer", "problem"]))
    if not report.ok:
        remedy = f"`vggfeat verify {printable(store)} --redo` marks damaged images pending"
        if redo:
            remedy = f"The {len(report.damaged)} damaged images are pending now"
        raise StoreError(
            f"{len(report.problems)} problems in {printable(store)}. {remedy}, and "
            "`vggfeat extract` then does them again."
        )


@click.command()
@click.argument("out", type=_existing)
@click.argument("stores", type=_existing, nargs=-1, required=True)
@click.option("--overwrite", is_flag=True, help="Replace the store OUT.")
@json_option
def merge(out: str, stores: tuple[str, ...], overwrite: bool, as_json: bool) -> None:
    """Put the images of STORES, all made with the same options, into a new store OUT.

    Images follow in the order of STORES. One that is in several is taken from the first that has
    its features. Stores that have different images under the same path are refused.

    \b
    Example:
      vggfeat merge all.h5 monday.h5 tuesday.h5
    """
    from vggfeat.store import merge as merge_stores

    with bars("row") as progress:
        report = merge_stores(out, stores, overwrite, progress)
    if as_json:
        print_json({"store": out, **report.to_json()})
    else:
        click.echo(
            f"{printable(out)}: {report.rows:,} images, {report.done:,} done, "
            f"{report.duplicates:,} duplicates left out."
        )


@click.command()
@click.argument("store", type=_existing)
@click.argument("out", type=click.Path())
@click.option("--layer", required=True, help="Layer of the store, such as relu7.")
@click.option("--overwrite", is_flag=True, help="Replace what OUT holds.")
@click.option(
    "--part-rows",
    type=click.IntRange(min=1),
    metavar="N",
    help="Make OUT a folder of parts of so many images.  [default in a folder: as many as 512 MiB "
    "hold]",
)
@click.option(
    "--format",
    "part_format",
    type=click.Choice(["parquet", "npy"]),
    help="Format of parts.  [default: parquet]",
)
@click.option(
    "--spreadsheet",
    is_flag=True,
    help="For .csv: an apostrophe before paths and labels that begin as formulas do (= + - @).",
)
@json_option
def export(
    store: str,
    out: str,
    layer: str,
    overwrite: bool,
    part_rows: int | None,
    part_format: str | None,
    spreadsheet: bool,
    as_json: bool,
) -> None:
    """Write one layer's features, of all images that are done, to OUT for other programs.

    \b
    The ending of OUT chooses the format:
      .npy      the features alone, (n, D) or (n, C, H, W); beside it OUT.paths.csv
      .npz      features, paths and, where known, classes and labels
      .csv      path, label, f0, f1, ...
      .parquet  path, label, features; needs `pip install "vggfeat[parquet]"`

    Row i of each belongs to path i, in the order of the store.

    With --part-rows or --format, or where OUT ends in / or is a folder, it is a folder of
    part-00000.parquet (or .npy with .paths.csv) and so on, and of _manifest.json. Run again, the
    same command keeps the parts that are complete, and writes the others.

    \b
    Example:
      vggfeat export photos.h5 photos.npz --layer relu7
      vggfeat export photos.h5 photos-relu7/ --layer relu7 --part-rows 100000
    """
    from vggfeat.store import export as export_file
    from vggfeat.store import export_parts

    parted = part_rows or part_format or out.endswith(("/", os.sep)) or Path(out).is_dir()
    with bars("row") as progress:
        if not parted:
            count = export_file(store, out, layer, overwrite, progress, spreadsheet=spreadsheet)
        else:
            report = export_parts(
                store, out, layer, format=part_format or "parquet", part_rows=part_rows,
                overwrite=overwrite, progress=progress, spreadsheet=spreadsheet,
            )  # fmt: skip
    if not parted:
        told, text = {"file": out, "layer": layer, "images": count}, f"{count:,} images."
    else:
        told = {"folder": out, "layer": layer, **asdict(report)}
        there = f", of which {report.kept:,} were there" if report.kept else ""
        text = f"{report.images:,} images in {report.parts:,} parts{there}."
    if as_json:
        print_json(told)
    else:
        click.echo(f"{printable(out)}: {text}")


def _page(facts: dict[str, Any]) -> str:
    counts = [f"{facts[key]:,} {key}" for key in ("done", "failed", "pending")]
    if facts["left"]:
        counts.append(f"{facts['left']:,} no longer in the source")
    images = f"{facts['rows']:,}: {', '.join(counts)}"
    if facts["failed"]:
        images += "  (--failed lists them)"
    config = {k: v for k, v in facts["deciding"].items() if k not in ("layers", "preprocessing")}
    config |= facts["deciding"]["preprocessing"]
    rows = [["store", facts["store"]], ["images", images], ["labels", _labels(facts["labels"])]]
    if facts["splits"]:
        each = [f"{count:,} {printable(name)}" for name, count in facts["splits"].items()]
        rows.append(["splits", ", ".join(each)])
    if facts["groups"]:
        rows.append(["groups", f"{facts['groups']:,}"])
    rows += [[key, _plain(value)] for key, value in config.items()]
    if why := facts["happened"]["preprocessing"]:
        rows.append(["prepared so because", why])
    layers = [
        [
            layer["layer"],
            layer["pooling"] or "-",
            " x ".join(map(str, layer["shape"])),
            layer["dtype"],
            f"{layer['bytes']:,}",
        ]
        for layer in facts["layers"]
    ]
    runs = [
        [
            run["start"],
            run["end"].strip() or "not ended",
            run["weights"],
            run["device"],
            run["precision"],
            run["source"],
        ]
        for run in facts["runs"]
    ]
    parts = [
        table(rows, ["what", "value"]),
        table(layers, ["layer", "pooling", "shape", "dtype", "bytes"], right="shape bytes"),
    ]
    if runs:
        parts.append(table(runs, ["start", "end", "weights", "device", "precision", "source"]))
    return "\n\n".join(parts)


def _labels(labels: dict[str, Any] | None) -> str:
    if labels is None:
        return "none"
    names = labels["classes"]
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    origin = f" from {labels['origin']}" if labels["origin"] else ""
    return f"{labels['kind']}{origin}, {len(names)} classes: {shown}"


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_plain, value)) or "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
