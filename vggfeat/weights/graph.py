"""A network's graph, followed from its input: which of its layers are which of VGG's.

Formats that keep a graph (Keras's configuration, Caffe's bottoms and tops, MatConvNet's list of
layers) are read into :class:`Node` values. :func:`followed` walks along them as long as they are
what VGG has: convolution, batch normalisation, ReLU, pooling and so on. Names do not matter. Where
the graph forks, the branch counts that goes on longest as a VGG; where it stops being one, the
obstacle is named, and nothing behind it is given out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from vggfeat.layers import ARCHITECTURES
from vggfeat.weights.tensor_file import Obstacle

Kind = Literal[
    "input", "rescale", "pad", "conv", "norm", "relu", "pool", "flatten", "linear", "softmax",
    "same", "other",
]  # fmt: skip

_STEPS = 20_000  # nodes looked at before a graph is called too tangled
_MOST_STARTS = 100  # convolutions of colours
_SHOWN = 4  # names in a message
_BODY = 50  # depth of a walk that went through all convolutions
_COLOURS = 3
_CANONICAL = re.compile(r"conv[1-5]_[1-4]|fc[678]")
_COUNTS = tuple({network.convolutions for network in ARCHITECTURES.values()})


@dataclass(frozen=True, slots=True)
class Node:
    """A layer of a file's graph.

    Attributes
    ----------
    name : str
        As in the file, unique in the graph.
    kind : str
        What it does to its input: ``"same"`` is nothing at all where nothing is trained
        (dropout), ``"norm"`` is any affine map of each channel, ``"other"`` what VGG does not have.
    inputs : tuple of str
        Names of the nodes that it takes.
    what : str
        The file's name of its kind, for messages.
    tensors : mapping of str to str
        Role to name in the file. Roles: ``weight``, ``bias``; of norms ``gamma``, ``beta``,
        ``mean``, ``variance``, ``deviation``, ``factor``.
    eps : float
        What a norm adds to the variance.
    padded : bool
        Whether a convolution's output is as large as its input.
    unlike : str
        How it differs from VGG's layer of that kind; empty where it does not.
    scale, offset : float
        Of ``rescale``: values become `scale` times themselves plus `offset`.
    """

    name: str
    kind: Kind
    inputs: tuple[str, ...] = ()
    what: str = ""
    tensors: Mapping[str, str] = field(default_factory=dict)
    eps: float = 0.0
    padded: bool = True
    unlike: str = ""
    scale: float = 1.0
    offset: float = 0.0

    def __str__(self) -> str:
        shown = f"{self.name!r}" + (f" ({self.what})" if self.what else "")
        return f"{shown}: {self.unlike}" if self.unlike else shown


@dataclass(frozen=True, slots=True)
class Step:
    """A layer of VGG's that has weights.

    Attributes
    ----------
    layer : str
        Canonical name.
    node : Node
        The convolution or matrix.
    norms : tuple of Node
        What is applied to its output before the ReLU.
    """

    layer: str
    node: Node
    norms: tuple[Node, ...] = ()

    @property
    def source(self) -> tuple[str, ...]:
        """Where its tensors are: what makes two steps the same, however often it is used."""
        return tuple(sorted(self.node.tensors.values()))


@dataclass(frozen=True, slots=True)
class Walk:
    """How far a graph is VGG's.

    Attributes
    ----------
    steps : tuple of Step
        Layers with weights, in the order they run.
    last : str
        Canonical name of the deepest layer reached; empty where there is none.
    obstacle : Obstacle or None
        What ended it; None where the graph ends there.
    rescale : Node or None
        What scales the pixels before the first convolution.
    start : str
        Name of the node of the first convolution.
    """

    steps: tuple[Step, ...] = ()
    last: str = ""
    obstacle: Obstacle | None = None
    rescale: Node | None = None
    start: str = ""


@dataclass(frozen=True, slots=True)
class _State:
    """Where a walk is: the counts of convolutions of each block so far, and what came last."""

    walk: Walk = Walk()
    counts: tuple[int, ...] = (0,)
    padded: bool = False


def followed(nodes: Sequence[Node], start: str = "", budget: list[int] | None = None) -> list[Walk]:
    """Walk along a graph from its inputs.

    Parameters
    ----------
    nodes : sequence of Node
        In any order.
    start : str
        Name of the node that is the first convolution, where there are several; what stands
        before it is not looked at.
    budget : list of one int, optional
        How many nodes may be looked at; it is counted down.

    Returns
    -------
    list of Walk
        The longest walk; several where several first convolutions lead equally far.

    Raises
    ------
    ValueError
        The graph is too tangled.
    """
    consumers: dict[str, list[Node]] = {}
    for node in nodes:
        for name in dict.fromkeys(node.inputs):
            consumers.setdefault(name, []).append(node)
    budget = budget or [_STEPS]
    try:
        return _longest(_walks(nodes, start, consumers, budget))
    except RecursionError:
        raise ValueError("its graph is too deep to be followed.") from None


def _walks(
    nodes: Sequence[Node], start: str, consumers: Mapping[str, list[Node]], budget: list[int]
) -> list[Walk]:
    if start:
        first = next((n for n in nodes if n.name == start and n.kind == "conv"), None)
        return _onward(_State(), first, consumers, budget) if first else []
    known = {node.name for node in nodes}
    roots = [node for node in nodes if not set(node.inputs) & known]
    return [
        walk
        for root in roots
        for walk in (
            _beyond(_State(), root.name, consumers, budget)
            if root.kind == "input"
            else _onward(_State(), root, consumers, budget)
        )
    ]


def _longest(walks: Iterable[Walk]) -> list[Walk]:
    """Return the longest of some walks, one a first convolution."""
    walks = list(walks)
    most = max((len(walk.steps) for walk in walks), default=0)
    best = [walk for walk in walks if len(walk.steps) == most]
    first = {walk.steps[0].source if walk.steps else (): walk for walk in reversed(best)}
    return list(first.values())[::-1]


def _beyond(
    state: _State, name: str, consumers: Mapping[str, list[Node]], budget: list[int]
) -> list[Walk]:
    """Return the walks that go on behind a node, the best that there are."""
    after = consumers.get(name, [])
    if not after:
        return [state.walk]
    budget[0] -= len(after)
    if not state.walk.start:  # several networks may begin at one input
        return [w for node in after for w in _onward(state, node, consumers, budget)]
    refused = [node for node in after if _next(state, node) is None]
    if len(refused) == len(after):
        return [_stopped(state, after)]
    tried = [
        walk
        for node in after
        if node not in refused
        for walk in _onward(state, node, consumers, budget)
    ]
    return [_chosen(tried)]


def _chosen(walks: list[Walk]) -> Walk:
    """Return the walk that goes farthest; where two do by different weights, neither."""
    best = max(walks, key=lambda walk: (len(walk.steps), _depth(walk)))
    ways = [[step.source for step in walk.steps] for walk in walks]
    steps = [step.source for step in best.steps]
    rivals = [
        walk
        for walk, way in zip(walks, ways, strict=True)
        if len(way) == len(steps) and way != steps
    ]
    if not rivals:
        return best
    fork = next(
        i for i, source in enumerate(steps) if any(r.steps[i].source != source for r in rivals)
    )
    layer = best.steps[fork].layer
    names = [repr(walk.steps[fork].node.name) for walk in [best, *rivals]]
    reason = f"{' and '.join(dict.fromkeys(names))} may both be {layer}."
    kept = best.steps[:fork]
    return replace(best, steps=kept, last=_before(layer), obstacle=Obstacle(layer, reason))


def _onward(
    state: _State, node: Node, consumers: Mapping[str, list[Node]], budget: list[int]
) -> list[Walk]:
    budget[0] -= 1
    if budget[0] < 0:
        raise ValueError("its graph is too tangled to be followed.")
    after = _next(state, node)
    if after is None:
        return [_stopped(state, [node])]
    return _beyond(after, node.name, consumers, budget)


def _stopped(state: _State, nodes: Sequence[Node]) -> Walk:
    """Return the walk so far, with what is in its way."""
    shown = ", ".join(str(node) for node in nodes[:_SHOWN])
    last = state.walk.last
    if not last:
        reason = f"between its input and the first convolution stands {shown}."
        return replace(state.walk, obstacle=Obstacle("conv1_1", reason))
    before = _after(last, state.counts)
    if before is None:
        return state.walk
    reason = f"after {last} ({state.walk.steps[-1].node.name!r}) comes {shown}, which VGG has not."
    return replace(state.walk, obstacle=Obstacle(before, reason))


def _next(state: _State, node: Node) -> _State | None:
    """Return the state behind a node; None where VGG has no such thing there."""
    if node.unlike:
        return None
    walk, last = state.walk, state.walk.last
    if node.kind in ("same", "input"):
        return state
    if state.padded and node.kind != "conv":
        return None
    on_map = not last or last.startswith("pool") or (last.startswith("relu") and "_" in last)
    match node.kind:
        case "rescale" if not last and walk.rescale is None:
            return replace(state, walk=replace(walk, rescale=node))
        case "pad" if on_map and last != "pool5":
            return replace(state, padded=True)
        case "conv" if on_map and last != "pool5":
            counts = (*state.counts[:-1], state.counts[-1] + 1)
            if node.padded == state.padded or not _possible(counts):
                return None
            name = f"conv{len(counts)}_{counts[-1]}"
            return _State(_with(walk, name, node), counts)
        case "conv" if last == "pool5" and not node.padded:  # over the whole map
            return _with_matrix(state, "fc6", node)
        case "conv" if last in ("relu6", "relu7") and not node.padded:
            return _with_matrix(state, f"fc{int(last[-1]) + 1}", node)
        case "linear" if last in ("pool5", "flatten"):
            return _with_matrix(state, "fc6", node)
        case "linear" if last in ("relu6", "relu7"):
            return _with_matrix(state, f"fc{int(last[-1]) + 1}", node)
        case "norm" if last.startswith("conv") or last in ("fc6", "fc7"):
            step = walk.steps[-1]
            steps = (*walk.steps[:-1], replace(step, norms=(*step.norms, node)))
            return replace(state, walk=replace(walk, steps=steps))
        case "relu" if last.startswith("conv") or last in ("fc6", "fc7"):
            relu = last.replace("conv", "relu").replace("fc", "relu")
            return replace(state, walk=replace(walk, last=relu))
        case "pool" if last.startswith("relu") and on_map and _closed(state.counts):
            block = len(state.counts)
            counts = (*state.counts, 0) if block < 5 else state.counts
            return replace(state, walk=replace(walk, last=f"pool{block}"), counts=counts)
        case "flatten" if last == "pool5":
            return replace(state, walk=replace(walk, last="flatten"))
        case "softmax" if last == "fc8":
            return replace(state, walk=replace(walk, last="prob"))
        case _:
            return None


def _with(walk: Walk, name: str, node: Node) -> Walk:
    steps = (*walk.steps, Step(name, node))
    return replace(walk, steps=steps, last=name, start=walk.start or node.name)


def _with_matrix(state: _State, name: str, node: Node) -> _State:
    return replace(state, walk=_with(state.walk, name, node))


def _possible(counts: tuple[int, ...]) -> bool:
    """Whether a known network begins with so many convolutions in its blocks."""
    done, now = counts[:-1], counts[-1]
    return any(all_[: len(done)] == done and now <= all_[len(done)] for all_ in _COUNTS)


def _closed(counts: tuple[int, ...]) -> bool:
    """Whether a known network pools after so many convolutions."""
    return any(all_[: len(counts)] == counts for all_ in _COUNTS)


def _after(last: str, counts: tuple[int, ...]) -> str | None:
    """Return the layer that would come after another; None behind the last."""
    if last.startswith("conv"):
        return last.replace("conv", "relu")
    if last.startswith("relu") and "_" in last:
        return f"pool{len(counts)}" if _closed(counts) else f"conv{len(counts)}_{counts[-1] + 1}"
    if last.startswith("pool") and last != "pool5":
        return f"conv{len(counts)}_1"
    order = ["flatten", "fc6", "relu6", "fc7", "relu7", "fc8", "prob", None]
    return order[order.index("flatten" if last == "pool5" else last) + 1]


def _before(layer: str) -> str:
    """Return what comes right before a layer with weights, as far as its name tells."""
    return {"fc6": "flatten", "fc7": "relu6", "fc8": "relu7"}.get(layer, "")


def _depth(walk: Walk) -> int:
    order = ["fc6", "relu6", "fc7", "relu7", "fc8", "prob"]
    if walk.last in order:
        return 2 * _BODY + order.index(walk.last)
    return {"pool5": _BODY, "flatten": _BODY + 1}.get(walk.last, 0)


@dataclass(frozen=True, slots=True)
class Selection:
    """A network of a graph, and the names of all where there are several."""

    walk: Walk
    parts: tuple[str, ...]


def selected(nodes: Sequence[Node], shapes: Mapping[str, tuple[int, ...]], part: str) -> Selection:
    """Choose the network of a graph.

    Parameters
    ----------
    nodes : sequence of Node
        The graph.
    shapes : mapping of str to tuple of int
        Of the file's tensors, in torch's order.
    part : str
        Name of the network where the file has several: that of its first convolution, or of the
        model that this is in; empty to take the only one.

    Returns
    -------
    Selection
        The walk; where several networks are there and none was chosen, a walk of no steps.

    Raises
    ------
    ValueError
        There is no such part.
    """
    if not part and (walk := _listed(nodes)):
        return Selection(walk, ())
    budget = [_STEPS]
    walks = followed(nodes, budget=budget)
    whole = [walk for walk in walks if _depth(walk) >= _BODY]
    known = {walk.steps[0].source for walk in whole}
    inner, starts = [], 0
    for node in nodes:
        source = tuple(sorted(node.tensors.values()))
        shape = shapes.get(node.tensors.get("weight", ""), ())
        if node.kind != "conv" or source in known or shape[1:2] != (_COLOURS,):
            continue
        starts += 1
        if starts > _MOST_STARTS:
            raise ValueError(f"it has more than {_MOST_STARTS} convolutions of colours.")
        walks_from = followed(nodes, node.name, budget)
        if walks_from and _depth(walks_from[0]) >= _BODY:
            inner.append(walks_from[0])
            known.add(source)
    names = _names([walk.start for walk in [*whole, *inner]])
    if part:
        return _part(part, [*whole, *inner], names)
    if len(names) > 1:
        listed = ", ".join(names)
        reason = f"it holds {len(names)} networks: {listed}. Choose one, as in FILE#{names[0]}."
        return Selection(Walk(obstacle=Obstacle("conv1_1", reason)), names)
    if inner:
        front = next((w.obstacle.reason for w in walks if w.obstacle and not w.steps), "")
        reason = (
            f"{front or 'what stands before its first convolution is not understood.'} If that "
            f"does no more than prepare pixels, name the network, FILE#{names[0]}, and say "
            "--preprocessing."
        )
        return Selection(replace(inner[0], obstacle=Obstacle("conv1_1", reason)), ())
    return Selection(walks[0] if walks else Walk(), ())


def _listed(nodes: Sequence[Node]) -> Walk | None:
    """Return the walk of a file that lists VGG's layers with weights, and no graph.

    Some programs write nothing else. It is one where nothing is pooled, and all layers with weights
    go by canonical names, in their order.
    """
    if any(node.kind in ("pool", "norm", "other", "pad") or node.unlike for node in nodes):
        return None
    weighted = [node for node in nodes if node.tensors]
    names = [node.name for node in weighted]
    order = [(name.startswith("fc"), name) for name in names]
    if len(names) < 2 or order != sorted(set(order)):
        return None
    if not all(_CANONICAL.fullmatch(name) for name in names):
        return None
    return Walk(tuple(Step(node.name, node) for node in weighted), names[-1], start=names[0])


def _part(part: str, walks: Sequence[Walk], names: Sequence[str]) -> Selection:
    chosen = [
        walk
        for walk, name in zip(walks, names, strict=True)
        if part in (name, walk.start) or walk.start.startswith(f"{part}/")
    ]
    if len(chosen) != 1:
        what = "several networks" if chosen else "no network"
        listed = ", ".join(names) or "none"
        raise ValueError(f"it holds {what} called {part!r}. Those it holds: {listed}.")
    return Selection(chosen[0], tuple(names) if len(names) > 1 else ())


def _names(starts: Sequence[str]) -> tuple[str, ...]:
    """Name networks by the models that they are in, or by their first convolutions."""
    models = [start.rpartition("/")[0] for start in starts]
    return tuple(
        model if model and models.count(model) == 1 else start
        for model, start in zip(models, starts, strict=True)
    )
