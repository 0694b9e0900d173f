"""Where training gets its inputs: maps from the cache, or images through the frozen layers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vggfeat.extract import FeatureExtractor
from vggfeat.extract.storing import open_entry
from vggfeat.feature_table import FeatureTable
from vggfeat.finetuning.order import Order, Piece, Positions
from vggfeat.pipeline import prefetch
from vggfeat.sources import Entry, Source
from vggfeat.views.drawn import DrawnView

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats = npt.NDArray[np.floating]

_AT_ONCE = 32  # images that run through the frozen layers together
_HELD = 1 << 29  # bytes of maps that are shuffled together


class Feed(Protocol):
    """Gives images, by position and variant, as the first trained layer takes them."""

    @property
    def held(self) -> int:
        """Images that may be read together."""

    def read(self, positions: Positions, variants: Positions) -> Floats:
        """Return inputs (n, ...) of images, in this order."""


@dataclass(frozen=True, eq=False)
class CachedFeed:
    """Maps from a folder of stores.

    Attributes
    ----------
    tables : sequence of FeatureTable
        The store of each variant, the plain one first.
    columns : sequence of str
        What the maps are called in each.
    rows : sequence of ndarray of int64, shape (n,)
        The row of each image in each.
    shape : tuple of int
        Of one image's map.
    """

    tables: Sequence[FeatureTable]
    columns: Sequence[str]
    rows: Sequence[Positions]
    shape: tuple[int, ...]

    @property
    def held(self) -> int:
        """Images whose maps are shuffled together: half a gigabyte of them."""
        return max(1, _HELD // (2 * int(np.prod(self.shape))))

    def read(self, positions: Positions, variants: Positions) -> Floats:
        """Return maps as the stores have them, in float16."""
        maps = np.empty((len(positions), *self.shape), np.float16)
        for variant in np.unique(variants).tolist():
            table, where = self.tables[variant], np.flatnonzero(variants == variant)
            rows = self.rows[variant][positions[where]]
            order = np.argsort(rows, kind="stable")
            for part in np.array_split(order, max(1, len(order) // _AT_ONCE)):
                block = np.empty((len(part), int(np.prod(self.shape))), np.float32)
                table.read_rows(self.columns[variant], rows[part], block)
                maps[where[part]] = block.reshape(-1, *self.shape)
        return maps


@dataclass(frozen=True, eq=False)
class ImageFeed:
    """Images that are decoded and run through the frozen layers each time.

    What comes of the frozen layers is rounded to float16 as the cache does it, so that both train
    alike to the last bit; pixels are not.

    Attributes
    ----------
    extractor : FeatureExtractor
        Gives the network, and how images are read.
    source : Source
        Where they are.
    paths : sequence of str
        The path of each image.
    view : callable
        The view of a variant.
    before : str
        Canonical name of the layer before the first trained one; empty where that is the first.
    """

    extractor: FeatureExtractor
    source: Source
    paths: Sequence[str]
    view: Callable[[int], DrawnView]
    before: str
    held: int = _AT_ONCE * 8

    def read(self, positions: Positions, variants: Positions) -> Floats:
        """Return maps in float16, or the pixels, normalised, in float32."""
        network = self.extractor.network
        chosen = list(zip(positions.tolist(), variants.tolist(), strict=True))
        parts: list[Floats] = []
        waiting: list[NDArray[np.uint8]] = []

        def run() -> None:
            x = network.normalised(waiting)
            waiting.clear()
            if self.before:
                x = network.activations(x, [self.before])[self.before].half()
            parts.append(x.cpu().contiguous().numpy())

        decoded = prefetch(self._pixels, chosen, workers=self.workers, ahead=2 * _AT_ONCE)
        with closing(decoded) as images:
            for pixels in images:
                waiting.append(pixels)
                if len(waiting) == _AT_ONCE:
                    run()
        if waiting:
            run()
        return np.concatenate(parts)

    @property
    def workers(self) -> int:
        """Threads that decode."""
        from vggfeat.processors import usable_cores

        return self.extractor.workers or min(8, usable_cores())

    def _pixels(self, one: tuple[int, int]) -> NDArray[np.uint8]:
        position, variant = one
        entry = self._entries[self.paths[position]]
        with open_entry(self.source, entry, self.extractor.reading) as image:
            (pixels,) = self.view(variant).inputs(image, self.extractor.network.preprocessing)
        return pixels

    @functools.cached_property
    def _entries(self) -> Mapping[str, Entry]:
        return {entry.path: entry for entry in self.source.entries}


def batches(
    feed: Feed, order: Order, epoch: int, batch_size: int, skip: int = 0
) -> Iterator[tuple[Positions, Tensor]]:
    """Yield an epoch's steps: positions of images, and their inputs in float32 on the CPU.

    The next images are read by a thread while a step runs.

    Parameters
    ----------
    feed : Feed
    order : Order
    epoch : int
        From 0 on.
    batch_size : int
    skip : int
        Steps that are done already; their images are not read.
    """
    sizes = order.sizes(batch_size)
    left = sum(sizes[:skip])
    pieces: list[Piece] = []
    for piece in order.pieces(epoch):
        pieces += _cut(piece, feed.held)
    chosen = []
    for piece in pieces:
        gone = min(left, len(piece.positions))
        left -= gone
        if gone < len(piece.positions):
            chosen.append(Piece(piece.positions[gone:], piece.variants[gone:]))

    def read(piece: Piece) -> tuple[Positions, Floats]:
        return piece.positions, feed.read(piece.positions, piece.variants)

    step, positions, inputs = skip, np.empty(0, np.int64), None
    with closing(prefetch(read, chosen, workers=1, ahead=1)) as results:
        for more, maps in results:
            positions = np.concatenate([positions, more])
            inputs = maps if inputs is None or not len(inputs) else np.concatenate([inputs, maps])
            while step < len(sizes) and len(positions) >= sizes[step]:
                size = sizes[step]
                yield positions[:size], torch.from_numpy(inputs[:size]).float()
                positions, inputs = positions[size:], inputs[size:]
                step += 1


def _cut(piece: Piece, most: int) -> list[Piece]:
    """Cut a piece where more is read together than may be."""
    return [
        Piece(piece.positions[at : at + most], piece.variants[at : at + most])
        for at in range(0, len(piece.positions), most)
    ]
