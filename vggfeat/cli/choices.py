"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from vggfeat.engines import AUTO, ENGINE_CHOICES, ENGINES
from vggfeat.errors import LayerError, SourceError
from vggfeat.extract import PRECISIONS, FeatureExtractor
from vggfeat.layers import ARCHITECTURES
from vggfeat.metrics import AP_KINDS
from vggfeat.views import COMBINATIONS, VIEWS

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

Function = TypeVar("Function", bound=Callable[..., Any])

WEIGHTS = "imagenet|imagenet-features|builtin|PATH[#NETWORK]|random[:SEED]"
"""What `--weights` takes; NETWORK chooses one of several in a file."""

engine_option = click.option(
    "--engine",
    type=click.Choice(ENGINE_CHOICES),
    default=AUTO,
    show_default=True,
    help="What runs the layers; "
    + "; ".join(f"{name}: {record.summary}" for name, record in ENGINES.items())
    + "; auto: a faster one where it can run and there are enough images.",
)

model_option = click.option(
    "--model",
    type=click.Choice(list(ARCHITECTURES)),
    default=FeatureExtractor.model,
    show_default=True,
    help="The network.",
)

scales_option = click.option(
    "--scales",
    default="",
    show_default="the weights' own: 256",
    metavar="Q,...",
    help="For --view dense: lengths of the image's smaller side in pixels, as in 256,384,512.",
)

combine_option = click.option(
    "--combine",
    type=click.Choice(COMBINATIONS),
    default=FeatureExtractor.combine,
    show_default=True,
    help="How the features of several scales are combined: by their mean, or stacked into one "
    "longer feature.",
)

flip_option = click.option("--flip", is_flag=True, help="Average with the mirror image.")

classifier_option = click.option(
    "--classifier",
    type=click.Choice(["svm", "logreg"]),
    default="svm",
    show_default=True,
    help="A linear SVM, as in the paper, or logistic regression.",
)

class_weight_option = click.option(
    "--class-weight",
    type=click.Choice(["balanced"]),
    help="Let every class count the same, however many training images it has.",
)

ap_option = click.option(
    "--ap",
    type=click.Choice(AP_KINDS),
    default="all-point",
    show_default=True,
    help="Which average precision, for several labels an image: VOC's since 2010 (all-point) or "
    "before (11-point), or scikit-learn's (step).",
)

metric_option = click.option(
    "--metric",
    type=click.Choice(["cosine", "l2", "ip"]),
    default="cosine",
    show_default=True,
    help="Cosine similarity, Euclidean distance, or inner product.",
)

device_option = click.option(
    "--device",
    default=FeatureExtractor.device,
    show_default=True,
    metavar="auto|cpu|cuda[:N]|mps",
    help="Where the network runs.",
)

precision_option = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default=FeatureExtractor.precision,
    show_default=True,
    help="Type the network runs in.",
)

layer_option = click.option(
    "--layer",
    metavar="NAME",
    help="A layer of the store; may be left out where there is only one.",
)


def _roots(
    _ctx: click.Context, _parameter: click.Parameter, given: tuple[str, ...]
) -> tuple[str, ...]:
    from vggfeat.sources import split_root

    for text in given:
        try:
            split_root(text)
        except SourceError as error:
            raise click.BadParameter(str(error)) from error
    return given


root_option = click.option(
    "--root",
    "roots",
    multiple=True,
    metavar="[NAME=]DIR",
    callback=_roots,
    help="Where the originals are now, if they have moved: a folder or archive; with several "
    "sources NAME=DIR. Images that links in it lead to are shown, too. May be given again.",
)


def only_layer(store: FeatureTable, layer: str | None) -> str:
    """Return the layer that was named, or the store's only one.

    Raises
    ------
    LayerError
        None was named, and the store has several.
    """
    if layer is None and len(store.layers) > 1:
        raise LayerError(
            f"{store.path} has several layers; choose one with --layer: {', '.join(store.layers)}."
        )
    return layer or store.layers[0]


