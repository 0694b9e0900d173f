"""The demo's pictures: scikit-learn's own digits and photographs, written out as folders."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vggfeat.atomic import atomic_file

if TYPE_CHECKING:
    from PIL import Image

ALL = 1797
"""Digits in scikit-learn's set; they come from the UCI repository, by 13 writers."""

USUAL = 600
"""Digits of a demo that names no number: it is to end within a minute on two cores."""

_INK = np.array((27, 38, 59))
_PAPER = np.array((251, 249, 244))
_SIDE = 80  # 8 pixels for each of the 8, and a margin as wide all around
_TILES = (4, 3)
_PLACES = (4, 3)
_VIEWS = 10
_CROPS = {"china": (240, 105, 400, 247), "flower": (200, 120, 360, 262)}


def choose(targets: NDArray[np.int64], count: int) -> tuple[list[int], list[int]]:
    """Divide the digits into those to extract and ten that stay unseen.

    Parameters
    ----------
    targets : ndarray of int64, shape (n,)
        What each digit shows, 0..9.
    count : int
        How many to extract; as near to it as equal numbers of each class allow.

    Returns
    -------
    seen, unseen : list of int
        Positions in `targets`. A larger `count` adds to `seen` and leaves `unseen` as it is.
    """
    # Shuffled, since neighbours in the set are by the same hand.
    order = np.random.default_rng(0).permutation(len(targets))
    each = max(1, round(count / 10))
    seen: list[int] = []
    unseen: list[int] = []
    for digit in range(10):
        members = order[targets[order] == digit].tolist()
        seen += members[:-1][:each]
        unseen.append(members[-1])
    return sorted(seen), unseen


def write_digits(folder: Path, unseen_folder: Path, count: int) -> int:
    """Write digits as ``folder/<class>/NNNN.png`` and ten more into `unseen_folder`.

    Returns
    -------
    int
        How many are in `folder`.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    seen, unseen = choose(data.target, count)
    for at in seen:
        put(folder / str(data.target[at]) / f"{at:04d}.png", digit_picture(data.images[at]))
    for at in unseen:
        put(unseen_folder / f"{data.target[at]}-{at:04d}.png", digit_picture(data.images[at]))
    return len(seen)


def write_photos(folder: Path, crops: Path) -> int:
    """Write two photographs, the tiles they are cut into, and a crop of each elsewhere.

    Returns
    -------
    int
        How many pictures are in `folder`.
    """
    from PIL import Image
    from sklearn.datasets import load_sample_images

    data = load_sample_images()
    written = 0
    for name, pixels in zip(data.filenames, data.images, strict=True):
        photo, stem = Image.fromarray(pixels), Path(name).stem
        put(folder / f"{stem}.jpg", photo)
        columns, rows = _TILES
        width, height = photo.width // columns, photo.height // rows
        for row in range(rows):
            for column in range(columns):
                left, top = column * width, row * height
                tile = photo.crop((left, top, left + width, top + height))
                put(folder / stem / f"{row + 1}-{column + 1}.jpg", tile)
        put(crops / f"{stem}.jpg", photo.crop(_CROPS[stem]))
        written += 1 + columns * rows
    return written


def write_places(folder: Path) -> int:
    """Write ten views of each of 24 places in two photographs, as ``folder/<place>/N.jpg``.

    Views are what somebody else might have taken of a place: from nearer or farther, beside it,
    mirrored, in other light, in faded colours.

    Returns
    -------
    int
        How many are in `folder`.
    """
    from PIL import Image
    from sklearn.datasets import load_sample_images

    data = load_sample_images()
    rng = np.random.default_rng(0)
    columns, rows = _PLACES
    for name, pixels in zip(data.filenames, data.images, strict=True):
        photo, stem = Image.fromarray(pixels), Path(name).stem
        for at in range(columns * rows):
            row, column = divmod(at, columns)
            for number in range(_VIEWS):
                view = _view(photo, column + 0.5, row + 0.5, rng)
                put(folder / f"{stem} {row + 1}-{column + 1}" / f"{number}.jpg", view)
    return len(data.images) * columns * rows * _VIEWS


def _view(photo: Image.Image, x: float, y: float, rng: np.random.Generator) -> Image.Image:
    """Take a picture of what lies around a point, which is given in widths of a place."""
    from PIL import ImageEnhance, ImageOps

    beside, zoom = rng.uniform(-0.25, 0.25, 2), rng.uniform(0.8, 1.25)
    size = np.array(photo.size) / _PLACES
    half = zoom * size / 2
    middle = np.clip((np.array((x, y)) + beside) * size, half, photo.size - half)
    left, top, right, bottom = np.concatenate([middle - half, middle + half]).round().tolist()
    view = photo.crop((int(left), int(top), int(right), int(bottom)))
    if rng.random() < 0.5:
        view = ImageOps.mirror(view)
    view = ImageEnhance.Brightness(view).enhance(rng.uniform(0.6, 1.4))
    return ImageEnhance.Color(view).enhance(rng.uniform(0, 1.4))


def digit_picture(values: NDArray[Any]) -> Image.Image:
    """Draw a digit as ink on paper, large enough to look at.

    Parameters
    ----------
    values : ndarray, shape (8, 8)
        Ink in 0..16.

    Returns
    -------
    PIL.Image.Image
        RGB, 80 x 80, with a margin that the network's centre crop may take.
    """
    from PIL import Image

    small = np.pad(np.asarray(values) * 255 / 16, 1).round().astype(np.uint8)
    smooth = Image.fromarray(small).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    ink = np.asarray(smooth) / 255
    pixels = _PAPER + (_INK - _PAPER) * ink[..., None]  # (H, W) -> (H, W, 3)
    return Image.fromarray(pixels.round().astype(np.uint8))


def put(path: Path, image: Image.Image) -> None:
    """Write a picture unless it is there already: a file's time tells whether it changed."""
    file = io.BytesIO()
    if path.suffix == ".png":
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=92)
    if path.is_file() and path.read_bytes() == file.getvalue():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, durable=False) as temporary:  # made again where a power cut takes it
        temporary.write_bytes(file.getvalue())
