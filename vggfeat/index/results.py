"""What an index answers, and what it says of itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from vggfeat.showing import Shown

if TYPE_CHECKING:
    from vggfeat.index.catalogue import Catalogue
    from vggfeat.index.preparing import Metric
    from vggfeat.index.settings import LeftOut, Tuning


class Neighbour(NamedTuple):
    """One answer to a query.

    Attributes
    ----------
    rank : int
        1 for the nearest.
    path : str
        The image, as its store names it.
    score : float
        Cosine in -1..1, Euclidean distance (less is nearer), or inner product.
    row : int
        The image's row in its store.
    label : str
        Name of its class, several joined by ``|``; empty where unknown.
    id : int
        Of the image in the index, until that is compacted or built anew.
    """

    rank: int
    path: str
    score: float
    row: int
    label: str
    id: int = -1

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return self._asdict()


class Neighbours(list[Neighbour], Shown):
    """The answers to one query, the nearest first.

    Parameters
    ----------
    catalogue : Catalogue
        Of the index, which knows where the images are.
    neighbours : iterable of Neighbour
    """

    shown_as = "neighbours"

    def __init__(self, catalogue: Catalogue, neighbours: Iterable[Neighbour]) -> None:
        super().__init__(neighbours)
        self.catalogue = catalogue

    def __reduce__(self) -> tuple[type[list[Neighbour]], tuple[list[Neighbour]]]:
        """Pickle and copy as a plain list: an answer does not take the whole catalogue along."""
        return list, (list(self),)


class SearchResults(list[Neighbours], Shown):
    """The answers to several queries, in their order."""

    shown_as = "results"


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """An index in short.

    Attributes
    ----------
    kind : str
        ``"exact"`` or ``"approximate"``.
    structure : str
        FAISS's name of what proposes candidates; ``"Flat"`` for exact search.
    metric, layer, model, source : str
        Measure; layer and network of the features; where the (first) images came from.
    sources : tuple of str
        All folders, lists or archives that images came from.
    images, dimension : int
        Number of vectors, and their length.
    removed : int
        Vectors that were removed and still take room; compacting drops them.
    excluded : int
        Images that were removed by hand, which adding leaves out.
    labelled : int
        Number of images with a label.
    left_out : LeftOut
        Rows of the stores that are not in the index.
    effort, candidates : int
        nprobe or efSearch, and how many proposals are compared exactly in a search for ten.
    tuning : Tuning, optional
        What was measured as the index was built.
    whitening : dict, optional
        Dimension, number of images learnt from, share of variance kept, SHA-256.
    augmented : str
        Database-side augmentation, as ``"10:3"``; empty for none.
    bytes : int
        Of all its files.
    seconds : float
        Time that building took.
    """

    kind: str
    structure: str
    metric: Metric
    layer: str
    model: str
    source: str
    sources: tuple[str, ...]
    images: int
    dimension: int
    removed: int
    excluded: int
    labelled: int
    left_out: LeftOut
    effort: int
    candidates: int
    tuning: Tuning | None
    whitening: dict[str, Any] | None
    augmented: str
    bytes: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AddReport:
    """What adding a store changed.

    Attributes
    ----------
    added, replaced, unchanged : int
        Images that are new, that replace what they were before, and that were in the
        index already.
    left_out : LeftOut
        Rows of the store that are not in the index.
    gone : int
        Images that were in the index, and have left the store's sources or moved to another path.
    excluded : int
        Images of the store that were removed from the index by hand, and stay out.
    """

    added: int
    replaced: int
    unchanged: int
    left_out: LeftOut
    gone: int = 0
    excluded: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)
