"""The graph of a Keras model, from the configuration that Keras keeps as JSON.

``model.save`` of Keras 2 writes it into the attribute ``model_config`` of an HDF5 file, Keras 3
also into ``config.json`` of a ``.keras`` archive. A Sequential model lists its layers in the order
they run; a Functional one says for each layer, in ``inbound_nodes``, which calls of which layers it
takes. Models that are layers of others are put in their place, so that one flat graph remains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vggfeat.weights.graph import Node

Path = tuple[str, ...]
Lookup = Callable[[Path], Mapping[str, str]]
"""From the path of a layer (names of models, its own last) to its tensors' names by role."""

_MOST = 10_000  # layers and calls of them, before a configuration is called damaged
_MOST_INPUTS = 1000  # of a layer, and outputs of a model
_LONGEST_NAME = 256
_LARGEST = 1e30  # of a factor
_SAME = (
    "Dropout", "SpatialDropout2D", "GaussianDropout", "GaussianNoise", "AlphaDropout",
    "ActivityRegularization", "Identity", "Resizing", "CenterCrop", "RandomFlip", "RandomRotation",
    "RandomZoom", "RandomTranslation", "RandomCrop", "RandomContrast", "RandomBrightness",
)  # fmt: skip
"""Layers that do nothing to the values where nothing is trained, or what a view does instead."""


def graph(config: Mapping[str, Any], lookup: Lookup) -> list[Node]:
    """Return the nodes of a model.

    Parameters
    ----------
    config : mapping
        As Keras keeps it: ``class_name`` and ``config``.
    lookup : callable
        Where the layers' tensors are.

    Returns
    -------
    list of Node
        Named by the paths of layers; empty for a model that lists no layers, as subclasses of
        ``Model`` do not.

    Raises
    ------
    ValueError
        The configuration contradicts itself.
    """
    builder = _Builder(lookup)
    if layers_of(config):
        builder.model(config, (), (), "")
    return builder.nodes


def layers_of(config: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return a model's layers; none of what is a layer itself."""
    inner = config.get("config")
    if config.get("class_name") == "Sequential" and isinstance(inner, list):  # before Keras 2.3
        return inner
    layers = inner.get("layers") if isinstance(inner, Mapping) else None
    return layers if isinstance(layers, list) else []


class _Builder:
    def __init__(self, lookup: Lookup) -> None:
        self.nodes: list[Node] = []
        self._lookup = lookup
        self._calls = 0

    def model(
        self, config: Mapping[str, Any], path: Path, feeds: Sequence[str], call: str
    ) -> list[str]:
        """Add a model's nodes, fed by others; return what they end in."""
        inner = config["config"]
        if isinstance(inner, Mapping) and any("inbound_nodes" in one for one in layers_of(config)):
            return self._functional(config, path, feeds, call)
        ends = list(feeds)
        for layer in layers_of(config):
            if layer["class_name"] == "InputLayer" and ends:
                continue
            ends = self._layer(layer, (*path, name_of(layer)), ends, call)
        return ends

    def _functional(
        self, config: Mapping[str, Any], path: Path, feeds: Sequence[str], call: str
    ) -> list[str]:
        made: dict[tuple[str, int], list[str]] = {}
        inputs = [one[0] for one in _histories(config["config"].get("input_layers", []))]
        _check_count(inputs)
        for layer in layers_of(config):
            name = name_of(layer)
            calls = layer.get("inbound_nodes") or [[]]
            for number, each in enumerate(calls):
                taken = [made_ for of in _histories(each) for made_ in _made(made, of)]
                if name in inputs and len(inputs) == len(feeds):
                    taken = [feeds[inputs.index(name)]]
                _check_count(taken)
                mark = f"{call}@{number}" if number else call
                made[name, number] = self._layer(layer, (*path, name), taken, mark)
        ends = _histories(config["config"].get("output_layers", []))
        outputs = [end for of in ends[:_MOST_INPUTS] for end in _made(made, of)]
        _check_count(outputs)
        return outputs

    def _layer(
        self, layer: Mapping[str, Any], path: Path, taken: Sequence[str], call: str
    ) -> list[str]:
        self._calls += 1
        if self._calls > _MOST:
            raise ValueError("its configuration has too many layers.")
        if layers_of(layer):
            return self.model(layer, path, taken, call)
        name = "/".join(path) + call
        for node in converted(layer, name, tuple(taken), self._lookup(path)):
            self.nodes.append(node)
        return [self.nodes[-1].name]


def name_of(layer: Mapping[str, Any]) -> str:
    """Return a layer's own name."""
    config = layer["config"]
    configured = config.get("name") if isinstance(config, Mapping) else None
    name = str(configured or layer.get("name") or layer["class_name"])
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"its configuration has a name of {len(name):,} characters.")
    return name


def _check_count(ends: Sequence[str]) -> None:
    if len(ends) > _MOST_INPUTS:
        raise ValueError(f"its configuration has a layer of more than {_MOST_INPUTS:,} inputs.")


def _made(made: Mapping[tuple[str, int], list[str]], of: tuple[str, int, int]) -> list[str]:
    name, call, output = of
    ends = made.get((name, call), made.get((name, 0), []))
    return [ends[output]] if output < len(ends) else ends


def _histories(written: Any) -> list[tuple[str, int, int]]:
    """Return which outputs of which calls of which layers are named in what Keras wrote."""
    return list(_walked(written))


def _walked(written: Any) -> Iterator[tuple[str, int, int]]:
    if isinstance(written, Mapping):
        if written.get("class_name") == "__keras_tensor__":
            written = [written["config"]["keras_history"]]
        else:
            written = list(written.values())
    if isinstance(written, list):
        match written:
            case [str(name), int(call), int(output), *_] if call >= 0:
                yield name, call, output
            case _:
                for each in written:
                    yield from _walked(each)


