"""Views are torchvision's own transforms, to the last bit, and say what does not go together."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import peak_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.models import VGG16_Weights

from vggfeat.errors import ImageError, LayerError
from vggfeat.layers import architecture
from vggfeat.preprocessing import TORCHVISION
from vggfeat.views import View, parse_view
from vggfeat.views.cutting import DENSE_PIXELS, resized_size

PAGE = 4096
"""Least size of the blocks in which Pillow allocates images, by which they can be counted."""

OBJECTS = 1 << 16
"""Bytes that Python's own objects may take beside pixels; the parts in which Pillow gives them."""


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A real-looking image: smooth shapes and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 9 + c) + np.cos(y / (7 + c)) for c in range(3)], axis=-1)
    noise = rng.normal(scale=0.3, size=(height, width, 3))
    return Image.fromarray(np.uint8(np.clip((waves + noise) * 50 + 128, 0, 255)))


def only_input(image: Image.Image, view: str) -> np.ndarray:
    (pixels,) = View(view).inputs(image, TORCHVISION)
    return pixels


def test_preprocessing_is_what_torchvision_says_of_its_weights():
    theirs = VGG16_Weights.IMAGENET1K_V1.transforms()
    assert theirs.crop_size == [TORCHVISION.crop]
    assert theirs.resize_size == [TORCHVISION.resize]
    assert tuple(theirs.mean) == TORCHVISION.mean
    assert tuple(theirs.std) == TORCHVISION.std
    assert theirs.interpolation.value == TORCHVISION.interpolation


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900))
def test_center_view_equals_torchvisions_transforms_exactly(width, height):
    image = picture(width, height)
    theirs = VGG16_Weights.IMAGENET1K_V1.transforms()(image)
    ours = torch.from_numpy(only_input(image, "center").copy()).permute(2, 0, 1)
    mean = torch.tensor(TORCHVISION.mean).view(3, 1, 1)
    std = torch.tensor(TORCHVISION.std).view(3, 1, 1)
    assert torch.equal((ours / 255 - mean) / std, theirs)


def test_an_extreme_ribbon_costs_little_memory_and_agrees_with_torchvision():
    image = picture(400, 2)  # resized: 51,200 x 256
    assert only_input(image, "center").shape == (224, 224, 3)
    ribbon = picture(2600, 2)  # resized: 332,800 x 256, 85 megapixels
    size = Image.core.get_block_size()
    Image.core.set_block_size(PAGE)
    try:
        before = Image.core.get_stats()["allocated_blocks"]
        ours, arrays = peak_bytes(lambda: only_input(ribbon, "center"))
        blocks = Image.core.get_stats()["allocated_blocks"] - before
    finally:
        Image.core.set_block_size(size)
    # As `center` promises: of four bytes a pixel, the crop and the ribbon's rows, resized in width.
    each = PAGE // (4 * 224)  # rows in a block
    assert 224 // each <= blocks <= math.ceil(224 / each) + math.ceil(ribbon.height / each)
    assert arrays <= 2 * ours.nbytes + OBJECTS  # Pillow gives the pixels in parts, and joins them
    middle = ribbon.resize((332_800, 256), Image.Resampling.BILINEAR).crop(
        ((332_800 - 224) // 2, 16, (332_800 + 224) // 2, 240)
    )
    assert np.abs(ours.astype(int) - np.asarray(middle).astype(int)).max() <= 1


def test_squash_view_shows_the_whole_image():
    image = Image.new("RGB", (600, 200))
    image.paste((255, 0, 0), (0, 0, 60, 200))
    image.paste((0, 0, 255), (540, 0, 600, 200))
    seen = only_input(image, "squash")
    assert seen.shape == (224, 224, 3)
    assert tuple(seen[100, 2]) == (255, 0, 0)
    assert tuple(seen[100, -3]) == (0, 0, 255)
    cropped = only_input(image, "center")
    assert cropped.max() == 0


@pytest.mark.parametrize("view", ["center", "squash"])
def test_an_image_of_the_input_size_is_left_alone_by_squash(view):
    image = picture(224, 224)
    seen = only_input(image, view)
    assert (view == "squash") == np.array_equal(seen, np.asarray(image))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700))
