"""Training vgg16-tiny: the same for the same seed, resumable, and exported as it was measured."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import heed_interrupts
from PIL import Image
from safetensors import safe_open
from torch.nn import functional

from training import curves, log
from training.__main__ import cli
from training.export import (
    KINDS,
    TOLERANCE,
    compressed,
    expanded,
    export,
    fold_error,
    plain,
    proved,
    serialised,
    write,
)
from training.fit import CHECKPOINT, Run, predictions
from training.recipe import Recipe
from training.tiny_imagenet import names, training_set, validation_files, validation_set
from training.trainable import Trainable
from vggfeat import FeatureExtractor
from vggfeat.layers import architecture
from vggfeat.preprocessing import TORCHVISION
from vggfeat.weights import resolve

TINY = architecture("vgg16-tiny")
QUICK = Recipe(epochs=2, batch=40, stages=((0.0, 32),), averaging=0.8, precision="float32")
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Make a miniature in Tiny ImageNet's layout: 200 classes, one training image each."""
    root = tmp_path_factory.mktemp("tiny-imagenet")
    rng = np.random.default_rng(0)
    wnids = [f"n{number:08d}" for number in rng.choice(10**7, size=200, replace=False)]
    colours = dict(zip(wnids, rng.integers(0, 256, (200, 3)), strict=True))

    def save(wnid: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = colours[wnid] + rng.normal(scale=40, size=(8, 8, 3))
        small = Image.fromarray(np.uint8(np.clip(pixels, 0, 255)))
        small.resize((64, 64)).convert("L" if wnid == wnids[0] else "RGB").save(path)

    for wnid in wnids:
        save(wnid, root / "train" / wnid / "images" / f"{wnid}_0.JPEG")
    lines = []
    for number, wnid in enumerate(rng.choice(wnids, 60)):
        save(wnid, root / "val" / "images" / f"val_{number}.JPEG")
        lines.append(f"val_{number}.JPEG\t{wnid}\t0\t0\t62\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("\n".join(wnids))
    words = [f"{wnid}\tthing {wnid[-3:]}, object\n" for wnid in [*wnids, "n99999999"]]
    (root / "words.txt").write_text("".join(words))
    return root


@pytest.fixture(scope="module")
def pictures(data):
    return training_set(data), validation_set(data)


@pytest.fixture(scope="module")
def finished(data, pictures, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert len(list(Run(folder, QUICK).epochs(*pictures))) == QUICK.epochs
    return folder


@pytest.fixture(scope="module")
def exported(data, pictures, finished):
    return export(Run.found_in(finished), data, pictures[1])


def lived_in(seed: int = 0) -> Trainable:
    """Return a network whose normalisation has statistics and parameters of all kinds."""
    torch.manual_seed(seed)
    model = Trainable(TINY, dropout=0.5)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 3)
            torch.nn.init.normal_(module.weight, 1, 0.5)
            torch.nn.init.normal_(module.bias)
    return model.eval()


def run_cli(*words) -> str:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


def refusal(*words) -> str:
    """Return the one line in which a command refuses."""
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exit_code in (1, 2), result.output
    assert "Traceback" not in result.output
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    return line


def same(one: Run, other: Run) -> bool:
    pairs = zip(one.average.state_dict().values(), other.average.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def timeless(rows) -> list[log.Row]:
    return [replace(row, images_per_second=0, seconds=0) for row in rows]


# The network


def test_the_plain_network_computes_what_the_normalised_one_was_trained_to(tmp_path):
    model = lived_in()
    path = tmp_path / "folded.safetensors"
    path.write_bytes(serialised(model.folded(), {}))
    with torch.inference_mode():
        x = torch.randn(6, 3, 64, 64)
        assert fold_error(model(x), plain(path, TINY)(x)) < 1e-5


def test_a_wrong_folding_is_not_exported(tmp_path, pictures):
    model = lived_in()
    tensors = model.folded()
    path = tmp_path / "folded.safetensors"
    path.write_bytes(serialised(tensors, {}))
    assert proved(model, plain(path, TINY), pictures[1], 64) < TOLERANCE
    tensors["features.0.bias"] += 0.01
    other = tmp_path / "wrong.safetensors"
    other.write_bytes(serialised(tensors, {}))
    with pytest.raises(click.ClickException, match="Nothing was written"):
        proved(model, plain(other, TINY), pictures[1], 64)


def test_pooling_before_the_relu_gives_the_outputs_and_gradients_of_the_usual_order():
    model = lived_in()
    x = torch.randn(4, 3, 64, 64)
    usual = x
    for layer in TINY.layers:
        if layer.parameters:
            usual = model.weighted[layer.name](usual)
        elif layer.kind == "relu":
            usual = functional.relu(usual)
        elif layer.kind == "pool":
            usual = functional.max_pool2d(usual, layer.kernel, layer.stride)
        elif layer.kind == "flatten":
            usual = functional.adaptive_avg_pool2d(usual, TINY.grid).flatten(1)
    ours = model(x)
    assert torch.equal(ours, usual)
    first = model.weighted["conv1_1"][0].weight
    gradients = [torch.autograd.grad(y.square().sum(), first)[0] for y in (ours, usual)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4 * float(gradients[1].abs().max()))


# Runs


def test_two_runs_with_one_seed_give_the_same_losses_and_weights(tmp_path, pictures, finished):
    again = Run(tmp_path / "again", QUICK)
    rows = timeless(again.epochs(*pictures))
    log.write(tmp_path, rows[0])  # as the log rounds them
    log.write(tmp_path, rows[1])
    assert timeless(log.read(tmp_path)) == timeless(log.read(finished))
    assert same(again, Run.found_in(finished))


def test_other_seeds_give_other_losses(tmp_path, pictures, finished):
    other = next(Run(tmp_path, replace(QUICK, seed=1)).epochs(*pictures))
    assert abs(other.loss - log.read(finished)[0].loss) > 1e-3


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, pictures, finished):
    row = next(Run(tmp_path, QUICK).epochs(*pictures))
    # Stopped after the second epoch was logged and before it was saved:
    log.write(tmp_path, replace(row, epoch=2, loss=99.0))
    (tmp_path / f"{CHECKPOINT}.new").write_bytes(b"half a checkpo")
    resumed = Run(tmp_path, QUICK)
    assert resumed.epoch == 1
    assert [row.epoch for row in resumed.epochs(*pictures)] == [2]
    assert timeless(log.read(tmp_path)) == timeless(log.read(finished))
    assert same(resumed, Run.found_in(finished))


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT")
def test_ctrl_c_says_how_to_go_on_and_keeps_the_epochs_that_are_done(tmp_path, data):
    run = tmp_path / "run"
    words = [data, run, "--epochs", "500", "--precision", "float32"]
    program = subprocess.Popen(
        [sys.executable, "-m", "training", "fit", *words],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    while not (run / CHECKPOINT).exists() and program.poll() is None:
        time.sleep(0.05)
    program.send_signal(signal.SIGINT)
    _, told = program.communicate(timeout=600)
    assert program.returncode == 130, told
    assert told.splitlines()[-1].startswith("Stopped. The same command goes on")
    assert "Traceback" not in told
    kept = Run.found_in(run).epoch
    assert 1 <= kept < 500
    assert [row.epoch for row in log.read(run)][:kept] == list(range(1, kept + 1))


def test_a_finished_run_says_so_and_is_not_gone_on_with_in_another_way(tmp_path, data):
    words = ["fit", data, tmp_path, "--epochs", 1, "--precision", "float32"]
    assert "epoch 1: loss" in run_cli(*words)
    before = (tmp_path / CHECKPOINT).read_bytes()
    assert "is finished: all 1 epochs are done" in run_cli(*words)
    assert "holds a run with another seed: 0. Give the same" in refusal(*words, "--seed", 1)
    assert "holds a run with another epochs: 1. Give the same" in refusal(*words, "--epochs", 3)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert len(log.read(tmp_path)) == 1


def test_a_run_is_not_gone_on_with_on_other_images(tmp_path, pictures):
    next(Run(tmp_path, QUICK).epochs(*pictures))
    fewer = replace(pictures[0], targets=pictures[0].targets[:80], pixels=pictures[0].pixels[:80])
    with pytest.raises(click.ClickException, match="200 training images, not on 80"):
        next(Run(tmp_path, QUICK).epochs(fewer, pictures[1]))


# The data


def test_images_come_with_the_place_of_their_class_in_alphabetical_order(data, pictures):
    wnids = (data / "wnids.txt").read_text().split()
    assert wnids != sorted(wnids)
    paths, targets = validation_files(data)
    lines = (data / "val" / "val_annotations.txt").read_text().splitlines()
    told = dict(line.split("\t")[:2] for line in lines)
    assert [sorted(wnids)[target] for target in targets] == [told[path.name] for path in paths]
    assert [name for name, _ in names(data)] == sorted(wnids)
    with Image.open(paths[7]) as image:
        assert np.array_equal(pictures[1].pixels[7], np.asarray(image.convert("RGB")))
    assert np.array_equal(pictures[0].targets, np.arange(200))


@pytest.mark.parametrize(
    "part", ["wnids.txt", "words.txt", "train", "val/images", "val/val_annotations.txt"]
)
def test_a_folder_that_is_not_tiny_imagenet_is_refused_before_anything_is_made(tmp_path, part):
    root = tmp_path / "other"
    for name in ("train", "val/images"):
        (root / name).mkdir(parents=True)
    for name in ("wnids.txt", "words.txt", "val/val_annotations.txt"):
        (root / name).write_text("")
    (root / part).rename(tmp_path / "away")
    told = refusal("fit", root, tmp_path / "run")
    assert f"is not Tiny ImageNet's folder: it lacks {part}. Give the folder" in told
    assert not (tmp_path / "run").exists()


def test_files_of_the_data_that_cannot_be_used_are_named(tmp_path, data):
    root = tmp_path / "copy"
    (root / "val" / "images").mkdir(parents=True)
    for name in ("wnids.txt", "words.txt", "train", "val/val_annotations.txt"):
        (root / name).symlink_to(data / name)
    for path in (data / "val" / "images").iterdir():
        (root / "val" / "images" / path.name).symlink_to(path)
    bad = root / "val" / "images" / "val_5.JPEG"
    bad.unlink()
    Image.new("RGB", (64, 63)).save(bad)
    with pytest.raises(click.ClickException, match=r"val_5\.JPEG cannot be read as an image of 64"):
        validation_set(root)
    bad.write_bytes(b"no image")
    with pytest.raises(click.ClickException, match=r"val_5\.JPEG cannot be read as an image of 64"):
        validation_set(root)
    (root / "val" / "val_annotations.txt").unlink()
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn99999999\t0\t0\t62\t62\n")
    with pytest.raises(click.ClickException, match=r"holds the line .*n99999999"):
        validation_files(root)


# The file


def test_the_exported_file_brings_its_preprocessing_and_gives_the_trained_logits(
    tmp_path, data, pictures, finished, exported
):
    path = tmp_path / "new folder" / "tiny.safetensors"
    write(path, exported.shipped)
    assert resolve(str(path), TINY).preprocessing == replace(TORCHVISION, resize=64, crop=64)
    files, _ = validation_files(data)
    found = FeatureExtractor("vgg16-tiny", weights=path, layers=["fc8"])(files)["fc8"]
    trained = predictions(Run.found_in(finished).average, pictures[1], 64)
    expected = torch.cat([logits for logits, _ in trained])
    assert exported.fold_error < 1e-5
    # float16 rounds at 5e-4 in each of 16 layers; weights that are not averaged, or pixels
    # prepared in another way, are far off.
    assert fold_error(expected, torch.from_numpy(found)) < 1e-2
    raw = next(predictions(Run.found_in(finished).model, pictures[1], 64))[0]
    assert fold_error(raw, torch.from_numpy(found)) > 0.1


def test_the_exported_file_says_what_it_is(tmp_path, data, exported):
    write(tmp_path / "tiny.safetensors", exported.shipped)
    with safe_open(tmp_path / "tiny.safetensors", "pt") as file:
        told = file.metadata()
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118
    assert told["vggfeat.model"] == "vgg16-tiny"
    classes = json.loads(told["vggfeat.classes"])
    assert len(classes) == 200
    assert classes == sorted(classes)
    assert all(name == f"thing {wnid[-3:]}" for wnid, name in classes)
    recipe = json.loads(told["vggfeat.recipe"])
    assert Recipe(**{**recipe, "stages": tuple(map(tuple, recipe["stages"]))}) == QUICK
    assert told["vggfeat.epochs_done"] == "2"
    assert "non-commercial research" in told["vggfeat.terms"]


def test_one_checkpoint_gives_one_file(data, pictures, finished, exported):
    assert export(Run.found_in(finished), data, pictures[1]).shipped == exported.shipped
    tensors = {"b": torch.zeros(2), "a": torch.ones(3)}
    keys = [f"key {number}" for number in range(20)]
    one, other = (dict.fromkeys(order, "value") for order in (keys, keys[::-1]))
    assert serialised(tensors, one) == serialised(tensors, other)


def test_less_is_stored_at_the_cost_that_is_told(exported):
    assert [stored.kind for stored in exported.stored] == list(KINDS)
    full, half, quarter = exported.stored
    assert full.megabytes > 1.99 * half.megabytes > 3.9 * quarter.megabytes
    assert full.megabytes == pytest.approx(4 * TINY.parameters / 1e6, rel=0.01)
    assert full.change == 0 < half.change < quarter.change < 1  # of a probability
    assert len(exported.shipped) == half.megabytes * 1e6


def test_int8_is_off_by_half_a_step_of_its_channel_at_most():
    torch.manual_seed(0)
    tensors = {
        "w": torch.randn(5, 4, 3, 3) * torch.tensor([1e-4, 1, 30, 0, 2]).view(-1, 1, 1, 1),
        "b": torch.randn(5),
    }
    held = compressed(tensors, "int8")
    assert held["w"].dtype == torch.int8
    back = expanded(held)
    assert set(back) == {"w", "b"}
    assert torch.equal(back["b"], tensors["b"])
    steps = tensors["w"].flatten(1).abs().amax(1) / 127
    off = (back["w"] - tensors["w"]).flatten(1).abs().amax(1)
    assert bool((off <= 0.5001 * steps).all())


def test_the_commands_agree_on_the_accuracy_of_what_ships(tmp_path, data, finished):
    file = tmp_path / "tiny.safetensors"
    told = run_cli("export", finished, data, file)
    top1, top5 = re.search(r"float16 +\S+ +(\S+) +(\S+)", told).groups()
    assert f"top-1 {top1} %, top-5 {top5} %" in run_cli("score", data, "--weights", file)


def test_export_refuses_in_one_line_what_cannot_be_right(tmp_path, data, finished):
    assert f"holds no {CHECKPOINT}. Train" in refusal("export", tmp_path, data, "a.safetensors")
    assert "does not end in .safetensors" in refusal("export", finished, data, tmp_path / "a.pth")
    fewer = tmp_path / "fewer"
    (fewer / "val").mkdir(parents=True)
    for name in ("train", "words.txt", "val/images"):
        (fewer / name).symlink_to(data / name)
    wnids = (data / "wnids.txt").read_text().split()
    (fewer / "wnids.txt").write_text("\n".join(wnids[:150]))
    lines = (data / "val" / "val_annotations.txt").read_text().splitlines()
    known = [line for line in lines if line.split("\t")[1] in wnids[:150]]
    (fewer / "val" / "val_annotations.txt").write_text("\n".join(known))
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"before")
    assert "has 150 classes, but the run's network tells 200" in refusal(
        "export", finished, fewer, file
    )
    assert file.read_bytes() == b"before"
    assert "No weight file" in refusal("score", data, "--weights", tmp_path / "none.safetensors")


def test_a_damaged_or_foreign_checkpoint_is_told_in_one_line(tmp_path, data, finished):
    state = torch.load(finished / CHECKPOINT, weights_only=True)
    file = tmp_path / "a.safetensors"
    (tmp_path / CHECKPOINT).write_bytes((finished / CHECKPOINT).read_bytes()[:5000])
    assert "cannot be read as a checkpoint" in refusal("export", tmp_path, data, file)
    torch.save({**state, "recipe": {**state["recipe"], "mixup": 0.2}}, tmp_path / CHECKPOINT)
    assert "another version of this program: mixup" in refusal("export", tmp_path, data, file)
    assert not file.exists()


# The picture


def test_curves_draws_a_picture_that_depends_on_the_log_alone(tmp_path, finished):
    run_cli("curves", finished, tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as image:
        assert image.format == "PNG"
        assert image.width > 1200
        colours = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
    assert len(colours) > 50
    run_cli("curves", finished, tmp_path / "new" / "two.png")
    assert (tmp_path / "new" / "two.png").read_bytes() == (tmp_path / "one.png").read_bytes()


def test_curves_shows_where_the_resolution_changed(tmp_path, finished):
    row = log.read(finished)[0]
    steady = [replace(row, epoch=number + 1) for number in range(6)]
    changed = [replace(row, side=32 if row.epoch < 4 else 64) for row in steady]
    for rows, name in ((steady, "steady.svg"), (changed, "changed.svg")):
        curves.draw(rows, tmp_path / name)
    assert "<!-- 64 px -->" in (tmp_path / "changed.svg").read_text()
    assert "<!-- 64 px -->" not in (tmp_path / "steady.svg").read_text()


def test_curves_refuses_what_is_no_run_and_no_picture(tmp_path, finished):
    assert f"holds no {log.LOG}" in refusal("curves", tmp_path, tmp_path / "a.png")
    (tmp_path / log.LOG).write_text("epoch,loss\n1,2\n")
    assert "Its columns must be epoch, side" in refusal("curves", tmp_path, tmp_path / "a.png")
    assert "must end in .png" in refusal("curves", finished, tmp_path / "a.docx")


# Help


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_command_explains_itself_and_ends_with_an_example(command):
    told = run_cli(command, "--help")
    assert f"python -m training {command} " in told
    assert "python -m training" in run_cli("--help")
