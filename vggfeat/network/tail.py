"""The last layers of a network as a module to train."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from vggfeat.layers import Architecture
from vggfeat.network.activations import activations, check_input, route
from vggfeat.network.callers import plain_torch
from vggfeat.network.modules import build
from vggfeat.network.torch_engine import TorchEngine
from vggfeat.weights import Weights, names
from vggfeat.weights.state import layer_shapes


class Tail(nn.Module):
    """A network's layers from one on, with parameters of their own that an optimiser can train.

    From :meth:`vggfeat.network.Network.tail`. It runs as the caller has set up torch: with its
    autocast, gradients and precision. Layers go by their canonical names, ``tail.conv5_1``, and so
    do the tensors of its state dict, ``conv5_1.weight``. It is made in evaluation mode; there is no
    dropout in either mode, and batch normalisation, where a network has it, is a module of its own
    that learns from its batches in training mode.

    Parameters
    ----------
    network : Architecture
        Whose layers they are.
    weights : Weights
        Where their tensors come from; it has copies of them.
    first, last : str
        Names or aliases of its first and last layer.

    Raises
    ------
    LayerError
        Unknown layers, `last` before `first`, or a `first` that is batch normalisation.
    """

    def __init__(self, network: Architecture, weights: Weights, first: str, last: str) -> None:
        super().__init__()
        (last,), path = route(network, network.names, [last], first)
        self.architecture, self.weights, self.layers = network, weights, tuple(path)
        with plain_torch():
            modules = build(network, weights, [last], first=path[0], fold=False)
        for name, module in modules.requires_grad_().items():
            self.add_module(name, module)
        self.eval()

    def forward(self, x: Tensor, *, dense: bool = False) -> Tensor:
        """Return what the last layer puts out; see :meth:`activations`."""
        return self.activations(x, self.layers[-1:], dense=dense)[self.layers[-1]]

    def activations(
        self, x: Tensor, layers: Iterable[str], *, dense: bool = False
    ) -> dict[str, Tensor]:
        """Return what layers put out, for autograd.

        Parameters
        ----------
        x : Tensor
            What the layer before the first one put out, as :meth:`Network.activations` gives it.
        layers : iterable of str
            Names or aliases.
        dense : bool
            Run the fully connected layers at every position.

        Returns
        -------
        dict of str to Tensor
            As :meth:`Network.activations`.

        Raises
        ------
        LayerError
            A layer is not here, or `x` does not fit the first one.
        """
        requested, path = route(self.architecture, self.layers, layers, dense=dense)
        check_input(self.architecture, path[0], x, dense=dense)
        modules = nn.ModuleDict({name: self.get_submodule(name) for name in path})
        runner = TorchEngine(self.architecture, modules)
        poolings = dict.fromkeys(requested, "")
        return activations(runner, self.architecture, path, [x], poolings, dense=dense)

    def torchvision_state(self) -> dict[str, Tensor]:
        """Return copies of its tensors on the CPU by their names in torchvision's state dict."""
        own = self.state_dict()
        return {
            f"{layer.module}.{kind}": own[f"{layer.name}.{kind}"].detach().cpu().clone()
            for layer in self.architecture.layers
            if layer.name in self.layers
            for kind in layer_shapes(layer)
        }

    def whole_state(self) -> dict[str, Tensor]:
        """Return torchvision's state dict of the network, with this module's tensors in it.

        As far as its last layer: deeper ones were trained on other inputs. A file of it should say
        its preprocessing (docs/activations.md).

        Returns
        -------
        dict of str to Tensor
            float32 on the CPU, such as ``features.28.weight``.
        """
        own, network = self.torchvision_state(), self.architecture
        every = names(network.upto(self.layers[-1:]))
        return self.weights.load(network, [name for name in every if name not in own]) | own
