"""A VGG network that can be trained: batch normalisation after every layer, folded in the end."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vggfeat.layers import Architecture, Layer


class Trainable(nn.Module):
    """A network of the layer table, with batch normalisation and dropout.

    The last ReLU of a block is taken after the pooling instead of before: maximum and ReLU
    commute, and the map is a quarter of the size then (1.4 times faster training on a CPU).

    Parameters
    ----------
    network : Architecture
        Which network.
    dropout : float
        After relu6 and relu7.
    """

    def __init__(self, network: Architecture, dropout: float) -> None:
        super().__init__()
        self.network, self.dropout = network, dropout
        self.weighted = nn.ModuleDict(
            {layer.name: _weighted(layer) for layer in network.layers if layer.parameters}
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) of normalised images (B, 3, H, W)."""
        layers = [layer for layer in self.network.layers if layer.kind != "softmax"]
        for layer, after in zip(layers, [*layers[1:], None], strict=True):
            if layer.parameters:
                x = self.weighted[layer.name](x)
            elif layer.kind == "pool":
                x = functional.relu(functional.max_pool2d(x, layer.kernel, layer.stride))
            elif layer.kind == "flatten":
                x = functional.adaptive_avg_pool2d(x, self.network.grid).flatten(1)
            elif after is None or after.kind != "pool":
                x = functional.relu(x)
                if not layer.spatial:
                    x = functional.dropout(x, self.dropout, self.training)
        return x

    def folded(self) -> dict[str, Tensor]:
        """Return a state dict in torchvision's names, with the batch normalisation folded in.

        ``y = gamma (w x - mean) / sqrt(var + eps) + beta`` is one product with the weights
        ``gamma w / sqrt(var + eps)`` and the bias ``beta - gamma mean / sqrt(var + eps)``.

        Returns
        -------
        dict of str to Tensor
            float32, on the CPU.
        """
        found: dict[str, Tensor] = {}
        for layer in self.network.layers:
            if not layer.parameters:
                continue
            module: Any = self.weighted[layer.name]
            if isinstance(module, nn.Linear):
                weight, bias = module.weight, module.bias
            else:
                product, norm = module
                factor = norm.weight / (norm.running_var + norm.eps).sqrt()
                weight = product.weight * factor.view(-1, *[1] * (product.weight.dim() - 1))
                bias = norm.bias - norm.running_mean * factor
            found[f"{layer.module}.weight"] = weight.detach().float().cpu().contiguous()
            found[f"{layer.module}.bias"] = bias.detach().float().cpu()
        return found


def _weighted(layer: Layer) -> nn.Module:
    if layer.kind == "conv":
        convolution = nn.Conv2d(
            layer.inputs, layer.outputs, layer.kernel, padding=layer.padding, bias=False
        )
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        return nn.Sequential(convolution, nn.BatchNorm2d(layer.outputs))
    if layer.activation:
        linear = nn.Linear(layer.inputs, layer.outputs, bias=False)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        return nn.Sequential(linear, nn.BatchNorm1d(layer.outputs))
    return nn.Linear(layer.inputs, layer.outputs)


def parameter_groups(model: nn.Module, decay: float) -> list[dict[str, object]]:
    """Split the parameters: matrices and kernels decay, biases and normalisation do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]


def normalised(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return float images (B, 3, H, W) in 0..255 as the network wants them, channels_last."""
    shape = (1, 3, 1, 1)
    x = (pixels / 255 - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
    return x.contiguous(memory_format=torch.channels_last)
