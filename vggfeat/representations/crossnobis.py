"""Cross-validated Mahalanobis distances, which are 0 on average where classes do not differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import RepresentationError
from vggfeat.representations.covariance import whitened

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


def crossnobis(X: npt.NDArray[Any], classes: Numbers, folds: Numbers) -> Floats:
    """Return the crossnobis distance of each pair of classes.

    (a - b)' P (a* - b*) / d for class means a, b of a fold and a*, b* of all other folds, averaged
    over folds; P is the inverse of the covariance of the images about their classes' means, with
    shrinkage (:func:`~vggfeat.representations.covariance.whitened`). It may be negative (Walther et
    al., "Reliability of dissimilarity measures for multi-voxel pattern analysis", NeuroImage 137,
    2016; ``calc_rdm(method="crossnobis")`` of rsatoolbox).

    Parameters
    ----------
    X : ndarray of float, shape (n, d)
    classes, folds : ndarray of int64, shape (n,)
        Numbers from 0 on of each image's class and fold.

    Returns
    -------
    ndarray of float64, shape (k (k - 1) / 2,)
        Condensed, for k classes.

    Raises
    ------
    RepresentationError
        A class has no image in some fold, or there is one fold.
    """
    count, parts = int(classes.max()) + 1, int(folds.max()) + 1
    sizes = np.zeros((parts, count), np.int64)
    np.add.at(sizes, (folds, classes), 1)
    if parts < 2 or not sizes.all():
        raise RepresentationError(
            f"Crossnobis distances need two folds or more with an image of each class in each; of "
            f"{parts} folds the emptiest has {int(sizes.min())} of some class. Take fewer folds."
        )
    means = class_means(X, classes, count)
    Z = whitened(X, X - means[classes], len(X) - count)
    sums = np.zeros((parts, count, X.shape[1]))
    np.add.at(sums, (folds, classes), Z)
    whole, total = sums.sum(axis=0), sizes.sum(axis=0)[:, None]
    upper = np.triu_indices(count, 1)
    distances = np.zeros(len(upper[0]))
    for part in range(parts):
        own = sums[part] / sizes[part][:, None]
        others = (whole - sums[part]) / (total - sizes[part][:, None])
        product = own @ others.T
        diagonal = np.diag(product)
        distances += (diagonal[:, None] + diagonal - product - product.T)[upper]
    return np.asarray(distances / (parts * X.shape[1]))


def class_means(X: npt.NDArray[Any], classes: Numbers, count: int) -> Floats:
    """Return the mean of each class's rows, float64, (count, d)."""
    sums = np.zeros((count, X.shape[1]))
    np.add.at(sums, classes, X)
    return np.asarray(sums / np.bincount(classes, minlength=count)[:, None])


def drawn_folds(classes: Numbers, count: int, seed: int) -> Numbers:
    """Deal the images of each class out to `count` folds at random, as evenly as may be."""
    rng = np.random.default_rng(seed)
    folds = np.empty(len(classes), np.int64)
    for number in np.unique(classes):
        rows = np.flatnonzero(classes == number)
        folds[rng.permutation(rows)] = np.arange(len(rows)) % count
    return folds
