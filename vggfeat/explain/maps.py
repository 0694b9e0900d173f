"""One image's feature and, of any score of it, the map: exact where it can be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import LayerError
from vggfeat.explain.exact import exact_maps, feature_of
from vggfeat.explain.gradients import (
    GRADIENT_METHODS,
    check_layer,
    following,
    gradient_maps,
    usual_layer,
)
from vggfeat.explain.inputs import Inputs
from vggfeat.layers import layer_of

if TYPE_CHECKING:
    from torch import Tensor

    from vggfeat.analysis import HeatMap
    from vggfeat.explain.scores import Score
    from vggfeat.extract import FeatureExtractor
    from vggfeat.regions import Region

AUTO, EXACT = "auto", "exact"
METHODS = (AUTO, EXACT, *GRADIENT_METHODS)
"""How maps are made; ``auto`` is exact for layers with a map, else Grad-CAM."""


@dataclass(frozen=True)
class Method:
    """How maps of one feature are made, checked.

    Attributes
    ----------
    extractor : FeatureExtractor
    column : str
        One of its features, as :attr:`vggfeat.FeatureExtractor.poolings` calls it.
    name : str
        Of :data:`METHODS`, but not ``"auto"``.
    at : str
        Canonical name of the layer whose positions are mapped.
    """

    extractor: FeatureExtractor
    column: str
    name: str
    at: str

    @classmethod
    def chosen(
        cls, extractor: FeatureExtractor, column: str, name: str = AUTO, at: str | None = None
    ) -> Method:
        """Choose a method.

        Parameters
        ----------
        extractor, column :
            See the attributes.
        name : str
            Of :data:`METHODS`.
        at : str, optional
            The layer whose gradients are mapped, by name or alias.

        Raises
        ------
        LayerError
            The method is unknown, or not for this feature.
        """
        network, layer = extractor.architecture, layer_of(column)
        if name not in METHODS:
            raise LayerError(f"Unknown method {name!r}. Known ones: {', '.join(METHODS)}.")
        spatial = network.layer(layer).spatial
        if name == AUTO:
            name = EXACT if spatial and at is None else "gradcam"
        if name != EXACT:
            place = usual_layer(network, layer) if at is None else check_layer(network, at, layer)
            return cls(extractor, column, name, place)
        if not spatial:
            raise LayerError(
                f"{layer} is a vector that no sum over positions gives, so it has no exact map. "
                f"Take {' or '.join(GRADIENT_METHODS)}, or features of a pooled layer such as "
                "relu5_3:avg."
            )
        if at is not None and network.layer(at).name != layer:
            raise LayerError(
                f"An exact map has the positions of {layer}, which is pooled, not of {at}. Leave "
                "the layer out, or take gradcam or layercam."
            )
        return cls(extractor, column, name, layer)

    def seen(self, image: Any, box: Region | None = None) -> Seen:
        """Run the network on an image, or on a box in it.

        Raises
        ------
        ImageError
            The image cannot be decoded, or the box has no pixel of it.
        """
        inputs = Inputs.of(self.extractor, image, box)
        return Seen(self, inputs, inputs.activations(self.extractor, self.at))


@dataclass(frozen=True)
class Seen:
    """What the network made of one image.

    Attributes
    ----------
    method : Method
    inputs : Inputs
    activations : list of Tensor, (1, C, H, W)
        Of the mapped layer, for each input.
    """

    method: Method
    inputs: Inputs
    activations: list[Tensor]

    @cached_property
    def feature(self) -> npt.NDArray[np.float64]:
        """The image's feature (d,), maps as vectors, as a store holds it."""
        method, extractor = self.method, self.method.extractor
        layer, pool = layer_of(method.column), extractor.poolings[method.column]
        view = extractor.resolved_view
        if layer == method.at:
            return feature_of(self.activations, pool, view, extractor.dtype)
        network, after = extractor.network, following(extractor.architecture, method.at)
        values = [
            network.activations(one, [layer], start=after, dense=view.dense)[layer]
            for one in self.activations
        ]
        over = pool or ("avg" if values[0].ndim == 4 else "")
        return feature_of(values, over, view, extractor.dtype)

    def map(self, score: Score) -> tuple[HeatMap, float]:
        """Map a score of the feature.

        Returns
        -------
        map : HeatMap
        constant : float
            What is of no position; NaN for gradients, whose maps do not sum to the score.
        """
        method, extractor = self.method, self.method.extractor
        constant = float("nan")
        if method.name == EXACT:
            pool, view = extractor.poolings[method.column], extractor.resolved_view
            found, constant = exact_maps(score, self.activations, pool, view, self.feature)
        else:
            coefficients, _ = score.terms(self.feature)
            found = gradient_maps(
                coefficients, extractor, method.column, self.activations, method.at, method.name
            )
        return self.inputs.laid_out(found, extractor, method.at), constant
