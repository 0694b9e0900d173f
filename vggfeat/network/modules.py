"""The network's modules: built as deep as they are asked for, and listened to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from vggfeat.layers import Architecture, Layer
from vggfeat.network.folding import Aside, folded
from vggfeat.weights import Weights
from vggfeat.weights.state import layer_shapes, names


def build(network: Architecture, weights: Weights, layers: Mapping[str, str]) -> nn.ModuleDict:
    """Build the modules up to the deepest of some layers, with their weights, on the CPU.

    The modules are those of torchvision's VGG (tests compare the two), for any network of the
    table. They are made on the meta device, which holds shapes only, and then given the tensors
    that will be used, so that nothing is allocated twice, or for deeper layers: memory is what
    :meth:`~vggfeat.weights.Weights.load` takes for the layers up to the deepest, and twice the
    largest convolution while batch normalisation is folded into it.

    Batch normalisation is folded into the convolution before it
    (:mod:`vggfeat.network.folding`): the folded convolution goes by the name ``bnX_Y``, whose
    output it computes. ``convX_Y``, the convolution's own output, is computed beside it where it
    is asked for; no other layer's numbers depend on that.

    Parameters
    ----------
    network : Architecture
        Which network.
    weights : Weights
        Where its tensors come from.
    layers : mapping of str to anything
        Canonical names of the layers that will be asked for.

    Returns
    -------
    torch.nn.ModuleDict
        Canonical name to module, in the order they run, in evaluation mode. Dropout is left out.
    """
    wanted = network.upto(layers)
    tensors = weights.load(network, names(wanted), wanted[-1].name)
    modules = nn.ModuleDict()
    conv, waiting = None, {}
    for layer in wanted:
        own = {kind: tensors.pop(f"{layer.module}.{kind}") for kind in layer_shapes(layer)}
        if layer.kind == "conv" and network.batch_norm:
            conv, waiting = layer, own
            if layer.name in layers:
                modules[layer.name] = Aside(_module(layer, network, own))
        elif layer.kind == "bn" and conv:
            modules[layer.name] = _module(conv, network, folded(waiting, own))
        else:
            modules[layer.name] = _module(layer, network, own)
    return modules.eval().requires_grad_(False)


def _module(layer: Layer, network: Architecture, tensors: Mapping[str, Tensor]) -> nn.Module:
    with torch.device("meta"):
        module = _empty(layer, network)
    module.load_state_dict(dict(tensors), assign=True)
    return module


def _empty(layer: Layer, network: Architecture) -> nn.Module:
    match layer.kind:
        case "conv":
            return nn.Conv2d(
                layer.inputs, layer.outputs, layer.kernel, layer.stride, layer.padding,
                dtype=torch.float32,
            )  # fmt: skip
        case "relu":
            return nn.ReLU()
        case "pool":
            return nn.MaxPool2d(layer.kernel, layer.stride)
        case "flatten":  # inputs of any size reach the head as the map it was trained on
            return nn.Sequential(nn.AdaptiveAvgPool2d(network.grid), nn.Flatten())
        case "linear":
            return nn.Linear(layer.inputs, layer.outputs, dtype=torch.float32)
        case "softmax":
            return nn.Softmax(dim=1)
        case "bn":
            raise ValueError("batch normalisation is never built, but folded")


def walk(
    modules: nn.ModuleDict,
    names: Sequence[str],
    x: Tensor,
    layers: Collection[str],
    keep: Callable[[str, Tensor], object],
) -> Tensor:
    """Run modules one after the other, and hand over what some of them put out.

    The modules are left as they are, without hooks, so that several threads may run them at once.

    Parameters
    ----------
    modules : torch.nn.ModuleDict
        From :func:`build`.
    names : sequence of str
        Canonical names of those that run, in this order.
    x : Tensor
        Input of the first one, which is overwritten where that is a ReLU.
    layers : collection of str
        Canonical names to listen to.
    keep : callable
        Called with the canonical name and the activation, (B, C, H, W) or (B, D). Nothing
        overwrites it afterwards: the ReLU behind a layer that is listened to writes elsewhere.

    Returns
    -------
    Tensor
        What the last one puts out.
    """
    kept = False
    for name in names:
        module = modules[name]
        if isinstance(module, Aside):
            keep(name, module.shown(x))
            continue
        x = torch.relu_(x) if isinstance(module, nn.ReLU) and not kept else module(x)
        kept = name in layers
        if kept:
            keep(name, x)
    return x
