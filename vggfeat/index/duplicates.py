"""Which images of an index are nearly the same: a threshold of its own, and groups by it.

Two images count as near-identical where they are much nearer to one another than an image usually
is to the nearest that differs from it. How near that is depends on layer, network and collection,
so it is read off the index itself, see :func:`calibrated`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SearchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vggfeat.index.building import Progress
    from vggfeat.index.comparing import Integers, Vectors
    from vggfeat.index.similarity import SimilarityIndex

SHARE = 0.25
"""Near-identical is what is so much of the usual distance away, or less."""
COPIES = 16
"""Neighbours of each image that calibration looks at: so many copies it can tell from others."""
LOOKED_AT = 2048
"""Images that calibration looks at, spread evenly over the index."""

_LEAST = 1e-6  # distance that the rounding of float32 alone may make of equal vectors
_BLOCK = 256  # images asked at a time
_PAIRS = 1 << 20  # pairs kept before they are reduced to groups

Floats = npt.NDArray[np.float64]


def _silent(_stage: str, _done: int, _total: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Threshold:
    """From which score on two images count as near-identical.

    Attributes
    ----------
    score : float
        Least cosine in -1..1, or greatest Euclidean distance.
    typical : float
        Median score of an image and the nearest that differs from it; NaN where the threshold was
        given.
    images : int
        How many images that median is of; 0 where the threshold was given.
    """

    score: float
    typical: float = math.nan
    images: int = 0

    @property
    def calibrated(self) -> bool:
        """Whether it was found in the index, not given."""
        return self.images > 0

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        typical = None if math.isnan(self.typical) else self.typical
        return {
            "score": self.score,
            "calibrated": self.calibrated,
            "typical": typical,
            "images": self.images,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Images that are tied to one another by near-identical pairs.

    Attributes
    ----------
    places : ndarray of int64, shape (m,)
        Numbers of the images in the index, ascending.
    least : float
        Score of the two that are least alike. A group may be a chain: where this misses the
        threshold, its ends are tied by images between them alone.
    """

    places: Integers
    least: float


def calibrated(
    index: SimilarityIndex, share: float = SHARE, progress: Progress = _silent
) -> Threshold:
    """Read off an index from where on its images count as near-identical.

    The threshold is `share` times the median, over images, of the distance to the nearest image
    that is no copy; distances are 1 - cosine, or squared Euclidean distances. For that median,
    copies are what is within `share` times the median distance of the :data:`COPIES`-th
    neighbours, which are others though most images have copies. An index of fewer than about a
    hundred images tells little of what is usual.

    Parameters
    ----------
    index : SimilarityIndex
        By cosine or Euclidean distance.
    share : float
        In 0..1.
    progress : callable
        Told the stage, how many more images are done, and how many there are.

    Raises
    ------
    SearchError
        The index is by inner product or augmented, or has fewer than two images.
    """
    check(index)
    alive = index.alive
    if len(alive) < 2:
        raise SearchError("An index of fewer than two images has no duplicates to look for.")
    spread = np.linspace(0, len(alive) - 1, min(LOOKED_AT, len(alive))).astype(np.int64)
    looked_at = alive[spread]
    k = min(COPIES + 1, len(alive))
    parts = []
    for block in _blocks(looked_at):
        places, scores = index.nearest(index.vectors[block], k, prepared=True)
        parts.append(_without_itself(block, places, _distances(index, scores)))
        progress("Calibrating", len(block), len(looked_at))
    near = np.concatenate(parts)
    surely_copies = share * float(np.median(near[:, -1]))
    others = near > surely_copies
    others[:, -1] = True
    typical = float(np.median(near[np.arange(len(near)), others.argmax(axis=1)]))
    return Threshold(
        _score(index, max(share * typical, _LEAST)), _score(index, typical), len(looked_at)
    )


def groups(index: SimilarityIndex, threshold: float, progress: Progress = _silent) -> list[Group]:
    """Find the connected components of near-identical pairs.

    All images are searched for, block by block, and pairs are reduced to groups as they come, so
    that memory does not grow with their number. An approximate index finds what its recall allows.

    Parameters
    ----------
    index : SimilarityIndex
        By cosine or Euclidean distance.
    threshold : float
        Least cosine, or greatest distance, of a pair.
    progress : callable
        See :func:`calibrated`.

    Returns
    -------
    list of Group
        Of two or more images each, by their first places.

    Raises
    ------
    SearchError
        The index is by inner product or augmented.
    """
    check(index)
    alive = index.alive
    label = np.arange(len(index.vectors))
    left: list[Integers] = []
    right: list[Integers] = []
    waiting = 0
    for block in _blocks(alive):
        found = index.range_search(index.vectors[block], threshold, prepared=True)
        for place, (places, _) in zip(block.tolist(), found, strict=True):
            left.append(np.full(len(places), place))
            right.append(places)
            waiting += len(places)
        if waiting > _PAIRS:
            label, waiting = joined(label, np.concatenate(left), np.concatenate(right)), 0
            left, right = [], []
        progress("Comparing", len(block), len(alive))
    if left:
        label = joined(label, np.concatenate(left), np.concatenate(right))
    return [Group(places, least(index, places)) for places in _gathered(label, alive)]


