"""Retrieval on folders of one's own: a sub-folder is a class, each image a query for the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from vggfeat.datasets.retrieval.query import Query
from vggfeat.datasets.retrieval.record import BenchmarkRecord, Queries, RetrievalProtocol
from vggfeat.errors import SourceError


def _read(_root: Path, paths: Sequence[str]) -> Queries:
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


FOLDERS = BenchmarkRecord(
    "folders",
    _read,
    RetrievalProtocol("mAP", "step", "in the images, left out of the ranking", at=(1, 5, 10)),
)
