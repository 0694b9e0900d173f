"""``vggfeat classify``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vggfeat.cli.choices import WEIGHTS, device_option, model_option, precision_option
from vggfeat.cli.output import json_option, print_json, printable, table
from vggfeat.cli.pixels import pixels_of, pixels_options
from vggfeat.extract import Failure, FeatureExtractor

if TYPE_CHECKING:
    from vggfeat.extract.classifying import Answer


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@model_option
@click.option(
    "--weights",
    metavar=WEIGHTS,
    show_default="imagenet; builtin for vgg16-tiny",
    help="As for `vggfeat extract`.",
)
@pixels_options()
@click.option(
    "--view",
    type=click.Choice(["center", "squash"]),
    default=FeatureExtractor.view,
    show_default=True,
    help="The square in the middle of the image, or the whole image as a square.",
)
@click.option(
    "-k",
    "top",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Classes named for each image.",
)
@device_option
@precision_option
@json_option
def classify(images: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Name the likeliest of the network's own classes for each IMAGE.

    These are ImageNet's thousand classes, or those that the weight file names, as files of `vggfeat
    finetune` do; an image of anything else is still given one of these names. `vggfeat probe`
    trains a classifier on classes of your own, and `vggfeat finetune` the network. Exit status 1 if
    an image could not be read; the others are answered all the same.

    \b
    Example:
      vggfeat classify photo.jpg -k 3
      vggfeat classify *.jpg --weights VGG_ILSVRC_16_layers.caffemodel --json
    """
    from vggfeat.extract import classify as answers_of

    answers: dict[str, Answer] = {}
    failed: dict[str, Failure[str]] = {}
    options["preprocessing"] = pixels_of(options)
    for result in answers_of(images, **options):
        if isinstance(result, Failure):
            failed[result.item] = result
        else:
            answers[result.image] = result
    if as_json:
        results = [
            answers[image].to_json() if image in answers else failed[image].to_json("image")
            for image in images
        ]
        print_json({"model": options["model"], "results": results})
    else:
        for image in images:
            if image in answers:
                click.echo(f"{printable(image)}\n{_table(answers[image])}\n")
    for image, failure in failed.items():
        click.echo(f"failed: {printable(image)}: {failure.reason}", err=True)
    if failed:
        raise click.exceptions.Exit(1)


def _table(answer: Answer) -> str:
    rows = [
        [str(one.rank), f"{one.probability:.2%}", str(one.index), one.name]
        for one in answer.guesses
    ]
    return table(rows, ["rank", "probability", "number", "class"], right="rank probability number")
