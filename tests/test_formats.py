"""Kinds of images beyond what Pillow reads, and what Pillow alone reads wrongly."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import draw
from PIL import Image
from tiff_writer import dng, packed, tiff

from vggfeat.errors import ImageError
from vggfeat.extract import FeatureExtractor
from vggfeat.images import decode, size_of
from vggfeat.report.thumbnails import shrunk
from vggfeat.sources import open_source

Y, X = np.mgrid[0:20, 0:30]
GREY = (X + Y) / 48  # 0..1, shape (20, 30)
RGB = np.stack([GREY, 1 - GREY, X / 29], -1)
PLANES = np.moveaxis(RGB, 2, 0)
ALPHA = Y / 19
OVER_WHITE = RGB * ALPHA[..., None] + 1 - ALPHA[..., None]
RAMP = tuple(range(256))
PALETTE = (*(257 * n for n in RAMP), *(257 * n for n in RAMP[::-1]), *(257 * 128 for _ in RAMP))
EXTRA = "pip install 'vggfeat\\[formats\\]'"

without_the_extra = pytest.fixture(
    lambda monkeypatch: [
        monkeypatch.setitem(sys.modules, name, None)
        for name in ("pillow_heif", "tifffile", "imagecodecs", "rawpy")
    ]
)


def levels(values: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    return np.rint(values * ((1 << bits) - 1)).astype(np.uint64)


def raw(values: np.ndarray[Any, Any], kind: str) -> bytes:
    return values.astype(kind).tobytes()


def grey(data: bytes, bits: int, **options: Any) -> bytes:
    return tiff(data, 30, 20, (bits,), **options)


def decoded(data: bytes, **options: Any) -> np.ndarray[Any, Any]:
    return np.asarray(decode(io.BytesIO(data), **options)).astype(int)


def eight(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return what values in 0..1 should become, with three channels."""
    found = np.rint(255 * values).astype(int)
    return found if found.ndim == 3 else found[..., None].repeat(3, -1)


PILLOWS: dict[str, tuple[bytes, np.ndarray[Any, Any], int]] = {
    # name: file, right values in 0..1, allowed error in levels of 255
    "16 bits": (grey(raw(levels(GREY, 16), "<u2"), 16), GREY, 0),
    "16 bits, big-endian": (grey(raw(levels(GREY, 16), ">u2"), 16, order=">"), GREY, 0),
    "16 bits, 0 is white": (grey(raw(levels(1 - GREY, 16), "<u2"), 16, photometric=0), GREY, 1),
    "8 bits, 0 is white": (grey(raw(levels(1 - GREY, 8), "u1"), 8, photometric=0), GREY, 1),
    "12 bits, packed": (grey(packed(levels(GREY, 12), 12), 12), GREY, 1),
    "32 bits, small": (grey(raw(levels(GREY, 16), "<u4"), 32), GREY, 0),
    "32 bits, signed, small": (grey(raw(levels(GREY, 16), "<i4"), 32, kind=2), GREY, 0),
    "8-bit palette": (
        grey(raw(levels(GREY, 8), "u1"), 8, photometric=3, more={320: ("H", PALETTE)}),
        np.dstack([levels(GREY, 8), 255 - levels(GREY, 8), np.full_like(GREY, 128)]) / 255, 0,
    ),
    "8-bit RGBA": (
        tiff(
            raw(levels(np.dstack([RGB, ALPHA]), 8), "u1"), 30, 20, (8,) * 4, photometric=2,
            more={338: ("H", (2,))},
        ),
        OVER_WHITE, 1,
    ),
    "16-bit RGBA, premultiplied": (
        tiff(
            raw(levels(np.dstack([RGB * ALPHA[..., None], ALPHA]), 16), "<u2"), 30, 20, (16,) * 4,
            photometric=2, more={338: ("H", (1,))},
        ),
        OVER_WHITE, 3,
    ),
    "16-bit CMYK": (
        tiff(
            raw(levels(np.dstack([1 - RGB, GREY * 0]), 16), "<u2"), 30, 20, (16,) * 4, photometric=5
        ),
        RGB, 1,
    ),
    "float": (grey(raw(GREY, "<f4"), 32, kind=3), GREY, 0),
    "float, 0 is white": (grey(raw(1 - GREY, "<f4"), 32, kind=3, photometric=0), GREY, 1),
    "big file": (grey(raw(levels(GREY, 8), "u1"), 8, big=True), GREY, 0),
    "16-bit RGB": (tiff(raw(levels(RGB, 16), "<u2"), 30, 20, (16,) * 3, photometric=2), RGB, 1),
    "8-bit RGB, planar": (
        tiff(raw(levels(PLANES, 8), "u1"), 30, 20, (8,) * 3, photometric=2, planes=3), RGB, 0,
    ),
}  # fmt: skip

