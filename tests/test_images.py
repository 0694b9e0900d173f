from __future__ import annotations

import io
import os
import random
import struct
import threading
import time
import warnings
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conftest import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from vggfeat import decoding
from vggfeat.errors import ImageError
from vggfeat.images import as_image, decode, decoded, to_rgb

if TYPE_CHECKING:
    from pathlib import Path

PHOTO = draw(60, 40)


def encoded(image: Image.Image, kind: str, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width // 8 + 2) * min(height, 100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows)


def pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def close(image: Image.Image, expected: Any, tolerance: int = 1) -> bool:
    return bool(np.abs(pixels(image) - np.asarray(expected)).max() <= tolerance)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}])
def test_a_jpeg_has_exactly_pillows_own_numbers(mode: str, options: dict[str, Any]) -> None:
    file = encoded(PHOTO.convert(mode), "JPEG", **options)
    expected = np.asarray(Image.open(file).convert("RGB"))
    assert np.array_equal(np.asarray(decode(file)), expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(orientation: int, kind: str) -> None:
    file = encoded(PHOTO, kind, exif=oriented(orientation))
    expected = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    result = decode(file)
    assert result.size == ((60, 40) if orientation < 5 else (40, 60))
    assert np.array_equal(np.asarray(result), np.asarray(expected))


def test_an_image_is_turned_once_however_often_it_passes() -> None:
    file = encoded(PHOTO, "JPEG", exif=oriented(6))
    once = decode(file)
    assert np.array_equal(np.asarray(as_image(once)), np.asarray(once))
    assert np.array_equal(np.asarray(as_image(Image.open(file))), np.asarray(once))


def test_broken_exif_does_not_spoil_the_image() -> None:
    file = encoded(PHOTO, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f broken")
    assert decode(file).size == (60, 40)


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for name in ("grey.png", "grey.tif"):
        Image.fromarray(values).save(tmp_path / name)
        expected = np.rint(values / 257)[:, :, None].repeat(3, axis=2)
        assert np.array_equal(pixels(decode(tmp_path / name)), expected)


def test_a_transparent_sixteen_bit_grey_value_becomes_white() -> None:
    values = np.array([[0, 1000], [1000, 65535]], dtype=np.uint16)
    result = pixels(decode(encoded(Image.fromarray(values), "PNG", transparency=1000)))
    assert result[:, :, 0].tolist() == [[0, 255], [255, 255]]


def test_wide_grey_in_a_known_range_is_read_and_any_other_refused() -> None:
    def grey(values: list[float], dtype: str) -> Image.Image:
        return Image.fromarray(np.array([values], dtype=dtype))

    def row(image: Image.Image) -> list[int]:
        return [int(v) for v in pixels(to_rgb(image))[0, :, 0]]

    assert row(grey([0, 257, 65535], "int32")) == [0, 1, 255]
    assert row(grey([0, 0.5, 1], "float32")) == [0, 128, 255]
    assert row(grey([0, 0.6, 255], "float32")) == [0, 1, 255]
    for values, dtype in [
        ([-1, 5], "int32"), ([0, 65536], "int32"), ([0, 256], "float32"), ([-0.1, 1], "float32"),
    ]:  # fmt: skip
        with pytest.raises(ImageError, match=r"allowed are 0\.\."):
            to_rgb(grey(values, dtype))
    with pytest.raises(ImageError, match="NaN"):
        to_rgb(grey([0, float("nan")], "float32"))


def test_transparency_is_laid_over_white() -> None:
    rgba = PHOTO.copy()
    alpha = np.linspace(0, 255, 60, dtype=np.uint8)[None].repeat(40, axis=0)
    rgba.putalpha(Image.fromarray(alpha))
    weight = alpha[:, :, None] / 255
    expected = np.asarray(PHOTO) * weight + 255 * (1 - weight)
    for image in (rgba, rgba.convert("RGBa")):
        assert close(to_rgb(image), expected, tolerance=2 if image.mode == "RGBa" else 1)
    assert close(decode(encoded(rgba, "PNG")), expected)
    grey = np.asarray(PHOTO.convert("L"))[:, :, None] * weight + 255 * (1 - weight)
    assert close(to_rgb(rgba.convert("LA")), grey.repeat(3, axis=2))
    to_rgb(rgba.convert("LA").convert("La"))


def test_palettes_and_their_transparent_entries_are_resolved() -> None:
    palette = PHOTO.quantize(16)
    assert np.array_equal(pixels(decode(encoded(palette, "PNG"))), pixels(palette.convert("RGB")))
    clear = np.asarray(palette) == 3
    for kind, transparency in [("PNG", 3), ("PNG", bytes([255] * 3 + [0])), ("GIF", 3)]:
        result = pixels(decode(encoded(palette, kind, transparency=transparency)))
        assert (result[clear] == 255).all()
        assert np.array_equal(result[~clear], pixels(palette.convert("RGB"))[~clear])
    assert to_rgb(palette.convert("PA")).mode == "RGB"


def test_a_transparent_colour_of_grey_and_rgb_pngs_becomes_white() -> None:
    image = Image.new("RGB", (2, 1), (10, 20, 30))
    image.putpixel((1, 0), (1, 2, 3))
    result = pixels(decode(encoded(image, "PNG", transparency=(1, 2, 3))))
    assert result.tolist() == [[[10, 20, 30], [255, 255, 255]]]
    grey = pixels(decode(encoded(Image.new("L", (1, 1), 7), "PNG", transparency=7)))
    assert grey.tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("mode", ["1", "CMYK", "YCbCr", "HSV", "LAB", "RGBX"])
def test_other_modes_go_through_pillows_conversion(mode: str) -> None:
    image = PHOTO.convert("RGB" if mode == "RGBX" else mode)
    if mode == "RGBX":
        image = image.convert("RGBX")
    assert np.array_equal(pixels(to_rgb(image)), pixels(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    first, second = (Image.new("RGB", (20, 20), c) for c in ("red", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    file = encoded(first, kind, save_all=True, append_images=[second], **options)
    assert close(decode(file), [255, 0, 0])


def test_large_images_are_converted_in_strips_without_seams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grey = Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60) * 27)
    rgba = PHOTO.copy()
    rgba.putalpha(PHOTO.convert("L"))
    whole = [pixels(to_rgb(image)) for image in (grey, rgba)]
    monkeypatch.setattr("vggfeat.rgb._STRIP_PIXELS", 7 * 60)
    for image, expected in zip((grey, rgba), whole, strict=True):
        assert np.array_equal(pixels(to_rgb(image)), expected)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"I am a text, whatever my name says.\n" * 9, "not an image that Pillow can read"),
        (bytes(5000), "not an image that Pillow can read"),
        (encoded(PHOTO, "JPEG").getvalue()[:-300], "truncated JPEG file"),
        (encoded(PHOTO, "PNG").getvalue()[:-900], "truncated PNG file"),
        (encoded(PHOTO, "PNG").getvalue()[:20], "truncated PNG file"),
        (encoded(PHOTO, "PNG").getvalue().replace(b"IHDR", b"IHDX"), "damaged PNG file"),
        (
            b"\0\0\0\x18ftypheic" + bytes(100),
            "HEIC file, which Pillow does|damaged HEIC file",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    for file in (tmp_path / "a.jpg", str(tmp_path / "a.jpg"), io.BytesIO(data)):
        with pytest.raises(ImageError, match=reason):
            decode(file)


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    def head(width: int, height: int) -> io.BytesIO:
        """Return a PNG that ends where its pixels would begin."""
        data = png(width, height)
        return io.BytesIO(data[: data.index(b"IDAT") + 4])

    with pytest.raises(ImageError, match=r"2,500,000,000 pixels, where the limit is 178,956,970"):
        decode(head(50_000, 50_000))
    with pytest.raises(ImageError, match=r"9000 x 12000 pixels, where the limit is 50,000,000"):
        decode(head(9000, 12_000), max_pixels=50_000_000)


def test_formats_that_run_programs_are_never_opened() -> None:
    with pytest.raises(ImageError, match="PostScript document, not an image"):
        decode(encoded(PHOTO, "EPS"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_fifo_fails_at_once_instead_of_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="not a file but a FIFO"):
        decode(tmp_path / "pipe.jpg")


def test_missing_files_folders_and_odd_paths_have_reasons(tmp_path: Path) -> None:
    for path, reason in [
        (tmp_path / "none.jpg", "no such file"),
        (tmp_path, "not a file but a folder"),
        ("nul\0.jpg", "null"),
    ]:
        with pytest.raises(ImageError, match=reason):
            decode(path)


def test_an_unseekable_file_is_decoded_too() -> None:
    reader, writer = os.pipe()
    data = encoded(PHOTO, "PNG").getvalue()
    thread = threading.Thread(target=lambda: (os.write(writer, data), os.close(writer)))
    thread.start()
    with os.fdopen(reader, "rb") as file:
        assert np.array_equal(pixels(decode(file)), pixels(PHOTO))
    thread.join()


SAMPLES = [
    encoded(PHOTO, "JPEG", exif=oriented(6)).getvalue(),
    encoded(PHOTO.convert("CMYK"), "JPEG").getvalue(),
    encoded(PHOTO.convert("RGBA"), "PNG").getvalue(),
    encoded(PHOTO.quantize(16), "PNG", transparency=2).getvalue(),
    encoded(Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30)), "PNG").getvalue(),
    encoded(PHOTO.quantize(9), "GIF", save_all=True, append_images=[PHOTO]).getvalue(),
    encoded(PHOTO, "WEBP").getvalue(),
    encoded(PHOTO, "TIFF").getvalue(),
    encoded(PHOTO, "BMP").getvalue(),
    encoded(PHOTO, "PPM").getvalue(),
    encoded(PHOTO, "ICO").getvalue(),
    encoded(PHOTO, "TGA").getvalue(),
]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(SAMPLES), st.integers(0, 2**32))
def test_damage_of_any_kind_gives_an_image_or_one_printable_line(data: bytes, seed: int) -> None:
    rng = random.Random(seed)
    damaged = bytearray(data)
    if rng.random() < 0.4:
        del damaged[rng.randrange(len(damaged)) :]
    for _ in range(rng.choice([0, 1, 3, 20]) if damaged else 0):
        reach = rng.choice([min(120, len(damaged)), len(damaged)])
        damaged[rng.randrange(reach)] = rng.choice([0, 255, rng.randrange(256)])
    try:
        assert decode(io.BytesIO(damaged), max_pixels=1_000_000).mode == "RGB"
    except ImageError as error:
        reason = str(error)
    else:
        reason = ""
    assert reason.isascii()
    assert reason.isprintable()
    assert len(reason) <= 200


def test_pillows_warnings_stay_off_the_terminal_and_never_fail_an_image() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03\0\0\0\x01\0\x06"  # cut short
    file = encoded(PHOTO, "JPEG", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="EXIF"):
            Image.open(file).getexif()
        assert decode(file).size == (60, 40)


def test_huge_images_are_decoded_one_at_a_time_and_small_ones_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoding, "HUGE_PIXELS", 1000)
    huge, small = (encoded(draw(side, side), "PNG").getvalue() for side in (50, 20))
    at_work, most = 0, 0
    counting = threading.Lock()

    def work() -> None:
        nonlocal at_work, most
        with decoded(io.BytesIO(huge)):
            with counting:
                at_work += 1
                most = max(most, at_work)
            decode(io.BytesIO(small))
            time.sleep(0.01)
            with counting:
                at_work -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_huge_image_that_fails_lets_the_next_one_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "HUGE_PIXELS", 1000)
    data = encoded(PHOTO, "JPEG").getvalue()
    for _ in range(2):
        with pytest.raises(ImageError, match="truncated"):
            decode(io.BytesIO(data[:-300]))
        assert decode(io.BytesIO(data)).size == (60, 40)


