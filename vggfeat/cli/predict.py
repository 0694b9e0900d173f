"""``vggfeat predict``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vggfeat.cli.choices import extractor_like, query_options
from vggfeat.cli.output import json_option, print_json, printable, table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vggfeat.probe import SavedProbe


@click.command()
@click.argument("probe", type=click.Path(dir_okay=False))
@click.argument("source")
@query_options
@json_option
def predict(probe: str, source: str, as_json: bool, **options: Any) -> None:
    """Label the images of SOURCE with PROBE, a file that `vggfeat probe --save` made.

    SOURCE is a folder, an image, a list or a tar archive, as for `extract`. The images go the way
    of those the probe was trained on. The margin is by how much the named class's score is above
    the next one's. A probe of several labels tells all classes whose score is above 0 (with
    `--classifier logreg`: whose probability is above 0.5). Exit status 1 if no image could be
    labelled.

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
    for result in extractor.iter_features(images):
        if isinstance(result, Failure):
            failed.append({"path": result.item.path, "reason": result.reason})
            continue
        features = result.arrays()[saved.layer].astype(extractor.dtype)
        answers = _answers(saved, features.reshape(len(features), -1))
        found += [
            {"path": entry.path, **answer}
            for entry, answer in zip(result.items, answers, strict=True)
        ]
    if as_json:
        print_json({"probe": probe, "layer": saved.layer, "images": found, "failed": failed})
    elif found:
        click.echo(_several(found) if saved.multi_label else _single(found))
    if not as_json:
        for one in failed:
            click.echo(f"failed: {printable(one['path'])}: {one['reason']}", err=True)
    if not found:
        raise click.exceptions.Exit(1)


def _answers(saved: SavedProbe, X: npt.NDArray[np.floating[Any]]) -> list[dict[str, Any]]:
    names, scores = saved.predict(X)
    if saved.multi_label:
        return [
            {"labels": list(shown), "scores": dict(zip(saved.classes, row.tolist(), strict=True))}
            for shown, row in zip(names, scores, strict=True)
        ]
    ordered = scores.copy()
    ordered.sort(axis=1)
    margins = (ordered[:, -1] - ordered[:, -2]).tolist()
    return [
        {"label": str(name), "margin": margin} for name, margin in zip(names, margins, strict=True)
    ]


def _single(found: list[dict[str, Any]]) -> str:
    rows = [[one["path"], one["label"], f"{one['margin']:.3f}"] for one in found]
    return table(rows, ["image", "label", "margin"], right="margin")


def _several(found: list[dict[str, Any]]) -> str:
    told = [
        ", ".join(f"{name} {one['scores'][name]:.2f}" for name in one["labels"]) for one in found
    ]
    rows = [[one["path"], labels or "-"] for one, labels in zip(found, told, strict=True)]
    return table(rows, ["image", "labels"])
