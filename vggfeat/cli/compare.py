"""``vggfeat compare``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from vggfeat.cli.choices import refuse_given, seed_option
from vggfeat.cli.compare_text import print_fits, print_matrix
from vggfeat.cli.output import bars, json_option
from vggfeat.cli.rdm import by_option, folds_option, measure_option

if TYPE_CHECKING:
    from vggfeat.representations import Comparison, Fits
    from vggfeat.representations.matching import Item

_TO = ("target_layer", "over", "permutations", "correction")


@click.command()
@click.argument("items", metavar="STORE|RDM...", nargs=-1, required=True, type=click.Path())
@click.option(
    "--layers",
    "--layer",
    "layers",
    metavar="NAME,...|all",
    default="all",
    show_default=True,
    help="Of stores.",
)
@click.option(
    "--similarity",
    type=click.Choice(["cka", "rbf-cka", "pearson", "spearman", "tau-a"]),
    show_default="cka; spearman with --to an RDM",
    help="Centred kernel alignment with a linear or an RBF kernel; or, of RDMs, Pearson's r, "
    "Spearman's rank correlation, or Kendall's tau a.",
)
@measure_option("Of RDMs that are computed of stores; see `vggfeat rdm --help`.")
@click.option(
    "--biased", is_flag=True, help="Of CKA: as of Kornblith et al. 2019, near 1 for few images."
)
@click.option(
    "--bandwidth",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Of the RBF kernel, as a share of the median distance.",
)
@by_option
@click.option(
    "--to",
    type=click.Path(),
    metavar="STORE|RDM",
    help="Score all others by how well they account for this: RDMs of one or several subjects, or "
    "a layer of a store.",
)
@click.option("--to-layer", "target_layer", metavar="NAME", help="Of --to a store.")
@click.option(
    "--over",
    type=click.Choice(["images", "subjects", "both"]),
    show_default="both, of several subjects; else images",
    help="With --to: for what intervals and tests hold: other images, other subjects, or both.",
)
@click.option(
    "--bootstrap",
    type=click.IntRange(min=0),
    show_default="1000 with --to, else 0",
    metavar="N",
    help="Samples of images, for intervals and tests; 0 for no intervals.",
)
@click.option(
    "--permutations",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    metavar="N",
    help="With --to: orders of images, by which scores are tested against 0.",
)
@click.option(
    "--correction",
    type=click.Choice(["holm", "bh", "none"]),
    default="holm",
    show_default=True,
    help="With --to: of p-values of several layers: Holm's, which bounds the probability of any "
    "false one, or Benjamini and Hochberg's, which bounds their share.",
)
@click.option("--common", is_flag=True, help="Compare the images that all have, if others differ.")
@click.option(
    "--same-order",
    is_flag=True,
    help="Believe that RDMs without names have the images of the first store, in its order.",
)
@click.option(
    "--max-images",
    type=click.IntRange(min=4),
    metavar="N",
    help="Compare a random sample of so many.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=0),
    show_default="1000 from 5,000 images on, else 0",
    metavar="N",
    help="Of CKA: images at a time, whose unbiased estimates are averaged; 0 for all at once.",
)
@folds_option
@seed_option("all that is drawn")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Draw the result: a .png, .svg or .pdf.",
)
@click.option("--dark", is_flag=True, help="Draw light on dark.")
@json_option
def compare(
    items: tuple[str, ...],
    to: str | None,
    picture: str | None,
    dark: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare representations: layers of STORE, of several stores, and RDMs of others.

    Without --to the result is how alike each two are, a matrix; of two stores the first's layers
    are its rows and the second's its columns. With --to each layer has a score: its similarity to
    the target, averaged over subjects, with a 95 % interval, the targets' noise ceiling, and
    whether it differs from the best layer, from the ceiling, and from 0.

    Images are matched by their paths, never by position. Stores or RDMs of other images are
    refused, or --common takes those that all have. RDMs are .npy, .mat (FILE.mat#NAME for one of
    several variables), .csv, or .h5 of rsatoolbox or `vggfeat rdm`. Those without names need
    --same-order.

    CKA is debiased: 0 on average for features that have nothing to do with one another. Numbers of
    different similarities, dissimilarities or images are not comparable (docs/representations.md).

    \b
    Example:
      vggfeat compare photos.h5 --picture layers.png
      vggfeat compare trained.h5 random.h5 --layers pool3,pool5,relu7 --bootstrap 1000
      vggfeat compare photos.h5 --to subjects.mat#rdms --same-order --picture scores.png
    """
    from vggfeat.report import picture_destination, plot_comparison, plot_fits

    if picture:
        picture_destination(picture)  # refused now rather than after the work
    if not to:
        refuse_given(_TO, "no --to")
    _check(options)
    options["debiased"] = not options.pop("biased")
    options["dissimilarity"] = options.pop("measure")
    layers = options.pop("layers")
    named = None if layers.strip() == "all" else layers
    with ExitStack() as stack:
        opened = [_opened(path, stack) for path in items]
        progress = stack.enter_context(bars(""))
        if to:
            fits = _scored(opened, _opened(to, stack), named, options, progress)
            if picture:
                plot_fits(picture, fits, dark=dark)
            print_fits(fits, picture, as_json)
            return
        found = _matrix(opened, named, options, progress)
    if picture:
        plot_comparison(picture, found, dark=dark)
    print_matrix(found, picture, as_json)


def _check(options: dict[str, Any]) -> None:
    kernels = options["similarity"] in (None, "cka", "rbf-cka")
    if not kernels:
        refuse_given(["biased", "bandwidth"], f"--similarity {options['similarity']}")
    if options["similarity"] == "cka":
        refuse_given(["bandwidth"], "--similarity cka")


def _opened(path: str, stack: ExitStack) -> Item:
    """Open a store, or read RDMs."""
    from vggfeat.array_files import parts_of
    from vggfeat.representations import read_rdms
    from vggfeat.representations.given import SUFFIXES, holds_rdms
    from vggfeat.store import open_features

    file, _ = parts_of(path)
    ending = file.suffix.lower()
    if ending in (".pkl", ".pickle"):
        return read_rdms(path)
    if ending in SUFFIXES and (ending not in (".h5", ".hdf5") or holds_rdms(file)):
        return read_rdms(path)
    return stack.enter_context(open_features(path))


def _matrix(items: list[Item], layers: Any, options: dict[str, Any], progress: Any) -> Comparison:
    from vggfeat.representations import RDMs
    from vggfeat.representations import compare as compared

    given = {name: value for name, value in options.items() if name not in _TO}
    if given["similarity"] is None:
        rdms = any(isinstance(one, RDMs) for one in items)
        given["similarity"] = "spearman" if rdms else "cka"
    given["bootstrap"] = given["bootstrap"] or 0
    return compared(items, layers, progress=progress, **given)


def _scored(
    items: list[Item], target: Item, layers: Any, options: dict[str, Any], progress: Any
) -> Fits:
    from vggfeat.representations import RDMs, compare_to

    given = dict(options)
    if given.pop("batch"):
        raise click.UsageError("--batch has no effect with --to; take --max-images instead.")
    if given["similarity"] is None:
        rdms = any(isinstance(one, RDMs) for one in (*items, target))
        given["similarity"] = "spearman" if rdms else "cka"
    if given["bootstrap"] is None:
        given["bootstrap"] = 1000
    return compare_to(items, target, layers, progress=progress, **given)
