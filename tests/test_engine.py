"""The Winograd engine gives torch's numbers: any layers, any size, any batch."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from commands import cli
from conftest import draw
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the Winograd engine needs numba, the extra `fast`")

from vggfeat import FeatureExtractor, FeatureStore, SimilarityIndex
from vggfeat.engine import processor, transforms
from vggfeat.engine.winograd import Winograd
from vggfeat.engines import ENGINES, EngineRecord
from vggfeat.errors import DeviceError
from vggfeat.layers import Architecture, architecture
from vggfeat.network import Network, build
from vggfeat.network.torch_engine import TorchEngine
from vggfeat.pooling import parse_layers
from vggfeat.weights import resolve

if processor.unsuited():
    pytest.skip(processor.unsuited(), allow_module_level=True)

TINY = architecture("vgg16-tiny")
NAMES = [layer.name for layer in TINY.layers]
MAPS = [layer.name for layer in TINY.layers if layer.spatial]
ODD = Architecture("odd", (1, 2, 1, 1, 2), (24, 40, 56, 72, 100), 60, 10, 32, 1)
"""Channels that fill no whole vectors, and units that torch's products must take."""


def load(network: Architecture, layers: str, engine: str, spec: str = "random:0") -> Network:
    asked = parse_layers(layers, "none", network)
    return Network.load(network, resolve(spec, network), asked, "cpu", engine=engine)


def error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).norm() / (theirs.norm() or 1))


def images(count: int, height: int, width: int) -> list[np.ndarray]:
    return [np.asarray(draw(width, height, seed)) for seed in range(count)]


def winograd(network: Architecture = TINY, deepest: str = "fc8", **options) -> Winograd:
    parts = build(network, resolve("random:0", network), {deepest: ""})
    parameters = {
        name: (part.weight.numpy(), part.bias.numpy())
        for name, part in parts.items()
        if hasattr(part, "weight")
    }
    return Winograd(network, parameters.items(), **{"threads": 1, **options})


def maps(engine: Winograd, pixels: np.ndarray, asked: set[str]) -> dict[str, np.ndarray]:
    found: dict[str, list[np.ndarray]] = {name: [] for name in asked}
    engine.maps(pixels, asked, lambda name, map: found[name].append(map.copy()))
    return {name: np.concatenate(parts) for name, parts in found.items()}


@pytest.mark.parametrize("model", ["vgg16", "vgg11"])
def test_every_layer_of_a_network_is_torchs(model):
    network = architecture(model)
    taken = images(2, 224, 224)
    ours, theirs = (
        load(network, "all", engine).features(taken) for engine in ("winograd", "torch")
    )
    assert list(ours) == [layer.name for layer in network.layers]
    for name, value in ours.items():
        assert error(value, theirs[name]) < 1e-5, name
    for name in ("conv1_1", "conv5_2", "fc6", "fc7"):
        assert ours[name].min() < 0, f"{name} is the linear output"
    for name in ("relu1_1", "relu5_2", "relu6", "relu7"):
        assert ours[name].min() == 0, f"{name} is rectified"


@settings(max_examples=30)
@given(
    layers=st.sets(st.sampled_from(NAMES), min_size=1, max_size=6),
    count=st.integers(1, 9),
    height=st.integers(32, 75),
    width=st.integers(32, 75),
    flip=st.booleans(),
)
def test_any_layers_sizes_and_batches_are_torchs(layers, count, height, width, flip):
    taken = images(count, height, width)
    asked = ",".join(layers)
    ours, theirs = (
        load(TINY, asked, engine).features(taken, flip=flip) for engine in ("winograd", "torch")
    )
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert error(value, theirs[name]) < 1e-5, name


@settings(max_examples=15)
@given(
    widths=st.tuples(*[st.integers(1, 90)] * 5),
    convolutions=st.tuples(*[st.integers(1, 3)] * 5),
    count=st.integers(1, 3),
    batch_norm=st.booleans(),
)
@example(ODD.widths, ODD.convolutions, 3, True)
@example((1, 3, 9, 2, 5), (2, 1, 1, 1, 1), 1, False)
@example((1, 1, 3, 1, 1), (1, 1, 1, 1, 1), 1, False)
def test_networks_of_any_widths_are_torchs(widths, convolutions, count, batch_norm):
    network = replace(ODD, widths=widths, convolutions=convolutions, batch_norm=batch_norm)
    taken = images(count, 45, 38)
    ours, theirs = (
        load(network, "all", engine).features(taken) for engine in ("winograd", "torch")
    )
    assert list(ours) == [layer.name for layer in network.layers]
    for name, value in ours.items():  # the terms of a few values may nearly cancel
        assert error(value, theirs[name]) < 1e-4, name


@pytest.mark.parametrize("layers", ["bn1_1", "conv1_1", "conv2_1,bn2_1,pool2", "conv5_2,relu7"])
def test_a_convolution_beside_batch_normalisation_changes_no_other_layer(layers):
    network = replace(ODD, batch_norm=True)
    taken = images(3, 70, 45)
    whole = load(network, "all", "winograd").features(taken)
    for name, value in load(network, layers, "winograd").features(taken).items():
        assert torch.equal(value, whole[name])


