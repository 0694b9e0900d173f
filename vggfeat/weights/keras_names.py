"""Keras's files without a graph: what names and order tell of the layers.

A legacy file lists all layers in the order of the model, which in a Functional model is by
distance from the output: what is listed behind a layer is never on the way to it. A
``.weights.h5`` of Keras 3 has an order within each class of layers only. Names are those of Keras's
applications (``block1_conv1``, ``fc1``); a model of other names is one of VGG's where its
convolutions are, in number, order and shape, and nothing else has weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vggfeat.layers import ARCHITECTURES
from vggfeat.weights.graph import Node, Step, Walk
from vggfeat.weights.keras_config import Path
from vggfeat.weights.tensor_file import Obstacle
from vggfeat.weights.understood import Raw, Understood

_BLOCK = re.compile(r"block(\d)_conv(\d)$")
_DENSE = {"fc1": "fc6", "fc2": "fc7", "predictions": "fc8"}
_NORM = {"gamma", "beta", "mean", "variance"}
_RELU = re.compile(r"relu|act", re.IGNORECASE)
_ODD = re.compile(
    r"rescal|normali[sz]ation$|normali[sz]ation_\d+$|lambda|preprocess|^tf[._]|"
    r"(?<!global_)average_pool|leaky|(^|_)(elu|selu|gelu|swish|silu|tanh|sigmoid|p_?re_?lu)|"
    r"(^|_)(add|multiply|subtract|concatenate|attention|depthwise|separable)"
)
"""Names that Keras gives to layers without weights that VGG has not."""

_EPS = 1e-3  # Keras's default
_COLOURS = 3
_MOST_MODELS = 100
_REMEDY = "Give the file that model.save('model.keras') writes: it has the graph."


@dataclass(frozen=True, slots=True)
class Item:
    """A layer; those without weights count where their names say that VGG has none such.

    Attributes
    ----------
    path : tuple of str
        Names of the models that it is in, its own last.
    tensors : mapping of str to str
        Role to name in the file.
    after : str
        Name of the layer that is listed next; empty where order is not known.
    """

    path: Path
    tensors: Mapping[str, str] = field(default_factory=dict)
    after: str = ""

    @property
    def layer(self) -> str:
        """The canonical name that its own stands for; empty where it stands for none."""
        if block := _BLOCK.match(self.path[-1]):
            return f"conv{block[1]}_{block[2]}"
        return _DENSE.get(self.path[-1], "")

    @property
    def model(self) -> Path:
        """The model that it is in."""
        return self.path[:-1]

    @property
    def counts(self) -> bool:
        """Whether it may change what comes behind it."""
        return bool(self.tensors) or bool(_ODD.search(self.path[-1].lower()))

    def __str__(self) -> str:
        return "/".join(self.path)


def layer_of(group: str, weight: str) -> str:
    """Return the name of the layer that a dataset of a group is of."""
    folders = weight.split("/")[:-1]
    return folders[-1] if folders else group


def listed(
    layers: Sequence[str], tensors_of: Mapping[str, Sequence[tuple[str, str, str]]]
) -> list[Item]:
    """Return the layers of a legacy file in their order.

    Parameters
    ----------
    layers : sequence of str
        All groups, also those without weights.
    tensors_of : mapping of str to sequence of (str, str, str)
        For each group its tensors: layer, role, and name in the file.
    """
    items = []
    for number, group in enumerate(layers):
        after = layers[number + 1] if number + 1 < len(layers) else ""
        inner = dict.fromkeys(layer for layer, _, _ in tensors_of.get(group, ()))
        single = len(inner) == 1 or Item((group,)).layer
        for layer in ("",) if single and inner else inner:
            path = (group,) if not layer else (group, layer)
            tensors = {
                role: name for of, role, name in tensors_of.get(group, ()) if layer in ("", of)
            }
            if not layer and len(inner) == 1 and not Item(path).layer:
                only = next(iter(inner))
                path = (group, only) if Item((only,)).layer else path
            items.append(Item(path, tensors, after if len(path) == 1 else ""))
        if not inner:
            items.append(Item((group,), {}, after))
    return items


def understood(raw: Raw, items: Sequence[Item], part: str, *, ordered: bool) -> Understood:
    """Return what is understood of a file's layers.

    Parameters
    ----------
    raw : Raw
        The tensors.
    items : sequence of Item
        The layers.
    part : str
        The network, where there are several.
    ordered : bool
        Whether all stand in their order, as in a legacy file; in a ``.weights.h5`` of Keras 3,
        only those of one class do.

    Raises
    ------
    ValueError
        There is no network of that name.
    """
    items = [item for item in items if item.counts]
    model, parts, several = _model(raw, items, part)
    layers = [item for item in items if item.model == model]
    if several:
        walk = Walk(obstacle=several)
    elif not any(item.layer.startswith("conv") for item in layers):
        walk = _by_shape(raw, layers, items)
    elif ordered:
        walk = _by_order(items, layers, part)
    else:
        walk = _by_class(raw, items, layers, part)
    return Understood(raw, walk, parts)


def _by_order(items: Sequence[Item], layers: Sequence[Item], part: str) -> Walk:
    model = layers[0].model
    front = [item for item in items[: items.index(layers[0])] if item.model != model]
    if front and not part:
        return _walk(layers, Obstacle("conv1_1", _may("before its first convolution", front)))
    if model:  # a model within another: its tensors are in no certain order
        strange = [item for item in layers if not item.layer]
        reason = _may("between its layers", strange)
        return _walk(layers, Obstacle("conv1_1", reason) if strange else None)
    return _listed(items)


def _by_class(raw: Raw, items: Sequence[Item], layers: Sequence[Item], part: str) -> Walk:
    last = max(i for i, item in enumerate(layers) if item.layer.startswith("conv"))
    doubtful = [
        item
        for number, item in enumerate(layers)
        if not item.layer and not (number > last and _is(raw, item, 4))
    ]
    heads = [item for item in doubtful if _is(raw, item, 2)]
    if not _lead_back(raw, heads, layers):
        doubtful = [item for item in doubtful if item not in heads]
    if not part:
        doubtful += [i for i in items if i.model != layers[0].model and not _behind(raw, i)]
    reason = _may("before or between its layers", doubtful)
    return _walk(layers, Obstacle("conv1_1", reason) if doubtful else None)


def _model(
    raw: Raw, items: Sequence[Item], part: str
) -> tuple[Path, tuple[str, ...], Obstacle | None]:
    """Return the model that is VGG, the names of all where there are several, and if that stops."""
    by_model: dict[Path, list[Item]] = {}
    for item in items:
        by_model.setdefault(item.model, []).append(item)
    models = [
        model for model, layers in by_model.items() if any(i.layer == "conv1_1" for i in layers)
    ] or [model for model, layers in by_model.items() if _network(raw, layers)]
    if len(models) > _MOST_MODELS:
        raise ValueError(f"it holds more than {_MOST_MODELS} networks.")
    names = tuple("/".join(model) or "." for model in models)
    if part:
        if part not in names:
            known = ", ".join(names) or "none"
            raise ValueError(f"it holds no network called {part!r}. Those it holds: {known}.")
        return models[names.index(part)], names if len(names) > 1 else (), None
    if len(models) > 1:
        reason = (
            f"it holds {len(models)} networks: {', '.join(names)}. Choose one: FILE#{names[0]}."
        )
        return (), names, Obstacle("conv1_1", reason)
    return models[0] if models else (), (), None


def _listed(items: Sequence[Item]) -> Walk:
    """Follow the layers of a model in the order of its list."""
    steps: list[Step] = []
    waiting: list[Item] = []
    obstacle: Obstacle | None = None
    for item in items:
        if not item.layer or item.model:
            last = steps[-1] if steps else None
            norm = last is not None and not waiting and not last.norms
            if norm and last and set(item.tensors) == _NORM and _RELU.search(item.after):
                node = Node(str(item), "norm", (), "BatchNormalization", item.tensors, eps=_EPS)
                steps[-1] = Step(last.layer, last.node, (node,))
            else:
                waiting.append(item)
            continue
        if waiting and obstacle is None:
            before = _first_behind(steps[-1].layer if steps else "", item.layer, waiting)
            obstacle = Obstacle(before, _may(f"before {item.path[-1]!r}", waiting))
        waiting = waiting if obstacle is None else []
        steps.append(_step(item))
    return Walk(tuple(_in_order(steps)), obstacle=obstacle)


def _first_behind(last: str, following: str, waiting: Sequence[Item]) -> str:
    """Return the first layer that tensors between two layers may have a part in."""
    if not last:
        return "conv1_1"
    if last.startswith("fc") or set(waiting[0].tensors) == _NORM:
        return last.replace("conv", "relu").replace("fc", "relu")
    block = last.removeprefix("conv").partition("_")[0]
    return following if following.startswith(f"conv{block}_") else f"pool{block}"


def _walk(layers: Sequence[Item], obstacle: Obstacle | None) -> Walk:
    return Walk(tuple(_in_order([_step(i) for i in layers if i.layer])), obstacle=obstacle)


def _in_order(steps: Sequence[Step]) -> list[Step]:
    return sorted(steps, key=lambda step: (step.layer.startswith("fc"), step.layer))


def _step(item: Item, layer: str = "") -> Step:
    layer = layer or item.layer
    kind = "conv" if layer.startswith("conv") else "linear"
    if "weight" not in item.tensors or not set(item.tensors) <= {"weight", "bias"}:
        raise ValueError(f"{item} has the tensors {', '.join(item.tensors)}, not weight and bias.")
    return Step(layer, Node(str(item), kind, (), "", item.tensors))  # type: ignore[arg-type]


def _may(where: str, items: Sequence[Item]) -> str:
    shown = ", ".join(str(item) for item in items[:6])
    more = f" and {len(items) - 6} more" if len(items) > 6 else ""
    return f"{shown}{more} may lie {where}, and nothing tells what they do. {_REMEDY}"


def _network(raw: Raw, layers: Sequence[Item]) -> tuple[int, ...]:
    """Return the counts of convolutions of the network that a model's are; () where of none."""
    shapes = [raw.shapes[item.tensors["weight"]] for item in layers if _is(raw, item, 4)]
    for network in ARCHITECTURES.values():
        convolutions = [layer for layer in network.layers if layer.kind == "conv"]
        expected = [(each.outputs, each.inputs, 3, 3) for each in convolutions]
        if expected == shapes:
            return network.convolutions
    return ()


