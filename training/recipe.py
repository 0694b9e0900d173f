"""The recipe: every number that decides what is learnt."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run; the defaults made the weights that vggfeat ships.

    Attributes
    ----------
    model : str
        Name in :data:`vggfeat.layers.ARCHITECTURES`.
    epochs : int
        Times that every training image is seen.
    batch : int
        Images a step.
    rate : float
        Peak learning rate: reached linearly after `warmup` epochs, then down a cosine to 0
        (Loshchilov & Hutter 2017, "SGDR").
    warmup : float
        In epochs.
    momentum : float
        Of Nesterov's gradient descent.
    decay : float
        L2 penalty on the weights of convolutions and linear layers, on nothing else.
    smoothing : float
        Label smoothing (Szegedy et al. 2016).
    dropout : float
        After relu6 and relu7.
    stages : tuple of (float, int)
        Progressive resolution: from which part of the run on, at which input side in pixels.
    smallest_crop : float
        Random crops cover from this share of the image's area up to all of it.
    jitter : float
        Brightness, contrast and saturation each change by a factor of up to 1 +- this.
    averaging : float
        Decay a step of the moving average of the weights, which is what is scored and kept.
    precision : str
        ``"bfloat16"`` (autocast) or ``"float32"``.
    seed : int
        Of initial weights, order and augmentation.
    """

    model: str = "vgg16-tiny"
    epochs: int = 28
    batch: int = 128
    rate: float = 0.1
    warmup: float = 1.0
    momentum: float = 0.9
    decay: float = 5e-4
    smoothing: float = 0.1
    dropout: float = 0.1
    stages: tuple[tuple[float, int], ...] = ((0.0, 48), (0.5, 64))
    smallest_crop: float = 0.5
    jitter: float = 0.2
    averaging: float = 0.999
    precision: str = "bfloat16"
    seed: int = 0

    def side(self, epoch: int) -> int:
        """Return the input's side in pixels during an epoch, counted from 0."""
        return [side for start, side in self.stages if epoch >= start * self.epochs - 1e-9][-1]

    def rate_at(self, epoch: float) -> float:
        """Return the learning rate at a point of the run, in epochs from its start."""
        if epoch < self.warmup:
            return self.rate * epoch / self.warmup
        done = (epoch - self.warmup) / max(self.epochs - self.warmup, 1e-9)
        return self.rate * (1 + math.cos(math.pi * min(done, 1.0))) / 2

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)
