"""``vggfeat sweep``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from vggfeat.cli.choices import (
    ap_option,
    class_weight_option,
    classifier_option,
    layers_option,
    split_options,
    stores_argument,
)
from vggfeat.cli.meanings import meanings
from vggfeat.cli.output import bars, json_option, print_json, printable, store_lines, table
from vggfeat.cli.probe_text import divided_text, guessing_text, values_text

if TYPE_CHECKING:
    from vggfeat.evaluation import Comparison, LayerPrecision, LayerScore, Versus

    Score = LayerScore | LayerPrecision

Alike = dict[str, set[str]]
_SINGLE = {"accuracy": "accuracy", "recall": "mean_class_recall", "kNN": "knn_accuracy"}
_SEVERAL = {"mAP": "mean_average_precision", "kNN": "knn_mean_average_precision"}


@click.command()
@stores_argument
@layers_option
@classifier_option
@class_weight_option
@ap_option
@split_options
@click.option(
    "-k",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Nearest training images that vote on a test image's class.",
)
@click.option(
    "--png",
    type=click.Path(dir_okay=False),
    metavar="PICTURE",
    help="Draw the scores over the depth of the network.",
)
@json_option
def sweep(stores: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Score every layer of STORE, to see which one tells your classes apart best.

    Each layer is judged twice on the same test images: by a linear classifier, as in `vggfeat
    probe`, and by the vote of the k training images that are most similar by the cosine, which
    takes no training at all.

    Where images have several labels, scores are mean average precisions, as in `vggfeat probe`;
    neighbours score a class by how many of them show it.

    A layer marked ~ may be as good as the best: on these test images the difference may be chance.

    Several stores of the same images, of other weights or networks, are compared on the same
    training and test images. `vggfeat extract --layers all` makes a store with all layers.

    \b
    Example:
      vggfeat sweep photos.h5 --png photos-sweep.png
      vggfeat sweep trained.h5 random.h5 --layers pool3,pool5,relu7
    """
    from vggfeat.evaluation import compare
    from vggfeat.report import destination
    from vggfeat.store import open_features

    picture = options.pop("png")
    if picture:
        destination(picture)  # refused now rather than after the work
    layers = options.pop("layers")
    with ExitStack() as stack:
        opened = [stack.enter_context(open_features(path)) for path in stores]
        progress = stack.enter_context(bars("layer"))
        compared = compare(opened, layers, progress=progress, **options)
    if picture:
        _draw(compared, stores, picture)
    if as_json:
        print_json(compared.to_json() | ({"png": picture} if picture else {}))
        return
    how = divided_text(compared.division)
    click.echo("\n".join([_protocol(compared), *how, *store_lines(compared.stores)]))
    single = len(compared.stores) == 1
    click.echo("\n" + (_single(compared) if single else _beside(compared)))
    click.echo(
        f"* the best of its column; ~ not told apart from it by {compared.n_test:,} test images "
        f"({_test(compared)}, Holm over layers, p >= 0.05)"
    )
    if not single:
        name = "mAP" if compared.multi_label else "accuracy"
        click.echo(
            f"p(n): how often chance alone would set {name}(n) so far from {name}(1), likewise"
        )
    names = _SEVERAL if compared.multi_label else _SINGLE
    click.echo("\n".join(["", *meanings(*names, "C")] if single else ["", *meanings(*names)]))
    if picture:
        click.echo(f"Picture: {printable(picture)}")


def _test(compared: Comparison) -> str:
    if compared.multi_label:
        return "paired bootstrap"
    return "exact McNemar test" if _ungrouped(compared) else "exchange of whole groups"


def _ungrouped(compared: Comparison) -> bool:
    return compared.division is None or compared.division.groups is None


def _protocol(compared: Comparison) -> str:
    used = compared.settings
    balanced = ", classes balanced" if used["class_weight"] else ""
    return (
        f"{compared.n_train:,} images to train, {compared.n_test:,} to test, "
        f"{len(compared.classes)} classes; {used['classifier']}{balanced}, k = {used['k']}, "
        f"seed {used['seed']}\n{guessing_text(compared)}"
    )


def _single(compared: Comparison) -> str:
    [store], [given] = compared.stores, compared.scores
    alike = _alike(compared.from_best[0])
    scores = {score.layer: score for score in given}
    names = _SEVERAL if compared.multi_label else _SINGLE
    same = {"recall": set[str](), "kNN": alike["kNN"]}
    columns = [
        _column(store.layers, scores, name, same.get(title, alike["probe"]))
        for title, name in names.items()
    ]
    rows = []
    for (layer, pooling), *marked in zip(store.layers.items(), *columns, strict=True):
        score = scores.get(layer)
        rest = [values_text(score.C), f"{score.seconds:.1f}"] if score else ["-", "-"]
        made = [pooling or "-", f"{score.dimension:,}"] if score else ["-", "-"]
        rows.append([layer, *made, *marked, *rest])
    header = ["layer", "pooling", "dimension", *names, "C", "seconds"]
    return table(rows, header, right=" ".join(header[2:]))


def _beside(compared: Comparison) -> str:
    from vggfeat.report import ordered_layers

    layers = ordered_layers([list(store.layers) for store in compared.stores])
    columns: dict[str, list[str]] = {}
    names = _SEVERAL if compared.multi_label else _SINGLE
    title = next(iter(names))
    for number, (given, versus) in enumerate(
        zip(compared.scores, compared.from_best, strict=True), start=1
    ):
        scores, alike = {score.layer: score for score in given}, _alike(versus)
        columns[f"{title}({number})"] = _column(layers, scores, names[title], alike["probe"])
        columns[f"kNN({number})"] = _column(layers, scores, names["kNN"], alike["kNN"])
    for number, versus in enumerate(compared.from_first, start=2):
        p = {pair.layer: f"{pair.adjusted:.2g}" for pair in versus if pair.classifier == "probe"}
        columns[f"p({number})"] = [p.get(layer, "-") for layer in layers]
    rows = [list(row) for row in zip(layers, *columns.values(), strict=True)]
    return table(rows, ["layer", *columns], right=" ".join(columns))


def _alike(versus: Sequence[Versus]) -> Alike:
    """Return by classifier the layers that may well be as good as the best."""
    alike: Alike = {"probe": set(), "kNN": set()}
    for pair in versus:
        if not pair.beyond_chance:
            alike[pair.classifier].add(pair.layer)
    return alike


def _column(
    layers: Iterable[str], scores: dict[str, Score], name: str, alike: set[str]
) -> list[str]:
    """Write shares as percent with their marks; a dash where there is none."""
    shares = {layer: getattr(score, name) for layer, score in scores.items()}
    best = max(shares.values())

    def mark(layer: str) -> str:
        return "*" if shares[layer] == best else "~" if layer in alike else " "

    return [f"{shares[layer]:.2%}{mark(layer)}" if layer in scores else "- " for layer in layers]


def _draw(compared: Comparison, stores: Sequence[str], picture: str) -> None:
    from vggfeat.report import short_names, sweep_figure, write_whole

    series = dict(zip(short_names(stores), compared.scores, strict=True))
    write_whole(picture, sweep_figure(series, compared.chance))
