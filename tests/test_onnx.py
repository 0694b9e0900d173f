"""A graph is followed, not guessed: what is no VGG is refused with what differs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import BUSY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx_writers import Graph, arrays, as_tf2onnx, as_torch, message

from vggfeat.errors import WeightsError
from vggfeat.layers import ARCHITECTURES, Architecture
from vggfeat.network.folding import folded
from vggfeat.preprocessing import CAFFE, CAFFE_RGB, TORCHVISION, Preprocessing
from vggfeat.weights import inspect, onnx_file, resolve, shapes
from vggfeat.weights.formats import fingerprint
from vggfeat.weights.state import located

SMALL = Architecture("vgg11", (1, 2, 1, 1, 1), (4, 6, 6, 8, 8), units=10, classes=7, grid=2)


def random_state(network: Architecture = SMALL, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {n: torch.randn(s, generator=generator) for n, s in shapes(network).items()}
    return {n: t.abs() if n.endswith("running_var") else t for n, t in made.items()}


STATE = random_state()


def contents(path: Path, network: Architecture = SMALL) -> dict[str, np.ndarray]:
    """Return what a file holds, by torchvision's names."""
    with onnx_file.open_file(path) as file:
        places = located(file.shapes, network)
        assert {file.shapes[one] for one in places.values()} <= set(shapes(network).values())
        return {name: file.read(place) for name, place in places.items()}


def same(found: Mapping[str, np.ndarray], state: Mapping[str, torch.Tensor] = STATE) -> bool:
    assert set(found) == set(state)
    return all(np.array_equal(found[name], state[name].numpy()) for name in state)


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError, match="cannot be read as a VGG in ONNX") as error:
        inspect(path)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


# What is read right


@pytest.mark.parametrize("how", ["raw", "listed"])
def test_values_are_the_files_own_however_they_are_packed(path, how):
    as_torch(STATE, path, how=how)
    assert same(contents(path))


