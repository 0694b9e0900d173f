"""The layers of a VGG as they are found in a graph: what each is made of, and what may follow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vggfeat.weights.onnx.constants import Constant
from vggfeat.weights.onnx.messages import Node
from vggfeat.weights.onnx.pixels import Pixels, told

BLOCKS = 5
DENSE = ("fc6", "fc7", "fc8")
_SHOWN = 8  # numbers of a list in a message


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One layer that was found.

    Attributes
    ----------
    name : str
        Canonical.
    kind : str
        ``conv``, ``linear``, ``relu``, ``pool`` or ``flatten``.
    weight : Constant or None
        As torch lays it out: (outputs, inputs, rows, columns) or (outputs, inputs), but for
        `order`.
    bias : Constant or None
        (outputs,); None where there is none.
    inputs_first : bool
        Whether a matrix is (inputs, outputs) instead.
    order : str
        How the map that a matrix sees was flattened, such as ``"HWC"``; empty where it sees none.
    channels : int
        Channels, or units, that it sees.
    after : tuple of (str, tuple of Constant, float)
        What happens to each channel before the ReLU: ``BatchNormalization`` with its four tensors
        and its epsilon, or ``Add``, ``Sub``, ``Mul`` and ``Div`` with one.
    """

    name: str
    kind: str
    weight: Constant | None = None
    bias: Constant | None = None
    inputs_first: bool = False
    order: str = ""
    channels: int = 0
    after: tuple[tuple[str, tuple[Constant, ...], float], ...] = ()

    @property
    def outputs(self) -> int:
        """Channels or units that it puts out."""
        assert self.weight is not None
        return self.weight.shape[1 if self.inputs_first else 0]

    @property
    def identity(self) -> tuple[Any, ...]:
        """What is alike where two nodes are one layer, used twice."""
        held = [self.weight, self.bias, *(c for _, many, _ in self.after for c in many)]
        return tuple(id(one) for one in held)


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """What an image has become at one place of the graph.

    Attributes
    ----------
    pixels : Pixels
        What happened to it before the first convolution.
    axes : str
        What each axis is: ``N``, ``C``, ``H`` and ``W``, or ``N`` and ``F`` for what was flattened.
    steps : tuple of Step
        The layers that it went through.
    pad : tuple of int
        Zeros put around it for the convolution that follows: above, left, below, right.
    flattened : str
        The order of the axes that were flattened; empty where none were.
    end : str
        Why it does not go on; empty where the graph ends.
    headed : bool
        Whether it goes on as a head does.
    """

    pixels: Pixels = field(default_factory=Pixels)
    axes: str = ""
    steps: tuple[Step, ...] = ()
    pad: tuple[int, ...] = (0, 0, 0, 0)
    flattened: str = ""
    end: str = ""
    headed: bool = False

    @property
    def at(self) -> str:
        """Name of the last layer."""
        return self.steps[-1].name if self.steps else ""

    @property
    def kind(self) -> str:
        """Kind of the last layer."""
        return self.steps[-1].kind if self.steps else ""

    @property
    def block(self) -> int:
        """Number of the block of convolutions that it is in."""
        return 1 + sum(step.kind == "pool" for step in self.steps)

    @property
    def number(self) -> int:
        """How many convolutions of the block it went through."""
        return sum(step.name.startswith(f"conv{self.block}_") for step in self.steps)

    @property
    def channels(self) -> int:
        """Channels or units that it has."""
        made = [step.outputs for step in self.steps if step.weight is not None]
        return made[-1] if made else 3

    @property
    def served(self) -> bool:
        """Whether it has all convolutions of a network, or is one that was cut short."""
        return self.block > BLOCKS or self.headed

    @property
    def dense(self) -> int:
        """How many fully connected layers it went through."""
        return sum(step.kind == "linear" for step in self.steps)


def expected(flow: Flow) -> str:
    """Say which layer a VGG has next."""
    block, number, suffix = flow.block, flow.number, flow.at.removeprefix("conv")
    filters = "3 x 3, stride 1, padding 1"
    match flow.kind:
        case "":
            return f"conv1_1 ({filters}, of 3 channels)"
        case "conv":
            return f"relu{suffix} (or batch normalisation)"
        case "linear":
            return f"relu{flow.at[2:]}" if flow.dense < len(DENSE) else "prob"
        case "relu" if not flow.dense:
            return f"conv{block}_{number + 1} ({filters}) or pool{block} (2 x 2, stride 2)"
        case "pool" if block <= BLOCKS:
            return f"conv{block}_1 ({filters})"
        case _:
            return DENSE[min(flow.dense, len(DENSE) - 1)]


def following(flow: Flow) -> str:
    """Return the first layer of a VGG that cannot be behind a place where a graph leaves it."""
    suffix = flow.at.removeprefix("conv")
    match flow.kind:
        case "":
            return "conv1_1"
        case "conv":
            return f"relu{suffix}"
        case "linear":
            return f"relu{flow.at[2:]}" if flow.dense < len(DENSE) else "prob"
        case "relu" if not flow.dense:  # another convolution of the block would be missing
            return f"pool{flow.block}"
        case "pool" if flow.block <= BLOCKS:
            return f"conv{flow.block}_1"
        case _:
            return (*DENSE, "prob")[flow.dense]


def described(node: Node) -> str:
    """Name a node and what decides whether it fits."""
    facts = [
        f"{name} {' x '.join(map(str, value[:_SHOWN])) if isinstance(value, list) else value}"
        for name in ("kernel_shape", "strides", "pads", "dilations", "group", "auto_pad", "axis")
        if isinstance(value := node.attributes.get(name), int | float | list) and value != []
    ]
    about = f" ({', '.join(facts)})" if facts else ""
    return told(node) + about
