"""Weights are identified, checked, and read no further than needed, whatever their file."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import os
import pickle
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from weight_memory import check_memory

from vggfeat.errors import WeightsError
from vggfeat.layers import ARCHITECTURES, Architecture, architecture
from vggfeat.preprocessing import TORCHVISION
from vggfeat.weights import (
    PREPROCESSING_KEY,
    builtin,
    imagenet,
    resolve,
    shapes,
    usual,
)
from vggfeat.weights.pairing import decided

SMALL = Architecture("vgg11", (1, 1, 1, 1, 1), (4, 8, 8, 8, 8), units=16, classes=10, grid=2)


@pytest.fixture
def state():
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes(SMALL).items()}


def saved(state, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization="legacy" not in path.name)
    return path


FILES = ["zip.pth", "zip.pt", "legacy.pth", "new.safetensors"]


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_tensors(tmp_path, state, name):
    weights = resolve(str(saved(state, tmp_path / name)), SMALL)
    loaded = weights.load(SMALL, list(state))
    assert list(loaded) == list(state)
    for key in state:
        assert torch.equal(loaded[key], state[key])
    assert weights.sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_files_of_other_precisions_are_read_as_float32(tmp_path, state, dtype):
    other = {name: tensor.to(dtype) for name, tensor in state.items()}
    for file in FILES:
        weights = resolve(str(saved(other, tmp_path / file)), SMALL)
        loaded = weights.load(SMALL, ["features.0.weight"])["features.0.weight"]
        assert loaded.dtype == torch.float32
        assert torch.equal(loaded, other["features.0.weight"].float())


def test_a_legacy_file_with_shared_and_transposed_storages_is_read_right(tmp_path, state):
    state["classifier.3.weight"] = state["classifier.3.weight"].t()
    both = torch.cat([state["features.0.bias"], state["features.0.bias"] + 1])
    state["features.0.bias"] = both[4:]
    state = {k: torch.nn.Parameter(v) if k == "features.3.bias" else v for k, v in state.items()}
    loaded = resolve(str(saved(state, tmp_path / "legacy.pth")), SMALL).load(SMALL, list(state))
    for key in state:
        assert torch.equal(loaded[key], state[key])


@pytest.mark.parametrize("name", FILES)
def test_missing_unknown_and_misshapen_tensors_are_listed(tmp_path, state, name):
    del state["classifier.0.bias"]
    state["features.0.weight"] = torch.zeros(4, 3, 5, 5)
    state["features.1.weight"] = torch.zeros(4)
    weights = resolve(str(saved(state, tmp_path / name)), SMALL)
    with pytest.raises(WeightsError) as error:
        weights.load(SMALL, list(shapes(SMALL)))
    message = str(error.value)
    assert "classifier.0.bias is missing" in message
    assert "features.0.weight has shape (4, 3, 5, 5), not (4, 3, 3, 3)" in message
    assert "features.1.weight is unknown" in message


def test_a_head_for_other_classes_does_not_matter_below_it(tmp_path, state):
    state["classifier.6.weight"] = torch.zeros(3, 16)
    weights = resolve(str(saved(state, tmp_path / "other.pth")), SMALL)
    assert weights.load(SMALL, ["classifier.3.weight"])
    with pytest.raises(WeightsError, match="shape"):
        weights.load(SMALL, ["classifier.6.weight"])


def test_weights_that_are_not_finite_are_refused_where_they_would_be_used(tmp_path, state):
    state["classifier.0.weight"][0, 0] = float("nan")
    weights = resolve(str(saved(state, tmp_path / "nan.pth")), SMALL)
    assert weights.load(SMALL, ["features.0.weight"])
    with pytest.raises(WeightsError, match=r"classifier.0.weight holds values.*not finite"):
        weights.load(SMALL, ["classifier.0.weight"])


def test_damaged_files_of_the_old_format_never_end_in_another_error(tmp_path, state):
    path = saved(state, tmp_path / "legacy.pth")
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(data)
        damaged[rng.integers(0, 2000)] = rng.integers(0, 256)
        path.write_bytes(damaged)
        with contextlib.suppress(WeightsError):
            resolve(str(path), SMALL).load(SMALL, list(state))


def test_the_caffe_convolutions_that_torchvision_serves_bring_their_own_preprocessing():
    weights = torchvision.models.VGG16_Weights.IMAGENET1K_FEATURES
    name = weights.url.rpartition("/")[2]
    assert name == imagenet.FEATURES["vgg16"]
    digest = imagenet.digest_of(name)
    theirs = weights.transforms()
    ours = decided(Path(name), digest + "0" * 56, architecture("vgg16")).preprocessing
    assert tuple(theirs.mean) == ours.mean
    assert tuple(theirs.std) == pytest.approx(ours.std)
    assert (theirs.resize_size, theirs.crop_size) == ([ours.resize], [ours.crop])


OWN = replace(TORCHVISION, resize=230, channels="BGR", mean=(0.5, 0.4, 0.3))


def test_a_safetensors_file_brings_its_own_preprocessing(tmp_path, state):
    path = tmp_path / "own.safetensors"
    save_file(state, path, metadata={PREPROCESSING_KEY: json.dumps(OWN.to_json())})
    assert resolve(str(path), SMALL).preprocessing == OWN
    save_file(state, path)
    assert resolve(str(path), SMALL).preprocessing == TORCHVISION


@pytest.mark.parametrize(
    "told",
    [
        "no JSON",
        "[1, 2]",
        "{}",
        json.dumps(OWN.to_json() | {"more": 1}),
        json.dumps(OWN.to_json() | {"crop": 999}),
        json.dumps(OWN.to_json() | {"std": [1, 0, 1]}),
        json.dumps(OWN.to_json() | {"channels": "GBR"}),
    ],
)
def test_a_file_that_brings_no_usable_preprocessing_is_refused(tmp_path, state, told):
    path = tmp_path / "bad.safetensors"
    save_file(state, path, metadata={PREPROCESSING_KEY: told})
    with pytest.raises(WeightsError, match=r"bad.safetensors: its metadata.*no preprocessing"):
        resolve(str(path), SMALL)


def test_a_file_for_inputs_of_another_size_is_refused(tmp_path, state):
    path = tmp_path / "small.safetensors"
    told = replace(OWN, resize=64, crop=64).to_json()
    save_file(state, path, metadata={PREPROCESSING_KEY: json.dumps(told)})
    with pytest.raises(WeightsError, match="is for inputs of 64 pixels, but vgg11 takes 224"):
        resolve(str(path), SMALL)


def test_weights_that_say_nothing_are_prepared_for_at_the_networks_own_input_size():
    tiny = resolve("random", architecture("vgg16-tiny")).preprocessing
    assert (tiny.resize, tiny.crop) == (64, 64)
    assert tiny.mean == TORCHVISION.mean
    assert resolve("random", architecture("vgg19")).preprocessing == TORCHVISION


def test_the_weights_in_the_package_fit_their_network_and_are_its_usual_ones():
    for name in ARCHITECTURES:
        assert usual(architecture(name)) == ("builtin" if name in builtin.FILES else "imagenet")
    for name in builtin.FILES:
        network = architecture(name)
        weights = resolve("builtin", network)
        assert weights.preprocessing.crop == network.input_size
        tensors = weights.load(network, list(shapes(network)))
        assert sum(tensor.numel() for tensor in tensors.values()) == network.parameters
        assert builtin.path_of(name).stat().st_size < 10e6


class _Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/vggfeat-was-here",)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_hostile_file_runs_no_code(tmp_path, legacy):
    path = tmp_path / "evil.pth"
    torch.save({"w": _Evil()}, path, _use_new_zipfile_serialization=not legacy)
    Path("/tmp/vggfeat-was-here").unlink(missing_ok=True)
    with pytest.raises(WeightsError, match="cannot be read as a state dict"):
        resolve(str(path), SMALL).load(SMALL, [])
    assert not Path("/tmp/vggfeat-was-here").exists()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0.0, 0.05, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, state, name, keep):
    path = saved(state, tmp_path / name)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(WeightsError, match="cannot be read"):
        resolve(str(path), SMALL).load(SMALL, list(state))


@pytest.mark.parametrize("content", [b"hello", pickle.dumps([1, 2]), b"\x80"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "notes.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be read"):
        resolve(str(path), SMALL).load(SMALL, [])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere.pth", "No weight file 'nowhere.pth'"),
        ("builtin", "No weights of vgg11 travel with vggfeat"),
        ("random:x", "whole number"),
        ("random:-1", "whole number"),
    ],
)
def test_unusable_weights_are_refused_with_what_is_allowed(spec, message):
    with pytest.raises(WeightsError, match=message):
        resolve(spec, SMALL)


def test_an_unknown_format_is_refused(tmp_path):
    (tmp_path / "vgg16.npz").touch()
    with pytest.raises(WeightsError, match=r"\.pth, \.pt, .*\.safetensors, \.caffemodel"):
        resolve(str(tmp_path / "vgg16.npz"), SMALL)


def test_random_weights_are_the_same_everywhere_to_the_last_bit():
    vgg16 = architecture("vgg16")
    weights = resolve("random:7", vgg16)
    tensor = weights.load(vgg16, ["features.28.weight"])["features.28.weight"]
    # Recorded once; made of exact operations, so the same on every machine and version.
    assert hashlib.sha256(tensor.numpy().tobytes()).hexdigest() == (
        "6a4254a1a64c87402cc7e0ebddd3ca8babb0ae4d2b017abfdbe6b206c2bcc6f8"
    )
    assert weights.spec == "random:7"


def test_random_weights_depend_on_seed_network_and_layer_only():
    def first(spec, model="vgg16", names=("features.0.weight",)):
        return resolve(spec, architecture(model)).load(architecture(model), list(names))[names[0]]

    base = first("random")
    assert torch.equal(base, first("random:0"))
    assert torch.equal(base, first("random:0", names=("features.0.weight", "features.2.bias")))
    assert not torch.equal(base, first("random:1"))
    assert not torch.equal(base, first("random:0", "vgg19"))
    ids = {
        resolve(spec, architecture(model)).sha256
        for spec in ("random:0", "random:1")
        for model in ("vgg16", "vgg19")
    }
    assert len(ids) == 4


def test_random_weights_keep_the_scale_of_activations():
    tensor = resolve("random:0", architecture("vgg16")).load(
        architecture("vgg16"), ["features.28.weight"]
    )["features.28.weight"]
    assert tensor.var().item() == pytest.approx(2 / (512 * 9), rel=0.01)
    assert abs(tensor.mean().item()) < 1e-4


@pytest.mark.parametrize("legacy", [True, False])
def test_convolutions_alone_do_not_load_the_fully_connected_layers(tmp_path, legacy):
    tiny = architecture("vgg16-tiny")
    state = {name: torch.zeros(shape) for name, shape in shapes(tiny).items()}
    path = tmp_path / "tiny.pth"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    check_memory(path, tiny, "conv5_3")


def test_file_names_and_digests_are_torchvisions():
    for model in imagenet.FILES:
        url = torchvision.models.get_model_weights(model)["IMAGENET1K_V1"].url
        assert url.rpartition("/")[2] == imagenet.FILES[model]


def test_the_cache_is_where_torch_keeps_it(monkeypatch, tmp_path):
    for name, value in [("TORCH_HOME", tmp_path / "a"), ("XDG_CACHE_HOME", tmp_path / "b")]:
        monkeypatch.delenv("TORCH_HOME", raising=False)
        monkeypatch.setenv(name, str(value))
        assert imagenet.cache_folder() == Path(torch.hub.get_dir()) / "checkpoints"


@pytest.fixture
def server(tmp_path):
    """Serve a folder over HTTP on this machine."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def named(content: bytes) -> str:
    return f"vgg16-{hashlib.sha256(content).hexdigest()[:8]}.pth"


