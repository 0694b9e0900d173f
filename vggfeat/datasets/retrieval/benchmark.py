"""A benchmark of image retrieval as a whole: images, queries, what is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vggfeat.datasets.retrieval.query import Query
from vggfeat.datasets.retrieval.record import RetrievalProtocol
from vggfeat.files import decode_path
from vggfeat.sources import CropSource, FileSource, Source
from vggfeat.sources.base import entry_of


@dataclass(frozen=True, eq=False)
class RetrievalBenchmark:
    """Images to search in, and queries with what is to be found.

    Attributes
    ----------
    name : str
        As in :data:`vggfeat.datasets.BENCHMARKS`.
    root : str
        Absolute path of the folder that images are named from.
    images : tuple of str
        What is searched: paths relative to `root`, sorted.
    levels : dict of str to tuple of Query
        Queries by level, as ``"easy"``; of one level, called ``""``, where there are no more. All
        levels have the same queries in the same order, and differ in what is to be found.
    protocol : RetrievalProtocol
        What is measured.
    deviations : tuple of str
        In what the files differ from the complete benchmark, one phrase each.
    """

    name: str
    root: str
    images: tuple[str, ...]
    levels: Mapping[str, tuple[Query, ...]]
    protocol: RetrievalProtocol
    deviations: tuple[str, ...] = ()

    @property
    def queries(self) -> tuple[Query, ...]:
        """The queries, as the first level has them."""
        return next(iter(self.levels.values()))

    @property
    def boxed(self) -> bool:
        """Whether a box belongs to each query."""
        return all(query.box is not None for query in self.queries)

    def source(self) -> Source:
        """Return the images to search in as a source that features can be extracted from."""
        folder = decode_path(self.root)
        return FileSource(folder, folder, [entry_of(folder, path) for path in self.images])

    def query_source(self, *, whole: bool = False) -> Source | None:
        """Return the queries that are no images to search in: crops, or images apart.

        Parameters
        ----------
        whole : bool
            Take whole images where queries have boxes.

        Returns
        -------
        Source or None
            Entries are called as :meth:`key` says; None where all queries are searched images.
        """
        folder, held = decode_path(self.root), set(self.images)
        if self.boxed and not whole:
            crops = {self.key(one): (one.image, _rounded(one)) for one in self.queries}
            return CropSource(folder, crops)
        apart = sorted({one.image for one in self.queries} - held)
        if not apart:
            return None
        return FileSource(folder, folder, [entry_of(folder, path) for path in apart])

    def key(self, query: Query, *, whole: bool = False) -> str:
        """Return what a query is called: its image, or that with ``#`` and its name for a crop."""
        return query.image if whole or query.box is None else f"{query.image}#{query.name}"


def _rounded(query: Query) -> tuple[int, int, int, int]:
    assert query.box is not None
    left, upper, right, lower = (round(edge) for edge in query.box)  # as Pillow's crop does
    return left, upper, right, lower
