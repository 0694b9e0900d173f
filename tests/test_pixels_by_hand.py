"""Preprocessing by hand: the very numbers that reach the network, and what is refused."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import test_cli_weights
import torch
from conftest import draw
from PIL import Image

from vggfeat import FeatureExtractor, FeatureStore
from vggfeat.errors import WeightsError
from vggfeat.layers import architecture
from vggfeat.network import check, convert
from vggfeat.preprocessing import CAFFE, TORCHVISION, ByHand, Preprocessing
from vggfeat.sklearn import VGGFeatures
from vggfeat.weights import inspect, resolve, shapes

TINY = architecture("vgg16-tiny")
cli = test_cli_weights.cli


@pytest.fixture(scope="module")
def transparent(tmp_path_factory):
    """Weights whose first three maps of conv1_1 are the network's own input, channel by channel."""
    tensors = resolve("random:2", TINY).load(TINY, list(shapes(TINY)))
    tensors["features.0.weight"][:3] = 0
    tensors["features.0.bias"][:3] = 0
    for channel in range(3):
        tensors["features.0.weight"][channel, channel, 1, 1] = 1
    path = tmp_path_factory.mktemp("weights") / "transparent.pth"
    torch.save(tensors, path)
    return str(path)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A picture of the network's own size, so that nothing is resized."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    draw(64, 64, 3).save(path)
    return path


def reaching(weights: str, photo, preprocessing) -> np.ndarray:
    """Return what reaches the network, (64, 64, 3)."""
    extractor = FeatureExtractor(
        "vgg16-tiny", weights=weights, layers="conv1_1:none", device="cpu",
        preprocessing=preprocessing,
    )  # fmt: skip
    return extractor(photo)["conv1_1"][0, :3].transpose(1, 2, 0)


def rgb(photo) -> np.ndarray:
    with Image.open(photo) as image:
        return np.asarray(image.convert("RGB"), np.float64)


HANDS = {
    "rescale=1/255": (ByHand(1 / 255), lambda x: x / 255),
    "-1..1": (ByHand(1 / 127.5, mean=(1.0, 1.0, 1.0)), lambda x: x / 127.5 - 1),
    "-1..1, otherwise": (
        ByHand(1 / 255, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)), lambda x: x / 127.5 - 1
    ),
    "means of its own": (
        ByHand(1.0, mean=(120.0, 110.0, 90.5), std=(60.0, 58.0, 57.0)),
        lambda x: (x - (120, 110, 90.5)) / (60, 58, 57),
    ),
    "BGR": (
        ByHand(1.0, mean=(90.5, 110.0, 120.0), channels="BGR"),
        lambda x: x[..., ::-1] - (90.5, 110, 120),
    ),
    "nothing": (ByHand(1.0), lambda x: x),
}  # fmt: skip


@pytest.mark.parametrize("kind", HANDS)
def test_the_numbers_that_reach_the_network_are_those_computed_by_hand(transparent, photo, kind):
    hand, computed = HANDS[kind]
    expected = computed(rgb(photo))
    assert np.abs(reaching(transparent, photo, hand) - expected).max() < 1e-6 * 255 * hand.scale
    given = hand.applied(Preprocessing(resize=64, crop=64))
    np.testing.assert_array_equal(
        reaching(transparent, photo, given), reaching(transparent, photo, hand)
    )


def test_sizes_and_interpolation_stay_and_a_contradiction_is_warned_of(tmp_path, caplog):
    tensors = resolve("random:2", TINY).load(TINY, list(shapes(TINY)))
    torch.save(tensors, tmp_path / "own.pth")
    own = Preprocessing(resize=80, crop=64, interpolation="bicubic")
    convert(tmp_path / "own.pth", tmp_path / "own.safetensors", preprocessing=own)
    with caplog.at_level(logging.WARNING, "vggfeat"):
        found = resolve(str(tmp_path / "own.safetensors"), TINY, ByHand(1 / 255))
    assert found.preprocessing == Preprocessing(80, 64, "bicubic", "RGB", 1 / 255, *BLANK)
    assert found.why == "given by hand: RGB x 1/255, mean 0 0 0, std 1 1 1"
    assert "given by hand contradicts the file: its own metadata" in caplog.text
    caplog.clear()
    assert resolve("random:0", TINY, ByHand(1 / 255)).preprocessing.resize == 64
    resolve(str(tmp_path / "own.pth"), TINY, ByHand(1 / 255))
    assert not caplog.records, "nothing is known that this could contradict"


