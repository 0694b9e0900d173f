"""From a folder of real images to right numbers in a store, run after run."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torchvision
from commands import cli
from conftest import draw, heed_interrupts
from PIL import Image
from torchvision.models import VGG16_Weights

from vggfeat import FeatureExtractor, FeatureStore
from vggfeat.errors import (
    DeviceError,
    ImageError,
    LayerError,
    SourceError,
    StoreError,
    StoreMismatchError,
    WeightsError,
)
from vggfeat.layers import architecture
from vggfeat.weights import resolve

TINY = "vgg16-tiny"
LAYERS = ["conv1_1:max", "conv2_2", "relu2_2", "pool3:none"]


@pytest.fixture(scope="module")
def whole():
    """Extract by the paper's network; what does not depend on its size uses the miniature."""
    return FeatureExtractor(weights="random:0", layers=LAYERS, device="cpu", batch_size=5)


@pytest.fixture(scope="module")
def extractor():
    return FeatureExtractor(TINY, weights="random:0", layers=LAYERS, device="cpu", batch_size=5)


@cache
def convolutions() -> torch.nn.Sequential:
    """Build torchvision's network of the same weights."""
    model = torchvision.models.vgg16(weights=None).features[:17].eval()
    vgg16 = architecture("vgg16")
    names = [f"features.{key}" for key in model.state_dict()]
    tensors = resolve("random:0", vgg16).load(vgg16, names)
    model.load_state_dict({k.removeprefix("features."): v for k, v in tensors.items()})
    for module in model:
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
    return model


def reference(path: Path) -> dict[str, np.ndarray]:
    """Compute one image's features with torchvision alone."""
    x = VGG16_Weights.IMAGENET1K_V1.transforms()(Image.open(path).convert("RGB"))[None]
    seen = {}
    with torch.inference_mode():
        for number, module in enumerate(convolutions()):
            seen[number] = x = module(x)
    return {
        "conv1_1": seen[0].amax((2, 3))[0].numpy(),
        "conv2_2": seen[7].mean((2, 3))[0].numpy(),
        "relu2_2": seen[8].mean((2, 3))[0].numpy(),
        "pool3": seen[16][0].numpy(),
    }


def test_stored_numbers_are_torchvisions_for_jpegs_of_any_size_and_mode(whole, photos, tmp_path):
    summary = whole.extract(photos, tmp_path / "s.h5")
    assert (summary.images, summary.done, summary.failed, summary.computed) == (12, 12, 0, 12)
    with h5py.File(tmp_path / "s.h5") as file:  # plain h5py
        assert sorted(file["features"]) == ["conv1_1", "conv2_2", "pool3", "relu2_2"]
        paths = file["images/path"].asstr()[:]
        assert list(paths) == sorted(paths)
        for row, path in enumerate(paths):
            for layer, expected in reference(photos / path).items():
                stored = file["features"][layer][row]
                assert stored.shape == expected.shape
                error = np.linalg.norm(stored - expected) / np.linalg.norm(expected)
                assert error < 1e-5, (path, layer)
        assert (file["features/conv2_2"][:] < 0).any()
        assert (file["features/relu2_2"][:] >= 0).all()


def test_labels_come_from_the_folders(extractor, photos, tmp_path):
    extractor.extract(photos, tmp_path / "s.h5")
    with FeatureStore(tmp_path / "s.h5") as store:
        assert list(store.classes) == ["cat", "dog"]
        assert list(store.labels[:]) == [0] * 6 + [1] * 6


def test_calling_and_extracting_give_the_same_numbers(extractor, photos, tmp_path):
    extractor.extract(photos, tmp_path / "s.h5")
    with FeatureStore(tmp_path / "s.h5") as store:
        paths = [photos / path for path in store.paths]
        in_memory = extractor(paths)
        for layer in store.layers:
            assert np.array_equal(store[layer][:], in_memory[layer])


