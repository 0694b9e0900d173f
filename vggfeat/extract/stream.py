"""Images through decoding, in threads ahead of the network, and through the network."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggfeat.errors import VggfeatError
from vggfeat.pipeline import prefetch
from vggfeat.views import View

if TYPE_CHECKING:
    from torch import Tensor

    from vggfeat.network import Network

Item = TypeVar("Item")

_WINDOW_BYTES = 1 << 28
"""Network inputs that wait for others to run with; large ones do not wait for many."""

Inputs = list[NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Batch(Generic[Item]):
    """Items that went through the network together, and their float32 features (n, ...)."""

    items: tuple[Item, ...]
    features: dict[str, Tensor]

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the features on the CPU, waiting for a GPU to end."""
        return {name: tensor.cpu().numpy() for name, tensor in self.features.items()}


@dataclass(frozen=True, slots=True)
class Failure(Generic[Item]):
    """An item whose image could not be used, and why."""

    item: Item
    reason: str


def stream(
    items: Sequence[Item],
    load: Callable[[Item], AbstractContextManager[Image.Image]],
    network: Network,
    *,
    view: View,
    batch_size: int,
    workers: int,
) -> Generator[Batch[Item] | Failure[Item], None, None]:
    """Do what :meth:`FeatureExtractor.stream` says, with a network that is there."""

    def prepare(item: Item) -> tuple[Item, Inputs | str]:
        try:
            with load(item) as image:
                return item, view.inputs(image, network.preprocessing)
        except Exception as error:  # whatever it is, a job never dies of one image
            return item, _reason(error)

    waiting: list[tuple[Item, Inputs]] = []

    def run() -> Batch[Item]:
        done, inputs = zip(*waiting, strict=True)
        waiting.clear()
        found = network.features_with_retreat(
            [array for own in inputs for array in own], flip=view.flip, dense=view.dense
        )
        return Batch(done, {name: view.combined(rows) for name, rows in found.items()})

    ahead = batch_size + workers
    size = 0
    with closing(prefetch(prepare, items, workers=workers, ahead=ahead)) as prepared:
        for item, inputs in prepared:
            if isinstance(inputs, str):
                yield Failure(item, inputs)
                continue
            waiting.append((item, inputs))
            size += sum(array.nbytes for array in inputs)
            if len(waiting) == batch_size or size >= _WINDOW_BYTES:
                yield run()
                size = 0
    if waiting:
        yield run()


def _reason(error: Exception) -> str:
    known = isinstance(error, VggfeatError | OSError)
    return (str(error) if known else "") or f"{type(error).__name__}: {error}"
