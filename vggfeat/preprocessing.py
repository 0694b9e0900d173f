"""What happens to pixels before the network, as a value that travels with the weights."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from vggfeat.errors import WeightsError

Triple = tuple[float, float, float]
"""A number for each channel."""

INTERPOLATIONS = ("bilinear", "bicubic")
"""Resampling filters that views know."""

_LARGEST_SIDE = 1 << 14  # pixels
_LARGEST = 1e30  # of a number; float32 ends at 3.4e38


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an 8-bit RGB image becomes the input that a weight file was trained with.

    The network sees ``(x * scale - mean) / std`` for each channel, where ``x`` is in 0..255.

    Attributes
    ----------
    resize : int
        Length in pixels that the smaller side is resized to, keeping the aspect ratio.
    crop : int
        Side in pixels of the square cut from the centre, which is the network's input size.
    interpolation : str
        Resampling filter of the resize, ``"bilinear"`` or ``"bicubic"``; Pillow's, with
        antialiasing, as torchvision uses it.
    channels : str
        Order of the channels, ``"RGB"`` or ``"BGR"``.
    scale : float
        Factor from 0..255 to the range that `mean` and `std` are given in.
    mean, std : tuple of float
        For each channel in the order of `channels`.
    """

    resize: int = 256
    crop: int = 224
    interpolation: str = "bilinear"
    channels: str = "RGB"
    scale: float = 1 / 255
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)

    def __str__(self) -> str:
        return (
            f"smaller side to {self.resize} ({self.interpolation}), crop {self.crop}, "
            f"{_values(self.channels, self.scale, self.mean, self.std)}"
        )

    def sized(self, side: int) -> Self:
        """Return the same for a network of another input size.

        At the size that this is for, the resize keeps its margin around the crop; at any other,
        which photographs are usually brought to as a whole, there is none.

        Parameters
        ----------
        side : int
            Side in pixels of the network's square input.
        """
        return self if side == self.crop else replace(self, resize=side, crop=side)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, payload: dict[str, Any]) -> Self:
        """Read what :meth:`to_json` gave.

        Raises
        ------
        ValueError
            A field is missing or unknown, or has a value that cannot be.
        """
        names = {field.name for field in fields(cls)}
        if set(payload) != names:
            raise ValueError(f"it has the fields {sorted(payload)}, not {sorted(names)}")
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in payload.items()
        }
        preprocessing = cls(**values)
        numbers = (preprocessing.scale, *preprocessing.mean, *preprocessing.std)
        possible = (
            all(type(side) is int for side in (preprocessing.resize, preprocessing.crop))
            and 1 <= preprocessing.crop <= preprocessing.resize <= _LARGEST_SIDE
            and len(preprocessing.mean) == len(preprocessing.std) == 3
            and all(type(value) in (int, float) and abs(value) < _LARGEST for value in numbers)
            and min(preprocessing.scale, *preprocessing.std) > 0
            and preprocessing.channels in ("RGB", "BGR")
            and preprocessing.interpolation in INTERPOLATIONS
        )
        if not possible:
            raise ValueError(f"{str(payload)[:500]} has values that cannot be")
        return preprocessing


TORCHVISION = Preprocessing()
"""Of torchvision's ``IMAGENET1K_V1`` weights: what their own ``transforms()`` do."""

TORCHVISION_FEATURES = Preprocessing(
    mean=(0.48235, 0.45882, 0.40784), std=(1 / 255, 1 / 255, 1 / 255)
)
"""Of torchvision's ``IMAGENET1K_FEATURES`` of vgg16: the authors' Caffe convolutions."""

CAFFE = Preprocessing(
    channels="BGR", scale=1.0, mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0)
)
"""Of the authors' Caffe release, and of Keras's port of it: a mean colour is subtracted, nothing
divided."""

CAFFE_RGB = Preprocessing(
    channels="RGB", scale=1.0, mean=(123.68, 116.779, 103.939), std=(1.0, 1.0, 1.0)
)
"""As :data:`CAFFE`, for ports whose first filters were put into RGB order, as MatConvNet's."""