def test_an_error_of_the_users_own_block_is_not_taken_for_a_bad_image() -> None:
    with pytest.raises(ZeroDivisionError), decoded(encoded(PHOTO, "PNG")):
        _ = 1 / 0


def test_arrays_and_tensors_of_every_allowed_shape_become_rgb() -> None:
    import torch

    array = np.asarray(PHOTO)
    rgba = np.dstack([array, np.full((40, 60), 255, np.uint8)])
    for value in (
        array, rgba, np.asfortranarray(array), array[:, ::-1][:, ::-1],
        torch.from_numpy(array.copy()).permute(2, 0, 1),
    ):  # fmt: skip
        assert np.array_equal(pixels(as_image(value)), array)
    grey = array[:, :, 0]
    for value in (grey, grey[:, :, None], torch.from_numpy(grey.copy())[None]):
        assert np.array_equal(pixels(as_image(value))[:, :, 2], grey)
    assert (pixels(as_image(np.zeros((2, 2, 4), np.uint8))) == 255).all()


def test_paths_files_and_pil_images_are_images(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "a.png")
    for value in (tmp_path / "a.png", str(tmp_path / "a.png"), encoded(PHOTO, "PNG"), PHOTO):
        assert np.array_equal(pixels(as_image(value)), pixels(PHOTO))


