"""``vggfeat evaluate retrieval``."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from typing import Any

import click

from vggfeat.cli.choices import RUN, WEIGHTS, run_options
from vggfeat.cli.evaluate_retrieval_text import describe
from vggfeat.cli.kept import kept_store
from vggfeat.cli.output import json_option, print_json
from vggfeat.cli.pixels import pixels_of, pixels_options
from vggfeat.cli.stages import stages
from vggfeat.cli.whiten import whitening_of
from vggfeat.datasets import BENCHMARKS
from vggfeat.extract import FeatureExtractor
from vggfeat.layers import ARCHITECTURES
from vggfeat.metrics.retrieval import AREAS
from vggfeat.views import COMBINATIONS, VIEWS


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
@click.option(
    "--model",
    type=click.Choice(list(ARCHITECTURES)),
    default="vgg16",
    show_default=True,
    help="The network.",
)
@click.option("--weights", metavar=WEIGHTS, help="[default: imagenet; builtin for vgg16-tiny]")
@pixels_options()
@click.option(
    "--layer",
    default="pool5:rmac",
    show_default=True,
    metavar="NAME[:POOL]",
    help="What describes an image.",
)
@click.option(
    "--view",
    type=click.Choice(list(VIEWS)),
    default="dense",
    show_default=True,
    help="How images are brought to the network.",
)
@click.option(
    "--scales",
    default="",
    show_default="what the weights' own resize is: 256",
    metavar="Q,...",
    help="For --view dense: lengths of the image's smaller side in pixels.",
)
@click.option(
    "--scale-combine",
    "combine",
    type=click.Choice(COMBINATIONS),
    default="mean",
    show_default=True,
    help="What becomes of several scales.",
)
@click.option("--flip", is_flag=True, help="Average mirror images in.")
@click.option(
    "--metric",
    type=click.Choice(["cosine", "l2", "ip"]),
    default="cosine",
    show_default=True,
    help="Cosine similarity, Euclidean distance, or inner product.",
)
@click.option(
    "--whiten",
    metavar="DIMENSION|FILE",
    help="Whiten all features: learnt on the searched images, keeping so many numbers, or by "
    "`vggfeat whiten` on others, as published numbers are.",
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

    INRIA Holidays and UKBench are told by their file names, Oxford5k and Paris6k by the official
    text files, revisited Oxford and Paris by the official pickles, of which nothing is run; or
    each image of a folder of classes is a query for the others of its class. Queries are cropped
    to their boxes and go the way of `vggfeat search`; the search is exact and ranks all images.
    Every choice that decides the number is printed beside it.

    \b
    Example:
      vggfeat evaluate retrieval --root photos
      vggfeat evaluate retrieval --root oxford --ground-truth roxford5k --scales 768 --whiten p.npz
    """
    from vggfeat.datasets import open_benchmark
    from vggfeat.evaluation import evaluate_retrieval
    from vggfeat.index import Expansion
    from vggfeat.store import FeatureStore

    expand, augment = (
        None if options[name] is None else Expansion.parse(options[name])
        for name in ("expand", "augment")
    )
    whitening = whitening_of(options["whiten"])
    options["preprocessing"] = pixels_of(options)
    extractor = _extractor(options)  # bad options end here, before anything is extracted
    benchmark = open_benchmark(ground_truth, root, options["files"])
    # Paths are relative to the root, so that another root needs another store.
    digest = hashlib.sha256(benchmark.root.encode()).hexdigest()[:6]
    what, folder = f"{ground_truth}-{digest}-{options['model']}", options["stores"]
    with ExitStack() as stack:
        path = kept_store(benchmark.source(), extractor, folder, what)
        store = stack.enter_context(FeatureStore(path))
        whole, queries = options["whole_queries"], None
        if (source := benchmark.query_source(whole=whole)) is not None:
            kind = "queries" if whole or not benchmark.boxed else "crops"
            boxes = repr([one.box for one in benchmark.queries])
            marked = f"{kind}-{hashlib.sha256(boxes.encode()).hexdigest()[:6]}"
            path = kept_store(source, extractor, folder, f"{what}-{marked}")
            queries = stack.enter_context(FeatureStore(path))
        result = evaluate_retrieval(
            benchmark,
            store,
            queries,
            metric=options["metric"],
            whitening=whitening,
            augment=augment,
            expand=expand,
            area=options["ap"],
            progress=stack.enter_context(stages("image")),
        )
    if as_json:
        print_json(result.to_json())
    else:
        click.echo(describe(result))


def _extractor(options: dict[str, Any]) -> FeatureExtractor:
    names = ("model", "weights", "preprocessing", "view", "scales", "combine", "flip", *RUN)
    extractor = FeatureExtractor(
        layers=[options["layer"]], **{name: options[name] for name in names}
    )
    if len(extractor.poolings) > 1:
        raise click.UsageError(f"--layer {options['layer']} names several; choose one.")
    return extractor
