"""From an image to network inputs: resizing and cropping, in 8 bits.

Geometry happens on 8-bit Pillow images, as in torchvision's transforms for Pillow input, so that
what a worker hands over is small; conversion to floating point follows on the network's device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggfeat.preprocessing import Preprocessing

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_WHOLE_RESIZE = 64_000_000
"""Pixels of a resized image above which only the part that the crop keeps is computed."""


def center(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Resize the smaller side, then cut a square from the centre.

    This is torchvision's ``ImageClassification`` preset to the last bit (a test compares), which
    the pretrained weights were evaluated with. Only for ribbons, whose resized image would
    exceed 64 megapixels, is the cut-out resampled on its own.

    Parameters
    ----------
    image : PIL.Image.Image
        RGB, any size.
    preprocessing : Preprocessing
        Gives `resize`, `crop` and the interpolation.

    Returns
    -------
    PIL.Image.Image
        RGB, `crop` x `crop` pixels.
    """
    width, height = image.size
    short, long = min(width, height), max(width, height)
    side, crop = preprocessing.resize, preprocessing.crop
    resized = (side, int(side * long / short))
    new_width, new_height = resized if width <= height else resized[::-1]
    left, top = round((new_width - crop) / 2), round((new_height - crop) / 2)
    resampling = _RESAMPLING[preprocessing.interpolation]
    if new_width * new_height > _WHOLE_RESIZE:
        x, y = width / new_width, height / new_height
        box = (left * x, top * y, (left + crop) * x, (top + crop) * y)
        return image.resize((crop, crop), resampling, box=box)
    if (new_width, new_height) != image.size:
        image = image.resize((new_width, new_height), resampling)
    return image.crop((left, top, left + crop, top + crop))


def squash(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Resize the whole image to the network's square input, giving up its aspect ratio.

    Parameters
    ----------
    image : PIL.Image.Image
        RGB, any size.
    preprocessing : Preprocessing
        Gives `crop`, the side of the result, and the interpolation.

    Returns
    -------
    PIL.Image.Image
        RGB, `crop` x `crop` pixels.
    """
    side = preprocessing.crop
    return image.resize((side, side), _RESAMPLING[preprocessing.interpolation])


View = Callable[[Image.Image, Preprocessing], Image.Image]

VIEWS: Mapping[str, View] = {"center": center, "squash": squash}
"""Known views by name."""


def network_input(image: Image.Image, view: str, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Cut what the network sees from an image.

    Returns
    -------
    ndarray of uint8, (H, W, 3)
        Channels in RGB order, values 0..255.
    """
    return np.asarray(VIEWS[view](image, preprocessing), dtype=np.uint8)
