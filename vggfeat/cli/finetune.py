"""``vggfeat finetune``."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vggfeat.cli.choices import (
    WEIGHTS,
    class_weight_option,
    device_option,
    engine_option,
    model_option,
    split_options,
)
from vggfeat.cli.finetune_text import describe
from vggfeat.cli.labelling import labelling_options, splits_of
from vggfeat.cli.output import json_option, print_json, printable, show_progress
from vggfeat.cli.pixels import pixels_of, pixels_options
from vggfeat.finetuning.recipe import HEAD, OPTIMISERS, PRECISIONS, SCHEDULES, Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(Recipe)}
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_share = click.FloatRange(0, 1, max_open=True)


def _bytes(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    """Read a number of bytes, as 20GB."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]?)b?\s*", text.lower())
    try:
        return int(float(found[1]) * _UNITS[found[2]]) if found else _refused(text)
    except ValueError:
        return _refused(text)


def _refused(text: str) -> int:
    raise click.BadParameter(f"{text!r} is no size; write 20GB or 500MB.")


def _recipe_option(name: str, kind: Any, text: str, **more: Any) -> Callable[[Any], Any]:
    """Make an option whose default is the recipe's."""
    options = {"default": DEFAULTS[name], "show_default": True, "type": kind} | more
    return click.option(f"--{name.replace('_', '-')}", name, help=text, **options)


@click.command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.argument("out", metavar="OUT.safetensors", type=click.Path(dir_okay=False))
@model_option
@click.option(
    "--weights",
    metavar=WEIGHTS,
    show_default="imagenet; builtin for vgg16-tiny",
    help="Where the network starts, as for `vggfeat extract`.",
)
@pixels_options()
@click.option(
    "--from",
    "first",
    default="",
    show_default="by the number of training images",
    metavar=f"LAYER|{HEAD}",
    help="First layer that is trained, as conv5_1; conv1_1 trains all of the network, without a "
    f"cache. {HEAD} trains the linear head alone.",
)
@click.option(
    "--layer",
    default="",
    show_default="the last convolution's: relu5_3:avg",
    metavar="NAME[:POOL]",
    help="Layer that the head reads.",
)
@labelling_options
@split_options
@click.option(
    "--targets",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Numbers to predict instead of classes: a table with columns path and numbers, or a .npy.",
)
@click.option("--numbers", is_flag=True, help="Take the labels for numbers to predict.")
@click.option("--columns", metavar="NAME,...", help="Which columns of --targets.")
@class_weight_option
@_recipe_option("epochs", click.IntRange(min=1), "Times that each training image is seen.")
@_recipe_option("batch_size", click.IntRange(min=1), "Images in a step.")
@_recipe_option("rate", float, "Largest learning rate of the network's layers.")
@_recipe_option("head_rate", float, "Largest learning rate of the head.")
@_recipe_option("decay", click.FloatRange(min=0), "Weight decay, decoupled.")
@_recipe_option("smoothing", _share, "Label smoothing.")
@_recipe_option("optimiser", click.Choice(OPTIMISERS), "The optimiser.")
@_recipe_option(
    "schedule", click.Choice(SCHEDULES), "How the learning rates change during the run."
)
@_recipe_option(
    "augment", click.IntRange(min=0), "Views drawn of each training image, beside the plain one.",
    metavar="N",
)  # fmt: skip
@_recipe_option(
    "crop", click.FloatRange(0, 1, min_open=True), "Smallest share of an image's area in a view."
)
@_recipe_option("colour", _share, "Most that brightness, contrast and saturation change by.")
@click.option(
    "--mirror/--no-mirror",
    default=DEFAULTS["mirror"],
    show_default=True,
    help="Whether half of the drawn views are mirror images.",
)
@_recipe_option(
    "average", _share, "Decay of the weights' moving average in each step; 0 for no average."
)
@_recipe_option(
    "validation", _share, "Share of the training images that choose the best epoch, where there is "
    "no split val. 0 keeps the last epoch.",
)  # fmt: skip
@_recipe_option(
    "patience", click.IntRange(min=0), "Stop after so many epochs without a better one; 0 never."
)
@_recipe_option(
    "precision", click.Choice(PRECISIONS), "float32, or mixed precision, for GPUs that have it."
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Where maps and checkpoints are kept; they stay there, and other runs on the same images "
    "reuse the maps.  [default: OUT.work, removed at the end]",
)
@click.option("--no-cache", is_flag=True, help="Keep no maps: run the frozen layers each time.")
@click.option(
    "--disk", callback=_bytes, metavar="SIZE", help="Most disk that maps may take, as 20GB.  "
    "[default: half of what is free]",
)  # fmt: skip
@click.option(
    "--html", type=click.Path(dir_okay=False), metavar="REPORT",
    help="Write a page with the curves and the score of every class.",
)  # fmt: skip
@click.option("--workers", type=click.IntRange(min=1), help="Decoding threads.  [default: auto]")
@device_option
@engine_option
@click.option(
    "--new-classes", is_flag=True, help="Allow weights that were fine-tuned to other classes."
)
@click.option(
    "--resume/--overwrite", default=True, show_default=True,
    help="Go on with a run that was stopped, or begin anew and replace OUT.",
)  # fmt: skip
@json_option
def finetune(sources: tuple[str, ...], out: str, as_json: bool, **options: Any) -> None:
    """Train the last layers of a network on the images in SOURCE, and write OUT.safetensors.

    A linear probe is trained first; then the layers from --from on, with the probe as their head
    (Kumar et al. 2022). The layers before --from run once for each view of an image, and their
    output is kept on disk until the end. The test images are scored once, beside the linear probe,
    and the last lines say who wins and whether chance may explain it.

    Which images train, choose the epoch and test is decided as for `vggfeat probe`. The same
    command continues where it stopped, and gives the same weights. OUT is used like any other
    weights: by `classify`, `predict`, `extract --weights OUT`.

    \b
    Example:
      vggfeat finetune photos/ tuned.safetensors --html tuned.html
      vggfeat finetune photos/ deeper.safetensors --from conv5_1 --epochs 12 --augment 4
      vggfeat predict tuned.safetensors new/
    """
    from vggfeat.finetuning import finetune as tuned
    from vggfeat.report import destination

    html, resume = options.pop("html"), options.pop("resume")
    if html:
        destination(html)  # refused now rather than after the work
    options["preprocessing"] = pixels_of(options)
    recipe = Recipe(**{name: options.pop(name) for name in DEFAULTS})
    columns = [one.strip() for one in (options.pop("columns") or "").split(",") if one.strip()]
    cache, without = options.pop("cache"), options.pop("no_cache")
    if cache and without:
        raise click.UsageError("--cache and --no-cache say two things. Give one of them.")
    options["split"] = splits_of(options.pop("splits"))
    try:
        result = tuned(
            list(sources), out, recipe=recipe, columns=columns, overwrite=not resume,
            cache=False if without else cache, progress=show_progress(), **options,
        )  # fmt: skip
    except KeyboardInterrupt:
        if Path(cache or f"{out}.work").exists():
            again = "the same command" + ("" if resume else " without --overwrite")
            click.echo(f"Stopped. {again[0].upper()}{again[1:]} continues from there.", err=True)
        raise
    files = {}
    if html:
        from vggfeat.report import finetune_page

        files["html"] = str(finetune_page(html, result))
    if as_json:
        print_json(result.to_json() | files)
        return
    click.echo(describe(result))
    if html:
        click.echo(f"Report: {printable(html)}")
