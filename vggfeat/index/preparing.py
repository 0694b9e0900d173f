"""Which vectors can be compared, and how they are made ready for it: the one place for that.

Rows of a store and queries go the same way: whitening, where the index has one, then length 1 for
the cosine. What has no place in any order is found here: NaN and infinite values, and zeros where
the measure is the cosine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SearchError
from vggfeat.norms import unit_length

if TYPE_CHECKING:
    from vggfeat.whitening import Whitening

Metric = Literal["cosine", "l2", "ip"]
METRICS: tuple[Metric, ...] = ("cosine", "l2", "ip")
"""Known measures: cosine similarity, Euclidean distance, inner product."""

Vectors = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

_IMAGES = (
    "vggfeat.queries.ImageSearch(index).search([image]) searches for images: paths, Pillow images, "
    "arrays of pixels."
)
_USUAL = (1e-100, 1e100)  # lengths whose squares neither overflow nor vanish
_LARGEST = float(np.sqrt(np.finfo(np.float32).max / 16))


@dataclass(frozen=True, slots=True)
class PreparedVectors:
    """Vectors that can be compared.

    Attributes
    ----------
    vectors : ndarray of float64, shape (n, d)
        In the form in which they are compared.
    kept : ndarray of int64, shape (n,)
        Their positions among those given, ascending.
    not_finite, zero : ndarray of int64
        Positions of those that hold NaN or infinite values, and of those without a direction.
    """

    vectors: npt.NDArray[np.float64]
    kept: Integers
    not_finite: Integers
    zero: Integers


def prepare_vectors(
    X: npt.NDArray[Any], metric: Metric, whitening: Whitening | None
) -> PreparedVectors:
    """Make features ready to be compared, leaving out those that cannot be.

    Parameters
    ----------
    X : ndarray, shape (n, D)
        Features.
    metric : {"cosine", "l2", "ip"}
    whitening : Whitening, optional
        Takes D numbers and gives d.
    """
    finite = np.isfinite(X).all(axis=1)
    directed = metric == "cosine" or whitening is not None
    good = finite & X.any(axis=1) if directed else finite
    kept = np.flatnonzero(good)
    vectors = X[kept].astype(np.float64)
    if whitening is not None:
        vectors, nonzero = whitening.whitened(vectors)
        good[kept[~nonzero]] = False
        vectors, kept = vectors[nonzero], kept[nonzero]
    elif metric == "cosine":
        unit_length(vectors, out=vectors)
    return PreparedVectors(vectors, kept, np.flatnonzero(~finite), np.flatnonzero(finite & ~good))


def prepare_queries(
    X: npt.ArrayLike, width: int, metric: Metric, whitening: Whitening | None, layer: str
) -> npt.NDArray[np.float64]:
    """Make queries ready; see :meth:`vggfeat.index.SimilarityIndex.prepared`."""
    try:
        given = np.asarray(X, np.float64)
    except (TypeError, ValueError):
        raise SearchError(
            f"A search takes features of {layer}, an array (q, {width}), not {_kind(X)}. {_IMAGES}"
        ) from None
    if given.ndim == 1:
        given = given[None]
    if given.ndim != 2 or given.shape[1] != width:
        raise SearchError(
            f"Queries of shape {np.shape(X)} were given; this index takes (q, {width}) "
            f"from {layer}. {_IMAGES}"
        )
    if whitening is None and metric == "cosine":  # mostly nothing is wrong
        squares = np.vecdot(given, given)
        if len(squares) == 1:  # the same in a third of the time
            length = math.sqrt(squares[0])
            if _USUAL[0] < length < _USUAL[1]:
                return np.divide(given, length)
        lengths = np.sqrt(squares)
        if ((lengths > _USUAL[0]) & (lengths < _USUAL[1])).all():
            return np.asarray(given / lengths[:, None])
    ready = prepare_vectors(given, metric, whitening)
    if len(ready.not_finite):
        raise SearchError(f"Query {ready.not_finite[0]} holds NaN or infinite values.")
    if len(ready.zero):
        raise SearchError(
            f"Query {ready.zero[0]} is all zeros, or the mean of all images, which has no cosine. "
            "Use another layer or metric."
            if whitening is not None
            else f"Query {ready.zero[0]} is all zeros, which have no cosine. "
            "Use another layer or metric."
        )
    return ready.vectors


def _kind(value: object) -> str:
    """Say what was given in place of features."""
    if isinstance(value, str | bytes):
        return repr(value)
    if isinstance(value, list | tuple) and value:
        return f"a list of {type(value[0]).__name__}"
    return f"a {type(value).__name__}"


def check_size(longest: float) -> None:
    """Refuse lengths whose squares float32 cannot hold.

    Raises
    ------
    SearchError
        `longest` is too large.
    """
    if longest > _LARGEST:
        raise SearchError(
            "Features are too large to compare in float32; scale them, or use the cosine."
        )
