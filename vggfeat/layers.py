"""The one table of layer names: choices, docs and checks all derive from it.

Architectures are the configurations A, B, D and E of Simonyan & Zisserman, "Very Deep
Convolutional Networks for Large-Scale Image Recognition" (arXiv 1409.1556), table 1.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from typing import Any, Literal

from vggfeat.errors import LayerError

Kind = Literal["conv", "bn", "relu", "pool", "flatten", "linear", "softmax"]
Shape = tuple[int, ...]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Layer:
    """One named layer.

    Attributes
    ----------
    name : str
        Canonical name. ``convX_Y``, ``fc6``, ``fc7``, ``fc8`` are linear outputs, before any
        ReLU; ``reluX_Y``, ``relu6``, ``relu7`` come after it. In networks with batch
        normalisation ``convX_Y`` is the convolution's own output, ``bnX_Y`` the normalised one.
    module : str
        torchvision's dotted path, such as ``"features.28"``; empty where torchvision computes
        the layer without a module of its own (``flatten``, ``prob``).
    kind : str
        ``conv``, ``bn``, ``relu``, ``pool``, ``flatten``, ``linear`` or ``softmax``.
    inputs, outputs : int
        Channels, or units, that go in and come out.
    kernel, stride, padding : int
        In pixels; 0 where the kind has none.
    activation : str
        Name of the ReLU layer that follows, empty where none does.
    """

    name: str
    module: str
    kind: Kind
    inputs: int
    outputs: int
    kernel: int = 0
    stride: int = 0
    padding: int = 0
    activation: str = ""

    @property
    def parameters(self) -> int:
        """Number of weights and biases; running statistics are not counted."""
        if self.kind == "conv":
            return self.outputs * (self.inputs * self.kernel**2 + 1)
        if self.kind == "bn":
            return 2 * self.outputs
        return self.outputs * (self.inputs + 1) if self.kind == "linear" else 0

    @property
    def spatial(self) -> bool:
        """Whether the activation is a map (C, H, W), which pooling makes a vector of."""
        return self.kind in ("conv", "bn", "pool") or (self.kind == "relu" and "_" in self.name)


@dataclass(frozen=True)
class Architecture:
    """A VGG network as a table.

    Attributes
    ----------
    name : str
        Such as ``"vgg16"``.
    convolutions : tuple of int
        Number of convolutions in each of the five blocks.
    widths : tuple of int
        Channels of each block.
    units : int
        Units of ``fc6`` and ``fc7``.
    classes : int
        Units of ``fc8``.
    input_size : int
        Side in pixels of the square input.
    grid : int
        Side of the map that ``flatten`` sees; the head resamples to it whatever the input size.
    batch_norm : bool
        Whether each convolution is followed by batch normalisation.
    """

    name: str
    convolutions: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    units: int = 4096
    classes: int = 1000
    input_size: int = 224
    grid: int = 7
    batch_norm: bool = False

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """All layers in the order they run."""
        rows: list[Layer] = []
        channels = 3
        for block, (count, width) in enumerate(
            zip(self.convolutions, self.widths, strict=True), start=1
        ):
            for number in range(1, count + 1):
                rows += self._convolution(len(rows), f"{block}_{number}", channels, width)
                channels = width
            rows.append(Layer(f"pool{block}", f"features.{len(rows)}", "pool", width, width, 2, 2))
        flat, units = channels * self.grid**2, self.units
        rows += [
            Layer("flatten", "", "flatten", channels, flat),
            Layer("fc6", "classifier.0", "linear", flat, units, activation="relu6"),
            Layer("relu6", "classifier.1", "relu", units, units),
            Layer("fc7", "classifier.3", "linear", units, units, activation="relu7"),
            Layer("relu7", "classifier.4", "relu", units, units),
            Layer("fc8", "classifier.6", "linear", units, self.classes),
            Layer("prob", "", "softmax", self.classes, self.classes),
        ]
        return tuple(rows)

    def _convolution(self, at: int, suffix: str, inputs: int, width: int) -> list[Layer]:
        """Return a convolution's rows, the first of which is torchvision's ``features.{at}``."""
        relu = f"relu{suffix}"
        rows = [Layer(f"conv{suffix}", f"features.{at}", "conv", inputs, width, 3, 1, 1, relu)]
        if self.batch_norm:
            rows = [
                replace(rows[0], activation=""),
                Layer(f"bn{suffix}", f"features.{at + 1}", "bn", width, width, activation=relu),
            ]
        return [*rows, Layer(relu, f"features.{at + len(rows)}", "relu", width, width)]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Canonical names in the order the layers run."""
        return tuple(layer.name for layer in self.layers)

    @cached_property
    def aliases(self) -> dict[str, str]:
        """Other accepted names, each with its canonical one.

        torchvision's dotted paths, the classic slide's ordinals (``conv13``, ``fc1``),
        ``softmax``, and Keras's names. These mean what Keras puts out, ``block5_conv3`` is
        ``relu5_3``, except where they are ordinals of the slide: ``fc1`` and ``fc2`` are linear.
        """
        found = {layer.module: layer.name for layer in self.layers if layer.module}
        convolutions = [layer.name for layer in self.layers if layer.kind == "conv"]
        found |= {f"conv{i}": name for i, name in enumerate(convolutions, start=1)}
        for layer in self.layers:
            block, _, number = layer.name.removeprefix("relu").removeprefix("pool").partition("_")
            if layer.kind == "relu" and number:
                found[f"block{block}_conv{number}"] = layer.name
            elif layer.kind == "pool":
                found[f"block{block}_pool"] = layer.name
        found |= {"fc1": "fc6", "fc2": "fc7", "fc3": "fc8"}
        return found | {"softmax": "prob", "predictions": "prob"}

    def canonical(self, name: str) -> str:
        """Return the canonical name that an alias stands for, and any other name in lower case.

        Where an alias means another layer to Keras's users, the log says so, once a process.
        """
        key = name.strip().lower()
        found = self.aliases.get(key, key)
        if key in _KERAS_ORDINALS:
            _tell(
                f"{key} is {found} here, the linear output, as an ordinal of the classic slide. "
                f"Keras's {key} is after its ReLU: that is relu{found[-1]}."
            )
        elif key.startswith("block") and found.startswith("relu"):
            _tell(
                f"{key} is {found} here, since Keras's {key} is after its ReLU. "
                f"conv{found.removeprefix('relu')} is the linear output."
            )
        elif key == "predictions":
            _tell("predictions is prob here, since Keras's is after its softmax; fc8 is before it.")
        return found

    @property
    def parameters(self) -> int:
        """Number of weights and biases in all."""
        return sum(layer.parameters for layer in self.layers)

    def layer(self, name: str) -> Layer:
        """Return a layer by its canonical name or an alias.

        Raises
        ------
        LayerError
            The name is unknown; the message suggests the nearest ones.
        """
        key = self.canonical(name)
        if key in self.names:
            return self.layers[self.names.index(key)]
        near = difflib.get_close_matches(key, [*self.names, *self.aliases], n=3, cutoff=0.5)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise LayerError(
            f"Unknown layer {name!r} for {self.name}.{hint} "
            f"`vggfeat layers --model {self.name}` lists them."
        )

    def upto(self, names: Iterable[str]) -> tuple[Layer, ...]:
        """Return the layers that must run to reach the deepest of the named ones."""
        deepest = max(self.names.index(self.layer(name).name) for name in names)
        return self.layers[: deepest + 1]

    def to_json(self, side: int = 0) -> dict[str, Any]:
        """Return the table as JSON-ready values.

        Parameters
        ----------
        side : int
            Of a square input in pixels; :attr:`input_size` by default.
        """
        side = side or self.input_size
        return {
            "model": self.name,
            "input": [3, side, side],
            "parameters": self.parameters,
            "layers": [
                asdict(layer)
                | {
                    "parameters": layer.parameters,
                    "output": list(self.output_shape(layer.name, side)),
                }
                for layer in self.layers
            ],
        }

    def output_shape(self, name: str, height: int = 0, width: int = 0) -> Shape:
        """Return the shape of a layer's activation for one image.

        Parameters
        ----------
        name : str
            Canonical name or alias.
        height, width : int
            Size of the network's input in pixels; :attr:`input_size` by default.

        Returns
        -------
        tuple of int
            (C, H, W) for maps, (D,) from ``flatten`` on.

        Raises
        ------
        LayerError
            Unknown name, or an input too small to reach the layer.
        """
        target = self.layer(name)
        h, w = height or self.input_size, width or height or self.input_size
        for layer in self.upto([target.name]):
            if layer.kernel:
                h = (h + 2 * layer.padding - layer.kernel) // layer.stride + 1
                w = (w + 2 * layer.padding - layer.kernel) // layer.stride + 1
        if min(h, w) < 1:
            raise LayerError(
                f"An input of {height} x {width} pixels is too small for {target.name}; "
                "each pooling halves it, so give at least 32 x 32."
            )
        return (target.outputs, h, w) if target.spatial else (target.outputs,)

    def multiply_adds(
        self, name: str, height: int = 0, width: int = 0, *, dense: bool = False
    ) -> int:
        """Count the multiplications with a weight that it takes to reach a layer.

        Parameters
        ----------
        name : str
            Canonical name or alias.
        height, width : int
            Size of the network's input in pixels; :attr:`input_size` by default.
        dense : bool
            Count the fully connected layers at every position of the map that they see, rather
            than once.
        """
        h, w = height or self.input_size, width or height or self.input_size
        total = 0
        for layer in self.upto([name]):
            if layer.kernel:
                h = (h + 2 * layer.padding - layer.kernel) // layer.stride + 1
                w = (w + 2 * layer.padding - layer.kernel) // layer.stride + 1
            if layer.kind == "conv":
                total += layer.outputs * layer.inputs * layer.kernel**2 * h * w
            elif layer.kind == "flatten":
                h, w = (h - self.grid + 1, w - self.grid + 1) if dense else (1, 1)
            elif layer.kind == "linear":
                total += layer.outputs * layer.inputs * h * w
        return total


