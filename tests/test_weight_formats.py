"""One network gives one result, whatever its file's format, with the format's preprocessing."""

from __future__ import annotations

import functools
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torchvision
import weight_writers
from conftest import BUSY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import nn
from weight_memory import check_memory
from weight_writers import FORMATS, MATCONVNET_MEAN

from vggfeat import FeatureExtractor
from vggfeat.errors import VggfeatError, WeightsError
from vggfeat.layers import Architecture, architecture
from vggfeat.preprocessing import CAFFE, PRESETS, TORCHVISION
from vggfeat.weights import FORMATS as KNOWN
from vggfeat.weights import inspect, resolve, shapes
from vggfeat.weights.formats import format_of
from vggfeat.weights.pairing import name_of

TINY = architecture("vgg16-tiny")
LAYERS = {"conv1_1": 0, "pool3": 16, "conv5_3": 28, "relu6": 1, "fc7": 3, "fc8": 6}
SIDE = TINY.input_size


@pytest.fixture(scope="module")
def state():
    return resolve("random:5", TINY).load(TINY, list(shapes(TINY)))


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "china.jpg"
    Image.fromarray(load_sample_images().images[0]).save(path, quality=92)
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory, state):
    folder = tmp_path_factory.mktemp("written")

    @functools.cache
    def write(kind: str) -> Path:
        suffix, writer = FORMATS[kind]
        path = folder / f"{kind.replace(', ', '-').replace(' ', '-')}{suffix}"
        writer(state, path)
        return path

    return write


