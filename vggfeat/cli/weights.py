"""``vggfeat weights``: weight files known, looked into, converted and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vggfeat.cli.output import json_option, print_json, printable, table
from vggfeat.cli.pixels import pixels_of, pixels_options
from vggfeat.layers import ARCHITECTURES

if TYPE_CHECKING:
    from vggfeat.network import Check
    from vggfeat.weights import Inspection

_NAMES = 8
_PARTS = {"train": "train", "validation": "choose the epoch", "test": "test"}
_DIGITS = len("sha256:") + 8  # of a digest, in a table

_file = click.argument("file", type=click.Path(dir_okay=False))
_model = click.option(
    "--model",
    type=click.Choice(list(ARCHITECTURES)),
    help="The network.  [default: the one whose convolutions the file has]",
)


@click.group()
def weights() -> None:
    """Say which weights there are, and look into, convert and check files."""


@weights.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the weight files that are known: size, licence, preprocessing, and where they lie.

    Those with a name for --weights are downloaded when they are first used; the others you download
    from their publishers, and give by their path. Names, sizes and digests are as published.

    \b
    Example:
      vggfeat weights list --json
    """
    from vggfeat.weights import published

    rows = published()
    if as_json:
        print_json([one.to_json() for one in rows])
        return
    header = (
        *("file", "model", "publisher", "--weights", "MB", "licence", "preprocessing"),
        *("digest", "here"),
    )
    cells = [
        [
            one.file, one.model, one.publisher, one.spec,
            "-" if one.megabytes is None else f"{one.megabytes:g}",
            one.licence, one.preprocessing, one.digest[:_DIGITS] or "-",
            "-" if one.place is None else "yes" if one.place.exists() else "no",
        ]
        for one in rows
    ]  # fmt: skip
    click.echo(table(cells, header, right="MB"))
    caches = dict.fromkeys(str(one.cache) for one in rows if one.cache and one.digest)
    click.echo(
        f"\nLooked for in {', '.join(map(printable, caches))}.\n"
        "Digests are as published; none was verified with the file at hand. The authors' thirteen "
        "convolutions were, by their values: `vggfeat weights check` knows them in any file."
    )


@weights.command()
@_file
@_model
@json_option
def inspect(file: str, model: str | None, as_json: bool) -> None:
    """Say what FILE is: format, layers, fingerprint, preprocessing and why.

    Little more than names and shapes is read, and nothing in it is run.

    \b
    Example:
      vggfeat weights inspect VGG_ILSVRC_16_layers.caffemodel
    """
    from vggfeat.weights import inspect as inspected

    inspection = inspected(file, model)
    if as_json:
        print_json(inspection.to_json())
    else:
        click.echo(describe(inspection))


def describe(inspection: Inspection) -> str:
    """Return what a file is as two tables."""
    from vggfeat.weights.pairing import name_of

    spec = inspection.pairing.preprocessing
    known = inspection.published
    rows = [
        ["file", str(inspection.path)],
        ["format", f"{inspection.format}, {inspection.size:,} bytes"],
        ["SHA-256", inspection.sha256],
        ["published as", f"{known.file} ({known.publisher})" if known else "nothing that is known"],
        ["network", inspection.network.name],
        ["classes", "no last layer" if inspection.classes is None else f"{inspection.classes:,}"],
        ["last usable layer", inspection.deepest or "nowhere"],
        ["parameters", f"{inspection.parameters:,}"],
        ["first filter", inspection.filters or "nobody's that is known"],
        ["preprocessing", f"{name_of(spec) or 'of its own'}: {spec}"],
        ["because", inspection.pairing.why],
    ]
    rows += _trained(inspection)
    if inspection.others:
        rows.append(["of no layer", ", ".join(inspection.others)])
    rows += [["understood", note] for note in inspection.notes]
    if inspection.obstacle:
        rows.append(["no further, as", inspection.obstacle])
    if inspection.parts:
        rows.append(["networks in it", ", ".join(inspection.parts)])
    layers = [
        [layer.name, " x ".join(map(str, layer.shape)) or "-", f"{layer.parameters:,}"]
        for layer in inspection.layers
    ]
    shapes = table(layers, ["layer", "weights", "parameters"], right="parameters")
    return f"{table(rows, ['what', 'value'])}\n\n{shapes}"


