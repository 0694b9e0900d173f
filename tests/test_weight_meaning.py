"""A weight file is understood whole, or refused: no tensor is dropped, mistaken or permuted."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import keras_writers
import numpy as np
import pytest
import torch
import weight_files
import weight_writers
from keras_writers import Spec, norm_arrays, vgg
from safetensors.torch import save_file
from weight_files import (
    Small,
    at,
    bare,
    caffe,
    dropout_first,
    folded,
    imagenet_example,
    lightning,
    loaded,
    masked,
    matconvnet,
    moments,
    nested,
    normalised,
    outer,
    prefixed,
    without_dropout,
)

from vggfeat.errors import WeightsError
from vggfeat.layers import ARCHITECTURES, architecture
from vggfeat.weights import inspect, names, resolve, shapes

TINY = architecture("vgg16-tiny")


@pytest.fixture(scope="module")
def state():
    return resolve("random:5", TINY).load(TINY, list(shapes(TINY)))


def equal(path, state, upto: str = "fc8") -> bool:
    found = loaded(path, upto)
    return bool(found) and all(torch.equal(found[name], state[name]) for name in found)


@pytest.fixture(scope="module")
def plain(state):
    """Return the tensors with the norms of `vgg` folded, whose epsilon is 0.01."""
    return folded(state, 0.01)


def close(path, expected) -> bool:
    found = loaded(path)
    return all(torch.allclose(value, expected[name], 2e-6, 1e-6) for name, value in found.items())


def refused(path, upto: str = "fc8") -> str:
    with pytest.raises(WeightsError) as error:
        loaded(path, upto)
    assert "\n" not in str(error.value)
    return str(error.value)


# Keras


def keras_files(specs, folder):
    """Write a model in each way that keeps its graph."""
    keras_writers.legacy(specs, folder / "saved.h5")
    keras_writers.keras(specs, folder / "saved.keras")
    return [folder / "saved.h5", folder / "saved.keras"]


@pytest.mark.parametrize("named", [True, False])
def test_batch_normalisation_of_a_keras_model_is_folded_with_its_own_epsilon(
    tmp_path, state, plain, named, caplog
):
    for path in keras_files(vgg(state, "before", named=named), tmp_path):
        with caplog.at_level(logging.INFO, "vggfeat"):
            assert close(path, plain)
        assert "is folded into conv1_1" in caplog.text
    notes = inspect(tmp_path / "saved.keras").notes
    assert len(notes) == 13


@pytest.mark.parametrize("left_out", [("scale",), ("center",), ("scale", "center")])
def test_batch_normalisation_of_a_bn_network_may_have_no_gamma_or_beta(
    tmp_path, state, monkeypatch, left_out
):
    network = replace(TINY, name="vgg16_bn", batch_norm=True)
    monkeypatch.setitem(ARCHITECTURES, network.name, network)
    specs, expected = vgg(state, "before", head=False), []
    for spec in specs:
        if spec.kind == "BatchNormalization":
            gamma, beta, mean, variance = spec.arrays
            factor = (1 if "scale" in left_out else gamma) / np.sqrt(variance + 0.01)
            expected.append((factor, (0 if "center" in left_out else beta) - factor * mean))
            options = zip(("scale", "center", "", ""), spec.arrays, strict=True)
            spec.arrays = [array for option, array in options if option not in left_out]
            spec.config |= dict.fromkeys(left_out, False)
    keras_writers.keras(specs, tmp_path / "w.keras")
    norms = [layer for layer in network.layers if layer.kind == "bn"]
    tensors = resolve(str(tmp_path / "w.keras"), network).load(network, names(norms), "pool5")
    for layer, (factor, offset) in zip(norms, expected, strict=True):
        weight, bias, mean, variance = (tensors[name].numpy() for name in names([layer]))
        ours = weight / np.sqrt(variance + 1e-5)
        np.testing.assert_allclose(ours, factor, rtol=1e-5)
        np.testing.assert_allclose(bias - ours * mean, offset, rtol=1e-5, atol=1e-6)


def test_batch_normalisation_is_folded_by_names_where_a_relu_follows_it(tmp_path, state):
    path = tmp_path / "w.h5"
    keras_writers.legacy(vgg(state, "before"), path, config=False)
    assert close(path, folded(state, 1e-3))


def test_batch_normalisation_behind_the_relu_is_refused_and_named(tmp_path, state):
    specs = vgg(state, "after")
    keras_writers.legacy(specs, tmp_path / "weights.h5", config=False)
    keras_writers.weights_h5(specs, tmp_path / "new.weights.h5")
    for path in [*keras_files(specs, tmp_path), *tmp_path.glob("*weights.h5")]:
        assert "block1_bn1" in refused(path, "conv2_1")
    assert equal(tmp_path / "saved.keras", state, "relu1_1")
    assert "after relu1_1 ('block1_conv1') comes 'block1_bn1'" in refused(tmp_path / "saved.h5")


def test_fc6_takes_the_channels_of_the_map_that_reaches_it_not_of_a_branch(tmp_path, state, caplog):
    paths = keras_files(masked(state), tmp_path)
    keras_writers.weights_h5(masked(state), tmp_path / "new.weights.h5")
    for path in [*paths[:1], tmp_path / "new.weights.h5"]:
        with caplog.at_level(logging.INFO, "vggfeat"):
            caplog.clear()
            assert equal(path, state)
            assert "not on the way" in caplog.text
    keras_writers.legacy(masked(state), tmp_path / "w.h5", config=False)
    assert "mask_conv" in refused(tmp_path / "w.h5", "fc6")
    assert equal(tmp_path / "w.h5", state, "relu5_3")


@pytest.mark.parametrize("named", [True, False])
def test_keras_3_is_read_with_and_without_the_graph_whatever_the_names(tmp_path, state, named):
    specs = vgg(state, named=named)
    keras_writers.weights_h5(specs, tmp_path / "a.weights.h5", named)
    for path in [*keras_files(specs, tmp_path), tmp_path / "a.weights.h5"]:
        assert equal(path, state)
        assert inspect(path).deepest == "prob"


def test_a_keras_model_within_another_is_found_and_its_own_head_is_named(tmp_path, state):
    specs = outer(nested(state, "vgg16"))
    keras_writers.weights_h5(specs, tmp_path / "n.weights.h5")
    for path in [*keras_files(specs, tmp_path), tmp_path / "n.weights.h5"]:
        assert equal(path, state, "pool5")
        assert any("dense" in name or "own_vgg16" in name for name in inspect(path).others)


def test_of_several_networks_in_a_file_one_is_chosen_by_name(tmp_path, state):
    other = {name: tensor + 1 for name, tensor in state.items()}
    specs = outer(nested(state, "left"), nested(other, "right"))
    keras_writers.weights_h5(specs, tmp_path / "n.weights.h5")
    torch.save(
        {"left": dict(state), "right": {f"net.{k}": v for k, v in other.items()}},
        tmp_path / "two.pth",
    )
    both = prefixed(state, "left.") | prefixed(other, "right.")
    save_file(both, tmp_path / "two.safetensors", {"format": "pt"})
    paths = [tmp_path / name for name in ("n.weights.h5", "two.pth", "two.safetensors")]
    for path in [*keras_files(specs, tmp_path), *paths]:
        text = refused(path, "pool5")
        assert "2 networks: left, right" in text
        assert "FILE#left" in text
        assert equal(f"{path}#left", state, "pool5")
        assert equal(f"{path}#right", other, "pool5")
        with pytest.raises(WeightsError, match=r"called 'middle'.*left, right"):
            loaded(f"{path}#middle")
    assert inspect(f"{path}#right").parts == ("left", "right")
    ours, theirs = (resolve(f"{path}#{name}", TINY) for name in ("left", "right"))
    assert ours.sha256 != theirs.sha256, "a store must not mix them"
    assert ours.spec == f"{path}#left"


def test_what_a_keras_model_does_to_pixels_first_is_its_preprocessing(tmp_path, state):
    front = Spec("Rescaling", "rescaling", ["input_0"], {"scale": 1 / 127.5, "offset": -1})
    specs = outer(nested(state, "vgg16"), front=front)
    for path in keras_files(specs, tmp_path):
        found = inspect(path).pairing
        assert found.sure
        assert (found.preprocessing.scale, found.preprocessing.mean) == (1 / 127.5, (1, 1, 1))
        assert found.preprocessing.channels == "RGB"
    keras_writers.weights_h5(specs, tmp_path / "n.weights.h5")
    assert "rescaling" in refused(tmp_path / "n.weights.h5", "conv1_1")
    front.kind, front.config = "Lambda", {}
    keras_writers.legacy(specs, tmp_path / "l.h5")
    text = refused(tmp_path / "l.h5", "conv1_1")
    assert "'rescaling' (Lambda)" in text
    assert "FILE#vgg16" in text
    assert equal(f"{tmp_path / 'l.h5'}#vgg16", state, "pool5")


def test_a_layer_that_vgg_has_not_stops_a_keras_model_where_it_stands(tmp_path, state):
    specs = vgg(state)
    next(s for s in specs if s.name == "block3_pool").kind = "GlobalAveragePooling2D"
    next(s for s in specs if s.name == "block2_conv2").config["activation"] = "elu"
    keras_writers.legacy(specs, tmp_path / "m.h5")
    assert "activation elu" in refused(tmp_path / "m.h5", "pool2")
    assert equal(tmp_path / "m.h5", state, "conv2_2")
    assert inspect(tmp_path / "m.h5", "vgg16-tiny").deepest == "conv2_2"


def test_a_configuration_that_is_of_other_weights_is_refused(tmp_path, state):
    specs = vgg(state)
    config = keras_writers.config_of(specs)
    layers = config["config"]["layers"]
    layers[1], layers[2] = layers[2], layers[1]
    keras_writers.keras(specs, tmp_path / "m.keras", config)
    with pytest.raises(WeightsError, match="whose tensors are those of 'block1_conv1'"):
        inspect(tmp_path / "m.keras")


# PyTorch


NAMED = {
    "vgg.": (lambda s: prefixed(s, "vgg."), "fc8"),
    "net.": (lambda s: prefixed(s, "net."), "fc8"),
    "backbone., and a head": (
        lambda s: prefixed(s, "backbone.", {"head.weight": torch.zeros(7, 1024)}),
        "fc8",
    ),
    "model.module.": (lambda s: prefixed(s, "model.module."), "fc8"),
    "any.odd.prefix.": (lambda s: prefixed(s, "any.odd.prefix."), "fc8"),
    "a DataParallel of features": (imagenet_example, "fc8"),
    "a compiled model": (lambda s: prefixed(s, "_orig_mod."), "fc8"),
    "features alone": (bare, "conv5_3"),
    "features alone, below a name": (lambda s: prefixed(bare(s), "encoder."), "conv5_3"),
    "a Sequential of features and a head": (
        lambda s: prefixed(bare(s), "0.", {"2.weight": torch.zeros(9, 512)}),
        "conv5_3",
    ),
    "classifier.1 and .4": (dropout_first, "fc8"),
    "no dropout": (without_dropout, "fc8"),
    "a Lightning checkpoint": (lightning, "fc8"),
    "a checkpoint and its optimiser": (
        lambda s: {"model": dict(s), "optimizer": {"state": {0: {"m": torch.zeros(16, 3, 3, 3)}}}},
        "fc8",
    ),
    "a longer head": (lambda s: {**s, "classifier.8.weight": torch.zeros(3, 200)}, "fc8"),
}


@pytest.mark.parametrize("kind", NAMED)
def test_a_torch_file_is_read_whatever_stands_before_its_names(tmp_path, state, kind):
    make, upto = NAMED[kind]
    path = tmp_path / "w.ckpt"
    torch.save(make(state), path)
    assert equal(path, state, upto)


@pytest.mark.parametrize("name", ["w.ckpt", "w.pth.tar", "pytorch_model.bin", "W.PTH"])
def test_suffixes_that_training_programs_give_are_known(tmp_path, state, name):
    torch.save(dict(state), tmp_path / name)
    assert inspect(tmp_path / name).format == "PyTorch"


STRANGE = {
    "attention beside the convolutions": ("attention.query.weight", (128, 128), "conv1_1"),
    "a stem before them": ("stem.weight", (3, 1, 1, 1), "conv1_1"),
    "squeeze and excitation in a block": ("se1.fc.0.weight", (4, 16), "conv1_1"),
    "a mean of its own": ("normalize.mean", (3,), "conv1_1"),
    "LoRA of a convolution": ("features.0.lora_A", (4, 27), "conv1_1"),
    "LoRA of a matrix": ("classifier.0.lora_A", (4, 512), "fc6"),
    "another matrix in the head": ("classifier.2.weight", (1024, 1024), "fc7"),
    "batch normalisation behind the ReLU of fc6": ("classifier.2.running_mean", (1024,), "fc7"),
}


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_tensor_of_unknown_meaning_is_named_and_stops_what_it_may_lie_before(
    tmp_path, state, kind, suffix
):
    name, shape, before = STRANGE[kind]
    path = tmp_path / f"w{suffix}"
    (torch.save if suffix == ".pth" else save_file)({**state, name: torch.ones(shape)}, path)
    assert name in refused(path, before)
    if before == "fc7" and kind.startswith("batch"):
        assert equal(path, state, "relu6")
    if before == "fc6":
        assert equal(path, state, "pool5")


def test_who_knows_better_names_the_network(tmp_path, state):
    torch.save(
        {**prefixed(state, "net."), "stem.weight": torch.ones(3, 1, 1, 1)}, tmp_path / "w.pth"
    )
    assert "FILE#net" in refused(tmp_path / "w.pth")
    assert equal(f"{tmp_path / 'w.pth'}#net", state)
    torch.save({**state, "attention.weight": torch.ones(3, 4)}, tmp_path / "a.pth")
    assert "FILE#features" in refused(tmp_path / "a.pth")
    assert equal(f"{tmp_path / 'a.pth'}#features", state, "pool5")


def test_batch_normalisation_right_behind_a_matrix_of_a_torch_head_is_folded(tmp_path, state):
    gamma, beta, mean, variance = (torch.from_numpy(a) for a in norm_arrays(1024, 3))
    norm = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance}
    places = {"classifier.3": "classifier.4", "classifier.6": "classifier.8"}
    made = at(state, places) | {f"classifier.1.{kind}": value for kind, value in norm.items()}
    torch.save(made, tmp_path / "w.pth")
    found = loaded(tmp_path / "w.pth")
    scale = gamma.double() / (variance.double() + 1e-5).sqrt()
    bias = beta + scale * (state["classifier.0.bias"].double() - mean)
    weight = state["classifier.0.weight"].double() * scale[:, None]
    torch.testing.assert_close(found["classifier.0.weight"], weight.float())
    torch.testing.assert_close(found["classifier.0.bias"], bias.float())
    assert torch.equal(found["classifier.6.weight"], state["classifier.6.weight"])


def test_names_that_are_missing_stand_beside_names_that_are_there(tmp_path, state):
    made = {name.replace("features.", "block_"): tensor for name, tensor in state.items()}
    torch.save(made, tmp_path / "w.pth")
    text = refused(tmp_path / "w.pth")
    assert "features.0.weight is missing" in text
    assert "block_0.weight" in text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_programs_are_refused_with_a_remedy_that_keeps_torchs_safety_on(tmp_path):
    torch.jit.script(Small()).save(tmp_path / "script.pt")
    torch.save(Small(), tmp_path / "whole.pth")
    torch.save({"model": Small(), "epoch": 3}, tmp_path / "held.pth")
    torch.save(Small(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for path in tmp_path.iterdir():
        with pytest.raises(WeightsError) as error:
            inspect(path)
        text = str(error.value)
        assert "\n" not in text
        assert "weights_only" not in text
        assert ("TorchScript" if path.stem == "script" else "whole pickled model") in text
        assert "state_dict()" in text


# Caffe and MatConvNet


def test_batch_normalisation_of_caffe_and_of_matconvnet_is_folded(tmp_path, state, plain):
    assert close(caffe(state, tmp_path / "w.caffemodel", normalised), plain)
    assert close(matconvnet(state, tmp_path / "w.mat", moments), plain)


def test_a_layer_that_vgg_has_not_stops_caffe_and_matconvnet_where_it_stands(tmp_path, state):
    def scaled(net, name, below):
        if name == "relu2_1":
            gain = np.ones(32, np.float32)
            return weight_writers.caffe_layer(net, "late_scale", "Scale", below, [gain, gain])
        if name == "pool1":
            net.layer[-1].pooling_param.pool = 1
        return None

    path = caffe(state, tmp_path / "w.caffemodel", scaled)
    assert "'pool1' (Pooling): not of the maximum" in refused(path, "conv2_1")
    assert equal(path, state, "relu1_2")

    def across(name, _outputs):
        return [{"name": "norm3", "type": "lrn"}] if name == "conv3_1" else []

    path = matconvnet(state, tmp_path / "w.mat", across)
    assert "'norm3' (lrn)" in refused(path, "relu3_1")
    assert equal(path, state, "conv3_1")


def test_a_branch_of_a_caffe_model_is_not_on_the_way(tmp_path, state):
    def branch(net, name, _below):
        if name == "relu5_3":
            arrays = [np.ones((9, 128, 3, 3), "f4"), np.ones(9, "f4")]
            weight_writers.caffe_layer(net, "a_mask", "conv", "conv5_3", arrays)

    path = caffe(state, tmp_path / "w.caffemodel", branch)
    assert equal(path, state)
    assert inspect(path).others == ("a_mask.bias", "a_mask.weight")


def test_two_networks_of_a_caffe_model_are_chosen_by_their_first_convolutions(tmp_path, state):
    net = weight_writers.net_parameter()()
    other = {name: tensor + 1 for name, tensor in state.items()}
    for suffix, tensors in (("", state), ("_p", other)):
        below = f"data{suffix}"
        net.layer.add(name=below, type="Input", top=[below])
        for name, kind, arrays in weight_writers.ordered(tensors):
            below = weight_writers.caffe_layer(net, f"{name}{suffix}", kind, below, arrays)
    path = tmp_path / "w.caffemodel"
    path.write_bytes(net.SerializeToString())
    assert "2 networks: conv1_1, conv1_1_p" in refused(path)
    assert equal(f"{path}#conv1_1", state)
    assert equal(f"{path}#conv1_1_p", other)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_table_of_files_in_the_docs_says_what_becomes_of_them(tmp_path):
    docs = Path(__file__).parent.parent / "docs" / "weights.md"
    assert weight_files.table(tmp_path) in docs.read_text(encoding="utf-8")
