"""The network's own classes of images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import LayerError, WeightsError
from vggfeat.extract.extractor import FeatureExtractor
from vggfeat.extract.stream import Failure
from vggfeat.weights.categories import categories
from vggfeat.weights.trained_head import trained_head


@dataclass(frozen=True, slots=True)
class Guess:
    """One class that an image may be of.

    Attributes
    ----------
    rank : int
        From 1 on.
    index : int
        Of the unit in the network's last layer.
    name : str
        What the class is called.
    probability : float
        In 0..1.
    """

    rank: int
    index: int
    name: str
    probability: float

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an image is of.

    Attributes
    ----------
    image : str
        Its path, or its place in the sequence.
    guesses : tuple of Guess
        The likeliest classes, in the order of their probability.
    """

    image: str
    guesses: tuple[Guess, ...]

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"image": self.image, "classes": [one.to_json() for one in self.guesses]}


def classify(
    images: Sequence[Any], *, top: int = 5, **settings: Any
) -> Iterator[Answer | Failure[str]]:
    """Name the likeliest of the network's own classes for each image.

    Parameters
    ----------
    images : sequence
        Paths, Pillow images, arrays or tensors, as
        :class:`~vggfeat.extract.FeatureExtractor` takes them.
    top : int
        Classes for each, at least 1.
    **settings
        `model`, `weights`, `preprocessing`, `view`, `batch_size`, `workers`, `device`,
        `precision` and `max_pixels` of :class:`~vggfeat.extract.FeatureExtractor`.

    Yields
    ------
    Answer or Failure
        In the order of the images, but for a failure's coming before its batch.

    Raises
    ------
    LayerError
        `top` is none of the numbers of classes.
    WeightsError
        The weights have no last layer, or one of other classes; or they predict numbers.

    Notes
    -----
    Weights that :func:`vggfeat.finetune` made name their own classes. Where an image may show
    several of these, probabilities do not sum to 1.
    """
    extractor = FeatureExtractor(layers="prob", **settings)
    head = trained_head(extractor.resolved_weights.path)
    if head is not None:
        if head.kind == "numbers":
            raise WeightsError(
                f"{extractor.resolved_weights.path} predicts numbers and names no classes. "
                "`vggfeat predict` tells them."
            )
        extractor = replace(extractor, layers=[head.column])
        names, what = list(head.names), "these weights"
    else:
        names = categories(extractor.resolved_weights, extractor.architecture)
        what = extractor.architecture.name
    if not 1 <= top <= len(names):
        raise LayerError(f"top is {top}; it must be in 1..{len(names)} for {what}.")
    called = [os.fspath(one) if isinstance(one, str | os.PathLike) else "" for one in images]
    for result in extractor.stream(range(len(images)), lambda i: extractor.open_image(images[i])):
        if isinstance(result, Failure):
            yield Failure(called[result.item] or f"image {result.item}", result.reason)
            continue
        (features,) = result.arrays().values()
        rows: npt.NDArray[np.floating] = features if head is None else head.probabilities(features)
        for item, row in zip(result.items, rows, strict=True):
            best = np.argsort(-row, kind="stable")[:top].tolist()
            guesses = (
                Guess(rank, index, names[index], float(row[index]))
                for rank, index in enumerate(best, start=1)
            )
            yield Answer(called[item] or f"image {item}", tuple(guesses))
