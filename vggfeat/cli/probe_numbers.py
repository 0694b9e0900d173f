"""``vggfeat probe --classifier ridge``: numbers instead of classes."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from vggfeat.cli.choices import only_layer, refuse_given
from vggfeat.cli.output import print_json, printable, share_bar, table
from vggfeat.cli.probe_text import divided_text, leak_text

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable
    from vggfeat.probe import Numbers, RegressionResult

_SHOWN = 20
_OF_CLASSES = ("c", "validation", "class_weight", "train_per_class", "splits", "ap", "against")


def probe_numbers(store: str, as_json: bool, options: dict[str, Any]) -> None:
    """Do what `vggfeat probe` does where images have numbers."""
    from vggfeat.probe import evaluate_numbers, train_numbers
    from vggfeat.report import (
        config_facts,
        destination,
        numbers_figure,
        numbers_page,
        run_facts,
        write_whole,
    )
    from vggfeat.store import open_features

    refuse_given(_OF_CLASSES, "--classifier ridge")
    for picture in ("png", "html"):
        if options[picture]:
            destination(options[picture])  # refused now rather than after the work
    columns = tuple(name.strip() for name in (options["columns"] or "").split(",") if name.strip())
    fitting = {"normalize": options["normalize"], "standardize": options["standardize"],
               "seed": options["seed"]}  # fmt: skip
    files: dict[str, Any] = {}
    with ExitStack() as stack:
        opened = stack.enter_context(open_features(store))
        layer = only_layer(opened, options["layer"])
        numbers = _numbers(opened, options["targets"], columns)
        test = None
        if options["test"]:
            other = stack.enter_context(open_features(options["test"]))
            test = other, _numbers(other, options["targets"], columns)
        progress = stack.enter_context(share_bar())
        result = evaluate_numbers(
            opened, layer, numbers, test=test, test_size=options["test_size"],
            look_for_leaks=True, progress=progress, **fitting,
        )  # fmt: skip
        if options["save"]:
            drawn = options["test_size"] is not None
            saved = train_numbers(opened, layer, numbers, drawn=drawn, **fitting)
            saved.save(options["save"])
            files["save"] = options["save"]
        if options["html"]:
            facts = config_facts(opened.provenance.config, layer) | run_facts(opened.latest)
            numbers_page(options["html"], result, store=store, facts=facts)
            files["html"] = options["html"]
        if options["png"]:
            write_whole(options["png"], numbers_figure(result))
            files["png"] = options["png"]
    if as_json:
        print_json(result.to_json() | {"store": store} | files)
        return
    click.echo("\n".join(_described(result)))
    for what, name in (("save", "Probe"), ("html", "Report"), ("png", "Picture")):
        if what in files:
            click.echo(f"{name}: {printable(files[what])}")


def _numbers(store: FeatureTable, file: str | None, columns: tuple[str, ...]) -> Numbers:
    from vggfeat.probe import numbers_of_file, numbers_of_labels

    if file is not None:
        return numbers_of_file(store, file, columns)
    if columns:
        raise click.UsageError("--columns chooses columns of --targets FILE, which is not given.")
    return numbers_of_labels(store)


def _described(result: RegressionResult) -> list[str]:
    """Say a score as a few lines and a table of the targets, the best first."""
    scores = result.scores
    lines = [
        f"{result.layer}, ridge, seed {result.seed}: {result.n_train:,} images to train, "
        f"{result.n_test:,} to test, {len(result.names):,} "
        f"{'number' if len(result.names) == 1 else 'numbers'} from {printable(result.origin)}",
        *divided_text(result.division),
    ]
    if result.unmatched:
        lines.append(f"{result.unmatched:,} lines name no image of the store that is done")
    known = np.isfinite(scores.r2)
    if len(result.names) > 1 and known.any():
        lines.append(
            f"mean of {int(known.sum()):,} targets: R2 {result.mean_r2:.3f}, r {result.mean_r:.3f}"
        )
    order = np.argsort(-np.nan_to_num(scores.r2, nan=-np.inf), kind="stable")
    rows = [
        [
            result.names[k],
            scores.text("r2", k),
            scores.text("r", k),
            f"{scores.n[k]:,}",
            f"{result.alpha[k]:.3g}",
        ]
        for k in order[:_SHOWN].tolist()
    ]  # fmt: skip
    header = ["target", "R2", "r", "images", "alpha"]
    lines += ["", table(rows, header, right="R2 r images alpha")]
    if len(result.names) > _SHOWN:
        lines.append(f"and {len(result.names) - _SHOWN:,} more: --json has all")
    level = f"{100 * scores.level:.0f} % intervals of the bootstrap over"
    lines.append(f"{level} {'groups' if scores.groups else 'test images'}")
    return lines + leak_text(result.leak)
