"""What is trained: the last layers of a network, a pooling, and a linear head."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from vggfeat import pooling
from vggfeat.network.tail import Tail

Array = npt.NDArray[np.float64]


class Tuned(nn.Module):
    """Layers from the first trained one on, and the head on the features of the last.

    Batch normalisation keeps the statistics it was trained with: those of a few images are worse.

    Parameters
    ----------
    tail : Tail or None
        The layers; None where the head alone is trained, whose inputs are features.
    layer, pool : str
        The layer that the head reads, and its pooling; ``""`` of vectors.
    coef, intercept : ndarray of shape (K, d), (K,)
        Where the head starts.
    normalize : bool
        Scale features to length 1; otherwise by one number for all, `scale`.
    scale : float
        What features are divided by, so that one learning rate suits all networks.
    """

    def __init__(
        self,
        tail: Tail | None,
        layer: str,
        pool: str,
        coef: Array,
        intercept: Array,
        *,
        normalize: bool = True,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.tail, self.layer, self.pool = tail, layer, pool
        self.normalize, self.scale = normalize, 1.0 if normalize else scale
        outputs, inputs = coef.shape
        self.head = nn.Linear(inputs, outputs)
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(coef * self.scale))
            self.head.bias.copy_(torch.from_numpy(intercept))

    def features(self, x: Tensor) -> Tensor:
        """Return features (B, d) of inputs of the first trained layer, in float32."""
        if self.tail is None:
            return x
        maps = self.tail.activations(x, [self.layer])[self.layer]
        return pooling.apply(maps, self.pool).flatten(1)  # (B, C, ...) -> (B, d)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the head puts out, (B, K), in float32."""
        return self.headed(self.features(x))

    def headed(self, features: Tensor) -> Tensor:
        """Return what the head makes of features (B, d), in float32."""
        if self.normalize:
            features = functional.normalize(features, eps=1e-30)
        else:
            features = features / self.scale
        return functional.linear(features, self.head.weight, self.head.bias).float()

    def train(self, mode: bool = True) -> Tuned:
        """Set the mode; the network's own layers stay as they are."""
        super().train(mode)
        if self.tail is not None:
            self.tail.eval()
        return self

    def coefficients(self) -> tuple[Array, Array]:
        """Return the head as of the features themselves: (K, d) and (K,) in float64."""
        weight = self.head.weight.detach().cpu().double().numpy() / self.scale
        return weight, self.head.bias.detach().cpu().double().numpy()

    def groups(self, rate: float, head_rate: float, decay: float) -> Iterator[dict[str, object]]:
        """Yield the parameters as groups for an optimiser; biases and scales do not decay."""
        for module, lr in ((self.tail, rate), (self.head, head_rate)):
            own = [] if module is None else list(module.parameters())
            for parameters, weight_decay in (
                ([one for one in own if one.ndim > 1], decay),
                ([one for one in own if one.ndim <= 1], 0.0),
            ):
                if parameters:
                    yield {"params": parameters, "lr": lr, "weight_decay": weight_decay}
