"""In which order training sees images, and as which of their views.

An epoch sees every image once. Images are taken in blocks of neighbours in the store, so that disks
are read in long pieces: blocks are shuffled, as many as memory holds are brought together, and the
images in these are shuffled again. A block's images have one variant an epoch, and go through all
variants before one returns. All of it depends on the seed and the epoch alone, so that a run that
was stopped goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]

BLOCK = 16
"""Images that are neighbours in the store, and stay together."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Images that are read together, and the order in which they are used.

    Attributes
    ----------
    positions, variants : ndarray of int64, shape (n,)
        Training images by their position, and the view of each; in the order of use.
    """

    positions: Positions
    variants: Positions


@dataclass(frozen=True, slots=True)
class Order:
    """The order of all epochs.

    Attributes
    ----------
    images : int
        Training images.
    views : int
        Views of each, the plain one among them.
    held : int
        Images that memory holds at once.
    seed : int
    """

    images: int
    views: int
    held: int
    seed: int

    def pieces(self, epoch: int) -> Iterator[Piece]:
        """Yield what is read together, epochs being counted from 0."""
        draw = np.random.default_rng([self.seed, 1, epoch])
        blocks = np.array_split(np.arange(self.images), max(1, round(self.images / BLOCK)))
        together = max(1, self.held // BLOCK)
        variants = self._variants(epoch, len(blocks))
        order = draw.permutation(len(blocks))
        for first in range(0, len(blocks), together):
            chosen = order[first : first + together]
            positions = np.concatenate([blocks[at] for at in chosen])
            variant = np.concatenate([np.full(len(blocks[at]), variants[at]) for at in chosen])
            shuffled = draw.permutation(len(positions))
            yield Piece(positions[shuffled], variant[shuffled])

    def _variants(self, epoch: int, blocks: int) -> Positions:
        """Return the variant of each block: those of one cycle are a permutation of all."""
        cycle, at = divmod(epoch, self.views)
        draw = np.random.default_rng([self.seed, 2, cycle])
        return np.array([draw.permutation(self.views)[at] for _ in range(blocks)], np.int64)

    def sizes(self, batch_size: int) -> list[int]:
        """Return how many images each step of an epoch has: nearly equal numbers."""
        steps = -(-self.images // batch_size)
        return [len(part) for part in np.array_split(np.arange(self.images), steps)]
