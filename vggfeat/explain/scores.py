"""What is explained: a score as a function of one feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from vggfeat.whitening import Whitening

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """A linear function of a feature x, which may be brought to length 1 before and after.

    It is ``(weights @ u + constant) / length`` with ``u = x / |x|``, or ``u = x`` where features
    are taken as they are, and ``length = |(u - mean) @ projection|`` where a whitening follows,
    else 1.

    Attributes
    ----------
    weights : ndarray of float64, shape (d,)
    constant : float
    normalize : bool
        Whether x is scaled to length 1.
    whitening : Whitening, optional
        Whose result is scaled to length 1.
    """

    weights: Array
    constant: float = 0.0
    normalize: bool = False
    whitening: Whitening | None = None

    @classmethod
    def product(cls, vector: Array, *, unit: bool, whitening: Whitening | None = None) -> Self:
        """Return the inner product with what an index compares, a vector (d,).

        Parameters
        ----------
        vector : ndarray of float64, shape (d,)
        unit : bool
            Whether features are scaled to length 1, which makes it the cosine.
        whitening : Whitening, optional
            That of the index.
        """
        if whitening is None:
            return cls(vector, normalize=unit)
        weights = whitening.projection @ vector
        return cls(weights, -float(whitening.mean @ weights), True, whitening)

    def terms(self, x: Array) -> tuple[Array, float]:
        """Return coefficients (d,) and a constant with ``score = coefficients @ x + constant``.

        They hold for this feature (d,): its own lengths are taken as given.
        """
        length = float(np.linalg.norm(x)) if self.normalize else 1.0
        length = length or 1.0  # zeros stay zeros, as where rows are scaled
        after = 1.0
        if self.whitening is not None:
            turned = (x / length - self.whitening.mean) @ self.whitening.projection
            after = float(np.linalg.norm(turned)) or 1.0
        return self.weights / (length * after), self.constant / after

    def of(self, x: Array) -> float:
        """Return the score of a feature (d,)."""
        coefficients, constant = self.terms(x)
        return float(coefficients @ x + constant)