@pytest.mark.parametrize("layers", ["conv3_1:max,pool5,relu7,prob", "pool4:gem,fc6"])
def test_dense_features_are_torchs(layers):
    view = {"view": "dense", "scales": (64, 90, 131), "flip": True}
    taken = [draw(70, 99), draw(99, 70, 1), draw(70, 99, 2), draw(64, 200, 3)]
    ours, theirs = (
        FeatureExtractor("vgg16-tiny", "random:0", layers, device="cpu", engine=engine, **view)(
            taken
        )
        for engine in ("winograd", "torch")
    )
    for name, value in ours.items():
        assert np.linalg.norm(value - theirs[name]) < 1e-5 * np.linalg.norm(theirs[name])


def test_an_images_features_are_the_same_in_any_batch_and_on_any_number_of_threads():
    pixels = np.random.default_rng(0).normal(size=(9, 50, 61, 3)).astype(np.float32)
    asked = {"conv1_2", "relu3_3", "conv5_3", "pool5"}
    engine, several = winograd(), winograd(threads=3)
    together, shared = maps(engine, pixels, asked), maps(several, pixels, asked)
    alone = maps(engine, pixels[7:8], asked)
    for name in asked:
        assert np.array_equal(together[name], shared[name])
        assert np.array_equal(together[name][7:8], alone[name])
    rows = np.random.default_rng(1).normal(size=(41, 512)).astype(np.float32)
    out = engine.connect("fc6", rows)
    assert np.array_equal(out, several.connect("fc6", rows))
    assert np.array_equal(out[13:14], engine.connect("fc6", rows[13:14]))


def test_few_tiles_share_their_phases_and_give_the_same_bits():
    # Large filters and one image: threads divide channels rather than tiles.
    network = Architecture("wide", (1, 1, 1, 1, 1), (64, 128, 256, 512, 512), 16, 10, 32, 1)
    engine, several = (winograd(network, "pool5", threads=threads) for threads in (1, 3))
    pixels = np.random.default_rng(0).normal(size=(1, 64, 90, 3)).astype(np.float32)
    shared = [step for step in several.plan({"pool5"}, 1, 64, 90).steps if step.kind == "winograd"]
    assert any(not step.tiles for step in shared)
    assert np.array_equal(
        maps(engine, pixels, {"pool5"})["pool5"], maps(several, pixels, {"pool5"})["pool5"]
    )


@pytest.mark.parametrize("lanes", processor.widths())
def test_vectors_of_every_width_give_torchs_numbers(lanes):
    pixels = np.random.default_rng(0).normal(size=(3, 37, 50, 3)).astype(np.float32)
    ours = maps(winograd(lanes=lanes), pixels, set(MAPS))
    parts = build(TINY, resolve("random:0", TINY), {"pool5": ""}).double()
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).double()
    for name, part in parts.items():
        if isinstance(part, torch.nn.ReLU):
            part.inplace = False
        x = part(x)
        assert error(torch.from_numpy(ours[name]).permute(0, 3, 1, 2), x) < 5e-6, name


def test_the_transforms_are_an_exact_convolution():
    rng = np.random.default_rng(0)
    data, taps = rng.integers(-9, 9, 6), rng.integers(-9, 9, 3)

    def product(matrix, vector):
        return [
            sum(a * Fraction(int(b)) for a, b in zip(row, vector, strict=True)) for row in matrix
        ]

    filtered, seen = product(transforms.FILTER, taps), product(transforms.INPUT, data)
    products = [a * b for a, b in zip(filtered, seen, strict=True)]
    out = [sum(a * b for a, b in zip(row, products, strict=True)) for row in transforms.OUTPUT]
    assert out == [sum(data[i + j] * taps[j] for j in range(3)) for i in range(4)]
    for whole, (first, second) in (
        (transforms.INPUT, transforms.INPUT_STAGES),
        (transforms.OUTPUT, transforms.OUTPUT_STAGES),
    ):
        columns = list(zip(*first, strict=True))
        assert [[sum(map(np.multiply, row, c)) for c in columns] for row in second] == whole
        terms = sum(sum(value != 0 for value in row) - 1 for row in [*first, *second])
        assert terms < sum(sum(value != 0 for value in row) - 1 for row in whole)


def test_auto_takes_torch_for_few_images_and_says_why(caplog):
    with caplog.at_level(logging.INFO, logger="vggfeat"):
        network = load(TINY, "pool5", "auto")
        network.hint_workload(5 * 64 * 64)
        assert network.engine.name == "torch"
        network.hint_workload(10**6 * 64 * 64)
        assert network.engine.name == "winograd"
    assert "engine: winograd on" in caplog.text
    assert "multiply-adds to do" in caplog.text