@pytest.mark.parametrize("how", ["raw", "listed"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_halves_and_doubles_are_read_as_they_are(path, how, dtype):
    other = {name: tensor.to(dtype) for name, tensor in STATE.items()}
    as_torch(other, path, how=how)
    assert same(contents(path), other)


def test_bfloat16_is_read_exactly(path):
    as_torch(STATE, path, how="bfloat16")
    for name, found in contents(path).items():
        bits = STATE[name].numpy().view("<u4") & 0xFFFF0000
        assert np.array_equal(found, bits.view("<f4"))


def test_a_graph_that_flattens_rows_columns_and_channels_has_fc6_put_in_order(path):
    as_tf2onnx(STATE, path)
    assert same(contents(path))


def test_maps_that_are_turned_round_between_any_two_layers_make_no_difference(path):
    """Keras on torch puts a Transpose before and after each convolution and pooling."""
    graph = Graph((0, 64, 64, 3))
    x = graph.input
    *blocks, head = arrays(STATE)

    def turned(op: str, x: str, *tensors: str, **attributes) -> str:
        x = graph.node(op, graph.node("Transpose", x, perm=[0, 3, 1, 2]), *tensors, **attributes)
        return graph.node("Transpose", x, perm=[0, 2, 3, 1])

    for block in blocks:
        for weight, bias in block:
            kernel = graph.tensor(np.ascontiguousarray(np.moveaxis(weight, (0, 1), (3, 2))))
            kernel = graph.node("Transpose", kernel, perm=[3, 2, 0, 1])
            x = turned("Conv", x, kernel, pads=[1] * 4)
            x = graph.node("Relu", graph.node("Add", x, graph.tensor(bias)))
        x = turned("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    shape = graph.node("Constant", value=np.int64([-1, head[0][0].shape[1]]))
    x = graph.node("Reshape", x, shape)
    for place, (weight, bias) in enumerate(head):
        if place == 0:
            maps = weight.reshape(len(weight), -1, 2, 2)
            weight = np.moveaxis(maps, 1, 3).reshape(len(weight), -1)
        matrix = graph.node("Transpose", graph.tensor(np.ascontiguousarray(weight)), perm=[1, 0])
        x = graph.node("Gemm", x, matrix, graph.tensor(bias))
        x = graph.node("Relu", x) if place < 2 else x
    graph.save(path, x)
    assert same(contents(path))


def test_fully_connected_layers_may_be_convolutions(path):
    graph = Graph()
    x = graph.input
    *blocks, head = arrays(STATE)
    for block in blocks:
        for weight, bias in block:
            padded = graph.node("Pad", x, graph.tensor(np.int64([0, 0, 1, 1, 0, 0, 1, 1])))
            x = graph.node("Conv", padded, graph.tensor(weight), graph.tensor(bias))
            x = graph.node("Relu", x)
        x = graph.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    for place, (weight, bias) in enumerate(head):
        side = 2 if place == 0 else 1
        kernel = graph.tensor(weight.reshape(len(weight), -1, side, side))
        x = graph.node("Conv", x, kernel, graph.tensor(bias))
        x = graph.node("Relu", x) if place < 2 else graph.node("Flatten", x)
    graph.save(path, x)
    assert same(contents(path))


def test_tensors_may_lie_in_a_file_beside_it_which_then_counts_for_the_digest(path):
    as_torch(STATE, path)
    apart(path)
    assert same(contents(path))
    before = resolve(str(path), SMALL).sha256
    data = path.with_name("model.onnx.data")
    changed = bytearray(data.read_bytes())
    changed[0] ^= 1
    data.write_bytes(changed)
    assert resolve(str(path), SMALL).sha256 != before
    data.write_bytes(changed[:-4])
    assert "bytes in model.onnx.data" in refusal(path)
    data.unlink()
    assert "model.onnx.data, which is not there" in refusal(path)


@pytest.mark.parametrize("place", ["../w.data", "/etc/passwd", "sub/w.data", "..", "link.data", ""])
def test_no_other_file_is_read_than_a_plain_one_in_the_same_folder(path, place):
    as_torch(STATE, path)
    apart(path, place)
    (path.parent / "link.data").symlink_to(path)
    assert re.search("only files in the same folder|no plain file|not there", refusal(path))


@pytest.mark.timeout(30)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFOs")
@pytest.mark.parametrize("kind", ["fifo", "link"])
def test_no_digest_is_taken_of_what_is_no_plain_file_beside_it(path, kind):
    as_torch(STATE, path)
    model = message("ModelProto").FromString(path.read_bytes())
    unused = model.graph.initializer.add(name="unused", data_type=1, dims=[1], data_location=1)
    unused.external_data.add(key="location", value="w.data")
    path.write_bytes(model.SerializeToString())
    place = path.with_name("w.data")
    os.mkfifo(place) if kind == "fifo" else place.symlink_to("/dev/zero")
    with pytest.raises(WeightsError, match=r"lies in w\.data, which is no plain file"):
        fingerprint(path)


def apart(path: Path, location: str = "model.onnx.data") -> None:
    """Move a model's tensors into a file of their own, as large models have them."""
    model = message("ModelProto").FromString(path.read_bytes())
    data = b""
    for tensor in model.graph.initializer:
        told = {"location": location, "offset": len(data), "length": len(tensor.raw_data)}
        for key, value in told.items():
            tensor.external_data.add(key=key, value=str(value))
        data, tensor.data_location = data + tensor.raw_data, 1
        tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    if location.startswith("model"):
        (path.parent / location).write_bytes(data)


# Preprocessing in the graph


def constant(g: Graph, values, layout: str) -> str:
    array = np.atleast_1d(np.float32(values))
    return g.tensor(array.reshape(-1, 1, 1) if layout == "NCHW" else array)


def turned_by_gather(g: Graph, x: str, axis: int) -> str:
    return g.node("Gather", x, g.tensor(np.int64([2, 1, 0])), axis=axis)


def turned_by_slice(g: Graph, x: str, axis: int) -> str:
    bounds = ([-1], [-(2**63)], [axis], [-1])
    return g.node("Slice", x, *(g.tensor(np.int64(one)) for one in bounds))


def turned_by_concat(g: Graph, x: str, axis: int) -> str:
    """Take channel by channel, as Keras's preprocess_input does by tf2onnx."""
    parts = []
    for channel in (2, 1, 0):
        bounds = ([channel], [channel + 1], [axis])
        parts.append(g.node("Slice", x, *(g.tensor(np.int64(one)) for one in bounds)))
    return g.node("Concat", *parts, axis=axis)


def turned_by_unsqueeze(g: Graph, x: str, axis: int) -> str:
    """Take channel by channel, as Keras's preprocess_input does by torch."""
    parts = []
    for channel in (2, 1, 0):
        one = g.node("Gather", x, g.tensor(np.int64(channel)), axis=axis)
        parts.append(g.node("Unsqueeze", one, g.tensor(np.int64([axis]))))
    return g.node("Concat", *parts, axis=axis)


TURNS = (turned_by_gather, turned_by_slice, turned_by_concat, turned_by_unsqueeze)
CAFFE_MEAN = (103.939, 116.779, 123.68)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([("Div", 255.0)], Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))),
        ([("Mul", 1 / 127.5), ("Sub", 1.0)], Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)),
        ([("Sub", (0.485, 0.456, 0.406)), ("Div", (0.229, 0.224, 0.225))], TORCHVISION),
        (
            [("Div", 255.0), ("Sub", (0.485, 0.456, 0.406)), ("Div", (0.229, 0.224, 0.225))],
            TORCHVISION,
        ),
        ([("Sub", 0.5), ("Div", 0.5)], Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)),
        ([("Sub", CAFFE_MEAN[::-1])], CAFFE_RGB),
        *[([(turn, 0), ("Sub", CAFFE_MEAN)], CAFFE) for turn in TURNS],
        ([("Sub", CAFFE_MEAN[::-1]), (turned_by_gather, 0)], CAFFE),
        ([("Add", [-m for m in CAFFE_MEAN])], CAFFE),
    ],
)
def test_what_the_graph_does_to_pixels_is_the_files_preprocessing(path, layout, nodes, expected):
    graph = Graph((0, 3, 64, 64) if layout == "NCHW" else (0, 64, 64, 3))
    x = graph.node("Cast", graph.input, to=1)
    for op, value in nodes:
        if callable(op):
            x = op(graph, x, 1 if layout == "NCHW" else 3)
        else:
            x = graph.node(op, x, constant(graph, value, layout))
    writer = as_torch if layout == "NCHW" else as_tf2onnx
    writer(STATE, path, graph, x=x)
    found = resolve(str(path), SMALL, "strict")
    assert found.why == "its own graph says so"
    spec = found.preprocessing
    assert (spec.channels, spec.scale) == (expected.channels, expected.scale)
    assert (spec.resize, spec.crop) == (256, 224)
    np.testing.assert_allclose(spec.mean, expected.mean, rtol=2e-6)
    np.testing.assert_allclose(spec.std, expected.std, rtol=2e-6)
    assert same(contents(path))


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([("Sub", 0.485)], "not known whether it is in 0..255 or in 0..1"),
        ([("Mul", -1.0)], r"Mul 'Mul_1' multiply pixels by"),
        ([(turned_by_gather, 1)], "turns the channels round, but what else"),
    ],
)
def test_what_is_not_understood_of_it_is_refused_by_name_and_may_be_said_by_hand(
    path, nodes, expected
):
    graph = Graph()
    x = graph.input
    for op, value in nodes:
        x = (
            op(graph, x, value)
            if callable(op)
            else graph.node(op, x, graph.tensor(np.float32(value)))
        )
    as_torch(STATE, path, graph, x=x)
    with pytest.raises(WeightsError, match=rf"{expected}.*--mean") as error:
        resolve(str(path), SMALL)
    assert "\n" not in str(error.value)
    assert resolve(str(path), SMALL, CAFFE).preprocessing == CAFFE
    assert same(contents(path))


