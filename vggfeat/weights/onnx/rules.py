"""Which node may follow which in a VGG's graph, and what it makes of what comes to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from vggfeat.weights.onnx.constants import Constant, Constants
from vggfeat.weights.onnx.messages import FLOATING, Node
from vggfeat.weights.onnx.steps import BLOCKS, DENSE, Flow, Step

_ZEROS = [0, 0, 0, 0]
_MOST_BEHIND = 64  # operations between a layer and its ReLU


def stepped(flow: Flow, node: Node, name: str, constants: Constants) -> Flow | None:
    """Return what a node makes of a value, or None where a VGG has no such node there.

    Parameters
    ----------
    flow : Flow
        The value.
    node : Node
        A consumer of it.
    name : str
        The value's name.
    constants : Constants
        Of the graph.

    Raises
    ------
    ValueError
        What the file says of the node cannot be.
    """
    padded = any(flow.pad)
    if not flow.steps and node.op not in ("Conv", "Pad"):
        pixels = flow.pixels.after(node, name, constants)
        if pixels is None or (padded and pixels.nodes != flow.pixels.nodes):
            return None
        return replace(flow, pixels=pixels)
    match node.op:
        case "Identity" | "Dropout":
            return flow
        case "Cast":
            return flow if node.attributes.get("to") in FLOATING else None
        case "Transpose":
            order = node.ints("perm", list(range(len(flow.axes)))[::-1])
            if sorted(order) != list(range(len(flow.axes))):
                return None
            return replace(flow, axes="".join(flow.axes[axis] for axis in order))
        case "Pad":
            return _pad(flow, node, constants)
        case "Conv":
            return _conv(flow, node, name, constants)
        case _ if padded:
            return None
        case "BatchNormalization" | "Add" | "Sub" | "Mul" | "Div":
            return _channelwise(flow, node, name, constants)
        case "Relu" if flow.kind in ("conv", "linear") and flow.dense < len(DENSE):
            suffix = flow.at.removeprefix("conv").removeprefix("fc")
            return _with(flow, Step(f"relu{suffix}", "relu"))
        case "MaxPool" if flow.kind == "relu" and flow.block <= BLOCKS and not flow.dense:
            return _pool(flow, node)
        case "AveragePool" if flow.at == "pool5":
            return flow if _adaptive(flow, node) else None
        case "Flatten" | "Reshape" | "Squeeze":
            return _flattened(flow, node, constants)
        case "Gemm" | "MatMul":
            return _linear(flow, node, name, constants)
        case "Softmax" if flow.dense == len(DENSE) and flow.kind == "linear":
            return _with(flow, Step("prob", "softmax"))
        case _:
            return None


def _with(flow: Flow, step: Step) -> Flow:
    return replace(flow, steps=(*flow.steps, step))


def _pad(flow: Flow, node: Node, constants: Constants) -> Flow | None:
    """Keep zeros that are put around a map for the convolution that follows."""
    rank = 4
    if any(flow.pad) or (flow.steps and len(flow.axes) != rank):
        return None
    given = constants.small(node.inputs[1]) if len(node.inputs) > 1 else None
    pads = [int(n) for n in given.ravel()] if given is not None else node.ints("pads", [])
    value = constants.small(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    filled_with = float(value.ravel()[0]) if value is not None else node.number("value", 0.0)
    plain = node.attributes.get("mode", "constant") == "constant" and filled_with == 0
    if len(node.inputs) > 3 or len(pads) != 2 * rank or not plain:
        return None
    if flow.steps:
        padded = [flow.axes.index("H"), flow.axes.index("W")]
    else:  # which axes are rows and columns shows at the convolution
        padded = [axis for axis in range(rank) if pads[axis] or pads[rank + axis]]
    if len(padded) != 2:
        return None
    rows, columns = padded
    kept = (pads[rows], pads[columns], pads[rank + rows], pads[rank + columns])
    return replace(flow, pad=kept) if sum(map(abs, pads)) == sum(kept) else None


def _conv(flow: Flow, node: Node, name: str, constants: Constants) -> Flow | None:
    if len(node.inputs) < 2 or node.inputs[0] != name:
        return None
    weight = constants.get(node.inputs[1])
    bias = constants.get(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    if weight is None or len(weight.shape) != 4 or not weight.floating:
        return None
    if len(node.inputs) > 2 and node.inputs[2] and not _vector(bias, weight.shape[0]):
        return None
    if not flow.steps:
        if problem := flow.pixels.problem():
            raise ValueError(f"it is no VGG's graph: {problem}.")
        flow = replace(flow, axes="NCHW")
    kernel = list(weight.shape[2:])
    simple = (
        flow.axes == "NCHW"
        and weight.shape[1] == flow.channels
        and node.ints("kernel_shape", kernel) == kernel
        and set(node.ints("strides", [1])) == {1}
        and set(node.ints("dilations", [1])) == {1}
        and node.number("group", 1) == 1
    )
    if not simple:
        return None
    pads = _pads(node, kernel, flow.pad)
    flow = replace(flow, pad=(0, 0, 0, 0))
    if flow.block <= BLOCKS:
        fitting = kernel == [3, 3] and pads == [1, 1, 1, 1] and flow.kind in ("", "relu", "pool")
        suffix = f"{flow.block}_{flow.number + 1}"
        return _with(flow, Step(f"conv{suffix}", "conv", weight, bias)) if fitting else None
    square = kernel[0] == kernel[1] and (kernel[0] == 1 or not flow.dense)
    if pads != _ZEROS or not square or not _linear_next(flow) or flow.flattened:
        return None
    flat = weight.reshaped((weight.shape[0], math.prod(weight.shape[1:])))
    return _dense(flow, flat, bias, inputs_first=False, order="" if flow.dense else "CHW")


def _vector(constant: Constant | None, size: int) -> bool:
    return constant is not None and constant.floating and constant.shape == (size,)


def _pads(node: Node, kernel: Sequence[int], pad: Sequence[int]) -> list[int]:
    """Return the zeros around a map, those of a node before included."""
    match node.attributes.get("auto_pad", "NOTSET"):
        case "SAME_UPPER" | "SAME_LOWER" if kernel[0] % 2 and kernel[1] % 2:
            pads = [kernel[0] // 2, kernel[1] // 2] * 2
        case "NOTSET" | "":
            pads = node.ints("pads", _ZEROS)
        case "VALID":
            pads = _ZEROS
        case _:
            pads = []
    return [a + b for a, b in zip(pads, pad, strict=False)]


def _pool(flow: Flow, node: Node) -> Flow | None:
    """Take a pooling that is a VGG's where the map's sides are even, as all are at 224 pixels."""
    fitting = (
        flow.axes == "NCHW"
        and node.ints("kernel_shape", []) == [2, 2]
        and node.ints("strides", []) == [2, 2]
        and set(node.ints("dilations", [1])) == {1}
        and set(node.ints("pads", _ZEROS)) == {0}
        and node.number("storage_order", 0) == 0
        and not any(node.outputs[1:])
    )
    return _with(flow, Step(f"pool{flow.block}", "pool")) if fitting else None


def _adaptive(flow: Flow, node: Node) -> bool:
    """Whether a mean is torchvision's adaptive one: of parts that neither overlap nor leave gaps.

    What the fully connected layer sees then decides, as it does in torchvision.
    """
    kernel = node.ints("kernel_shape", [])
    return (
        flow.axes == "NCHW"
        and len(kernel) == 2
        and node.ints("strides", [1, 1]) == kernel
        and set(node.ints("pads", _ZEROS)) == {0}
        and node.attributes.get("auto_pad", "NOTSET") in ("NOTSET", "VALID")
        and node.number("ceil_mode", 0) == 0
    )


def _channelwise(flow: Flow, node: Node, name: str, constants: Constants) -> Flow | None:
    """Take what changes each channel of a layer by itself, before its ReLU."""
    if flow.kind not in ("conv", "linear") or not node.inputs:
        return None
    last, outputs = flow.steps[-1], flow.channels
    if node.op == "BatchNormalization":
        operands = [constants.get(one) for one in node.inputs[1:]]
        second = 1  # the axis that the node normalises
        fitting = (
            node.inputs[0] == name
            and len(operands) == 4
            and all(_vector(one, outputs) for one in operands)
            and flow.axes[second : second + 1] in ("C", "F")
            and node.number("training_mode", 0) == 0
            and node.number("spatial", 1) == 1
        )
        known = tuple(one for one in operands if one is not None)
        epsilon = float(node.number("epsilon", 1e-5))
        return _changed(flow, (node.op, known, epsilon)) if fitting and epsilon >= 0 else None
    others = [one for one in node.inputs if one != name]
    constant = constants.get(others[0]) if len(others) == 1 and len(node.inputs) == 2 else None
    if constant is None or not constant.floating:
        return None
    if node.op in ("Sub", "Div") and node.inputs[0] != name:
        return None
    shape = constant.shape
    if node.attributes.get("axis") is not None and node.attributes.get("broadcast"):
        # ONNX before opset 7: the constant's axes are those of the map from `axis` on
        behind = len(flow.axes) - int(node.number("axis", 0)) - len(shape)
        shape = (*shape, *[1] * max(0, behind))
    axis_of_channels = "C" if "C" in flow.axes else "F"
    expected = [outputs if axis == axis_of_channels else 1 for axis in flow.axes]
    given = [1] * (len(expected) - len(shape)) + list(shape)
    if given != expected and constant.size != 1:
        return None
    vector = constant.reshaped((constant.size,))
    if node.op == "Add" and last.bias is None and not last.after and vector.size == outputs:
        return replace(flow, steps=(*flow.steps[:-1], replace(last, bias=vector)))
    return _changed(flow, (node.op, (vector,), 0.0))


def _changed(flow: Flow, what: tuple[str, tuple[Constant, ...], float]) -> Flow:
    if len(flow.steps[-1].after) == _MOST_BEHIND:
        raise ValueError(f"more than {_MOST_BEHIND} operations stand behind {flow.at}.")
    last = flow.steps[-1]
    return replace(flow, steps=(*flow.steps[:-1], replace(last, after=(*last.after, what))))


def _flattened(flow: Flow, node: Node, constants: Constants) -> Flow | None:
    """Take what makes rows of maps, where each row is all of one image's map."""
    if flow.block <= BLOCKS:
        return None
    if len(flow.axes) == 2:
        return flow if node.op == "Flatten" or _rows(node, constants) else None
    if flow.axes[0] != "N":
        return None
    if node.op == "Flatten":
        fitting = node.number("axis", 1) in (1, 1 - len(flow.axes))
    elif node.op == "Squeeze":
        fitting = bool(flow.dense) and _squeezed(node, constants)
    else:
        fitting = _rows(node, constants)
    if not fitting:
        return None
    order = "" if flow.dense else flow.axes[1:]
    return replace(flow, axes="NF", flattened=flow.flattened or order or "F")


