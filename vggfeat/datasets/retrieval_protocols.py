"""How the benchmarks of image retrieval are scored, and what was reported on them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from vggfeat.metrics.retrieval import Area

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


_SOURCE = "the VisualFeatureTranslation project's table"
_HOW = "whole-image queries, PCA-whitening learnt on 4,000 landmark images"


def _published(spoc: float, crow: float, rmac: float) -> tuple[PublishedRetrieval, ...]:
    """Return the rows of VGG-16's last convolutional layers."""
    rows = {"SPoC": spoc, "CroW": crow, "R-MAC": rmac}
    return tuple(
        PublishedRetrieval(f"VGG-16 {name}", percent, _HOW, _SOURCE)
        for name, percent in rows.items()
    )


_CROPPED = "in the images, and to be found"
_LISTED = "the images listed as junk, left out of the ranking"
_LEVELLED = (
    "those listed as junk, at easy also the hard images and at hard the easy ones, left out of the "
    "ranking"
)
_APART = "not among the images"

RETRIEVAL_PROTOCOLS: dict[str, RetrievalProtocol] = {
    "holidays": RetrievalProtocol(
        "mAP",
        "trapezoid",
        "in the images, left out of the ranking",
        counts={"images": 1491, "queries": 500},
        published=_published(83.4, 83.2, 83.5),
    ),
    "ukbench": RetrievalProtocol(
        "N-S score",
        "trapezoid",
        "in the images, and one of the four",
        counts={"images": 10200, "queries": 10200},
    ),
    "oxford5k": RetrievalProtocol(
        "mAP",
        "trapezoid",
        _CROPPED,
        _LISTED,
        counts={"images": 5062, "queries": 55},
        published=_published(66.4, 68.4, 70.8),
    ),
    "paris6k": RetrievalProtocol(
        "mAP",
        "trapezoid",
        _CROPPED,
        _LISTED,
        counts={"images": 6392, "queries": 55},
        published=_published(78.5, 79.8, 83.5),
    ),
    "roxford5k": RetrievalProtocol(
        "mAP",
        "trapezoid",
        _APART,
        _LEVELLED,
        at=(1, 5, 10),
        capped=True,
        counts={"images": 4993, "queries": 70},
    ),
    "rparis6k": RetrievalProtocol(
        "mAP",
        "trapezoid",
        _APART,
        _LEVELLED,
        at=(1, 5, 10),
        capped=True,
        counts={"images": 6322, "queries": 70},
    ),
    "folders": RetrievalProtocol(
        "mAP", "step", "in the images, left out of the ranking", at=(1, 5, 10)
    ),
}
"""By benchmark."""
