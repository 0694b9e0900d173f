"""Dense features are those of a fully convolutional network over the whole image."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import commands
import h5py
import numpy as np
import pytest
import torch
import torchvision
from conftest import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torch import nn
from torchvision import transforms

from vggfeat import FeatureExtractor, FeatureStore
from vggfeat.errors import LayerError, StoreMismatchError
from vggfeat.layers import architecture
from vggfeat.network.positions import portions, windows
from vggfeat.preprocessing import TORCHVISION
from vggfeat.provenance import FeatureConfig
from vggfeat.sklearn import VGGFeatures
from vggfeat.weights import resolve, shapes

HEAD = ["fc6", "relu6", "fc7", "relu7", "fc8", "prob"]
DENSE = {"view": "dense", "scales": (64, 90, 131), "flip": True}


def tiny(layers="conv5_3,relu7", **options) -> FeatureExtractor:
    options = {"weights": "random:0", "device": "cpu", **options}
    return FeatureExtractor("vgg16-tiny", layers=layers, **options)


def error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the worst relative error of a row."""
    difference = np.linalg.norm(ours - theirs, axis=-1)
    return float(np.max(difference / np.linalg.norm(theirs, axis=-1)))


def slow_implementation(
    name: str, scales: list[int]
) -> Callable[[Image.Image], dict[str, list[np.ndarray]]]:
    """Return appendix B by hand, on torchvision's VGG: one image, scale and flip at a time."""
    table = architecture(name)
    tensors = resolve("random:0", table).load(table, list(shapes(table)))
    plan: list[int | str] = []
    for count, width in zip(table.convolutions, table.widths, strict=True):
        plan += [*[width] * count, "M"]
    body = torchvision.models.vgg.make_layers(plan)
    body.load_state_dict(
        {k.removeprefix("features."): v for k, v in tensors.items() if k.startswith("features.")}
    )
    for module in body:
        if isinstance(module, nn.ReLU):
            module.inplace = False
    sides = (
        (table.widths[-1], table.units),
        (table.units, table.units),
        (table.units, table.classes),
    )
    head = [nn.Conv2d(*size, grid) for size, grid in zip(sides, (table.grid, 1, 1), strict=True)]
    for convolution, number in zip(head, (0, 3, 6), strict=True):
        linear = tensors[f"classifier.{number}.weight"]
        convolution.weight = nn.Parameter(linear.view(convolution.weight.shape))
        convolution.bias = nn.Parameter(tensors[f"classifier.{number}.bias"])
    tensor = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(TORCHVISION.mean, TORCHVISION.std)]
    )

    def once(x: torch.Tensor) -> dict[str, torch.Tensor]:
        found = {}
        for number, module in enumerate(body):
            x = module(x)
            if number == 28:
                found["conv5_3"] = x.amax((2, 3))[0]
            if number == 30:
                found["pool5"] = x.mean((2, 3))[0]
        for name, convolution in zip(("6", "7", "8"), head, strict=True):
            x = convolution(x)
            found["fc" + name] = x.mean((2, 3))[0]
            if name == "8":
                found["prob"] = x.softmax(1).mean((2, 3))[0]
            else:
                x = x.relu()
                found["relu" + name] = x.mean((2, 3))[0]
        return found

    def features(image: Image.Image) -> dict[str, list[np.ndarray]]:
        by_scale: dict[str, list[np.ndarray]] = {}
        for scale in scales:
            x = tensor(transforms.Resize(scale)(image))[None]
            straight, mirrored = once(x), once(torch.flip(x, [3]))
            for name, value in straight.items():
                by_scale.setdefault(name, []).append(((value + mirrored[name]) / 2).numpy())
        return by_scale

    return features


@pytest.mark.parametrize(
    ("model", "scales", "sizes"),
    [
        ("vgg16", [240], [(333, 221)]),
        ("vgg16-tiny", [64, 97, 130], [(333, 221), (190, 271), (333, 221), (61, 67), (401, 100)]),
    ],
)
def test_scales_with_flips_equal_a_convolutional_head_built_by_hand(model, scales, sizes):
    images = [draw(*size, seed) for seed, size in enumerate(sizes)]
    slow = slow_implementation(model, scales)
    with torch.inference_mode():
        expected = [slow(image) for image in images]
    layers = ["conv5_3:max", "pool5", *HEAD]
    options = {"weights": "random:0", "view": "dense", "scales": scales, "flip": True}
    stacked = FeatureExtractor(model, layers=layers, combine="stack", device="cpu", **options)
    rows = stacked(images)
    for name in rows:
        theirs = np.stack([np.concatenate(image[name]) for image in expected])
        assert rows[name].shape == theirs.shape
        assert error(rows[name], theirs) < 1e-5, name
    if model == "vgg16-tiny":
        averaged = FeatureExtractor(model, layers=layers, combine="mean", device="cpu", **options)
        for name, mean in averaged(images).items():
            theirs = np.stack([np.mean(image[name], axis=0) for image in expected])
            assert error(mean, theirs) < 1e-5, name


