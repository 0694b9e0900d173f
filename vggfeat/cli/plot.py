"""``vggfeat plot``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from vggfeat.cli.choices import WEIGHTS, refuse_given, root_option
from vggfeat.cli.explain import METHODS, at_option
from vggfeat.cli.output import json_option
from vggfeat.cli.pixels import PIXELS, pixels_of, pixels_options
from vggfeat.cli.plot_heat import draw_class, draw_neighbour
from vggfeat.cli.plot_kinds import draw_feature_maps, draw_map, draw_units
from vggfeat.layers import ARCHITECTURES

_MAP = ("roots", "method", "seed", "max_images", "thumbnails", "size", "colour_by", "csv")
_UNITS = ("roots", "units", "unit", "interest", "seed")
_IMAGE = ("channels", "model", "weights", *PIXELS, "view", "device")
_CLASS = ("probe", "classes", "heat", "at", "model", "weights", *PIXELS, "view", "device")
_NEIGHBOUR = ("index", "neighbour", "heat", "at", "weights", "device", "roots")
_ORDER = "--channel-order"  # --channels counts here
_PICTURES = {
    "a map": _MAP,
    "a picture of units": _UNITS,
    "a picture of one image": _IMAGE,
    "a heat map of a class": _CLASS,
    "a heat map of a neighbour": _NEIGHBOUR,
}


def _size(_context: click.Context, _option: click.Parameter, value: str) -> tuple[int, int]:
    """Read width and height."""
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", value)
    if not match:
        raise click.BadParameter(f"{value!r}; give width and height in pixels, as 2400x1800.")
    return int(match[1]), int(match[2])


@click.command()
@click.argument("files", metavar="[STORE] OUT", nargs=-1, required=True, type=click.Path())
@click.option(
    "--layer",
    metavar="NAME",
    help="The layer; may be left out where a store has only one.",
)
@click.option(
    "--method",
    type=click.Choice(["pca", "tsne", "umap"]),
    default="tsne",
    show_default=True,
    help="Of a map: principal components, t-SNE, or UMAP (which `vggfeat[umap]` installs).",
)
@click.option(
    "--seed",
    type=click.IntRange(0, (1 << 32) - 1),
    default=0,
    show_default=True,
    help="Of every random choice: the same seed makes the same picture.",
)
@click.option(
    "--max-images",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of a map: take a random sample of so many.  [default: 10000; 50000 for pca, 20000 for "
    "umap]",
)
@click.option(
    "--thumbnails",
    type=click.IntRange(min=0),
    default=300,
    show_default=True,
    metavar="N",
    help="Of a map: at most so many, as far as none hides another; other images are dots.",
)
@click.option(
    "--size",
    callback=_size,
    default="2400x1800",
    show_default=True,
    metavar="WxH",
    help="Of a map, in pixels; a larger one has room for more thumbnails.",
)
@click.option(
    "--colour-by",
    "--color-by",
    type=click.Choice(["label", "split", "group"]),
    default="label",
    show_default=True,
    help="Of a map: what colours say.",
)
@click.option(
    "--csv",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write a map's coordinates: columns path, class, x, y, and the store's split and group.",
)
@click.option(
    "--units",
    type=click.IntRange(min=1),
    metavar="N",
    help="Show what so many of the layer's channels or units respond to, instead of a map.",
)
@click.option(
    "--unit",
    type=click.IntRange(min=0),
    multiple=True,
    metavar="NUMBER",
    help="Show what this channel or unit responds to; may be given several times.",
)
@click.option(
    "--by",
    "interest",
    type=click.Choice(["variance", "sparseness"]),
    default="variance",
    show_default=True,
    help="Which --units: those that differ most between images, or that respond to the fewest.",
)
@click.option(
    "--image",
    type=click.Path(dir_okay=False),
    metavar="IMAGE",
    help="Show the feature maps of one image, instead of a store; or with --class, --probe or "
    "--index where in it is what speaks for a class, or what a neighbour has in common.",
)
@click.option(
    "--class",
    "classes",
    multiple=True,
    metavar="NAME",
    help="Of --image: map this class of --probe, or the network's own; may be given again.  "
    "[default: what the image is said to show]",
)
@click.option(
    "--probe",
    type=click.Path(dir_okay=False),
    metavar="PROBE",
    help="Of --image: map a class of this probe, as `vggfeat explain` does.",
)
@click.option(
    "--index",
    type=click.Path(file_okay=False),
    metavar="INDEX",
    help="Of --image: map where it and an image of this index are alike.",
)
@click.option(
    "--neighbour",
    default="1",
    show_default=True,
    metavar="RANK|PATH",
    help="Of --index: which image.",
)
@click.option(
    "--heat",
    type=click.Choice(METHODS),
    default="auto",
    show_default=True,
    help="Of a heat map: how it is made, as --method of `vggfeat explain`.",
)
@at_option
@click.option(
    "--channels",
    type=click.IntRange(min=1),
    default=18,
    show_default=True,
    metavar="N",
    help="Of --image: at most so many channels or units, strongest first.",
)
@click.option(
    "--model",
    type=click.Choice(list(ARCHITECTURES)),
    default="vgg16",
    show_default=True,
    help="Of --image: the network.",
)
@click.option(
    "--weights",
    show_default="imagenet; builtin for vgg16-tiny",
    metavar=WEIGHTS,
    help="Of --image: the network's weights.",
)
@pixels_options(of="Of --image: ", order=_ORDER)
@click.option(
    "--view",
    type=click.Choice(["center", "squash"]),
    default="center",
    show_default=True,
    help="Of --image: the weights' own resize and crop, or the whole image as a square.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda[:N]|mps",
    help="Of --image: where the network runs.",
)
@root_option
@click.option("--dark", is_flag=True, help="Draw light on dark.")
@json_option
@click.pass_context
def plot(
    context: click.Context,
    /,
    files: tuple[str, ...],
    image: str | None,
    layer: str | None,
    dark: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Draw what a layer knows, into OUT: a .png, .svg or .pdf.

    Of a STORE: a map of its images, near one another where their features are alike, with
    thumbnails and colours for classes, splits or groups; or with --units the images that single
    channels or units respond to most, and least.

    Of one --image: what the network sees, the channels that respond most strongly, and where on
    the image; of a layer that is a vector, its largest units. Or a heat map of a class, or of
    what it has in common with an image of an index.

    \b
    Example:
      vggfeat plot photos.h5 --layer relu7 map.png
      vggfeat plot photos.h5 --layer conv3_2 --units 12 units.png
      vggfeat plot --image cat.jpg --layer conv3_2 maps.png
      vggfeat plot --image cat.jpg --probe photos.probe --class cat why.png
      vggfeat plot --image cat.jpg --index photos.index --neighbour 2 alike.png
    """
    from vggfeat.report import destination, picture_destination

    units = bool(options["units"] or options["unit"])
    heat = bool(options["index"]) or bool(options["probe"] or options["classes"])
    number = 4 if options["index"] else 3 if heat else 2 if image else 1 if units else 0
    kind = list(_PICTURES)[number]
    _refuse(context, kind)
    if heat and not image:
        raise click.UsageError(f"{kind.capitalize()} needs an --image.")
    *stores, out = files
    if image and stores:
        raise click.UsageError("--image takes no STORE. Give OUT alone.")
    if not image and len(stores) != 1:
        raise click.UsageError("Give a STORE and OUT, or --image and OUT.")
    if options["units"] and options["unit"]:
        raise click.UsageError("Give --units or --unit, not both.")
    picture_destination(out)  # refused now rather than after the work
    if options["csv"] and destination(options["csv"]).resolve() == Path(out).resolve():
        raise click.UsageError("--csv and OUT are one file. Give two names.")
    shared: dict[str, Any] = {"out": out, "dark": dark, "as_json": as_json}
    options["preprocessing"] = pixels_of(options, _ORDER)
    if heat and layer:
        raise click.UsageError(f"--layer is not for {kind}: --at says whose positions are mapped.")
    if options["probe"]:
        refuse_given(["model", "view", *PIXELS], "--probe, which has its own")
    if image and options["index"]:
        draw_neighbour(image, options, **shared)
    elif image and heat:
        draw_class(image, options, **shared)
    elif image and layer:
        draw_feature_maps(image, layer, options, **shared)
    elif image:
        raise click.UsageError("--image needs a --layer, such as conv3_2.")
    elif units:
        draw_units(stores[0], layer, options, **shared)
    else:
        draw_map(stores[0], layer, options, **shared)


def _refuse(context: click.Context, kind: str) -> None:
    """Refuse options of other pictures than the one asked for."""
    known = {name for names in _PICTURES.values() for name in names}
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name in known - set(_PICTURES[kind]):
            others = [other for other, names in _PICTURES.items() if name in names]
            raise click.UsageError(
                f"{parameter.opts[0]} is for {' and '.join(others)}; this is {kind}. Leave it out."
            )
