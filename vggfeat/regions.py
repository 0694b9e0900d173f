"""A part of an image, as a query names it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from vggfeat.errors import ImageError, SearchError

if TYPE_CHECKING:
    from PIL import Image

_LARGEST = 1e6  # pixels, or percent; more is a slip of the hand


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of an image that stands upright.

    Attributes
    ----------
    left, upper : float
        Its corner, from the image's upper left one; may lie outside of the image.
    width, height : float
        Greater than 0; may reach beyond the image.
    percent : bool
        Whether these are hundredths of the image's sides instead of pixels.
    """

    left: float
    upper: float
    width: float
    height: float
    percent: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``"40,25,300,200"``, in pixels, or ``"10%,5%,50%,40%"``.

        Raises
        ------
        SearchError
            It is no region, or an empty one.
        """
        parts = [part.strip() for part in text.split(",")]
        percent = all(part.endswith("%") for part in parts)
        try:
            numbers = [float(part.removesuffix("%") if percent else part) for part in parts]
            left, upper, width, height = numbers
        except ValueError:
            numbers, left, upper, width, height = [math.nan], 0.0, 0.0, 0.0, 0.0
        if not (all(abs(number) <= _LARGEST for number in numbers) and width > 0 and height > 0):
            raise SearchError(
                f"{text!r} is no box: write x,y,w,h, the left and upper edge, width and height, "
                "all in pixels of the upright image, as in 40,25,300,200, or all in percent of "
                "it, as in 10%,5%,50%,40%."
            )
        return cls(left, upper, width, height, percent)

    def within(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the region's part of an image, in whole pixels.

        Parameters
        ----------
        width, height : int
            Of the image.

        Returns
        -------
        left, upper, right, lower : int
            At least one pixel wide and high; right and lower are exclusive.

        Raises
        ------
        ImageError
            They have no pixel in common.
        """
        across, down = (width / 100, height / 100) if self.percent else (1.0, 1.0)
        left, upper = round(self.left * across), round(self.upper * down)
        right = left + max(1, round(self.width * across))
        lower = upper + max(1, round(self.height * down))
        inside = max(left, 0), max(upper, 0), min(right, width), min(lower, height)
        if inside[0] >= inside[2] or inside[1] >= inside[3]:
            raise ImageError(f"the box {self} has no pixel of the {width} x {height} image")
        return inside

    def cut(self, image: Image.Image) -> Image.Image:
        """Return the region's part of an image; see :meth:`within`."""
        return image.crop(self.within(*image.size))

    def __str__(self) -> str:
        unit = "%" if self.percent else ""
        parts = self.left, self.upper, self.width, self.height
        return ",".join(f"{part:g}{unit}" for part in parts)
