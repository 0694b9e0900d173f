"""Names of tensors in files that torch users write: which network they are of, and which tensors.

Nothing but names tells what a tensor is for. A network is found by its first convolution, whatever
stands before its name: torchvision's ``features.0``, the canonical ``conv1_1``, or the ``0`` of a
Sequential of the convolutions alone. Tensors of other modules are let pass where their name or
shape says that they come behind the network (a loss, another head); any other may have a part in
it, and stops the file until somebody names the network: ``FILE#backbone``.

timm's VGG computes the first fully connected layers by convolutions, ``pre_logits.fc1`` (7 x 7)
and ``pre_logits.fc2`` (1 x 1), and calls the last one ``head.fc``. Their kernels are laid out as
the rows of torchvision's matrices: (outputs, channel, row, column). Ports without dropout, or with
it in front, have their matrices at other places of ``classifier``: there the order counts.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vggfeat.weights.graph import Node
from vggfeat.weights.tensor_file import Obstacle, Tensors, Understanding
from vggfeat.weights.understood import affine

if TYPE_CHECKING:
    from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]

_TIMM = {"pre_logits.fc1": "fc6", "pre_logits.fc2": "fc7", "head.fc": "fc8"}
_MATRICES = ("fc6", "fc7", "fc8")
_USUAL = {"0": "fc6", "3": "fc7", "6": "fc8"}  # where torchvision's classifier has them
_COUNTERS = ".num_batches_tracked"
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Components of names that DataParallel, torch.compile and their like put in, at any place."""

_KINDS = ("weight", "bias", "running_mean", "running_var")
_FIRST = ("features.0.weight", "conv1_1.weight", "0.weight")
_FEWEST = 8  # convolutions of a Sequential that is taken for VGG's
_MOST_TENSORS, _MOST_NETWORKS = 20_000, 100
_COLOURS = 3
_EPS = 1e-5  # torch's default of batch normalisation
_SHOWN = 6
_BESIDE = re.compile(
    r"(criterion|criteria|loss(es)?|loss_fn|\w+_loss|metrics?|\w+_metrics?|\w+_acc(uracy)?|"
    r"optim\w*|\w*scheduler\w*|scaler|callbacks|loops|hparams|hyper_parameters|epoch|"
    r"global_step|amp|rng_state|best_\w+)$"
)
"""Modules and entries of checkpoints that no image passes through."""

_HEADS = re.compile(
    r"(heads?|\w+_head|classifier\w*|fc\w*|linear\w*|dense\w*|logits|predictor|prediction\w*|"
    r"output\w*|top|projector|projection\w*|proj|decoder|rpn|roi_heads|bbox_\w+|cls_\w+)$"
)
"""Modules that are fed by the convolutions."""


class Translated:
    """A file seen under names that :mod:`vggfeat.weights.state` knows.

    Parameters
    ----------
    file : Tensors
        The file under its own names.
    own : mapping of str to str
        Our name of each tensor, with the file's.
    norms : mapping of str to Node
        Batch normalisation to be folded, by the name of the matrix before it.
    understanding : Understanding
        What was found out.
    """

    def __init__(
        self,
        file: Tensors,
        own: Mapping[str, str],
        norms: Mapping[str, Node],
        understanding: Understanding,
    ) -> None:
        self._file, self._own, self._norms = file, own, norms
        self.understanding = understanding
        self.shapes = {name: _flat(name, file.shapes[place]) for name, place in own.items()}

    def read(self, name: str) -> NDArray[Any] | Tensor:
        """Return one tensor; a convolution that stands for a matrix becomes one."""
        value = self._file.read(self._own[name]).reshape(self.shapes[name])
        module, _, kind = name.rpartition(".")
        if module not in self._norms:
            return value
        scale, shift = affine(_Raw(self._file), self._norms[module])
        array = _array(value)
        if kind == "bias":
            return (array * scale + shift).astype(np.float32)
        return (array * scale[:, None]).astype(np.float32)


