"""The page of a search: each query with the images most like it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vggfeat.report.facts import Facts
from vggfeat.report.heat import heat, in_words, overlay_png, reach_of
from vggfeat.report.page import write_page
from vggfeat.report.text import decimals
from vggfeat.report.thumbnails import ImageSource, picture, png_uri

if TYPE_CHECKING:
    from vggfeat.analysis import HeatMap
    from vggfeat.index import Neighbour

METRICS = {
    "cosine": "cosine similarity",
    "l2": "Euclidean distance (less is nearer)",
    "ip": "inner product",
}
"""What a person calls the scores of an index, by its metric."""


@dataclass(frozen=True, slots=True)
class NeighbourResult:
    """One image that was found.

    Attributes
    ----------
    path : str
        As the index names it.
    score : float
        Of the index's metric.
    image : ImageSource
        The original.
    label : str, optional
        Its class, where known.
    """

    path: str
    score: float
    image: ImageSource = None
    label: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SearchMaps:
    """Where a query and its neighbours are alike.

    Attributes
    ----------
    common : HeatMap
        Of the query, with all neighbours together.
    pairs : sequence of (HeatMap, HeatMap) or None
        Of the query and of the neighbour, for each in turn; None where there is no map.
    measure : str
        What the maps divide, as ``"cosine"``; empty for maps that are relative.
    """

    common: HeatMap
    pairs: Sequence[tuple[HeatMap, HeatMap] | None]
    measure: str = ""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """An image that was searched for, and what was found.

    Attributes
    ----------
    path : str
        As the user named it.
    neighbours : sequence of NeighbourResult
        Best first.
    image : ImageSource
        The original.
    label : str, optional
        Its class, where known: neighbours of the same class are marked.
    problem : str, optional
        Why the query could not be searched for.
    maps : SearchMaps, optional
        Where they are alike.
    """

    path: str
    neighbours: Sequence[NeighbourResult]
    image: ImageSource = None
    label: str | None = None
    problem: str | None = None
    maps: SearchMaps | None = None

    @classmethod
    def of(
        cls,
        path: str,
        neighbours: Sequence[Neighbour],
        images: Callable[[str], ImageSource],
        *,
        image: ImageSource = None,
        label: str | None = None,
        maps: SearchMaps | None = None,
    ) -> Self:
        """Make one from an index's answer.

        Parameters
        ----------
        path : str
            As the user named the query; its thumbnail is taken from there unless `image` is given.
        neighbours : sequence of Neighbour
            One list of what :meth:`vggfeat.index.SimilarityIndex.search` returns.
        images : callable
            Gives the original of a stored path, see :func:`~vggfeat.report.originals`.
        image, label, maps :
            See the attributes.
        """
        shown = [
            NeighbourResult(one.path, one.score, images(one.path), one.label or None)
            for one in neighbours
        ]
        return cls(path, shown, path if image is None else image, label, maps=maps)


def search_page(
    path: str | os.PathLike[str],
    queries: Sequence[QueryResult],
    *,
    index: str,
    images: int,
    facts: Facts | None = None,
    metric: str = "cosine",
) -> Path:
    """Write the page of a search.

    Parameters
    ----------
    path : path
        The HTML file to make or replace.
    queries : sequence of QueryResult
        In the order they are shown.
    index : str
        Name of the index that was searched.
    images : int
        How many images it holds.
    facts : mapping of str to str, optional
        What decides the scores, see :func:`~vggfeat.report.config_facts`.
    metric : str
        That of the index: a key of :data:`METRICS`.

    Returns
    -------
    Path
        The file.
    """
    return write_page(
        path,
        "search.html",
        queries=query_views(queries),
        index=index,
        images=images,
        facts=facts or {},
        metric=METRICS.get(metric, metric),
    )


def query_views(queries: Sequence[QueryResult]) -> list[dict[str, Any]]:
    """Return queries with their thumbnails drawn and scores written, as templates take them."""
    return [_view(query) for query in queries]


def _view(query: QueryResult) -> dict[str, Any]:
    places = decimals([neighbour.score for neighbour in query.neighbours])
    known = query.label is not None
    maps, heat_of_query = query.maps, None
    pairs: list[dict[str, str] | None] = [None] * len(query.neighbours)
    if maps is not None:
        both = [one for pair in maps.pairs if pair is not None for one in pair]
        reach = reach_of(maps.common, *both)
        what = f"Map of what {query.path} and its neighbours have in common"
        heat_of_query = heat(maps.common, query.image, what, reach=reach, side=400)
        pairs = [one and _pair(*one, query.path, reach) for one in maps.pairs]
    neighbours = [
        {
            "rank": rank,
            "path": neighbour.path,
            "score": f"{neighbour.score:.{places}f}",
            "label": neighbour.label,
            "picture": picture(neighbour.image),
            "pair": pair,
            "same": known and neighbour.label == query.label,
        }
        for rank, (neighbour, pair) in enumerate(zip(query.neighbours, pairs, strict=True), 1)
    ]
    return {
        "path": query.path,
        "label": query.label,
        "problem": query.problem,
        "picture": picture(query.image, 400),
        "heat": heat_of_query,
        "measure": "" if maps is None else maps.measure,
        "neighbours": neighbours,
        "same": sum(bool(neighbour["same"]) for neighbour in neighbours) if known else None,
    }


def _pair(asked: HeatMap, found: HeatMap, path: str, reach: float) -> dict[str, str]:
    """Return what lies over a query and over a neighbour, and both in words."""
    return {
        "asked": png_uri(overlay_png(asked, reach)),
        "found": png_uri(overlay_png(found, reach)),
        "words": f"{path}, and where it is like this neighbour: {in_words(asked, asked.box())}",
    }
