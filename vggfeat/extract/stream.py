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
from vggfeat.views import network_input

if TYPE_CHECKING:
    from torch import Tensor

    from vggfeat.network import Network

Item = TypeVar("Item")


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
    view: str,
    batch_size: int,
    workers: int,
) -> Generator[Batch[Item] | Failure[Item], None, None]:
    """Do what :meth:`FeatureExtractor.stream` says, with a network that is there."""

    def prepare(item: Item) -> tuple[Item, NDArray[np.uint8] | str]:
        try:
            with load(item) as image:
                return item, network_input(image, view, network.preprocessing)
        except Exception as error:  # whatever it is, a job never dies of one image
            return item, _reason(error)

    waiting: list[tuple[Item, NDArray[np.uint8]]] = []

    def run() -> Batch[Item]:
        done, pixels = zip(*waiting, strict=True)
        waiting.clear()
        return Batch(done, network.features_with_retreat(np.stack(pixels)))

    ahead = batch_size + workers
    with closing(prefetch(prepare, items, workers=workers, ahead=ahead)) as prepared:
        for item, pixels in prepared:
            if isinstance(pixels, str):
                yield Failure(item, pixels)
                continue
            waiting.append((item, pixels))
            if len(waiting) == batch_size:
                yield run()
    if waiting:
        yield run()


def _reason(error: Exception) -> str:
    known = isinstance(error, VggfeatError | OSError)
    return (str(error) if known else "") or f"{type(error).__name__}: {error}"
