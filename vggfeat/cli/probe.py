"""``vggfeat probe``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vggfeat.cli.choices import (
    ap_option,
    class_weight_option,
    layer_option,
    only_layer,
    refuse_given,
    root_option,
    split_options,
)
from vggfeat.cli.output import json_option, print_json, printable, share_bar
from vggfeat.cli.probe_numbers import probe_numbers
from vggfeat.cli.probe_text import describe, describe_against, describe_splits

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable
    from vggfeat.probe import MultiLabelResult, ProbeResult


def _validation(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1
    if 0 < number < 1:
        return number
    if number >= 2 and number.is_integer():
        return int(number)
    raise click.BadParameter(f"{value!r}: give a share above 0 and below 1, or 2 or more folds.")


@click.command()
@click.argument("store", type=click.Path())
@layer_option
@click.option(
    "--classifier",
    type=click.Choice(["svm", "logreg", "ridge"]),
    default="svm",
    show_default=True,
    help="A linear SVM, as in the paper, or logistic regression; ridge predicts numbers.",
)
@click.option(
    "--targets",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="With ridge: the numbers. A table with a column path and columns of numbers, or a .npy "
    "with a row for each image and a list of the images beside it.  [default: labels that are"
    " numbers]",
)
@click.option(
    "--columns",
    metavar="NAME,...",
    help="Which columns of --targets.  [default: all that hold numbers]",
)
@click.option(
    "--normalize/--no-normalize",
    default=None,
    help="Scale features to length 1.  [default: for classes, not for numbers]",
)
@click.option(
    "--standardize", is_flag=True, help="With ridge: divide each feature by its standard deviation."
)
@click.option(
    "-C",
    "--C",
    "--c",
    "c",
    type=click.FloatRange(min=0, min_open=True),
    help="Inverse strength of regularisation.  [default: chosen on held-out training images]",
)
@click.option(
    "--validation",
    callback=_validation,
    metavar="SHARE|FOLDS",
    default="0.2",
    show_default=True,
    help="Which training images choose C: a share of them, or all in turn, in so many folds.",
)
@class_weight_option
@split_options
@click.option(
    "--splits",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Repeat with so many seeds, for a mean with its confidence interval; pages and files "
    "show the first.",
)
@ap_option
@click.option(
    "--against",
    metavar="[STORE:]LAYER[:POOL]",
    help="Compare with another layer, of STORE or of another store of the same images.",
)
@click.option(
    "--save",
    type=click.Path(dir_okay=False),
    metavar="PROBE",
    help="Train once more, on all labelled images, and keep the classifier for `predict`.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False),
    metavar="REPORT",
    help="Write a page with the score of every class and the most confident mistakes.",
)
@click.option(
    "--png",
    type=click.Path(dir_okay=False),
    metavar="PICTURE",
    help="With ridge: draw predictions against truth.",
)
@click.option(
    "--test",
    type=click.Path(),
    metavar="STORE",
    help="Test on the labelled images of another store that was made with the same options; all "
    "images of this one train.",
)
@root_option
@json_option
def probe(store: str, as_json: bool, **options: Any) -> None:
    """Train and score a linear classifier on one layer of STORE.

    The store's splits (train, val, test) say which of the labelled images train, choose C and test.
    Without splits the images are divided class by class; without val, C is chosen within the
    training images. Images of one group are never on both sides, and the test images are used once,
    for the score. Features are L2-normalised.

    An SVM's probabilities are learnt on the training images that choose C, and the expected
    calibration error says how far they can be believed; those of logreg are its own.

    Where images have one label each, the score is accuracy and mean class recall. Where they have
    several, each class has a classifier of its own, and the score is the mean of the classes'
    average precision; images are divided by their rarest class. An image for which a class is
    marked as difficult or unknown is left out of that class.

    \b
    Example:
      vggfeat probe photos.h5 --layer relu7 --save photos.probe
      vggfeat probe photos.h5 --layer relu7 --against fc6
      vggfeat probe train.h5 --test test.h5 --layer relu7
      vggfeat probe photos.h5 --layer relu7 --classifier ridge --targets ages.csv
    """
    if options["classifier"] == "ridge":
        options["normalize"] = bool(options["normalize"])
        probe_numbers(store, as_json, options)
        return
    refuse_given(["targets", "columns", "standardize", "png"], "classes; give --classifier ridge")
    from vggfeat.probe import RepeatedResult, train
    from vggfeat.probe.division import TEST_SIZE
    from vggfeat.report import destination
    from vggfeat.store import open_features

    if options["against"] and options["splits"] > 1:
        raise click.UsageError("--against compares on one split; leave out --splits.")
    if options["html"]:
        destination(options["html"])  # refused now rather than after the work
    chosen = {name: options[name] for name in ("classifier", "class_weight", "validation", "seed")}
    chosen["C"] = options["c"]
    chosen["normalize"] = options["normalize"] is not False
    divided = {name: options[name] for name in ("test_size", "train_per_class", "ap")}
    payload: dict[str, Any] = {"store": store}
    if options["test"] and options["splits"] > 1:
        raise click.UsageError("--test names the test images; --splits draws them.")
    if options["splits"] > 1 and divided["train_per_class"] is None:
        divided["test_size"] = divided["test_size"] or TEST_SIZE  # drawn, whatever the store says
    with ExitStack() as stack:
        opened = stack.enter_context(open_features(store))
        layer = only_layer(opened, options["layer"])
        path, rival = _rival(options["against"], opened)
        other = stack.enter_context(open_features(path)) if path else opened
        if rival:
            rival = other.layer(rival)
        if options["test"]:
            divided["test"] = stack.enter_context(open_features(options["test"]))
        results = [
            _evaluate(opened, layer, **chosen | divided | {"seed": options["seed"] + number})
            for number in range(options["splits"])
        ]
        several = RepeatedResult(results)
        lines = [describe_splits(several) if len(results) > 1 else describe(results[0])]
        if rival:
            second = _evaluate(other, rival, **chosen | divided, as_rival=True)
            payload["against"], line = _against(results[0], second, path)
            lines.append(line)
        if options["save"]:
            with share_bar() as progress:
                saved = train(opened, layer, held_out=results[0], progress=progress, **chosen)
            saved.save(options["save"])
            payload["save"] = options["save"]
            lines.append(f"Probe: {printable(options['save'])}")
        if options["html"]:
            _write_page(divided.get("test", opened), results[0], options["html"], options["roots"])
            payload["html"] = options["html"]
            lines.append(f"Report: {printable(options['html'])}")
    if not as_json:
        click.echo("\n".join(lines))
    elif len(results) == 1:
        print_json(results[0].to_json() | payload)
    else:
        print_json(payload | several.to_json())


def _rival(text: str | None, opened: FeatureTable) -> tuple[str, str]:
    """Read --against: LAYER[:POOL] of the store itself, or STORE:LAYER[:POOL]."""
    if not text or text in opened:
        return "", text or ""
    colons = [at for at, sign in enumerate(text) if sign == ":"]
    ends = [at for at in colons if Path(text[:at]).exists()]
    if ends:
        return text[: ends[-1]], text[ends[-1] + 1 :]
    if colons and Path(text[: colons[0]]).suffix:  # a name of a file, which is not there
        return text[: colons[0]], text[colons[0] + 1 :]
    return "", text


def _evaluate(
    store: FeatureTable, layer: str, *, as_rival: bool = False, **options: Any
) -> ProbeResult | MultiLabelResult:
    """Score a layer; of a rival nobody asks more than that."""
    from vggfeat.probe import evaluate

    asked = not as_rival
    with share_bar() as progress:
        return evaluate(
            store, layer, progress=progress, look_for_leaks=asked, calibrate=asked, **options
        )


def _against(first: Any, second: Any, store: str) -> tuple[dict[str, Any], str]:
    """Compare two scores; return the comparison as values and as text."""
    compared = first.against(second)
    payload = second.summary() | compared.to_json() | ({"store": store} if store else {})
    return payload, describe_against(first, second, compared, store)


def _write_page(store: FeatureTable, result: Any, path: str, roots: tuple[str, ...]) -> None:
    from vggfeat.report import config_facts, originals_of, probe_page, run_facts

    provenance = store.provenance
    probe_page(
        path,
        result,
        store=Path(store.path).name,
        images=originals_of(store, roots),
        facts=config_facts(provenance.config, result.layer) | run_facts(store.latest),
    )
