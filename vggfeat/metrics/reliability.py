"""How far probabilities can be believed: calibration error, Brier score, log-loss.

The expected calibration error is that of Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern
Neural Networks" (ICML 2017): bins of equal width of the confidence, each compared with the share
of answers in it that are right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import ProbeError

BINS = 15
"""Bins of the confidence, as Guo et al. take them."""

_TOLERANCE = 1e-6
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Probabilities beside what turned out true.

    Of one class an image the confidence is the probability of the class that was named, and it is
    right where that is the true one. Of several, each class of each image counts, with its own
    probability as the confidence, and it is right where the image shows it.

    Attributes
    ----------
    counts : ndarray of int64, shape (B,)
        How many confidences are in each of B bins of equal width over 0..1; a bin has its upper
        limit, and the first one 0 as well.
    confidence, share : ndarray of float64, shape (B,)
        Their mean in each bin, and the share that is right; NaN where a bin is empty.
    by_chance : float
        About the :attr:`ece` that confidences such as these would have on so few answers if they
        were wholly right, and answers did not depend on one another: for each bin the mean of the
        half-normal distribution whose variance is that of its count of right ones.
    brier : float
        Mean squared difference between probabilities and what is true: of one class an image
        summed over the classes, in 0..2 (Brier 1950); of several in 0..1.
    log_loss : float
        Mean of -log of the probability of what is true, in nats; a probability of 0 is taken for
        the least that float64 tells from it.
    several : bool
        Whether images have several classes.
    """

    counts: npt.NDArray[np.int64]
    confidence: Array
    share: Array
    by_chance: float
    brier: float
    log_loss: float
    several: bool = False

    @property
    def n(self) -> int:
        """Number of confidences."""
        return int(self.counts.sum())

    @property
    def ece(self) -> float:
        """Expected calibration error, in 0..1.

        The mean over all answers of how far their bin's share of right ones is from its mean
        confidence.
        """
        some = self.counts > 0
        gaps = np.abs(self.share - self.confidence)[some]
        return float((gaps * self.counts[some]).sum() / self.n)

    @property
    def mean_confidence(self) -> float:
        """Mean of the confidences, in 0..1; above the share that is right it is too high."""
        some = self.counts > 0
        return float((self.confidence * self.counts)[some].sum() / self.n)

    @property
    def limits(self) -> Array:
        """The limits of the bins, (B + 1,)."""
        return np.linspace(0, 1, len(self.counts) + 1)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values; of the bins those that are not empty."""
        low, high = self.limits[:-1].tolist(), self.limits[1:].tolist()
        return {
            "ece": self.ece,
            "ece_by_chance": self.by_chance,
            "brier": self.brier,
            "log_loss": self.log_loss,
            "mean_confidence": self.mean_confidence,
            "n": self.n,
            "bins": [
                {
                    "above": low[at],
                    "to": high[at],
                    "n": int(self.counts[at]),
                    "confidence": float(self.confidence[at]),
                    "right": float(self.share[at]),
                }
                for at in np.flatnonzero(self.counts).tolist()
            ],
        }


def reliability(
    y: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    named: npt.ArrayLike | None = None,
    *,
    bins: int = BINS,
) -> Reliability:
    """Compare probabilities with what is true.

    Parameters
    ----------
    y : array_like of shape (n,) or (n, K)
        True classes, as columns of `probabilities`; or of several classes an image 1 present,
        0 absent, NaN unknown, which leaves out the class of this image.
    probabilities : array_like of shape (n, K)
        In 0..1; rows sum to 1 unless images have several classes.
    named : array_like of int, shape (n,), optional
        The class that was named, of one class an image; the likeliest by default.
    bins : int
        Their number, 1 or more.

    Raises
    ------
    ProbeError
        Shapes or values are not as above.
    """
    truth, P = np.asarray(y), np.asarray(probabilities, np.float64)
    several = truth.ndim == 2
    _check(truth, P, bins)
    if several:
        known = ~np.isnan(truth.astype(np.float64))
        confidence, right = P[known], truth[known] == 1
        of_truth = np.where(right, confidence, 1 - confidence)
        brier = float(np.mean((confidence - right) ** 2))
    else:
        rows = np.arange(len(P))
        said = P.argmax(axis=1) if named is None else np.asarray(named)
        confidence, right, of_truth = P[rows, said], truth == said, P[rows, truth]
        shown = np.zeros_like(P)
        shown[rows, truth] = 1
        brier = float(np.mean(((P - shown) ** 2).sum(axis=1)))
    # a bin has its upper limit
    at = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(at, minlength=bins)
    sums = [np.bincount(at, weights=each, minlength=bins) for each in (confidence, right)]
    mean, share = (np.where(counts, one / np.maximum(counts, 1), np.nan) for one in sums)
    variance = np.bincount(at, weights=confidence * (1 - confidence), minlength=bins)
    return Reliability(
        counts=counts,
        confidence=mean,
        share=share,
        by_chance=math.sqrt(2 / math.pi) * float(np.sqrt(variance).sum()) / len(at),
        brier=brier,
        log_loss=-float(np.log(np.maximum(of_truth, np.finfo(np.float64).tiny)).mean()),
        several=several,
    )


def expected_calibration_error(
    y: npt.ArrayLike, probabilities: npt.ArrayLike, *, bins: int = BINS
) -> float:
    """Return :attr:`Reliability.ece` of :func:`reliability`, whose parameters these are."""
    return reliability(y, probabilities, bins=bins).ece


def _check(truth: npt.NDArray[Any], P: Array, bins: int) -> None:
    if bins < 1:
        raise ProbeError(f"{bins} bins; give at least 1.")
    if P.ndim != 2 or not P.size or truth.shape not in (P.shape, P.shape[:1]):
        raise ProbeError(
            f"Classes have the shape {truth.shape} and probabilities {P.shape}; give a row of "
            "probabilities an image, and one class or a row of 1, 0 and NaN."
        )
    if not ((P >= 0) & (P <= 1)).all():
        raise ProbeError("Probabilities are not all in 0..1.")
    if truth.ndim == 2:
        values = truth.astype(np.float64)
        if not (np.isnan(values) | (values == 0) | (values == 1)).all() or np.isnan(values).all():
            raise ProbeError("Give 1 for present, 0 for absent, NaN for unknown, and some known.")
        return
    if not np.issubdtype(truth.dtype, np.integer) or truth.min() < 0 or truth.max() >= P.shape[1]:
        raise ProbeError(f"Classes must be whole numbers in 0..{P.shape[1] - 1}.")
    if np.abs(P.sum(axis=1) - 1).max() > _TOLERANCE:
        raise ProbeError("Probabilities of exclusive classes must sum to 1 in each row.")
