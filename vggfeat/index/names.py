"""Many paths or labels in little memory: bytes one behind the other, and where each one ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """Texts, decoded when they are asked for.

    Attributes
    ----------
    bytes : ndarray of uint8
        UTF-8, one text directly behind the other.
    ends : ndarray of int64, shape (n,)
        Where each one ends.
    """

    bytes: npt.NDArray[np.uint8]
    ends: npt.NDArray[np.int64]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Keep some texts."""
        encoded = [text.encode() for text in texts]
        ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, place: int) -> str:
        start = int(self.ends[place - 1]) if place else 0
        return self.bytes[start : int(self.ends[place])].tobytes().decode()

    def several(self, places: npt.NDArray[np.int64]) -> list[str]:
        """Return those at some places."""
        ends = self.ends[places].tolist()
        starts = np.where(places > 0, self.ends[places - 1], 0).tolist()
        whole = self.bytes.data
        return [str(whole[a:b], "utf-8") for a, b in zip(starts, ends, strict=True)]

    def __iter__(self) -> Iterator[str]:
        whole, start = self.bytes.tobytes(), 0
        for end in self.ends.tolist():
            yield whole[start:end].decode()
            start = end

    def taken(self, places: npt.NDArray[np.int64]) -> Self:
        """Return those at some places, in that order."""
        if len(places) == len(self) and (places == np.arange(len(self))).all():
            return self
        whole = self.bytes.tobytes()
        starts = np.concatenate([[0], self.ends[:-1]])[places] if len(places) else places
        ends = self.ends[places]
        parts = [whole[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
        return type(self)(np.frombuffer(b"".join(parts), np.uint8), np.cumsum(ends - starts))

    def followed_by(self, other: Texts) -> Self:
        """Return these and then those."""
        shift = int(self.ends[-1]) if len(self) else 0
        return type(self)(
            np.concatenate([self.bytes, other.bytes]),
            np.concatenate([self.ends, other.ends + shift]),
        )
