"""`vggfeat weights` and `vggfeat classify` at the command line."""

from __future__ import annotations

import json
import logging
from typing import NamedTuple

import numpy as np
import pytest
import torch
import weight_writers
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.models import VGG16_Weights

from vggfeat import FeatureExtractor
from vggfeat.cli import run
from vggfeat.errors import LayerError
from vggfeat.extract import classify
from vggfeat.layers import architecture
from vggfeat.weights import builtin, resolve, shapes
from vggfeat.weights.categories import categories

TINY = architecture("vgg16-tiny")


class Done(NamedTuple):
    stdout: str
    stderr: str


@pytest.fixture
def cli(capsys):
    """Run the program in this process, which has torch already."""
    log = logging.getLogger("vggfeat")
    before = (log.handlers[:], log.level, log.propagate)

    def call(*args, status: int = 0) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            run([str(arg) for arg in args])
        done = Done(*capsys.readouterr())
        assert (end.value.code or 0) == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    yield call
    log.handlers[:], log.level, log.propagate = before


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name, pixels in zip(("china", "flower"), load_sample_images().images, strict=True):
        Image.fromarray(pixels).save(folder / f"{name}.jpg", quality=92)
    return folder


@pytest.fixture(scope="module")
def caffemodel(tmp_path_factory):
    path = tmp_path_factory.mktemp("caffe") / "tiny.caffemodel"
    weight_writers.caffe_v1(resolve("random:5", TINY).load(TINY, list(shapes(TINY))), path)
    return path


def test_list_names_what_is_published_and_what_is_here(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "vgg19_bn-c79401a0.pth").touch()
    told = {
        one["publisher"] + one["file"]: one
        for one in json.loads(cli("weights", "list", "--json").stdout)
    }
    here = [one["file"] for one in told.values() if one["here"]]
    assert here == ["vgg16-tiny.safetensors", "vgg19_bn-c79401a0.pth"]
    assert not any(one["verified"] for one in told.values())
    text = cli("weights", "list").stdout
    row = next(
        line
        for line in text.splitlines()
        if line.startswith("vgg16_weights_tf_dim_ordering_tf_kernels.h5")
    )
    assert "md5:64373286" in row
    assert row.endswith(" no")
    assert str(tmp_path / "hub" / "checkpoints") in text


def test_inspect_tells_format_layers_and_preprocessing(cli, caffemodel):
    text = cli("weights", "inspect", caffemodel).stdout
    for part in ("Caffe, ", "vgg16-tiny", "2,700,696", "BGR x 1", "assumed", "1024 x 512"):
        assert part in text
    told = json.loads(cli("weights", "inspect", caffemodel, "--json").stdout)
    assert told["preprocessing"]["channels"] == "BGR"
    assert (told["sure"], told["classes"], told["deepest"]) == (False, 200, "prob")
    assert told["layers"][0] == {"name": "conv1_1", "shape": [16, 3, 3, 3], "parameters": 448}


def test_convert_and_check_go_together(cli, caffemodel, tmp_path):
    new = tmp_path / "new.safetensors"
    assert "vgg16-tiny as far as prob" in cli("weights", "convert", caffemodel, new).stdout
    told = json.loads(cli("weights", "check", new, "--json").stdout)
    assert told["ok"]
    assert told["compared"]
    done = cli("weights", "convert", caffemodel, new, status=1)
    assert done.stderr.count("\n") == 1
    assert "--overwrite" in done.stderr
    text = cli("weights", "check", caffemodel, status=1).stdout
    assert "no figures are known" not in text
    assert "wrong: an image moves the logits by" in text


def test_check_of_the_package_s_weights_is_all_right(cli):
    text = cli("weights", "check", builtin.path_of("vgg16-tiny")).stdout
    assert "all layers are alive and finite; the figures are those known" in text


