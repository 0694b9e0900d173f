"""Queries made of several vectors: examples, counterexamples, and what a first search found."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SearchError

if TYPE_CHECKING:
    from vggfeat.index.preparing import Integers, Metric, Vectors

Array = npt.NDArray[np.float64]

LIKE, UNLIKE = 0.75, 0.15
"""Rocchio's weights of examples and counterexamples; see :func:`rocchio`."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """How many neighbours a vector is averaged with, and how they weigh.

    Attributes
    ----------
    count : int
        Neighbours.
    alpha : float
        A neighbour weighs its similarity, where that is positive, to this power; 0 weighs all
        alike.
    """

    count: int
    alpha: float = 0.0

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.alpha <= 100:
            raise SearchError(
                f"Expansion by {self.count} neighbours with alpha {self.alpha:g}: at least 1 "
                "neighbour and an alpha in 0..100 are needed, as in 10 or 10:3."
            )

    def __str__(self) -> str:
        return f"{self.count}:{self.alpha:g}" if self.alpha else str(self.count)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``"10"`` or ``"10:3"``: neighbours, and alpha.

        Raises
        ------
        SearchError
            It is neither.
        """
        match = re.fullmatch(r"(\d{1,6})(?::(\d+(?:\.\d+)?))?", text.strip())
        if not match:
            raise SearchError(f"Expansion {text!r}: write 10, or 10:3 for an alpha of 3.")
        return cls(int(match[1]), float(match[2] or 0))


def expanded(
    queries: Array, neighbours: Integers, scores: Vectors, vectors: Vectors, by: Expansion
) -> Array:
    """Average each query with what a first search found for it.

    With ``alpha = 0`` that is average query expansion: O. Chum et al., "Total recall: automatic
    query expansion with a generative feature model for object retrieval", ICCV 2007. Otherwise
    alpha-weighted query expansion: F. Radenović, G. Tolias and O. Chum, "Fine-tuning CNN image
    retrieval with no human annotation", TPAMI 2018, section 3.4, where a neighbour weighs
    ``similarity ** alpha`` and the query 1.

    Parameters
    ----------
    queries : ndarray, shape (q, d)
        Of length 1.
    neighbours : ndarray of int64, shape (q, m)
        Numbers of vectors; -1 for none.
    scores : ndarray of float32, shape (q, m)
        Cosines.
    vectors : ndarray of float32, shape (n, d)
        Of length 1.
    by : Expansion

    Returns
    -------
    ndarray of float64, shape (q, d)
        Of length 1.
    """
    weights = np.maximum(np.nan_to_num(scores.astype(np.float64)), 0)
    weights = np.where(neighbours >= 0, weights**by.alpha if by.alpha else 1.0, 0.0)
    sums = np.array(queries, np.float64)
    for i, (ids, weight) in enumerate(zip(neighbours, weights, strict=True)):
        some = weight > 0
        sums[i] += weight[some] @ vectors[ids[some]].astype(np.float64)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    directed = lengths > 1e-9  # a sum without direction leaves its query as it is
    return np.where(directed, sums / np.where(directed, lengths, 1), queries)


def rocchio(like: Array, unlike: Array | None = None, *, metric: Metric) -> Array:
    """Make one query of examples and counterexamples.

    The mean of the examples, less the mean of the counterexamples times UNLIKE / LIKE: Rocchio's
    relevance feedback with the weights 0.75 and 0.15 of C. Manning, P. Raghavan and H. Schütze,
    "Introduction to Information Retrieval", 2008, section 9.1.1, the examples being the query.
    For the cosine the result is scaled to length 1.

    Parameters
    ----------
    like : ndarray, shape (n, d)
        At least one.
    unlike : ndarray, shape (m, d), optional

    Returns
    -------
    ndarray of float64, shape (1, d)

    Raises
    ------
    SearchError
        Examples and counterexamples take one another away.
    """
    query = like.mean(axis=0, keepdims=True)
    if unlike is not None and len(unlike):
        query = query - UNLIKE / LIKE * unlike.mean(axis=0, keepdims=True)
    if metric != "cosine":
        return np.asarray(query)
    length = float(np.linalg.norm(query))
    if length < 1e-9:
        raise SearchError(
            "The examples cancel one another out, so that there is no direction to search in. "
            "Give other ones."
        )
    return np.asarray(query / length)
