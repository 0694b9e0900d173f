"""``vggfeat knn``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from vggfeat.cli.choices import (
    ap_option,
    class_weight_option,
    layers_option,
    refuse_given,
    split_options,
    stores_argument,
    whole_numbers,
)
from vggfeat.cli.meanings import meanings
from vggfeat.cli.output import bars, json_option, print_json, store_lines, table
from vggfeat.cli.probe_text import divided_text, guessing_text

if TYPE_CHECKING:
    from vggfeat.evaluation import Neighbourhoods, NeighbourPrecision, NeighbourScore

    Score = NeighbourScore | NeighbourPrecision


@click.command()
@stores_argument
@layers_option
@click.option(
    "-k",
    callback=whole_numbers,
    default="1,5,10,20",
    show_default=True,
    metavar="N,...",
    help="How many nearest images vote; several numbers cost no more than one.",
)
@click.option(
    "--metric",
    type=click.Choice(["cosine", "l2", "ip"]),
    default="cosine",
    show_default=True,
    help="What makes images near: the cosine, Euclidean distance, or the inner product.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0, min_open=True),
    metavar="T",
    help="Weigh votes by exp(cosine / T), as DINO does with 0.07.  [default: equal votes]",
)
@click.option(
    "--leave-one-out",
    is_flag=True,
    help="Let all other images vote on each image, instead of dividing the store.",
)
@class_weight_option
@ap_option
@split_options
@json_option
def knn(stores: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Score layers of STORE by the vote of nearest neighbours, which takes no training.

    The k most similar images vote on an image's class. By default the training images of `vggfeat
    probe` vote on its test images; with --leave-one-out all other images vote on each image. The
    search is exact.

    Where images have several labels, a class's score is the share of the k images that show it,
    and layers are judged by mean average precision. --class-weight balanced divides the votes for a
    class by its number of training images.

    The brackets are 95 % confidence intervals for other test images of the same kind. Several
    stores of the same images, of other weights or networks, are scored on the same split.

    \b
    Example:
      vggfeat knn photos.h5 --layers relu7
      vggfeat knn photos.h5 --leave-one-out -k 20 --temperature 0.07
    """
    from vggfeat.evaluation import score_neighbours
    from vggfeat.store import open_features

    if options["leave_one_out"]:
        refuse_given(["test_size", "train_per_class", "seed"], "--leave-one-out")
    layers = options.pop("layers")
    with ExitStack() as stack:
        opened = [stack.enter_context(open_features(path)) for path in stores]
        progress = stack.enter_context(bars("img"))
        scored = score_neighbours(opened, layers, progress=progress, **options)
    if as_json:
        print_json(scored.to_json())
        return
    click.echo("\n".join([_protocol(scored), *divided_text(scored.division)]))
    for line, store, scores in zip(
        store_lines(scored.stores), scored.stores, scored.scores, strict=True
    ):
        click.echo(line)
        if left_out := store.left_out([score.layer for score in scores]):
            click.echo(f"left out: {', '.join(left_out)}")
    click.echo("\n" + _table(scored))
    if max(options["k"]) > scored.n_train:
        click.echo(f"k={scored.n_train} is all there are: {max(options['k']):,} were requested.")
    click.echo(
        "* the best of its column; best: the best k, its "
        + ("mean average precision" if scored.multi_label else "accuracy and mean class recall")
        + " in %, with 95 % intervals"
    )
    click.echo(
        "\n".join(["", *meanings(*(["mAP"] if scored.multi_label else ["accuracy", "recall"]))])
    )


def _protocol(scored: Neighbourhoods) -> str:
    used = scored.settings
    images = (
        f"{scored.n_test:,} images, each named by the {scored.n_train:,} others"
        if used["leave_one_out"]
        else f"{scored.n_train:,} images vote, {scored.n_test:,} are named"
    )
    vote = used["metric"]
    if used["temperature"] is not None:
        vote += f", votes of exp(cosine / {used['temperature']:g})"
    vote += ", classes balanced" if used["class_weight"] else ""
    seed = "" if used["leave_one_out"] else f", seed {used['seed']}"
    return f"{images}, {len(scored.classes)} classes; {vote}{seed}\n{guessing_text(scored)}"


def _table(scored: Neighbourhoods) -> str:
    """Lay out one line a layer, with the score of each k and what the best of them is worth."""
    stores, k = scored.scores, scored.k
    names = {"mAP": "mean_average_precision"}
    if not scored.multi_label:
        names = {"accuracy": "accuracy", "recall": "mean_class_recall"}
    columns = {
        voters: [s.score.value for own in stores for s in own if s.k == voters] for voters in k
    }
    rows = []
    for number, scores in enumerate(stores, start=1):
        by_layer: dict[str, dict[int, Score]] = {}
        for score in scores:
            by_layer.setdefault(score.layer, {})[score.k] = score
        for layer, results in by_layer.items():
            shares = {voters: results[voters].score.value for voters in k}
            marks = {n: "*" if shares[n] == max(columns[n]) else " " for n in k}
            best = results[max(k, key=lambda n: shares[n])]
            name = f"({number}) {layer}" if len(stores) > 1 else layer
            rows.append([
                name, f"{best.dimension:,}", *(f"{shares[n]:.2%}{marks[n]}" for n in k),
                str(best.k), *(_interval(getattr(best, field)) for field in names.values()),
            ])  # fmt: skip
    header = ["layer", "dimension", *(f"k={n}" for n in k), "best", *names]
    return table(rows, header, right=" ".join(header[1:]))


def _interval(share: Any) -> str:
    return f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"