ARCHITECTURES = {
    "vgg11": Architecture("vgg11", (1, 1, 2, 2, 2)),
    "vgg13": Architecture("vgg13", (2, 2, 2, 2, 2)),
    "vgg16": Architecture("vgg16", (2, 2, 3, 3, 3)),
    "vgg19": Architecture("vgg19", (2, 2, 4, 4, 4)),
    "vgg11_bn": Architecture("vgg11_bn", (1, 1, 2, 2, 2), batch_norm=True),
    "vgg13_bn": Architecture("vgg13_bn", (2, 2, 2, 2, 2), batch_norm=True),
    "vgg16_bn": Architecture("vgg16_bn", (2, 2, 3, 3, 3), batch_norm=True),
    "vgg19_bn": Architecture("vgg19_bn", (2, 2, 4, 4, 4), batch_norm=True),
    "vgg16-tiny": Architecture(
        "vgg16-tiny",
        (2, 2, 3, 3, 3),
        widths=(16, 32, 64, 128, 128),
        units=1024,
        classes=200,
        input_size=64,
        grid=2,
    ),
}
"""Known networks: the paper's configurations A, B, D and E, the same with batch normalisation as
torchvision has them, and D in miniature: a quarter of its channels and units for images of 64
pixels (docs/vgg16-tiny.md)."""


_KERAS_ORDINALS = ("fc1", "fc2")
"""Names that the classic slide and Keras both have, and mean other layers by."""


@cache
def _tell(text: str) -> None:
    """Log what a name means, once a process."""
    _log.warning("%s", text)


@cache
def architecture(model: str) -> Architecture:
    """Return a network's table.

    Raises
    ------
    LayerError
        The model is unknown.
    """
    try:
        return ARCHITECTURES[model]
    except KeyError:
        raise LayerError(
            f"Unknown model {model!r}. Known models: {', '.join(ARCHITECTURES)}."
        ) from None


def layer_of(column: str) -> str:
    """Return the layer of features that are called ``LAYER``, or ``LAYER:POOL``."""
    return column.partition(":")[0]


def split_layers(text: str) -> list[str]:
    """Cut ``LAYER,LAYER:POOL,...`` between its layers.

    No layer's name begins with a digit, but levels of a pooling do: ``pool5:spp:1,2,relu7`` is two.
    """
    return [part.strip() for part in re.split(r",(?!\s*\d)", text) if part.strip()]
