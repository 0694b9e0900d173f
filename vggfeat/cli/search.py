"""``vggfeat search``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vggfeat.cli.choices import extractor_like, query_options
from vggfeat.cli.index import index_argument
from vggfeat.cli.output import json_option, print_json, printable, table

if TYPE_CHECKING:
    from vggfeat.index import Neighbour, SimilarityIndex


@click.command()
@index_argument
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option(
    "-k", type=click.IntRange(min=1), default=10, show_default=True, help="Neighbours of each."
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False),
    metavar="REPORT",
    help="Write a page with the neighbours as thumbnails.",
)
@query_options
@json_option
def search(
    index_path: str,
    images: tuple[str, ...],
    k: int,
    html: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the images in INDEX that are most like each IMAGE.

    A query goes the way of the indexed images: same network, weights, view and pooling. Exit
    status 1 if a query could not be read; the others are answered all the same.

    \b
    Example:
      vggfeat search photos.index query.jpg -k 5 --html found.html
    """
    from vggfeat.index import SimilarityIndex
    from vggfeat.report import destination

    if html:
        destination(html)  # refused now rather than after the work
    opened = SimilarityIndex.open(index_path)
    answers, failed = _ask(opened, images, k, options)
    if html:
        _write_page(opened, index_path, images, answers, failed, html)
    if as_json:
        told = [
            {"query": image, "neighbours": [one.to_json() for one in answers[image]]}
            if image in answers
            else {"query": image, "error": failed[image]}
            for image in images
        ]
        print_json({"index": index_path, "metric": opened.metric, "results": told})
    else:
        for image in images:
            if image in answers:
                click.echo(f"{printable(image)}\n{_table(answers[image])}\n")
        if html:
            click.echo(f"Report: {html}")
    for image, reason in failed.items():
        click.echo(f"failed: {printable(image)}: {reason}", err=True)
    if failed:
        raise click.exceptions.Exit(1)


def _ask(
    opened: SimilarityIndex, images: tuple[str, ...], k: int, options: dict[str, Any]
) -> tuple[dict[str, list[Neighbour]], dict[str, str]]:
    """Return the neighbours of each query, and why others failed."""
    from vggfeat.errors import SearchError
    from vggfeat.extract import Failure

    extractor = extractor_like(opened.provenance, options)
    opened.check(extractor.deciding)
    answers: dict[str, list[Neighbour]] = {}
    failed: dict[str, str] = {}
    for result in extractor.stream(images, extractor.held):
        if isinstance(result, Failure):
            failed[result.item] = result.reason
            continue
        features = result.arrays()[opened.layer].astype(extractor.dtype)
        for image, vector in zip(result.items, features, strict=True):
            try:
                (answers[image],) = opened.search(vector.reshape(1, -1), k)
            except SearchError as error:  # such as a query of zeros
                failed[image] = str(error)
    return answers, failed


def _table(neighbours: list[Neighbour]) -> str:
    rows = [[str(one.rank), f"{one.score:.4f}", one.label, one.path] for one in neighbours]
    return table(rows, ["rank", "score", "label", "image"], right="rank score")


def _write_page(
    opened: SimilarityIndex,
    index_path: str,
    images: tuple[str, ...],
    answers: dict[str, list[Neighbour]],
    failed: dict[str, str],
    html: str,
) -> None:
    from vggfeat.report import (
        QueryResult,
        deciding_facts,
        happened_facts,
        originals,
        search_page,
    )

    provenance = opened.provenance
    original = originals(provenance.happened.source)
    queries = [
        QueryResult.of(image, answers[image], original)
        if image in answers
        else QueryResult(image, [], problem=failed[image])
        for image in images
    ]
    search_page(
        html,
        queries,
        index=Path(index_path).name,
        images=len(opened),
        facts=deciding_facts(provenance.deciding, opened.layer)
        | happened_facts(provenance.happened),
        metric=opened.metric,
    )
