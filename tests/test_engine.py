"""The Winograd engine gives torch's numbers: any layers, any size, any batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import draw
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the Winograd engine needs numba, the extra `fast`")

from vggfeat.engine import processor
from vggfeat.layers import Architecture, architecture
from vggfeat.network import Network
from vggfeat.pooling import parse_layers
from vggfeat.weights import resolve

if processor.unsuited():
    pytest.skip(processor.unsuited(), allow_module_level=True)

TINY = architecture("vgg16-tiny")
NAMES = [layer.name for layer in TINY.layers]


def load(network: Architecture, layers: str, engine: str, spec: str = "random:0") -> Network:
    asked = parse_layers(layers, "none", network)
    return Network.load(network, resolve(spec, network), asked, "cpu", engine=engine)


def error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).norm() / theirs.norm())


def images(count: int, height: int, width: int) -> list[np.ndarray]:
    return [np.asarray(draw(width, height, seed)) for seed in range(count)]


@pytest.mark.parametrize("model", ["vgg16", "vgg11"])
def test_every_layer_of_a_network_is_torchs(model):
    network = architecture(model)
    taken = images(2, 224, 224)
    ours, theirs = (
        load(network, "all", engine).features(taken) for engine in ("winograd", "torch")
    )
    assert list(ours) == [layer.name for layer in network.layers]
    for name, value in ours.items():
        assert error(value, theirs[name]) < 1e-5, name
    for name in ("conv1_1", "conv5_2", "fc6", "fc7"):
        assert ours[name].min() < 0, f"{name} is the linear output"
    for name in ("relu1_1", "relu5_2", "relu6", "relu7"):
        assert ours[name].min() == 0, f"{name} is rectified"


@settings(max_examples=40)
@given(
    layers=st.sets(st.sampled_from(NAMES), min_size=1, max_size=6),
    count=st.integers(1, 9),
    height=st.integers(32, 75),
    width=st.integers(32, 75),
    flip=st.booleans(),
)
def test_any_layers_sizes_and_batches_are_torchs(layers, count, height, width, flip):
    taken = images(count, height, width)
    asked = ",".join(layers)
    ours, theirs = (
        load(TINY, asked, engine).features(taken, flip=flip) for engine in ("winograd", "torch")
    )
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert error(value, theirs[name]) < 1e-5, name
