"""What a user sees has meaning: trained features know what looks alike, random ones know less."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_images

from vggfeat import FeatureExtractor, FeatureStore, SimilarityIndex
from vggfeat.demo.pictures import digit_picture
from vggfeat.evaluation import knn_accuracy, sweep
from vggfeat.probe import evaluate, train


@pytest.mark.parametrize("layer", ["pool5", "relu7"])
def test_neighbours_come_from_the_same_scene(scenes_store, layer):
    with FeatureStore(scenes_store) as store:
        index = SimilarityIndex.build(store, layer)
        found = index.search(store[layer][:], k=4)
    same = [
        own.path.split("/")[0] == other.path.split("/")[0]
        for own, *others in found
        for other in others
    ]
    assert np.mean(same) > 0.95


def test_a_probe_learns_the_scenes_from_a_few_parts_of_each(scenes_store):
    with FeatureStore(scenes_store) as store:
        assert evaluate(store, "relu7", train_per_class=5).mean_class_recall > 0.95


def test_a_saved_probe_names_new_images(scenes, scenes_store, tmp_path):
    with FeatureStore(scenes_store) as store:
        probe = train(store, "relu7")
    extractor = FeatureExtractor.like(probe.provenance)
    probe.check(extractor.config)
    paths = [scenes / kind / "03.jpg" for kind in ("china", "flower")]
    names, _ = probe.predict(extractor(paths)["relu7"])
    assert list(names) == ["china", "flower"]


def test_a_sweep_tells_deep_layers_from_shallow_ones(scenes_store):
    with FeatureStore(scenes_store) as store:
        shallow, *_, deep = sweep(store, ["pool2", "relu7"], train_per_class=3)
    assert deep.knn_accuracy > 0.9
    assert deep.knn_accuracy >= shallow.knn_accuracy - 0.05


def test_what_photographs_taught_carries_over_to_digits():
    data = load_digits()
    digits = [digit_picture(values) for values in data.images[:300]]
    y = data.target[:300]
    features = FeatureExtractor("vgg16-tiny", layers="pool4", device="cpu")(digits)["pool4"]
    known, asked = slice(0, 200), slice(200, 300)
    assert knn_accuracy(features[known], y[known], features[asked], y[asked], k=3) > 0.75


def test_the_network_answers_unlike_pictures_with_unlike_classes():
    china, flower = load_sample_images().images
    extractor = FeatureExtractor("vgg16-tiny", layers="prob", device="cpu")
    prob = extractor([np.ascontiguousarray(china), np.ascontiguousarray(flower)])["prob"]
    np.testing.assert_allclose(prob.sum(axis=1), 1, rtol=1e-5)
    assert prob[0].argmax() != prob[1].argmax()
