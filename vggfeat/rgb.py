"""How Pillow's modes become 8-bit RGB.

Where ``v`` is a pixel's value:

====================  ===========================================================================
Pillow's mode         becomes
====================  ===========================================================================
RGB, RGBX             as it is
1, L                  repeated for the three channels
I;16 (16-bit grey)    ``round(v / 257)``, repeated: 65,535 is white
I (32-bit grey)       as 16-bit grey if all values are in 0..65,535; fails otherwise
F (float grey)        ``round(255 v)`` if all values are in 0..1, else ``round(v)`` if all are in
                      0..255; fails otherwise, and for NaN
P, PA                 through the palette
LA, PA, RGBA, and     composited over white: ``(a v + (255 - a) 255) / 255`` with Pillow's
any transparency      rounding; a colour or palette entry marked transparent becomes white
CMYK, YCbCr,          by Pillow's own conversion
LAB, HSV
====================  ===========================================================================

Colour profiles are not applied. 16-bit colour is read by Pillow as its upper 8 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vggfeat.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STRIP_PIXELS = 1 << 24

_Pixels = np.ndarray[Any, np.dtype[Any]]


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to 8-bit RGB as the table in this module's docstring says.

    Returns
    -------
    PIL.Image.Image
        Mode ``"RGB"``; `image` itself where nothing is to be done.

    Raises
    ------
    ImageError
        The values of a 32-bit or float image are in no range of the table.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _from_wide_grey(image)
    if image.has_transparency_data:
        return _over_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Cut a large image into rows, so that intermediate results stay small."""
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // width)
    if rows >= height:
        yield 0, image
        return
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(height, top + rows)))


def _over_white(image: Image.Image) -> Image.Image:
    result = Image.new("RGB", image.size, "white")
    for top, strip in _strips(image):
        if strip.mode == "La":  # Pillow converts premultiplied grey to nothing but LA
            strip = strip.convert("LA")
        rgba = strip.convert("RGBA")
        result.paste(rgba, (0, top), rgba.getchannel("A"))
    return result


def _from_wide_grey(image: Image.Image) -> Image.Image:
    to_bytes = _grey_range(image)
    transparent = image.info.get("transparency")
    result = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        values = np.asarray(strip)  # (h, W)
        grey = to_bytes(values).astype(np.uint8)
        if isinstance(transparent, int):
            grey[values == transparent] = 255
        result.paste(Image.fromarray(grey).convert("RGB"), (0, top))
    return result


def _grey_range(image: Image.Image) -> Callable[[_Pixels], _Pixels]:
    """Choose how the values of a 16-bit, 32-bit or float image become 0..255."""
    if image.mode.startswith("I;16"):
        low, high = 0.0, 65535.0
    else:
        # NaN passes through min and max of numpy, and fails every comparison below.
        ends = [(np.asarray(s).min(), np.asarray(s).max()) for _, s in _strips(image)]
        low, high = float(np.min(ends)), float(np.max(ends))
    if image.mode == "F":
        if low >= 0 and high <= 255:
            scale = 255 if high <= 1 else 1
            return lambda values: np.rint(values * np.float32(scale))
        if low != low:
            raise ImageError("float values that are not numbers (NaN)")
        raise ImageError(
            f"float values from {low:g} to {high:g}; allowed are 0..1 and 0..255: rescale them"
        )
    if low >= 0 and high <= 65535:
        return lambda values: (values.astype(np.uint32) + 128) // 257
    raise ImageError(
        f"32-bit values from {low:.0f} to {high:.0f}; allowed are 0..65535: rescale them"
    )
