"""What vggfeat knows of a benchmark of image retrieval: one record, in the file of its reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vggfeat.datasets.retrieval.query import Query
from vggfeat.metrics.retrieval import Area

Queries = tuple[tuple[str, ...], Mapping[str, tuple[Query, ...]]]
"""What a reader gives: the images to search in, and by level the queries."""


RetrievalMetric = Literal["mAP", "N-S score"]


@dataclass(frozen=True, slots=True)
class PublishedRetrieval:
    """A number that somebody published.

    Attributes
    ----------
    what : str
        Whose features: network, layer and pooling.
    percent : float
        mAP in 0..100.
    how : str
        What decided it, as far as was told.
    source : str
        Where it is from.
    verified : bool
        Whether this package has reached it.
    """

    what: str
    percent: float
    how: str
    source: str
    verified: bool = False


@dataclass(frozen=True, slots=True)
class RetrievalProtocol:
    """What to compute, as the benchmark's own program does.

    Attributes
    ----------
    metric : str
        ``"mAP"``, or UKBench's ``"N-S score"``: how many of four images are among the first four.
    area : str
        Definition of average precision, see
        :func:`vggfeat.metrics.retrieval.ranked_average_precision`.
    at : tuple of int
        Ranks k at which the precision is told.
    capped : bool
        Whether k is at most the rank of the last image to be found, as the program of revisited
        Oxford and Paris has it.
    itself : str
        What becomes of the query's own image.
    junk : str
        What is neither right nor wrong.
    counts : dict of str to int
        Images and queries of the complete benchmark; empty for one's own folders.
    published : tuple of PublishedRetrieval
        Numbers to stand beside ours.
    """

    metric: RetrievalMetric
    area: Area
    itself: str
    junk: str = "none"
    at: tuple[int, ...] = ()
    capped: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    published: tuple[PublishedRetrieval, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self) | {"at": list(self.at)}


@dataclass(frozen=True, slots=True)
class BenchmarkRecord:
    """A benchmark of image retrieval: how it is read and scored.

    Attributes
    ----------
    name : str
        As on the command line.
    read : callable
        Given the place of the ground truth (the folder of images where it has no files) and the
        paths of all images, returns the images to search in and by level the queries.
    protocol : RetrievalProtocol
        How it is scored, and what others got.
    files : str
        Files of ground truth as a glob pattern, or the one file's name; empty where the images'
        names tell all.
    """

    name: str
    read: Callable[[Path, Sequence[str]], Queries]
    protocol: RetrievalProtocol
    files: str = ""


_SOURCE = "the VisualFeatureTranslation project's table"
_HOW = "whole-image queries, PCA-whitening learnt on 4,000 landmark images"


def vgg16_rows(spoc: float, crow: float, rmac: float) -> tuple[PublishedRetrieval, ...]:
    """Return published rows of VGG-16's last convolutional layers, mAP in percent."""
    rows = {"SPoC": spoc, "CroW": crow, "R-MAC": rmac}
    return tuple(
        PublishedRetrieval(f"VGG-16 {name}", percent, _HOW, _SOURCE)
        for name, percent in rows.items()
    )
