"""``vggfeat search``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vggfeat.cli.choices import network_of, query_options, root_option
from vggfeat.cli.index import index_argument
from vggfeat.cli.output import bars, json_option, print_json, printable, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vggfeat.explain import ExplainedSearch
    from vggfeat.index import Neighbour, SimilarityIndex
    from vggfeat.queries import ImageSearch
    from vggfeat.regions import Region
    from vggfeat.sources import Originals


@click.command()
@index_argument
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option(
    "-k",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Number of results for each image.",
)
@click.option("--average", is_flag=True, help="Search once, by the average of all given images.")
@click.option(
    "--unlike",
    multiple=True,
    metavar="IMAGE",
    help="Find what is not like this image; may be given again.",
)
@click.option(
    "--box",
    metavar="X,Y,W,H",
    help="Search for this part of the image: left and upper edge, width and "
    "height, in pixels or all with % of the image.",
)
@click.option(
    "--matching",
    multiple=True,
    metavar="PATH",
    help="Only this image, or all below this folder, or a pattern as '*/2026-*'; may be given "
    "again.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME",
    help="Only images of this class; may be given again.",
)
@click.option(
    "--expand",
    metavar="N[:ALPHA]",
    help="Search again with the average of the query and its N nearest (query expansion), weighted"
    " by their similarity to the power ALPHA.",
)
@click.option(
    "--rerank",
    type=click.IntRange(min=1),
    metavar="N",
    help="Compare at least N proposals exactly, where search is approximate.  [default: as tuned]",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False),
    metavar="REPORT",
    help="Write a page with the neighbours as thumbnails.",
)
@click.option(
    "--maps",
    is_flag=True,
    help="Show where query and neighbours are alike, on the page of --html, and suggest a --box; "
    "the network runs on each neighbour's original.",
)
@click.option(
    "--absolute",
    is_flag=True,
    help="Print where each image lies on this machine, so that other programs can open it; by "
    "default its path within the source.",
)
@root_option
@query_options
@json_option
def search(
    index_path: str,
    images: tuple[str, ...],
    k: int,
    box: str | None,
    html: str | None,
    maps: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the images in INDEX that are most like each IMAGE, an image or a .txt or .csv list.

    Queries are processed like the indexed images: same network, weights, view and pooling. Exit
    status 1 if a query could not be read; the others are answered all the same.

    \b
    Example:
      vggfeat search photos.index query.jpg -k 5 --html found.html
      vggfeat search photos.index query.jpg --absolute
      vggfeat search photos.index query.jpg --maps --html found.html
      vggfeat search photos.index a.jpg b.jpg --average --unlike c.jpg --matching beach
    """
    from vggfeat.extract import Failure
    from vggfeat.index import Expansion, SimilarityIndex
    from vggfeat.queries import ImageSearch, listed
    from vggfeat.regions import Region
    from vggfeat.report import destination
    from vggfeat.sources import Originals

    if html:
        destination(html)  # refused now rather than after the work
    queries = listed(images)
    region = None if box is None else Region.parse(box)
    if region is not None and len(queries) > 1:
        raise click.UsageError("--box is a part of one image; give one IMAGE.")
    expand = None if options["expand"] is None else Expansion.parse(options["expand"])
    opened = SimilarityIndex.open(index_path)
    within = None
    if options["matching"] or options["labels"]:
        within = opened.select(paths=options["matching"], labels=options["labels"], some=True)
    search = ImageSearch(opened, **network_of(options))
    results = list(
        search.search(
            queries,
            k,
            box=region,
            average=options["average"],
            unlike=options["unlike"],
            within=within,
            expand=expand,
            rerank=options["rerank"],
        )
    )
    originals = Originals(opened.sources, options["roots"])
    explained: list[ExplainedSearch | None] = [None] * len(results)
    if maps:
        explained = _explained(search, results, originals, region)
    if html:
        _write_page(opened, index_path, results, explained, html, originals)
    if as_json:
        payload = [
            one.to_json("query") if isinstance(one, Failure) else one.to_json() for one in results
        ]
        for told, why in zip(payload, explained, strict=True):
            if why is not None:
                told["maps"] = why.to_json()
        if options["absolute"]:
            for told in payload:
                for one in told.get("neighbours", ()):
                    one["file"] = originals.file_of(opened.source(one["id"]), one["path"]) or None
        print_json({"index": index_path, "metric": opened.metric, "results": payload})
    else:
        for one, why in zip(results, explained, strict=True):
            if not isinstance(one, Failure):
                files = [
                    options["absolute"] and originals.file_of(opened.source(near.id), near.path)
                    for near in one.neighbours
                ]
                click.echo(f"{printable(one.name)}\n{_table(one.neighbours, files)}\n")
            if why is not None and (part := why.common.box()) is not None:
                click.echo(f"What they have in common lies in: --box {part}\n")
        if html:
            click.echo(f"Report: {html}")
    failed = [one for one in results if isinstance(one, Failure)]
    for failure in failed:
        click.echo(f"failed: {printable(failure.item)}: {failure.reason}", err=True)
    if failed:
        raise click.exceptions.Exit(1)


def _table(neighbours: list[Neighbour], files: Sequence[str]) -> str:
    rows = [
        [str(one.rank), f"{one.score:.4f}", one.label, file or one.path]
        for one, file in zip(neighbours, files, strict=True)
    ]
    return table(rows, ["rank", "score", "label", "image"], right="rank score")


def _explained(
    search: ImageSearch, results: list[Any], originals: Originals, box: Region | None
) -> list[ExplainedSearch | None]:
    """Map what each query and its neighbours have in common; None for those that failed."""
    from vggfeat.explain import SimilarityMaps, explain_search

    index = search.index
    maps = SimilarityMaps(search.extractor, index)
    with bars("it") as progress:
        return [
            None
            if hasattr(result, "reason")
            else explain_search(
                maps, result, lambda one: originals.open(index.source(one.id), one.path), box,
                progress,
            )
            for result in results
        ]  # fmt: skip


def _write_page(
    opened: SimilarityIndex,
    index_path: str,
    results: list[Any],
    explained: Sequence[ExplainedSearch | None],
    html: str,
    originals: Originals,
) -> None:
    from vggfeat.report import (
        QueryResult,
        SearchMaps,
        config_facts,
        original,
        run_facts,
        search_page,
    )

    provenance = opened.provenance
    ids = {one.path: one.id for r in results for one in getattr(r, "neighbours", ())}

    def shown(path: str) -> Any:
        return original(originals, opened.source(ids[path]), path)

    page = []
    for result, why in zip(results, explained, strict=True):
        if hasattr(result, "reason"):
            page.append(QueryResult(result.item, [], problem=result.reason))
            continue
        maps = None
        if why is not None:
            pairs = [None if one is None else (one.query, one.image) for one in why.pairs]
            maps = SearchMaps(why.common, pairs, why.measure if why.exact else "")
        page.append(
            QueryResult.of(result.name, result.neighbours, shown, image=result.images[0], maps=maps)
        )
    search_page(
        html,
        page,
        index=Path(index_path).name,
        images=len(opened),
        facts=config_facts(provenance.config, opened.layer) | run_facts(provenance.run),
        metric=opened.metric,
    )