def test_on_an_input_of_its_own_size_the_dense_head_is_the_ordinary_network():
    image = draw(224, 224, seed=3)
    options = {"weights": "random:0", "layers": HEAD, "device": "cpu"}
    ordinary = FeatureExtractor(view="squash", **options)(image)
    dense = FeatureExtractor(view="dense", scales=(224,), **options)(image)
    for name in HEAD:
        assert error(dense[name], ordinary[name]) < 1e-5
        assert np.array_equal(dense[name], ordinary[name]), "even to the last bit"


def test_the_mean_over_scales_is_that_of_the_stack_and_the_stack_has_their_order():
    images = [draw(70, 99), draw(150, 67, seed=1)]
    stacked = tiny(**DENSE, combine="stack")(images)
    averaged = tiny(**DENSE, combine="mean")(images)
    single = [tiny(view="dense", scales=(q,), flip=True)(images) for q in DENSE["scales"]]
    turned = tiny(**{**DENSE, "scales": (131, 64, 90)}, combine="stack")(images)
    for name, rows in stacked.items():
        blocks = np.split(rows, 3, axis=1)
        for block, alone in zip(blocks, single, strict=True):
            assert error(block, alone[name]) < 1e-6
        assert error(averaged[name], np.mean(blocks, axis=0)) < 1e-6
        assert error(turned[name], np.concatenate([blocks[2], *blocks[:2]], axis=1)) < 1e-6


@pytest.mark.parametrize("view", ["center", "squash", "dense"])
def test_flip_averages_with_the_mirror_image(view):
    images = [draw(64, 64, seed) for seed in range(3)]
    both = tiny("conv3_1:max,pool5,relu7,prob", view=view, flip=True)(images)
    plain = tiny("conv3_1:max,pool5,relu7,prob", view=view)
    straight, mirrored = plain(images), plain([ImageOps.mirror(image) for image in images])
    for name, rows in both.items():
        assert error(rows, (straight[name] + mirrored[name]) / 2) < 1e-6
        assert error(rows, straight[name]) > 1e-4, "mirror images differ"


def test_tencrop_is_the_mean_over_torchvisions_ten_crops():
    image = draw(97, 131)
    crops = transforms.TenCrop(64)(transforms.Resize(64)(image))
    layers = "conv5_3,fc7,relu7"
    ours, theirs = tiny(layers, view="tencrop")(image), tiny(layers, view="squash")(list(crops))
    for name, rows in ours.items():
        assert error(rows[0], theirs[name].mean(0)) < 1e-6


def test_dense_features_do_not_depend_on_the_images_that_share_a_batch():
    images = [draw(70, 99), draw(99, 70, 1), draw(70, 99, 2), draw(64, 200, 3), draw(70, 99, 4)]
    extractor = tiny("conv1_2,pool5:max,fc6,relu7,prob", **DENSE)
    together = extractor(images)
    for number, image in enumerate(images):
        for name, alone in extractor(image).items():
            assert error(together[name][number], alone[0]) < 1e-6
    few = tiny("conv1_2,pool5:max,fc6,relu7,prob", **DENSE, batch_size=2)(images)
    for name, rows in few.items():
        assert error(rows, together[name]) < 1e-6


def test_the_convolutions_run_once_for_each_scale_and_flip_whatever_the_layers():
    sizes = [(70, 99), (99, 70), (70, 99), (64, 200)]
    extractor = tiny("conv1_1,relu3_2:max,conv5_3,pool5,fc6,relu6,relu7,fc8,prob", **DENSE)
    seen: list[tuple[int, ...]] = []
    extractor.network.modules["conv1_1"].register_forward_hook(
        lambda _module, inputs, _output: seen.append(tuple(inputs[0].shape))
    )
    extractor([draw(*size, seed) for seed, size in enumerate(sizes)])
    assert sum(shape[0] for shape in seen) == 4 * 3 * 2
    assert len(seen) == 3 * 3, "images of one size run together"


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(2, 9), st.integers(2, 9), st.integers(1, 3))
def test_rows_of_windows_are_what_a_convolution_sees(count, height, width, grid):
    grid = min(grid, height, width)
    torch.manual_seed(0)
    maps = torch.randn(count, 3, height, width).to(memory_format=torch.channels_last)
    weights = torch.randn(5, 3, grid, grid)
    theirs = nn.functional.conv2d(maps, weights)  # (B, 5, h, w)
    ours = windows(maps, grid) @ weights.flatten(1).T
    torch.testing.assert_close(ours, theirs.permute(0, 2, 3, 1).flatten(0, 2))
    (portion,) = portions([maps, maps[:1]], grid)
    parts = portion.split(portion.rows @ weights.flatten(1).T)
    for part, expected in zip(parts, (theirs, theirs[:1]), strict=True):
        torch.testing.assert_close(part, expected)


