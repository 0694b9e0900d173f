"""How pixels of any kind become 8-bit RGB; docs/images.md shows it by example.

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

These are the rules of the value range ``full``. With ``minmax`` an image's smallest value becomes 0
and its largest 255, with ``LOW:HIGH`` LOW and all below become 0, HIGH and all above 255, in both
cases ``round(255 (v - low) / (high - low))``; only values of more than 8 bits are concerned.

Integers of other widths than 16 and 32 bits, which TIFFs hold, are ``round(255 v / (2^bits - 1))``.
Colour profiles are not applied. 16-bit colour becomes its upper 8 bits, as in Pillow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vggfeat.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

FULL, MINMAX = "full", "minmax"

_STRIP_PIXELS = 1 << 24
_HINT = "rescale them, or give a value range: minmax or LOW:HIGH"

_WIDE = {"I": np.dtype(np.int32), "F": np.dtype(np.float32)}

_Pixels = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Samples:
    """What a file says of its values beyond what Pillow keeps of it.

    Attributes
    ----------
    bits : int
        Of each value: their range is 0..2^bits - 1 where they are unsigned.
    unsigned : bool
        Whether Pillow's 32-bit integers stand for unsigned ones.
    white_is_zero : bool
        Whether 0 means white.
    """

    bits: int = 16
    unsigned: bool = False
    white_is_zero: bool = False


AS_PILLOW_SAYS = Samples()


def parse_range(text: str) -> str:
    """Check a value range and write it in one way.

    Parameters
    ----------
    text : str
        ``"full"``, ``"minmax"`` or ``"LOW:HIGH"``, two numbers of which the second is larger.

    Raises
    ------
    ImageError
        It is none of these.
    """
    if text in (FULL, MINMAX):
        return text
    low, _, high = text.partition(":")
    try:
        ends = float(low), float(high)
    except ValueError:
        ends = math.nan, math.nan
    if not (math.isfinite(ends[0]) and math.isfinite(ends[1]) and ends[0] < ends[1]):
        raise ImageError(
            f"The value range is {text!r}; allowed are full, minmax, or LOW:HIGH with LOW below "
            "HIGH, as in 0:4095."
        )
    return f"{ends[0]:.17g}:{ends[1]:.17g}"


def to_rgb(
    image: Image.Image, value_range: str = FULL, samples: Samples = AS_PILLOW_SAYS
) -> Image.Image:
    """Convert to 8-bit RGB as the table in this module's docstring says.

    Parameters
    ----------
    image : PIL.Image.Image
    value_range : str
        What :func:`parse_range` returns.
    samples : Samples
        What the file says of 16-bit, 32-bit and float grey.

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
        return _from_wide_grey(image, value_range, samples)
    if image.has_transparency_data:
        return _over_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def array_to_rgb(
    array: _Pixels, colours: int, alpha: int, value_range: str, samples: Samples
) -> Image.Image:
    """Convert what another decoder than Pillow read, as this module's docstring says.

    Parameters
    ----------
    array : ndarray, shape (H, W, C)
        Of any integer or float type.
    colours : int
        Channels that are the colour: 1 grey, 3 RGB, 4 CMYK; the next one may be alpha.
    alpha : int
        0 for none, 2 for alpha, 1 for alpha that the colours are premultiplied with.
    value_range : str
        What :func:`parse_range` returns.
    samples : Samples
        `bits` is the width that the file declares.

    Returns
    -------
    PIL.Image.Image
        Mode ``"RGB"``.

    Raises
    ------
    ImageError
        Values are not finite, larger than their width allows, or in no range of the table.
    """
    height, width = array.shape[:2]
    if alpha == 1 and value_range != FULL and array.dtype != np.uint8:
        raise ImageError("premultiplied alpha, with which a value range cannot be applied")
    colour = array[:, :, :colours]
    rows = max(1, _STRIP_PIXELS // (4 * width))
    parts = [colour[top : top + rows] for top in range(0, height, rows)]
    to_bytes = _scaling(colour.dtype, lambda: parts, value_range, samples, colours)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[colours]
    eight = np.concatenate([to_bytes(part) for part in parts])
    if samples.white_is_zero:
        eight = 255 - eight
    image = Image.frombytes(mode, (width, height), eight.tobytes())
    if not alpha or array.shape[2] <= colours or colours == 4:
        return image.convert("RGB")
    own = array[:, :, colours : colours + 1]
    pieces = [own[top : top + rows] for top in range(0, height, rows)]
    scale = _scaling(own.dtype, lambda: pieces, FULL, samples, 1)
    veil = np.concatenate([scale(piece) for piece in pieces])
    rgb = np.asarray(image.convert("RGB"))
    mode = "RGBa" if alpha == 1 else "RGBA"
    return _over_white(Image.frombytes(mode, image.size, np.dstack([rgb, veil]).tobytes()))


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


def _from_wide_grey(image: Image.Image, value_range: str, samples: Samples) -> Image.Image:
    def values(strip: Image.Image) -> _Pixels:
        found = np.asarray(strip)  # (h, W)
        return found.view(np.uint32) if samples.unsigned and image.mode == "I" else found

    def parts() -> Iterator[_Pixels]:
        return (values(strip) for _, strip in _strips(image))

    kind = np.dtype(np.uint16) if image.mode.startswith("I;16") else _WIDE[image.mode]
    kind = np.dtype(np.uint32) if samples.unsigned and image.mode == "I" else kind
    to_bytes = _scaling(kind, parts, value_range, samples, 1)
    transparent = image.info.get("transparency")
    result = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        read = values(strip)
        grey = to_bytes(read)
        if samples.white_is_zero:
            grey = 255 - grey
        if isinstance(transparent, int):
            grey[read == transparent] = 255
        result.paste(Image.fromarray(grey).convert("RGB"), (0, top))
    return result


def _scaling(
    kind: np.dtype[Any],
    parts: Callable[[], Iterable[_Pixels]],
    value_range: str,
    samples: Samples,
    colours: int,
) -> Callable[[_Pixels], _Pixels]:
    """Choose how values become 0..255, uint8."""
    if kind == np.uint8:
        return (lambda values: values) if samples.bits >= 8 else _linear(0, (1 << samples.bits) - 1)
    if kind == np.bool_:
        return lambda values: values.astype(np.uint8) * np.uint8(255)
    if value_range not in (FULL, MINMAX):
        if kind.kind == "f":
            _ends(parts(), kind)  # refuses what is not finite
        low, high = map(float, value_range.split(":"))
        return _linear(low, high)
    if value_range == MINMAX:
        return _linear(*_ends(parts(), kind))
    if kind.kind == "u" and kind.itemsize <= 4 and samples.bits < 32:
        return _of_bits(kind, parts, samples.bits, colours)
    least, most = _ends(parts(), kind)
    if kind.kind == "f":
        if least >= 0 and most <= 255:
            scale = 255 if most <= 1 else 1
            one = kind.type(scale) if kind.itemsize >= 4 else np.float32(scale)
            return lambda values: np.rint(values * one).astype(np.uint8)
        raise ImageError(
            f"float values from {least:g} to {most:g}; allowed are 0..1 and 0..255: {_HINT}"
        )
    if kind.itemsize >= 2 and least >= 0 and most <= 65535:
        if colours > 1:
            return lambda values: (values.astype(np.uint32) >> 8).astype(np.uint8)
        return lambda values: ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    sign = "32-bit" if kind.kind == "u" else "signed"
    allowed = "0..65535" if kind.itemsize >= 2 else "unsigned ones"
    raise ImageError(
        f"{sign} values from {least:.0f} to {most:.0f}; allowed are {allowed}: {_HINT}"
    )


def _of_bits(
    kind: np.dtype[Any], parts: Callable[[], Iterable[_Pixels]], bits: int, colours: int
) -> Callable[[_Pixels], _Pixels]:
    top = (1 << bits) - 1
    if bits < 8 * kind.itemsize and (most := _ends(parts(), kind)[1]) > top:
        raise ImageError(f"values up to {most:.0f}, where {bits} bits allow {top}: {_HINT}")
    if bits == 16 and colours > 1:
        return lambda values: (values >> 8).astype(np.uint8)
    if bits == 16:
        return lambda values: ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return _linear(0, top)


def _linear(low: float, high: float) -> Callable[[_Pixels], _Pixels]:
    scale = 255 / (high - low) if high > low else 0.0

    def to_bytes(values: _Pixels) -> _Pixels:
        found = np.rint((values.astype(np.float64) - low) * scale)
        return np.clip(found, 0, 255).astype(np.uint8)

    return to_bytes


def _ends(parts: Iterable[_Pixels], kind: np.dtype[Any]) -> tuple[float, float]:
    # NaN passes through min and max of numpy.
    ends = [(part.min(), part.max()) for part in parts]
    low, high = float(np.min(ends)), float(np.max(ends))
    if kind.kind == "f" and not (math.isfinite(low) and math.isfinite(high)):
        what = "not numbers (NaN)" if math.isnan(low) else "infinite"
        raise ImageError(f"float values that are {what}")
    return low, high