def test_where_the_graph_says_nothing_its_layout_tells_what_is_assumed(path):
    as_torch(STATE, path)
    assert resolve(str(path), SMALL).preprocessing == TORCHVISION
    as_tf2onnx(STATE, path)
    assert resolve(str(path), SMALL).preprocessing == CAFFE
    with pytest.raises(WeightsError, match=r"not known .*assumed, as Keras's applications need"):
        resolve(str(path), SMALL, "strict")


# Batch normalisation


BN = replace(SMALL, name="vgg11_bn", batch_norm=True)


def normed(path: Path, state: Mapping[str, torch.Tensor], epsilon: float, skip: int = -1) -> None:
    """Write a graph with batch normalisation behind each convolution but one."""
    graph = Graph()
    x, number = graph.input, 0
    for layer in BN.layers[: BN.names.index("flatten")]:
        own = {
            kind: graph.tensor(state[f"{layer.module}.{kind}"].numpy())
            for kind in ("weight", "bias", "running_mean", "running_var")
            if f"{layer.module}.{kind}" in state
        }
        if layer.kind == "conv":
            x = graph.node("Conv", x, *own.values(), pads=[1] * 4)
            number += 1
        elif layer.kind == "bn":
            if number != skip:
                x = graph.node("BatchNormalization", x, *own.values(), epsilon=epsilon)
        elif layer.kind == "relu":
            x = graph.node("Relu", x)
        else:
            x = graph.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    graph.save(path, x)


