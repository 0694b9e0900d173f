"""VGGFeatures works inside scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import draw
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils import estimator_checks as checks

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


@pytest.mark.parametrize(
    "check",
    [
        "check_do_not_raise_errors_in_init_or_set_params",
        "check_dont_overwrite_parameters",
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimators_fit_returns_self",
        "check_estimators_overwrite_params",
        "check_estimators_unfitted",
        "check_fit_check_is_fitted",
        "check_get_params_invariance",
        "check_mixin_order",
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_set_params",
        "check_transformers_unfitted",
        "check_valid_tag_types",
    ],
)
def test_scikit_learn_s_own_checks_pass_where_they_need_no_table_of_numbers(check):
    if not hasattr(checks, check):
        pytest.skip("this version of scikit-learn has no such check")
    getattr(checks, check)("VGGFeatures", VGGFeatures("pool1", model="vgg16-tiny"))


def test_columns_have_names_and_frames_keep_them():
    images = [draw(70, 70, seed) for seed in range(2)]
    transformer = VGGFeatures("pool1:max", model="vgg16-tiny", device="cpu").fit(images)
    names = transformer.get_feature_names_out()
    assert names.tolist() == [f"pool1_{i}" for i in range(16)]
    pipeline = make_pipeline(transformer, StandardScaler()).fit(images)
    assert pipeline[-1:].get_feature_names_out(names).tolist() == names.tolist()
    transformer.set_output(transform="default")
    assert transformer.transform(images).shape == (2, 16)


def test_a_table_s_column_of_paths_and_an_array_of_images_are_taken(photos):
    paths = sorted(photos.rglob("*.jpg"))[:3]
    transformer = VGGFeatures("pool1", model="vgg16-tiny", device="cpu").fit(paths)
    expected = transformer.transform(paths)
    assert np.array_equal(transformer.transform(np.array([str(p) for p in paths])), expected)
    column = np.array([[str(path)] for path in paths], dtype=object)
    assert np.array_equal(transformer.transform(column), expected)
    assert np.array_equal(transformer.transform(paths[0]), expected[:1])
    grey = np.stack([np.asarray(draw(64, 64, seed).convert("L")) for seed in range(3)])
    assert np.array_equal(transformer.transform(grey), transformer.transform(list(grey)))


def test_transforming_before_fitting_is_refused():
    with pytest.raises(NotFittedError):
        VGGFeatures("pool1", weights="random:0").transform([])