class _Raw:
    """A file whose tensors are all arrays."""

    def __init__(self, file: Tensors) -> None:
        self._file = file
        self.shapes = file.shapes

    def read(self, name: str, _channels: int = 0) -> NDArray[Any]:
        return _array(self._file.read(name))


def _array(value: NDArray[Any] | Tensor) -> NDArray[np.float64]:
    if not isinstance(value, np.ndarray):
        value = value.double().numpy()
    return np.asarray(value, np.float64)


def translated(file: Tensors, part: str = "") -> Translated:
    """Find the network in a file, and say which tensors are its.

    Parameters
    ----------
    file : Tensors
        The file under its own names.
    part : str
        What stands before the names of the network's tensors, where several are in the file.

    Raises
    ------
    ValueError
        There is no network of that name, or there are more than anybody has.
    """
    if len(file.shapes) > _MOST_TENSORS:
        raise ValueError(f"it holds more than {_MOST_TENSORS:,} tensors.")
    plain = {_plain(name): name for name in file.shapes if not name.endswith(_COUNTERS)}
    shapes = {name: file.shapes[place] for name, place in plain.items()}
    roots = _roots(shapes)
    if len(roots) > _MOST_NETWORKS:
        raise ValueError(f"it holds more than {_MOST_NETWORKS:,} networks.")
    labels = _labels(roots)
    if part:
        root = _chosen(part, roots, labels, shapes)
    elif len(roots) > 1:
        listed = ", ".join(labels)
        reason = f"it holds {len(roots)} networks: {listed}. Choose one, as in FILE#{labels[0]}."
        understood = Understanding(Obstacle("conv1_1", reason), tuple(plain.values()), parts=labels)
        return Translated(file, {}, {}, understood)
    elif not roots:
        return Translated(file, plain, {}, Understanding())
    else:
        root = roots[0]
    reading = _Reading(shapes, root, bool(part))
    return Translated(
        file,
        {name: plain[place] for name, place in reading.own.items()},
        {
            name: Node(
                node.name, "norm", tensors={r: plain[t] for r, t in node.tensors.items()}, eps=_EPS
            )
            for name, node in reading.norms.items()
        },
        Understanding(
            obstacle=reading.obstacle,
            elsewhere=tuple(plain[name] for name in reading.elsewhere),
            notes=tuple(f"{n.name} is folded into {name}" for name, n in reading.norms.items()),
            parts=labels if len(roots) > 1 else (),
        ),
    )


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _roots(shapes: Shapes) -> list[str]:
    """Return what stands before the names of each network: empty, or ending in a full stop."""
    roots: dict[str, None] = {}
    convolutions = _convolutions(shapes)
    for first in _FIRST:
        for name, shape in shapes.items():
            root = name.removesuffix(first)
            if root == name or (root and not root.endswith(".")):
                continue
            if len(shape) != 4 or shape[1] != _COLOURS:
                continue
            if first == "0.weight" and (
                root.removesuffix("features.") in roots or convolutions[root] < _FEWEST
            ):
                continue
            roots[root] = None
    return list(roots)


def _convolutions(shapes: Shapes) -> Counter[str]:
    """Count the convolutions of Sequentials, by what stands before their numbers."""
    pattern = re.compile(r"(|.*\.)\d+\.weight")
    matches = (pattern.fullmatch(name) for name, shape in shapes.items() if len(shape) == 4)
    return Counter(match[1] for match in matches if match)


def _labels(roots: Sequence[str]) -> tuple[str, ...]:
    """Name networks by what stands before their names, without what is common to all."""
    parts = [root.split(".")[:-1] for root in roots]
    common = 0
    while parts and all(len(p) > common for p in parts) and len({p[common] for p in parts}) == 1:
        common += 1
    rest = [part[common:] for part in parts]
    return tuple(_short(name, [other for other in rest if other is not name]) for name in rest)