@pytest.fixture
def small_bn(monkeypatch):
    """Let the small network with batch normalisation be one of those that are known."""
    monkeypatch.setitem(ARCHITECTURES, BN.name, BN)


@pytest.mark.usefixtures("small_bn")
def test_batch_normalisation_of_all_convolutions_makes_a_bn_network(path):
    state = random_state(BN)
    body = {name: tensor for name, tensor in state.items() if name.startswith("features")}
    normed(path, state, 1e-5)
    assert same(contents(path, BN), body)


@pytest.mark.usefixtures("small_bn")
@pytest.mark.parametrize("epsilon", [1e-3, 1e-7])
def test_another_epsilon_gives_its_own_numbers(path, epsilon):
    state = random_state(BN)
    normed(path, state, epsilon)
    found = {name: torch.from_numpy(array) for name, array in contents(path, BN).items()}
    for conv, bn in (("features.0", "features.1"), ("features.4", "features.5")):
        got, ours = folding(found, conv, bn), folding(state, conv, bn, epsilon)
        for kind in ("weight", "bias"):
            torch.testing.assert_close(got[kind], ours[kind], rtol=1e-6, atol=1e-6)


def folding(state, conv: str, bn: str, epsilon: float | None = None) -> dict[str, torch.Tensor]:
    convolution = {kind: state[f"{conv}.{kind}"] for kind in ("weight", "bias")}
    norm = {k: state[f"{bn}.{k}"] for k in ("weight", "bias", "running_mean", "running_var")}
    if epsilon is None:
        return folded(convolution, norm)
    scale = norm["weight"].double() / (norm["running_var"].double() + epsilon).sqrt()
    shift = norm["bias"].double() + scale * (convolution["bias"] - norm["running_mean"]).double()
    weight = convolution["weight"].double() * scale[:, None, None, None]
    return {"weight": weight.float(), "bias": shift.float()}


def test_batch_normalisation_of_some_convolutions_is_folded_and_so_are_mul_and_add(path):
    state = random_state(BN)
    normed(path, state, 1e-3, skip=3)
    found = contents(path)
    expected = folding(state, "features.4", "features.5", 1e-3)
    np.testing.assert_allclose(found["features.3.weight"], expected["weight"], rtol=1e-6)
    np.testing.assert_allclose(found["features.3.bias"], expected["bias"], rtol=1e-5, atol=1e-6)
    assert np.array_equal(found["features.5.weight"], state["features.7.weight"].numpy())

    graph = Graph()
    weight, bias, gain = STATE["features.0.weight"].numpy(), np.float32([1, 2, 3, 4]), 0.5
    x = graph.node("Conv", graph.input, graph.tensor(weight), graph.tensor(bias), pads=[1] * 4)
    x = graph.node("Mul", x, graph.tensor(np.full((4, 1, 1), gain, "f4")))
    x = graph.node("Sub", x, graph.tensor(np.float32(3)))
    graph.save(path, graph.node("Relu", x))
    with onnx_file.open_file(path) as file:
        assert np.array_equal(file.read("conv1_1.weight"), weight * np.float32(gain))
        assert np.array_equal(file.read("conv1_1.bias"), bias * gain - 3)
        notes = ("'Mul 1' is folded into conv1_1", "'Sub 2' is folded into conv1_1")
        assert file.understanding.notes == notes


# What is refused


def conv(graph: Graph, x: str, filters: int = 4, inputs: int = 3, side: int = 3, **given) -> str:
    kernel = graph.tensor(np.ones((filters, inputs, side, side), "f4"))
    return graph.node("Conv", x, kernel, **{"pads": [1] * 4, **given})


