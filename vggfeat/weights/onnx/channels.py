"""Channels of an image that a graph takes apart and puts together in another order.

``x[..., ::-1]`` and Keras's ``preprocess_input`` become one node for each channel and a ``Concat``
behind them; others write one ``Gather`` or ``Slice``. All are seen as one node of the type
``Channels`` here, so that a graph remains a chain.
"""

from __future__ import annotations

from dataclasses import replace

from vggfeat.weights.onnx.constants import Constants
from vggfeat.weights.onnx.messages import FLOATING, Node

CHANNELS = "Channels"
"""Type of the nodes that are made here: attributes ``axis`` and ``order``."""

_FARTHEST = 8  # nodes between a channel and where it is put together with others
_END = 1 << 30  # slices to the end are written with the largest numbers


def joined(nodes: list[Node], constants: Constants) -> list[Node]:
    """Return nodes with those that order channels anew replaced by one node each.

    Parameters
    ----------
    nodes : list of Node
        Of a graph.
    constants : Constants
        Of the same.
    """
    made, dropped = [], set()
    for node in nodes:
        if node.op == "Concat" and len(node.inputs) == 3:
            picks = [_picked(name, constants) for name in node.inputs]
            known = [pick for pick in picks if pick is not None]
            if len(known) == 3 and len({(source, axis) for source, axis, _, _ in known}) == 1:
                source, axis = known[0][:2]
                order = [channel for _, _, channel, _ in known]
                if node.number("axis", 1) in (axis, axis - 4):
                    dropped |= {id(one) for _, _, _, on_the_way in known for one in on_the_way}
                    attributes = {"axis": axis, "order": order}
                    node = replace(node, op=CHANNELS, inputs=(source,), attributes=attributes)
        elif node.op in ("Gather", "Slice") and node.inputs:
            axis, order = _taken(node, constants)
            if len(order) == 3:
                attributes = {"axis": axis, "order": order}
                node = replace(node, op=CHANNELS, inputs=node.inputs[:1], attributes=attributes)
        made.append(node)
    return [node for node in made if id(node) not in dropped]


def _picked(name: str, constants: Constants) -> tuple[str, int, int, list[Node]] | None:
    """Return where one channel was taken from: value, axis, channel, and the nodes on the way."""
    way: list[Node] = []
    for _ in range(_FARTHEST):
        node = constants.maker(name)
        if node is None or not node.inputs:
            return None
        way.append(node)
        if node.op in ("Gather", "Slice"):
            axis, order = _taken(node, constants)
            return (node.inputs[0], axis, order[0], way) if len(order) == 1 else None
        if node.op == "Split" and len(node.outputs) == 3 and node.number("axis", 0) in _AXES:
            return node.inputs[0], node.number("axis", 0) % 4, node.outputs.index(name), way
        floating = node.op == "Cast" and node.attributes.get("to") in FLOATING
        if not floating and node.op not in ("Identity", "Unsqueeze"):
            return None
        name = node.inputs[0]
    return None


_AXES = range(-4, 4)  # of a batch of images


def _taken(node: Node, constants: Constants) -> tuple[int, list[int]]:
    """Return which channels a node takes, along which axis; none where that is not known."""
    given = [constants.small(name, 16) for name in node.inputs[1:]]
    lists = [None if one is None else [int(n) for n in one.ravel()] for one in given]
    if node.op == "Gather":
        axis, order = node.number("axis", 0), (lists[0] if lists else None)
        known = axis in _AXES and order is not None and all(0 <= n < 3 for n in order)
        return (axis % 4, order or []) if known else (0, [])
    options = [*lists, None, None, None, None][:4]
    if len(node.inputs) < 3:  # as before opset 10
        options = [node.ints(name, []) or None for name in ("starts", "ends", "axes")] + [None]
    starts, ends, axes, steps = options
    if starts is None or ends is None or axes is None or len(axes) != 1 or axes[0] not in _AXES:
        return 0, []
    step = steps[0] if steps else 1
    if len(starts) != 1 or len(ends) != 1 or step not in (1, -1):
        return 0, []
    return axes[0] % 4, list(range(3))[_bound(starts[0]) : _bound(ends[0]) : step]


def _bound(value: int) -> int | None:
    """Return a bound of a slice; None for one that means as far as there is anything."""
    return None if abs(value) > _END else value
