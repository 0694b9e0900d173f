"""A file whose graph was followed: VGG's tensors, with batch normalisation put where it belongs.

Where every convolution is followed by batch normalisation and the whole is one of the networks with
it (``vgg16_bn``), the normalisations are given out as its ``bnX_Y``. Elsewhere (in networks that
have no such variant, in heads, or where only some convolutions are normalised) they are folded into
the convolution or matrix before them, in float64 and rounded once: with weights ``W, b`` and the
affine map ``y -> s * y + t`` of each channel, ``W' = s W`` and ``b' = s b + t`` (Ioffe & Szegedy,
arXiv 1502.03167, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from vggfeat.preprocessing import Preprocessing
from vggfeat.weights.graph import Node, Step, Walk, selected
from vggfeat.weights.state import recognised
from vggfeat.weights.tensor_file import Understanding

Array = NDArray[Any]

_TORCH_EPS = 1e-5  # what the networks with batch normalisation add to the variance
_TORCH_ROLES = {
    "weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "variance",
}  # fmt: skip


class Raw(Protocol):
    """A file's tensors under its own names, in torch's order but for what ``fc6`` sees."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor by the file's name."""

    def read(self, name: str, channels: int = 0) -> Array:
        """Return one tensor; a matrix whose rows are of maps of so many channels put in order."""


class Understood:
    """The tensors of a walk, by the canonical names of layers.

    Parameters
    ----------
    raw : Raw
        The file under its own names.
    walk : Walk
        What was understood of it.
    parts : sequence of str
        Names of the networks in the file, where it has several.
    """

    def __init__(self, raw: Raw, walk: Walk, parts: Sequence[str] = ()) -> None:
        self._raw = raw
        self._steps = {step.layer: step for step in walk.steps}
        for step in walk.steps:
            _check_norms(raw, step)
        convolutions = [step for step in walk.steps if step.layer.startswith("conv")]
        self._channels = len_of(raw, convolutions[-1]) if convolutions else 0
        self._apart = all(any(map(_is_norm, step.norms)) for step in convolutions)
        self.shapes = self._shapes()
        if self._apart and recognised(self.shapes) is None:
            self._apart = False
            self.shapes = self._shapes()
        used = {
            name
            for step in walk.steps
            for node in (step.node, *step.norms)
            for name in node.tensors.values()
        }
        self.understanding = Understanding(
            obstacle=walk.obstacle,
            elsewhere=tuple(name for name in raw.shapes if name not in used),
            notes=tuple(self._notes()),
            parts=tuple(parts),
            preprocessing=_rescaled(walk.rescale),
            where="layer before the first convolution",
        )

    @classmethod
    def of_graph(cls, raw: Raw, nodes: Sequence[Node], part: str) -> Self:
        """Return what is understood of a graph, or of the network `part` in it.

        Raises
        ------
        ValueError
            There is no such part.
        """
        chosen = selected(nodes, raw.shapes, part)
        return cls(raw, chosen.walk, chosen.parts)

    def read(self, name: str) -> Array:
        """Return one tensor, folded where that is due."""
        layer, _, kind = name.rpartition(".")
        if layer.startswith("bn"):
            return self._norm(self._steps[layer.replace("bn", "conv")], kind)
        step = self._steps[layer]
        value = self._plain(step, kind)
        if not step.norms or (self._apart and layer.startswith("conv")):
            return value
        scale, shift = self._affine(step)
        if kind == "bias":
            return (value.astype(np.float64) * scale + shift).astype(np.float32)
        folded = np.empty(value.shape, np.float32)
        for row, gain in enumerate(np.broadcast_to(scale, len(value))):
            folded[row] = value[row].astype(np.float64) * gain
        return folded

    def _plain(self, step: Step, kind: str) -> Array:
        source = step.node.tensors.get(kind)
        if source is None:  # a convolution without biases
            return np.zeros(self.shapes[f"{step.layer}.{kind}"], np.float32)
        channels = self._channels if (step.layer, kind) == ("fc6", "weight") else 0
        return self._raw.read(source, channels).reshape(self.shapes[f"{step.layer}.{kind}"])

    def _norm(self, step: Step, kind: str) -> Array:
        """Return a tensor of torch's batch normalisation, whose epsilon is another."""
        node, *others = step.norms
        if not others and set(node.tensors) == set(_TORCH_ROLES.values()):
            value = self._raw.read(node.tensors[_TORCH_ROLES[kind]])
            if kind != "running_var":
                return value
            return (value.astype(np.float64) + (node.eps - _TORCH_EPS)).astype(np.float32)
        scale, shift = self._affine(step)
        made = {
            "weight": scale,
            "bias": shift,
            "running_mean": np.zeros_like(scale),
            "running_var": np.full_like(scale, 1 - _TORCH_EPS),
        }
        return made[kind].astype(np.float32)

    def _affine(self, step: Step) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what all of a step's norms do together."""
        scale, shift = np.ones(1), np.zeros(1)
        for node in step.norms:
            gain, offset = affine(self._raw, node)
            scale, shift = scale * gain, shift * gain + offset
        return scale, shift

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, step in self._steps.items():
            shape = self._raw.shapes[step.node.tensors["weight"]]
            if layer.startswith("fc") and len(shape) > 2:
                shape = (shape[0], math.prod(shape[1:]))
            shapes[f"{layer}.weight"], shapes[f"{layer}.bias"] = shape, (shape[0],)
            if step.norms and self._apart and layer.startswith("conv"):
                for kind in ("weight", "bias", "running_mean", "running_var"):
                    shapes[f"{layer.replace('conv', 'bn')}.{kind}"] = (shape[0],)
        return shapes

    def _notes(self) -> list[str]:
        return [
            f"{node.name!r} is folded into {step.layer}"
            for step in self._steps.values()
            for node in step.norms
            if not (self._apart and step.layer.startswith("conv"))
        ]


