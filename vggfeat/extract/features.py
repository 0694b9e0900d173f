"""Features in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray


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
