"""``vggfeat evaluate``: a command for each dataset, and ``retrieval``."""

from __future__ import annotations

from typing import Any

import click

from vggfeat.cli.choices import WEIGHTS, classifier_option, refuse_given, run_options, seed_option
from vggfeat.cli.evaluate_retrieval import retrieval
from vggfeat.cli.output import json_option, print_json, printable, show_progress
from vggfeat.cli.pixels import pixels_of, pixels_options
from vggfeat.datasets import DATASETS, DOWNLOADABLE, dataset_record
from vggfeat.errors import LayerError, SourceError
from vggfeat.layers import ARCHITECTURES
from vggfeat.views import COMBINATIONS


class _Datasets(click.Group):
    """Says of an unknown dataset which there are."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not args[0].startswith("-"):
            try:
                dataset_record(args[0])
            except SourceError as error:
                raise click.UsageError(str(error), ctx) from error
        return super().resolve_command(ctx, args)


@click.group(cls=_Datasets, subcommand_metavar="DATASET|retrieval [ARGS]...")
def evaluate() -> None:
    """Run the paper's protocol on DATASET and set our number beside the paper's.

    `folder` is a folder of your own with a sub-folder for each class. These may lie below folders
    called train, val and test, which are then the splits. `retrieval` scores benchmarks of image
    retrieval.

    \b
    Example:
      vggfeat evaluate caltech101 --root data
      vggfeat evaluate retrieval --root photos
    """


def _network_names(_context: click.Context, _option: click.Parameter, text: str) -> tuple[str, ...]:
    from vggfeat.protocols.labelled import network_names

    try:
        return network_names(text)
    except LayerError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.option(
    "--root",
    required=True,
    type=click.Path(),
    metavar="DIR",
    help="Where the dataset is, or where its archives were unpacked.",
)
@click.option(
    "--download",
    is_flag=True,
    help=f"Fetch it into --root first, unless it is there ({', '.join(DOWNLOADABLE)}).",
)
@click.option(
    "--networks",
    default="vgg16",
    show_default=True,
    callback=_network_names,
    metavar="NAME,...",
    help=f"Of {', '.join(ARCHITECTURES)}.",
)
@click.option(
    "--stack/--no-stack",
    default=True,
    show_default=True,
    help="Several networks: also stack their features (the paper's D and E).",
)
@click.option(
    "--weights",
    multiple=True,
    metavar=f"[NETWORK=]{WEIGHTS}",
    help="For all networks, or for one; may be repeated.  [default: imagenet; builtin for "
    "vgg16-tiny]",
)
@pixels_options()
@click.option(
    "--layer",
    default="relu7",
    show_default=True,
    metavar="NAME[:POOL]",
    help="What describes an image; relu7 is what the paper takes.",
)
@click.option("--quick", is_flag=True, help="One scale only, the protocol's first.")
@click.option(
    "--scales",
    default="",
    metavar="Q,...",
    help="Lengths of the image's smaller side in pixels.  [default: the protocol's]",
)
@click.option(
    "--combine",
    type=click.Choice(COMBINATIONS),
    help="How scales are combined.  [default: the protocol's]",
)
@click.option("--flip/--no-flip", default=True, show_default=True, help="Average mirror images in.")
@click.option(
    "--boxes/--no-boxes",
    default=True,
    show_default=True,
    help="Where objects are marked (voc2012-action): also stack the descriptor of the box.",
)
@classifier_option
@click.option(
    "--ap",
    type=click.Choice(["11-point", "all-point"]),
    help="Definition of average precision.  [default: the dataset's devkit's]",
)
@click.option(
    "--splits",
    type=click.IntRange(min=1),
    help="Number of random splits.  [default: 3; "
    "of folder none where it has folders train and test]",
)
@click.option(
    "--train-per-class",
    type=click.IntRange(min=1),
    help="Of random splits.  [default: the protocol's]",
)
@seed_option("the train/test split")
@run_options
@click.option(
    "--html",
    type=click.Path(dir_okay=False),
    metavar="REPORT",
    help="Write a page: class by class, what was confused, the most confident mistakes.",
)
@json_option
@click.pass_context
def _any_dataset(context: click.Context, /, as_json: bool, **options: Any) -> None:
    """Stand for the command of each dataset, which all take these options."""
    import vggfeat
    from vggfeat.cli.evaluate_text import describe
    from vggfeat.report import destination, evaluation_page

    dataset = str(context.command.name)
    if DATASETS[dataset].protocol.train:
        refuse_given(["splits", "train_per_class"], f"{dataset}, which has official sets")
    given, page = options.pop("weights"), options.pop("html")
    weights = {network: _weights(network, given) for network in options["networks"]}
    options["preprocessing"] = pixels_of(options)
    if page:
        destination(page)  # refused now rather than after the work
    result = vggfeat.evaluate(dataset, weights=weights, progress=show_progress(), **options)
    if page:
        evaluation_page(page, result)
    if as_json:
        print_json(result.to_json() | ({"html": page} if page else {}))
        return
    click.echo(describe(result))
    if page:
        click.echo(f"\nReport: {printable(page)}")


def _weights(network: str, given: tuple[str, ...]) -> str | None:
    """Return the weights that were given for a network, the last of those for it or for all."""
    chosen = None
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in ARCHITECTURES:  # a path may hold an equals sign, too
            chosen = text
        elif name == network:
            return value
    return chosen


_HELP = """Run the paper's protocol on {title}.

The images are described densely: the whole image at several scales, with mirror images, the
fully connected layers at every position, averaged; L2-normalised descriptors are classified
by linear SVMs whose C is chosen on held-out training images (Simonyan & Zisserman 2014,
appendix B). Our number stands beside the paper's. Five scales of VOC take days on a CPU; --quick
takes one scale.

\b
Example:
  vggfeat evaluate {name} --root data --networks vgg16,vgg19 --html {name}.html
  vggfeat evaluate {name} --root data --quick
"""

for _record in DATASETS.values():
    evaluate.add_command(
        click.Command(
            _record.name,
            params=_any_dataset.params,
            callback=_any_dataset.callback,
            help=_HELP.format(title=_record.title, name=_record.name),
            short_help=f"{_record.title[0].upper()}{_record.title[1:]}.",
        )
    )
evaluate.add_command(retrieval)
