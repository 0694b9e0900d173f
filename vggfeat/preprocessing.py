"""What happens to pixels before the network, as a value that travels with the weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Self


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
        Resampling filter of the resize; ``"bilinear"`` (with antialiasing, as in torchvision).
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
        if not (sizes and triples and found.channels in ("RGB", "BGR") and found.scale > 0):
            raise ValueError(f"{told} has values that cannot be")
        return found


TORCHVISION_FEATURES = Preprocessing(
    mean=(0.48235, 0.45882, 0.40784), std=(1 / 255, 1 / 255, 1 / 255)
)
"""Of torchvision's ``IMAGENET1K_FEATURES`` of vgg16: the authors' Caffe convolutions."""

TORCHVISION = Preprocessing()
"""Of torchvision's ``IMAGENET1K_V1`` weights: what their own ``transforms()`` do."""
