"""The network: built as deep as it is asked for, run, and listened to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vggfeat import malloc, pooling
from vggfeat.devices import TYPES, chunk_size, resolve_device
from vggfeat.errors import DeviceError
from vggfeat.layers import Architecture, Layer
from vggfeat.preprocessing import Preprocessing
from vggfeat.weights import Weights

_log = logging.getLogger(__name__)

_HEAD_ROWS = 8
"""Rows that the fully connected layers get at least. Matrix libraries pick other kernels, with
other rounding, for a handful of rows; with this many, an image's features do not depend on how
many images share its batch (on the CPUs tried, to the last bit)."""


def build(network: Architecture, weights: Weights, layers: Mapping[str, str]) -> nn.ModuleDict:
    """Build the modules up to the deepest of some layers, with their weights, on the CPU.

    The modules are those of torchvision's VGG (tests compare the two), for any network of the
    table. They are made on the meta device, which holds shapes only, and then given the tensors
    that will be used, so that nothing is allocated twice, or for deeper layers.

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
    names = [f"{at.module}.{kind}" for at in wanted if at.parameters for kind in ("weight", "bias")]
    tensors = weights.load(network, names)
    modules = nn.ModuleDict()
    for layer in wanted:
        with torch.device("meta"):
            modules[layer.name] = _module(layer, network)
        if layer.parameters:
            own = {kind: tensors.pop(f"{layer.module}.{kind}") for kind in ("weight", "bias")}
            modules[layer.name].load_state_dict(own, assign=True)
    return modules.eval().requires_grad_(False)


def _module(layer: Layer, network: Architecture) -> nn.Module:
    match layer.kind:
        case "conv":
            return nn.Conv2d(layer.inputs, layer.outputs, layer.kernel, layer.stride, layer.padding)
        case "relu":
            return nn.ReLU(inplace=True)
        case "pool":
            return nn.MaxPool2d(layer.kernel, layer.stride)
        case "flatten":  # inputs of any size reach the head as the map it was trained on
            return nn.Sequential(nn.AdaptiveAvgPool2d(network.grid), nn.Flatten())
        case "linear":
            return nn.Linear(layer.inputs, layer.outputs)
        case "softmax":
            return nn.Softmax(dim=1)