def test_auto_takes_torch_where_the_engine_cannot_run(caplog, monkeypatch):
    monkeypatch.setattr("vggfeat.network.engines._told", set())
    with caplog.at_level(logging.INFO, logger="vggfeat"):
        asked = parse_layers("pool1", "avg", TINY)
        weights = resolve("random:0", TINY)
        network = Network.load(TINY, weights, asked, "cpu", "bfloat16")
        network.hint_workload(10**6 * 64 * 64)
        assert network.engine.name == "torch"
    assert "engine: torch, because the network runs in bfloat16" in caplog.text
    with pytest.raises(DeviceError, match="cannot run: the network runs in float16"):
        Network.load(TINY, weights, asked, "cpu", "float16", "winograd")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert "aarch64" in processor.unsuited.__wrapped__()


class Mine(TorchEngine):
    """Another engine, as somebody would add it."""

    def __str__(self) -> str:
        return "mine"


def test_one_record_is_all_that_an_engine_takes(monkeypatch, caplog):
    monkeypatch.setitem(ENGINES, "mine", EngineRecord("mine", "a test's", f"{__name__}:Mine"))
    monkeypatch.delitem(ENGINES, "winograd")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    with caplog.at_level(logging.INFO, logger="vggfeat"):
        mine, auto = load(TINY, "pool5", "mine"), load(TINY, "pool5", "auto")
        auto.hint_workload(64 * 64)
    assert (mine.engine.name, auto.engine.name) == ("mine", "mine")
    assert "engine: mine, because it was asked for" in caplog.text
    expected = load(TINY, "pool5", "torch").features(pixels)["pool5"]
    assert torch.equal(mine.features(pixels)["pool5"], expected)


def test_an_unknown_engine_is_refused():
    with pytest.raises(DeviceError, match=r"Unknown engine 'fast'\. Known are auto, torch"):
        FeatureExtractor(engine="fast")


def test_a_store_tells_which_engine_ran_and_either_goes_on_with_it(photos, tmp_path):
    settings = {"weights": "random:0", "layers": "conv5_3,relu7", "device": "cpu"}
    paths = sorted(photos.rglob("*.jpg"))
    late = {path: path.read_bytes() for path in paths[8:]}
    for path in late:
        path.unlink()
    FeatureExtractor("vgg16-tiny", **settings).extract(photos, tmp_path / "s.h5")
    for path, content in late.items():
        path.write_bytes(content)
    command = [sys.executable, "-m", "vggfeat", "extract", str(photos), str(tmp_path / "s.h5")]
    command += ["--model", "vgg16-tiny", "--weights", "random:0", "--layers", "conv5_3,relu7"]
    done = subprocess.run([*command, "--engine", "winograd"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with FeatureStore(tmp_path / "s.h5") as store:
        assert [run.engine for run in store.runs] == ["torch", "winograd"]
        whole = FeatureExtractor("vgg16-tiny", **settings, engine="torch")(paths)
        assert [photos / path for path in store.paths] == paths
        for name, rows in whole.items():
            assert np.linalg.norm(store[name][:] - rows) < 1e-5 * np.linalg.norm(rows)


def test_queries_and_evaluations_run_on_the_engine_that_is_asked_for(
    scenes, scenes_store, tmp_path
):
    with FeatureStore(scenes_store) as store:
        SimilarityIndex.build(store, "relu7", path=tmp_path / "i")
    photo = str(scenes / "china" / "00.jpg")
    few = tmp_path / "few"
    for kind in ("china", "flower"):
        (few / kind).mkdir(parents=True)
        for name in ("00.jpg", "01.jpg"):
            shutil.copy(scenes / kind / name, few / kind)
    stores = ["--stores", str(tmp_path / "stores"), "--root", str(few)]
    scales = ["--model", "vgg16-tiny", "--scales", "64"]
    for command in (
        ["search", str(tmp_path / "i"), photo],
        ["evaluate", "retrieval", *stores, *scales],
    ):
        done = cli("--debug", *command, "--device", "cpu", "--engine", "winograd")
        assert done.returncode == 0, done.stderr
        assert "engine: winograd" in done.stderr


def test_without_numba_everything_works_as_before(photos):
    program = f"""
import logging, sys
sys.modules["numba"] = None
logging.basicConfig(level=logging.INFO)
from vggfeat import FeatureExtractor
from vggfeat.errors import DeviceError
for few, images in ((True, 1), (False, 10**6), (False, 10**7)):
    made = FeatureExtractor("vgg16-tiny", "random:0", "pool5", device="cpu")
    made.hint_workload(images)
    logging.info("few" if few else "many")
assert made({str(photos / "cat" / "00.jpg")!r})["pool5"].shape == (1, 128)
try:
    FeatureExtractor("vgg16-tiny", "random:0", "pool5", device="cpu", engine="winograd").network
except DeviceError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    few, *many = done.stderr.partition("INFO:root:few")
    assert "engine" not in few, "for few images another engine would be no faster"
    assert "".join(many).count("engine: torch, because numba is not installed") == 1
    assert "pip install 'vggfeat[fast]'" in done.stdout
