"""Photos and pages of text, each with copies of several kinds and with one change that is no copy.

Written as ``KIND/NUMBER.jpg``: two files of one number show the same, unless one is `ALTERED`.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from vggfeat.files import IMAGE_EXTENSIONS
from vggfeat.images import decode

ORIGINAL = "original"
ALTERED = "altered"
"""The same photo with an eighth of its width and height replaced; the same page with one other
word."""

Change = Callable[[Image.Image], Image.Image]
Sample = tuple[Image.Image, Image.Image, Path | None]
"""A picture, the same with something altered, and the file it is from."""

_PAGE = (827, 1169)  # A4 at 100 dots an inch
_SYLLABLES = (
    "ka", "lo", "mi", "tur", "ben", "sa", "ri", "do", "pel", "na", "ven", "tro", "qui", "sta",
    "mer", "al", "gon", "fi", "ush", "eld",
)  # fmt: skip
_FACES = (("DejaVuSans", "DejaVuSerif"), ("DejaVuSansMono", "STIXGeneral"))


def _cropped(image: Image.Image) -> Image.Image:
    left, top = round(0.025 * image.width), round(0.025 * image.height)
    return image.crop((left, top, image.width - left, image.height - top))


def _halved(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def _brightened(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1.25)


def _bordered(image: Image.Image) -> Image.Image:
    return ImageOps.expand(image, round(0.05 * max(image.size)), (24, 24, 28))


COPIES: dict[str, tuple[Change, int]] = {
    "saved": (lambda image: image, 50),
    "half": (_halved, 90),
    "cropped": (_cropped, 90),
    "mirrored": (ImageOps.mirror, 90),
    "brightened": (_brightened, 95),
    "border": (_bordered, 90),
}
"""What is done to a picture, and the quality that the JPEG is saved with: saved again, half the
width and height, 5 % of both cut off, mirrored, a quarter brighter, with a border of 5 %."""


def photographs(folder: Path, count: int, part: int) -> Iterator[Sample]:
    """Give photos of a folder and those below it, chosen at random: of 2 `count`, every second."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_EXTENSIONS)
    chosen = random.Random(0).sample(files, min(2 * count, len(files)))
    for file in sorted(chosen[part::2]):
        image = decode(file)
        yield image, _patched(image), file


def _patched(image: Image.Image) -> Image.Image:
    """Put another part of the photo, of an eighth of its width and height, into it."""
    width, height = max(8, image.width // 8), max(8, image.height // 8)
    left, top = image.width // 4, image.height // 4
    other = image.crop((image.width - left - width, image.height - top - height,
                        image.width - left, image.height - top))  # fmt: skip
    changed = image.copy()
    changed.paste(other.transpose(Image.Transpose.ROTATE_180), (left, top))
    return changed


def pages(count: int, part: int) -> Iterator[Sample]:
    """Draw pages of text, no two alike: letters, columns, and a form that differs in its entries.

    The second half (`part` 1) has other words and other fonts than the first.
    """
    faces = [_face(name) for name in _FACES[part]]
    for number in range(count):
        seed = 1_000_000 * part + number
        face = faces[number % 2]
        draw = (_letter, _columns, _form)[number % 3]
        yield draw(seed, face, altered=False), draw(seed, face, altered=True), None


def _face(name: str) -> Path:
    from matplotlib import get_data_path

    return Path(get_data_path(), "fonts", "ttf", f"{name}.ttf")


def _words(rng: random.Random, count: int) -> list[str]:
    return ["".join(rng.choices(_SYLLABLES, k=rng.randint(1, 4))) for _ in range(count)]


def _write(page: ImageDraw.ImageDraw, words: list[str], box: tuple[int, int, int, int],
           font: ImageFont.FreeTypeFont, leading: int) -> None:  # fmt: skip
    x, y = box[:2]
    for word in words:
        width = round(page.textlength(word + " ", font))
        if x + width > box[2]:
            x, y = box[0], y + leading
        if y > box[3]:
            return
        page.text((x, y), word, 0, font)
        x += width


def _blank() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    page = Image.new("L", _PAGE, 255)
    return page, ImageDraw.Draw(page)


def _other(words: list[str], at: int) -> None:
    """Replace a word by another of the same letters, backwards."""
    while len(set(words[at])) < 3:
        at += 1
    words[at] = words[at][::-1]


def _letter(seed: int, face: Path, *, altered: bool) -> Image.Image:
    rng, (page, draw) = random.Random(seed), _blank()
    words = _words(rng, rng.randint(180, 420))
    if altered:
        _other(words, 90)
    _write(draw, words, (90, 110, 740, 1080), ImageFont.truetype(face, 17), 25)
    return page.convert("RGB")


def _columns(seed: int, face: Path, *, altered: bool) -> Image.Image:
    rng, (page, draw) = random.Random(seed), _blank()
    words = _words(rng, 900)
    if altered:
        _other(words, 120)
    font = ImageFont.truetype(face, 13)
    _write(draw, words[:450], (60, 80, 400, 1090), font, 18)
    _write(draw, words[450:], (430, 80, 770, 1090), font, 18)
    return page.convert("RGB")


def _form(seed: int, face: Path, *, altered: bool) -> Image.Image:
    """Draw a form whose printed part is the same on all pages."""
    rng, (page, draw) = random.Random(seed), _blank()
    printed = _words(random.Random(-1), 24)
    entries = ["".join(map(str, rng.choices(range(10), k=7))) for _ in printed]
    if altered:
        entries[10] = entries[10][:3] + str((int(entries[10][3]) + 5) % 10) + entries[10][4:]
    font = ImageFont.truetype(face, 19)
    for row, (label, entry) in enumerate(zip(printed, entries, strict=True)):
        y = 110 + 40 * row
        draw.rectangle((80, y, 747, y + 40), outline=0)
        draw.line((330, y, 330, y + 40), 0)
        draw.text((92, y + 8), label, 0, font)
        draw.text((345, y + 8), entry, 0, font)
    return page.convert("RGB")


def write_versions(samples: Iterator[Sample], folder: Path) -> int:
    """Save each sample and its versions; return how many samples there are."""
    for name in (ORIGINAL, ALTERED, *COPIES):
        (folder / name).mkdir(parents=True)
    number = -1
    for number, (image, altered, file) in enumerate(samples):
        name = f"{number:05d}.jpg"
        if file is not None and file.suffix.lower() in (".jpg", ".jpeg"):
            shutil.copyfile(file, folder / ORIGINAL / name)
        else:
            image.save(folder / ORIGINAL / name, quality=95)
        altered.save(folder / ALTERED / name, quality=95)
        for kind, (change, quality) in COPIES.items():
            change(image).save(folder / kind / name, quality=quality)
    return number + 1


def made_up(count: int, part: int) -> Iterator[Sample]:
    """Draw pictures of smooth grounds with a dozen shapes on them."""
    rng = np.random.default_rng(part)
    for _ in range(count):
        coarse = rng.integers(0, 256, (4, 5, 3), np.uint8)
        size = (int(rng.integers(240, 400)), int(rng.integers(200, 320)))
        image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(image)
        for _ in range(12):
            x, y = rng.integers(0, size[0]), rng.integers(0, size[1])
            w, h = rng.integers(10, 120, 2)
            shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
            shape((x, y, x + w, y + h), tuple(rng.integers(0, 256, 3).tolist()))
        yield image, _patched(image), None
