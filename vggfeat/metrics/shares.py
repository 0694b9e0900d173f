"""How far shares of right answers, counted on one set of test images, can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError
from vggfeat.metrics.answers import class_recalls, right_answers
from vggfeat.metrics.certainty import check_level
from vggfeat.metrics.clusters import Counts, bootstrap_interval, numbered


@dataclass(frozen=True, slots=True)
class Share:
    """A share of right answers, or another score in 0..1, and its confidence interval.

    It tells what other test images of the same kind would change, not what other training images
    would; for that take several splits and :func:`mean_interval`.

    Attributes
    ----------
    value : float
        The share, in 0..1.
    low, high : float
        Confidence interval, within 0..1.
    level : float
        Its level, such as 0.95.
    n : int
        Number of answers, or of test images.
    """

    value: float
    low: float
    high: float
    level: float
    n: int


def accuracy_interval(
    y: npt.ArrayLike,
    predicted: npt.ArrayLike,
    level: float = 0.95,
    groups: npt.ArrayLike | None = None,
) -> Share:
    """Return the share of right answers with its :func:`wilson` interval.

    Parameters
    ----------
    y, predicted : array_like of shape (n,)
        True and predicted classes; n is at least 1.
    level : float
        Above 0 and below 1.
    groups : array_like of shape (n,), optional
        The group of each image. Then the interval is the bootstrap's over whole groups, see
        :func:`vggfeat.metrics.clusters.bootstrap_interval`.

    Returns
    -------
    Share

    Raises
    ------
    ProbeError
        The shapes differ, there is no answer, or the level is out of its range.
    """
    check_level(level)
    right = right_answers(y, predicted)
    if groups is None:
        low, high = wilson(int(right.sum()), len(right), level)
    else:

        def share(counts: Counts) -> npt.NDArray[np.float64]:
            return np.asarray(counts @ right / counts.sum(axis=1))

        of = numbered(groups, len(right))
        low, high = bootstrap_interval(share, len(right), of, level)
    return Share(float(right.mean()), low, high, level, len(right))


def recall_interval(
    y: npt.ArrayLike,
    predicted: npt.ArrayLike,
    level: float = 0.95,
    groups: npt.ArrayLike | None = None,
) -> Share:
    """Return the mean class recall with an interval that joins the classes' own.

    The limits are m - sqrt(sum((r_k - l_k)^2)) / K and m + sqrt(sum((u_k - r_k)^2)) / K for the
    mean m of K recalls r_k with :func:`wilson` intervals from l_k to u_k: Zou, Huang and Zhang,
    "A note on confidence interval estimation for a linear function of binomial proportions",
    Computational Statistics and Data Analysis 53 (2009). Parameters and errors are those of
    :func:`accuracy_interval`; a sample of groups without an image of a class leaves it out.
    """
    recalls = class_recalls(y, predicted)
    if groups is not None:
        return _grouped_recall(y, predicted, level, groups)
    _, counts = np.unique(np.asarray(y), return_counts=True)
    limits = np.array(
        [wilson(round(r * n), n, level) for r, n in zip(recalls, counts.tolist(), strict=True)]
    )
    mean, size = float(recalls.mean()), len(recalls)
    low = mean - float(np.linalg.norm(recalls - limits[:, 0])) / size
    high = mean + float(np.linalg.norm(limits[:, 1] - recalls)) / size
    return Share(mean, max(low, 0.0), min(high, 1.0), level, int(counts.sum()))


def _grouped_recall(
    y: npt.ArrayLike, predicted: npt.ArrayLike, level: float, groups: npt.ArrayLike
) -> Share:
    check_level(level)
    right = right_answers(y, predicted).astype(np.float64)
    classes = np.unique(np.asarray(y), return_inverse=True)[1]
    of = classes[:, None] == np.arange(classes.max() + 1)  # (n, K)

    def recall(counts: Counts) -> npt.NDArray[np.float64]:
        hits, sizes = (counts * right) @ of, counts @ of
        return np.asarray(np.nanmean(np.where(sizes, hits / np.maximum(sizes, 1), np.nan), axis=1))

    low, high = bootstrap_interval(recall, len(right), numbered(groups, len(right)), level)
    return Share(float(class_recalls(y, predicted).mean()), low, high, level, len(right))


def wilson(right: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the limits of Wilson's interval for a share.

    It stays within 0..1 and is of use also where no or all answers are right (Wilson, "Probable
    Inference, the Law of Succession, and Statistical Inference", JASA 22, 1927).

    Parameters
    ----------
    right, n : int
        Right answers among n, which is at least 1.
    level : float
        Above 0 and below 1.

    Returns
    -------
    low, high : float

    Raises
    ------
    ProbeError
        A parameter is out of its range.
    """
    if not 0 <= right <= n or n < 1:
        raise ProbeError(f"{right} of {n} answers are right; give 0 to n of 1 or more.")
    check_level(level)
    from scipy.stats import binomtest

    limits = binomtest(right, n).proportion_ci(level, method="wilson")
    return float(limits.low), float(limits.high)
