"""Features as a scikit-learn transformer, for use in a ``Pipeline``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from vggfeat.errors import LayerError
from vggfeat.extract import FeatureExtractor


class VGGFeatures(TransformerMixin, BaseEstimator):
    """Images in, features of one layer out.

    Parameters
    ----------
    layer : str
        Name or alias of a layer, optionally with its pooling, as ``"conv5_3:max"``.
    model, weights, view, scales, flip, combine, pool, batch_size, device, precision, engine
        As for :class:`vggfeat.extract.FeatureExtractor`.

    Attributes
    ----------
    n_features_out_ : int
        Length of a feature; maps (``pool="none"``) are flattened.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import LinearSVC
    >>> pipeline = make_pipeline(VGGFeatures("relu7", weights="random"), LinearSVC())
    """

    def __init__(
        self,
        layer: str = "relu7",
        *,
        model: str = "vgg16",
        weights: str | None = None,
        view: str = "center",
        scales: str | Sequence[int] = (),
        flip: bool = False,
        combine: str = "mean",
        pool: str = "avg",
        batch_size: int | None = None,
        device: str = "auto",
        precision: str = "float32",
        engine: str = "auto",
    ) -> None:
        self.layer = layer
        self.model = model
        self.weights = weights
        self.view = view
        self.scales = scales
        self.flip = flip
        self.combine = combine
        self.pool = pool
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.engine = engine

    def fit(self, X: Iterable[Any], y: Any = None) -> Self:  # noqa: ARG002 (scikit-learn's)
        """Build the network; nothing is learnt from the images.

        Raises
        ------
        LayerError
            `layer` does not name exactly one layer.
        """
        settings = self.get_params()
        layers = settings.pop("layer")
        self.extractor_ = FeatureExtractor(layers=layers, **settings)
        if len(self.extractor_.poolings) != 1:
            raise LayerError(f"VGGFeatures gives one layer, not {layers!r}; use a FeatureUnion.")
        (shape,) = self.extractor_.shapes.values()
        self.n_features_out_ = int(np.prod(shape))
        return self

    def transform(self, X: Iterable[Any]) -> NDArray[np.float32]:
        """Compute features.

        Parameters
        ----------
        X : iterable of length n
            Paths, Pillow images, uint8 arrays (H, W, 3) or tensors (3, H, W).

        Returns
        -------
        ndarray of float32, (n, d)
        """
        (features,) = self.extractor_(X).values()
        return features.reshape(len(features), -1)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "extractor_")
