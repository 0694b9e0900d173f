"""``vggfeat evaluate retrieval``."""

from __future__ import annotations

from typing import Any

import click

from vggfeat.cli.choices import (
    WEIGHTS,
    combine_option,
    flip_option,
    metric_option,
    model_option,
    run_options,
    scales_option,
    view_option,
)
from vggfeat.cli.evaluate_retrieval_text import describe
from vggfeat.cli.output import json_option, print_json, show_progress
from vggfeat.cli.pixels import pixels_of, pixels_options
from vggfeat.cli.whiten import whitening_of
from vggfeat.datasets import BENCHMARKS
from vggfeat.metrics.retrieval import AREAS


@click.command()
@click.option(
    "--root",
    required=True,
    type=click.Path(),
    metavar="DIR",
    help="Where the images are, at any depth.",
)
@click.option(
    "--ground-truth",
    type=click.Choice(list(BENCHMARKS)),
    default="folders",
    show_default=True,
    help="Whose files or names say what is to be found; folders: sub-folders are classes.",
)
@click.option(
    "--files",
    type=click.Path(),
    metavar="PATH",
    help="oxford5k, paris6k: the folder of NAME_query.txt; roxford5k, rparis6k: the file "
    "gnd_NAME.pkl.  [default: found below --root]",
)
@model_option
@click.option("--weights", metavar=WEIGHTS, help="[default: imagenet; builtin for vgg16-tiny]")
@pixels_options()
@click.option(
    "--layer",
    default="pool5:rmac",
    show_default=True,
    metavar="NAME[:POOL]",
    help="What describes an image.",
)
@view_option("dense")
@scales_option
@combine_option
@flip_option
@metric_option
@click.option(
    "--whiten",
    metavar="DIMENSION|FILE",
    help="Whiten all features: by a DIMENSION, learnt on the searched images and keeping so many "
    "numbers, or by a FILE of `vggfeat whiten` on others, as published numbers are.",
)
@click.option("--augment", metavar="N[:ALPHA]", help="Average each image with its N nearest.")
@click.option("--expand", metavar="N[:ALPHA]", help="Average each query with its N nearest.")
@click.option(
    "--whole-queries", is_flag=True, help="Search with whole images where queries have boxes."
)
@click.option(
    "--ap",
    type=click.Choice(AREAS),
    help="Definition of average precision.  [default: the benchmark's; step for folders]",
)
@run_options
@json_option
def retrieval(root: str, ground_truth: str, as_json: bool, **options: Any) -> None:
    """Score features on a benchmark of image retrieval, by its own rules.

    Which images are to be found is read from file names (INRIA Holidays, UKBench), from the
    official text files (Oxford5k, Paris6k) or from the official pickles (revisited Oxford and
    Paris), without running anything in them. In a folder of classes, each image is a query for the
    others of its class. Queries are cropped to their boxes and processed as by `vggfeat search`;
    the search is exact and ranks all images. Every choice that decides the number is printed beside
    it.

    \b
    Example:
      vggfeat evaluate retrieval --root photos
      vggfeat evaluate retrieval --root oxford --ground-truth roxford5k --scales 768 --whiten p.npz
    """
    import vggfeat
    from vggfeat.index import Expansion

    for name in ("expand", "augment"):
        options[name] = None if options[name] is None else Expansion.parse(options[name])
    whitening = whitening_of(options.pop("whiten"))
    options["preprocessing"] = pixels_of(options)
    result = vggfeat.evaluate_retrieval(
        ground_truth, root, whitening=whitening, progress=show_progress(), **options
    )
    if as_json:
        print_json(result.to_json())
    else:
        click.echo(describe(result))
