"""Fine-tuning: neither a cache nor a kill changes the weights, and files say what they are."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import cli
from conftest import draw
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file

from vggfeat import FeatureExtractor
from vggfeat.errors import LayerError, ProbeError, StoreError, TrainingError, WeightsError
from vggfeat.finetuning import Recipe, finetune
from vggfeat.finetuning.checkpoint import ENDING
from vggfeat.finetuning.data import data_of
from vggfeat.finetuning.order import Order
from vggfeat.finetuning.recipe import first_layer
from vggfeat.finetuning.results import gain_of
from vggfeat.index import SimilarityIndex
from vggfeat.layers import architecture
from vggfeat.predictions import predict, predict_numbers
from vggfeat.preprocessing import TORCHVISION
from vggfeat.store import FeatureStore
from vggfeat.views import View
from vggfeat.views.drawn import DrawnView
from vggfeat.weights.trained_head import trained_head

QUICK = Recipe(first="conv5_2", epochs=2, batch_size=8, augment=1)
SETTINGS = {"model": "vgg16-tiny", "engine": "torch", "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Make three classes of waves that differ in colour and length, 8 of each, not all alike."""
    root = tmp_path_factory.mktemp("waves") / "waves"
    for kind in range(3):
        (root / f"kind{kind}").mkdir(parents=True)
        for number in range(8):
            pixels = np.asarray(draw(70, 60, seed=5 * number + kind), np.float64)
            pixels[..., kind] += 25
            image = Image.fromarray(np.uint8(np.clip(pixels, 0, 255)))
            image.save(root / f"kind{kind}" / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def tuned(folder, tmp_path_factory):
    """Fine-tune once, and give the result with its cache kept."""
    place = tmp_path_factory.mktemp("tuned")
    out = place / "tuned.safetensors"
    return finetune(folder, out, recipe=QUICK, cache=place / "cache", **SETTINGS)


def tensors(path: Path) -> dict[str, np.ndarray]:
    return load_file(path)


def same(one: Path, other: Path) -> bool:
    first, second = tensors(one), tensors(other)
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


class _Stopped(Exception):
    pass


def stopped(folder: Path, out: Path, cache: Path) -> None:
    """Begin a run, and stop it after some steps."""
    done = []

    def stop(stage: str, more: float, total: float) -> None:
        if stage == "training":
            done.append(more)
            if len(done) == 3:
                raise _Stopped

    with pytest.raises(_Stopped):
        finetune(
            folder, out, recipe=QUICK, cache=cache, checkpoint_seconds=0,
            **SETTINGS | {"progress": stop},
        )  # fmt: skip


@pytest.mark.parametrize("first", ["conv5_2", "conv1_1"])
def test_training_from_cached_maps_equals_running_the_frozen_layers_each_time(
    folder, tmp_path, tuned, first
):
    recipe = Recipe(first=first, epochs=2 if first == "conv5_2" else 1, batch_size=8, augment=1)
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    finetune(folder, one, recipe=recipe, cache=False, **SETTINGS)
    if first == "conv5_2":
        assert same(one, tuned.path)
    else:  # without a cache either way
        finetune(folder, other, recipe=recipe, **SETTINGS)
        assert same(one, other)
    assert not list(tmp_path.glob("*.work"))


SCRIPT = """
import sys
from vggfeat.finetuning import Recipe, finetune
recipe = Recipe(first="conv5_2", epochs=2, batch_size=8, augment=1, average=0.5, validation=0.2)
finetune(sys.argv[1], sys.argv[2], recipe=recipe, cache=sys.argv[3], model="vgg16-tiny",
         engine="torch", device="cpu", progress=False, checkpoint_seconds=0)
"""


def test_a_killed_run_goes_on_to_the_same_weights_to_the_last_bit(folder, tmp_path, chance):
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(out: str, cache: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, folder, tmp_path / out, tmp_path / cache], env=alone
        )

    assert start("whole.safetensors", "one").wait(300) == 0
    checkpoint = tmp_path / "two" / f"killed{ENDING}"
    for most in (0.2, 0.1, 0.05, 0.0):  # a run that ended before it was killed shows nothing
        process = start("killed.safetensors", "two")
        while not checkpoint.exists() and process.poll() is None:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, most))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if checkpoint.exists():
            break
        (tmp_path / "killed.safetensors").unlink(missing_ok=True)
    assert checkpoint.exists()
    assert start("killed.safetensors", "two").wait(300) == 0
    assert same(tmp_path / "whole.safetensors", tmp_path / "killed.safetensors")


