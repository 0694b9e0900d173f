"""How far features move when an image is loaded as torchvision loads it, by kind of file.

Each photograph is saved in many ways; each file is loaded by vggfeat and by torchvision's
``pil_loader`` (``Image.open(file).convert("RGB")``), and both go through one network::

    python benchmarks/loading.py PHOTO... --weights FILE --layer pool5

The table gives the mean over the photographs of |a - b| / |b| (L2), where a are the features by
vggfeat's loader, and b those by torchvision's.
"""

from __future__ import annotations

import argparse
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torchvision.datasets.folder import pil_loader

from vggfeat import FeatureExtractor
from vggfeat.images import decode

Save = Callable[[Image.Image, Path], None]

KINDS: dict[str, Save] = {}


def kind(name: str) -> Callable[[Save], Save]:
    def add(save: Save) -> Save:
        KINDS[name] = save
        return save

    return add


def _wide(photo: Image.Image, bits: int = 16) -> np.ndarray[Any, Any]:
    return np.rint(np.asarray(photo.convert("L")) / 255 * ((1 << bits) - 1)).astype(np.uint16)


def _tiff(path: Path, data: bytes, photo: Image.Image, bits: int, **options: Any) -> None:
    values = {
        **{256: photo.width, 257: photo.height, 258: bits, 259: 1, 262: options["photometric"]},
        **{273: 8, 277: 1, 278: photo.height, 279: len(data), 339: options.get("format", 1)},
    }
    data += bytes(len(data) % 2)
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    head = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    path.write_bytes(head + data + struct.pack("<H", len(values)) + tags + bytes(4))


@kind("PNG, 8-bit RGB")
def _(photo: Image.Image, path: Path) -> None:
    photo.save(path, "PNG")


@kind("EXIF orientation 3 (upside down)")
def _(photo: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    photo.transpose(Image.Transpose.ROTATE_180).save(path, "PNG", exif=exif)


@kind("EXIF orientation 6 (on its side)")
def _(photo: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.transpose(Image.Transpose.ROTATE_90).save(path, "PNG", exif=exif)


@kind("RGBA, its right half half transparent")
def _(photo: Image.Image, path: Path) -> None:
    veil = np.full((photo.height, photo.width), 255, np.uint8)
    veil[:, photo.width // 2 :] = 128
    photo.putalpha(Image.fromarray(veil))
    photo.save(path, "PNG")


@kind("RGBA, cut out: transparent pixels that hide black")
def _(photo: Image.Image, path: Path) -> None:
    array = np.array(photo.convert("RGBA"))
    array[:, photo.width // 2 :] = 0
    Image.fromarray(array).save(path, "PNG")


@kind("palette of 256 colours")
def _(photo: Image.Image, path: Path) -> None:
    photo.quantize(256).save(path, "PNG")


@kind("grey, 8 bits")
def _(photo: Image.Image, path: Path) -> None:
    photo.convert("L").save(path, "PNG")


@kind("grey, 16 bits")
def _(photo: Image.Image, path: Path) -> None:
    Image.fromarray(_wide(photo)).save(path, "PNG")


@kind("grey, 12 of 16 bits used")
def _(photo: Image.Image, path: Path) -> None:
    Image.fromarray(_wide(photo, 12)).save(path, "PNG")


@kind("grey TIFF, 16 bits, 0 is white")
def _(photo: Image.Image, path: Path) -> None:
    _tiff(path, (65535 - _wide(photo)).tobytes(), photo, 16, photometric=0)


@kind("grey TIFF, 12 bits")
def _(photo: Image.Image, path: Path) -> None:
    values = _wide(photo, 12)[:, : photo.width // 2 * 2].astype(np.uint32)
    pairs = values[:, ::2] << 12 | values[:, 1::2]
    data = np.stack([pairs >> 16, pairs >> 8 & 255, pairs & 255], -1).astype(np.uint8).tobytes()
    _tiff(path, data, photo.crop((0, 0, values.shape[1], photo.height)), 12, photometric=1)


@kind("grey TIFF, floats in 0..1")
def _(photo: Image.Image, path: Path) -> None:
    values = np.asarray(photo.convert("L"), np.float32) / 255
    _tiff(path, values.tobytes(), photo, 32, photometric=1, format=3)


@kind("CMYK JPEG, quality 95")
def _(photo: Image.Image, path: Path) -> None:
    photo.convert("CMYK").save(path, "JPEG", quality=95)


@kind("JPEG, quality 95")
def _(photo: Image.Image, path: Path) -> None:
    photo.save(path, "JPEG", quality=95)


@kind("HEIC, quality 95 (extra)")
def _(photo: Image.Image, path: Path) -> None:
    import pillow_heif

    pillow_heif.from_pillow(photo).save(path, quality=95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--model", default="vgg16")
    parser.add_argument("--weights")
    parser.add_argument("--layer", default="pool5")
    given = parser.parse_args()
    extractor = FeatureExtractor(given.model, given.weights, layers=given.layer, engine="torch")
    photos = [decode(path) for path in given.photos]

    def features(images: list[Any]) -> np.ndarray[Any, Any]:
        (rows,) = extractor(images).values()
        return rows.reshape(len(rows), -1)

    print(f"{len(photos)} photographs, {given.model} {given.layer}")
    print("| file | difference |\n| --- | --- |")
    for name, save in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, f"{number}.img") for number in range(len(photos))]
            try:
                for photo, file in zip(photos, files, strict=True):
                    save(photo.copy(), file)
                theirs = features([np.asarray(pil_loader(str(file))) for file in files])
            except (ImportError, OSError) as error:
                found = f"not loaded by it ({type(error).__name__})"
            else:
                moved = features(files) - theirs
                shares = np.linalg.norm(moved, axis=1) / np.linalg.norm(theirs, axis=1)
                found = f"{shares.mean():.3f}"
        print(f"| {name} | {found} |", flush=True)


if __name__ == "__main__":
    main()