def pixels(photo: Path, kind: str) -> torch.Tensor:
    """Prepare a photograph as each format's own programs do, by nothing of vggfeat's."""
    with Image.open(photo) as image:
        bicubic = kind.startswith("MatConvNet")
        filter_ = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
        width = int(SIDE * image.width / image.height)
        left = round((width - SIDE) / 2)
        small = image.resize((width, SIDE), filter_).crop((left, 0, left + SIDE, SIDE))
    rgb = np.asarray(small, np.float64)
    if kind.startswith("MatConvNet"):
        prepared = rgb - MATCONVNET_MEAN
    elif kind.startswith(("Caffe", "Keras")):
        prepared = rgb[:, :, ::-1] - (103.939, 116.779, 123.68)
    else:
        prepared = (rgb / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    return torch.from_numpy(np.ascontiguousarray(prepared)).permute(2, 0, 1)[None]


def reference(state, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Run torchvision's own layers in float64."""
    widths = TINY.widths
    plan = [w for w, n in zip(widths, TINY.convolutions, strict=True) for w in [*[w] * n, "M"]]
    body = torchvision.models.vgg.make_layers(plan)
    head = nn.Sequential(
        *[nn.Linear(widths[-1] * 4, 1024), nn.ReLU(), nn.Dropout(), nn.Linear(1024, 1024)],
        *[nn.ReLU(), nn.Dropout(), nn.Linear(1024, 200)],
    )
    model = nn.ModuleDict({"features": body, "classifier": head})
    model.load_state_dict(state)
    model.double().eval()
    seen = {}
    with torch.inference_mode():
        for part, names in ((body, list(LAYERS)[:3]), (head, list(LAYERS)[3:])):
            for number, module in enumerate(part):
                x = module(x)
                seen |= {name: x.clone() for name in names if LAYERS[name] == number}
            x = x.flatten(1)
    return seen


def test_every_format_has_a_writer_whose_files_all_tests_read() -> None:
    written = {format_of(Path(f"w{suffix}")).name for suffix, _ in FORMATS.values()}
    assert written == set(KNOWN)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_original_networks_activations(state, written, photo, kind):
    path = written(kind)
    extractor = FeatureExtractor(
        "vgg16-tiny", weights=path, layers=list(LAYERS), pool="none", device="cpu"
    )
    ours = extractor(photo)
    theirs = reference(state, pixels(photo, kind))
    for name, expected in theirs.items():
        error = np.linalg.norm(ours[name] - expected.numpy()) / expected.norm().item()
        assert error < 1e-5, name


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_recognised_and_described(written, kind):
    found = inspect(written(kind))
    assert found.network.name == "vgg16-tiny"
    assert (found.parameters, found.classes, found.deepest) == (TINY.parameters, 200, "prob")
    assert not [name for name in found.others if not name.startswith("optimizer.")]
    family = kind.partition(",")[0]
    assert name_of(found.pairing.preprocessing) == {"Caffe": "caffe", "Keras": "caffe"}.get(
        family, "" if family == "MatConvNet" else "torchvision"
    )
    assert found.pairing.sure == (family == "MatConvNet"), "its mean says it; the others assume"


def test_keras_without_top_serves_as_far_as_it_goes(tmp_path, state, photo):
    path = tmp_path / "vgg16_notop.h5"
    weight_writers.keras_notop(state, path)
    found = inspect(path)
    assert (found.deepest, found.classes) == ("flatten", None)
    ours = FeatureExtractor("vgg16-tiny", weights=path, layers="conv5_3:none", device="cpu")(photo)
    expected = reference(state, pixels(photo, "Keras"))["conv5_3"]
    assert np.linalg.norm(ours["conv5_3"] - expected.numpy()) / expected.norm() < 1e-5
    with pytest.raises(
        WeightsError, match=r"classifier.0.weight is missing.*last usable layer is flatten"
    ):
        FeatureExtractor("vgg16-tiny", weights=path, layers="relu7", device="cpu")(photo)


@pytest.mark.parametrize("kind", FORMATS)
def test_other_classes_are_refused_by_the_last_layer_alone(tmp_path, state, kind):
    last = {"classifier.6.weight": torch.zeros(21, 1024), "classifier.6.bias": torch.zeros(21)}
    other = {**state, **last}
    suffix, writer = FORMATS[kind]
    path = tmp_path / f"other{suffix}"
    writer(other, path)
    weights = resolve(str(path), TINY)
    loaded = weights.load(TINY, ["classifier.3.weight"])
    assert torch.equal(loaded["classifier.3.weight"], state["classifier.3.weight"])
    with pytest.raises(WeightsError, match=r"classifier.6.weight has shape \(21, 1024\).*relu7"):
        weights.load(TINY, ["classifier.6.weight"])
    assert inspect(path).classes == 21


def test_a_head_of_another_make_does_not_matter_below_it(tmp_path, state):
    own = {k: v for k, v in state.items() if not k.startswith("classifier.6")}
    torch.save(own | {"classifier.6.0.weight": torch.zeros(5, 1024)}, tmp_path / "tuned.pth")
    weights = resolve(str(tmp_path / "tuned.pth"), TINY)
    assert weights.load(TINY, ["classifier.3.bias"])
    assert inspect(tmp_path / "tuned.pth").others == ("classifier.6.0.weight",)
    with pytest.raises(WeightsError, match=r"classifier.6.bias is missing"):
        weights.load(TINY, ["classifier.6.bias"])


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_of_another_network_is_refused_in_one_line_with_the_remedy(written, kind):
    path, vgg16 = written(kind), architecture("vgg16")
    with pytest.raises(VggfeatError, match=r"vgg16-tiny|inputs of 64 pixels") as error:
        resolve(str(path), vgg16).load(vgg16, ["features.0.weight"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_is_refused_in_one_line(written, tmp_path, kind):
    path = tmp_path / f"half{written(kind).suffix}"
    data = written(kind).read_bytes()
    for keep in (0.0, 0.001, 0.3, 0.95):
        path.write_bytes(data[: int(len(data) * keep)])
        for use in (inspect, lambda p: resolve(str(p), TINY).load(TINY, list(shapes(TINY)))):
            with pytest.raises(WeightsError) as error:
                use(path)
            assert "\n" not in str(error.value)
            assert str(path) in str(error.value)


@pytest.mark.parametrize("suffix", sorted({suffix for suffix, _ in FORMATS.values()}))
def test_what_is_no_weight_file_is_refused_in_one_line(tmp_path, suffix):
    path = tmp_path / f"notes{suffix}"
    for content in (b"", b"hello, world\n" * 50, b"\x89HDF\r\n\x1a\n", os.urandom(5000)):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="cannot be read as") as error:
            inspect(path)
        assert "\n" not in str(error.value)


class _Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("suffix", sorted({suffix for suffix, _ in FORMATS.values()}))
@pytest.mark.parametrize("how", ["pickle", "zip", "legacy", "wrapped"])
def test_a_file_that_would_run_code_runs_none(tmp_path, suffix, how):
    path, mark = tmp_path / f"evil{suffix}", tmp_path / "was-here"
    if how == "pickle":
        path.write_bytes(pickle.dumps(_Evil(mark)))
    else:
        held = {"state_dict": {"w": torch.zeros(3)}, "args": _Evil(mark)}
        held = held if how == "wrapped" else {"w": _Evil(mark)}
        torch.save(held, path, _use_new_zipfile_serialization=how != "legacy")
    with pytest.raises(WeightsError, match="cannot be read as"):
        inspect(path)
    assert not mark.exists()


def test_an_hdf5_file_that_is_not_keras_is_refused_with_the_reason(tmp_path):
    path = tmp_path / "features.h5"
    with h5py.File(path, "w") as file:
        file["features/relu7"] = np.zeros((3, 4))
    with pytest.raises(WeightsError, match=r"no list of layers \(layer_names\)"):
        inspect(path)


def test_a_mat_file_that_is_not_matconvnets_is_refused_with_the_reason(tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "other.mat", {"x": np.eye(3)})
    with pytest.raises(WeightsError, match="no layers of MatConvNet's"):
        inspect(tmp_path / "other.mat")
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        file["layers"] = np.zeros(3)
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    with (tmp_path / "new.mat").open("r+b") as file:
        file.write(head)
    with pytest.raises(WeightsError, match=r"version 7.3.*save it again with -v7"):
        inspect(tmp_path / "new.mat")


def test_a_network_that_is_not_vgg_is_named_by_its_tensors(tmp_path):
    torch.save(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "squeeze.pth")
    with pytest.raises(WeightsError, match=r"no network that is known.*features.0.weight \(64, 3"):
        inspect(tmp_path / "squeeze.pth")


@pytest.fixture(scope="module")
def small_caffemodel(tmp_path_factory):
    """A Caffe model of few bytes: names and shapes matter, not what they are of."""
    net = weight_writers.net_parameter()()
    for name, shape in (("conv1_1", (2, 3, 3, 3)), ("fc6", (4, 6))):
        layer = net.layer.add(name=name, type="Convolution")
        blob = layer.blobs.add()
        blob.shape.dim.extend(shape)
        blob.data.extend(np.arange(np.prod(shape), dtype=np.float32))
    return net.SerializeToString(), tmp_path_factory.mktemp("caffe") / "small.caffemodel"


@settings(max_examples=300, suppress_health_check=[*BUSY, HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_caffe_model_never_ends_in_another_error(small_caffemodel, data):
    from vggfeat.weights import caffe_file

    content, path = small_caffemodel
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        with caffe_file.open_file(path) as file:
            for name, shape in file.shapes.items():
                assert file.read(name).shape == shape
    except WeightsError:
        pass


def test_a_caffe_model_may_hold_doubles_and_split_its_values(tmp_path):
    """The wire format lets a packed field come in several parts, and Caffe has `double_data`."""
    from vggfeat.weights import caffe_file

    net = weight_writers.net_parameter()()
    blob = net.layer.add(name="conv1_1").blobs.add()
    blob.shape.dim.extend((1, 1, 1, 3))
    blob.double_data.extend([0.1, 0.2, 0.3])
    other = net.layer.add(name="fc6").blobs.add()
    other.shape.dim.extend((2, 2))
    other.data.extend([1, 2, 3, 4])
    content = net.SerializeToString()
    packed = b"\x2a\x10" + np.float32([1, 2, 3, 4]).tobytes()
    halves = b"\x2a\x08" + np.float32([1, 2]).tobytes() + b"\x2a\x08" + np.float32([3, 4]).tobytes()
    assert packed in content
    layer = net.layer[1].SerializeToString()
    split = layer.replace(packed, halves)
    split = split.replace(
        b"\x3a" + bytes([len(other.SerializeToString())]),
        b"\x3a" + bytes([len(other.SerializeToString()) + 2]),
    )
    content = content.replace(
        b"\xa2\x06" + bytes([len(layer)]) + layer, b"\xa2\x06" + bytes([len(split)]) + split
    )
    (tmp_path / "odd.caffemodel").write_bytes(content)
    with (tmp_path / "odd.caffemodel").open("rb") as opened:
        file = caffe_file.CaffeFile(content, opened)
        np.testing.assert_array_equal(file.read("conv1_1.weight").ravel(), [0.1, 0.2, 0.3])
        np.testing.assert_array_equal(file.read("fc6.weight"), [[1, 2], [3, 4]])


def test_presets_are_those_of_their_publishers():
    theirs = torchvision.models.VGG16_Weights.IMAGENET1K_V1.transforms()
    assert (list(TORCHVISION.mean), list(TORCHVISION.std)) == (theirs.mean, theirs.std)
    assert CAFFE.mean == PRESETS["caffe-rgb"].mean[::-1] == (103.939, 116.779, 123.68)


def varint(value: int) -> bytes:
    made = b""
    while value > 0x7F:
        made += bytes([value & 0x7F | 0x80])
        value >>= 7
    return made + bytes([value])


def field(number: int, content: bytes, hole: int = 0) -> bytes:
    """Return a length-delimited field whose content ends in so many bytes that are not there."""
    return varint(number << 3 | 2) + varint(len(content) + hole) + content


def hollow_caffemodel(path: Path, network: Architecture) -> None:
    """Write a network of zeros whose matrices are holes in the file."""
    with path.open("wb") as file:
        for layer in network.layers:
            if not layer.parameters:
                continue
            conv = layer.kind == "conv"
            dims = (layer.outputs, layer.inputs, *([3, 3] if conv else []))
            values = np.zeros(layer.outputs, np.float32).tobytes()
            bias = field(7, field(7, field(1, varint(layer.outputs))) + field(5, values))
            size = 4 * int(np.prod(dims))
            data = varint(5 << 3 | 2) + varint(size)
            blob = field(7, field(1, b"".join(map(varint, dims)))) + data
            head = field(1, layer.name.encode()) + field(7, blob, size)
            file.write(field(100, head, size + len(bias)))
            file.seek(size, 1)
            file.write(bias)
        file.truncate()


def hollow_keras(path: Path, network: Architecture) -> None:
    there = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    there.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # zeros of a sparse file, but in the file
    there.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w") as file:
        names = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
        layers = []
        for layer in network.layers:
            if layer.parameters:
                own = names.get(layer.name, layer.name.replace("conv", "block"))
                own = own.replace("_", "_conv")
                shape = (3, 3) if layer.kind == "conv" else ()
                group = file.create_group(own)
                group.create_dataset(
                    "kernel", (*shape, layer.inputs, layer.outputs), "<f4", dcpl=there
                )
                group.create_dataset("bias", (layer.outputs,), "<f4", dcpl=there)
                group.attrs["weight_names"] = np.array([b"kernel", b"bias"])
                layers.append(own.encode())
        file.attrs["layer_names"] = np.array(layers)


@pytest.mark.parametrize(
    ("writer", "name"), [(hollow_caffemodel, "w.caffemodel"), (hollow_keras, "w.h5")]
)
def test_only_the_layers_that_run_are_read_and_memory_stays_near_one_copy(tmp_path, writer, name):
    tiny = architecture("vgg16-tiny")
    writer(tmp_path / name, tiny)
    for deepest in ("conv5_3", "fc8"):
        check_memory(tmp_path / name, tiny, deepest)