STRANGE = {
    "a first layer of another size": (
        lambda g: conv(g, g.input, side=7, pads=[3] * 4, strides=[2, 2], kernel_shape=[7, 7]),
        r"at its input a VGG has conv1_1 \(3 x 3, stride 1, padding 1, of 3 channels\), but here "
        r"is Conv 'Conv_1' \(kernel_shape 7 x 7, strides 2 x 2, pads 3 x 3 x 3 x 3\)",
    ),
    "strides": (lambda g: conv(g, g.input, strides=[2, 2]), "strides 2 x 2"),
    "holes": (lambda g: conv(g, g.input, dilations=[2, 2]), "dilations 2 x 2"),
    "no zeros around": (lambda g: conv(g, g.input, pads=[0] * 4), "pads 0 x 0"),
    "grey images": (lambda g: conv(g, g.input, inputs=1), "of 3 channels"),
    "a leaky ReLU": (
        lambda g: g.node("LeakyRelu", conv(g, g.input)),
        r"after conv1_1 a VGG has relu1_1 \(or batch normalisation\), but here is LeakyRelu",
    ),
    "means for maxima": (
        lambda g: g.node(
            "AveragePool", g.node("Relu", conv(g, g.input)), kernel_shape=[2, 2], strides=[2, 2]
        ),
        r"after relu1_1 a VGG has conv1_2 .* or pool1 \(2 x 2, stride 2\), but here is AveragePool",
    ),
    "a larger pooling": (
        lambda g: g.node(
            "MaxPool", g.node("Relu", conv(g, g.input)), kernel_shape=[3, 3], strides=[2, 2]
        ),
        "kernel_shape 3 x 3",
    ),
    "normalisation behind the ReLU": (
        lambda g: g.node(
            "BatchNormalization",
            g.node("Relu", conv(g, g.input)),
            *(g.tensor(np.ones(4, "f4")) for _ in range(4)),
        ),
        "after relu1_1 a VGG has conv1_2 .*but here is BatchNormalization",
    ),
    "a shortcut": (
        lambda g: g.node("Add", g.node("Relu", x := conv(g, g.input)), x),
        "after (relu1_1|conv1_1) a VGG has .*but here is Add",
    ),
    "a mean image": (
        lambda g: conv(g, g.node("Sub", g.input, g.tensor(np.ones((1, 3, 64, 64), "f4")))),
        r"at its input a VGG has conv1_1 .*but here is Sub",
    ),
    "resized images": (lambda g: conv(g, g.node("Resize", g.input)), "but here is Resize"),
    "rows for columns": (
        lambda g: conv(g, g.node("Transpose", g.input, perm=[0, 1, 3, 2])),
        "rows and columns of the images are exchanged",
    ),
    "quantised pixels": (
        lambda g: conv(g, g.node("QuantizeLinear", g.input, g.tensor(np.float32(1)))),
        r"at its input it is quantised \(QuantizeLinear 'QuantizeLinear_1'\).*before it was",
    ),
    "a quantised convolution": (
        lambda g: g.node("QLinearConv", g.input), r"it is quantised \(QLinearConv"
    ),
    "quantised weights": (
        lambda g: g.node(
            "Conv",
            g.input,
            g.node("DequantizeLinear", g.tensor(np.ones((4, 3, 3, 3), "i1"))),
            pads=[1] * 4,
        ),
        r"it is quantised \(DequantizeLinear",
    ),
    "nothing at all": (lambda g: g.node("Identity", g.input), "nothing is done to its input"),
    "a vector": (lambda g: g.node("Gemm", g.input), "but here is Gemm"),
}  # fmt: skip


@pytest.mark.parametrize("what", STRANGE)
def test_a_graph_of_no_vgg_is_refused_with_what_differs(path, what):
    made, expected = STRANGE[what]
    graph = Graph()
    graph.save(path, made(graph))
    assert re.search(expected, refusal(path))


def test_a_head_of_another_make_is_named_where_it_is_asked_for_and_not_below(path):
    graph = Graph()
    body = {name: tensor for name, tensor in STATE.items() if not name.startswith("classifier")}
    x = graph.input
    for block in arrays(body):
        for weight, bias in block:
            x = graph.node("Conv", x, graph.tensor(weight), graph.tensor(bias), pads=[1] * 4)
            x = graph.node("Relu", x)
        x = graph.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = graph.node("GlobalAveragePool", x, name="mean")
    graph.save(path, graph.node("Gemm", x, graph.tensor(np.ones((8, 3), "f4"))))
    weights = resolve(str(path), SMALL)
    assert weights.load(SMALL, list(body))
    with pytest.raises(
        WeightsError, match=r"after pool5 a VGG has fc6, but here is Global.*'mean'"
    ):
        weights.load(SMALL, ["classifier.0.weight"])


def test_two_networks_in_one_graph_are_refused_and_one_used_twice_is_one(path):
    graph = Graph()
    other = graph.add_input("right", (0, 3, 64, 64))
    weight = graph.tensor(STATE["features.0.weight"].numpy())
    for x in (graph.input, other):
        x = graph.node("Relu", graph.node("Conv", x, weight, pads=[1] * 4))
    graph.save(path, x)
    with onnx_file.open_file(path) as file:
        assert np.array_equal(file.read("conv1_1.weight"), STATE["features.0.weight"].numpy())
    graph = Graph()
    for x in (graph.input, graph.add_input("right", (0, 3, 64, 64))):
        x = graph.node("Relu", conv(graph, x))
    graph.save(path, x)
    assert "it holds two networks: after its input they differ" in refusal(path)


