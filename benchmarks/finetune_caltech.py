"""Measure what fine-tuning gains on Caltech-101 beside a linear probe, by images a class.

Training sets are nested and the test images are the same for all: those that a split of the
paper's protocol leaves (30 a class to train, at most 50 to test). `--categories N` takes the first
N by name. Minutes are of all cores together, and leave out what an earlier row has computed: maps
are shared. Memory is the most that the process had until then.

    python benchmarks/finetune_caltech.py 101_ObjectCategories convs.safetensors --per-class 30
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections import defaultdict
from pathlib import Path

import click
import numpy as np

from vggfeat.cli.output import table
from vggfeat.finetuning import Recipe, finetune
from vggfeat.finetuning.results import Result, interval_of, score_of
from vggfeat.probe import stratified_split
from vggfeat.sources import open_source

MOST_TRAIN, MOST_TEST = 30, 50


@click.command()
@click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("weights")
@click.option("--work", type=click.Path(path_type=Path), default=Path("finetune-caltech"))
@click.option("--categories", default=102, show_default=True)
@click.option("--per-class", default="5,10,15,30", show_default=True)
@click.option("--from", "firsts", default="head,conv5_1", show_default=True)
@click.option("--epochs", default=Recipe().epochs, show_default=True)
@click.option("--augment", default=Recipe().augment, show_default=True)
def main(
    root: Path, weights: str, work: Path, categories: int, per_class: str, firsts: str,
    epochs: int, augment: int,
) -> None:  # fmt: skip
    """Fine-tune with each number of images a class, and print a row for each."""
    work.mkdir(parents=True, exist_ok=True)
    lists, folder = divided(root, work, categories, [int(text) for text in per_class.split(",")])
    rows = []
    for first in firsts.split(","):
        for count, train in lists.items():
            name = f"{first}-{count}"
            recipe = Recipe(first=first, epochs=epochs, augment=augment)
            began = time.process_time()
            result = finetune(
                folder, work / f"{name}.safetensors", weights=weights, recipe=recipe,
                split={"train": train, "test": work / "test.txt"}, cache=work / "cache",
                overwrite=True,
            )  # fmt: skip
            (work / f"{name}.json").write_text(json.dumps(result.to_json(), indent=1))
            gain = result.gain
            rows.append(
                [
                    first, str(count), shown(result.probe), shown(result.tuned),
                    "{:+.1f} ({:+.1f} to {:+.1f})".format(
                        *(100 * value for value in (gain.difference, gain.low, gain.high))
                    ),
                    f"{gain.p:.2g}", gain.verdict, f"{(time.process_time() - began) / 60:.0f}",
                    f"{result.cached / 1e9:.1f} GB", f"{memory() / 1e9:.1f} GB",
                ]
            )  # fmt: skip
            header = ["from", "a class", "probe", "fine-tuned", "points", "p", "verdict"]
            click.echo(table(rows, [*header, "CPU minutes", "maps", "memory"]))


def divided(
    root: Path, work: Path, categories: int, counts: list[int]
) -> tuple[dict[int, Path], Path]:
    """Write lists of nested training sets and of the test set; return them, and the folder."""
    paths = [entry.path for entry in open_source(root).entries]
    names = [path.partition("/")[0] for path in paths]
    kept = sorted(set(names))[:categories]
    y = np.unique(names, return_inverse=True)[1]
    trains = {count: parts(y, count) for count in {*counts, MOST_TRAIN}}
    tested: dict[str, list[str]] = defaultdict(list)
    for at, path in enumerate(paths):
        if at not in trains[MOST_TRAIN] and len(tested[names[at]]) < MOST_TEST:
            tested[names[at]].append(path)
    folder = work / "images"
    folder.mkdir(exist_ok=True)
    for name in kept:
        if not os.path.lexists(folder / name):
            (folder / name).symlink_to((root / name).resolve())
    every = [path for name in kept for path in tested[name]]
    (work / "test.txt").write_text("\n".join(every) + "\n")
    lists = {}
    for count in counts:
        lists[count] = work / f"train{count}.txt"
        chosen = [
            path for at, path in enumerate(paths) if at in trains[count] and names[at] in kept
        ]
        lists[count].write_text("\n".join(chosen) + "\n")
    return lists, folder


def parts(y: np.ndarray, count: int) -> set[int]:
    return set(stratified_split(y, train_per_class=count, seed=0)[0].tolist())


def memory() -> int:
    """Return the most bytes that this process has had (Linux counts them in KiB)."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def shown(result: Result) -> str:
    interval = interval_of(result)
    assert interval is not None
    value = score_of(result)
    return f"{100 * value:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


if __name__ == "__main__":
    main()
