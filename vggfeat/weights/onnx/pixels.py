"""What a graph does to pixels before its first convolution, as a :class:`Preprocessing`.

Models that were exported with their preprocessing begin with ``Sub``, ``Mul`` and their like, and
with the channels turned round. These are an affine map of each channel, and a preprocessing is one
too; what is none is refused.

What the map says of its input is told by its size. A factor of 1 at most is for pixels in 0..255,
as in ``x / 255``, ``x / 127.5 - 1`` and ``x - (103.9, 116.8, 123.7)``; a larger one for pixels in
0..1, as in ``(x - 0.485) / 0.229``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vggfeat.preprocessing import CAFFE, Preprocessing
from vggfeat.weights.onnx.constants import Constants
from vggfeat.weights.onnx.messages import FLOATING, Node

_AXES = 4  # of a batch of images
_MOST = 64  # operations on pixels
_SHOWN = 100  # characters of a name
_DARKEST, _BRIGHTEST = 5.0, 250.0  # mean colours in 0..255 that are believed
_ALIKE = 0.02  # relative difference of mean colours that are written in different ways


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """A batch of images on its way to the first convolution.

    Attributes
    ----------
    axes : tuple of int
        For each axis as it lies now, which axis of the graph's input it was.
    gain, offset : ndarray of float64
        What the values were multiplied by, and what was added then: arrays of four axes that can be
        broadcast, in the order of the input's axes.
    reversed_axes : tuple of int
        Axes of the input that were turned round.
    nodes : tuple of str
        What did that, for messages.
    """

    axes: tuple[int, ...] = (0, 1, 2, 3)
    gain: NDArray[np.float64] = field(default_factory=lambda: np.ones((1,) * _AXES))
    offset: NDArray[np.float64] = field(default_factory=lambda: np.zeros((1,) * _AXES))
    reversed_axes: tuple[int, ...] = ()
    nodes: tuple[str, ...] = ()

    def after(self, node: Node, name: str, constants: Constants) -> Pixels | None:
        """Return what a node makes of it, or None where that is not known here.

        Parameters
        ----------
        node : Node
            A consumer.
        name : str
            Which of its inputs this is.
        constants : Constants
            Of the graph.
        """
        if len(self.nodes) == _MOST:
            raise ValueError(f"more than {_MOST} operations stand before its first convolution.")
        match node.op:
            case "Identity" | "Dropout":
                return self
            case "Cast":
                return self if node.attributes.get("to") in FLOATING else None
            case "Transpose":
                order = node.ints("perm", [3, 2, 1, 0])
                if sorted(order) != list(range(_AXES)):
                    return None
                return replace(self, axes=tuple(self.axes[axis] for axis in order))
            case "Add" | "Sub" | "Mul" | "Div":
                return self._affine(node, name, constants)
            case "Channels" if node.attributes["order"] == [2, 1, 0]:
                return self._turned(node)
            case _:
                return None

    def _affine(self, node: Node, name: str, constants: Constants) -> Pixels | None:
        other = [one for one in node.inputs if one != name]
        constant = constants.get(other[0]) if len(node.inputs) == 2 and len(other) == 1 else None
        if constant is None or not constant.floating or len(constant.shape) > _AXES:
            return None
        if any(size not in (1, 3) for size in constant.shape):
            return None  # a mean image, say
        value = constant.read().astype(np.float64)
        value = value.reshape((1,) * (_AXES - value.ndim) + value.shape)
        value = value.transpose(np.argsort(self.axes))  # as the input's axes lie
        gain, offset = self.gain, self.offset
        match node.op:
            case "Add":
                offset = offset + value
            case "Sub" if node.inputs[0] == name:
                offset = offset - value
            case "Mul":
                gain, offset = gain * value, offset * value
            case "Div" if node.inputs[0] == name and value.all():
                gain, offset = gain / value, offset / value
            case _:
                return None
        return replace(self, gain=gain, offset=offset, nodes=(*self.nodes, told(node)))

    def _turned(self, node: Node) -> Pixels:
        source = self.axes[node.number("axis", 0)]
        return replace(
            self, gain=np.flip(self.gain, source), offset=np.flip(self.offset, source),
            reversed_axes=(*self.reversed_axes, source), nodes=(*self.nodes, told(node)),
        )  # fmt: skip

    def problem(self) -> str:
        """Return why this cannot be what a convolution sees; empty where it can."""
        channel, rows, columns = self.axes[1:]
        if self.axes[0] != 0:
            return "its images do not lie along the input's first axis"
        if rows > columns:
            return "rows and columns of the images are exchanged"
        across = {axis for array in (self.gain, self.offset) for axis in _varying(array)}
        if (across | set(self.reversed_axes)) - {channel}:
            return f"{', '.join(self.nodes)} treat an axis other than the channels'"
        return ""

    @property
    def layout(self) -> str:
        """``"NCHW"`` or ``"NHWC"``: how the graph's input lies."""
        return "NCHW" if self.axes[1] == 1 else "NHWC"

    def preprocessing(self) -> Preprocessing | None:
        """Return what the pixels go through; None where the graph does nothing to them.

        Raises
        ------
        ValueError
            It does what cannot be understood without knowing what it is fed with.
        """
        if not self.nodes:
            return None
        gain, offset = (_channels(array, self.axes[1]) for array in (self.gain, self.offset))
        what = ", ".join(self.nodes)
        turned = len(self.reversed_axes) % 2 == 1
        if np.all(gain == 1) and not offset.any():
            if not turned:
                return None
            raise ValueError(
                f"{what} turns the channels round, but what else the pixels go through is not in "
                "the graph"
            )
        if gain.min() <= 0 or not (np.isfinite(gain).all() and np.isfinite(offset).all()):
            raise ValueError(f"{what} multiply pixels by {gain.tolist()}")
        unit = 255.0 if gain.max() > 1.5 else 1.0  # 255: the graph's input is in 0..1
        mean = -offset / gain * unit  # in 0..255
        plain = not offset.any()
        within = mean.min() >= _DARKEST and mean.max() <= _BRIGHTEST
        if not (within or plain) or (gain.max() > 1.5) != (gain.min() > 1.5):
            raise ValueError(
                f"{what} make x * {_list(gain)} + {_list(offset)} of a value x, of which it is not "
                "known whether it is in 0..255 or in 0..1"
            )
        scale = 1 / 255 if gain.max() > 1.5 or gain.max() < 0.5 else 1.0
        # y = pixel * (gain / unit) + offset = (pixel * scale - mean') / std
        std = scale * unit / gain
        means = mean * scale
        return Preprocessing(
            channels=_order(mean, turned), scale=scale, mean=_triple(means), std=_triple(std)
        )


def told(node: Node) -> str:
    """Name a node for people."""
    return f"{node.op[:_SHOWN]} {node.name[:_SHOWN]!r}"


def _varying(array: NDArray[np.float64]) -> list[int]:
    return [axis for axis, size in enumerate(array.shape) if size > 1]


def _channels(array: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return np.broadcast_to(np.moveaxis(array, axis, 0).reshape(-1), 3).copy()


def _order(mean: NDArray[np.float64], turned: bool) -> str:
    """Return the channels' order: that of the authors' mean colour where it is theirs."""
    for order, colour in (("BGR", CAFFE.mean), ("RGB", CAFFE.mean[::-1])):
        if np.allclose(mean, colour, rtol=_ALIKE):
            return order
    return "BGR" if turned else "RGB"


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Round away what float32 adds to a number that was written in few digits."""
    first, second, third = (float(f"{value:.7g}") + 0.0 for value in values)
    return first, second, third


def _list(values: NDArray[np.float64]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
