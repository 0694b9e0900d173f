"""The last layers of a network as a module to train."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from vggfeat.layers import Architecture
from vggfeat.network.activations import activations, check_input, route
from vggfeat.network.torch_engine import TorchEngine
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
    modules : torch.nn.ModuleDict
        From :func:`vggfeat.network.build`, nothing folded.
    """

    def __init__(self, network: Architecture, modules: nn.ModuleDict) -> None:
        super().__init__()
        self.architecture = network
        self.layers = tuple(modules)
        for name, module in modules.items():
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
