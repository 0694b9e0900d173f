"""``vggfeat lowshot``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from vggfeat.cli.choices import (
    ap_option,
    class_weight_option,
    layers_option,
    seed_option,
    stores_argument,
    whole_numbers,
)
from vggfeat.cli.meanings import meanings
from vggfeat.cli.output import bars, json_option, print_json, printable, store_lines, table
from vggfeat.cli.probe_text import divided_text, guessing_text

if TYPE_CHECKING:
    from vggfeat.evaluation import LowShot

_CLASSIFIERS = ("svm", "logreg", "mean", "nearest")


@click.command()
@stores_argument
@layers_option
@click.option(
    "--shots",
    callback=whole_numbers,
    default="1,2,4,8,16,32",
    show_default=True,
    metavar="N,...",
    help="How many images of each class to learn from; with several labels an image, images that "
    "show the class.",
)
@click.option(
    "--classifier",
    "classifiers",
    type=click.Choice(_CLASSIFIERS),
    multiple=True,
    default=("svm", "mean"),
    show_default=True,
    help="A linear SVM, logistic regression, the nearest class mean, or the nearest image; "
    "may be given several times.",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=2),
    default=10,
    show_default=True,
    help="How often images to learn from are drawn.",
)
@class_weight_option
@ap_option
@seed_option("the draws")
@click.option(
    "--png",
    type=click.Path(dir_okay=False),
    metavar="PICTURE",
    help="Draw the curves, with a standard deviation to either side.",
)
@json_option
def lowshot(stores: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Score layers of STORE by how few images of each class suffice.

    Classifiers learn from 1, 2, 4, ... images of each class, drawn anew in each repetition. They
    are tested on all images that the repetition does not train on, whatever the number of shots, so
    that all points of a curve have the same test images. The images of fewer shots are among those
    of more. C is chosen within the few images. Numbers of shots for which the smallest class has
    too few images are left out.

    The score is mean class recall, with its standard deviation over the repetitions. Several stores
    of the same images, of other weights or networks, learn from the same images.

    Where images have several labels, the score is mean average precision on the test images of
    `vggfeat probe`. Images to learn from are drawn from the others until every class has its shots;
    each class learns from exactly so many that show it, and from all drawn ones that do not.
    --class-weight balanced has an effect only with several labels: otherwise all classes have
    equally many images.

    \b
    Example:
      vggfeat lowshot photos.h5 --layers pool5,relu7 --png photos-lowshot.png
    """
    from vggfeat.evaluation import low_shot
    from vggfeat.report import destination
    from vggfeat.store import open_features

    picture = options.pop("png")
    if picture:
        destination(picture)  # refused now rather than after the work
    layers = options.pop("layers")
    with ExitStack() as stack:
        opened = [stack.enter_context(open_features(path)) for path in stores]
        progress = stack.enter_context(bars("classifier"))
        result = low_shot(opened, layers, progress=progress, **options)
    if picture:
        _draw(result, stores, picture)
    if result.too_many:
        click.echo(_left_out(result), err=True)
    if as_json:
        print_json(result.to_json() | ({"png": picture} if picture else {}))
        return
    click.echo(
        f"{result.n_test:,} images to test, {len(result.classes)} classes; {result.repeats} "
        f"repetitions, seed {result.seed}; {guessing_text(result)}"
    )
    if result.multi_label:
        counts = zip(result.n_train, result.shots, strict=True)
        drawn = ", ".join(f"{mean:.0f} for {shots}" for mean, shots in counts)
        balanced = "; classes balanced" if result.settings["class_weight"] else ""
        pool = len(result.division.train) if result.division else 0
        click.echo(f"images to learn from, of {pool:,}, by shots: {drawn}{balanced}")
    click.echo("\n".join([*divided_text(result.division), *store_lines(result.stores)]))
    click.echo("\n" + _table(result))
    name = "mean average precision" if result.multi_label else "mean class recall"
    click.echo(f"{name} in %, mean ± standard deviation; * the best of its column")
    click.echo("\n".join(meanings(name)))
    if picture:
        click.echo(f"Picture: {printable(picture)}")


def _left_out(result: LowShot) -> str:
    """Say which numbers of shots the smallest class cannot give."""
    name, size = result.smallest
    what = f"has {size} images"
    if result.multi_label:
        what = f"is shown by {size} images of the training part, or not shown by so many"
    elif result.division is None or not result.division.splits:
        what += ", and one must be left to test on"
    return (
        f"Left out: {', '.join(map(str, result.too_many))} shots, since the smallest class, "
        f"{printable(repr(name))}, {what}."
    )


def _table(result: LowShot) -> str:
    """Lay out one line a curve, one column a number of shots."""
    every = [score for scores in result.scores for score in scores]
    best = {
        count: max(score.score.mean for score in every if score.shots == count)
        for count in result.shots
    }
    rows: dict[tuple[str, str], list[str]] = {}
    for number, scores in enumerate(result.scores, start=1):
        for score in scores:
            name = f"({number}) {score.layer}" if len(result.scores) > 1 else score.layer
            span = score.score
            mark = "*" if span.mean == best[score.shots] else " "
            cell = f"{100 * span.mean:.1f} ± {100 * span.sd:.1f}{mark}"
            rows.setdefault((name, score.classifier), [name, score.classifier]).append(cell)
    header = ["layer", "classifier", *map(str, result.shots)]
    return table(list(rows.values()), header, right=" ".join(header[2:]))


def _draw(result: LowShot, stores: tuple[str, ...], picture: str) -> None:
    from vggfeat.report import lowshot_figure, short_names, write_whole

    series = dict(zip(short_names(stores), result.scores, strict=True))
    write_whole(picture, lowshot_figure(series, result.chance))
