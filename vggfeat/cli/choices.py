"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vggfeat.engine import ENGINES
from vggfeat.errors import LayerError
from vggfeat.extract import PRECISIONS, FeatureExtractor
from vggfeat.provenance import Provenance

if TYPE_CHECKING:
    from vggfeat.store import FeatureStore

Function = TypeVar("Function", bound=Callable[..., Any])

WEIGHTS = "imagenet|builtin|PATH|random[:SEED]"
"""What `--weights` takes."""

ENGINE_HELP = (
    "What computes on a CPU in float32: winograd is faster and needs numba (vggfeat[fast]); auto "
    "takes it where it can run and there are enough images."
)

layer_option = click.option(
    "--layer",
    metavar="NAME",
    help="A layer of the store; may be left out where there is only one.",
)


def only_layer(store: FeatureStore, layer: str | None) -> str:
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


def query_options(command: Function) -> Function:
    """Add the options of commands that bring new images to a probe or an index."""
    for option in (
        click.option(
            "--engine", type=click.Choice(ENGINES), default="auto", show_default=True,
            help=ENGINE_HELP,
        ),
        click.option(
            "--precision", type=click.Choice(PRECISIONS),
            help="Type the network runs in.  [default: as before]",
        ),
        click.option(
            "--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]|mps",
            help="Where the network runs.",
        ),
        click.option(
            "--weights", metavar=WEIGHTS,
            help="Where the weights are now.  [default: where they were]",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def extractor_like(provenance: Provenance, options: dict[str, Any]) -> FeatureExtractor:
    """Return the extractor that a probe or index needs, by the options of `query_options`."""
    chosen = {name: options[name] for name in ("weights", "device", "precision", "engine")}
    return FeatureExtractor.like(provenance, **chosen)
