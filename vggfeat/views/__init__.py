"""What of an image goes through the network, and how what comes out becomes one feature.

An image gives one network input or several: crops, sizes ("scales") and mirror images. A
:class:`View` says which, and puts their features together again. The inputs are 8-bit images
(:mod:`~vggfeat.views.cutting`); mirror images are made on the network's device.

To add a view, add a row to :data:`VIEWS`; choices, shapes and checks follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggfeat.errors import LayerError
from vggfeat.layers import Architecture, Shape
from vggfeat.placements import Placement
from vggfeat.preprocessing import Preprocessing
from vggfeat.views.cutting import (
    DENSE_PIXELS,
    center,
    center_places,
    squash,
    tencrop,
    tencrop_places,
    whole,
    whole_place,
)

if TYPE_CHECKING:
    from torch import Tensor

COMBINATIONS = ("mean", "stack")
"""How the features of several scales become one: their mean, or one behind the other."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to cut inputs from an image.

    Attributes
    ----------
    cut : callable
        Image, preprocessing and length of the smaller side to the inputs.
    places : callable
        Size of an image (width, height) instead of the image to where these inputs lie in it.
    summary : str
        One line for help texts.
    crops : int
        Number of inputs that `cut` gives.
    dense : bool
        Whether inputs are of any size, and the fully connected layers run at every position of
        the map; such views have scales.
    mirrored : bool
        Whether the mirror image is among the crops.
    """

    cut: Callable[[Image.Image, Preprocessing, int], list[Image.Image]]
    places: Callable[[tuple[int, int], Preprocessing, int], list[Placement]]
    summary: str
    crops: int = 1
    dense: bool = False
    mirrored: bool = False


VIEWS: Mapping[str, Kind] = {
    "center": Kind(center, center_places, "the weights' own resize and crop"),
    "squash": Kind(squash, whole_place, "the whole image as a square"),
    "tencrop": Kind(
        tencrop,
        tencrop_places,
        "mean of corners and centre, and their mirror images",
        crops=10,
        mirrored=True,
    ),
    "dense": Kind(
        whole,
        whole_place,
        "mean over all positions of the whole image, at one or more scales",
        dense=True,
    ),
}
"""Known views by name."""


@dataclass(frozen=True, slots=True)
class View:
    """The network inputs of an image, and how their features become one.

    Attributes
    ----------
    name : str
        Of :data:`VIEWS`.
    scales : tuple of int
        Lengths in pixels that the smaller side is resized to, one after the other; empty for the
        preprocessing's own.
    flip : bool
        Whether each input goes through the network as its mirror image, too.
    combine : str
        Of :data:`COMBINATIONS`.
    """

    name: str = "center"
    scales: tuple[int, ...] = ()
    flip: bool = False
    combine: str = "mean"

    @property
    def dense(self) -> bool:
        """Whether inputs are of any size, and the head runs at every position of the map."""
        return VIEWS[self.name].dense

    @property
    def count(self) -> int:
        """Number of times that an image goes through the network."""
        return max(1, len(self.scales)) * VIEWS[self.name].crops * (1 + self.flip)

    def sides(self, spec: Preprocessing) -> tuple[int, ...]:
        """Return the lengths that the smaller side is resized to, in pixels."""
        return self.scales or (spec.resize,)

    def pixels(self, spec: Preprocessing) -> int:
        """Estimate how many pixels the inputs of a photograph of 3 : 2 have in all."""
        if self.dense:
            return sum(side * side * 3 // 2 for side in self.sides(spec))
        return VIEWS[self.name].crops * spec.crop**2

    def inputs(self, image: Image.Image, spec: Preprocessing) -> list[NDArray[np.uint8]]:
        """Cut what the network sees from an image, but for mirror images that `flip` asks for.

        Parameters
        ----------
        image : PIL.Image.Image
            RGB, any size.
        spec : Preprocessing
            Gives sizes and the interpolation.

        Returns
        -------
        list of ndarray of uint8, (H, W, 3)
            Scale by scale, crop by crop; channels in RGB order, values 0..255.

        Raises
        ------
        ImageError
            The image is too long for a dense view.
        """
        cut = VIEWS[self.name].cut
        cuts = (part for side in self.sides(spec) for part in cut(image, spec, side))
        return [np.asarray(part, dtype=np.uint8) for part in cuts]

    def placements(self, size: tuple[int, int], spec: Preprocessing) -> list[Placement]:
        """Say where in an image the inputs lie, mirror images that `flip` asks for among them.

        Parameters
        ----------
        size : tuple of int
            Width and height of the upright image.
        spec : Preprocessing
            As for :meth:`inputs`.

        Returns
        -------
        list of Placement
            :attr:`count` of them, in the order of :meth:`combined`.
        """
        places = VIEWS[self.name].places
        found = [place for side in self.sides(spec) for place in places(size, spec, side)]
        if not self.flip:
            return found
        return [own for place in found for own in (place, place.mirror())]

    def combined(self, features: Tensor) -> Tensor:
        """Put the features of inputs together to those of images.

        The mean over crops and mirror images of a scale, then the mean over scales, or with
        ``"stack"`` one scale behind the other.

        Parameters
        ----------
        features : Tensor
            (N * count, ...): image by image, scale by scale, crop by crop, each followed by that
            of its mirror image where `flip` asks for it.

        Returns
        -------
        Tensor
            (N, ...), or (N, D * scales) for ``"stack"``.
        """
        if self.count == 1:
            return features
        scales = max(1, len(self.scales))
        # (N * scales * inputs, ...) -> (N, scales, ...)
        own = features.shape[1:]
        by_scale = features.reshape(-1, scales, self.count // scales, *own).mean(2)
        return by_scale.flatten(1, 2) if self.combine == "stack" else by_scale.mean(1)

    def shape(self, layer: str, shape: Shape) -> Shape:
        """Return the shape of an image's feature, given that of one input.

        Raises
        ------
        LayerError
            The feature depends on where things lie in an input, so that several cannot be put
            together.
        """
        if (self.count > 1 or self.dense) and (len(shape) > 1 or layer == "flatten"):
            remedy = "ask for pool5" if layer == "flatten" else f"give a pooling ({layer}:avg)"
            raise LayerError(
                f"{layer} as a whole map cannot be averaged over crops, sizes or mirror images: "
                f"{remedy}, or take --view center or squash without --flip."
            )
        stacked = len(self.scales) > 1 and self.combine == "stack"
        return (shape[0] * len(self.scales),) if stacked else shape


def parse_view(
    name: str,
    scales: str | Iterable[int | str],
    flip: bool,
    combine: str,
    network: Architecture,
) -> View:
    """Read the view that was asked for.

    Parameters
    ----------
    name : str
        Of :data:`VIEWS`.
    scales : str or iterable of int
        As ``"256,384"`` or ``(256, 384)``.
    flip : bool
        Whether the mirror image is averaged in.
    combine : str
        Of :data:`COMBINATIONS`.
    network : Architecture
        Gives the least scale: its input size.

    Raises
    ------
    LayerError
        Something unknown, or what does not go together.
    """
    if name not in VIEWS:
        raise LayerError(f"Unknown view {name!r}. Known views: {', '.join(VIEWS)}.")
    if combine not in COMBINATIONS:
        raise LayerError(f"Unknown combine {combine!r}. Known are {', '.join(COMBINATIONS)}.")
    texts = scales.split(",") if isinstance(scales, str) else [str(scale) for scale in scales]
    sides = _sides([text.strip() for text in texts if text.strip()], network)
    if not VIEWS[name].dense and (sides or combine != "mean"):
        given = f"Scales {', '.join(map(str, sides))}" if sides else f"Combine {combine!r}"
        raise LayerError(f"{given}: for --view dense only, not {name}. Give that, or leave it out.")
    if flip and VIEWS[name].mirrored:
        raise LayerError(f"The view {name} has the mirror images already. Leave the flip out.")
    return View(name, sides, bool(flip), combine)


def _sides(texts: Sequence[str], network: Architecture) -> tuple[int, ...]:
    least, most = network.input_size, isqrt(DENSE_PIXELS)
    for number, text in enumerate(texts):
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise LayerError(
                f"Scale {text!r} for {network.name}: scales are whole numbers of pixels from "
                f"{least}, the network's input size, to {most}, as in 256,384,512."
            )
        if text in texts[:number]:
            raise LayerError(f"Scale {text} is given twice; give it once.")
    return tuple(map(int, texts))
