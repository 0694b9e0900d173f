"""``vggfeat rdm``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from vggfeat.cli.choices import seed_option
from vggfeat.cli.output import bars, json_option, print_json, printable, table

MEASURES = (
    "correlation", "cosine", "euclidean", "squared-euclidean", "mahalanobis", "crossnobis"
)  # fmt: skip

Function = TypeVar("Function", bound=Callable[..., Any])

by_option = click.option(
    "--by",
    type=click.Choice(["image", "class"]),
    default="image",
    show_default=True,
    help="What rows are: images, or the means of the features of each class's images.",
)


def measure_option(help_text: str) -> Callable[[Function], Function]:
    """Make the option that chooses a dissimilarity."""
    return click.option(
        "--dissimilarity",
        "measure",
        type=click.Choice(MEASURES),
        default="correlation",
        show_default=True,
        help=help_text,
    )


folds_option = click.option(
    "--folds",
    type=click.IntRange(min=2),
    default=2,
    show_default=True,
    help="Of crossnobis: parts into which each class's images are dealt at random.",
)


@click.command()
@click.argument("store", type=click.Path())
@click.argument("out", type=click.Path(dir_okay=False))
@click.option(
    "--layers",
    "--layer",
    "layers",
    metavar="NAME,...|all",
    default="all",
    show_default=True,
    help="Of which layers.",
)
@measure_option(
    "1 - Pearson's r; 1 - cosine; the Euclidean distance; its square over the number of features, "
    "which rsatoolbox calls Euclidean; the squared Mahalanobis distance likewise, with shrinkage; "
    "or that cross-validated."
)
@by_option
@click.option(
    "--form",
    type=click.Choice(["condensed", "square"]),
    default="condensed",
    show_default=True,
    help="Values above the diagonal, n (n - 1) / 2 a layer, or whole matrices, n x n.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float64"]),
    default="float32",
    show_default=True,
    help="Of the values; sums are float64 in either.",
)
@folds_option
@seed_option("the folds")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Draw the RDMs, with classes along the edges: a .png, .svg or .pdf. Of more than 1,000 "
    "images a random sample.",
)
@click.option("--dark", is_flag=True, help="Draw light on dark.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it is there.")
@json_option
def rdm(
    store: str,
    out: str,
    layers: str,
    picture: str | None,
    dark: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Write how unlike each two images of STORE are, in each layer, into OUT.

    OUT.h5 is what rsatoolbox.rdm.load_rdm reads: one RDM a layer, with the paths and classes of
    images. OUT.npy holds the values alone, and OUT.npy.paths.csv beside it names their rows; of
    several layers the first axis is the layer. Condensed values are those above the diagonal, row
    after row, as SciPy's pdist has them.

    Distances are summed in float64, and those of nearly identical images are computed from the
    differences of their features, so that the smallest distances have six right digits, too. Memory
    holds a layer's features and one strip of distances, not the RDM.

    The covariance of mahalanobis is that of the images about their mean, and by class about the
    means of their classes; with Ledoit and Wolf's shrinkage. crossnobis needs --by class.

    \b
    Example:
      vggfeat rdm photos.h5 rdms.h5 --layers pool3,pool5,relu7 --picture rdms.png
      vggfeat rdm photos.h5 classes.npy --layers relu7 --by class --form square
    """
    from vggfeat.report import picture_destination
    from vggfeat.representations import save_rdms
    from vggfeat.representations.rdm_files import destination
    from vggfeat.store import open_features

    destination(out, options["overwrite"])  # refused now rather than after the work
    if picture:
        picture_destination(picture)
    named = None if layers.strip() == "all" else layers
    with open_features(store) as opened, bars("row") as progress:
        chosen, what = save_rdms(opened, out, named, progress=progress, **options)
        if picture:
            from vggfeat.report import plot_rdms
            from vggfeat.representations.picturing import pictured

            shown = pictured(
                opened, chosen, measure=options["measure"], by=options["by"],
                folds=options["folds"], seed=options["seed"],
            )  # fmt: skip
            plot_rdms(picture, shown, dark=dark)
    count = len(what)
    shape = [count, count] if options["form"] == "square" else [count * (count - 1) // 2]
    if as_json:
        print_json(
            {
                "store": store, "out": out, "layers": chosen, "dissimilarity": options["measure"],
                "by": options["by"], "conditions": count, "form": options["form"], "shape": shape,
                "dtype": options["dtype"], "classes": len(set(what.classes) - {""}),
                "picture": picture,
            }
        )  # fmt: skip
        return
    size = " x ".join(f"{n:,}" for n in shape)
    noun = "classes" if options["by"] == "class" else "images"
    click.echo(
        table(
            [[layer, f"{count:,}", size] for layer in chosen],
            ["layer", noun, "values"],
            right=f"{noun} values",
        )
    )
    click.echo(f"\n{options['measure']} distances, {options['dtype']}: {printable(out)}")
    if picture:
        click.echo(f"Picture: {printable(picture)}")
