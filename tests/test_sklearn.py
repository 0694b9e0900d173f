"""VGGFeatures works inside scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import draw
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from vggfeat import FeatureExtractor
from vggfeat.errors import LayerError
from vggfeat.sklearn import VGGFeatures


def test_a_pipeline_learns_from_images(photos):
    paths = sorted(photos.rglob("*.jpg"))
    labels = [path.parent.name for path in paths]
    features = VGGFeatures("pool1", weights="random:0", device="cpu")
    pipeline = make_pipeline(features, LinearSVC()).fit(paths, labels)
    assert pipeline.score(paths, labels) > 0.8
    assert pipeline[0].n_features_out_ == 64


def test_features_are_the_extractors():
    images = [draw(80, 90, seed) for seed in range(3)]
    transformer = clone(VGGFeatures("pool3:none", weights="random:0", device="cpu"))
    ours = transformer.fit_transform(images)
    extractor = FeatureExtractor(weights="random:0", layers="pool3:none", device="cpu")
    assert np.array_equal(ours, extractor(images)["pool3"].reshape(3, -1))


def test_several_layers_are_refused():
    with pytest.raises(LayerError, match="one layer"):
        VGGFeatures("pool1,pool2", weights="random:0").fit([])