def test_images_may_be_paths_pillow_images_arrays_or_tensors(extractor, tmp_path):
    image = draw(300, 200)
    image.save(tmp_path / "a.png")
    pixels = np.asarray(image)
    kinds = [tmp_path / "a.png", image, pixels, torch.from_numpy(pixels.copy()).permute(2, 0, 1)]
    features = extractor(kinds)["conv2_2"]
    assert features.shape == (4, 32)
    assert features.dtype == np.float32
    for row in features[1:]:
        assert np.array_equal(row, features[0])
    for single in kinds:
        assert np.array_equal(extractor(single)["conv2_2"][0], features[0])
    assert extractor([])["pool3"].shape == (0, 64, 8, 8)


def test_a_bad_image_in_memory_is_named(extractor, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match=r"bad.jpg: .*empty"):
        extractor([tmp_path / "bad.jpg"])
    with pytest.raises(ImageError, match="image 1"):
        extractor([draw(50, 50), np.zeros((4, 4, 3), np.float32)])


def test_bad_images_become_failed_rows_and_the_rest_is_done(extractor, photos, tmp_path):
    (photos / "cat" / "00.jpg").write_bytes(b"")
    (photos / "dog" / "01.jpg").write_bytes((photos / "dog" / "03.jpg").read_bytes()[:3000])
    (photos / "dog" / "text.jpg").write_text("not an image")
    os.mkfifo(photos / "pipe.jpg")
    summary = extractor.extract(photos, tmp_path / "s.h5")
    assert (summary.done, summary.failed) == (10, 4)
    assert sorted(path for path, _ in summary.failures) == [
        "cat/00.jpg",
        "dog/01.jpg",
        "dog/text.jpg",
        "pipe.jpg",
    ]
    with FeatureStore(tmp_path / "s.h5") as store:
        assert np.isnan(store["conv2_2"][store.row("cat/00.jpg")]).all()
        assert store.verify().ok


def test_failed_rows_are_tried_again_when_asked_or_when_the_file_changed(
    extractor, photos, tmp_path
):
    good = (photos / "cat" / "00.jpg").read_bytes()
    for name in ("00.jpg", "02.jpg"):
        (photos / "cat" / name).write_bytes(b"")
    store = tmp_path / "s.h5"
    assert extractor.extract(photos, store).failed == 2
    assert extractor.extract(photos, store).computed == 0
    (photos / "cat" / "00.jpg").write_bytes(good)
    summary = extractor.extract(photos, store)
    assert (summary.computed, summary.failed) == (1, 1)
    assert extractor.extract(photos, store, retry_failed=True).failed == 1


def test_on_error_stop_stops_and_keeps_what_was_done(extractor, photos, tmp_path):
    (photos / "dog" / "11.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match=r"dog/11.jpg.*--on-error skip"):
        extractor.extract(photos, tmp_path / "s.h5", on_error="stop")
    with FeatureStore(tmp_path / "s.h5") as store:
        assert store.counts()["failed"] == 0
        assert store.counts()["done"] >= 5
    assert extractor.extract(photos, tmp_path / "s.h5").done == 11


def test_a_grown_folder_is_appended_and_changed_images_are_done_again(extractor, photos, tmp_path):
    store = tmp_path / "s.h5"
    extractor.extract(photos, store)
    with FeatureStore(store) as before:
        paths, old = list(before.paths), before["conv2_2"][:]
    draw(222, 333, seed=50).save(photos / "cat" / "0.jpg")  # sorts before all others
    draw(222, 333, seed=51).save(photos / "dog" / "03.jpg")
    (photos / "cat" / "02.jpg").unlink()
    summary = extractor.extract(photos, store)
    assert (summary.added, summary.changed, summary.missing, summary.computed) == (1, 1, 1, 2)
    with FeatureStore(store) as after:
        assert list(after.paths) == [*paths, "cat/0.jpg"], "rows keep their place"
        new = after["conv2_2"][:]
    same = [i for i, path in enumerate(paths) if path != "dog/03.jpg"]
    assert np.array_equal(new[same], old[same])
    fresh = extractor([photos / "dog" / "03.jpg", photos / "cat" / "0.jpg"])["conv2_2"]
    assert np.array_equal(new[[paths.index("dog/03.jpg"), -1]], fresh)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"weights": "random:1"}, "weights_sha256"),
        ({"view": "squash"}, "view"),
        ({"flip": True}, "flip"),
        ({"layers": ["conv1_1"]}, "layers"),
        ({"dtype": "float16"}, "dtype"),
        ({"model": "vgg13"}, "model"),
    ],
)
def test_other_deciding_values_are_refused_by_name(photos, tmp_path, change, field):
    settings = {"model": TINY, "weights": "random:0", "layers": ["conv1_1:max"], "device": "cpu"}
    FeatureExtractor(**settings).extract(photos, tmp_path / "s.h5")
    content = (tmp_path / "s.h5").read_bytes()
    with pytest.raises(StoreMismatchError, match=field):
        FeatureExtractor(**{**settings, **change}).extract(photos, tmp_path / "s.h5")
    assert (tmp_path / "s.h5").read_bytes() == content
    FeatureExtractor(**{**settings, **change}).extract(photos, tmp_path / "s.h5", overwrite=True)


