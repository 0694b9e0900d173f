"""Layers and their poolings are read as asked, and pooled as defined."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vggfeat import pooling
from vggfeat.errors import LayerError
from vggfeat.layers import architecture

VGG16 = architecture("vgg16")


def test_layers_come_out_canonical_and_in_the_order_they_run():
    found = pooling.parse_layers("relu7, features.28:max,pool5:none,fc1", "avg", VGG16)
    assert list(found.items()) == [
        ("conv5_3", "max"),
        ("pool5", "none"),
        ("fc6", ""),
        ("relu7", ""),
    ]


def test_a_list_of_layers_is_read_like_a_text():
    assert pooling.parse_layers(["conv1_1"], "max", VGG16) == {"conv1_1": "max"}


def test_all_is_every_layer_of_the_network_with_maps_pooled_as_asked():
    found = pooling.parse_layers("all", "avg", VGG16)
    assert list(found) == list(VGG16.names)
    assert {name for name, pool in found.items() if pool == ""} == {
        *("flatten", "fc6", "relu6", "fc7", "relu7", "fc8", "prob")
    }
    assert set(found.values()) == {"avg", ""}
    pooled = {"relu4_1": "max", "pool5": "max", "fc7": ""}
    assert pooled.items() <= pooling.parse_layers(["ALL:max"], "avg", VGG16).items()


def test_a_layer_named_beside_all_keeps_its_own_pooling():
    for text in ("all:max,conv13:none,fc7", "conv13:none, fc7, all:max"):
        found = pooling.parse_layers(text, "avg", VGG16)
        assert list(found) == list(VGG16.names)
        assert (found["conv5_3"], found["conv5_2"], found["fc7"]) == ("none", "max", "")
    assert pooling.parse_layers("all:max,conv5_3", "avg", VGG16)["conv5_3"] == "avg"


@pytest.mark.parametrize(
    ("layers", "pool", "message"),
    [
        ("conv5_3:mean", "avg", "Unknown pooling 'mean'.*avg, max, none"),
        ("conv5_3:", "avg", "Unknown pooling ''"),
        ("conv5_3", "median", "Unknown pooling 'median'"),
        ("relu7:max", "avg", "'relu7:max': relu7 is a vector"),
        ("conv5_3,conv13:max", "avg", "conv5_3 is asked for twice"),
        (" , ", "avg", "No layer was asked for"),
        ("conv9_9", "avg", "Unknown layer 'conv9_9'"),
        ("all:mean", "avg", "Unknown pooling 'mean'"),
        ("all:", "avg", "Unknown pooling ''"),
        ("all,all:max", "avg", "'all' is asked for twice"),
        ("all,conv5_3,conv13", "avg", "conv5_3 is asked for twice"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_reason(layers, pool, message):
    with pytest.raises(LayerError, match=message):
        pooling.parse_layers(layers, pool, VGG16)


@pytest.mark.parametrize(("name", "reference"), [("avg", np.mean), ("max", np.max), ("none", None)])
def test_pooling_is_what_numpy_computes(name, reference):
    maps = torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(1))
    pooled = pooling.apply(maps, name).numpy()
    expected = maps.numpy() if reference is None else reference(maps.numpy(), axis=(2, 3))
    np.testing.assert_allclose(pooled, expected, rtol=1e-6, atol=1e-6)


def test_half_precision_activations_are_pooled_in_float32():
    maps = torch.full((1, 2, 64, 64), 6.0, dtype=torch.float16)
    maps[0, 0, 0, 0] = 60000
    pooled = pooling.apply(maps, "avg")
    assert pooled.dtype == torch.float32
    assert pooled[0, 0].item() == pytest.approx((60000 + 4095 * 6) / 4096)


@pytest.mark.parametrize("name", list(pooling.POOLINGS))
def test_the_announced_shape_is_the_real_one(name):
    shape = pooling.feature_shape(VGG16, "pool5", name)
    assert tuple(pooling.apply(torch.zeros(2, 512, 7, 7), name).shape[1:]) == shape
    assert pooling.feature_shape(VGG16, "relu7", "") == (4096,)