def test_many_positions_run_in_portions_that_keep_parts_whole():
    parts = [torch.randn(2, 4, 12, 15), torch.randn(1, 4, 30, 20), torch.randn(3, 4, 7, 7)]
    found = list(portions(parts * 2, 7))
    expected = [(2, 6, 9), (1, 24, 14), (3, 1, 1)] * 2
    assert [shape for portion in found for shape in portion.shapes] == expected
    assert all(len(portion.rows) <= 512 for portion in found)
    assert len(found) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"view": "dense", "layers": "conv5_3:none"}, r"conv5_3 as a whole map .*conv5_3:avg"),
        ({"view": "dense", "layers": "flatten"}, "flatten as a whole map .*ask for pool5"),
        ({"view": "center", "flip": True, "layers": "pool1:none"}, "without --flip"),
        ({"view": "tencrop", "pool": "none", "layers": "pool1"}, "whole map"),
        ({"view": "dense", "scales": (63,)}, "from 64, the network's input size"),
        ({"view": "squash", "scales": (64, 96)}, "--view dense only, not squash"),
    ],
)
def test_what_cannot_be_averaged_is_refused_before_anything_runs(options, message):
    with pytest.raises(LayerError, match=message):
        tiny(**options)


def test_the_scale_by_default_is_the_one_that_the_weights_transforms_resize_to():
    assert FeatureExtractor(weights="random:0", view="dense").config.scales == (256,)
    extractor = tiny(view="dense")
    assert extractor.config.scales == (64,)
    image = draw(90, 71)
    named = tiny(view="dense", scales=(64,))
    assert named.config == extractor.config
    assert np.array_equal(extractor(image)["relu7"], named(image)["relu7"])


def test_images_too_long_become_failed_rows_that_say_what_helps(photos, tmp_path):
    for path in sorted(photos.rglob("*.jpg"))[2:]:
        path.unlink()
    Image.new("RGB", (9000, 90)).save(photos / "cat" / "panorama.png")
    extractor = tiny(view="dense", scales=(64, 256))
    summary = extractor.extract(photos, tmp_path / "s.h5")
    assert (summary.done, summary.failed) == (2, 1)
    ((path, reason),) = summary.failures
    assert path == "cat/panorama.png"
    assert "256 x 25600" in reason or "25600 x 256" in reason
    assert "--scales up to 204" in reason
    again = tiny(view="dense", scales=(64, 204)).extract(photos, tmp_path / "t.h5")
    assert again.failed == 0


def test_a_dense_store_is_resumed_and_queried_by_its_own_values(photos, tmp_path):
    made = tiny("conv5_3:max,relu7", **DENSE, combine="stack")
    made.extract(photos, tmp_path / "s.h5")
    with FeatureStore(tmp_path / "s.h5") as store:
        assert store["relu7"].shape == (12, 3 * 1024)
        like = FeatureExtractor.like(store.provenance, device="cpu")
        assert like.config == made.config
        query = like(photos / store.paths[5])
        assert error(query["relu7"][0], store["relu7"][5]) < 1e-6
    assert made.extract(photos, tmp_path / "s.h5").tried == 0
    for field, value in (("scales", (64, 90)), ("flip", False), ("combine", "mean")):
        other = tiny("conv5_3:max,relu7", **{**DENSE, "combine": "stack", field: value})
        with pytest.raises(StoreMismatchError, match=field):
            other.extract(photos, tmp_path / "s.h5")