BLANK = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"scale": 1.0, "mean": (0.485, 0.456, 0.406)}, r"0.485 0.456 0.406 is no colour.*0..255 "),
        ({"scale": 1 / 255, "mean": (123.0, 117.0, 104.0)}, "scale 1/255 makes 0..1 of pixels"),
        ({"scale": 1 / 255, "mean": (-0.5, -0.5, -0.5)}, "is no colour in these units"),
        ({"scale": 1.0, "std": (0.229, 0.224, 0.225)}, "std 0.229 0.224 0.225 is no deviation"),
        ({"scale": 1 / 255, "std": (58.0, 57.0, 57.0)}, "is no deviation in these units"),
        ({"scale": 1.0, "std": (0.0, 1.0, 1.0)}, "no deviation"),
        ({"scale": 1.0, "mean": CAFFE.mean}, "in the order BGR, but channels is RGB"),
        (
            {"scale": 1 / 255, "mean": TORCHVISION.mean, "channels": "BGR"},
            "in the order RGB, but channels is BGR",
        ),
        ({"scale": 0.0}, "scale is 0; it must be above 0"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"scale": 1.0, "mean": (1.0, 2.0)}, "takes three numbers"),
        ({"scale": 1.0, "channels": "GBR"}, "Allowed are RGB and BGR"),
    ],
)
def test_values_that_contradict_one_another_are_refused(values, reason):
    with pytest.raises(WeightsError, match=reason):
        ByHand(**values)


@pytest.mark.parametrize("preset", [CAFFE, TORCHVISION])
def test_presets_may_be_written_by_hand(preset):
    hand = ByHand(preset.scale, preset.mean, preset.std, preset.channels)
    assert hand.applied(preset) == preset


def test_the_command_line_says_the_same_and_the_store_and_queries_keep_it(
    cli, transparent, photo, tmp_path
):
    store, like = tmp_path / "s.h5", ("--model", "vgg16-tiny", "--weights", transparent)
    hand = ("--scale", "1/127.5", "--mean", "1")
    cli("extract", photo, store, *like, "--layers", "conv1_1:none", "--device", "cpu", *hand)
    with FeatureStore(store) as opened:
        told = opened.provenance
        kept = opened["conv1_1"][0, :3].transpose(1, 2, 0)
    assert np.abs(kept - (rgb(photo) / 127.5 - 1)).max() < 1e-6
    assert told.config.preprocessing["scale"] == 1 / 127.5
    assert told.run.preprocessing.startswith("given by hand: RGB x 1/127.5, mean 1 1 1")
    again = FeatureExtractor.like(told, device="cpu")(photo)["conv1_1"][0, :3]
    np.testing.assert_array_equal(again.transpose(1, 2, 0), kept)
    done = cli("extract", photo, store, *like, "--layers", "conv1_1:none")
    assert "Continuing as" in done.stderr
    assert "with its preprocessing" in done.stderr, "where none is given"
    done = cli("extract", photo, store, *like, "--scale", "1", status=1)
    assert "preprocessing: scale" in done.stderr, "another one than the store's"


def test_a_converted_file_keeps_it(cli, transparent, tmp_path):
    new = tmp_path / "new.safetensors"
    told = cli(
        "weights", "convert", transparent, new, "--scale", "1/255", "--mean", "0.5", "--std", "0.5"
    ).stdout  # fmt: skip
    assert "given by hand: RGB x 1/255, mean 0.5 0.5 0.5, std 0.5 0.5 0.5" in told
    found = inspect(new).pairing
    assert (found.sure, found.preprocessing.std) == (True, (0.5, 0.5, 0.5))
    assert check(new).compared
    hand = ByHand(1 / 255, (0.5,) * 3, (0.5,) * 3)
    vectors = VGGFeatures("conv1_1", model="vgg16-tiny", weights=str(new), device="cpu")
    same = VGGFeatures(
        "conv1_1", model="vgg16-tiny", weights=transparent, device="cpu", preprocessing=hand
    )
    images = [draw(70, 90, 1)]
    np.testing.assert_array_equal(
        vectors.fit(images).transform(images), same.fit(images).transform(images)
    )


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (("--mean", "0.5"), "--mean without --scale: give --scale 1/255 if the network saw"),
        (("--channels", "BGR"), "--channels without --scale"),
        (("--preprocessing", "caffe", "--scale", "1"), "--preprocessing caffe and --scale say two"),
        (("--scale", "1", "--mean", "1,2"), "give one number for each channel, or one for all"),
        (("--scale", "1/0"), "'1/0' is no number and no fraction such as 1/255"),
    ],
)
def test_what_is_said_by_halves_or_twice_is_wrong_usage(cli, photo, given, reason):
    done = cli("classify", photo, "--model", "vgg16-tiny", *given, status=2)
    assert reason in " ".join(done.stderr.split())


def test_every_command_with_preprocessing_takes_it_by_hand(cli, photo, transparent, tmp_path):
    hand = ("--scale", "1/255")
    like = ("--model", "vgg16-tiny", "--weights", transparent)
    told = json.loads(cli("classify", photo, *like, *hand, "--json").stdout)
    other = json.loads(cli("classify", photo, *like, "--json").stdout)
    assert told["results"] != other["results"]
    picture = tmp_path / "maps.png"
    cli("plot", "--image", photo, "--layer", "conv1_1", picture, *like, *hand, "--channels", 1)
    for command in (
        ("weights", "check"),
        ("evaluate", "caltech101"),
        ("evaluate", "retrieval"),
        ("extract",),
        ("plot",),
    ):
        help_ = cli(*command, "--help").stdout
        assert "--scale S" in help_
        assert "--mean A,B,C" in help_
