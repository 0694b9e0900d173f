"""The path of every image: decoded in threads ahead of the network, run, and put into a sink."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

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

WAITING = 24
"""Threads by default for images that come over a network, for which most of them wait."""

_WINDOW_BYTES = 1 << 28
"""Network inputs that wait for others to run with; large ones do not wait for many."""

Inputs = list[NDArray[np.uint8]]

Load = Callable[[Item], AbstractContextManager[Image.Image]]
"""Opens the RGB image that an item stands for; whatever it raises is that item's failure alone."""


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

    def to_json(self, kind: str) -> dict[str, Any]:
        """Return JSON-ready values; `kind` says what the item is, as ``"image"``."""
        return {kind: self.item, "error": self.reason}


class Sink(Protocol[Item]):
    """Where results go: memory, or the rows of a store."""

    def write(self, batch: Batch[Item], /) -> None:
        """Take a batch's features."""

    def fail(self, failure: Failure[Item], /) -> None:
        """Take note of an item without features, or raise to end the run."""


def drain(results: Generator[Batch[Item] | Failure[Item], None, None], sink: Sink[Item]) -> None:
    """Put all results of a stream into a sink; where that raises, the stream is closed."""
    with closing(results):
        for result in results:
            if isinstance(result, Failure):
                sink.fail(result)
            else:
                sink.write(result)


def stream(
    items: Sequence[Item],
    load: Load[Item],
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
        features = network.features_with_oom_retry(
            [array for each in inputs for array in each], flip=view.flip, dense=view.dense
        )
        return Batch(done, {name: view.combined(rows) for name, rows in features.items()})

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