def test_float16_stores_hold_rounded_float32_numbers(extractor, photos, tmp_path):
    half = FeatureExtractor(
        TINY, weights="random:0", layers="conv2_2", dtype="float16", device="cpu"
    )
    half.extract(photos, tmp_path / "s.h5")
    with FeatureStore(tmp_path / "s.h5") as store:
        assert store["conv2_2"].dtype == np.float16
        paths = [photos / path for path in store.paths]
        assert np.array_equal(store["conv2_2"][:], extractor(paths)["conv2_2"].astype(np.float16))


def test_lists_and_archives_give_what_the_folder_gives(extractor, photos, tmp_path):
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg"))
    (photos / "list.csv").write_text(
        "path,label\n" + "".join(f"{name},{'ab'[i % 2]}\n" for i, name in enumerate(names))
    )
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for name in names:
            tar.add(photos / name, name)
    stores = {}
    for source in (photos, photos / "list.csv", tmp_path / "photos.tar"):
        path = tmp_path / f"{source.name}.h5"
        extractor.extract(source, path)
        with FeatureStore(path) as store:
            stores[source.name] = (list(store.paths), store["conv2_2"][:], list(store.classes))
    for paths, features, _ in stores.values():
        assert paths == names
        assert np.array_equal(features, stores["photos"][1])
    assert [classes for *_, classes in stores.values()] == [
        ["cat", "dog"],
        ["a", "b"],
        ["cat", "dog"],
    ]


def test_labels_from_a_csv_file_and_none(extractor, photos, tmp_path):
    (tmp_path / "labels.csv").write_text("path,label\ncat/00.jpg,tabby\ndog/01.jpg,pug\n")
    extractor.extract(photos, tmp_path / "a.h5", labels=tmp_path / "labels.csv")
    with FeatureStore(tmp_path / "a.h5") as store:
        assert list(store.classes) == ["pug", "tabby"]
        assert sorted(store.labels[:])[-3:] == [-1, 0, 1]
    extractor.extract(photos, tmp_path / "b.h5", labels="none")
    with FeatureStore(tmp_path / "b.h5") as store:
        assert not store.has_labels
    with pytest.raises(SourceError, match=r"nowhere.csv.*auto, none, folder.* or a CSV"):
        extractor.extract(photos, tmp_path / "c.h5", labels="nowhere.csv")
    assert not (tmp_path / "c.h5").exists()


