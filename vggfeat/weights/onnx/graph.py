"""A graph, followed from its input as far as it is a VGG.

Nothing is guessed from names. From the graph's input on each node must be what a VGG has next
(:mod:`vggfeat.weights.onnx.rules`), so the order of the layers, the layout of the maps and of what
is flattened, and what happens to pixels before are known. Where a branch leaves, all are followed,
and the one that goes farthest counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vggfeat.weights.onnx.channels import joined
from vggfeat.weights.onnx.constants import Constants, quantised
from vggfeat.weights.onnx.messages import Model, Node
from vggfeat.weights.onnx.pixels import told
from vggfeat.weights.onnx.rules import stepped
from vggfeat.weights.onnx.steps import Flow, Step, described, expected

_ASIDE = ("Shape", "Size")  # what looks at a map and not at its values
_OPERANDS = 16  # inputs that are looked at for what makes them; quantised nodes have at most nine
_HEADS = (
    *("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "Flatten", "Reshape"),
    *("Gemm", "MatMul"),
)
"""Operations that begin a head: a graph that has one early is a VGG cut short."""


def follow(model: Model, constants: Constants) -> Flow:
    """Follow a graph from its input.

    Parameters
    ----------
    model : Model
        What the file says.
    constants : Constants
        Of the same.

    Returns
    -------
    Flow
        The layers found in the order they run. Its ``end`` says why they end, where the graph goes
        on otherwise than a VGG.

    Raises
    ------
    ValueError
        The graph is of no VGG, or of several. The message says what differs first.
    """
    images = [name for name, shape in model.inputs.items() if shape is None or len(shape) == 4]
    if not images:
        raise ValueError("no input of the graph has the four axes of a batch of images.")
    consumers: dict[str, list[Node]] = {}
    for node in joined(model.nodes, constants):
        for name in dict.fromkeys(node.inputs):
            if name and node.op not in _ASIDE:
                consumers.setdefault(name, []).append(node)
    ends = [flow for name in images for flow in _trails(name, consumers, constants)]
    flow = _farthest(ends)
    if not flow.steps or (flow.end and not flow.served):
        hint = ""
        if model.functions and "::" in flow.end:
            hint = " Its functions can be put in place by onnx.inliner.inline_local_functions."
        raise ValueError(f"it is no VGG: {flow.end or 'nothing is done to its input'}.{hint}")
    return flow


def _trails(name: str, consumers: dict[str, list[Node]], constants: Constants) -> Iterator[Flow]:
    """Follow all branches from one input to where each ends."""
    waiting, seen = [(name, Flow())], set()
    while waiting:
        value, flow = waiting.pop()
        if not consumers.get(value):
            yield flow
        for node in consumers.get(value, []):
            if id(node) in seen:  # it sees two values that an image decides
                yield replace(flow, end=_differs(flow, node, constants))
                continue
            seen.add(id(node))
            new = stepped(flow, node, value, constants)
            if new is None and flow.kind == "softmax":  # what is done with the answer
                yield flow
            elif new is None or not node.outputs:
                headed = node.op in _HEADS and bool(flow.steps)
                yield replace(flow, end=_differs(flow, node, constants), headed=headed)
            else:
                waiting.append((node.outputs[0], new))


def _differs(flow: Flow, node: Node, constants: Constants) -> str:
    before = f"after {flow.at}" if flow.steps else "at its input"
    makers = [constants.maker(name) for name in node.inputs[:_OPERANDS]]
    for one in (node, *makers):
        if one is not None and quantised(one.op):
            return (
                f"{before} it is quantised ({told(one)}), which changes all numbers; give the "
                "model from before it was"
            )
    return f"{before} a VGG has {expected(flow)}, but here is {described(node)}"


def _farthest(ends: list[Flow]) -> Flow:
    """Return what goes farthest; where two go on with layers of their own, what they share."""
    ends.sort(key=lambda flow: (-len(flow.steps), bool(flow.end) == bool(flow.steps)))
    best = ends[0]
    shared = min(_shared(best, other) for other in ends)
    if shared == len(best.steps):
        return best
    common = best.steps[:shared]
    last = common[-1].name if common else "its input"
    cut = replace(best, steps=common, end=f"after {last} the graph goes on in two ways")
    if not cut.served:
        raise ValueError(
            f"it holds two networks: after {last} they differ. Save the one that is wanted as a "
            "model of its own."
        )
    return cut


def _shared(best: Flow, other: Flow) -> int:
    """Return how many layers two share, or all where the other has none with weights besides."""
    same = [_same(a, b) for a, b in zip(best.steps, other.steps, strict=False)]
    count = same.index(False) if False in same else len(same)
    further = [step for step in other.steps[count:] if step.weight is not None]
    return count if further else len(best.steps)


def _same(one: Step, other: Step) -> bool:
    return one is other or (one.name, one.identity) == (other.name, other.identity)