def test_a_download_arrives_checked_and_whole(server, tmp_path):
    folder, url = server
    content = os.urandom(300_000)
    name = named(content)
    (folder / name).write_bytes(content)
    target = tmp_path / "cache" / "checkpoints" / name
    imagenet.download(f"{url}/{name}", target, name)
    assert target.read_bytes() == content
    assert list(target.parent.iterdir()) == [target]


def test_a_download_with_another_digest_is_refused_and_leaves_nothing(server, tmp_path):
    folder, url = server
    (folder / "vgg16-00000000.pth").write_bytes(b"not these")
    target = tmp_path / "cache" / "vgg16-00000000.pth"
    with pytest.raises(WeightsError, match="invalid hash value"):
        imagenet.download(f"{url}/vgg16-00000000.pth", target, target.name)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("address", ["{url}/missing.pth", "http://127.0.0.1:9/vgg16.pth"])
def test_without_a_connection_the_error_says_where_to_put_which_file(server, tmp_path, address):
    target = tmp_path / "cache" / "vgg16-397923af.pth"
    with pytest.raises(WeightsError) as error:
        imagenet.download(address.format(url=server[1]), target, target.name)
    for part in ("vgg16-397923af.pth", str(target.parent), "--weights PATH", "vgg16-tiny"):
        assert part in str(error.value)


def test_a_damaged_cached_file_is_noticed(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "vgg16-397923af.pth").write_bytes(b"half a file")
    with pytest.raises(WeightsError, match=r"damaged.*397923af"):
        resolve("imagenet", architecture("vgg16"))
