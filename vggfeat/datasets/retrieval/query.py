"""A query of a benchmark of image retrieval, and what is to be found for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a benchmark; images are named by path, ``/`` between parts.

    Attributes
    ----------
    name : str
        Of the query, as the benchmark calls it.
    image : str
        Path of the image to search with.
    relevant : frozenset of str
        Paths of what is to be found.
    junk : frozenset of str
        Paths of what is neither right nor wrong.
    box : tuple of float, optional
        Part of the image that is the query: left, upper, right and lower edge in pixels.
    """

    name: str
    image: str
    relevant: frozenset[str]
    junk: frozenset[str] = frozenset()
    box: tuple[float, float, float, float] | None = None
