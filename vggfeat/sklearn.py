"""Features as a scikit-learn transformer, for use in a ``Pipeline``."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from vggfeat.errors import LayerError
from vggfeat.extract import FeatureExtractor
from vggfeat.extract.caching import CachedFeatures
from vggfeat.preprocessing import ByHand, Preprocessing


class VGGFeatures(TransformerMixin, BaseEstimator):
    """Images in, features of one layer out.

    Nothing is learnt from images, so that a search over parameters computes the same features
    again and again, for each fold and candidate; with `cache` each image runs through the network
    once for each way of making features.

    Parameters
    ----------
    layer : str
        Name or alias of a layer, optionally with its pooling, as ``"conv5_3:max"``.
    model, weights, preprocessing, view, scales, flip, combine, pool
        As for :class:`vggfeat.extract.FeatureExtractor`.
    batch_size, device, precision, engine
        As for :class:`vggfeat.extract.FeatureExtractor`.
    cache : path, optional
        A folder in which features are kept, in stores that ``vggfeat info`` and all else can
        read: one for each way of making them, so that features made with other parameters or
        weights are never taken. Files are known by their absolute path, size and time of change;
        images in memory by the SHA-256 of their pixels. Parallel processes may share it. It is
        never emptied; remove it when it is no longer wanted.

    Attributes
    ----------
    n_features_out_ : int
        Length of a feature; maps (``pool="none"``) are flattened.

    Notes
    -----
    Threads may share a fitted one; it pickles, without its network, and clones.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.pipeline import Pipeline
    >>> from vggfeat import LinearProbe
    >>> pipeline = Pipeline([("vgg", VGGFeatures(cache="features")), ("probe", LinearProbe())])
    >>> search = GridSearchCV(pipeline, {"vgg__layer": ["pool5", "relu6", "relu7"]})
    >>> search.fit(paths, classes)  # doctest: +SKIP
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
        cache: str | os.PathLike[str] | None = None,
        preprocessing: str | Preprocessing | ByHand = "auto",
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
        self.cache = cache
        self.preprocessing = preprocessing
        self.engine = engine

    def fit(self, X: Iterable[Any], y: Any = None) -> Self:  # noqa: ARG002 (scikit-learn's)
        """Check the parameters; nothing is learnt from the images, and no network is built yet.

        Raises
        ------
        LayerError
            A parameter is unknown, or `layer` does not name exactly one layer.
        """
        settings = self.get_params()
        layers = settings.pop("layer")
        del settings["cache"]
        self.extractor_ = FeatureExtractor(layers=layers, **settings)
        if len(self.extractor_.poolings) != 1:
            raise LayerError(f"VGGFeatures gives one layer, not {layers!r}; use a FeatureUnion.")
        (shape,) = self.extractor_.shapes.values()
        self.n_features_out_ = math.prod(shape)
        return self

    def transform(self, X: Iterable[Any]) -> NDArray[np.float32]:
        """Compute features, or take them from the cache.

        Parameters
        ----------
        X : iterable of length n
            Paths, Pillow images, uint8 arrays (H, W), (H, W, 3) or (H, W, 4), or uint8 tensors
            (3, H, W); also as one array or tensor whose first axis counts images, or as a table
            of one column of paths.

        Returns
        -------
        ndarray of float32, (n, d)

        Raises
        ------
        NotFittedError
            :meth:`fit` was not called.
        ImageError
            An image cannot be decoded; the message names it.
        """
        check_is_fitted(self, "extractor_")
        images = _images(X)
        if self.cache is not None:
            return CachedFeatures(self.cache, self.extractor_)(images)
        (features,) = self.extractor_(images).values()
        return features.reshape(len(features), self.n_features_out_)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:  # noqa: ARG002
        """Return names of the columns, as ``"relu7_0"``.

        Parameters
        ----------
        input_features : object
            Of no effect: images have no features of their own.
        """
        check_is_fitted(self, "extractor_")
        (layer,) = self.extractor_.shapes
        return np.array([f"{layer}_{i}" for i in range(self.n_features_out_)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _images(X: Any) -> list[Any]:
    if isinstance(X, str | os.PathLike | Image.Image):
        return [X]
    if getattr(X, "ndim", 1) == 2 and X.shape[1] == 1:  # a table of one column
        return [row[0] for row in np.asarray(X).tolist()]
    return list(X)
