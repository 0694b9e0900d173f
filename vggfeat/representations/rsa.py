"""Representational similarity analysis (RSA): how alike two RDMs of the same images are."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from vggfeat.errors import RepresentationError

Floats = npt.NDArray[np.float64]
Correlation = Literal["pearson", "spearman", "tau-a"]
CORRELATIONS: tuple[Correlation, ...] = get_args(Correlation)


def rsa(first: npt.ArrayLike, second: npt.ArrayLike, method: Correlation = "spearman") -> float:
    """Correlate two RDMs over their pairs of conditions.

    Parameters
    ----------
    first, second : array_like
        Condensed, (pairs,), or square and symmetric, (n, n); finite.
    method : {"pearson", "spearman", "tau-a"}
        Pearson's r; Pearson's r of ranks, equal values having the mean of theirs; or Kendall's tau
        a, pairs of pairs in the same order less those in the other, over all, so that no model
        gains by predicting ties (Nili et al., "A Toolbox for Representational Similarity Analysis",
        PLOS Computational Biology 10, 2014). They equal ``corr``, ``spearman`` and ``tau-a`` of
        rsatoolbox.

    Returns
    -------
    float
        In -1..1; NaN where an RDM is constant (0 for tau-a).

    Raises
    ------
    RepresentationError
        The RDMs are of different sizes, hold what is not finite, or the method is unknown.
    """
    if method not in CORRELATIONS:
        raise RepresentationError(
            f"Unknown correlation {method!r}. Known are {', '.join(CORRELATIONS)}."
        )
    a, b = upper(first), upper(second)
    if a.shape != b.shape:
        raise RepresentationError(
            f"RDMs have {len(a):,} and {len(b):,} pairs; give two of the same conditions."
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise RepresentationError("An RDM has values that are not finite.")
    if method == "tau-a":
        return tau_a(a, b)
    if method == "spearman":
        a, b = mean_ranks(a), mean_ranks(b)
    return pearson(a, b)


def upper(rdm: npt.ArrayLike) -> Floats:
    """Return the values above the diagonal of an RDM, float64, (pairs,)."""
    values = np.asarray(rdm, np.float64)
    if values.ndim == 2 and values.shape[0] == values.shape[1]:
        return np.asarray(values[np.triu_indices(len(values), 1)])
    if values.ndim != 1:
        raise RepresentationError(
            f"An RDM is of shape {values.shape}; give (n, n) or n (n - 1) / 2 values."
        )
    return values


def pearson(a: Floats, b: Floats, weights: npt.NDArray[np.integer] | None = None) -> float:
    """Return Pearson's correlation of values that count as `weights` say; NaN of constant ones."""
    w = np.ones(len(a)) if weights is None else np.asarray(weights, np.float64)
    total = w.sum()
    if not total > 0:
        return float("nan")
    x, y = a - (w @ a) / total, b - (w @ b) / total
    xx, yy = float(w @ (x * x)), float(w @ (y * y))
    if not (xx > _rounding(a, w) and yy > _rounding(b, w)):
        return float("nan")
    return float(np.clip(float(w @ (x * y)) / float(np.sqrt(xx * yy)), -1, 1))


def _rounding(a: Floats, w: Floats) -> float:
    """Return what the rounding of equal values may leave of a sum of squares."""
    return float(w.sum()) * (8 * np.finfo(float).eps * float(np.abs(a).max(initial=0))) ** 2


def mean_ranks(values: Floats) -> Floats:
    """Return ranks from 1 on; equal values have the mean of theirs."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(values), np.float64)


def tau_a(a: Floats, b: Floats) -> float:
    """Return Kendall's tau a: concordant less discordant pairs, over all pairs.

    It is SciPy's tau b times sqrt((1 - t) (1 - u)) for the shares t and u of pairs that are tied in
    one and the other (Kendall, "Rank Correlation Methods", 1970, section 3.4).
    """
    from scipy.stats import kendalltau

    free = [1 - tied_share(one) for one in (a, b)]
    if not min(free) > 0:
        return 0.0
    return float(kendalltau(a, b, method="asymptotic").statistic) * float(
        np.sqrt(free[0] * free[1])
    )


def tied_share(values: Floats) -> float:
    """Return which share of all pairs of values are equal."""
    _, counts = np.unique(values, return_counts=True)
    size = len(values)
    return float((counts * (counts - 1.0)).sum() / (size * (size - 1.0))) if size > 1 else 1.0
