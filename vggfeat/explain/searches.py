"""Where the results of a search are like its query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from vggfeat.errors import ImageError, SearchError, SourceError
from vggfeat.images import decode
from vggfeat.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable

    from vggfeat.analysis import HeatMap
    from vggfeat.explain.pairs import PairMaps, SimilarityMaps
    from vggfeat.index import Neighbour
    from vggfeat.queries import SearchResult
    from vggfeat.regions import Region


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedSearch:
    """Why a query found what it found.

    Attributes
    ----------
    common : HeatMap
        What each place of the query adds to its mean similarity to all results: its box is the
        part to search for.
    pairs : tuple of PairMaps or None
        The query with each result in turn; None where its original cannot be read.
    exact : bool
        Whether maps sum to similarities.
    measure : str
        What they divide.
    """

    common: HeatMap
    pairs: tuple[PairMaps | None, ...]
    exact: bool
    measure: str

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "exact": self.exact,
            "measure": self.measure,
            "common": self.common.to_json(),
            "pairs": [None if one is None else one.to_json() for one in self.pairs],
        }


def explain_search(
    maps: SimilarityMaps,
    result: SearchResult,
    originals: Callable[[Neighbour], BinaryIO],
    box: Region | None = None,
    progress: Progress = silent,
) -> ExplainedSearch | None:
    """Map what a query and each of its results have in common.

    Parameters
    ----------
    maps : SimilarityMaps
        Of the index that was searched.
    result : SearchResult
        Of several averaged images, the first is explained.
    originals : callable
        Opens the original of a result; it may raise ImageError or SourceError.
    box : Region, optional
        The part of the query that was searched for.
    progress : callable
        Told of results.

    Returns
    -------
    ExplainedSearch or None
        None where nothing was found.

    Raises
    ------
    ImageError
        The query cannot be read any more.
    """
    if not result.neighbours:
        return None
    query = maps.seen(result.images[0], box)
    common, _ = maps.common(query, [one.id for one in result.neighbours])
    reading, pairs = maps.method.extractor.reading, []
    for one in result.neighbours:
        pair = None
        try:
            with originals(one) as file:
                pair = maps.pair(query, maps.seen(decode(file, **reading)))
        except (ImageError, SourceError, SearchError):
            pass  # the page shows a tile that says so
        pairs.append(pair)
        progress("comparing", 1, len(result.neighbours))
    return ExplainedSearch(common, tuple(pairs), maps.exact, maps.measure)
