"""p-values that allow for there being several."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError

Correction = Literal["holm", "bh", "none"]
CORRECTIONS: tuple[Correction, ...] = get_args(Correction)


def holm(p: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return p-values that allow for there being several.

    That any true null hypothesis has one below 0.05 is then no likelier than 5 %, however many
    were tested and however they depend on one another (Holm, "A Simple Sequentially Rejective
    Multiple Test Procedure", Scandinavian Journal of Statistics 6, 1979).

    Parameters
    ----------
    p : array_like of shape (n,)
        In 0..1.

    Returns
    -------
    ndarray of float64, shape (n,)
        In the same order, none below its `p`, at most 1.

    Raises
    ------
    ProbeError
        A value is out of its range.
    """
    values = _checked(p)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def benjamini_hochberg(p: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return p-values that bound the expected share of false ones among those called significant.

    Where all below 0.05 are called differences, no more than 5 % of these are false on average,
    given tests that are independent or positively dependent (Benjamini and Hochberg, "Controlling
    the False Discovery Rate", Journal of the Royal Statistical Society B 57, 1995).

    Parameters
    ----------
    p : array_like of shape (n,)
        In 0..1.

    Returns
    -------
    ndarray of float64, shape (n,)
        In the same order, none below its `p`, at most 1.

    Raises
    ------
    ProbeError
        A value is out of its range.
    """
    values = _checked(p)
    order = np.argsort(values, kind="stable")[::-1]
    steps = values[order] * len(values) / np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.minimum.accumulate(steps), 1.0)
    return adjusted


def adjusted(p: npt.ArrayLike, correction: Correction) -> npt.NDArray[np.float64]:
    """Correct p-values for there being several; NaN, of tests that were not done, do not count.

    Parameters
    ----------
    p : array_like of shape (n,)
        In 0..1, or NaN.
    correction : {"holm", "bh", "none"}
        :func:`~vggfeat.metrics.holm`: the probability of any false difference is bounded;
        :func:`benjamini_hochberg`: their expected share is; or nothing.

    Raises
    ------
    ProbeError
        The correction is unknown, or a value is out of its range.
    """
    if correction not in CORRECTIONS:
        raise ProbeError(f"Unknown correction {correction!r}. Known are {', '.join(CORRECTIONS)}.")
    values = np.array(p, np.float64)
    known = np.isfinite(values)
    if correction == "holm":
        values[known] = holm(values[known])
    elif correction == "bh":
        values[known] = benjamini_hochberg(values[known])
    return values


def _checked(p: npt.ArrayLike) -> npt.NDArray[np.float64]:
    values = np.asarray(p, np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ProbeError(f"p-values are {values.tolist()}; give a list of numbers in 0..1.")
    return values
