"""Images that are on both sides of a division: the commonest error of the trade.

A score on images that a classifier has learnt from, cut or saved anew, says nothing. Copies are
found by their bytes, and by features that are nearer than those of different images usually are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.solver.rows import Positions, Reader, Rows

SHARE = 0.25
"""Of what is usual: nearer images are near-identical, as for :mod:`vggfeat.duplicates`."""

_USUAL = 10  # the neighbour that is another image, though most images have copies
_MOST_WORK = 2e12  # multiply-adds, about 20 s of two cores; then some test images are looked at
_CELLS = 1 << 24  # of distances held at once
_LEAST = 1e-5  # cosine distances below are rounding


@dataclass(frozen=True, slots=True)
class Leak:
    """How many test images are in training, too.

    Attributes
    ----------
    same_bytes : int
        Test images, of all, whose file is, byte for byte, that of a training image.
    near_identical : int
        Of those whose features were compared, how many are nearer to a training image's than
        :attr:`cosine`, or the same file.
    cosine : float
        Similarity from which on features count as near-identical.
    looked_at : int
        Test images whose features were compared: all, or some where there are very many.
    tested : int
        Test images.
    pairs : tuple of (str, str)
        Some of them with the training image, the nearest first.
    """

    same_bytes: int
    near_identical: int
    cosine: float
    looked_at: int
    tested: int
    pairs: tuple[tuple[str, str], ...]

    @property
    def found(self) -> bool:
        """Whether there is any such image."""
        return bool(self.near_identical or self.same_bytes)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "same_bytes": self.same_bytes,
            "near_identical": self.near_identical,
            "cosine": self.cosine,
            "looked_at": self.looked_at,
            "tested": self.tested,
            "pairs": [list(pair) for pair in self.pairs],
        }


def find_leak(
    train: Reader,
    test: Reader,
    train_images: tuple[npt.NDArray[np.object_], npt.NDArray[np.uint8]],
    test_images: tuple[npt.NDArray[np.object_], npt.NDArray[np.uint8]],
    *,
    shown: int = 5,
) -> Leak:
    """Look for test images that training has, too.

    Parameters
    ----------
    train, test : Reader of shape (n, d), (m, d)
        Features.
    train_images, test_images : pair of ndarray
        Paths (n,) and digests of files (n, 16), zeros where unknown, in the same order.
    shown : int
        Most pairs to return.

    Notes
    -----
    Near-identical is what is within :data:`SHARE` times the median distance (1 - cosine) of a test
    image to the nearest training image that is no copy. For that median, copies are what is within
    the same share of the median distance to the 10th neighbour.
    """
    n, m, d = train.shape[0], test.shape[0], train.shape[1]
    count = int(min(m, max(1000, _MOST_WORK / (n * d))))
    chosen = np.linspace(0, m - 1, count).round().astype(np.int64)
    near, nearest = _nearest(train, test, chosen, min(_USUAL, n))
    surely = SHARE * float(np.median(near[:, -1]))
    others = near > surely
    others[:, -1] = True
    typical = float(np.median(near[np.arange(len(near)), others.argmax(axis=1)]))
    threshold = max(SHARE * typical, _LEAST)
    twins = _same_bytes(train_images[1], test_images[1])
    close = {int(chosen[at]): int(nearest[at]) for at in np.flatnonzero(near[:, 0] <= threshold)}
    order = sorted(close, key=lambda at: (at not in twins, near[np.searchsorted(chosen, at), 0]))
    both = twins | {at: twins.get(at, other) for at, other in close.items()}
    first = [*[at for at in twins if at not in close], *order][:shown]
    return Leak(
        same_bytes=len(twins),
        near_identical=sum(at in both for at in chosen.tolist()),
        cosine=1 - threshold,
        looked_at=count,
        tested=m,
        pairs=tuple((str(test_images[0][at]), str(train_images[0][both[at]])) for at in first),
    )


def _nearest(
    train: Reader, test: Reader, chosen: Positions, k: int
) -> tuple[npt.NDArray[np.float64], Positions]:
    """Return each test row's k smallest cosine distances, ascending, and whose the first is."""
    best = np.full((len(chosen), k), 2.0, np.float32)
    whose = np.zeros(len(chosen), np.int64)
    queries = Rows(test, normalize=True).take(chosen, np.float32)
    for where, block in Rows(train, normalize=True).blocks(np.float32):
        step = max(1, _CELLS // len(block))
        for first in range(0, len(chosen), step):
            part = slice(first, first + step)
            distances = 1 - queries[part] @ block.T
            at = distances.argmin(axis=1)
            closer = distances[np.arange(len(at)), at] < best[part, 0]
            whose[part][closer] = where.start + at[closer]
            together = np.concatenate([best[part], distances], axis=1)
            best[part] = np.sort(np.partition(together, k - 1, axis=1)[:, :k], axis=1)
    return np.maximum(best, 0).astype(np.float64), whose


def _same_bytes(train: npt.NDArray[np.uint8], test: npt.NDArray[np.uint8]) -> dict[int, int]:
    """Return which test rows' files are those of training rows."""
    known = {digest.tobytes(): at for at, digest in enumerate(train) if digest.any()}
    pairs = ((at, known.get(digest.tobytes())) for at, digest in enumerate(test) if digest.any())
    return {at: other for at, other in pairs if other is not None}