@pytest.mark.parametrize("change", ["more", "less"])
def test_a_class_folder_more_or_less_than_before_is_a_clear_error(folder, tmp_path, tuned, change):
    photos = shutil.copytree(folder, tmp_path / "photos")
    out, cache = tmp_path / "out.safetensors", tmp_path / "cache"
    stopped(photos, out, cache)
    if change == "more":
        shutil.copytree(photos / "kind0", photos / "novel")
    else:
        shutil.rmtree(photos / "kind2")
    told = "'novel' more" if change == "more" else "'kind2' less"
    with pytest.raises(TrainingError, match=told):
        finetune(photos, out, recipe=QUICK, cache=cache, **SETTINGS)
    with pytest.raises(TrainingError, match=r"(?s)fine-tuned to 3 classes.*--new-classes"):
        finetune(photos, out, recipe=QUICK, weights=tuned.path, **SETTINGS)
    assert not out.exists()


def test_other_settings_than_those_of_the_run_that_stopped_are_named(folder, tmp_path):
    out, cache = tmp_path / "out.safetensors", tmp_path / "cache"
    stopped(folder, out, cache)
    other = Recipe(first="conv5_2", epochs=2, batch_size=4, augment=1)
    with pytest.raises(TrainingError, match="batch_size 8, not 4"):
        finetune(folder, out, recipe=other, cache=cache, **SETTINGS)


def test_classify_predict_and_the_report_of_the_run_agree(folder, tuned):
    found = predict(tuned.path, folder, engine="torch")
    by_path = {one.path: one for one in found.images}
    for said in tuned.tuned.predictions:  # maps were kept in float16
        assert by_path[said.path].labels == (said.predicted,)
        likely = by_path[said.path].probabilities[said.predicted]
        assert likely == pytest.approx(said.probability, abs=2e-3)
    path = tuned.tuned.predictions[0].path
    told = cli(
        "classify",
        "--model",
        "vgg16-tiny",
        "--weights",
        tuned.path,
        folder / path,
        "-k",
        3,
        "--json",
    )
    classes = json.loads(told.stdout)["results"][0]["classes"]
    probabilities = {one["name"]: one["probability"] for one in classes}
    assert probabilities == pytest.approx(dict(by_path[path].probabilities), abs=1e-5)


def test_the_weights_extract_like_any_other_and_say_what_they_were_trained_on(
    folder, tuned, tmp_path
):
    store = tmp_path / "tuned.h5"
    FeatureExtractor("vgg16-tiny", weights=tuned.path, layers="relu5_3").extract(
        folder, store, progress=False
    )
    head = trained_head(tuned.path)
    with FeatureStore(store) as opened:
        _, X = opened.matrix("relu5_3")
    assert head is not None
    assert head.probabilities(X).shape == (24, 3)
    told = cli("weights", "inspect", tuned.path)
    assert "3 outputs on relu5_3:avg, one class an image: kind0, kind1, kind2" in told.stdout
    assert "18 to train" in told.stdout
    assert str(folder) in told.stdout
    frozen, before = tensors(tuned.path), FeatureExtractor("vgg16-tiny").resolved_weights
    untouched = before.load(
        architecture("vgg16-tiny"), ["features.24.weight", "features.26.weight"]
    )
    assert np.array_equal(frozen["features.24.weight"], untouched["features.24.weight"].numpy())
    assert not np.array_equal(frozen["features.26.weight"], untouched["features.26.weight"].numpy())


def test_searches_and_the_page_use_fine_tuned_weights_like_any_other(folder, tuned, tmp_path):
    pytest.importorskip("fastapi", reason="the page is an extra")
    from test_serve import ask, within_this_process

    store, place = tmp_path / "tuned.h5", tmp_path / "tuned.index"
    extractor = FeatureExtractor("vgg16-tiny", weights=tuned.path, layers="relu5_3")
    extractor.extract(folder, store, progress=False)
    with FeatureStore(store) as opened:
        SimilarityIndex.build(opened, "relu5_3", path=place)
    photo = folder / "kind1" / "3.png"
    told = json.loads(cli("search", place, photo, "-k", 3, "--json").stdout)
    found = told["results"][0]["neighbours"]
    assert found[0]["path"] == "kind1/3.png"
    assert found[0]["score"] == pytest.approx(1, abs=1e-5)
    with within_this_process(place) as client:
        page = ask(client, photo.read_bytes(), k=3)
    assert [one["path"] for one in page] == [one["path"] for one in found]
    assert [one["score"] for one in page] == pytest.approx([one["score"] for one in found])


