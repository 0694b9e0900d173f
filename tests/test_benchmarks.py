"""What the figures of benchmarks/transfer.py rest on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vggfeat.images import decode
from vggfeat.layers import architecture
from vggfeat.views import View
from vggfeat.weights import standard_preprocessing

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
WITHOUT_HOG = "HOG needs scikit-image, the extra `bench`"


@pytest.fixture
def baselines(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import baselines

    return {one.name: one for one in baselines.BASELINES}


def test_pixels_are_those_that_the_network_sees(photos, baselines):
    preprocessing = standard_preprocessing(architecture("vgg16-tiny"))
    found = baselines["pixels 64"].features(photos, ["cat/00.jpg", "dog/01.jpg"], preprocessing)
    [seen] = View("center").inputs(decode(photos / "dog" / "01.jpg"), preprocessing)
    assert found.shape == (2, 12288)
    np.testing.assert_allclose(255 * found[1].reshape(64, 64, 3), seen, atol=1e-3)


def test_baselines_of_another_side_see_the_same_part_of_an_image(tmp_path, baselines):
    frame = np.zeros((80, 80, 3), np.uint8)
    frame[10:70, 10:70] = 255  # a resize to 80 and a crop of 60 leave no black
    Image.fromarray(frame).save(tmp_path / "frame.png")
    preprocessing = standard_preprocessing(architecture("vgg16-tiny"))
    spec = replace(preprocessing, resize=80, crop=60)
    for name in ("pixels 64", "pixels 32"):
        found = baselines[name].features(tmp_path, ["frame.png"], spec)
        inner = found.reshape(baselines[name].side, -1, 3)[1:-1, 1:-1]
        np.testing.assert_allclose(inner, 1, atol=0.01)


@pytest.mark.parametrize(
    ("name", "length"), [("HOG 64/8", 1764), ("HOG 128/8", 8100), ("HOG 128/16", 1764)]
)
def test_hog_has_nine_orientations_in_blocks_of_four_cells(photos, baselines, name, length):
    pytest.importorskip("skimage", reason=WITHOUT_HOG)
    preprocessing = standard_preprocessing(architecture("vgg16-tiny"))
    found = baselines[name].features(photos, ["cat/00.jpg"], preprocessing)
    assert found.shape == (1, length)
    assert np.ptp(found) > 0


def test_caltech_trains_on_30_images_a_class_and_tests_on_at_most_50_others(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from transfer import caltech_split

    y = np.repeat([0, 1, 2], [33, 80, 400])
    train, test = caltech_split(y, seed=1)
    assert Counter(y[train].tolist()) == {0: 30, 1: 30, 2: 30}
    assert Counter(y[test].tolist()) == {0: 3, 1: 50, 2: 50}
    assert not set(train.tolist()) & set(test.tolist())
    assert not np.array_equal(test, caltech_split(y, seed=2)[1])


def test_transfer_scores_layers_and_baselines_on_the_same_images(tmp_path):
    pytest.importorskip("skimage", reason=WITHOUT_HOG)
    rng = np.random.default_rng(0)
    photos = tmp_path / "photos"
    for name, brightest in (("cat", 120), ("dog", 256)):
        (photos / name).mkdir(parents=True)
        for number in range(32):
            pixels = rng.integers(0, brightest, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(photos / name / f"{number:02d}.png")
    command = [sys.executable, str(BENCHMARKS / "transfer.py"), "caltech", str(photos)]
    command += ["--weights", "random:1", "--layers", "pool4:none,relu7", "--seeds", "0,1"]
    command += ["--json", str(tmp_path / "t.json"), "--png", str(tmp_path / "t.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "margin" in done.stdout
    told = json.loads((tmp_path / "t.json").read_text())
    families = Counter(result["family"] for result in told["results"])
    assert families == {"trained": 2, "random": 2, "pixels": 2, "HOG": 3}
    assert {
        (score["n_train"], score["n_test"]) for one in told["results"] for score in one["scores"]
    } == {(60, 4)}
    with Image.open(tmp_path / "t.png") as picture:
        assert picture.width > 1000