def affine(raw: Raw, node: Node) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what a norm does to each channel: a factor and what is added, in float64.

    ``gamma * (x - mean) / sqrt(variance + eps) + beta``, where what is missing does nothing.
    Caffe's ``factor`` divides mean and variance; MatConvNet's ``deviation`` is the root already.
    """

    def value(role: str, default: float) -> NDArray[np.float64]:
        if role not in node.tensors:
            return np.full(1, default)
        return np.asarray(raw.read(node.tensors[role]), np.float64).reshape(-1)

    factor = value("factor", 1.0)
    inverse = 1 / factor if factor.all() else np.zeros_like(factor)
    if "variance" in node.tensors:
        deviation = np.sqrt(value("variance", 1.0) * inverse + node.eps)
    else:
        deviation = value("deviation", 1.0)
    scale = value("gamma", 1.0) / deviation
    return scale, value("beta", 0.0) - scale * value("mean", 0.0) * inverse


def _is_norm(node: Node) -> bool:
    """Whether a norm is a batch normalisation, and not just a factor or what is added."""
    return "mean" in node.tensors and len(node.tensors) > 1


def _check_norms(raw: Raw, step: Step) -> None:
    outputs = len_of(raw, step)
    for node in step.norms:
        for role, name in node.tensors.items():
            size = math.prod(raw.shapes[name])
            if size != (1 if role == "factor" else outputs):
                raise ValueError(
                    f"{node} has {size} values in {name}, where {step.node.name!r} has {outputs} "
                    "outputs."
                )


def len_of(raw: Raw, step: Step) -> int:
    """Return the number of a step's outputs."""
    return raw.shapes[step.node.tensors["weight"]][0]


def _rescaled(node: Node | None) -> Preprocessing | None:
    """Return the preprocessing that a layer before the first convolution amounts to."""
    if node is None:
        return None
    mean = 0.0 - node.offset
    return Preprocessing(
        resize=256,
        crop=224,
        interpolation="bilinear",
        channels="RGB",
        scale=node.scale,
        mean=(mean, mean, mean),
        std=(1.0, 1.0, 1.0),
    )