PRESETS = {"torchvision": TORCHVISION, "caffe": CAFFE, "caffe-rgb": CAFFE_RGB}
"""Preprocessings that a person may ask for, by name."""

_DARKEST = 2.0  # a mean colour in 0..255 that is believed
_SPREADS = (0.9, 1000.0)  # standard deviations in 0..255 that are believed
_COLOURS = (CAFFE.mean, (103.53, 116.28, 123.675))  # the authors' and torchvision's, B G R
_ALIKE = 0.01


@dataclass(frozen=True, slots=True)
class ByHand:
    """What happens to the values of pixels, said by hand; sizes stay what belongs to the weights.

    The network sees ``(x * scale - mean) / std`` for each channel, where ``x`` is in 0..255. All
    four are taken as they are given, and none is left of what belongs to the weights; of that
    ``resize``, ``crop`` and ``interpolation`` stay.

    Attributes
    ----------
    scale : float
        Factor from 0..255 to the range that `mean` and `std` are given in: 1/255 for 0..1.
    mean, std : tuple of float
        For each channel in the order of `channels`.
    channels : str
        Order of the channels that the network sees, ``"RGB"`` or ``"BGR"``.

    Raises
    ------
    WeightsError
        The values cannot be, or contradict one another: a mean or deviation in other units than
        `scale` makes, or a known mean colour in another order than `channels`.

    Examples
    --------
    >>> rescaled = ByHand(1 / 255)                                # Keras: rescale=1/255
    >>> centred = ByHand(1 / 127.5, mean=(1.0, 1.0, 1.0))         # values in -1..1
    >>> str(centred)
    'RGB x 1/127.5, mean 1 1 1, std 1 1 1'
    """

    scale: float
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    channels: str = "RGB"

    def __post_init__(self) -> None:
        if self.channels not in ("RGB", "BGR"):
            raise WeightsError(f"channels is {self.channels!r}. Allowed are RGB and BGR.")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise WeightsError(f"scale is {self.scale:g}; it must be above 0, such as 1/255.")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != 3 or not all(map(math.isfinite, values)):
                raise WeightsError(f"{name} is {values}; it takes three numbers.")
        units = f"scale {_fraction(self.scale)} makes 0..{255 * self.scale:g} of pixels"
        colour = [value / self.scale for value in self.mean]
        if min(colour) < 0 or max(colour) > 255 * (1 + 1e-6) or 0 < max(colour) < _DARKEST:
            raise WeightsError(
                f"mean {_listed(self.mean)} is no colour in these units: {units}. Give both in the "
                "same units, such as scale 1/255 with means in 0..1, or scale 1 with means in "
                "0..255."
            )
        low, high = _SPREADS
        if not all(low <= value / self.scale <= high for value in self.std):
            raise WeightsError(
                f"std {_listed(self.std)} is no deviation in these units: {units}. Give both in "
                "the same units."
            )
        for known in _COLOURS:
            turned = known if self.channels == "RGB" else known[::-1]
            pairs = zip(colour, turned, strict=True)
            if all(math.isclose(a, b, rel_tol=_ALIKE) for a, b in pairs):
                raise WeightsError(
                    f"mean {_listed(self.mean)} is a mean colour that is known, in the order "
                    f"{'BGR' if self.channels == 'RGB' else 'RGB'}, but channels is "
                    f"{self.channels}, and the mean is given in that order. Turn one of them round."
                )

    def __str__(self) -> str:
        return _values(self.channels, self.scale, self.mean, self.std)

    def applied(self, base: Preprocessing) -> Preprocessing:
        """Return a preprocessing with these values in place of its own."""
        return replace(
            base, channels=self.channels, scale=self.scale, mean=self.mean, std=self.std
        )  # fmt: skip


def _values(channels: str, scale: float, mean: Triple, std: Triple) -> str:
    spread = " ".join(f"{value:.4g}" for value in std)
    return f"{channels} x {_fraction(scale)}, mean {_listed(mean)}, std {spread}"


def _fraction(scale: float) -> str:
    return f"1/{1 / scale:.6g}" if scale < 1 else f"{scale:g}"


def _listed(values: Triple) -> str:
    return " ".join(f"{value:g}" for value in values)
