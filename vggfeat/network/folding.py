"""Batch normalisation, folded into the convolution before it.

In evaluation mode batch normalisation is an affine map of each channel, and so is what a
convolution's weights and bias do to its output: the two are one convolution (Ioffe & Szegedy, arXiv
1502.03167, section 3.1, applied to the layer before). It is computed in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

EPS = 1e-5
"""What torch's ``BatchNorm2d`` adds to the variance."""


def folded(conv: Mapping[str, Tensor], norm: Mapping[str, Tensor]) -> dict[str, Tensor]:
    r"""Return the one convolution that a convolution and batch normalisation are.

    With the convolution's :math:`W, b` and the normalisation's :math:`\gamma, \beta, \mu, \sigma^2`
    it has :math:`W' = s W` and :math:`b' = \beta + s (b - \mu)` for
    :math:`s = \gamma / \sqrt{\sigma^2 + \epsilon}`.

    Parameters
    ----------
    conv : mapping of str to Tensor
        ``weight`` (outputs, inputs, H, W) and ``bias`` (outputs,).
    norm : mapping of str to Tensor
        ``weight``, ``bias``, ``running_mean`` and ``running_var``, each (outputs,).

    Returns
    -------
    dict of str to Tensor
        ``weight`` and ``bias``, of the convolution's type.
    """
    gamma, beta, mean, variance = (
        norm[name].double() for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / (variance + EPS).sqrt()
    weight = conv["weight"].double() * scale[:, None, None, None]
    bias = beta + scale * (conv["bias"].double() - mean)
    return {"weight": weight.to(conv["weight"].dtype), "bias": bias.to(conv["bias"].dtype)}


class Aside(nn.Module):
    """Shows what a layer puts out, and hands on its own input.

    Where a convolution is folded, its own output is not on the way. It is computed beside it when
    somebody asks for it, so that no other layer's numbers depend on that.

    Parameters
    ----------
    shown : torch.nn.Module
        The layer; whoever wants its output listens to it.
    """

    def __init__(self, shown: nn.Module) -> None:
        super().__init__()
        self.shown = shown

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer, and return `x`."""
        self.shown(x)
        return x


def source(module: nn.Module) -> nn.Module:
    """Return the module whose output a layer's activation is."""
    return module.shown if isinstance(module, Aside) else module
