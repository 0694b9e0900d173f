"""The dissimilarities of RDMs, and the rows whose distances they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from vggfeat.errors import RepresentationError
from vggfeat.representations.covariance import whitened
from vggfeat.representations.distances import PreparedRows, column_means

Floats = npt.NDArray[np.float64]
Matrix = npt.NDArray[Any]

Measure = Literal[
    "correlation", "cosine", "euclidean", "squared-euclidean", "mahalanobis", "crossnobis"
]
MEASURES: tuple[Measure, ...] = get_args(Measure)

_BLOCK = 2048


@dataclass(frozen=True, slots=True)
class MeasureRecord:
    """What a dissimilarity is.

    Attributes
    ----------
    formula : str
        For rows a and b of d features.
    toolbox : str
        What rsatoolbox calls it in its files; empty where it has none of the kind.
    """

    formula: str
    toolbox: str


RECORDS: dict[Measure, MeasureRecord] = {
    "correlation": MeasureRecord("1 - r(a, b), Pearson's correlation over features", "correlation"),
    "cosine": MeasureRecord("1 - a'b / (|a| |b|)", "cosine"),
    "euclidean": MeasureRecord("|a - b|", "euclidean"),
    "squared-euclidean": MeasureRecord(
        "|a - b|² / d, what rsatoolbox calls Euclidean", "squared euclidean"
    ),
    "mahalanobis": MeasureRecord(
        "(a - b)' P (a - b) / d, P the inverse of the covariance with Ledoit and Wolf's shrinkage",
        "squared mahalanobis",
    ),
    "crossnobis": MeasureRecord(
        "mahalanobis, cross-validated over folds of each class's images", "crossnobis"
    ),
}


def of_squared(measure: Measure, width: int) -> Callable[[Floats], Floats]:
    """Return what makes dissimilarities, in place, of squared distances of prepared rows."""
    if measure == "euclidean":
        return lambda squared: np.sqrt(squared, out=squared)
    divisor = 2 if measure in ("correlation", "cosine") else width
    return lambda squared: np.divide(squared, divisor, out=squared)


def prepared(
    X: Matrix,
    measure: Measure,
    residuals: Matrix | None = None,
    freedom: int | None = None,
    named: Callable[[int], str] = str,
) -> PreparedRows:
    """Return rows whose squared Euclidean distances tell the dissimilarities.

    Parameters
    ----------
    X : ndarray of float, shape (n, d)
        Images or means of classes; finite.
    measure : str
        One of :data:`MEASURES`, but for ``"crossnobis"``.
    residuals : ndarray of float, shape (m, d), optional
        For ``"mahalanobis"``: what its covariance is estimated from; X less its mean by default.
    freedom : int, optional
        Degrees of freedom of the residuals; m - 1 by default.
    named : callable
        Gives a row's name for a message.

    Raises
    ------
    RepresentationError
        A row has no direction: its features are all equal (correlation) or 0 (cosine).
    """
    if measure == "mahalanobis":
        centred = X - column_means(X) if residuals is None else residuals
        return PreparedRows(whitened(X, centred, len(centred) - 1 if freedom is None else freedom))
    if measure in ("euclidean", "squared-euclidean"):
        return PreparedRows(X, shift=column_means(X))
    offsets = np.empty(len(X)) if measure == "correlation" else None
    scales = np.empty(len(X))
    for at in range(0, len(X), _BLOCK):
        part = slice(at, at + _BLOCK)
        block = np.array(X[part], np.float64)
        largest = np.abs(block).max(axis=1, initial=0)
        if offsets is not None:
            offsets[part] = block.mean(axis=1)
            block -= offsets[part, None]
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
        # What is left of equal features is rounding.
        flat = lengths <= 4 * np.finfo(float).eps * largest * np.sqrt(block.shape[1])
        if flat.any():
            row = at + int(np.flatnonzero(flat)[0])
            what = "equal" if measure == "correlation" else "0"
            raise RepresentationError(
                f"All features of {named(row)!r} are {what}, so that its {measure} with others is "
                "not defined. Leave it out, or take --dissimilarity euclidean."
            )
        scales[part] = 1 / lengths
    return PreparedRows(X, offsets=offsets, scales=scales)


def check_measure(measure: str) -> Measure:
    """Return a known measure; RepresentationError for another."""
    if measure not in MEASURES:
        raise RepresentationError(
            f"Unknown dissimilarity {measure!r}. Known are {', '.join(MEASURES)}."
        )
    return measure


def classes_in_order(names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the order of conditions that puts those of one class together, as they come else."""
    first: dict[str, int] = {}
    for name in names:
        first.setdefault(name, len(first))
    known = sorted(first, key=lambda name: (name == "", name))
    place = {name: number for number, name in enumerate(known)}
    return np.argsort([place[name] for name in names], kind="stable").astype(np.int64)
