"""What is to be told of an image: its class, several classes, or numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from vggfeat.metrics import average_precisions, mean_class_recall, r2_scores
from vggfeat.probe import LinearProbe, RidgeProbe
from vggfeat.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64] | None
Parts = list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]


@dataclass(frozen=True, slots=True)
class Start:
    """A linear probe's coefficients, from which the head starts.

    Attributes
    ----------
    coef, intercept : ndarray of float64, shape (K, d), (K,)
        Of features that are scaled to length 1 where `normalize` says so.
    normalize : bool
    strength : tuple of float
        C of each class that has its own, or alpha of each number.
    """

    coef: Array
    intercept: Array
    normalize: bool
    strength: tuple[float, ...]


class Task(ABC):
    """One kind of targets.

    Attributes
    ----------
    kind : str
        ``"one"`` class an image, ``"several"``, or ``"numbers"``.
    measure : str
        What its score is called.
    names : tuple of str
        Of the K classes or numbers.
    """

    kind: ClassVar[Literal["one", "several", "numbers"]]
    measure: ClassVar[str]
    names: tuple[str, ...]

    @abstractmethod
    def start(self, X: Any, y: Array, groups: Groups, seed: int, progress: Progress) -> Start:
        """Train a linear probe on features (n, d) and targets."""

    @abstractmethod
    def targets(self, y: Array) -> Tensor:
        """Return targets as the loss takes them."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of losses, and of what the images count, to be divided by."""

    @abstractmethod
    def score(self, outputs: Array, y: Array) -> float:
        """Return how good outputs (n, K) are, the larger the better."""


@dataclass(frozen=True)
class OneClass(Task):
    """An image shows one of K classes: cross-entropy.

    Attributes
    ----------
    smoothing : float
        Share of the target that all classes get alike.
    weights : ndarray of shape (K,), or None
        What images count by their class.
    """

    names: tuple[str, ...]
    smoothing: float = 0.0
    weights: Array | None = None
    kind: ClassVar[Literal["one"]] = "one"
    measure: ClassVar[str] = "mean class recall"

    def start(self, X: Any, y: Array, groups: Groups, seed: int, progress: Progress) -> Start:
        """Train a :class:`LinearProbe` by logistic regression."""
        weight = None if self.weights is None else dict(enumerate(self.weights.tolist()))
        probe = LinearProbe("logreg", class_weight=weight, random_state=seed)
        probe.fit(X, y, groups=groups, progress=progress)
        coef, intercept = probe.coef_, probe.intercept_
        if len(coef) == 1:  # (1, d) of two classes -> (2, d), the first being the origin
            coef, intercept = np.vstack([0 * coef, coef]), np.append(0.0, intercept)
        return Start(coef, intercept, True, (float(probe.C_),))

    def targets(self, y: Array) -> Tensor:
        """Return class numbers, int64 (n,)."""
        import torch

        return torch.from_numpy(y.astype(np.int64))

    def loss(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return cross-entropies and weights, summed."""
        import torch
        from torch.nn import functional

        weight = None
        if self.weights is not None:
            weight = torch.as_tensor(self.weights, dtype=outputs.dtype, device=outputs.device)
        each = functional.cross_entropy(
            outputs, targets, weight, reduction="sum", label_smoothing=self.smoothing
        )
        count = outputs.new_tensor(float(len(targets))) if weight is None else weight[targets].sum()
        return each, count

    def score(self, outputs: Array, y: Array) -> float:
        """Return the mean class recall."""
        return mean_class_recall(y, outputs.argmax(axis=1))


@dataclass(frozen=True)
class SeveralClasses(Task):
    """An image may show several of K classes: binary cross-entropy of each.

    Attributes
    ----------
    balanced : bool
        Let images that show a class, and those that do not, count the same in all.
    weights : ndarray of shape (2, K), or None
        What images count where a class is absent, and where it is present.
    """

    names: tuple[str, ...]
    weights: Array | None = None
    kind: ClassVar[Literal["several"]] = "several"
    measure: ClassVar[str] = "mean average precision"

    def start(self, X: Any, y: Array, groups: Groups, seed: int, progress: Progress) -> Start:
        """Train a :class:`LinearProbe` by logistic regression, a class at a time."""
        weight: Any = None if self.weights is None else "balanced"
        probe = LinearProbe("logreg", class_weight=weight, random_state=seed)
        probe.fit(X, y, groups=groups, progress=progress)
        strength = tuple(np.asarray(probe.C_, np.float64).tolist())
        return Start(probe.coef_, probe.intercept_, True, strength)

    def targets(self, y: Array) -> Tensor:
        """Return 1, 0 and NaN, float32 (n, K)."""
        import torch

        return torch.from_numpy(y.astype(np.float32))

    def loss(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the losses of what is known, summed, and how many they are a class."""
        import torch
        from torch.nn import functional

        known = ~targets.isnan()
        truth = targets.nan_to_num()
        weight = known.to(outputs.dtype)
        if self.weights is not None:
            both = torch.as_tensor(self.weights, dtype=outputs.dtype, device=outputs.device)
            weight = weight * torch.where(truth > 0.5, both[1], both[0])
        each = functional.binary_cross_entropy_with_logits(outputs, truth, weight, reduction="sum")
        return each, weight.sum() / outputs.shape[1]

    def score(self, outputs: Array, y: Array) -> float:
        """Return the mean average precision of the classes that are present."""
        present = (y == 1).any(axis=0)
        return float(average_precisions(y[:, present], outputs[:, present]).mean())


@dataclass(frozen=True)
class NumberTargets(Task):
    """Numbers: squared errors, in units of each number's variance.

    Attributes
    ----------
    mean, spread : ndarray of shape (t,)
        Of the training images.
    """

    names: tuple[str, ...]
    mean: Array
    spread: Array
    kind: ClassVar[Literal["numbers"]] = "numbers"
    measure: ClassVar[str] = "mean R2"

    def start(self, X: Any, y: Array, groups: Groups, seed: int, progress: Progress) -> Start:
        """Train a :class:`RidgeProbe` on targets of mean 0 and variance 1."""
        probe = RidgeProbe(random_state=seed)
        probe.fit(X, (y - self.mean) / self.spread, groups=groups, progress=progress)
        coef = np.atleast_2d(np.asarray(probe.coef_, np.float64))
        intercept = np.atleast_1d(np.asarray(probe.intercept_, np.float64))
        return Start(coef, intercept, False, tuple(np.atleast_1d(probe.alpha_).tolist()))

    def targets(self, y: Array) -> Tensor:
        """Return numbers of mean 0 and variance 1, NaN where unknown, float32 (n, t)."""
        import torch

        return torch.from_numpy(((y - self.mean) / self.spread).astype(np.float32))

    def loss(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return squared errors of what is known, summed, and how many they are a number."""
        known = ~targets.isnan()
        errors = (outputs - targets.nan_to_num()).square() * known
        return errors.sum(), known.sum() / outputs.shape[1]

    def score(self, outputs: Array, y: Array) -> float:
        """Return the mean R2 of numbers that have one."""
        found = []
        for k in range(y.shape[1]):
            known = np.isfinite(y[:, k])
            if known.any():
                said = outputs[known, k] * self.spread[k] + self.mean[k]
                found.append(r2_scores(y[known, k, None], said[:, None])[0])
        return float(np.nanmean(found)) if found else float("nan")
