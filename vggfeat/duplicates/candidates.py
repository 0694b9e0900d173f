"""Which images of an index may be copies of one another, by a threshold of its own.

Two images count as near-identical where they are much nearer to one another than an image usually
is to the nearest that differs from it. How near that is depends on layer, network and collection,
so it is read off the index itself, see :func:`calibrated`. Whether they are copies, their pixels
say: :mod:`~vggfeat.duplicates.verifying`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SearchError
from vggfeat.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vggfeat.index.preparing import Integers, Vectors
    from vggfeat.index.similarity import SimilarityIndex

SHARE = 0.25
"""Near-identical is what is so much of the usual distance away, or less."""
COPIES = 16
"""Neighbours of each image that calibration looks at: so many copies it can tell from others."""
LOOKED_AT = 2048
"""Images that calibration looks at, spread evenly over the index."""

_LEAST = 1e-6  # distance that the rounding of float32 alone may make of equal vectors
_BLOCK = 256  # images searched for at a time

Floats = npt.NDArray[np.float64]


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


def calibrated(
    index: SimilarityIndex, share: float = SHARE, progress: Progress = silent
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
    alive = index.ids
    if len(alive) < 2:
        raise SearchError("An index of fewer than two images has no duplicates to look for.")
    spread = np.linspace(0, len(alive) - 1, min(LOOKED_AT, len(alive))).astype(np.int64)
    looked_at = alive[spread]
    k = min(COPIES + 1, len(alive))
    parts = []
    for block in _blocks(looked_at):
        ids, scores = index.nearest(index.vectors[block], k, prepared=True)
        parts.append(_without_itself(block, ids, _distances(index, scores)))
        progress("Calibrating", len(block), len(looked_at))
    near = np.concatenate(parts)
    surely_copies = share * float(np.median(near[:, -1]))
    others = near > surely_copies
    others[:, -1] = True
    typical = float(np.median(near[np.arange(len(near)), others.argmax(axis=1)]))
    return Threshold(
        _score(index, max(share * typical, _LEAST)), _score(index, typical), len(looked_at)
    )


def near(
    index: SimilarityIndex, threshold: float, most: int, progress: Progress = silent
) -> tuple[dict[int, list[int]], int]:
    """Find, for each image, the others that are near-identical to it.

    All images are searched for, block by block. An approximate index finds what its recall allows.

    Parameters
    ----------
    index : SimilarityIndex
        By cosine or Euclidean distance.
    threshold : float
        Least cosine, or greatest distance, of a pair.
    most : int
        How many are returned for an image, the nearest.
    progress : callable
        See :func:`calibrated`.

    Returns
    -------
    dict of int to list of int
        For each image that has any: the others, the nearest first; of equally near ones that with
        the lower number.
    int
        Pairs (each counted once for either of its two images) that were left out for `most`.

    Raises
    ------
    SearchError
        The index is by inner product or augmented.
    """
    check(index)
    alive = index.ids
    neighbours: dict[int, list[int]] = {}
    left_out = 0
    for block in _blocks(alive):
        answers = index.range_search(index.vectors[block], threshold, prepared=True)
        for image_id, (ids, _) in zip(block.tolist(), answers, strict=True):
            others = ids[ids != image_id]
            left_out += max(0, len(others) - most)
            if len(others):
                neighbours[image_id] = others[:most].tolist()
        progress("Comparing", len(block), len(alive))
    return neighbours, left_out


def similarities(index: SimilarityIndex, image_id: int, ids: Integers) -> Floats:
    """Return the scores of one image of an index and several others, float64, shape (m,)."""
    (scores,) = _scores(index, index.vectors[[image_id]], index.vectors[ids])
    return np.asarray(scores)


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


def _blocks(ids: Integers) -> Iterator[Integers]:
    for start in range(0, len(ids), _BLOCK):
        yield ids[start : start + _BLOCK]


def _without_itself(block: Integers, ids: Integers, distances: Floats) -> Floats:
    """Drop each image from its own neighbours, or the farthest where it is not among them."""
    itself = ids == block[:, None]
    itself[:, -1] |= ~itself.any(axis=1)
    return np.asarray(distances[~itself]).reshape(len(block), -1)  # (b, k) -> (b, k - 1)


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