TIFFFILES: dict[str, tuple[bytes, np.ndarray[Any, Any], int]] = {
    "big-endian big file": (
        grey(raw(levels(GREY, 16), ">u2"), 16, order=">", big=True), GREY, 0,
    ),
    "64 bits": (grey(raw(levels(GREY, 16), "<u8"), 64), GREY, 0),
    "16-bit grey with alpha": (
        tiff(
            raw(levels(np.dstack([GREY, ALPHA]), 16), "<u2"), 30, 20, (16, 16),
            more={338: ("H", (2,))},
        ),
        GREY * ALPHA + 1 - ALPHA, 1,
    ),
    "16-bit RGBA, premultiplied, planar": (
        tiff(
            raw(levels(np.stack([*(PLANES * ALPHA), ALPHA]), 16), "<u2"), 30, 20, (16,) * 4,
            photometric=2, planes=4, more={338: ("H", (1,))},
        ),
        OVER_WHITE, 3,
    ),
    "half floats": (grey(raw(GREY, "<f2"), 16, kind=3), GREY, 1),
    "doubles": (grey(raw(GREY, "<f8"), 64, kind=3), GREY, 0),
    "float RGB": (
        tiff(raw(RGB, "<f4"), 30, 20, (32,) * 3, photometric=2, kind=3), RGB, 0,
    ),
    "16-bit RGB, planar": (
        tiff(raw(levels(PLANES, 16), "<u2"), 30, 20, (16,) * 3, photometric=2, planes=3), RGB, 1,
    ),
    "16-bit RGB, planar, on its side": (
        tiff(
            raw(levels(np.moveaxis(np.rot90(RGB), 2, 0), 16), "<u2"), 20, 30, (16,) * 3,
            photometric=2, planes=3, more={274: ("H", (6,))},
        ),
        RGB, 1,
    ),
    "32-bit RGB, small": (
        tiff(raw(levels(RGB, 16), "<u4"), 30, 20, (32,) * 3, photometric=2), RGB, 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PILLOWS)
@pytest.mark.usefixtures("without_the_extra")
def test_tiffs_that_pillow_reads_have_the_values_that_are_in_them(name: str) -> None:
    data, values, allowed = PILLOWS[name]
    assert np.abs(decoded(data) - eight(values)).max() <= allowed


@pytest.mark.parametrize("name", TIFFFILES)
def test_tiffs_that_pillow_does_not_read_are_read_by_the_extra(name: str) -> None:
    pytest.importorskip("tifffile", reason="of the extra formats")
    data, values, allowed = TIFFFILES[name]
    assert np.abs(decoded(data) - eight(values)).max() <= allowed
    assert size_of(io.BytesIO(data)) == (30, 20)


@pytest.mark.parametrize("name", TIFFFILES)
@pytest.mark.usefixtures("without_the_extra")
def test_a_sound_file_of_another_kind_is_not_called_damaged(name: str) -> None:
    with pytest.raises(ImageError, match=f"TIFF, which Pillow does not read: {EXTRA}"):
        decoded(TIFFFILES[name][0])


@pytest.mark.parametrize("name", ["lossless JPEG", "JPEG XL", "LZW", "10 bits", "14-bit RGB"])
def test_tiffs_with_other_codecs_are_read_by_the_extra(name: str) -> None:
    tifffile = pytest.importorskip("tifffile", reason="of the extra formats")
    pytest.importorskip("imagecodecs", reason="of the extra formats; 26 MB, so not in dev")
    options: dict[str, Any] = {
        "lossless JPEG": {"compression": "jpeg", "compressionargs": {"lossless": True}},
        "JPEG XL": {"compression": "jpegxl"},
        "LZW": {"compression": "lzw", "planarconfig": "separate"},
        "10 bits": {"bitspersample": 10},
        "14-bit RGB": {"bitspersample": 14},
    }[name]
    bits = options.get("bitspersample", 8 if name != "LZW" else 16)
    values = GREY if name == "10 bits" else RGB
    array = levels(values, bits).astype(np.uint8 if bits == 8 else np.uint16)
    if "planarconfig" in options:
        array = np.moveaxis(array, 2, 0)
    file = io.BytesIO()
    photometric = "rgb" if values is RGB else "minisblack"
    tifffile.imwrite(file, array, photometric=photometric, **options)
    assert np.abs(decoded(file.getvalue()) - eight(values)).max() <= 1


@pytest.mark.timeout(30)
def test_a_huge_image_that_two_decoders_try_waits_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vggfeat.decoding.HUGE_PIXELS", 100)
    data = grey(bytes(range(200)) * 3, 8, more={259: ("H", (7,))})
    for _ in range(2):
        with pytest.raises(ImageError, match="8-bit grey TIFF"):
            decode(io.BytesIO(data))


def test_bands_without_a_meaning_are_refused_and_not_guessed() -> None:
    five = np.dstack([RGB, GREY, GREY])
    data = tiff(raw(levels(five, 8), "u1"), 30, 20, (8,) * 5)
    with pytest.raises(ImageError, match=r"8-bit 5-band TIFF.*give 1, 3 or 4 bands"):
        decoded(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (grey(raw(GREY * 4000 - 1000, "<i2"), 16, kind=2), r"signed values from -1000 to 3000"),
        (grey(raw(levels(GREY, 32), "<u4"), 32), r"32-bit values from 0 to 4294967295"),
        (grey(raw(GREY * 300, "<f4"), 32, kind=3), r"float values from 0 to 300"),
        (grey(raw(np.where(GREY > 0.5, np.nan, 0), "<f4"), 32, kind=3), r"not numbers \(NaN\)"),
    ],
)
def test_values_without_a_known_range_are_refused_with_theirs(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decoded(data)


def test_a_value_range_says_what_becomes_0_and_255() -> None:
    hounsfield = grey(raw(GREY * 4000 - 1000, "<i2"), 16, kind=2)
    values = (GREY * 4000 - 1000).astype(np.int16)
    window = np.clip((values - -160) / (240 - -160), 0, 1)
    assert np.array_equal(decoded(hounsfield, value_range="-160:240"), eight(window))
    whole = (values - values.min()) / (values.max() - values.min())
    assert np.array_equal(decoded(hounsfield, value_range="minmax"), eight(whole))
    twelve = grey(raw(levels(GREY, 12), "<u2"), 16)
    assert decoded(twelve).max() == 16, "16 bits are 16 bits, whatever the camera fills of them"
    assert np.abs(decoded(twelve, value_range="0:4095") - eight(GREY)).max() <= 1
    png = io.BytesIO()
    Image.fromarray(levels(GREY, 12).astype(np.uint16)).save(png, "PNG")
    assert np.abs(decoded(png.getvalue(), value_range="0:4095") - eight(GREY)).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_value_range_leaves_images_of_8_bits_alone(kind: str) -> None:
    file = io.BytesIO()
    draw(30, 20).point(lambda v: v // 2).save(file, kind)
    for value_range in ("minmax", "10:20"):
        assert np.array_equal(
            decoded(file.getvalue(), value_range=value_range), decoded(file.getvalue())
        )


def test_a_value_range_that_cannot_be_applied_is_refused() -> None:
    data = tiff(raw(levels(RGB, 16), "<u2"), 30, 20, (16,) * 3, photometric=2)
    if find_spec("tifffile"):
        found = decoded(data, value_range="0:65535")
        assert np.array_equal(found, eight(levels(RGB, 16) / 65535))
    else:
        with pytest.raises(ImageError, match="which Pillow does not read: pip install"):
            decoded(data, value_range="0:65535")
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x10\2\0\0\0"
    with pytest.raises(ImageError, match=r"16-bit PNG with colour.*convert it to TIFF"):
        decoded(head + bytes(99), value_range="minmax")


def test_premultiplied_colours_are_not_cut_to_a_range() -> None:
    pytest.importorskip("tifffile", reason="of the extra formats")
    data = TIFFFILES["16-bit RGBA, premultiplied, planar"][0]
    with pytest.raises(ImageError, match="premultiplied alpha, with which a value range cannot"):
        decoded(data, value_range="minmax")


@pytest.mark.parametrize("given", ["", "1", "5:4", "3:3", "a:b", "0:inf", "nan:1", "Full"])
def test_a_value_range_is_full_minmax_or_two_numbers(given: str) -> None:
    with pytest.raises(ImageError, match="allowed are full, minmax, or LOW:HIGH"):
        FeatureExtractor("vgg16-tiny", value_range=given)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_heic_is_turned_once(orientation: int) -> None:
    heif = pytest.importorskip("pillow_heif", reason="of the extra formats")
    photo = draw(64, 48)
    exif = Image.Exif()
    exif[0x0112] = orientation
    made = heif.from_pillow(photo)
    file = io.BytesIO()
    made.save(file, quality=-1, chroma=444, exif=exif.tobytes())
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270,
             8: Image.Transpose.ROTATE_90}  # fmt: skip
    upright = photo if orientation == 1 else photo.transpose(turns[orientation])
    result = decoded(file.getvalue())
    assert result.shape == np.asarray(upright).shape
    assert np.abs(result - np.asarray(upright).astype(int)).max() <= 6
    # libheif's own pixels, without Pillow's classes between
    independent = heif.open_heif(io.BytesIO(file.getvalue()), convert_hdr_to_8bit=True)
    assert np.array_equal(result, np.asarray(independent))
    assert size_of(io.BytesIO(file.getvalue())) == upright.size


@pytest.mark.parametrize("orientation", [1, 6])
def test_an_avif_is_turned_once(orientation: int) -> None:
    if "AVIF" not in Image.registered_extensions().values():
        pytest.skip("this Pillow was built without AVIF")
    photo, file, exif = draw(64, 48), io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    photo.save(file, "AVIF", quality=100, subsampling="4:4:4", exif=exif)
    upright = photo if orientation == 1 else photo.transpose(Image.Transpose.ROTATE_270)
    result = decoded(file.getvalue())
    assert result.shape == np.asarray(upright).shape
    assert np.abs(result - np.asarray(upright).astype(int)).max() <= 6


@pytest.mark.usefixtures("without_the_extra")
def test_without_the_extra_a_heic_and_a_raw_file_say_what_reads_them() -> None:
    for data, what in [
        (b"\0\0\0\x18ftypheic" + bytes(100), "HEIC file"),
        (b"\0\0\0\x18ftypcrx " + bytes(100), "camera raw file"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(100), "camera raw file"),
        (dng(RGB), "camera raw file"),
    ]:
        with pytest.raises(ImageError, match=f"{what}, which Pillow does not read: {EXTRA}"):
            decode(io.BytesIO(data))


def test_decoders_of_the_extra_are_loaded_by_the_first_file_that_needs_them() -> None:
    program = """
import io, sys
from PIL import Image
from vggfeat.images import decode
file = io.BytesIO()
Image.new("RGB", (9, 9)).save(file, "TIFF")
decode(file)
print([name for name in ("pillow_heif", "tifffile", "imagecodecs", "rawpy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("name", ["a.dng", "a.nef", "a.tif", "a.jpg"])
def test_a_raw_file_is_developed_or_refused_by_every_way_in_and_never_its_preview(
    tmp_path: Path, name: str
) -> None:
    data = dng(np.kron(RGB, np.ones((4, 4, 1))))
    (tmp_path / "photos").mkdir()
    file = tmp_path / "photos" / name
    file.write_bytes(data)
    (tmp_path / "list.txt").write_text(f"photos/{name}\n")
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(file, name)
    results = []
    for way in ("photos", f"photos/{name}", "list.txt", "photos.tar"):
        source = open_source(tmp_path / way)
        assert [Path(entry.path).name for entry in source.entries] == [name]
        with source.open(source.entries[0]) as opened:
            try:
                results.append(np.asarray(decode(opened)).tobytes())
            except ImageError as error:
                results.append(str(error))
    assert len(set(results)) == 1
    try:
        import rawpy
    except ImportError:
        assert "camera raw file, which Pillow does not read" in str(results[0])
    else:
        with rawpy.imread(str(file)) as opened:
            expected = opened.postprocess(use_camera_wb=True)
        assert results[0] == expected.tobytes()
        assert np.corrcoef(expected.ravel(), np.kron(RGB, np.ones((4, 4, 1))).ravel())[0, 1] > 0.9


def test_a_truncated_raw_file_is_not_developed() -> None:
    data = bytearray(dng(RGB))
    at = data.index(b"\x17\x01\x04\0")  # tag 279, the strip's length
    data[at + 8 : at + 12] = (10**6).to_bytes(4, "little")
    with pytest.raises(ImageError, match="truncated camera raw file"):
        decode(io.BytesIO(data))


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL file, which is not read: convert it to PNG or TIFF"),
        (bytes(128) + b"DICM", "DICOM file, which is not read: convert it to PNG or TIFF"),
        (b"v/1\1", "OpenEXR file, which is not read: convert it to PNG or TIFF"),
        (b"8BPS\0\1", "Photoshop file, which is not read: convert it to PNG or TIFF"),
        (b"<!DOCTYPE html><html>404 not found", "web page, not an image"),
        (b"\0\0\0\x18ftypmp42", "video, not an image"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS.*git lfs pull"),
        (b"\x89PNG\n\x1a\n\0\0\0\rIHDR", "damaged PNG file: its signature is wrong"),
    ],
)
def test_a_file_that_only_has_the_name_of_an_image_is_called_what_it_is(
    head: bytes, reason: str
) -> None:
    with pytest.raises(ImageError, match=reason):
        decode(io.BytesIO(head + bytes(400)))


def test_a_jpeg_of_12_bits_is_read_by_the_extra() -> None:
    imagecodecs = pytest.importorskip("imagecodecs", reason="of the extra formats; 26 MB")
    data = imagecodecs.jpeg_encode(levels(GREY, 12).astype("u2"), level=100, bitspersample=12)
    assert np.abs(decoded(data) - eight(GREY)).max() <= 1
    with pytest.raises(ImageError, match="truncated JPEG file"):
        decoded(data[: len(data) // 2])


@pytest.mark.usefixtures("without_the_extra")
def test_a_jpeg_of_12_bits_is_not_called_damaged() -> None:
    for marker, bits, reason in [
        (0xC1, 12, f"12-bit JPEG file, which Pillow does not read: {EXTRA}"),
        (0xF7, 8, "JPEG-LS file, which is not read"),
    ]:
        data = bytes([0xFF, 0xD8, 0xFF, marker, 0, 11, bits, 0, 20, 0, 30, 1, 1, 0x11, 0])
        with pytest.raises(ImageError, match=reason):
            decode(io.BytesIO(data + bytes(99)))


def test_pages_show_what_can_be_shown_of_an_image_that_is_refused() -> None:
    hounsfield = grey(raw(GREY * 4000 - 1000, "<i2"), 16, kind=2)
    jpeg = io.BytesIO()
    draw(64, 48).save(jpeg, "JPEG")
    for data in (hounsfield, jpeg.getvalue()[:-300]):
        with pytest.raises(ImageError):
            decode(io.BytesIO(data))
        small = shrunk(lambda data=data: io.BytesIO(data), 16)
        assert max(small.size) == 16
        assert np.ptp(np.asarray(small)) > 50
