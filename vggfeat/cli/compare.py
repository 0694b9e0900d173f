"""``vggfeat compare``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vggfeat.cli.choices import refuse_given
from vggfeat.cli.output import bars, json_option, print_json, printable, table
from vggfeat.cli.rdm import by_option, folds_option, measure_option

if TYPE_CHECKING:
    from vggfeat.representations import Comparison, Fits, Source
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
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all that is drawn."
)
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
            _print_fits(fits, picture, as_json)
            return
        found = _matrix(opened, named, options, progress)
    if picture:
        plot_comparison(picture, found, dark=dark)
    _print_matrix(found, picture, as_json)


def _check(options: dict[str, Any]) -> None:
    kernels = options["similarity"] in (None, "cka", "rbf-cka")
    if not kernels:
        refuse_given(["biased", "bandwidth"], f"--similarity {options['similarity']}")
    if options["similarity"] == "cka":
        refuse_given(["bandwidth"], "--similarity cka")


def _opened(path: str, stack: ExitStack) -> Item:
    """Open a store, or read RDMs."""
    from vggfeat.representations import read_rdms
    from vggfeat.representations.given import SUFFIXES, holds_rdms
    from vggfeat.store import open_features

    name = path if Path(path).exists() else path.partition("#")[0]
    ending = Path(name).suffix.lower()
    if ending in (".pkl", ".pickle"):
        return read_rdms(path)
    if ending in SUFFIXES and (ending not in (".h5", ".hdf5") or holds_rdms(Path(name))):
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


def _source_lines(sources: tuple[Source, ...]) -> list[str]:
    lines = []
    for number, one in enumerate(sources, start=1):
        left = f", {one.left_out:,} left out that others lack" if one.left_out else ""
        prefix = f"({number}) " if len(sources) > 1 else ""
        lines.append(f"{prefix}{printable(one.path)}: {one.made}{left}")
    return lines


def _print_matrix(found: Comparison, picture: str | None, as_json: bool) -> None:
    from vggfeat.report.comparison import sides, similarity_name

    if as_json:
        print_json(found.to_json() | ({"picture": picture} if picture else {}))
        return
    click.echo("\n".join(_source_lines(found.sources)))
    noun = "classes" if found.by == "class" else "images"
    batch = found.settings["batch"]
    how = f", in batches of {batch:,}" if batch else ""
    click.echo(f"{similarity_name(found.how)}, {found.images:,} {noun}{how}\n")
    rows, columns = sides(found)
    several = len(found.sources) > 1

    def named(number: int) -> str:
        one = found.titles[number]
        return f"({one.source + 1}) {one.layer}" if several else one.layer

    header = ["", *(named(number) for number in columns)]
    cells = [[named(row), *(_cell(found, row, column) for column in columns)] for row in rows]
    click.echo(_matrix_table(cells, header))
    if found.low is not None:
        click.echo("\n[95 % intervals for other images of the same kind]")
    if picture:
        click.echo(f"Picture: {printable(picture)}")


def _matrix_table(cells: list[list[str]], header: list[str]) -> str:
    """Lay out a matrix; titles may hold spaces, so that columns are aligned here."""
    rows = [header, *cells]
    widths = [max(len(printable(row[i])) for row in rows) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            printable(cell).ljust(width) if i == 0 else printable(cell).rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _cell(found: Comparison, row: int, column: int) -> str:
    value = found.values[row, column]
    text = _number(value)
    if found.low is None or found.high is None or row == column:
        return text
    return f"{text} [{_number(found.low[row, column])}, {_number(found.high[row, column])}]"


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"


def _p(value: float) -> str:
    return "-" if value != value else f"{value:.2g}" if value >= 0.001 else "<0.001"


def _print_fits(found: Fits, picture: str | None, as_json: bool) -> None:
    from vggfeat.report.comparison import similarity_name

    if as_json:
        print_json(found.to_json() | ({"picture": picture} if picture else {}))
        return
    click.echo("\n".join(_source_lines(found.sources)))
    noun = "classes" if found.by == "class" else "images"
    click.echo(
        f"{similarity_name(found.how)} with ({len(found.sources)}), {len(found.targets)} of it; "
        f"{found.images:,} {noun}"
    )
    if found.ceiling:
        low, high = found.ceiling
        click.echo(f"noise ceiling: {low:.3f} to {high:.3f}")
    best, apart = found.best, found.from_best()
    rows = []
    for number, one in enumerate(found.layers):
        mark = "*" if number == best else " " if apart[number] < 0.05 else "~"
        name = one.title.layer
        if len(found.sources) > 2:
            name = f"({one.title.source + 1}) {name}"
        rows.append(
            [
                name, f"{_number(one.value)}{mark}", f"[{_number(one.low)}, {_number(one.high)}]",
                "" if number == best else _p(apart[number]), _p(one.p_ceiling), _p(one.p_above),
            ]
        )  # fmt: skip
    header = ["layer", "score", "interval", "p(best)", "p(ceiling)", "p(>0)"]
    click.echo("\n" + table(rows, header, right=" ".join(header[1:])))
    units = "" if found.units == found.images else f", whole groups ({found.units:,})"
    over = {"images": f"other images{units}", "subjects": "other subjects",
            "both": f"other images{units} and subjects"}[found.over]  # fmt: skip
    corrected = {"holm": "Holm's correction", "bh": "Benjamini and Hochberg's correction",
                 "none": "no correction"}[found.correction]  # fmt: skip
    click.echo(
        f"\n* the best; ~ not told apart from it (p >= 0.05). Intervals of 95 % and p-values hold "
        f"for {over}; {corrected}"
    )
    if picture:
        click.echo(f"Picture: {printable(picture)}")
