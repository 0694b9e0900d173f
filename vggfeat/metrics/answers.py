"""Shares of right answers where each image has one class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError


def accuracy(y: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Return the share of right answers.

    Parameters
    ----------
    y, predicted : array_like of shape (n,)
        True and predicted classes, numbers or names; n is at least 1.

    Returns
    -------
    float
        In 0..1.

    Raises
    ------
    ProbeError
        The shapes differ, or there is no answer.
    """
    return float(np.mean(right_answers(y, predicted)))


def class_recalls(y: npt.ArrayLike, predicted: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the share of right answers within each class.

    Parameters
    ----------
    y, predicted : array_like of shape (n,)
        As for :func:`accuracy`.

    Returns
    -------
    ndarray of float64, shape (K,)
        In 0..1, for each of the K classes that occur in `y`, in ascending order.

    Raises
    ------
    ProbeError
        As there.
    """
    right = right_answers(y, predicted)
    _, classes = np.unique(np.asarray(y), return_inverse=True)
    return np.asarray(np.bincount(classes, weights=right) / np.bincount(classes))


def mean_class_recall(y: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Return the mean of :func:`class_recalls`, also known as balanced accuracy.

    The measure of Caltech-101 and Caltech-256: each class counts the same, however many test
    images it has. Parameters and errors are those of :func:`accuracy`.
    """
    return float(class_recalls(y, predicted).mean())


def top_k_accuracy(y: npt.ArrayLike, scores: npt.ArrayLike, k: int = 5) -> float:
    """Return the share of images whose class is among the k of highest score.

    Where the k-th and later scores are equal, an image counts with the share of their orders in
    which its class is among the k; so results never depend on the order of classes, and scores
    that are all equal get k / K, the share of guessing.

    Parameters
    ----------
    y : array_like of int, shape (n,)
        True classes, as columns of `scores`.
    scores : array_like of shape (n, K)
        Higher is more confident; no NaN.
    k : int
        From 1 to K.

    Returns
    -------
    float
        In 0..1.

    Raises
    ------
    ProbeError
        Shapes or values are not as above.
    """
    classes, values = np.asarray(y), np.asarray(scores)
    if values.ndim != 2 or classes.shape != values.shape[:1] or not len(classes):
        raise ProbeError(
            f"Classes have the shape {classes.shape} and scores {values.shape}; give one class "
            "and a row of scores an image, and at least one image."
        )
    if not np.issubdtype(classes.dtype, np.integer):
        raise ProbeError(f"Classes are {classes.dtype}; give whole numbers, columns of scores.")
    if classes.min() < 0 or classes.max() >= values.shape[1] or np.isnan(values).any():
        raise ProbeError(
            f"Classes lie in {classes.min()}..{classes.max()} and scores have {values.shape[1]} "
            "columns; each class must be one of them, and no score NaN."
        )
    if not 1 <= k <= values.shape[1]:
        raise ProbeError(f"k is {k}; give a number from 1 to {values.shape[1]}.")
    right = np.take_along_axis(values, classes[:, None], axis=1)
    above, level = (values > right).sum(axis=1), (values == right).sum(axis=1)
    return float(np.clip((k - above) / level, 0, 1).mean())


def right_answers(y: npt.ArrayLike, predicted: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return which answers are right; (n,). Errors are those of :func:`accuracy`."""
    true, named = np.asarray(y), np.asarray(predicted)
    if true.ndim != 1 or true.shape != named.shape or not len(true):
        raise ProbeError(
            f"Classes have the shape {true.shape} and answers {named.shape}; "
            "give one of each an image, and at least one image."
        )
    return np.asarray(true == named)