def joined(label: Integers, left: Integers, right: Integers) -> Integers:
    """Unite groups by pairs of their members.

    Parameters
    ----------
    label : ndarray of int64, shape (n,)
        A group's number for each image.
    left, right : ndarray of int64, shape (p,)
        Images of pairs.

    Returns
    -------
    ndarray of int64, shape (n,)
        New numbers, equal where the old ones were or where pairs lead from one to the other.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = int(label.max(initial=-1)) + 1
    pairs = coo_array((np.ones(len(left), np.int8), (label[left], label[right])), (count, count))
    _, component = connected_components(pairs, directed=False)
    return np.asarray(component[label], np.int64)


def similarities(index: SimilarityIndex, place: int, places: Integers) -> Floats:
    """Return the scores of one image of an index and several others, float64, shape (m,)."""
    (scores,) = _scores(index, index.vectors[[place]], index.vectors[places])
    return np.asarray(scores)


def least(index: SimilarityIndex, places: Integers) -> float:
    """Return the score of the two of some images that are least alike."""
    vectors = index.vectors[places]
    worst, extreme = (max, np.max) if index.metric == "l2" else (min, np.min)
    return worst(
        float(extreme(_scores(index, vectors[block], vectors)))
        for block in _blocks(np.arange(len(places)))
    )


def near_enough(index: SimilarityIndex, score: Any, threshold: float) -> Any:
    """Say whether a score, or each of an array of them, reaches the threshold."""
    exact = np.float32(score)  # as the search compares
    return (
        exact <= np.float32(threshold) if index.metric == "l2" else exact >= np.float32(threshold)
    )


def check(index: SimilarityIndex) -> None:
    """Refuse indexes whose scores cannot say that two images are the same.

    Raises
    ------
    SearchError
        The index is by inner product, or augmented.
    """
    if index.metric == "ip":
        raise SearchError(
            "Inner products cannot say that two images are the same: what is larger is not nearer. "
            "Build an index with --metric cosine."
        )
    if index.catalogue.settings.augmented:
        raise SearchError(
            "This index is augmented: its vectors are averages of images that are alike, not of "
            "one image. Build one without --augment."
        )


def _blocks(places: Integers) -> Iterator[Integers]:
    for start in range(0, len(places), _BLOCK):
        yield places[start : start + _BLOCK]


def _without_itself(block: Integers, places: Integers, distances: Floats) -> Floats:
    """Drop each image from its own neighbours, or the farthest where it is not among them."""
    own = places == block[:, None]
    own[:, -1] |= ~own.any(axis=1)
    return np.asarray(distances[~own]).reshape(len(block), -1)  # (b, k) -> (b, k - 1)


def _distances(index: SimilarityIndex, scores: Vectors) -> Floats:
    wide = scores.astype(np.float64)
    return wide**2 if index.metric == "l2" else np.maximum(1 - wide, 0)


def _score(index: SimilarityIndex, distance: float) -> float:
    return math.sqrt(distance) if index.metric == "l2" else 1 - distance


def _scores(index: SimilarityIndex, a: Vectors, b: Vectors) -> Floats:
    products = a.astype(np.float64) @ b.astype(np.float64).T
    if index.metric == "cosine":
        return np.asarray(np.minimum(products, 1))
    squares = (a.astype(np.float64) ** 2).sum(1)[:, None] + (b.astype(np.float64) ** 2).sum(1)
    return np.asarray(np.sqrt(np.maximum(squares - 2 * products, 0)))


def _gathered(label: Integers, alive: Integers) -> list[Integers]:
    """Return the members of each group of two or more, groups by their first members."""
    own = label[alive]
    order = np.argsort(own, kind="stable")
    starts = np.flatnonzero(np.diff(own[order], prepend=-1))
    members = [part for part in np.split(alive[order], starts[1:]) if len(part) > 1]
    return sorted(members, key=lambda places: int(places[0]))