_NETWORK = ("weights", "device", "precision", "engine")


def query_options(command: Function) -> Function:
    """Add the options of commands that bring new images to a probe or an index."""
    for option in (
        engine_option,
        click.option(
            "--precision", type=click.Choice(PRECISIONS),
            help="Type the network runs in.  [default: as before]",
        ),
        device_option,
        click.option(
            "--weights", metavar=WEIGHTS,
            help="Where the weights are now.  [default: where they were]",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def network_of(options: dict[str, Any]) -> dict[str, Any]:
    """Return those of the options that `query_options` added."""
    return {name: options[name] for name in _NETWORK}


def run_options(command: Function) -> Function:
    """Add the options of commands that extract features for an evaluation, and keep them."""
    for option in (
        engine_option,
        precision_option,
        device_option,
        click.option(
            "--workers", type=click.IntRange(min=1), help="Decoding threads.  [default: auto]"
        ),
        click.option(
            "--batch-size", type=click.IntRange(min=1), help="Images at a time.  [default: auto]"
        ),
        click.option(
            "--stores", type=click.Path(file_okay=False), default="vggfeat-stores",
            show_default=True, metavar="DIR",
            help="Where features are kept; they are reused, and a stopped run continues there.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def view_option(default: str) -> Callable[[Function], Function]:
    """Make the option that says how images are brought to the network."""
    return click.option(
        "--view",
        type=click.Choice(list(VIEWS)),
        default=default,
        show_default=True,
        help="; ".join(f"{name}: {kind.summary}" for name, kind in VIEWS.items()) + ".",
    )


def whole_numbers(_ctx: click.Context, _parameter: click.Parameter, text: str) -> tuple[int, ...]:
    """Read whole numbers from 1 on with commas between, as an option's callback.

    Returns
    -------
    tuple of int
        Ascending, each once.

    Raises
    ------
    click.BadParameter
        There is none, or something else.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isascii() and word.isdigit() and int(word) for word in words):
        raise click.BadParameter(f"{text!r} is no list of whole numbers from 1 on, such as 1,5,10.")
    return tuple(sorted({int(word) for word in words}))


def _once(
    _ctx: click.Context, _parameter: click.Parameter, stores: tuple[str, ...]
) -> tuple[str, ...]:
    if len(set(stores)) < len(stores):
        raise click.UsageError("A store is named twice; name each once.")
    return stores


stores_argument = click.argument(
    "stores", metavar="STORE...", nargs=-1, required=True, type=click.Path(), callback=_once
)

layers_option = click.option(
    "--layers",
    "--layer",
    "layers",
    metavar="NAME,...",
    help="Score these layers only.  [default: all that the store holds]",
)


def seed_option(drawn: str) -> Callable[[Function], Function]:
    """Return the option ``--seed``, of what is drawn."""
    return click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help=f"Random seed for {drawn}.",
    )


def split_options(command: Function) -> Function:
    """Add the options that say which images are for the test, as `vggfeat probe` has them."""
    for option in (
        seed_option("the train/test split"),
        click.option(
            "--train-per-class", type=click.IntRange(min=1),
            help="Instead, train on so many images of each class, and test on all others.",
        ),
        click.option(
            "--test-size", type=click.FloatRange(0, 1, min_open=True, max_open=True),
            help="Share of each class's images to draw for the test.  [default: the store's splits "
            "train, val and test, where it has them; else 0.25]",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def refuse_given(names: Sequence[str], why: str) -> None:
    """Refuse options of this command that were given and would have no effect.

    Raises
    ------
    click.UsageError
        One of `names`, parameters of the command, was given.
    """
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} has no effect with {why}.")


def ray_address(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Check an address of Ray: a path that follows --ray is taken for one."""
    if value is None or re.fullmatch(r"local|auto|ray://\S+|[^\s/\\]+:\d{1,5}", value):
        return value
    raise click.BadParameter(
        f"{value!r} is no address: give auto, HOST:PORT or ray://HOST:PORT. Without an address "
        "write --ray at the end, or --ray=local."
    )