def test_of_two_heads_neither_is_taken(path):
    graph = Graph()
    as_torch(STATE, path, graph)
    flat = next(node for node in graph.graph.node if node.op_type == "Flatten").output[0]
    other = graph.node("Gemm", flat, graph.tensor(np.ones((32, 10), "f4")))
    graph.save(path, graph.node("Relu", other))
    weights = resolve(str(path), SMALL)
    assert weights.load(SMALL, ["features.0.weight"])
    with pytest.raises(WeightsError, match=r"after (flatten|pool5) the graph goes on in two ways"):
        weights.load(SMALL, ["classifier.0.weight"])


def test_what_is_done_with_the_answer_does_not_matter(path):
    graph = Graph((0, 64, 64, 3))
    as_tf2onnx(STATE, path, graph)
    graph.save(path, graph.node("ArgMax", graph.graph.output[0].name))
    with onnx_file.open_file(path) as file:
        assert file.understanding.obstacle is None
    graph = Graph()
    as_torch(STATE, path, graph)
    graph.save(path, graph.node("Sigmoid", graph.graph.output[0].name))
    with onnx_file.open_file(path) as file:
        assert file.understanding.obstacle.before == "prob"


def test_branches_without_layers_of_their_own_do_not_matter(path):
    """Side outputs and the like leave a VGG what it is."""
    graph = Graph()
    as_torch(STATE, path, graph)
    third = [node for node in graph.graph.node if node.op_type == "Relu"][2].output[0]
    side = graph.node("Conv", third, graph.tensor(np.ones((1, 6, 1, 1), "f4")))
    graph.save(path, graph.node("Sigmoid", side))
    assert same(contents(path))


@settings(max_examples=150, suppress_health_check=[*BUSY, HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_model_never_ends_in_another_error(tmp_path_factory, data):
    content = damaged_ones(tmp_path_factory)
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(damaged)
    try:
        with onnx_file.open_file(path) as file:
            for name, shape in file.shapes.items():
                assert file.read(name).shape == shape
    except WeightsError:
        pass


def damaged_ones(tmp_path_factory) -> bytes:
    """Return a small model with a node of each kind that is read."""
    tiny = Architecture("vgg11", (1, 1, 1, 1, 1), (1,) * 5, units=2, classes=2, grid=1)
    path = tmp_path_factory.getbasetemp() / "sound.onnx"
    if not path.exists():
        graph = Graph((0, 64, 64, 3))
        x = graph.node("Div", graph.input, graph.tensor(np.float32(255)))
        as_tf2onnx(random_state(tiny), path, graph, x)
    return path.read_bytes()


@pytest.mark.parametrize("content", [b"\x3a\x02\x0a\x00", b"\x3a\x00", b"\x0a\x00" * 150_000])
def test_files_with_next_to_nothing_in_them_are_refused_at_once(path, content):
    path.write_bytes(content)
    refusal(path)


def test_a_hostile_model_costs_an_error_and_no_more(path):
    graph = Graph()
    kernel = graph.tensor(np.ones((4, 3, 3, 3), "f4"))
    for _ in range(14):  # twice as many operations each time
        kernel = graph.node("Add", kernel, kernel)
    graph.save(path, graph.node("Conv", graph.input, kernel, pads=[1] * 4))
    assert "is computed of" in refusal(path)
    graph = Graph()
    rows, columns = graph.tensor(np.ones((1 << 20, 1), "f4")), graph.tensor(np.ones(1 << 12, "f4"))
    huge = graph.node("Mul", rows, columns)
    graph.save(path, graph.node("Conv", graph.input, huge))
    assert "makes a constant of shape" in refusal(path)
    graph = Graph()
    tensor = graph.graph.initializer.add(name="w", data_type=1, raw_data=b"1234")
    tensor.dims.extend([1 << 30, 1 << 30, 3, 3])
    graph.save(path, graph.node("Conv", graph.input, "w"))
    assert "tensor 'w' has shape" in refusal(path)
    graph = Graph()
    first = graph.node("Identity", "later")  # a circle
    graph.node("Identity", first, name="later")
    graph.save(path, graph.node("Conv", graph.input, first))
    assert "but here is Conv" in refusal(path)
    os.truncate(path, 0)
    refusal(path)