def test_stores_made_before_there_was_combine_are_read_and_resumed(photos, tmp_path):
    extractor = tiny("pool1")
    extractor.extract(photos, tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        told = json.loads(file.attrs["provenance"])
        assert told["deciding"].pop("combine") == "mean"
        text = json.dumps(told).encode()
        file.attrs["provenance"] = np.array(text, dtype=h5py.string_dtype("utf-8", len(text)))
    draw(80, 90).save(photos / "cat" / "new.jpg")
    summary = extractor.extract(photos, tmp_path / "s.h5")
    assert (summary.added, summary.computed, summary.done) == (1, 1, 13)
    with pytest.raises(StoreMismatchError, match="flip"):
        tiny("pool1", flip=True).extract(photos, tmp_path / "s.h5")
    with pytest.raises(ValueError, match="unknown"):
        FeatureConfig.from_json({**told["deciding"], "tiles": 3})


def test_the_command_makes_what_the_extractor_makes(photos, tmp_path):
    def cli(*args: object) -> subprocess.CompletedProcess[str]:
        fast = ["--model", "vgg16-tiny", "--weights", "random:0", "--device", "cpu"]
        return commands.cli("extract", photos, *args, *fast)

    for path in sorted(photos.rglob("*.jpg"))[3:]:
        path.unlink()
    options = ["--view", "dense", "--scales", "64,90", "--flip", "--combine", "stack"]
    done = cli(tmp_path / "s.h5", *options, "--layers", "conv5_3,relu7")
    assert done.returncode == 0, done.stderr
    paths = sorted(photos.rglob("*.jpg"))
    expected = tiny(view="dense", scales="64,90", flip=True, combine="stack")(paths)
    with FeatureStore(tmp_path / "s.h5") as store:
        told = store.provenance.config
        assert (told.view, told.scales, told.flip, told.combine) == (
            "dense",
            (64, 90),
            True,
            "stack",
        )
        for name in store.layers:
            assert error(store[name][:], expected[name]) < 1e-6
    for wrong, message in (
        (["--scales", "64,90"], "for --view dense only, not center"),
        (["--view", "dense", "--scales", "64,x"], "Scale 'x' for vgg16-tiny"),
        (["--view", "dense", "--layers", "pool5:none"], "pool5 as a whole map"),
        (["--view", "tencrop", "--flip"], "mirror images already"),
    ):
        failed = cli(tmp_path / "t.h5", *wrong)
        assert failed.returncode == 1
        assert message in failed.stderr
        assert len(failed.stderr.splitlines()) == 1
        assert not (tmp_path / "t.h5").exists()


def test_a_transformer_takes_dense_views_too():
    images = [draw(80, 90, seed) for seed in range(2)]
    transformer = VGGFeatures(
        "relu7", model="vgg16-tiny", weights="random:0", device="cpu", combine="stack", **DENSE
    )
    rows = transformer.fit_transform(images)
    assert rows.shape == (2, transformer.n_features_out_) == (2, 3 * 1024)
    assert np.array_equal(rows, tiny("relu7", combine="stack", **DENSE)(images)["relu7"])


def test_multiplications_are_counted_from_the_table():
    vgg16 = architecture("vgg16")
    assert vgg16.multiply_adds("fc8") == pytest.approx(15.47e9, rel=1e-3)
    assert vgg16.multiply_adds("fc8", dense=True) == vgg16.multiply_adds("fc8")
    layer = tiny().network.modules["fc6"]
    table = architecture("vgg16-tiny")
    # 200 x 131 pixels become 6 x 4 after five poolings, which have 5 x 3 windows of 2 x 2
    assert table.multiply_adds("fc6", 200, 131, dense=True) - table.multiply_adds(
        "pool5", 200, 131
    ) == (5 * 3 * layer.weight.numel())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_gives_the_cpus_dense_numbers():
    images = [draw(70, 99), draw(99, 70, 1), draw(70, 99, 2)]
    cpu, gpu = (tiny(**DENSE, device=device)(images) for device in ("cpu", "cuda"))
    for name, rows in cpu.items():
        assert error(gpu[name], rows) < 1e-5


def test_a_folder_of_dense_images_keeps_its_order(tmp_path: Path):
    sizes = [(70, 99), (99, 70), (64, 64), (70, 99), (64, 200), (99, 70), (64, 64)]
    (tmp_path / "photos").mkdir()
    for number, size in enumerate(sizes):
        draw(*size, number).save(tmp_path / "photos" / f"{number}.png")
    extractor = tiny("relu7", **DENSE, batch_size=3)
    extractor.extract(tmp_path / "photos", tmp_path / "s.h5")
    with FeatureStore(tmp_path / "s.h5") as store:
        for number, path in enumerate(store.paths):
            alone = extractor(tmp_path / "photos" / path)["relu7"][0]
            assert error(store["relu7"][number], alone) < 1e-6