def test_provenance_tells_what_decides_and_what_happened(extractor, photos, tmp_path):
    extractor.extract(photos, tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5") as file:
        assert file.attrs["format"] == "vggfeat"
        told = json.loads(file.attrs["provenance"])
    assert told["deciding"]["model"] == TINY
    assert len(told["deciding"]["weights_sha256"]) == 64
    assert told["deciding"]["layers"] == {
        "conv1_1": "max",
        "conv2_2": "avg",
        "relu2_2": "avg",
        "pool3": "none",
    }
    assert told["deciding"]["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    run = told["happened"]
    assert run["weights"] == "random:0"
    assert run["device"] == "cpu"
    assert run["start"] <= run["end"]
    assert run["versions"]["torch"]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"layers": "conv5_4"}, LayerError, "conv5_3"),
        ({"model": "vgg17"}, LayerError, "vgg16"),
        ({"view": "dense9"}, LayerError, "center, squash"),
        ({"dtype": "int8"}, DeviceError, "float32, float16"),
        ({"batch_size": 0}, DeviceError, "at least 1"),
        ({"precision": "fp16"}, DeviceError, "float32, bfloat16, float16"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(settings, error, message):
    with pytest.raises(error, match=message):
        FeatureExtractor(**{"weights": "random", **settings})


def test_missing_weights_leave_no_store_behind(photos, tmp_path):
    with pytest.raises(WeightsError, match="nowhere"):
        FeatureExtractor(weights="nowhere.pth").extract(photos, tmp_path / "s.h5")
    assert not (tmp_path / "s.h5").exists()


def test_overwriting_with_weights_that_do_not_load_keeps_the_store(extractor, photos, tmp_path):
    extractor.extract(photos, tmp_path / "s.h5")
    before = (tmp_path / "s.h5").read_bytes()
    (tmp_path / "bad.pth").write_bytes(b"PK broken")
    bad = FeatureExtractor(weights=tmp_path / "bad.pth", layers="pool1", device="cpu")
    with pytest.raises(WeightsError):
        bad.extract(photos, tmp_path / "s.h5", overwrite=True)
    assert (tmp_path / "s.h5").read_bytes() == before
    with pytest.raises(WeightsError):
        bad.extract(photos, tmp_path / "new.h5")
    assert not (tmp_path / "new.h5").exists()


def test_a_grown_folder_with_weights_that_do_not_load_keeps_the_store(photos, tmp_path):
    state = {f"features.0.{kind}": torch.ones(shape) for kind, shape in CONV1_1.items()}
    torch.save(state, tmp_path / "w.pth")
    settings = {"weights": tmp_path / "w.pth", "layers": "conv1_1", "device": "cpu"}
    FeatureExtractor(**settings).extract(photos, tmp_path / "s.h5")
    before = (tmp_path / "s.h5").read_bytes()
    draw(50, 50).save(photos / "new.png")
    with pytest.raises(DeviceError):
        FeatureExtractor(**{**settings, "device": "cuda:99"}).extract(photos, tmp_path / "s.h5")
    assert (tmp_path / "s.h5").read_bytes() == before


CONV1_1 = {"weight": (64, 3, 3, 3), "bias": (64,)}


def test_values_that_do_not_fit_the_store_fail_their_rows(photos, tmp_path):
    state = {f"features.0.{kind}": torch.full(shape, 1e6) for kind, shape in CONV1_1.items()}
    torch.save(state, tmp_path / "w.pth")
    huge = FeatureExtractor(
        weights=tmp_path / "w.pth", layers="conv1_1:max", dtype="float16", device="cpu"
    )
    summary = huge.extract(photos, tmp_path / "s.h5")
    assert (summary.tried, summary.computed, summary.failed) == (12, 0, 12)
    assert "--dtype float32" in summary.failures[0][1]
    with pytest.raises(ImageError, match="float16"):
        huge.extract(photos, tmp_path / "t.h5", on_error="stop")


def test_arrays_of_paths_are_paths(extractor, photos):
    paths = sorted(map(str, photos.rglob("*.jpg")))[:3]
    features = extractor(np.array(paths))["conv2_2"]
    assert np.array_equal(features, extractor(paths)["conv2_2"])


@pytest.mark.parametrize("name", ["s.jpg", "list.csv", "a.tar"])
def test_a_store_must_not_be_named_like_an_image(extractor, photos, name):
    with pytest.raises(StoreError, match=r"such as photos.h5"):
        extractor.extract(photos, photos / name)


def test_images_added_to_an_archive_are_all_that_is_computed(extractor, photos, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(photos / "cat" / "00.jpg", "00.jpg")
    extractor.extract(tmp_path / "a.tar", tmp_path / "s.h5")
    with tarfile.open(tmp_path / "a.tar", "a") as tar:
        tar.add(photos / "cat" / "02.jpg", "02.jpg")
    summary = extractor.extract(tmp_path / "a.tar", tmp_path / "s.h5")
    assert (summary.added, summary.changed, summary.computed) == (1, 0, 1)


def test_another_source_or_precision_for_the_same_store_is_said(
    extractor, photos, tmp_path, caplog
):
    extractor.extract(photos, tmp_path / "s.h5")
    shutil.copytree(photos, tmp_path / "moved")
    draw(99, 88).save(tmp_path / "moved" / "cat" / "new.jpg")
    half = FeatureExtractor(
        TINY, weights="random:0", layers=LAYERS, device="cpu", precision="bfloat16"
    )
    summary = half.extract(tmp_path / "moved", tmp_path / "s.h5")
    assert summary.computed == 1, "copies with their times are not done again"
    assert str(tmp_path / "moved") in caplog.text
    assert "goes on in bfloat16" in caplog.text
    with FeatureStore(tmp_path / "s.h5") as store:
        assert store.latest.source == str(tmp_path / "moved")
        assert [run.precision for run in store.runs] == ["float32", "bfloat16"]


def test_queries_take_the_way_of_the_store(photos, tmp_path):
    made = FeatureExtractor(
        TINY,
        weights="random:3",
        layers="pool1:max",
        view="squash",
        precision="bfloat16",
        device="cpu",
    )
    made.extract(photos, tmp_path / "s.h5")
    with FeatureStore(tmp_path / "s.h5") as store:
        like = FeatureExtractor.like(store.provenance, device="cpu")
        assert like.config == made.config
        assert like.precision == "bfloat16"
        query = photos / store.paths[4]
        assert np.array_equal(like(query)["pool1"][0], store["pool1"][4])


def test_the_pixel_limit_holds_in_memory_too(photos):
    small = FeatureExtractor(TINY, weights="random:0", layers="pool1", max_pixels=100)
    with pytest.raises(ImageError, match="100"):
        small(photos / "cat" / "00.jpg")


def test_batches_of_whole_maps_stay_small():
    maps = FeatureExtractor(weights="random:0", layers="conv1_1:none", device="cpu")
    assert maps._batch_size == 2**28 // (64 * 224 * 224 * 4)
    assert maps._batch_size < FeatureExtractor(TINY, weights="random:0", layers="pool1")._batch_size


FAST = ["--model", TINY, "--weights", "random:0", "--layers", "pool1", "--device", "cpu"]


def test_the_command_extracts_resumes_and_reports(photos, tmp_path):
    (photos / "dog" / "01.jpg").write_bytes(b"")
    first = cli("extract", photos, tmp_path / "s.h5", *FAST)
    assert first.returncode == 0, first.stderr
    assert "11 of 12 images done, 1 failed" in first.stdout
    assert "dog/01.jpg: " in first.stdout
    assert first.stderr == "", "quiet where stderr is no terminal"
    again = cli("extract", photos, tmp_path / "s.h5", *FAST, "--json")
    result = json.loads(again.stdout)
    assert (result["done"], result["computed"]) == (11, 0)
    assert result["failures"][0]["path"] == "dog/01.jpg"
    stop = cli("extract", photos, tmp_path / "t.h5", *FAST, "--on-error", "stop")
    assert stop.returncode == 1
    assert "dog/01.jpg" in stop.stderr
    assert "Traceback" not in stop.stderr


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["nowhere"], 1, "nowhere"),
        (["--layers", "conv5_4"], 1, "Did you mean conv5_3"),
        (["--weights", "none.pth"], 1, "No weight file 'none.pth'"),
        (["--device", "cuda:77"], 1, "This machine has: cpu"),
        (["--pool", "median"], 2, "Known poolings: avg, max"),
        (["--batch-size", "0"], 2, "batch-size"),
    ],
)
def test_failures_are_one_line_with_a_remedy(photos, tmp_path, args, status, message):
    source = args.pop(0) if not args[0].startswith("-") else photos
    done = cli("extract", source, tmp_path / "s.h5", *FAST, *args)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert status == 2 or len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "s.h5").exists()