def converted(
    layer: Mapping[str, Any], name: str, inputs: tuple[str, ...], tensors: Mapping[str, str]
) -> list[Node]:
    """Return a layer's nodes: its own, and one of the activation that is part of it.

    Parameters
    ----------
    layer : mapping
        ``class_name`` and ``config``.
    name : str
        Of the layer's own node.
    inputs : tuple of str
        Names of the nodes that it takes.
    tensors : mapping of str to str
        Role to name in the file.
    """
    kind, config = str(layer["class_name"]), layer["config"]
    unlike = ""
    match kind:
        case "InputLayer":
            return [Node(name, "input", inputs, kind)]
        case "Conv2D":
            padded, unlike = _convolution(config)
            unlike = unlike or _unknown_tensors(tensors, {"weight"} | _bias(config))
            node = Node(name, "conv", inputs, kind, tensors, padded=padded, unlike=unlike)
            return [node, *_activated(node, config)]
        case "Dense":
            unlike = _unknown_tensors(tensors, {"weight"} | _bias(config))
            node = Node(name, "linear", inputs, kind, tensors, unlike=unlike)
            return [node, *_activated(node, config)]
        case "BatchNormalization":
            return [_norm(name, inputs, tensors, config)]
        case "Activation":
            return _activated(Node(name, "same", inputs, kind), config) or [
                Node(name, "same", inputs, kind)
            ]
        case "ReLU":
            plain = not any(config.get(key) for key in ("negative_slope", "threshold", "max_value"))
            return [Node(name, "relu", inputs, kind, unlike="" if plain else "not a plain one")]
        case "Softmax":
            return [Node(name, "softmax", inputs, kind)]
        case "MaxPooling2D":
            size = _pair(config.get("pool_size", 2))
            stride = _pair(config.get("strides") or size)
            if (size, stride) != ((2, 2), (2, 2)):
                unlike = f"of {size}, with stride {stride}"
            return [Node(name, "pool", inputs, kind, unlike=unlike)]
        case "Flatten":
            return [Node(name, "flatten", inputs, kind)]
        case "ZeroPadding2D":
            plain = config.get("padding") in (1, [1, 1], [[1, 1], [1, 1]])
            return [Node(name, "pad", inputs, kind, unlike="" if plain else "not by one pixel")]
        case "Rescaling":
            return [_rescaling(name, inputs, config)]
        case _:
            same = kind in _SAME and not tensors
            return [Node(name, "same" if same else "other", inputs, kind, tensors)]


def _convolution(config: Mapping[str, Any]) -> tuple[bool, str]:
    """Return whether a convolution keeps the map's size, and how it is unlike VGG's."""
    kernel, padding = _pair(config.get("kernel_size")), config.get("padding", "valid")
    padded = padding == "same" and kernel != (1, 1)
    unlike = [
        f"{key} {config[key]}"
        for key, usual in (("strides", (1, 1)), ("dilation_rate", (1, 1)))
        if _pair(config.get(key, 1)) != usual
    ]
    if config.get("groups", 1) != 1:
        unlike.append(f"{config['groups']} groups")
    if padding not in ("same", "valid"):
        unlike.append(f"padding {padding!r}")
    if padded and kernel != (3, 3):
        unlike.append(f"kernel {kernel}")
    return padded, ", ".join(unlike)


def _norm(
    name: str, inputs: tuple[str, ...], tensors: Mapping[str, str], config: Mapping[str, Any]
) -> Node:
    expected = {"mean", "variance"}
    expected |= {"gamma"} if config.get("scale", True) else set()
    expected |= {"beta"} if config.get("center", True) else set()
    axis = config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    unlike = "" if axis in (-1, 1, 3) else f"along axis {axis}"
    unlike = unlike or _unknown_tensors(tensors, expected)
    eps = float(config.get("epsilon", 1e-3))
    return Node(name, "norm", inputs, "BatchNormalization", tensors, eps=eps, unlike=unlike)


def _rescaling(name: str, inputs: tuple[str, ...], config: Mapping[str, Any]) -> Node:
    scale, offset = config.get("scale", 1), config.get("offset", 0)
    plain = all(type(one) in (int, float) and abs(one) < _LARGEST for one in (scale, offset))
    if not plain or scale <= 0:
        unlike = "not one positive factor for all channels"
        return Node(name, "rescale", inputs, "Rescaling", unlike=unlike)
    return Node(name, "rescale", inputs, "Rescaling", scale=float(scale), offset=float(offset))


def _activated(node: Node, config: Mapping[str, Any]) -> list[Node]:
    """Return the node of a layer's activation; none where that does nothing."""
    activation = config.get("activation")
    if isinstance(activation, Mapping):  # a serialised function or layer
        inner = activation.get("config")
        named = inner if isinstance(inner, str) else activation.get("class_name")
        activation = "relu" if named == "ReLU" and inner == {} else named
    inputs = (node.name,) if node.kind != "same" else node.inputs
    name = f"{node.name}:activation" if node.kind != "same" else node.name
    match activation:
        case None | "linear":
            return []
        case "relu":
            return [Node(name, "relu", inputs, "activation relu")]
        case "softmax":
            return [Node(name, "softmax", inputs, "activation softmax")]
        case _:
            return [Node(name, "other", inputs, f"activation {activation}")]


def _unknown_tensors(tensors: Mapping[str, str], expected: set[str]) -> str:
    if set(tensors) == expected:
        return ""
    return f"it has the tensors {', '.join(tensors) or 'none'}, not {', '.join(sorted(expected))}"


def _bias(config: Mapping[str, Any]) -> set[str]:
    return {"bias"} if config.get("use_bias", True) else set()


def _pair(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value, value)
