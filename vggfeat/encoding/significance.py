"""What chance alone would give: targets without any relation to the images, all the same otherwise.

Images that are tested in one fold train in the others, so that the scores of folds are not
independent, and an interval or a test that takes predictions as given is too sure. So targets are
drawn, their responses are exchanged between images, and they go the whole way of all others: in
each fold they choose a penalty and a layer, and are tested. The share of them that scores as well
is p (with the target at hand counted: (1 + b) / (1 + N), Phipson & Smyth 2010, Statistical
Applications in Genetics and Molecular Biology 9, 39).

All targets share these N scores. That is right where what chance gives does not depend on the
target: a correlation has no unit, and a mean over many images hardly keeps the shape of a
distribution. A target of few, very large responses is another matter; look at it by itself.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]


def exchanged(
    Y: Matrix, usable: Positions, count: int, groups: Positions | None, seed: int
) -> Matrix:
    """Return targets whose responses have been exchanged between images.

    Parameters
    ----------
    Y : ndarray of float32, shape (n, t)
        Targets.
    usable : ndarray of int64
        Those to draw from, each about as often as any other.
    count : int
        How many to make.
    groups : ndarray of int64, shape (n,), optional
        Of which group each image is: images stay beside their group's others, and groups change
        places as wholes, which keeps what images of a group have in common.
    seed : int
        Of what is drawn.

    Returns
    -------
    ndarray of float32, shape (n, count)
    """
    rng = np.random.default_rng(seed)
    n = len(Y)
    drawn = np.concatenate([rng.permutation(usable) for _ in range(-(-count // len(usable)))])
    found = np.empty((n, count), np.float32)
    if groups is not None:
        order = np.argsort(groups, kind="stable")
        starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
        parts = np.split(order, starts[1:])
    for at, target in enumerate(drawn[:count].tolist()):
        if groups is None:
            found[:, at] = Y[rng.permutation(n), target]
        else:
            moved = np.concatenate([parts[k] for k in rng.permutation(len(parts))])
            found[order, at] = Y[moved, target]
    return found


def p_values(scores: Array, null: Array) -> Array:
    """Return how often chance scores as well, (t,); NaN of a score that is NaN, or without chance.

    Parameters
    ----------
    scores : ndarray of float64, shape (t,)
    null : ndarray of float64, shape (N,)
        What chance gave; NaN counts as less than any score.
    """
    if not len(null):
        return np.full(len(scores), np.nan)
    ordered = np.sort(np.nan_to_num(null, nan=-np.inf))
    as_well = len(ordered) - np.searchsorted(ordered, scores, side="left")
    return np.where(np.isfinite(scores), (1 + as_well) / (1 + len(ordered)), np.nan)