def _trained(inspection: Inspection) -> list[list[str]]:
    """Say what a file of `vggfeat finetune` was trained on; nothing of others."""
    head, told = inspection.head, inspection.trained
    if head is None:
        return []
    kinds = {"one": "one class an image", "several": "several classes an image"}
    shown = ", ".join(head.names[:_NAMES]) + (", ..." if len(head.names) > _NAMES else "")
    rows = [["head", f"{len(head.names):,} outputs on {head.column}, "
             f"{kinds.get(head.kind, head.kind)}: {shown}"]]  # fmt: skip
    if not told:
        return rows
    images, base = told.get("images", {}), told.get("base", {})
    counts = ", ".join(f"{count:,} to {_PARTS.get(part, part)}" for part, count in images.items())
    recipe = told.get("recipe", {})
    rows += [
        ["trained on", f"{told.get('source', '?')}: {counts}; {told.get('divided', '')}"],
        ["trained from", f"{recipe.get('first', '?')} on, {recipe.get('epochs', '?')} epochs; "
         f"the weights before: {base.get('weights', '?')} ({str(base.get('sha256', ''))[:8]})"],
    ]  # fmt: skip
    if isinstance(score := told.get("tuned"), float) and isinstance(told.get("probe"), float):
        rows.append(
            [
                "its test",
                f"{told.get('measure')} {score:.2%}, the linear probe's {told['probe']:.2%}",
            ]
        )
    return rows


@weights.command()
@_file
@click.argument("out", type=click.Path(dir_okay=False))
@_model
@pixels_options()
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Type of the values written; float16 halves the file.",
)
@click.option("--overwrite", is_flag=True, help="Replace the file OUT.")
@json_option
def convert(file: str, out: str, as_json: bool, **options: Any) -> None:
    """Write FILE anew as OUT.safetensors, which carries its preprocessing.

    OUT also says what it was made of, and what its layers put out for a synthetic image, so that
    `vggfeat weights check OUT` can compare.

    \b
    Example:
      vggfeat weights convert VGG_ILSVRC_16_layers.caffemodel vgg16-caffe.safetensors
    """
    from vggfeat.network import convert as converted

    options["preprocessing"] = pixels_of(options)
    made = converted(file, out, **options)
    if as_json:
        print_json(made.to_json())
        return
    click.echo(
        f"{printable(str(made.path))}: {made.model} as far as {made.deepest}, {made.size:,} bytes\n"
        f"preprocessing: {made.why}"
    )
    if made.left_out:
        click.echo(f"left out: {', '.join(map(printable, made.left_out))}")


@weights.command()
@_file
@_model
@pixels_options()
@json_option
def check(file: str, as_json: bool, **options: Any) -> None:
    """Load FILE, and try the network on a synthetic image.

    Every layer must put out finite numbers that are not all the same; where it is known what they
    should be, they are compared. Exit status 1 if something is wrong.

    \b
    Example:
      vggfeat weights check my-vgg16.pth
    """
    from vggfeat.network import check as checked

    options["preprocessing"] = pixels_of(options)
    check = checked(file, **options)
    if as_json:
        print_json(check.to_json())
    else:
        click.echo(_report(check))
    if not check.ok:
        raise click.exceptions.Exit(1)


def _report(check: Check) -> str:
    rows = [
        [
            layer.name,
            f"{layer.rms:.6g}",
            "-" if layer.expected is None else f"{layer.expected:.6g}",
            f"{layer.silent:.1%}",
        ]
        for layer in check.layers
    ]
    parts = [table(rows, ["layer", "rms", "known", "silent"], right="rms known silent")]
    if check.spread:
        spread = ", ".join(f"{value:.3g} {name}" for name, value in check.spread.items())
        parts.append(f"An image moves the logits by, with each preprocessing: {spread}.")
    if check.whose:
        parts.append(f"The convolutions are those of {check.whose}, to the last bit.")
    known = "the figures are those known" if check.compared else "no figures are known of it"
    parts += [f"wrong: {problem}" for problem in check.problems]
    if check.ok:
        parts.append(f"{check.model}: all layers are alive and finite; {known}.")
    return "\n".join(parts)
