"""What the network sees of one image, and where in the image it lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.analysis import Cells, HeatMap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from vggfeat.extract import FeatureExtractor
    from vggfeat.placements import Placement
    from vggfeat.regions import Region


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """The network inputs of an image, mirror images among them.

    Attributes
    ----------
    arrays : list of ndarray of uint8, (H, W, 3)
        In the order of :meth:`vggfeat.views.View.combined`.
    placements : list of Placement
        Of each, in the whole image.
    size : tuple of int
        Width and height of the whole upright image.
    """

    arrays: list[npt.NDArray[np.uint8]]
    placements: list[Placement]
    size: tuple[int, int]

    @classmethod
    def of(cls, extractor: FeatureExtractor, image: Any, box: Region | None = None) -> Inputs:
        """Cut the inputs of an image, or of a box in it, as extraction does.

        Parameters
        ----------
        extractor : FeatureExtractor
        image : path, PIL image, array or tensor
            As for :meth:`vggfeat.FeatureExtractor.__call__`.
        box : Region, optional
            What to cut out, as if that were the image.

        Raises
        ------
        ImageError
            The image cannot be decoded, or the box has no pixel of it.
        """
        view, spec = extractor.resolved_view, extractor.resolved_weights.preprocessing
        with extractor.open_image(image) as whole:
            part = whole if box is None else box.cut(whole)
            left, upper = (0, 0) if box is None else box.within(*whole.size)[:2]
            places = [one.moved(left, upper) for one in view.placements(part.size, spec)]
            arrays = view.inputs(part, spec)
            size = whole.size
        if view.flip:
            arrays = [own for array in arrays for own in (array, array[:, ::-1])]
        return cls(arrays, places, size)

    def activations(self, extractor: FeatureExtractor, layer: str) -> list[Tensor]:
        """Return what a layer puts out for each input, float32 (1, C, H, W) or (1, D)."""
        view, network = extractor.resolved_view, extractor.network
        return [
            network.activations([array], [layer], dense=view.dense)[layer] for array in self.arrays
        ]

    def laid_out(
        self, maps: Sequence[npt.NDArray[np.float64]], extractor: FeatureExtractor, layer: str
    ) -> HeatMap:
        """Lay a layer's maps (h, w), one for each input, out on the image."""
        layers = extractor.architecture.upto([layer])
        stride = 2 ** sum(one.kind == "pool" for one in layers)
        parts = [
            Cells(values, place, (array.shape[1], array.shape[0]), stride)
            for values, place, array in zip(maps, self.placements, self.arrays, strict=True)
        ]
        return HeatMap.of(parts, self.size)
