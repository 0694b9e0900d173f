"""Benchmarks of image retrieval as a whole: images, queries, what is measured, what others got."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vggfeat.datasets.layout import absolute, compare
from vggfeat.datasets.retrieval import Query, holidays_queries, oxford_queries, ukbench_queries
from vggfeat.datasets.retrieval_protocols import RETRIEVAL_PROTOCOLS, RetrievalProtocol
from vggfeat.datasets.revisited import revisited_queries
from vggfeat.errors import SourceError
from vggfeat.files import decode_path
from vggfeat.sources import CropSource, FileSource, Source, open_folder
from vggfeat.sources.base import as_text, entry_of

BENCHMARKS = tuple(RETRIEVAL_PROTOCOLS)
"""Names of all benchmarks; ``folders`` is one's own, with a sub-folder for each class."""

Found = tuple[tuple[str, ...], Mapping[str, tuple[Query, ...]]]


@dataclass(frozen=True, eq=False)
class RetrievalBenchmark:
    """Images to search in, and queries with what is to be found.

    Attributes
    ----------
    name : str
        One of :data:`BENCHMARKS`.
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


def open_benchmark(
    name: str, root: str | os.PathLike[str], files: str | os.PathLike[str] | None = None
) -> RetrievalBenchmark:
    """Read a benchmark's ground truth, and check that its images are there.

    Parameters
    ----------
    name : str
        One of :data:`BENCHMARKS`.
    root : path
        The folder of its images, at any depth.
    files : path, optional
        Of oxford5k and paris6k, the folder of NAME_query.txt; of roxford5k and rparis6k, the file
        ``gnd_roxford5k.pkl`` or ``gnd_rparis6k.pkl``. By default looked for below `root`.

    Raises
    ------
    SourceError
        The name is unknown; or the message says what is missing or damaged.
    """
    if name not in RETRIEVAL_PROTOCOLS:
        raise SourceError(f"Unknown benchmark {name!r}. Known are {', '.join(BENCHMARKS)}.")
    folder = absolute(root)
    if not folder.is_dir():
        raise SourceError(f"There is no folder {str(folder)!r}. Give that of the images.")
    if files is not None and name not in _FILES:
        raise SourceError(f"{name} has no files of ground truth; its images' names tell all.")
    paths = [entry.path for entry in open_folder(str(folder)).entries]
    where = _ground_truth(name, folder, files) if name in _FILES else folder
    images, levels = _READERS[name](where, paths)
    protocol = RETRIEVAL_PROTOCOLS[name]
    queries = len(next(iter(levels.values())))
    if not queries:
        raise SourceError(f"There is nothing to find in {str(folder)!r}: no query has an answer.")
    counts = {"images": len(images), "queries": queries}
    return RetrievalBenchmark(
        name, as_text(str(folder)), images, levels, protocol, compare(counts, protocol.counts)
    )


def _holidays(_where: Path, paths: list[str]) -> Found:
    return tuple(paths), {"": tuple(holidays_queries(paths))}


def _ukbench(_where: Path, paths: list[str]) -> Found:
    return tuple(paths), {"": tuple(ukbench_queries(paths))}


def _oxford(where: Path, paths: list[str]) -> Found:
    return tuple(paths), {"": tuple(oxford_queries(where, paths))}


def _folders(_where: Path, paths: list[str]) -> Found:
    """Read classes off folders; each image is a query, and itself neither right nor wrong."""
    classes: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        kind, slash, _ = path.partition("/")
        if slash:
            classes[kind].append(path)
    if len(classes) < 2:
        raise SourceError(
            f"There are {len(classes)} classes; two are the least. Put the images of each class "
            "into a sub-folder of its own."
        )
    kept = {kind: frozenset(members) for kind, members in classes.items()}
    images = tuple(sorted(path for members in classes.values() for path in members))
    queries = []
    for path in images:
        others = kept[path.partition("/")[0]] - {path}
        if others:
            queries.append(Query(path, path, others, frozenset([path])))
    return images, {"": tuple(queries)}


_READERS: dict[str, Callable[[Path, list[str]], Found]] = {
    "holidays": _holidays,
    "ukbench": _ukbench,
    "oxford5k": _oxford,
    "paris6k": _oxford,
    "roxford5k": revisited_queries,
    "rparis6k": revisited_queries,
    "folders": _folders,
}
_FILES = {
    "oxford5k": "*_query.txt",
    "paris6k": "*_query.txt",
    "roxford5k": "gnd_roxford5k.pkl",
    "rparis6k": "gnd_rparis6k.pkl",
}


def _ground_truth(name: str, root: Path, given: str | os.PathLike[str] | None) -> Path:
    if given is not None:
        return Path(given)
    listed = sorted(root.rglob(_FILES[name]))
    places = sorted({file.parent if "*" in _FILES[name] else file for file in listed})
    if len(places) != 1:
        found = ", ".join(map(str, places)) or "none"
        raise SourceError(
            f"The ground truth of {name}, {_FILES[name]}, should be in one place below {root}; "
            f"found: {found}. Say with --files which to take."
        )
    return places[0]


def _rounded(query: Query) -> tuple[int, int, int, int]:
    assert query.box is not None
    left, upper, right, lower = (round(edge) for edge in query.box)  # as Pillow's crop does
    return left, upper, right, lower
