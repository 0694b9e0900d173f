"""How good a ranked list of images is, as the benchmarks of image retrieval define it.

A list is given by its relevance, best first: whether each image in turn is one that was to be
found. Junk images, which are neither right nor wrong, are left out as if they were not there.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SearchError

Area = Literal["trapezoid", "step"]
AREAS: tuple[Area, ...] = get_args(Area)
"""Definitions of average precision, see :func:`ranked_average_precision`."""

UKBENCH_VIEWS = 4
"""Photographs of each object in UKBench, the query among them."""

Bools = npt.NDArray[np.bool_]


def ranked_average_precision(
    relevant: npt.ArrayLike,
    junk: npt.ArrayLike | None = None,
    total: int | None = None,
    area: Area = "trapezoid",
) -> float:
    """Return the average precision of one ranked list.

    Parameters
    ----------
    relevant : array_like of bool, shape (n,)
        By rank, the best first.
    junk : array_like of bool, shape (n,), optional
        By rank: images to leave out before ranks are counted, relevant or not; for Holidays the
        query itself.
    total : int, optional
        How many images were to be found, junk not among them; by default those in the list.
        Missing ones count as never found.
    area : str
        ``"trapezoid"``: each relevant image adds the mean of the precisions before and at its
        rank, where that before the first rank is 1. It is what the programs compute that belong to
        Oxford5k (Philbin et al., "Object retrieval with large vocabularies and fast spatial
        matching", CVPR 2007), Holidays (Jegou et al., "Hamming embedding and weak geometric
        consistency", ECCV 2008) and revisited Oxford and Paris (Radenovic et al., "Revisiting
        Oxford and Paris", CVPR 2018).

        ``"step"``: each adds the precision at its rank, as usual elsewhere; never below the other.

    Returns
    -------
    float
        In 0..1.

    Raises
    ------
    SearchError
        Nothing was to be found, shapes differ, or `total` or `area` cannot be.

    Examples
    --------
    >>> ranked_average_precision([True, False, True])
    0.7916666666666666
    """
    hits = _counted(relevant, junk)
    possible = _possible(hits, total)
    if area not in AREAS:
        raise SearchError(f"Unknown area {area!r}. Choose from {', '.join(AREAS)}.")
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    if area == "trapezoid":
        before = np.concatenate([[1.0], precision])[: len(precision)]
        precision = (before + precision) / 2
    return float(precision[hits].sum() / possible)


def precision_at(relevant: npt.ArrayLike, k: int, junk: npt.ArrayLike | None = None) -> float:
    """Return the share of relevant images among the first `k` of a list.

    Parameters
    ----------
    relevant, junk :
        See :func:`ranked_average_precision`.
    k : int
        At least 1. Where the list is shorter, what is missing counts as wrong.

    Returns
    -------
    float
        In 0..1.

    Raises
    ------
    SearchError
        `k` is below 1, or shapes differ.
    """
    return float(_first(relevant, k, junk).sum() / k)


def ukbench_score(relevant: npt.ArrayLike) -> float:
    """Return UKBench's score: how many of an object's four images are among the first four.

    After Nister and Stewenius, "Scalable recognition with a vocabulary tree", CVPR 2006; the query
    is searched for among all images and itself one of the four.

    Parameters
    ----------
    relevant : array_like of bool, shape (q, n)
        By query and rank, with n of at least 4.

    Returns
    -------
    float
        In 0..4: the mean over queries.

    Raises
    ------
    SearchError
        The shape is another, or there is no query.
    """
    given = np.asarray(relevant, np.bool_)
    if given.ndim != 2 or not len(given) or given.shape[1] < UKBENCH_VIEWS:
        raise SearchError(
            f"Relevance of shape {given.shape} was given; UKBench's score takes (q, n) with a "
            f"query or more and the first {UKBENCH_VIEWS} images or more of each."
        )
    return float(given[:, :UKBENCH_VIEWS].sum(axis=1).mean())


def _counted(relevant: npt.ArrayLike, junk: npt.ArrayLike | None) -> Bools:
    """Return relevance without junk."""
    given = np.asarray(relevant, np.bool_)
    left_out = np.zeros(given.shape, np.bool_) if junk is None else np.asarray(junk, np.bool_)
    if given.ndim != 1 or left_out.shape != given.shape:
        raise SearchError(
            f"Relevance of shape {given.shape} and junk of shape {left_out.shape} were given; both "
            "are (n,), one entry a rank."
        )
    return given[~left_out]


def _first(relevant: npt.ArrayLike, k: int, junk: npt.ArrayLike | None) -> Bools:
    if k < 1:
        raise SearchError(f"k is {k}; ask for at least the first image.")
    return _counted(relevant, junk)[:k]


def _possible(hits: Bools, total: int | None) -> int:
    listed = int(hits.sum())
    possible = listed if total is None else total
    if possible < max(1, listed):
        raise SearchError(
            f"{possible} images were to be found, and {listed} relevant ones are in the list. "
            "Leave out queries that have nothing to find, and junk from the total."
        )
    return possible