def many(photos: Path, copies: int) -> Path:
    """Multiply the images, so that a run lasts long enough to be interrupted."""
    for path in list(photos.rglob("??.jpg")):
        for number in range(copies):
            shutil.copy(path, path.with_name(f"{path.stem}-{number:03d}.jpg"))
    return photos


def wait_for_rows(store: Path, process: subprocess.Popen[str], rows: int = 1) -> None:
    while process.poll() is None:  # pytest's own limit ends a run that hangs
        if store.exists():
            with FeatureStore(store) as opened:
                if opened.counts()["done"] >= rows:
                    return
        time.sleep(0.02)
    raise AssertionError(f"it ended without {rows} rows: {process.communicate()}")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_runs_go_on_and_end_as_an_unbroken_one(photos, tmp_path, how, chance):
    kills = int(os.environ.get("VGGFEAT_KILLS", "2")) if how == signal.SIGKILL else 1
    copies = 5 * kills
    many(photos, copies)
    # Slow enough to be interrupted. `auto` might take the other engine for the rows that are left.
    args = [*FAST, "--layers", "pool2", "--batch-size", "4", "--engine", "torch"]
    command = [sys.executable, "-m", "vggfeat", "extract", photos, tmp_path / "s.h5", *args]
    done = kill = 0
    while kill < kills:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, stderr=pipe, stdout=pipe, text=True, preexec_fn=heed_interrupts
        )
        wait_for_rows(tmp_path / "s.h5", process, done + 1)
        time.sleep(chance.uniform(0, 0.05))
        process.send_signal(how)
        _, err = process.communicate()
        with FeatureStore(tmp_path / "s.h5") as store:
            assert store.verify().ok
            assert done < store.counts()["done"]
            done = store.counts()["done"]
            late = done == len(store)
        kill += 1
        if late:  # this process had to wait, and the other one came to its end: begin anew
            (tmp_path / "s.h5").unlink()
            done = kill = 0
            copies *= 2
            many(photos, copies)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "the same command continues" in err
        assert "Traceback" not in err
    assert cli("extract", photos, tmp_path / "s.h5", *args).returncode == 0
    unbroken = FeatureExtractor(
        TINY, weights="random:0", layers="pool2", device="cpu", batch_size=4, engine="torch"
    )
    unbroken.extract(photos, tmp_path / "unbroken.h5", progress=False)
    with FeatureStore(tmp_path / "s.h5") as a, FeatureStore(tmp_path / "unbroken.h5") as b:
        assert list(a.paths) == list(b.paths)
        assert np.array_equal(a["pool2"][:], b["pool2"][:])