@pytest.mark.parametrize("command", ["inspect", "check"])
def test_files_of_no_use_end_in_one_line(cli, tmp_path, command):
    for name in ("none.pth", "notes.txt", "empty.h5"):
        if name != "none.pth":
            (tmp_path / name).write_bytes(b"x")
        done = cli("weights", command, tmp_path / name, status=1)
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("Error: ")


def test_classify_names_what_is_in_a_photograph(cli, photos):
    paths = [photos / "china.jpg", photos / "flower.jpg"]
    done = cli("classify", *paths, "--model", "vgg16-tiny", "-k", 3, "--json")
    results = json.loads(done.stdout)["results"]
    assert [one["image"] for one in results] == [str(path) for path in paths]
    features = FeatureExtractor("vgg16-tiny", layers="prob", device="cpu")(paths)["prob"]
    names = categories(resolve("builtin", TINY), TINY)
    for one, row in zip(results, features, strict=True):
        best = np.argsort(-row)[:3]
        assert [guess["index"] for guess in one["classes"]] == best.tolist()
        assert [guess["name"] for guess in one["classes"]] == [names[i] for i in best]
        np.testing.assert_allclose([g["probability"] for g in one["classes"]], row[best])
    assert "goldfish" in names
    text = cli("classify", paths[1], "--model", "vgg16-tiny").stdout
    assert "flower.jpg" in text.splitlines()[0]
    assert len(text.strip().splitlines()) == 3 + 5


def test_a_bad_image_is_told_and_the_others_are_answered(cli, photos, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"")
    done = cli(
        *("classify", tmp_path / "bad.jpg", photos / "china.jpg", "--model", "vgg16-tiny"),
        *("-k", 1, "--json"),
        status=1,
    )
    first, second = json.loads(done.stdout)["results"]
    assert "empty" in first["error"]
    assert len(second["classes"]) == 1
    assert "failed: " in done.stderr


def test_classify_in_python_takes_what_the_extractor_takes(photos):
    image = Image.open(photos / "flower.jpg")
    (answer,) = classify([image], top=200, model="vgg16-tiny", device="cpu")
    assert answer.image == "image 0"
    assert sum(guess.probability for guess in answer.guesses) == pytest.approx(1, abs=1e-4)
    with pytest.raises(LayerError, match=r"top is 201; it must be in 1..200"):
        list(classify([image], top=201, model="vgg16-tiny"))


def test_a_thousand_classes_are_imagenets_and_others_are_numbered(caffemodel):
    vgg16 = architecture("vgg16")
    names = categories(resolve("random", vgg16), vgg16)
    assert names == VGG16_Weights.IMAGENET1K_V1.meta["categories"]
    numbered = categories(resolve(str(caffemodel), TINY), TINY)
    assert (numbered[0], numbered[-1]) == ("class 0", "class 199")


def test_a_network_of_other_classes_or_without_a_last_layer_cannot_classify(cli, photos, tmp_path):
    tensors = resolve("random:5", TINY).load(TINY, list(shapes(TINY)))
    torch.save({k: v for k, v in tensors.items() if "features" in k}, tmp_path / "body.pth")
    args = ["classify", photos / "china.jpg", "--model", "vgg16-tiny", "--weights"]
    done = cli(*args, tmp_path / "body.pth", status=1)
    assert "last usable layer is flatten" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")


def test_preprocessing_is_chosen_on_the_command_line_and_seen_in_info(cli, photos, tmp_path):
    store = tmp_path / "s.h5"
    args = ["--model", "vgg16-tiny", "--layers", "pool1", "--preprocessing", "caffe"]
    done = cli("extract", photos, store, *args)
    assert "caffe contradicts the file" in done.stderr
    assert "chosen: caffe" in cli("info", store).stdout
    assert "Nothing to do" in cli("extract", photos, store, *args).stdout
    assert "with its preprocessing" in cli("extract", photos, store, *args[:-2]).stderr
    done = cli("extract", photos, store, *args[:-1], "auto", status=1)
    assert "preprocessing: " in done.stderr