@contextmanager
def capture(
    modules: nn.ModuleDict, layers: Mapping[str, str], keep: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Hand over the activations of layers while the modules run, and always let go afterwards.

    torchvision's ReLUs work in place, which would rectify the output of the layer before them
    under the hands of whoever kept it. So while a layer is listened to, the ReLU after it writes
    elsewhere.

    Parameters
    ----------
    modules : torch.nn.ModuleDict
        From :func:`build`.
    layers : mapping of str to anything
        Canonical names to listen to.
    keep : callable
        Called with the canonical name and the activation, (B, C, H, W) or (B, D).
    """
    names = list(modules)

    def listen(name: str, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        keep(name, output)

    with ExitStack() as undo:
        for name in layers:
            handle = modules[name].register_forward_hook(partial(listen, name))
            undo.callback(handle.remove)
            after = names.index(name) + 1
            follower = modules[names[after]] if after < len(names) else None
            if isinstance(follower, nn.ReLU) and follower.inplace:
                follower.inplace = False
                undo.callback(setattr, follower, "inplace", True)
        yield


@dataclass(frozen=True)
class Network:
    """A network ready to turn 8-bit images into pooled features.

    Attributes
    ----------
    modules : torch.nn.ModuleDict
        From :func:`build`, on `device` and in `precision`.
    layers : dict of str to str
        Canonical layer name to pooling.
    preprocessing : Preprocessing
        Gives the channels' order, scale, mean and standard deviation.
    device : torch.device
        Where it runs.
    precision : torch.dtype
        Type of weights and activations.
    """

    modules: nn.ModuleDict
    layers: Mapping[str, str]
    preprocessing: Preprocessing
    device: torch.device
    precision: torch.dtype

    @classmethod
    def load(
        cls,
        network: Architecture,
        weights: Weights,
        layers: Mapping[str, str],
        device: str = "auto",
        precision: str = "float32",
    ) -> Network:
        """Build a network, load its weights and move it to its device.

        Raises
        ------
        DeviceError
            The device is not available, or has too little memory.
        WeightsError
            The weights do not fit.
        """
        place = resolve_device(device)
        if place.type == "cpu":
            malloc.keep_freed_blocks()
        modules = build(network, weights, layers)
        try:
            modules.to(place, TYPES[precision]).to(memory_format=torch.channels_last)
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"{place} has not the memory for {network.name}'s weights. Close what else uses "
                "it, or compute on another device: --device cpu."
            ) from error
        _log.debug("%s up to %s on %s", network.name, list(modules)[-1], place)
        return cls(modules, dict(layers), weights.preprocessing, place, TYPES[precision])

    def features(self, images: NDArray[np.uint8]) -> dict[str, Tensor]:
        """Run a batch and pool what the asked layers put out.

        On a GPU this returns before the computation has ended.

        Parameters
        ----------
        images : ndarray of uint8, (B, H, W, 3)
            RGB, 0..255.

        Returns
        -------
        dict of str to Tensor
            Layer to float32 features (B, ...) on the network's device.
        """
        with torch.inference_mode():
            chunk = chunk_size(self.device, images.shape)
            parts = (images[i : i + chunk] for i in range(0, len(images), chunk))
            return self.run(map(self._normalised, parts))

    def run(self, inputs: Iterable[Tensor]) -> dict[str, Tensor]:
        """Run normalised inputs: the convolutions part by part, the head on all together.

        Parameters
        ----------
        inputs : iterable of Tensor, (b, 3, H, W)
            Parts of a batch.

        Returns
        -------
        dict of str to Tensor
            As :meth:`features`.
        """
        found: dict[str, list[Tensor]] = {name: [] for name in self.layers}

        def keep(name: str, activation: Tensor) -> None:
            found[name].append(pooling.apply(activation, self.layers[name]))

        with torch.inference_mode(), _exact_float32(), capture(self.modules, self.layers, keep):
            maps, count = [], 0
            for part in inputs:
                count += len(part)
                x = self._through(part, head=False)
                if "flatten" in self.modules:  # else it would be kept for nothing
                    maps.append(x)
            if maps:
                missing = max(0, _HEAD_ROWS - count)
                rows = nn.functional.pad(torch.cat(maps), (0, 0, 0, 0, 0, 0, 0, missing))
                self._through(rows, head=True)
            return {name: torch.cat(parts)[:count] for name, parts in found.items()}

    def _through(self, x: Tensor, head: bool) -> Tensor:
        """Run the convolutional part, or the fully connected one from ``flatten`` on."""
        names = list(self.modules)
        first = names.index("flatten") if "flatten" in names else len(names)
        for name in names[first:] if head else names[:first]:
            x = self.modules[name](x)
        return x

    def features_with_retreat(self, images: NDArray[np.uint8]) -> dict[str, Tensor]:
        """As :meth:`features`, in halves where the device's memory does not hold the batch."""
        try:
            return self.features(images)
        except torch.OutOfMemoryError as error:
            if len(images) == 1:
                raise DeviceError(
                    f"{self.device} has not the memory for one image. Close what else uses it, "
                    "or compute on another device: --device cpu."
                ) from error
        half = len(images) // 2
        _log.warning(
            "%s is out of memory with %d images; going on with halves", self.device, len(images)
        )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        parts = [self.features_with_retreat(part) for part in (images[:half], images[half:])]
        return {name: torch.cat([part[name] for part in parts]) for name in self.layers}

    def _normalised(self, images: NDArray[np.uint8]) -> Tensor:
        spec = self.preprocessing
        # (B, H, W, 3) -> (B, 3, H, W): a view, and the memory is channels_last already
        x = torch.from_numpy(images).to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        if spec.channels == "BGR":
            x = x.flip(1).contiguous(memory_format=torch.channels_last)
        mean, std = (
            torch.tensor(values, device=self.device).view(1, 3, 1, 1)
            for values in (spec.mean, spec.std)
        )
        # Division, as torchvision divides by 255: a product with 1/255 rounds otherwise.
        x = x.to(torch.float32).div_(1 / spec.scale).sub_(mean).div_(std)
        return x.to(self.precision)


@contextmanager
def _exact_float32() -> Iterator[None]:
    """Switch off TF32, which GPUs may use for float32 (error 1e-3), and nothing else."""
    cudnn = torch.backends.cudnn
    products = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with cudnn.flags(
            enabled=cudnn.enabled,
            benchmark=cudnn.benchmark,
            deterministic=cudnn.deterministic,
            allow_tf32=False,
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(products)
