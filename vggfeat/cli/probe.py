"""``vggfeat probe`` and ``vggfeat predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vggfeat.cli.choices import extractor_like, layer_option, only_layer, query_options
from vggfeat.cli.output import json_option, print_json, printable, table

if TYPE_CHECKING:
    from vggfeat.probe import ProbeResult
    from vggfeat.store import FeatureStore

_WIDEST = 20  # classes up to which the confusion matrix is printed


@click.command()
@click.argument("store", type=click.Path(dir_okay=False))
@layer_option
@click.option(
    "--classifier",
    type=click.Choice(["svm", "logreg"]),
    default="svm",
    show_default=True,
    help="A linear SVM, as in the paper, or multinomial logistic regression.",
)
@click.option(
    "--C",
    "c",
    type=click.FloatRange(min=0, min_open=True),
    help="Inverse strength of regularisation.  [default: chosen on held-out training images]",
)
@click.option(
    "--test-size",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.25,
    show_default=True,
    help="Share of each class's images to test on.",
)
@click.option(
    "--train-per-class",
    type=click.IntRange(min=1),
    help="Train on so many images of each class and test on all others, instead.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of splits.")
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
    help="Write a page with the confusion matrix and the most confident mistakes.",
)
@json_option
def probe(store: str, as_json: bool, **options: Any) -> None:
    """Train and score a linear classifier on one layer of STORE.

    The labelled images are divided class by class into a training and a test part; C is chosen
    within the training part; the test part is touched once. Features are L2-normalised.

    \b
    Example:
      vggfeat probe photos.h5 --layer relu7 --save photos.probe
    """
    from vggfeat.probe import evaluate, train
    from vggfeat.report import destination
    from vggfeat.store import FeatureStore

    if options["html"]:
        destination(options["html"])  # refused now rather than after the work
    with FeatureStore(store) as opened:
        layer = only_layer(opened, options["layer"])
        chosen = {"classifier": options["classifier"], "C": options["c"], "seed": options["seed"]}
        result = evaluate(
            opened,
            layer,
            test_size=options["test_size"],
            train_per_class=options["train_per_class"],
            **chosen,
        )
        if options["save"]:
            train(opened, layer, held_out=result, **chosen).save(options["save"])
        if options["html"]:
            _write_page(opened, result, options["html"])
    told = {"store": store} | {name: value for name in ("save", "html") if (value := options[name])}
    if as_json:
        print_json(result.to_json() | told)
        return
    click.echo(describe(result))
    for name, what in (("save", "Probe"), ("html", "Report")):
        if name in told:
            click.echo(f"{what}: {told[name]}")


def describe(result: ProbeResult) -> str:
    """Return a score as a few lines and a table of the classes."""
    lines = [
        f"{result.layer}, {result.classifier}, C = {result.C:g}, seed {result.seed}: "
        f"{result.n_train:,} images to train, {result.n_test:,} to test, "
        f"{len(result.classes)} classes",
        f"accuracy           {result.accuracy:7.2%}   (always the commonest class: "
        f"{result.majority:.2%})",
        f"mean class recall  {result.mean_class_recall:7.2%}   (guessing: {result.chance:.2%})",
    ]
    left_out = {
        "not done": result.left_out.not_done,
        "without a label": result.left_out.unlabelled,
        "alone in their class": result.left_out.alone,
    }
    if any(left_out.values()):
        counts = ", ".join(f"{count:,} {why}" for why, count in left_out.items() if count)
        lines.append(f"left out: {counts}")
    if len(result.classes) <= _WIDEST:
        numbers = [str(i) for i in range(len(result.classes))]
        rows = [
            [number, name, f"{recall:.1%}", *map(str, counts)]
            for number, name, recall, counts in zip(
                numbers, result.classes, result.recall, result.confusion.tolist(), strict=True
            )
        ]
        lines += ["", "Named rightly, and what each class was taken for:"]
        lines.append(
            table(rows, ["", "class", "recall", *numbers], right=" ".join(["recall", *numbers]))
        )
    return "\n".join(lines)


def _write_page(store: FeatureStore, result: ProbeResult, path: str) -> None:
    from vggfeat.report import deciding_facts, happened_facts, originals, probe_page

    provenance = store.provenance

    probe_page(
        path,
        result,
        store=Path(store.path).name,
        images=originals(store.latest.source),
        facts=deciding_facts(provenance.deciding, result.layer) | happened_facts(store.latest),
    )


@click.command()
@click.argument("probe", type=click.Path(dir_okay=False))
@click.argument("source")
@query_options
@json_option
def predict(probe: str, source: str, as_json: bool, **options: Any) -> None:
    """Label the images of SOURCE with PROBE, a file that `vggfeat probe --save` made.

    SOURCE is a folder, an image, a list or a tar archive, as for `extract`. The images go the way
    of those the probe was trained on. The margin is by how much the named class's score is above
    the next one's. Exit status 1 if no image could be labelled.

    \b
    Example:
      vggfeat predict photos.probe new-photos/
    """
    from vggfeat.extract import Failure
    from vggfeat.probe import SavedProbe
    from vggfeat.sources import open_source

    saved = SavedProbe.load(probe)
    images = open_source(source)
    extractor = extractor_like(saved.provenance, options)
    saved.check(extractor.deciding)
    found: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for result in extractor.over(images):
        if isinstance(result, Failure):
            failed.append({"path": result.item.path, "reason": result.reason})
            continue
        features = result.arrays()[saved.layer].astype(extractor.dtype)
        names, scores = saved.predict(features.reshape(len(features), -1))
        ordered = scores.copy()
        ordered.sort(axis=1)
        margins = ordered[:, -1] - ordered[:, -2]
        found += [
            {"path": entry.path, "label": str(name), "margin": float(margin)}
            for entry, name, margin in zip(result.items, names, margins, strict=True)
        ]
    if as_json:
        print_json({"probe": probe, "layer": saved.layer, "images": found, "failed": failed})
    elif found:
        rows = [[one["path"], one["label"], f"{one['margin']:.3f}"] for one in found]
        click.echo(table(rows, ["image", "label", "margin"], right="margin"))
    if not as_json:
        for one in failed:
            click.echo(f"failed: {printable(one['path'])}: {one['reason']}", err=True)
    if not found:
        raise click.exceptions.Exit(1)
