"""Views drawn at random, for training: a crop, perhaps mirrored, in changed colours.

What is drawn depends on a seed, a number and the image itself, never on the order of images or on
what was drawn before: the same variant of the same image is the same pixels, in every run.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from vggfeat.errors import LayerError
from vggfeat.preprocessing import Preprocessing
from vggfeat.views import View
from vggfeat.views.cutting import RESAMPLING

_NARROWEST, _WIDEST = 3 / 4, 4 / 3
_TRIES = 10
_KEY = 32  # side of the picture that an image is known by


@dataclass(frozen=True, slots=True)
class DrawnView(View):
    """One of the views that augmentation draws of an image.

    The crop covers a share of the image's area between `crop` and 1, its sides have a ratio between
    3:4 and 4:3 (Szegedy et al., "Going Deeper with Convolutions", arXiv 1409.4842, section 6), and
    it is resized to the network's input. Half of the views are mirrored. Brightness, contrast and
    saturation change, in this order, each by a factor in 1 +- `colour`.

    Attributes
    ----------
    variant : int
        Its number; 0 is the plain centre view, which nothing is drawn for.
    seed : int
        Another seed draws other views.
    crop : float
        Smallest share of the area, above 0 and up to 1.
    colour : float
        From 0 to below 1; 0 leaves the colours alone.
    mirror : bool
        Whether half of the views are mirrored.

    Raises
    ------
    LayerError
        A value is out of its range.
    """

    variant: int = 0
    seed: int = 0
    crop: float = 0.5
    colour: float = 0.2
    mirror: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1:
            raise LayerError(
                f"The smallest crop is {self.crop:g} of an image's area; give a share above 0 and "
                "up to 1, such as 0.5."
            )
        if not 0 <= self.colour < 1:
            raise LayerError(
                f"Colours change by {self.colour:g}; give a share from 0 to below 1, such as 0.2."
            )

    @property
    def text(self) -> str:
        """All that decides its pixels, as a store's provenance has it."""
        if not self.variant:
            return self.name
        mirror = ", mirrored" if self.mirror else ""
        return (
            f"drawn {self.variant}, seed {self.seed}: crop {self.crop:g}, "
            f"colour {self.colour:g}{mirror}"
        )

    def inputs(self, image: Image.Image, spec: Preprocessing) -> list[NDArray[np.uint8]]:
        """Cut the one input from an image; see :meth:`View.inputs`."""
        if not self.variant:
            return View.inputs(self, image, spec)
        draw = np.random.default_rng([self.seed, self.variant, _number(image)])
        box = _box(image.size, self.crop, draw)
        side = (spec.crop, spec.crop)
        cut = image.resize(side, RESAMPLING[spec.interpolation], box=box)
        if draw.random() < 0.5 and self.mirror:
            cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            cut = change(cut).enhance(draw.uniform(1 - self.colour, 1 + self.colour))
        return [np.asarray(cut, dtype=np.uint8)]


def _number(image: Image.Image) -> int:
    """Return a number that depends on what an image shows."""
    small = image.resize((_KEY, _KEY), Image.Resampling.NEAREST)
    digest = hashlib.blake2b(small.tobytes(), digest_size=8)
    digest.update(repr(image.size).encode())
    return int.from_bytes(digest.digest(), "little")


def _box(
    size: tuple[int, int], smallest: float, draw: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw a crop: its left, upper, right and lower limit in pixels."""
    width, height = size
    for _ in range(_TRIES):
        area = width * height * draw.uniform(smallest, 1)
        ratio = math.exp(draw.uniform(math.log(_NARROWEST), math.log(_WIDEST)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            break
    else:  # a ribbon: as much of it as the ratio allows
        w = min(width, max(1, round(height * _WIDEST)))
        h = min(height, max(1, round(w / _NARROWEST)))
    left, upper = (int(draw.integers(0, most + 1)) for most in (width - w, height - h))
    return left, upper, left + w, upper + h
