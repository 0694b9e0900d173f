"""Features in memory: what a call of an extractor gives, and the sink that fills it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggfeat.errors import ImageError
from vggfeat.extract.stream import Batch, Failure


class Features(dict[str, NDArray[Any]]):
    """Canonical layer names to features, one row an image.

    Attributes
    ----------
    failures : dict of int to str
        Why the images at these positions have no features; their rows are NaN. Empty where every
        image could be used.
    """

    def __init__(
        self, features: Mapping[str, NDArray[Any]], failures: Mapping[int, str] | None = None
    ) -> None:
        super().__init__(features)
        self.failures = dict(failures or {})


class MemorySink:
    """Keeps the features of images in memory, by position.

    Parameters
    ----------
    images : sequence
        What they are of; paths are named in errors.
    shapes : dict of str to tuple of int
        One row's shape by layer.
    dtype : str
        Type of the features.
    stop : bool
        Whether the first failure raises.
    """

    def __init__(
        self,
        images: Sequence[Any],
        shapes: Mapping[str, tuple[int, ...]],
        dtype: str,
        *,
        stop: bool,
    ) -> None:
        self._images, self._stop = images, stop
        self.features = Features(
            {name: np.full((len(images), *shape), np.nan, dtype) for name, shape in shapes.items()}
        )

    def write(self, batch: Batch[int]) -> None:
        """Keep a batch's rows."""
        for name, array in batch.arrays().items():
            self.features[name][list(batch.items)] = array

    def fail(self, failure: Failure[int]) -> None:
        """Note why an image has no features, or raise `ImageError`, which names it."""
        if self._stop:
            image = self._images[failure.item]
            named = isinstance(image, str | os.PathLike)
            which = os.fspath(image) if named else f"image {failure.item}"
            raise ImageError(f"{which}: {failure.reason}")
        self.features.failures[failure.item] = failure.reason