def test_training_lowers_the_loss_of_what_it_is_shown(folder, tmp_path):
    recipe = Recipe(first="conv5_1", epochs=6, batch_size=8, augment=0, smoothing=0.0)
    result = finetune(folder, tmp_path / "a.safetensors", recipe=recipe, **SETTINGS)
    losses = [one.loss for one in result.epochs]
    assert len(losses) == 6
    assert losses[-1] < losses[0]


def test_maps_that_take_more_disk_than_they_may_are_refused_before_any_work(folder, tmp_path):
    with pytest.raises(StoreError, match=r"the limit is 1 kB.*--augment"):
        finetune(
            folder, tmp_path / "a.safetensors", recipe=QUICK, disk=1000,
            cache=tmp_path / "cache", **SETTINGS,
        )  # fmt: skip
    assert not list((tmp_path / "cache").glob("*.h5"))


def test_several_labels_an_image_are_learnt_each_by_itself(folder, tmp_path):
    table = tmp_path / "labels.csv"
    rows = [
        f"{path.relative_to(folder)},{int(path.parent.name == 'kind0')},"
        f"{int(path.name in ('0.png', '1.png', '2.png', '3.png'))}"
        for path in sorted(folder.rglob("*.png"))
    ]
    table.write_text("path,red,early\n" + "\n".join(rows) + "\n")
    out = tmp_path / "several.safetensors"
    recipe = Recipe(first="conv5_3", epochs=1, augment=0, class_weight="balanced")
    result = finetune(folder, out, recipe=recipe, labels=table, **SETTINGS)
    assert (result.kind, result.measure) == ("several", "mean average precision")
    assert result.tuned.classes == ("red", "early")
    images = predict(out, folder, engine="torch").images
    assert set(images[0].probabilities) == {"red", "early"}


def test_numbers_are_learnt_and_predicted_in_their_own_units(folder, tmp_path):
    table = tmp_path / "numbers.csv"
    paths = sorted(folder.rglob("*.png"))
    brightness = [1000 + 10 * np.asarray(Image.open(path)).mean() for path in paths]
    rows = [f"{p.relative_to(folder)},{v}" for p, v in zip(paths, brightness, strict=True)]
    table.write_text("path,brightness\n" + "\n".join(rows) + "\n")
    out = tmp_path / "numbers.safetensors"
    recipe = Recipe(first="head", epochs=2, augment=0)
    result = finetune(folder, out, recipe=recipe, targets=table, **SETTINGS)
    assert (result.kind, result.measure) == ("numbers", "mean R2")
    found = predict_numbers(out, folder, engine="torch")
    at = [found.paths.index(path) for path in result.tuned.paths]
    assert found.values[at] == pytest.approx(result.tuned.predicted, rel=1e-3)
    with pytest.raises(ProbeError, match="predicts numbers"):
        predict(out, folder)
    with pytest.raises(WeightsError, match="predicts numbers"):
        list(
            __import__("vggfeat.extract").extract.classify(
                [paths[0]], model="vgg16-tiny", weights=out
            )
        )


def test_early_stopping_needs_images_to_watch_and_keeps_the_best_epoch(folder, tmp_path):
    out = tmp_path / "a.safetensors"
    with pytest.raises(TrainingError, match="--validation"):
        finetune(folder, out, recipe=Recipe(first="head", patience=1), **SETTINGS)
    recipe = Recipe(first="head", epochs=50, patience=2, validation=0.3, augment=0)
    result = finetune(folder, out, recipe=recipe, overwrite=True, **SETTINGS)
    scores = [one.score for one in result.epochs]
    assert scores[result.best] == max(scores)
    assert len(scores) - 1 == min(50, result.best + 2)


