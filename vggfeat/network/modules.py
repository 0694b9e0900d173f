"""The network's modules: built as deep as they are asked for, and listened to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from vggfeat.layers import Architecture, Layer
from vggfeat.network.folding import EPS, Aside, folded
from vggfeat.weights import Weights
from vggfeat.weights.state import layer_shapes, names

Listeners = Mapping[str, Callable[[Tensor], Tensor]]
"""By canonical name of a layer, what is called with its activation, and gives what goes on."""


def build(
    network: Architecture,
    weights: Weights,
    layers: Iterable[str],
    *,
    first: str = "",
    fold: bool = True,
) -> nn.ModuleDict:
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
    layers : iterable of str
        Canonical names of the layers that will be asked for.
    first : str
        Canonical name of the first layer to build; by default the network's first.
    fold : bool
        Fold batch normalisation; otherwise it is a module of its own.

    Returns
    -------
    torch.nn.ModuleDict
        Canonical name to module, in the order they run, in evaluation mode, without gradients.
        Dropout is left out.
    """
    requested = set(layers)
    built = network.upto(requested)[network.names.index(first) if first else 0 :]
    tensors = weights.load(network, names(built), built[-1].name)
    modules = nn.ModuleDict()
    conv, waiting = None, {}
    for layer in built:
        own = {kind: tensors.pop(f"{layer.module}.{kind}") for kind in layer_shapes(layer)}
        if fold and layer.kind == "conv" and network.batch_norm:
            conv, waiting = layer, own
            if layer.name in requested:
                modules[layer.name] = Aside(_module(layer, network, own))
        elif layer.kind == "bn" and conv:
            modules[layer.name] = _module(conv, network, folded(waiting, own))
        else:
            modules[layer.name] = _module(layer, network, own)
    return modules.eval().requires_grad_(False)


def _module(layer: Layer, network: Architecture, tensors: Mapping[str, Tensor]) -> nn.Module:
    with torch.device("meta"):
        module = _empty(layer, network)
    count = {"num_batches_tracked": torch.tensor(0, device="cpu")} if layer.kind == "bn" else {}
    module.load_state_dict({**tensors, **count}, assign=True)
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
            return nn.BatchNorm2d(layer.outputs, eps=EPS, dtype=torch.float32)


def run_modules(
    modules: nn.ModuleDict, names: Sequence[str], x: Tensor, listeners: Listeners
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
        Input of the first one.
    listeners : Listeners
        By layer, called with its activation, (B, C, H, W) or (B, D). Nothing overwrites that
        afterwards, or `x`: the ReLU behind it writes elsewhere.

    Returns
    -------
    Tensor
        What the last one puts out.
    """
    kept = True
    for name in names:
        module = modules[name]
        if isinstance(module, Aside):
            if name in listeners:
                listeners[name](module.shown(x))
            continue
        x = torch.relu_(x) if isinstance(module, nn.ReLU) and not kept else module(x)
        kept = name in listeners
        if kept:
            x = listeners[name](x)
    return x
