"""Views are torchvision's own transforms, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.models import VGG16_Weights

from vggfeat.preprocessing import TORCHVISION
from vggfeat.views import network_input


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A real-looking image: smooth shapes and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 9 + c) + np.cos(y / (7 + c)) for c in range(3)], axis=-1)
    noise = rng.normal(scale=0.3, size=(height, width, 3))
    return Image.fromarray(np.uint8(np.clip((waves + noise) * 50 + 128, 0, 255)))


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
    ours = torch.from_numpy(network_input(image, "center", TORCHVISION).copy()).permute(2, 0, 1)
    mean = torch.tensor(TORCHVISION.mean).view(3, 1, 1)
    std = torch.tensor(TORCHVISION.std).view(3, 1, 1)
    assert torch.equal((ours / 255 - mean) / std, theirs)


def test_an_extreme_ribbon_costs_little_memory_and_agrees_with_torchvision():
    import tracemalloc

    image = picture(400, 2)  # resized: 51,200 x 256
    assert network_input(image, "center", TORCHVISION).shape == (224, 224, 3)
    ribbon = picture(2600, 2)  # resized: 332,800 x 256, 85 megapixels
    tracemalloc.start()
    ours = network_input(ribbon, "center", TORCHVISION)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    middle = ribbon.resize((332_800, 256), Image.Resampling.BILINEAR).crop(
        ((332_800 - 224) // 2, 16, (332_800 + 224) // 2, 240)
    )
    assert np.abs(ours.astype(int) - np.asarray(middle).astype(int)).max() <= 1


def test_squash_view_shows_the_whole_image():
    image = Image.new("RGB", (600, 200))
    image.paste((255, 0, 0), (0, 0, 60, 200))
    image.paste((0, 0, 255), (540, 0, 600, 200))
    seen = network_input(image, "squash", TORCHVISION)
    assert seen.shape == (224, 224, 3)
    assert tuple(seen[100, 2]) == (255, 0, 0)
    assert tuple(seen[100, -3]) == (0, 0, 255)
    cropped = network_input(image, "center", TORCHVISION)
    assert cropped.max() == 0


@pytest.mark.parametrize("view", ["center", "squash"])
def test_an_image_of_the_input_size_is_left_alone_by_squash(view):
    image = picture(224, 224)
    seen = network_input(image, view, TORCHVISION)
    assert (view == "squash") == np.array_equal(seen, np.asarray(image))