def _short(name: Sequence[str], others: Sequence[Sequence[str]]) -> str:
    """Return as many components as tell a name from others."""
    for count in range(1, len(name)):
        if all(other[:count] != name[:count] for other in others):
            return ".".join(name[:count])
    return ".".join(name) or "."


def _chosen(part: str, roots: Sequence[str], labels: Sequence[str], shapes: Shapes) -> str:
    exact = [r for r, label in zip(roots, labels, strict=True) if part in (label, r.rstrip("."))]
    exact = exact or [root for root in roots if root.startswith(f"{part}.")]
    if len(exact) == 1:
        return exact[0]
    for root in (f"{part}.", *(f"{r}{part}." for r in roots)):
        if any(f"{root}{first}" in shapes for first in _FIRST):
            return root
    raise ValueError(
        f"it holds no network called {part!r}. Those it holds: {', '.join(labels) or 'none'}."
    )


class _Reading:
    """What the tensors of a file are, seen from one network in it.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Of all tensors.
    root : str
        What stands before the network's names.
    chosen : bool
        Whether somebody named it: then nothing beside it has a part in it.
    """

    def __init__(self, shapes: Shapes, root: str, chosen: bool) -> None:
        self._shapes, self._root = shapes, root
        self.own: dict[str, str] = {}
        self.norms: dict[str, Node] = {}
        self.elsewhere: list[str] = []
        self.obstacle: Obstacle | None = None
        inside = [name for name in shapes if name.startswith(root)]
        bare = f"{root}0.weight" in shapes
        doubtful: list[str] = []
        within: list[str] = []
        heads: list[str] = []
        for name in inside:
            short = name.removeprefix(root)
            module, _, kind = short.rpartition(".")
            first = short.partition(".")[0]
            if re.match(r"(features\.|conv\d|bn\d|\d+\.)", short) and kind not in _KINDS:
                within.append(name)
            elif bare and first.isdecimal():
                self.own[f"features.{short}"] = name
            elif module in _TIMM:
                self.own[f"{_TIMM[module]}.{kind}"] = name
            elif re.match(r"features\.|conv\d|bn\d|fc[678]\.", short):
                self.own[short] = name
            elif first == "classifier":
                heads.append(name)
            elif _BESIDE.match(first) or _HEADS.match(first):
                self.elsewhere.append(name)
            else:
                doubtful.append(name)
        others = [name for name in self.elsewhere if not _BESIDE.match(self._first(name))]
        self._classifier(heads)
        self._others(others)
        for name in shapes:
            if not name.startswith(root):
                (self.elsewhere if chosen or self._behind(name) else doubtful).append(name)
        for name, place in self.own.items():
            module, _, kind = name.rpartition(".")
            if module in _MATRICES and kind not in ("weight", "bias"):
                self._stop(module, [place], "")
        if within:
            self._stop("conv1_1", within, "Give a file in which the layers are weights and biases.")
        elif doubtful:
            self._stop("conv1_1", doubtful, self._remedy(doubtful, bare))

    def _first(self, name: str) -> str:
        return name.removeprefix(self._root).partition(".")[0]

    def _classifier(self, names: Iterable[str]) -> None:
        """Name the matrices of ``classifier``: by their places, or by their order."""
        rest: list[str] = []
        modules: dict[int, dict[str, str]] = {}
        for name in names:
            parts = name.removeprefix(f"{self._root}classifier.").split(".")
            if len(parts) == 2 and parts[0].isdecimal():
                modules.setdefault(int(parts[0]), {})[parts[1]] = name
            else:
                rest.append(name)
        matrices = sorted(
            at
            for at, own in modules.items()
            if len(self._shapes.get(own.get("weight", ""), ())) > 1
        )
        usual = all(str(at) in _USUAL for at in matrices[:3])
        if len(matrices) > len(_MATRICES) and not usual:
            self._stop("fc7", [modules[at]["weight"] for at in matrices], "")
        named = {
            at: _USUAL[str(at)] if usual else layer
            for at, layer in zip(matrices, _MATRICES, strict=False)
        }
        for at, layer in named.items():
            for kind, name in modules[at].items():
                self.own[f"{layer}.{kind}"] = name
        for at in sorted(set(modules) - set(named)):
            self._beside(at, modules[at], named)
        for one, other in pairwise(matrices):
            if other == one + 1 and other in named:
                both = [modules[at]["weight"] for at in (one, other)]
                self._stop(named[other], both, "")
        last = max(named, default=-1)
        places = {name: self._place(name) for name in rest}
        early = [name for name, at in places.items() if at is not None and at < last]
        self.elsewhere += [name for name, at in places.items() if at is not None and at >= last]
        strange = early + [name for name, at in places.items() if at is None]
        if strange and named:
            self._stop("fc6", strange, "")
        elif strange:
            self.elsewhere += strange

    def _place(self, name: str) -> int | None:
        part = name.removeprefix(f"{self._root}classifier.").partition(".")[0]
        return int(part) if part.isdecimal() else None

    def _beside(self, at: int, own: Mapping[str, str], named: Mapping[int, str]) -> None:
        """Say what a module of ``classifier`` is that is none of the three matrices."""
        following = [layer for place, layer in named.items() if place > at]
        norm = {"weight", "bias", "running_mean", "running_var"} == set(own)
        if norm and at - 1 in named and named[at - 1] != "fc8" and at + 1 not in named:
            roles = {"weight": "gamma", "bias": "beta"}
            roles |= {"running_mean": "mean", "running_var": "variance"}
            tensors = {roles[kind]: name for kind, name in own.items()}
            self.norms[named[at - 1]] = Node(
                f"{self._root}classifier.{at}", "norm", tensors=tensors
            )
        elif following:
            self._stop(following[0], list(own.values()), "")
        else:
            self.elsewhere += own.values()

    def _others(self, heads: Sequence[str]) -> None:
        """Stop at fc6 where another head may lie before it: one that gives what it could take."""
        place = self.own.get("fc6.weight")
        if place is None:
            return
        units = self._shapes[place][0]
        strange = []
        for name in heads:
            shape = self._shapes[name]
            if len(shape) > 1 and not (shape[1] == units and shape[0] != units):
                strange.append(name)
        if strange:
            self._stop("fc6", strange, "")

    def _behind(self, name: str) -> bool:
        """Whether a tensor of another module certainly has no part in the network."""
        if not self._shapes[name]:
            return True
        ours, theirs = self._root.split("."), name.split(".")
        at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), 0)
        mine, its = ours[at], theirs[at]
        if mine.isdecimal() and its.isdigit():
            return int(its) > int(mine)
        return bool(_BESIDE.match(its) or _HEADS.match(its))

    def _remedy(self, doubtful: Sequence[str], bare: bool) -> str:
        if any(not name.startswith(self._root) for name in doubtful):
            inside = self._root.rstrip(".")
        else:
            inside = "" if bare else f"{self._root}features"
        if not inside:
            return "Save the network's own tensors alone."
        return f"If they have no part in it, name the network: FILE#{inside}"

    def _stop(self, before: str, names: Sequence[str], remedy: str) -> None:
        """Remember the obstacle, if none that comes earlier is known."""
        order = ("conv1_1", *_MATRICES)
        if self.obstacle and order.index(self.obstacle.before) <= order.index(before):
            return
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        reason = (
            f"{', '.join(names[:_SHOWN])}{more} may have a part in {before}, and names alone do "
            f"not tell. {remedy}"
        )
        self.obstacle = Obstacle(before, f"{reason.strip().rstrip('.')}.")


def _flat(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    dense = name.startswith(("fc", "classifier."))
    return (shape[0], math.prod(shape[1:])) if dense and len(shape) == 4 else shape