def test_tencrop_equals_torchvisions_ten_crops_exactly(width, height):
    image = picture(width, height)
    theirs = transforms.TenCrop(224)(transforms.Resize(256)(image))
    ours = View("tencrop").inputs(image, TORCHVISION)
    assert len(ours) == View("tencrop").count == 10
    for mine, other in zip(ours, theirs, strict=True):
        assert np.array_equal(mine, np.asarray(other))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([224, 256, 311]))
def test_dense_inputs_are_torchvisions_resize_at_every_scale(width, height, side):
    image = picture(width, height)
    view = View("dense", scales=(side, 384))
    if max(width, height) * 384**2 > DENSE_PIXELS * min(width, height):
        with pytest.raises(ImageError, match=r"Give --(scales up to|view center)"):
            view.inputs(image, TORCHVISION)
        return
    for scale, mine in zip((side, 384), view.inputs(image, TORCHVISION), strict=True):
        assert np.array_equal(mine, np.asarray(transforms.Resize(scale)(image)))


@pytest.mark.parametrize("size", [(6000, 300), (300, 9000)])
def test_an_image_too_long_is_refused_with_the_largest_scale_that_helps(size):
    image = Image.new("RGB", size)
    with pytest.raises(ImageError, match=r"scale 512 .*above 4194304 pixels.*up to \d+") as error:
        View("dense", scales=(224, 512)).inputs(image, TORCHVISION)
    assert len(str(error.value)) < 200, "it must fit a store's row"
    most = int(str(error.value).partition("up to ")[2].split(",")[0])
    width, height = resized_size(size, most)
    assert width * height <= DENSE_PIXELS
    assert np.prod(resized_size(size, most + 1)) > DENSE_PIXELS
    View("dense", scales=(most,)).inputs(image, TORCHVISION)


def test_a_ribbon_that_no_scale_fits_is_sent_to_another_view_at_once():
    with pytest.raises(ImageError, match=r"activations\). Give --view center\.$"):
        View("dense").inputs(Image.new("RGB", (60_000, 2)), TORCHVISION)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (("mosaic", (), False, "mean"), "Known views: center, squash, tencrop, dense"),
        (("center", (256, 384), False, "mean"), "Scales 256, 384: for --view dense only"),
        (("tencrop", (), False, "stack"), "Combine 'stack': for --view dense only, not tencrop"),
        (("tencrop", (), True, "mean"), "has the mirror images already"),
        (("dense", (223,), False, "mean"), "Scale '223' for vgg16: .* from 224, .* to 2048"),
        (("dense", "256,4000", False, "mean"), "Scale '4000'"),
        (("dense", "256,big", False, "mean"), "Scale 'big'"),
        (("dense", "256,-384", False, "mean"), "Scale '-384'"),
        (("dense", (256, 384, 256), False, "mean"), "Scale 256 is given twice"),
        (("dense", (), False, "sum"), "Known are mean, stack"),
    ],
)
def test_what_does_not_go_together_is_refused_with_a_reason(view, message):
    with pytest.raises(LayerError, match=message):
        parse_view(*view, architecture("vgg16"))


def test_scales_may_be_written_or_given_as_numbers():
    vgg16, tiny = architecture("vgg16"), architecture("vgg16-tiny")
    assert parse_view("dense", " 256, 384,", False, "mean", vgg16).scales == (256, 384)
    assert parse_view("dense", np.array([512, 256]), True, "stack", vgg16).scales == (512, 256)
    assert parse_view("dense", (64,), False, "mean", tiny).scales == (64,), "its input is 64"


def test_features_of_inputs_are_put_together_scale_by_scale():
    rows = torch.arange(2 * 3 * 2 * 4, dtype=torch.float32).reshape(12, 4)
    apart = rows.reshape(2, 3, 2, 4).numpy()  # image, scale, mirror image, feature
    mean, stack = (View("dense", (256, 384, 512), True, how) for how in ("mean", "stack"))
    np.testing.assert_allclose(mean.combined(rows), apart.mean((1, 2)))
    np.testing.assert_allclose(stack.combined(rows), apart.mean(2).reshape(2, 12))
    assert stack.shape("relu7", (4,)) == (12,)
    assert mean.shape("relu7", (4,)) == (4,)
