"""8-bit images through a network: what its layers put out, pooled."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vggfeat import malloc, pooling
from vggfeat.devices import TYPES, chunk_size, resolve_device
from vggfeat.errors import DeviceError
from vggfeat.layers import Architecture
from vggfeat.network.callers import own_torch, plain_torch
from vggfeat.network.engines import Engine
from vggfeat.network.modules import build
from vggfeat.network.positions import Portion, portions
from vggfeat.preprocessing import Preprocessing
from vggfeat.weights import Weights

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Network:
    """A network ready to turn 8-bit images into pooled features.

    Attributes
    ----------
    modules : torch.nn.ModuleDict
        From :func:`~vggfeat.network.build`, on `device` and in `precision`.
    layers : dict of str to str
        Canonical layer name to pooling.
    preprocessing : Preprocessing
        Gives the channels' order, scale, mean and standard deviation.
    device : torch.device
        Where it runs.
    precision : torch.dtype
        Type of weights and activations.
    grid : int
        Side of the map that the fully connected layers were trained on.
    engine : Engine
        Runs the modules, or what takes their place.
    """

    modules: nn.ModuleDict
    layers: Mapping[str, str]
    preprocessing: Preprocessing
    device: torch.device
    precision: torch.dtype
    grid: int
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
        place = resolve_device(device)
        if place.type == "cpu":
            malloc.keep_freed_blocks()
        with plain_torch():
            modules = build(network, weights, layers)
        try:
            with plain_torch():
                modules.to(place, TYPES[precision]).to(memory_format=torch.channels_last)
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"{place} has not the memory for {network.name}'s weights. Close what else uses "
                "it, or compute on another device: --device cpu."
            ) from error
        _log.debug("%s up to %s on %s", network.name, list(modules)[-1], place)
        spec, kind = weights.preprocessing, TYPES[precision]
        runs = Engine(engine, network, modules, place, kind)
        return cls(modules, dict(layers), spec, place, kind, network.grid, runs)

    def expect(self, pixels: int) -> None:
        """Say how many pixels of input are to come in all, so that the engine can be chosen."""
        self.engine.expect(pixels)

    def features(
        self, images: Sequence[NDArray[np.uint8]], *, flip: bool = False, dense: bool = False
    ) -> dict[str, Tensor]:
        """Run images, those of one size together, and pool what the asked layers put out.

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
            Layer to float32 features (B, ...) on the network's device; with `flip` (2 * B, ...),
            each image's followed by its mirror image's.
        """
        copies = 2 if flip else 1
        chunks = list(self._of_one_size(images, copies))
        found = self.run((self._inputs(images, chunk, copies) for chunk in chunks), dense=dense)
        order = [place for chunk in chunks for place in chunk]
        if order == sorted(order):
            return found
        ranks = torch.from_numpy(np.argsort(order)).to(self.device, non_blocking=True)
        return {name: rows[ranks] for name, rows in found.items()}

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
        x = self._normalised(np.stack([images[place // copies] for place in places]))
        if copies == 2:  # images and mirror images take turns
            mirrored = slice(1 - places[0] % 2, None, 2)
            x[mirrored] = x[mirrored].flip(3)
        return x

    def run(self, inputs: Iterable[Tensor], *, dense: bool = False) -> dict[str, Tensor]:
        """Run normalised inputs: the convolutions part by part, the head on many together.

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
        body, head = self._halves(dense)
        found: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        running: list[Portion] = []

        def keep(name: str, activation: Tensor) -> None:
            pooled = pooling.apply(activation, self.layers[name])
            if pooled.data_ptr() == activation.data_ptr() and not self.engine.runner.lasting:
                pooled = pooled.clone()
            found[name].append(running[-1].per_input(pooled) if name in head else pooled)

        asked = {name: pool for name, pool in self.layers.items() if name in self.modules}
        with own_torch(self.device), self.engine.layers(asked, keep) as layers:
            maps = []
            for part in inputs:
                x = layers.body(part, body, result=bool(head))
                if head:  # else it would be kept for nothing
                    maps.append(x)
            for portion in portions(maps, self.grid, self.engine.runner.least_rows):
                running[:] = [portion]
                layers.head(portion.rows, head)
            return {name: torch.cat(parts) for name, parts in found.items()}

    def _halves(self, dense: bool) -> tuple[list[str], list[str]]:
        """Name what makes the fully connected layers' input, and what runs over its rows."""
        names = list(self.modules)
        if "flatten" not in names:
            return names, []
        at = names.index("flatten")
        return names[: at if dense else at + 1], names[at + 1 :]

    def features_with_retreat(
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
            self.features_with_retreat(part, flip=flip, dense=dense)
            for part in (images[:half], images[half:])
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in self.layers}

    def _normalised(self, images: NDArray[np.uint8]) -> Tensor:
        spec = self.preprocessing
        # (B, H, W, 3) -> (B, 3, H, W): a view, and the memory is channels_last already
        x = torch.from_numpy(images).to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        if spec.channels == "BGR":
            x = x.flip(1).contiguous(memory_format=torch.channels_last)
        mean, std = (
            torch.tensor(values, dtype=torch.float32, device="cpu")
            .to(self.device, non_blocking=True)
            .view(1, 3, 1, 1)
            for values in (spec.mean, spec.std)
        )
        # Division, as torchvision divides by 255: a product with 1/255 rounds otherwise.
        x = x.to(torch.float32).div_(1 / spec.scale).sub_(mean).div_(std)
        return x.to(self.precision)
