"""Probabilities from the decision values of an SVM, learnt on rows it was not trained on.

Of exclusive classes they are softmax(s f) of a row's decision values f, temperature scaling with
the temperature 1 / s: a single number is learnt, so that few rows suffice, the probabilities sum to
1, and the likeliest class is the one that the classifier names anyhow (Guo et al., ICML 2017;
:class:`sklearn.calibration.CalibratedClassifierCV` with ``method="temperature"``). Of several
labels each class has a sigmoid of its own, 1 / (1 + exp(-(s f + o))) (Platt, "Probabilistic outputs
for support vector machines", 1999; ``method="sigmoid"`` there).

Both are kept from certainty that no finite number of rows can give, also where all of them are on
the right side. Platt's targets are (n+ + 1) / (n+ + 2) and 1 / (n- + 2) instead of 1 and 0. In the
same way the temperature is fitted to targets that are mixed with one part in n + 1 of chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize
from scipy.special import expit
from sklearn.utils.extmath import softmax

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What makes probabilities of class scores.

    Attributes
    ----------
    slope, offset : ndarray of float64, shape (1,) or (K,)
        One of all exclusive classes, with offset 0; or one of each of several labels. A slope is
        never below 0: 0 where held-out rows say that scores tell nothing.
    multi_label : bool
        Whether a row may have several classes.
    n : int
        Held-out rows it was learnt on.
    """

    slope: Array
    offset: Array
    multi_label: bool
    n: int

    @classmethod
    def of_exclusive(cls, scores: Array, y: npt.NDArray[np.int64]) -> Self:
        """Learn the temperature.

        Parameters
        ----------
        scores : ndarray of shape (n, K)
            Class scores of rows that did not train, n and K at least 1.
        y : ndarray of int64, shape (n,)
            Their classes, as columns.
        """
        n = len(scores)
        f = scores - scores.max(axis=1, keepdims=True)
        chance = 1 / (n + 1)
        wanted = (1 - chance) * f[np.arange(n), y].mean() + chance * f.mean()

        def slope_of_loss(s: float) -> float:  # rises with s: the loss is convex
            return float((softmax(s * f) * f).sum(axis=1).mean() - wanted)

        low, high = 0.0, 1.0
        if slope_of_loss(0.0) < 0:
            while slope_of_loss(high) < 0:
                low, high = high, 2 * high
            low = float(brentq(slope_of_loss, low, high, xtol=1e-12, rtol=1e-12))
        return cls(np.array([low]), np.zeros(1), False, n)

    @classmethod
    def of_several(cls, scores: Array, y: Array) -> Self:
        """Learn a sigmoid a class.

        Parameters
        ----------
        scores : ndarray of shape (n, K)
            Class scores of rows that did not train.
        y : ndarray of float64, shape (n, K)
            1 present, 0 absent, NaN unknown.
        """
        known = ~np.isnan(y)
        each = [_sigmoid(scores[known[:, k], k], y[known[:, k], k] == 1) for k in range(y.shape[1])]
        slope, offset = np.array(each).T
        return cls(slope.copy(), offset.copy(), True, len(scores))

    def __call__(self, scores: Array) -> Array:
        """Return probabilities of class scores, both (n, K)."""
        with np.errstate(over="ignore"):  # far from the boundary is certain
            if self.multi_label:
                return np.asarray(expit(self.slope * scores + self.offset))
            return np.asarray(softmax(self.slope * (scores - scores.max(axis=1, keepdims=True))))

    def describe(self) -> str:
        """Say in words what it is."""
        how = "a sigmoid a class" if self.multi_label else f"temperature {self._temperature:.3g}"
        return f"calibrated on {self.n:,} training images held out ({how})"

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        told: dict[str, Any] = {"n": self.n, "method": "temperature"}
        if self.multi_label:
            sigmoids = {"slope": self.slope.tolist(), "offset": self.offset.tolist()}
            return told | {"method": "sigmoid"} | sigmoids
        return told | {"slope": float(self.slope[0])}

    @property
    def _temperature(self) -> float:
        return float(1 / self.slope[0]) if self.slope[0] else np.inf


def _sigmoid(f: Array, present: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return slope and offset of one class."""
    n, count = len(f), int(present.sum())
    even = float(np.log((count + 1) / (n - count + 1)))
    scale = float(np.abs(f).max(initial=0)) or 1.0
    if count in (0, n):  # nothing to tell apart
        return 0.0, even
    target = np.where(present, (count + 1) / (count + 2), 1 / (n - count + 2))
    x = f / scale

    def loss(at: Array) -> tuple[float, Array]:
        z = at[0] * x + at[1]
        wrong = expit(z) - target
        value = np.logaddexp(0, z) - target * z
        return float(value.mean()), np.array([(wrong * x).mean(), wrong.mean()])

    found = minimize(
        loss,
        np.array([0.0, even]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None), (None, None)],
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000},
    )
    return float(found.x[0]) / scale, float(found.x[1])