@given(
    images=st.integers(1, 300), views=st.integers(1, 4), held=st.integers(1, 200),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_each_epoch_sees_every_image_once_and_each_cycle_every_view(images, views, held, seed):
    order = Order(images, views, held, seed)
    seen = np.zeros((images, views), int)
    for epoch in range(views):
        pieces = list(order.pieces(epoch))
        positions = np.concatenate([piece.positions for piece in pieces])
        assert np.array_equal(np.sort(positions), np.arange(images))
        for piece in pieces:
            seen[piece.positions, piece.variants] += 1
    assert (seen == 1).all()
    sizes = order.sizes(32)
    assert sum(sizes) == images
    assert max(sizes) - min(sizes) <= 1


def test_a_drawn_view_depends_on_image_seed_and_number_alone():
    image, other = draw(90, 70, seed=1), draw(90, 70, seed=2)
    views = {
        number: DrawnView(variant=number, seed=3).inputs(image, TORCHVISION)[0]
        for number in range(4)
    }
    assert np.array_equal(views[0], View().inputs(image, TORCHVISION)[0])
    assert len({pixels.tobytes() for pixels in views.values()}) == 4
    assert np.array_equal(DrawnView(variant=2, seed=3).inputs(image, TORCHVISION)[0], views[2])
    assert not np.array_equal(DrawnView(variant=2, seed=4).inputs(image, TORCHVISION)[0], views[2])
    flat = Image.new("RGB", (400, 3), (10, 200, 30))  # a ribbon
    assert DrawnView(variant=1).inputs(flat, TORCHVISION)[0].shape == (224, 224, 3)
    assert DrawnView(variant=1).inputs(other, TORCHVISION)[0].shape == (224, 224, 3)
    for wrong in ({"crop": 0.0}, {"colour": 1.0}):
        with pytest.raises(LayerError):
            DrawnView(**wrong)


def test_few_images_train_less_of_the_network():
    network = architecture("vgg16")
    chosen = [first_layer(network, images, 10)[0] for images in (50, 100, 300)]
    assert chosen == ["head", "conv5_1", "conv5_1"]


def test_what_cannot_be_trained_is_refused_with_the_remedy(folder, tmp_path):
    out = tmp_path / "a.safetensors"
    for first, words in (("fc6", "changes nothing"), ("relu5_3", "nothing can be trained")):
        with pytest.raises(TrainingError, match=words):
            finetune(folder, out, recipe=Recipe(first=first), **SETTINGS)
    with pytest.raises(TrainingError, match=r"must end in \.safetensors"):
        finetune(folder, tmp_path / "a.pth", **SETTINGS)
    for wrong in ({"epochs": 0}, {"rate": -1.0}, {"optimiser": "adam"}, {"smoothing": 1.0}):
        with pytest.raises(TrainingError):
            Recipe(**wrong)


def test_a_network_that_names_more_images_rightly_wins_and_the_interval_says_by_how_much(
    folder, tuned
):
    probe = tuned.probe
    again = gain_of(probe, probe, None)
    assert (again.difference, again.p, again.verdict) == (0.0, 1.0, "nobody")
    assert again.low == again.high == 0.0


def test_groups_are_never_on_two_sides(folder, tmp_path, tuned):
    store = tmp_path / "grouped.h5"
    FeatureExtractor("vgg16-tiny", layers="relu5_3:avg", engine="torch").extract(
        folder, store, group_by=r"/(\d)\.png", progress=False
    )
    with FeatureStore(store) as table:
        data = data_of(table, "relu5_3", Recipe(validation=0.25))
        of = data.division.groups
    sides = [set(of[part].tolist()) for part in (data.learn, data.watch, data.test)]
    assert all(sides)
    assert not sides[0] & sides[1]
    assert not (sides[0] | sides[1]) & sides[2]


def test_the_command_says_who_wins_and_writes_weights(folder, tmp_path):
    out = tmp_path / "cli.safetensors"
    told = cli(
        "finetune", folder, out, "--model", "vgg16-tiny", "--from", "head", "--epochs", 1,
        "--augment", 1, "--engine", "torch", "--json",
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    result = json.loads(told.stdout)
    assert result["recipe"]["first"] == "head"
    assert result["advice"]
    assert out.exists()
    again = cli("finetune", folder, out, "--model", "vgg16-tiny")
    assert again.returncode == 1
    assert "--overwrite" in again.stderr
