"""Images through a network: activations, and features made of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vggfeat import malloc
from vggfeat.devices import TYPES, chunk_size, resolve_device
from vggfeat.errors import DeviceError, LayerError
from vggfeat.layers import Architecture, layer_of
from vggfeat.network.activations import activations, check_input, route
from vggfeat.network.callers import own_torch, plain_torch
from vggfeat.network.engines import Engine
from vggfeat.network.inputs import normalised
from vggfeat.network.modules import build
from vggfeat.network.tail import Tail
from vggfeat.preprocessing import Preprocessing
from vggfeat.weights import Weights

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Network:
    """A network ready to turn 8-bit images into activations and features.

    Attributes
    ----------
    architecture : Architecture
        Its table of layers.
    weights : Weights
        Where its tensors came from.
    modules : torch.nn.ModuleDict
        From :func:`~vggfeat.network.build`, on `device` and in `precision`.
    layers : dict of str to str
        Canonical layer name, or ``LAYER:POOL``, to pooling.
    preprocessing : Preprocessing
        Gives the channels' order, scale, mean and standard deviation.
    device : torch.device
        Where it runs.
    precision : torch.dtype
        Type of weights and activations.
    engine : Engine
        Runs the modules, or what takes their place.
    """

    architecture: Architecture
    weights: Weights
    modules: nn.ModuleDict
    layers: Mapping[str, str]
    preprocessing: Preprocessing
    device: torch.device
    precision: torch.dtype
    engine: Engine

    @classmethod
    def load(
        cls,
        network: Architecture,
        weights: Weights,
        layers: Mapping[str, str],
        device: str = "auto",
        precision: str = "float32",
        engine: str = "auto",
    ) -> Network:
        """Build a network, load its weights and move it to its device.

        Raises
        ------
        DeviceError
            The device or engine is not available, or there is too little memory.
        WeightsError
            The weights do not fit.
        """
        target = resolve_device(device)
        malloc.keep_freed_blocks()  # wherever it runs, images are decoded here
        with plain_torch():
            modules = build(network, weights, map(layer_of, layers))
        try:
            with plain_torch():
                modules.to(target, TYPES[precision]).to(memory_format=torch.channels_last)
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"{target} has not the memory for {network.name}'s weights. Close what else uses "
                "it, or compute on another device: --device cpu."
            ) from error
        _log.debug("%s up to %s on %s", network.name, list(modules)[-1], target)
        spec, kind = weights.preprocessing, TYPES[precision]
        runs = Engine(
            engine, network, modules, target, kind, lambda: _rebuilt(network, weights, modules)
        )
        return cls(network, weights, modules, dict(layers), spec, target, kind, runs)

    def hint_workload(self, pixels: int) -> None:
        """Say how many pixels of input are to come in all, so that the engine can be chosen."""
        self.engine.hint_workload(pixels)

    def activations(
        self,
        inputs: Sequence[NDArray[np.uint8]] | Tensor,
        layers: Iterable[str] | None = None,
        *,
        start: str = "",
        dense: bool = False,
        gradients: bool = False,
    ) -> dict[str, Tensor]:
        """Return what layers put out, unpooled: maps, and of fully connected layers vectors.

        Parameters
        ----------
        inputs : sequence of ndarray of uint8 (H, W, 3), array (B, H, W, 3), or Tensor
            RGB images, 0..255, of one size; or, as a tensor, what goes into the layer `start`:
            what this method returned of the layer before it, and for the first layer what
            :meth:`normalised` returns.
        layers : iterable of str, optional
            Names or aliases; by default those that the network was loaded for.
        start : str
            Name or alias of the first layer that runs; by default the network's first.
        dense : bool
            Run the fully connected layers at every position of the map, as convolutions
            (Simonyan & Zisserman, arXiv 1409.1556, section 3.2). Otherwise the map is resampled
            to what they were trained on.
        gradients : bool
            Let autograd record the run, so that scores can be differentiated with respect to each
            activation, to `inputs` where that is a tensor which requires it, and to the pixels.
            Parameters are fixed; :meth:`tail` has ones to train.

        Returns
        -------
        dict of str to Tensor
            Canonical name to float32 (B, C, H, W) or (B, D), in a dense run (B, D, h, w) for fully
            connected layers, in the order that the layers run, on the network's device.

        Raises
        ------
        LayerError
            A layer is unknown, not built, or comes before `start`; or `inputs` does not fit it.
        ImageError
            Images of several sizes.

        Notes
        -----
        Runs from the middle on and runs with gradients are torch's; with the Winograd engine they
        agree with whole runs to 1e-5, with torch's to the last bit.

        Examples
        --------
        >>> maps = network.activations(images, ["pool4"])             # doctest: +SKIP
        >>> network.activations(maps["pool4"], ["relu5_3"], start="conv5_1")  # doctest: +SKIP
        """
        network = self.architecture
        requested, path = route(
            network,
            list(self.modules),
            map(layer_of, self.layers) if layers is None else layers,
            start,
            dense=dense,
        )
        first = network.layer(start).name if start else network.names[0]
        if isinstance(inputs, Tensor):
            check_input(network, first, inputs, dense=dense)
        elif first != network.names[0]:
            raise LayerError(
                f"Images go into {network.names[0]}, not {first}. Give a tensor of what the layer "
                "before it puts out, or leave the start out."
            )
        plain = gradients or first != network.names[0]
        with (
            own_torch(self.device, gradients=gradients),
            self.engine.running(plain=plain) as runner,
        ):
            x = inputs if isinstance(inputs, Tensor) else self.normalised(inputs)
            if not gradients:
                x = x.detach()
            elif not isinstance(inputs, Tensor):
                x.requires_grad_()
            elif x.is_inference():
                x = x.clone()
            x = x.to(self.device, self.precision)
            chunk = len(x)
            if x.ndim == 4:
                x = x.contiguous(memory_format=torch.channels_last)
            if x.ndim == 4 and not gradients:
                shrunk = 2 ** sum(
                    one.kind == "pool" for one in network.layers[: network.names.index(first)]
                )
                chunk = chunk_size(self.device, x.shape[2] * shrunk, x.shape[3] * shrunk)
            poolings = dict.fromkeys(requested, "")
            return activations(runner, network, path, torch.split(x, chunk), poolings, dense=dense)

    def tail(self, first: str, last: str = "") -> Tail:
        """Return the layers from one on as a module with parameters to train.

        Its parameters are copies, in float32 on the network's device: training them changes
        nothing here. It starts from what :meth:`activations` returns of the layer before `first`.

        Parameters
        ----------
        first, last : str
            Names or aliases of its first and last layer; by default the deepest that is built.

        Raises
        ------
        LayerError
            Unknown layers, `last` before `first`, or a `first` that is batch normalisation.
        """
        last = last or list(self.modules)[-1]
        return Tail(self.architecture, self.weights, first, last).to(self.device)

    def features(
        self, images: Sequence[NDArray[np.uint8]], *, flip: bool = False, dense: bool = False
    ) -> dict[str, Tensor]:
        """Run images, those of one size together, and pool what its layers put out.

        On a GPU this returns before the computation has ended.

        Parameters
        ----------
        images : sequence of ndarray of uint8, (H, W, 3)
            RGB, 0..255, of any sizes; or one array (B, H, W, 3).
        flip : bool
            Run the mirror image of each as well.
        dense : bool
            Run the fully connected layers at every position of the map, and average over them
            (:mod:`~vggfeat.network.positions`). Otherwise the map is resampled to what they were
            trained on.

        Returns
        -------
        dict of str to Tensor
            By the keys of :attr:`layers` float32 features (B, ...) on the network's device; with
            `flip` (2 * B, ...), each image's followed by its mirror image's.
        """
        copies = 2 if flip else 1
        chunks = list(self._of_one_size(images, copies))
        features = self.run((self._inputs(images, chunk, copies) for chunk in chunks), dense=dense)
        order = [place for chunk in chunks for place in chunk]
        if order == sorted(order):
            return features
        ranks = torch.from_numpy(np.argsort(order)).to(self.device, non_blocking=True)
        return {name: rows[ranks] for name, rows in features.items()}

    def _of_one_size(
        self, images: Sequence[NDArray[np.uint8]], copies: int
    ) -> Iterator[Sequence[int]]:
        """Give what runs through the convolutions together: places in the list of results."""
        places: dict[tuple[int, int], list[int]] = {}
        for number, image in enumerate(images):
            own = range(number * copies, (number + 1) * copies)
            places.setdefault((image.shape[0], image.shape[1]), []).extend(own)
        for (height, width), members in places.items():
            chunk = chunk_size(self.device, height, width)
            yield from (members[i : i + chunk] for i in range(0, len(members), chunk))

    def _inputs(
        self, images: Sequence[NDArray[np.uint8]], places: Sequence[int], copies: int
    ) -> Tensor:
        x = self.normalised([images[place // copies] for place in places])
        if copies == 2:  # images and mirror images take turns
            mirrored = slice(1 - places[0] % 2, None, 2)
            x[mirrored] = x[mirrored].flip(3)
        return x

    def run(self, inputs: Iterable[Tensor], *, dense: bool = False) -> dict[str, Tensor]:
        """Run normalised inputs, and pool what the network's layers put out.

        Parameters
        ----------
        inputs : iterable of Tensor, (b, 3, H, W)
            Parts of a batch; they may differ in size.
        dense : bool
            As for :meth:`features`.

        Returns
        -------
        dict of str to Tensor
            As :meth:`features`, in the order of the inputs.
        """
        names = map(layer_of, self.layers)
        _, path = route(self.architecture, list(self.modules), names, dense=dense)
        spatial = {layer.name for layer in self.architecture.layers if layer.spatial}
        poolings = {  # over positions, where vectors have them
            name: pool if layer_of(name) in spatial or not dense else "avg"
            for name, pool in self.layers.items()
        }
        with own_torch(self.device), self.engine.running() as runner:
            return activations(runner, self.architecture, path, inputs, poolings, dense=dense)

    def features_with_oom_retry(
        self, images: Sequence[NDArray[np.uint8]], *, flip: bool = False, dense: bool = False
    ) -> dict[str, Tensor]:
        """As :meth:`features`, in halves where the device's memory does not hold the batch."""
        try:
            return self.features(images, flip=flip, dense=dense)
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
        parts = [
            self.features_with_oom_retry(part, flip=flip, dense=dense)
            for part in (images[:half], images[half:])
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in self.layers}

    def normalised(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Return what goes into the first layer, (B, 3, H, W); see :func:`normalised`."""
        return normalised(images, self.preprocessing, self.device, self.precision)


def _rebuilt(network: Architecture, weights: Weights, modules: nn.ModuleDict) -> nn.ModuleDict:
    """Return modules with the weights of convolutions that an engine took; others are shared."""
    with plain_torch():
        spatial = [name for name in modules if network.layer(name).spatial]
        body = build(network, weights, spatial).to(memory_format=torch.channels_last)
    return nn.ModuleDict({name: body[name] if name in body else modules[name] for name in modules})
