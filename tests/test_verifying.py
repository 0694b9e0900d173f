"""Copies are told from what merely looks alike, by their pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_images

from vggfeat.duplicates.aligning import Picture
from vggfeat.duplicates.verifying import compared


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(load_sample_images().images[0]).crop((100, 40, 520, 360))


def saved(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


COPIES = {
    "saved again": (lambda image: saved(image, 60), ""),
    "half": (lambda image: image.resize((210, 160), Image.Resampling.LANCZOS), ""),
    "stretched": (lambda image: image.resize((420, 280), Image.Resampling.BICUBIC), ""),
    "cropped": (lambda image: image.crop((12, 9, 410, 311)), ""),
    "half of it": (lambda image: image.crop((120, 60, 420, 300)), ""),
    "mirrored": (ImageOps.mirror, "mirrored"),
    "turned": (lambda image: image.transpose(Image.Transpose.ROTATE_90), "turned by 270°"),
    "lighter": (lambda image: ImageEnhance.Brightness(image).enhance(1.3), ""),
    "less contrast": (lambda image: ImageEnhance.Contrast(image).enhance(0.7), ""),
    "bordered": (lambda image: ImageOps.expand(image, 25, (10, 10, 10)), ""),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_of_each_kind_are_verified(photo, kind):
    change, turn = COPIES[kind]
    found = compared(Picture(photo), Picture(saved(change(photo), 90)))
    assert found.outcome == "copy"
    assert found.placing.turn == turn


def test_it_is_told_what_a_copy_leaves_out_and_how_large_it_is(photo):
    crop = photo.crop((42, 0, 420, 320)).resize((189, 160), Image.Resampling.LANCZOS)
    found = compared(Picture(photo), Picture(crop))
    assert found.outcome == "copy"
    assert found.finer == pytest.approx(0.5, abs=0.01)
    assert found.beyond[0].share == pytest.approx(0.1, abs=0.01)
    assert found.beyond[0].more
    assert not found.beyond[1].more
    assert found.placing.first[0, 0] == pytest.approx(0.1, abs=0.01)


def _patched(image: Image.Image) -> Image.Image:
    changed = image.copy()
    changed.paste(image.crop((10, 10, 50, 45)), (200, 150))
    return changed


def _shifted(image: Image.Image) -> Image.Image:
    """Move what is in the middle, as a hand in the next frame of a burst."""
    changed = image.copy()
    changed.paste(image.crop((150, 100, 270, 220)), (156, 104))
    return changed


ALIKE = {
    "retouched": _patched,
    "next frame": _shifted,
    "one colour": lambda image: Image.merge(
        "RGB", (image.split()[0], image.split()[1], image.split()[2].point(lambda v: 255 - v))
    ),
    "inverted": ImageOps.invert,
}


@pytest.mark.parametrize("kind", ALIKE)
def test_what_is_alike_but_differs_somewhere_is_no_copy(photo, kind):
    found = compared(Picture(photo), Picture(saved(ALIKE[kind](photo), 90)))
    assert found.outcome != "copy"


def test_what_differs_is_found(photo):
    found = compared(Picture(photo), Picture(_patched(photo)))
    left, upper, right, lower = found.where
    assert 190 / 420 < left < right < 250 / 420
    assert 140 / 320 < upper < lower < 195 / 320


def test_other_photos_are_different(photo):
    other = Image.fromarray(load_sample_images().images[1]).crop((100, 40, 520, 360))
    assert compared(Picture(photo), Picture(other)).outcome == "different"


@pytest.mark.parametrize("size", [(300, 200), (8, 8), (1, 1)])
def test_pictures_that_show_nothing_are_never_verified(size):
    blank = Picture(Image.new("RGB", size, (250, 250, 250)))
    other = Picture(Image.new("RGB", size, (30, 30, 30)))
    assert compared(blank, blank).outcome == "unsure"
    assert compared(blank, other).outcome == "unsure"


def test_noise_of_any_size_is_compared_without_failing():
    rng = np.random.default_rng(0)
    sizes = [(1, 400), (400, 1), (3, 5), (30, 20), (25, 800), (70, 70)]
    pictures = [
        Picture(Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8))) for size in sizes
    ]
    for number, one in enumerate(pictures):
        for other in pictures[number + 1 :]:
            assert compared(one, other).outcome != "copy"
