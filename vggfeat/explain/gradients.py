"""Where a score's gradient points: Grad-CAM and LayerCAM.

For what no sum over positions gives, such as the fully connected layers. Neither sums to the
score: their values say where more speaks for it than elsewhere, not how much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vggfeat import pooling
from vggfeat.errors import LayerError
from vggfeat.layers import Architecture, layer_of

if TYPE_CHECKING:
    from torch import Tensor

    from vggfeat.extract import FeatureExtractor

Array = npt.NDArray[np.float64]


def grad_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """Weigh each channel by its mean gradient, and keep what is above 0.

    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization" (ICCV 2017, arXiv 1610.02391), equations 1 and 2.

    Parameters
    ----------
    maps, gradients : Tensor, (1, C, H, W)
        Activations, and the score's gradient with respect to them.

    Returns
    -------
    Tensor, (1, H, W)
    """
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    return (weights * maps).sum(dim=1).relu()


def layer_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """Weigh each activation by its own gradient where that is above 0.

    Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization" (IEEE
    TIP 2021), equations 4 to 6. Parameters and result are those of :func:`grad_cam`.
    """
    return (gradients.relu() * maps).sum(dim=1).relu()


GRADIENT_METHODS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradcam": grad_cam,
    "layercam": layer_cam,
}
"""Ways to make a map of activations and gradients, by name."""


def usual_layer(network: Architecture, layer: str) -> str:
    """Return the layer whose gradients are mapped by default: the last ReLU with a map.

    Parameters
    ----------
    network : Architecture
    layer : str
        Canonical name of the layer that the score is of: no later one is taken.
    """
    before = network.upto([layer])
    rectified = [one.name for one in before if one.kind == "relu" and one.spatial]
    return rectified[-1] if rectified else before[0].name


def check_layer(network: Architecture, at: str, layer: str) -> str:
    """Return the canonical name of a layer whose gradients can be mapped.

    Raises
    ------
    LayerError
        It is unknown, has no map, or comes after `layer`, which the score is of.
    """
    chosen = network.layer(at)
    order = network.names
    if chosen.kind == "conv" and network.batch_norm:
        raise LayerError(
            f"{chosen.name} is one with the batch normalisation after it, so that nothing runs on "
            f"from its own output. Give {following(network, chosen.name)}, or the ReLU after it."
        )
    if not chosen.spatial or order.index(chosen.name) > order.index(layer):
        raise LayerError(
            f"{chosen.name} is {'after ' + layer if chosen.spatial else 'a vector'}: there is no "
            f"map of positions to see {layer} by. Give a convolutional layer up to {layer}, such "
            f"as {usual_layer(network, layer)}."
        )
    return chosen.name


def following(network: Architecture, at: str) -> str:
    """Return the layer that runs next, by which a run that starts after `at` is named."""
    return network.names[network.names.index(at) + 1]


def gradient_maps(
    coefficients: Array,
    extractor: FeatureExtractor,
    column: str,
    activations: Sequence[Tensor],
    at: str,
    method: str,
) -> list[Array]:
    """Map the gradient of a score onto each input.

    Parameters
    ----------
    coefficients : ndarray of float64, shape (d,)
        Of the score, from :meth:`vggfeat.explain.scores.Score.terms`: lengths are taken as given,
        as in exact maps. Where they are not, the gradient of a cosine points away from all that
        the image has much of, and vanishes for images that are alike.
    extractor : FeatureExtractor
        Made the activations.
    column : str
        One of its features.
    activations : sequence of Tensor, (1, C, H, W)
        Of the layer `at`, for each input.
    at : str
        Canonical name of a layer with a map.
    method : str
        Of :data:`GRADIENT_METHODS`.

    Returns
    -------
    list of ndarray of float64, (H, W)
        For each input, not below 0.
    """
    import torch

    from vggfeat.network.callers import own_torch

    network, view = extractor.network, extractor.resolved_view
    layer, pool = layer_of(column), extractor.poolings[column]
    after = "" if at == layer else following(extractor.architecture, at)
    with own_torch(network.device, gradients=True):
        maps = [one.detach().clone().requires_grad_() for one in activations]
        features = []
        for one in maps:
            value = one
            if after:
                value = network.activations(
                    one, [layer], start=after, dense=view.dense, gradients=True
                )[layer]
            if pool:
                value = pooling.apply(value, pool)
            elif value.ndim == 4:  # fully connected layers at every position
                value = value.mean(dim=(2, 3))
            features.append(value)
        feature = view.combined(torch.cat(features)).flatten()
        score = feature @ torch.from_numpy(coefficients).to(feature)
        slopes = torch.autograd.grad(score, maps)
        return [
            GRADIENT_METHODS[method](one.detach(), slope)[0].cpu().double().numpy()
            for one, slope in zip(maps, slopes, strict=True)
        ]