def test_a_second_writer_is_told_and_the_first_goes_on(photos, tmp_path):
    many(photos, 2)
    slow = [*FAST, "--model", "vgg16", "--batch-size", "2", "--engine", "torch"]
    command = [sys.executable, "-m", "vggfeat", "extract", photos, tmp_path / "s.h5", *slow]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for_rows(tmp_path / "s.h5", first)
    first.send_signal(signal.SIGSTOP)  # it is at work still, however busy the machine is
    second = cli("extract", photos, tmp_path / "s.h5", *slow)
    first.send_signal(signal.SIGCONT)
    out, err = first.communicate()
    assert first.returncode == 0, err
    assert "36 of 36" in out
    assert second.returncode == 1
    assert "s.h5" in second.stderr


RESUME = """
import sys
from vggfeat.cli import run
try:
    run(sys.argv[1:])
finally:
    heavy = {"torch", "faiss", "sklearn", "matplotlib"} & set(sys.modules)
    print(sorted(heavy), file=sys.stderr)
"""


def test_a_finished_store_is_recognised_without_loading_torch(photos, tmp_path):
    assert cli("extract", photos, tmp_path / "s.h5", *FAST).returncode == 0
    done = subprocess.run(
        [sys.executable, "-c", RESUME, "extract", photos, tmp_path / "s.h5", *FAST],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.strip() == "[]"
    assert "Nothing to do" in done.stdout


def test_a_store_of_one_image_and_of_odd_names(extractor, tmp_path):
    folder = tmp_path / "odd names"
    folder.mkdir()
    buffer = io.BytesIO()
    draw(64, 64).save(buffer, "PNG")
    names = [b"a b.png", b"new\nline.png", "\N{CAMERA}.png".encode(), b"caf\xe9.png", b"b\\n.png"]
    for name in names:
        Path(os.fsdecode(bytes(folder) + b"/" + name)).write_bytes(buffer.getvalue())
    summary = extractor.extract(folder, tmp_path / "s.h5")
    assert (summary.done, summary.failed) == (5, 0)
    with FeatureStore(tmp_path / "s.h5") as store:
        rows = store["conv2_2"][:]
    assert (rows == rows[0]).all()
    single = extractor.extract(folder / "a b.png", tmp_path / "single.h5")
    assert single.done == 1