@pytest.mark.parametrize(
    ("value", "got", "remedy"),
    [
        (np.zeros((4, 4, 3)), "array of float64", "uint8"),
        (np.zeros((4, 4), bool), "array of bool", "0..255"),
        (np.zeros((4, 4), np.uint16), "array of uint16", "0..255"),
        (np.zeros((3, 4, 5), np.uint8), r"\(3, 4, 5\)", "transpose"),
        (np.zeros((4,), np.uint8), r"\(4,\)", r"\(H, W\)"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)", "no pixels"),
        (b"bytes", "Got bytes", "binary file"),
        (None, "Got NoneType", "a path"),
    ],
)
def test_what_is_no_image_is_refused_with_what_would_be(value: Any, got: str, remedy: str) -> None:
    with pytest.raises(ImageError, match=f"{got}(.|\n)*{remedy}"):
        as_image(value)


def test_tensors_of_other_types_and_shapes_are_refused_with_a_remedy() -> None:
    import torch

    for tensor, message in [
        (torch.zeros(3, 4, 4), r"torch\.float32.*torch\.uint8"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), r"\(4, 4, 3\).*permute"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), r"\(2, 3, 4, 4\).*list"),
        (torch.zeros(3, 0, 4, dtype=torch.uint8), "no pixels"),
    ]:
        with pytest.raises(ImageError, match=message):
            as_image(tensor)


def test_a_pil_image_that_fails_when_it_is_loaded_has_a_reason() -> None:
    data = encoded(PHOTO, "JPEG").getvalue()[:-300]
    with pytest.raises(ImageError, match="truncated"):
        as_image(Image.open(io.BytesIO(data)))
