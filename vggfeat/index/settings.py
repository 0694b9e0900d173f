"""What a catalogue says of an index as a whole: what is in it, how it searches, its files."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from operator import add
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many rows of the stores are not in the index, and why.

    Attributes
    ----------
    not_done : int
        Pending or failed.
    not_finite : int
        With NaN or infinite values.
    zero : int
        All zeros, which have no cosine; 0 with other measures.
    """

    not_done: int = 0
    not_finite: int = 0
    zero: int = 0

    def __add__(self, other: LeftOut) -> LeftOut:
        return LeftOut(*map(add, astuple(self), astuple(other)))


@dataclass(frozen=True, slots=True)
class Measured:
    """What a setting of the search was found to be worth.

    Attributes
    ----------
    recall : float
        Share of the `k` nearest vectors, by exact search, that were found; in 0..1.
    error : float
        Standard error of `recall` over the queries.
    seconds : float
        Median time of one query alone.
    effort : int
        Lists or nodes visited: nprobe or efSearch; 0 where a kind has neither.
    candidates : int
        How many proposals of FAISS were compared exactly.
    """

    recall: float
    error: float
    seconds: float
    effort: int
    candidates: int


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the setting of an approximate search was chosen.

    Attributes
    ----------
    asked : float
        The recall to reach.
    k, queries : int
        Neighbours and held-out queries it was measured with.
    chosen : int
        Which of `tried` was chosen.
    tried : tuple of Measured
        Settings that were timed.
    """

    asked: float
    k: int
    queries: int
    chosen: int
    tried: tuple[Measured, ...]

    @property
    def setting(self) -> Measured:
        """The setting that was chosen."""
        return self.tried[self.chosen]


@dataclass(frozen=True, slots=True)
class Settings:
    """How an index searches.

    Attributes
    ----------
    factory : str
        FAISS's name of the structure; ``"Flat"`` for exact search, which needs none.
    effort : int
        nprobe or efSearch, by the structure.
    candidates : int
        How many proposals are compared exactly in a search for ten.
    tuning : Tuning, optional
        Where effort and candidates were chosen by measuring.
    seconds : float
        Time that building took.
    augmented : str
        Database-side augmentation, as ``"10:3"``; empty for none.
    """

    factory: str = "Flat"
    effort: int = 0
    candidates: int = 0
    tuning: Tuning | None = None
    seconds: float = 0.0
    augmented: str = ""


@dataclass(frozen=True, slots=True)
class Files:
    """The files that belong to an index.

    Attributes
    ----------
    vectors : str
        Name of the file of vectors.
    dimension : int
        Numbers d of a vector there.
    parts : tuple of (int, int)
        How many vectors were written at a time, and their CRC-32.
    faiss : str
        Name of FAISS's file; empty for exact search.
    faiss_size, faiss_crc32 : int
        Its size in bytes and CRC-32.
    """

    vectors: str
    dimension: int
    parts: tuple[tuple[int, int], ...]
    faiss: str = ""
    faiss_size: int = 0
    faiss_crc32: int = 0

    @property
    def count(self) -> int:
        """Number of vectors."""
        return sum(count for count, _ in self.parts)


def settings_of(data: Mapping[str, Any]) -> Settings:
    """Rebuild settings from JSON."""
    tuning = data["tuning"]
    if tuning is not None:
        tried = tuple(Measured(**one) for one in tuning["tried"])
        tuning = Tuning(**{**tuning, "tried": tried})
    return Settings(**{**data, "tuning": tuning})
