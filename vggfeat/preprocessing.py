"""What happens to pixels before the network, as a value that travels with the weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

INTERPOLATIONS = ("bilinear", "bicubic")
"""Resampling filters that views know."""


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
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __str__(self) -> str:
        scale = f"1/{round(1 / self.scale)}" if self.scale < 1 else f"{self.scale:g}"
        return (
            f"smaller side to {self.resize} ({self.interpolation}), crop {self.crop}, "
            f"{self.channels} x {scale}, mean {' '.join(f'{value:g}' for value in self.mean)}, "
            f"std {' '.join(f'{value:.4g}' for value in self.std)}"
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
    def from_json(cls, told: dict[str, Any]) -> Self:
        """Read what :meth:`to_json` gave.

        Raises
        ------
        ValueError
            A field is missing or unknown, or has a value that cannot be.
        """
        names = {field.name for field in fields(cls)}
        if set(told) != names:
            raise ValueError(f"it has the fields {sorted(told)}, not {sorted(names)}")
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in told.items()
        }
        found = cls(**values)
        sizes = min(found.resize, found.crop) >= 1 and found.crop <= found.resize
        triples = len(found.mean) == len(found.std) == 3 and min(found.std) > 0
        named = found.channels in ("RGB", "BGR") and found.interpolation in INTERPOLATIONS
        if not (sizes and triples and named and found.scale > 0):
            raise ValueError(f"{told} has values that cannot be")
        return found


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
