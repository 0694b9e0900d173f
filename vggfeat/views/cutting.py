"""From an image to network inputs: resizing and cutting, in 8 bits.

Geometry happens on 8-bit Pillow images, as in torchvision's transforms for Pillow input, so that
what a worker hands over is small; conversion to floating point follows on the network's device.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isqrt

from PIL import Image

from vggfeat.errors import ImageError
from vggfeat.placements import Placement
from vggfeat.preprocessing import Preprocessing

DENSE_PIXELS = 1 << 22
"""Largest resized image that a dense view takes: 2048 x 2048, or 512 x 8192. The two widest maps
of VGG's first block, 64 channels of float32 each, then take 2 GiB."""

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
"""Pillow's filters by the names that a preprocessing has."""
_WHOLE_RESIZE = 64_000_000
"""Pixels of a resized image above which only the parts that crops keep are computed: 256 MB."""


def center(image: Image.Image, spec: Preprocessing, side: int) -> list[Image.Image]:
    """Resize the smaller side, then cut a square from the centre.

    This is torchvision's ``ImageClassification`` preset to the last bit (a test compares), which
    the pretrained weights were evaluated with.

    Memory, at Pillow's 4 bytes a pixel: the image resized, up to 256 MB. What would be larger, as
    of a long ribbon, is resampled where it is cut: the cut, and before it as many rows as the image
    has there, as wide as the cut.

    Parameters
    ----------
    image : PIL.Image.Image
        RGB, any size.
    spec : Preprocessing
        Gives `crop` and the interpolation.
    side : int
        Length of the smaller side after the resize, in pixels.

    Returns
    -------
    list of one PIL.Image.Image
        RGB, `crop` x `crop` pixels.
    """
    size = resized_size(image.size, side)
    return _squares(image, spec, size, [_middle(size, spec.crop)])


def tencrop(image: Image.Image, spec: Preprocessing, side: int) -> list[Image.Image]:
    """Resize the smaller side, then cut the corners and the centre, of the mirror image too.

    This is torchvision's ``TenCrop`` after ``Resize`` to the last bit (a test compares).

    Parameters
    ----------
    image, spec, side
        As for :func:`center`.

    Returns
    -------
    list of ten PIL.Image.Image
        RGB, `crop` x `crop` pixels: top left, top right, bottom left, bottom right, centre; then
        the same of the mirror image.
    """
    size = resized_size(image.size, side)
    cuts = _squares(image, spec, size, _ten(size, spec.crop))
    flip = Image.Transpose.FLIP_LEFT_RIGHT
    return [*cuts[:5], *(cut.transpose(flip) for cut in cuts[5:])]


def squash(image: Image.Image, spec: Preprocessing, _side: int) -> list[Image.Image]:
    """Resize the whole image to the network's square input, giving up its aspect ratio.

    Parameters
    ----------
    image : PIL.Image.Image
        RGB, any size.
    spec : Preprocessing
        Gives `crop`, the side of the result, and the interpolation.

    Returns
    -------
    list of one PIL.Image.Image
        RGB, `crop` x `crop` pixels.
    """
    return [image.resize((spec.crop, spec.crop), RESAMPLING[spec.interpolation])]


def whole(image: Image.Image, spec: Preprocessing, side: int) -> list[Image.Image]:
    """Resize the smaller side and keep all of the image, as torchvision's ``Resize`` does.

    Parameters
    ----------
    image, spec, side
        As for :func:`center`.

    Returns
    -------
    list of one PIL.Image.Image
        RGB, its smaller side `side` pixels.

    Raises
    ------
    ImageError
        The result would exceed :data:`DENSE_PIXELS`.
    """
    width, height = resized_size(image.size, side)
    if width * height > DENSE_PIXELS:
        raise ImageError(_too_long(image.size, (width, height), side, spec))
    return [_resized(image, (width, height), spec)]


def center_places(size: tuple[int, int], spec: Preprocessing, side: int) -> list[Placement]:
    """Say where in an image of a size (width, height) the crop of :func:`center` lies."""
    resized = resized_size(size, side)
    return _placed(size, spec, resized, [_middle(resized, spec.crop)])


def tencrop_places(size: tuple[int, int], spec: Preprocessing, side: int) -> list[Placement]:
    """Say where in an image of a size (width, height) the crops of :func:`tencrop` lie."""
    resized = resized_size(size, side)
    found = _placed(size, spec, resized, _ten(resized, spec.crop))
    return [*found[:5], *(place.mirror() for place in found[5:])]


def whole_place(size: tuple[int, int], _spec: Preprocessing, _side: int) -> list[Placement]:
    """Say where :func:`squash` and :func:`whole` look: at all of the image."""
    return [Placement(0, 0, *size)]


def resized_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return width and height after a resize of the smaller to `side`, as torchvision rounds."""
    width, height = size
    long = int(side * max(size) / min(size))
    return (side, long) if width <= height else (long, side)


def _middle(size: tuple[int, int], crop: int) -> tuple[int, int]:
    return round((size[0] - crop) / 2), round((size[1] - crop) / 2)


def _ten(size: tuple[int, int], crop: int) -> list[tuple[int, int]]:
    """Return corners and centre, and where those of the mirror image lie before mirroring."""
    right, bottom = size[0] - crop, size[1] - crop
    places = [(0, 0), (right, 0), (0, bottom), (right, bottom), _middle(size, crop)]
    return [*places, *((right - left, top) for left, top in places)]


def _placed(
    size: tuple[int, int],
    spec: Preprocessing,
    resized: tuple[int, int],
    places: Iterable[tuple[int, int]],
) -> list[Placement]:
    """Bring squares of a resized image back to the image's own pixels."""
    x, y = size[0] / resized[0], size[1] / resized[1]
    return [Placement(left * x, top * y, spec.crop * x, spec.crop * y) for left, top in places]


def _squares(
    image: Image.Image,
    spec: Preprocessing,
    size: tuple[int, int],
    places: Iterable[tuple[int, int]],
) -> list[Image.Image]:
    """Resize an image and cut squares from it; those of ribbons are resampled on their own."""
    crop = spec.crop
    boxes = [(left, top, left + crop, top + crop) for left, top in places]
    if size[0] * size[1] <= _WHOLE_RESIZE:
        resized = _resized(image, size, spec)
        return [resized.crop(box) for box in boxes]
    x, y = image.width / size[0], image.height / size[1]
    return [
        image.resize(
            (crop, crop),
            RESAMPLING[spec.interpolation],
            box=(left * x, top * y, right * x, bottom * y),
        )
        for left, top, right, bottom in boxes
    ]


def _resized(image: Image.Image, size: tuple[int, int], spec: Preprocessing) -> Image.Image:
    return image if size == image.size else image.resize(size, RESAMPLING[spec.interpolation])


def _too_long(
    size: tuple[int, int], resized: tuple[int, int], side: int, spec: Preprocessing
) -> str:
    most = isqrt(DENSE_PIXELS * min(size) // max(size))
    remedy = f"Give --scales up to {most}, or --view" if most >= spec.crop else "Give --view"
    return (
        f"{size[0]} x {size[1]} pixels: dense at scale {side} it is {resized[0]} x {resized[1]}, "
        f"above {DENSE_PIXELS} pixels (2 GiB of activations). {remedy} center."
    )