def _rows(node: Node, constants: Constants) -> bool:
    """Whether a ``Reshape`` makes a row of each image.

    A shape that the graph computes of the map's own is taken for that; the matrix behind it must
    then fit such rows.
    """
    if node.op != "Reshape":
        return False
    given = constants.small(node.inputs[1], 16) if len(node.inputs) > 1 else None
    if given is None:
        requested = node.ints("shape", [])
        if not requested:
            return len(node.inputs) > 1 and constants.get(node.inputs[1]) is None
    else:
        requested = [int(n) for n in given.ravel()]
    return len(requested) == 2 and (requested[0] in (-1, 0, 1) or requested[1] == -1)


def _squeezed(node: Node, constants: Constants) -> bool:
    given = constants.small(node.inputs[1], 16) if len(node.inputs) > 1 else None
    axes = node.ints("axes", []) if given is None else [int(n) for n in given.ravel()]
    return sorted(axis % 4 for axis in axes) == [2, 3]


def _linear_next(flow: Flow) -> bool:
    return flow.at == "pool5" or (flow.kind == "relu" and 0 < flow.dense < len(DENSE))


def _linear(flow: Flow, node: Node, name: str, constants: Constants) -> Flow | None:
    if flow.axes != "NF" or not _linear_next(flow) or len(node.inputs) < 2:
        return None
    if node.inputs[0] != name:
        return None
    weight = constants.get(node.inputs[1])
    if weight is None or len(weight.shape) != 2 or not weight.floating:
        return None
    inputs_first, bias = True, None
    if node.op == "Gemm":
        plain = node.number("alpha", 1.0) == node.number("beta", 1.0) == 1
        if not plain or node.number("transA", 0):
            return None
        inputs_first = not node.number("transB", 0)
        if len(node.inputs) > 2 and node.inputs[2]:
            bias = constants.get(node.inputs[2])
            if bias is not None and bias.shape == (1, *bias.shape[1:]):
                bias = bias.reshaped(bias.shape[1:])
            if not _vector(bias, weight.shape[1 if inputs_first else 0]):
                return None
    order = flow.flattened if flow.dense == 0 else ""
    return _dense(flow, weight, bias, inputs_first=inputs_first, order=order)


def _dense(
    flow: Flow, weight: Constant, bias: Constant | None, *, inputs_first: bool, order: str
) -> Flow | None:
    inputs = weight.shape[0 if inputs_first else 1]
    if flow.dense == 0:
        side = math.isqrt(inputs // flow.channels)
        if inputs != flow.channels * side**2 or not side:
            return None
    elif inputs != flow.channels:
        return None
    step = Step(DENSE[flow.dense], "linear", weight, bias, inputs_first, order, flow.channels)
    return _with(flow, step)
