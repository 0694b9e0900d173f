"""``vggfeat evaluate``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import click

from vggfeat.cli.choices import RUN, WEIGHTS, run_options
from vggfeat.cli.evaluate_retrieval import retrieval
from vggfeat.cli.evaluate_text import describe, facts, pair_text
from vggfeat.cli.kept import kept_store
from vggfeat.cli.output import json_option, print_json, printable, progress_bar
from vggfeat.cli.pixels import pixels_of, pixels_options
from vggfeat.datasets import DATASETS, DOWNLOADABLE, Dataset
from vggfeat.extract import FeatureExtractor
from vggfeat.layers import ARCHITECTURES, architecture
from vggfeat.views import COMBINATIONS

if TYPE_CHECKING:
    from vggfeat.evaluation import Evaluation
    from vggfeat.store import FeatureStore


class _Evaluate(click.Command):
    """Takes a dataset, or the name of a command in its place."""

    beside: ClassVar[dict[str, click.Command]] = {"retrieval": retrieval}

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        if args and args[0] in self.beside:
            name = f"{info_name} {args[0]}"
            return self.beside[args[0]].make_context(name, args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(cls=_Evaluate)
@click.argument("dataset", metavar="DATASET", type=click.Choice(list(DATASETS)))
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
    metavar="NAME,...",
    help=f"Of {', '.join(ARCHITECTURES)}.",
)
@click.option(
    "--combine",
    type=click.Choice(["stack", "none"]),
    default="stack",
    show_default=True,
    help="Several networks: also stack them (the paper's D and E), or leave each alone.",
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
    metavar="Q,...",
    help="Lengths of the image's smaller side in pixels.  [default: the protocol's]",
)
@click.option(
    "--scale-combine",
    type=click.Choice(COMBINATIONS),
    help="What becomes of several scales.  [default: the protocol's]",
)
@click.option("--flip/--no-flip", default=True, show_default=True, help="Average mirror images in.")
@click.option(
    "--boxes/--no-boxes",
    default=True,
    show_default=True,
    help="voc2012-action: also stack the descriptor of the person's box.",
)
@click.option(
    "--classifier",
    type=click.Choice(["svm", "logreg"]),
    default="svm",
    show_default=True,
    help="A linear SVM, as in the paper, or logistic regression.",
)
@click.option(
    "--ap",
    type=click.Choice(["11-point", "all-point"]),
    help="Definition of average precision.  [default: the dataset's devkit's]",
)
@click.option("--splits", type=click.IntRange(min=1), help="Random splits.  [default: 3]")
@click.option(
    "--train-per-class",
    type=click.IntRange(min=1),
    help="Of random splits.  [default: the protocol's]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of splits.")
@run_options
@click.option(
    "--html",
    type=click.Path(dir_okay=False),
    metavar="REPORT",
    help="Write a page: class by class, what was confused, the most confident mistakes.",
)
@json_option
def evaluate(dataset: str, as_json: bool, **options: Any) -> None:
    """Run the paper's protocol on DATASET and set our number beside the paper's.

    The images are described densely: the whole image at several scales, with mirror images, the
    fully connected layers at every position, averaged; L2-normalised descriptors are classified
    by linear SVMs whose C is chosen on held-out training images (Simonyan & Zisserman 2014,
    appendix B). `folder` is a folder of your own with a sub-folder for each class.

    VOC at five scales takes days on a CPU; --quick takes one scale. Benchmarks of image retrieval
    have a command of their own: `vggfeat evaluate retrieval --help`.

    \b
    Example:
      vggfeat evaluate caltech101 --root data --networks vgg16,vgg19 --html caltech101.html
      vggfeat evaluate folder --root photos --quick
    """
    from vggfeat.datasets import download, open_dataset
    from vggfeat.evaluation import evaluate_dataset, rules_of
    from vggfeat.report import destination

    networks = _networks(options["networks"])
    options["preprocessing"] = pixels_of(options)
    extractors = {name: _extractor(name, options) for name in networks}  # bad options end here
    if options["html"]:
        destination(options["html"])
    if options["download"]:
        download(dataset, options["root"])
    opened = _with_rule(open_dataset(dataset, options["root"]), options)
    chosen = {
        name: _for_protocol(extractor, opened, options) for name, extractor in extractors.items()
    }
    rules = rules_of(
        opened, classifier=options["classifier"], ap=options["ap"], seed=options["seed"]
    )
    opened.splits(rules.seed)  # refused now rather than after the extraction
    with ExitStack() as stack:
        images = _stores(opened, chosen, options["stores"], stack, boxes=False)
        boxes = {}
        if opened.boxes is not None and options["boxes"]:
            boxes = _stores(opened, chosen, options["stores"], stack, boxes=True)
        rows = (len(images) + (len(images) > 1 and options["combine"] == "stack")) * (
            2 if boxes else 1
        )
        bar = stack.enter_context(_bar(rows * len(opened.splits(rules.seed))))
        result = evaluate_dataset(
            opened,
            images,
            boxes=boxes,
            stack=options["combine"] == "stack",
            rules=rules,
            on_split=_step(bar),
        )
    if options["html"]:
        _write_page(opened, result, options["html"])
    if as_json:
        print_json(result.to_json() | ({"html": options["html"]} if options["html"] else {}))
        return
    click.echo(describe(result))
    if options["html"]:
        click.echo(f"\nReport: {printable(options['html'])}")


def _networks(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise click.UsageError("--networks names none. Give one or more, such as vgg16,vgg19.")
    if len(set(names)) < len(names):
        raise click.UsageError(f"--networks {text} names one twice; name each once.")
    return [architecture(name).name for name in names]


def _extractor(network: str, options: dict[str, Any]) -> FeatureExtractor:
    names = ("flip", "preprocessing", *RUN)
    return FeatureExtractor(
        network,
        weights=_weights(network, options["weights"]),
        layers=[options["layer"]],
        view="dense",
        scales=options["scales"] or (),
        **{name: options[name] for name in names},
    )


def _weights(network: str, given: Sequence[str]) -> str | None:
    """Return the weights that were given for a network, the last of those for it or for all."""
    chosen = None
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in ARCHITECTURES:  # a path may hold an equals sign, too
            chosen = text
        elif name == network:
            return value
    return chosen


def _with_rule(dataset: Dataset, options: dict[str, Any]) -> Dataset:
    wanted = {"count": options["splits"], "train_per_class": options["train_per_class"]}
    changes = {name: value for name, value in wanted.items() if value is not None}
    if not changes:
        return dataset
    if dataset.rule is None:
        raise click.UsageError(
            f"{dataset.name} has official sets; --splits and --train-per-class are for others."
        )
    return replace(dataset, rule=replace(dataset.rule, **changes))


def _for_protocol(
    extractor: FeatureExtractor, dataset: Dataset, options: dict[str, Any]
) -> FeatureExtractor:
    """Give an extractor the protocol's scales, where none were asked for."""
    protocol = dataset.protocol
    scales = extractor.resolved_view.scales or protocol.scales_for(
        extractor.architecture.input_size
    )
    return replace(
        extractor,
        scales=scales[:1] if options["quick"] else scales,
        combine=options["scale_combine"] or protocol.combine,
    )


def _stores(
    dataset: Dataset,
    extractors: dict[str, FeatureExtractor],
    folder: str,
    stack: ExitStack,
    *,
    boxes: bool,
) -> dict[str, FeatureStore]:
    """Extract what is not there yet; return the opened stores by network."""
    from vggfeat.store import FeatureStore

    source, opened = dataset.source(boxes=boxes), {}
    for network, extractor in extractors.items():
        what = f"{dataset.name}-{network}{'-boxes' if boxes else ''}"
        path = kept_store(source, extractor, folder, what)
        opened[network] = stack.enter_context(FeatureStore(path))
    return opened


def _bar(total: int) -> Any:
    return progress_bar("classify", "split", total)


def _step(bar: Any) -> Callable[[str], None]:
    def step(name: str) -> None:
        bar.set_postfix_str(name, refresh=False)
        bar.update()

    return step


def _write_page(dataset: Dataset, result: Evaluation, path: str) -> None:
    from vggfeat.report import evaluation_page
    from vggfeat.sources.base import file_path

    evaluation_page(
        path,
        result,
        images=partial(file_path, dataset.root),  # named by the user: links may lead anywhere
        facts=facts(result),
        paired=[pair_text(result, pair) for pair in result.paired],
    )