def _by_shape(raw: Raw, layers: Sequence[Item], items: Sequence[Item]) -> Walk:
    """Name layers of other names by their number, order and shape, where nothing else is there."""
    counts = _network(raw, layers)
    rest = [item for item in items if not (_is(raw, item, 4) or _is(raw, item, 2))]
    rest += [item for item in items if item.model != (layers[0].model if layers else ())]
    if not counts:
        return Walk()
    names = [f"conv{b}_{n}" for b, count in enumerate(counts, 1) for n in range(1, count + 1)]
    dense = [item for item in layers if _is(raw, item, 2)]
    names += ["fc6", "fc7", "fc8"] if len(dense) == 3 else []
    taken = [item for item in layers if _is(raw, item, 4)] + (dense if len(dense) == 3 else [])
    steps = tuple(_step(item, name) for item, name in zip(taken, names, strict=True))
    if rest:
        return Walk(steps, obstacle=Obstacle("conv1_1", _may("before or between its layers", rest)))
    if dense and _lead_back(raw, dense if len(dense) != 3 else [], layers):
        return Walk(steps, obstacle=Obstacle("conv1_1", _may("between its layers", dense)))
    return Walk(steps)


def _is(raw: Raw, item: Item, rank: int) -> bool:
    """Whether a layer is a convolution (4) or a matrix (2), with or without biases."""
    return (
        set(item.tensors) <= {"weight", "bias"}
        and len(raw.shapes.get(item.tensors.get("weight", ""), ())) == rank
    )


def _lead_back(raw: Raw, heads: Sequence[Item], layers: Sequence[Item]) -> bool:
    """Whether matrices may lie between convolutions: from as many channels as one has to such."""
    channels = {
        size
        for item in layers
        if item.layer.startswith("conv")
        for size in raw.shapes[item.tensors["weight"]][:2]
    }
    shapes = [raw.shapes[item.tensors["weight"]] for item in heads]
    return any(i in channels for _, i in shapes) and any(o in channels | {1} for o, _ in shapes)


def _behind(raw: Raw, item: Item) -> bool:
    """Whether a layer beside a model that takes colours can only come after it."""
    weights = [raw.shapes[name] for name in item.tensors.values()]
    return bool(weights) and all(shape and shape[0] not in (1, _COLOURS) for shape in weights)
