"""A weight file gets the preprocessing that belongs to it, and nobody is fooled in silence."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
import weight_writers
from conftest import draw
from safetensors.torch import save_file

from vggfeat import FeatureExtractor, FeatureStore
from vggfeat.errors import WeightsError
from vggfeat.layers import Architecture, architecture
from vggfeat.network import check, convert, figures
from vggfeat.preprocessing import CAFFE, CAFFE_RGB, PRESETS, TORCHVISION, TORCHVISION_FEATURES
from vggfeat.weights import PREPROCESSING_KEY, first_filters, imagenet, inspect, resolve, shapes
from vggfeat.weights.known import matching, published
from vggfeat.weights.pairing import name_of

SMALL = Architecture("vgg11", (1, 1, 1, 1, 1), (4, 8, 8, 8, 8), units=16, classes=10, grid=2)
TINY = architecture("vgg16-tiny")

# As Keras prints its first kernel of VGG-16, position by position; channels in BGR order.
AUTHORS = np.array([0.42947057, 0.373467, -0.06136011, 0.27476987, 0.03868078, -0.36722335])


def state(first: np.ndarray | None = None, network: Architecture = SMALL) -> dict:
    generator = torch.Generator().manual_seed(1)
    made = {n: torch.randn(s, generator=generator) * 0.2 for n, s in shapes(network).items()}
    if first is not None:
        made["features.0.weight"][0] = torch.from_numpy(first)
    return made


def filter_of(whose: str) -> np.ndarray:
    """Return a known first filter, with what was never printed made up."""
    told = {known.whose: values for known, values in first_filters._KNOWN.items()}[whose]
    return np.nan_to_num(np.array(told), nan=0.2)


@pytest.fixture
def saved(tmp_path):
    def save(tensors, name: str = "unknown.pth"):
        (save_file if name.endswith("safetensors") else torch.save)(tensors, tmp_path / name)
        return str(tmp_path / name)

    return save


KNOWN = {
    "the authors' 16-layer network, in BGR order": CAFFE,
    "the authors' 16-layer network, in RGB order": CAFFE_RGB,
    "the authors' 19-layer network, in BGR order": CAFFE,
    "the authors' 19-layer network, in RGB order": CAFFE_RGB,
    "torchvision's vgg16": TORCHVISION,
    "torchvision's vgg19": TORCHVISION,
}


@pytest.mark.parametrize("whose", KNOWN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_known_first_filters_tell_the_preprocessing_and_the_channels_order(saved, whose, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in state(filter_of(whose)).items()}
    for name in ("unknown.pth", "unknown.safetensors"):
        weights = resolve(saved(tensors, name), SMALL, "strict")
        assert weights.preprocessing == KNOWN[whose]
        assert weights.why == f"its first filter is that of {whose}"


def test_the_known_values_are_those_that_keras_prints():
    told = filter_of("the authors' 16-layer network, in BGR order")
    np.testing.assert_array_equal(told[0].ravel()[:6], AUTHORS)
    reverse = filter_of("the authors' 16-layer network, in RGB order")
    np.testing.assert_array_equal(reverse[::-1], told)


def test_first_filters_are_known_after_some_fine_tuning_but_no_others_are(saved):
    rng = np.random.default_rng(0)
    first = filter_of("the authors' 16-layer network, in BGR order")
    tuned = first * (1 + rng.normal(scale=0.02, size=first.shape))
    assert resolve(saved(state(tuned)), SMALL).preprocessing == CAFFE
    for other in (rng.normal(scale=0.3, size=first.shape), first[:, ::-1], -first, 0 * first):
        assert first_filters.recognised(other[None]) is None


def test_a_file_that_says_nothing_is_assumed_and_strict_refuses_it(saved, caplog):
    path = saved(state())
    with caplog.at_level(logging.INFO, "vggfeat"):
        assert resolve(path, SMALL).preprocessing == TORCHVISION
    assert "assumed" in caplog.text
    with pytest.raises(WeightsError, match=r"not known.*--preprocessing torchvision, caffe"):
        resolve(path, SMALL, "strict")


def test_an_override_is_taken_and_warned_of_only_where_it_contradicts_the_file(saved, caplog):
    unknown = saved(state())
    assert resolve(unknown, SMALL, "caffe").preprocessing == CAFFE
    assert not caplog.records
    authors = saved(state(filter_of("the authors' 16-layer network, in RGB order")), "a.pth")
    assert resolve(authors, SMALL, "caffe-rgb").preprocessing == CAFFE_RGB
    assert not caplog.records
    for choice in ("caffe", "torchvision"):
        caplog.clear()
        assert resolve(authors, SMALL, choice).preprocessing == PRESETS[choice]
        assert f"{choice} contradicts the file: its first filter" in caplog.text
    with pytest.raises(WeightsError, match="Allowed are auto, strict, torchvision, caffe"):
        resolve(authors, SMALL, "keras")


def test_what_a_file_says_of_itself_is_contradicted_with_a_warning(tmp_path, caplog):
    told = {PREPROCESSING_KEY: json.dumps(CAFFE.to_json())}
    save_file(state(), tmp_path / "own.safetensors", metadata=told)
    resolve(str(tmp_path / "own.safetensors"), SMALL, "torchvision")
    assert "its own metadata 'vggfeat.preprocessing' says so" in caplog.text


def test_a_keras_file_of_torchvisions_weights_is_prepared_for_as_torchvision_trains(tmp_path):
    weights = resolve("random:0", TINY).load(TINY, list(shapes(TINY)))
    weights["features.0.weight"][0] = torch.from_numpy(filter_of("torchvision's vgg16"))
    weight_writers.keras_released(weights, tmp_path / "ported.h5")
    found = inspect(tmp_path / "ported.h5")
    assert name_of(found.pairing.preprocessing) == "torchvision"
    assert found.filters.startswith("that of torchvision's vgg16 (distance ")


def test_an_override_is_recorded_and_goes_on_to_queries(tmp_path, saved):
    weights = resolve("random:0", TINY).load(TINY, list(shapes(TINY)))
    path = saved(weights)
    (tmp_path / "photos").mkdir()
    for number in range(2):
        draw(90, 70, number).save(tmp_path / "photos" / f"{number}.jpg")
    asked = {"weights": path, "layers": "pool3", "device": "cpu"}
    extractor = FeatureExtractor("vgg16-tiny", preprocessing="caffe", **asked)
    extractor.extract(tmp_path / "photos", tmp_path / "s.h5")
    with FeatureStore(tmp_path / "s.h5") as store:
        told = store.provenance
        stored = store["pool3"][:]
    assert told.config.preprocessing == CAFFE.sized(64).to_json()
    assert told.run.preprocessing == "chosen: caffe"
    images = [tmp_path / "photos" / f"{number}.jpg" for number in range(2)]
    like = FeatureExtractor.like(told, device="cpu")
    assert like.config == told.config
    assert np.array_equal(like(images)["pool3"], stored)
    plain = FeatureExtractor("vgg16-tiny", **asked)(images)["pool3"]
    assert np.linalg.norm(plain - stored) > 0.5 * np.linalg.norm(plain), "it matters"


def test_published_files_are_known_by_their_digests():
    named = {one.file: one for one in published() if one.digest}
    assert len(named) == 8 + 1 + 4 + 1 + 1, "torchvision's, its features, Keras's, MatConvNet's"
    for one in named.values():
        kind, _, digits = one.digest.partition(":")
        digests = {kind: digits + "0" * (64 - len(digits))}
        assert matching(digests.get("sha256", "f" * 64), digests.get("md5", "")) == one
    assert matching("0" * 64, "0" * 32) is None
    for one in published():
        assert one.preprocessing in (*PRESETS, "torchvision-features")
        if one.megabytes and one.publisher.startswith("torchvision"):
            assert one.file in (*imagenet.FILES.values(), *imagenet.FEATURES.values())


def test_sizes_of_published_files_are_those_that_were_seen():
    sizes = {one.file: one.megabytes for one in published()}
    assert sizes["VGG_ILSVRC_16_layers.caffemodel"] == round(553_432_081 / 1e6)
    assert sizes["imagenet-vgg-verydeep-19.mat"] == round(534_904_783 / 1e6)


def test_the_authors_convolutions_from_torchvision_refuse_their_fully_connected_layers(saved):
    tensors = state(filter_of("the authors' 16-layer network, in RGB order"))
    for name in tensors:
        if name.startswith("classifier"):
            tensors[name][...] = float("nan")
    path = saved(tensors)
    assert resolve(path, SMALL).load(SMALL, ["features.0.weight"])
    with pytest.raises(WeightsError, match=r"IMAGENET1K_FEATURES.*NaN.*layers up to pool5"):
        resolve(path, SMALL).load(SMALL, ["classifier.0.weight"])


def test_imagenet_features_are_the_cached_file_with_their_own_preprocessing(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / imagenet.FEATURES["vgg16"]).write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"damaged.*88682ab5"):
        resolve("imagenet-features", architecture("vgg16"))
    with pytest.raises(WeightsError, match=r"IMAGENET1K_FEATURES for vgg19.*has them for vgg16"):
        resolve("imagenet-features", architecture("vgg19"))
    found = matching("88682ab5" + "0" * 56)
    assert found.preprocessing == name_of(TORCHVISION_FEATURES)


# check and convert


def scaled(network: Architecture = TINY) -> dict[str, torch.Tensor]:
    """Return a network without biases whose logits are right for inputs in 0..255 alone."""
    tensors = resolve("random:3", network).load(network, list(shapes(network)))
    for name, tensor in tensors.items():
        tensor *= 0 if name.endswith("bias") else 1
    tensors["features.0.weight"] /= 60
    return tensors


def test_check_suggests_the_preprocessing_that_gives_logits_of_a_usual_size(saved):
    path = saved(scaled())
    found = check(path)
    assert not found.ok
    assert "with --preprocessing caffe" in found.problems[0]
    assert found.spread["caffe"] > 20 * found.spread["own"]
    assert check(path, preprocessing=found.problems[0].split("--preprocessing ")[1].split()[0]).ok


def test_check_finds_dead_layers_and_values_that_are_not_finite(saved):
    tensors = resolve("random:3", TINY).load(TINY, list(shapes(TINY)))
    tensors["features.10.bias"] -= 1000
    dead = check(saved(tensors, "dead.pth"))
    assert dead.problems == ("relu3_1 is dead: all that it puts out is 0",)
    assert {layer.name: layer.silent for layer in dead.layers}["relu3_1"] == 1
    for name in ("classifier.0.weight", "classifier.3.weight"):
        tensors = resolve("random:3", TINY).load(TINY, list(shapes(TINY)))
        tensors[name][...] = float("nan")
        found = check(saved(tensors, "nan.pth"))
        assert f"{name} holds values that are not finite" in found.problems[0]
        assert found.layers[-1].name == "pool5"


def test_check_compares_the_weights_in_the_package_with_what_they_should_put_out():
    from vggfeat.weights import builtin

    found = check(builtin.path_of("vgg16-tiny"))
    assert found.ok
    assert found.compared
    assert all(layer.expected is not None for layer in found.layers)
    wrong = check(builtin.path_of("vgg16-tiny"), preprocessing="caffe")
    assert "conv1_1 puts out" in wrong.problems[0]


@pytest.mark.parametrize("kind", ["Caffe, V1", "Keras, released", "MatConvNet", "timm"])
def test_a_converted_file_carries_its_preprocessing_and_gives_the_same_features(
    tmp_path, kind, photos
):
    suffix, writer = weight_writers.FORMATS[kind]
    old, new = tmp_path / f"old{suffix}", tmp_path / "new.safetensors"
    writer(resolve("random:5", TINY).load(TINY, list(shapes(TINY))), old)
    made = convert(old, new)
    assert (made.model, made.deepest, made.left_out) == ("vgg16-tiny", "prob", ())
    before, after = (resolve(str(path), TINY) for path in (old, new))
    assert after.preprocessing == before.preprocessing
    features = [
        FeatureExtractor("vgg16-tiny", weights=path, layers="pool3,fc7", device="cpu")(
            photos / "cat" / "00.jpg"
        )
        for path in (old, new)
    ]
    for layer, value in features[0].items():
        assert np.array_equal(value, features[1][layer])
    assert check(new).ok
    assert check(new).compared
    with pytest.raises(WeightsError, match=r"exists. Name another file, or give --overwrite"):
        convert(old, new)
    assert convert(old, new, overwrite=True, dtype="float16").size < 0.6 * made.size
    assert check(new).ok, "half precision is within the tolerance"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "new.safetensors",
        old.name,
    ]


def test_a_converted_file_that_was_tampered_with_is_found_out(tmp_path):
    from safetensors.torch import load_file

    from vggfeat.weights import safetensors_file

    old, new = tmp_path / "old.pth", tmp_path / "new.safetensors"
    torch.save(resolve("random:5", TINY).load(TINY, list(shapes(TINY))), old)
    convert(old, new)
    tensors, told = load_file(new), safetensors_file.metadata(new)
    tensors["features.7.weight"] = tensors["features.7.weight"].flip(3)  # a kernel upside down
    save_file(tensors, new, metadata=told)
    assert "conv2_2 puts out" in check(new).problems[0]


def test_what_cannot_be_used_is_left_out_of_a_converted_file_and_named(tmp_path):
    tensors = resolve("random:5", TINY).load(TINY, list(shapes(TINY)))
    for name in tensors:
        if name.startswith("classifier"):
            tensors[name][...] = float("nan")
    torch.save(tensors | {"criterion.weight": torch.zeros(3)}, tmp_path / "old.pth")
    made = convert(tmp_path / "old.pth", tmp_path / "new.safetensors")
    assert (made.deepest, made.left_out) == ("flatten", ("fc6", "fc7", "fc8", "criterion.weight"))
    assert inspect(tmp_path / "new.safetensors").deepest == "flatten"


def test_convolutions_are_known_by_their_values_in_any_format_and_order_of_channels(
    tmp_path, monkeypatch
):
    tensors = resolve("random:5", TINY).load(TINY, list(shapes(TINY)))
    weight_writers.caffe_v2(tensors, tmp_path / "a.caffemodel")
    outputs = {one.name: one.rms for one in check(tmp_path / "a.caffemodel").layers}
    assert not check(tmp_path / "a.caffemodel").compared
    known = outputs | {"conv5_3": 2 * outputs["conv5_3"]}
    whose = [
        figures.Reference(name, spec, known, 1e-3)
        for name, spec in (("theirs", CAFFE.sized(64)), ("theirs in RGB", CAFFE_RGB.sized(64)))
    ]
    body = [tensors[name] for name in tensors if name.startswith("features")]
    monkeypatch.setitem(figures.CONVOLUTIONS, figures.values_digest(body), tuple(whose))
    problem = f"conv5_3 puts out {outputs['conv5_3']:.6g}, where {known['conv5_3']:.6g} is right"
    found = check(tmp_path / "a.caffemodel")
    assert (found.whose, found.problems[0]) == ("theirs", problem)
    tensors["features.0.weight"] = tensors["features.0.weight"].flip(1)
    weight_writers.onnx_writers.as_torch(tensors, tmp_path / "b.onnx")
    found = check(tmp_path / "b.onnx", preprocessing="caffe-rgb")
    assert found.whose == "theirs in RGB"
    assert problem in found.problems
    other = check(tmp_path / "b.onnx", preprocessing="torchvision")
    assert (other.whose, other.compared) == ("theirs in RGB", False), "figures are for their own"
    tensors["features.28.bias"][0] += 1e-6
    weight_writers.onnx_writers.as_torch(tensors, tmp_path / "c.onnx")
    assert not check(tmp_path / "c.onnx").whose


@pytest.mark.skipif(
    "VGGFEAT_AUTHORS" not in os.environ, reason="VGGFEAT_AUTHORS names the authors' convolutions"
)
def test_the_authors_convolutions_are_known():
    found = check(os.environ["VGGFEAT_AUTHORS"])
    assert (found.whose, found.ok) == ("the authors' 16-layer network", True)
    assert found.compared


def test_figures_that_are_none_are_refused(tmp_path):
    save_file(scaled(), tmp_path / "bad.safetensors", metadata={"vggfeat.figures": "[1]"})
    with pytest.raises(WeightsError, match=r"metadata 'vggfeat.figures'"):
        check(tmp_path / "bad.safetensors")


def test_preprocessings_are_resized_with_the_network():
    assert CAFFE.sized(224) is CAFFE
    assert CAFFE.sized(64) == replace(CAFFE, resize=64, crop=64)
    assert "BGR x 1, mean 103.939 116.779 123.68, std 1 1 1" in str(CAFFE)


def test_only_files_of_which_nothing_is_known_make_resolving_import_torch(tmp_path):
    import subprocess
    import sys

    weights = resolve("random:0", TINY).load(TINY, list(shapes(TINY)))
    paths = []
    for kind in ("Caffe, V2", "Keras, released", "MatConvNet", "safetensors", "ONNX"):
        suffix, writer = weight_writers.FORMATS[kind]
        writer(weights, tmp_path / f"w{suffix}")
        paths.append(str(tmp_path / f"w{suffix}"))
    half = {name: tensor.bfloat16() for name, tensor in weights.items()}  # no type of NumPy's
    said = {PREPROCESSING_KEY: json.dumps(TORCHVISION.sized(TINY.input_size).to_json())}
    save_file(half, tmp_path / "half.safetensors", metadata=said)
    paths.append(str(tmp_path / "half.safetensors"))
    code = (
        "import sys\nfrom vggfeat.layers import architecture\nfrom vggfeat.weights import resolve\n"
        "for path in [*sys.argv[1:], 'builtin']: resolve(path, architecture('vgg16-tiny'))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_keras_lists_may_be_split_over_attributes(tmp_path):
    weights = resolve("random:5", TINY).load(TINY, list(shapes(TINY)))
    weight_writers.keras_released(weights, tmp_path / "split.h5")
    with h5py.File(tmp_path / "split.h5", "r+") as file:
        listed = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = listed[:5], listed[5:]
    assert inspect(tmp_path / "split.h5").deepest == "prob"
