"""A score divided among the positions of the layer that is pooled: exactly.

A pooled feature is a sum over positions (:meth:`vggfeat.pooling.Pooling.contributions`), views are
averaged, and the score is linear in the feature once its length is taken as given: so the score
is a sum over the positions of all inputs, and a constant. For average pooling that is CAM, Zhou et
al., "Learning Deep Features for Discriminative Localization" (CVPR 2016, arXiv 1512.04150),
equation 2; for the cosine of average- and maximum-pooled features Stylianou, Souvenir and Pless,
"Visualizing Deep Similarity Networks" (WACV 2019, arXiv 1901.00536), section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vggfeat import pooling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from vggfeat.explain.scores import Score
    from vggfeat.views import View

Array = npt.NDArray[np.float64]


def feature_of(activations: Sequence[Tensor], pool: str, view: View, dtype: str) -> Array:
    """Return an image's feature (d,), as a store holds it, of its inputs' maps (1, C, H, W)."""
    import torch

    pooled = [pooling.apply(one, pool) for one in activations]
    feature = view.combined(torch.cat(pooled)).flatten().cpu().numpy()
    return np.asarray(feature.astype(dtype), np.float64)


def exact_maps(
    score: Score, activations: Sequence[Tensor], pool: str, view: View, feature: Array
) -> tuple[list[Array], float]:
    """Divide a score among the positions of each input.

    Parameters
    ----------
    score : Score
    activations : sequence of Tensor, (1, C, H, W)
        Of the pooled layer, for each input.
    pool : str
        Text of the pooling.
    view : View
        How the inputs' features are put together.
    feature : ndarray of float64, shape (d,)
        From :func:`feature_of`. What rounding to float16 has changed in a value is changed in all
        its parts.

    Returns
    -------
    maps : list of ndarray of float64, (H, W)
        For each input.
    constant : float
        What is of no position: a probe's intercept, a whitening's mean. With it the maps sum to
        the score.
    """
    import torch

    coefficients, constant = score.terms(feature)
    chosen = pooling.read(pool)
    with torch.no_grad():
        maps = [one.detach().cpu().double() for one in activations]
        unrounded = view.combined(torch.cat([chosen(one) for one in maps])).flatten().numpy()
        some = unrounded != 0
        ratio = np.divide(feature, unrounded, out=np.zeros_like(feature), where=some)
        weights = _of_inputs(coefficients * ratio, view)
        found = [
            chosen.contributions(one, torch.from_numpy(own))[0].numpy()
            for one, own in zip(maps, weights, strict=True)
        ]
    return found, constant


def _of_inputs(weights: Array, view: View) -> list[Array]:
    """Return how each input's own feature weighs, given the weights of the image's."""
    scales = max(1, len(view.scales))
    inputs = view.count // scales
    stacked = view.combine == "stack" and scales > 1
    parts = np.split(weights, scales) if stacked else [weights / scales] * scales
    return [part / inputs for part in parts for _ in range(inputs)]
