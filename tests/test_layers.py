"""The table of layers agrees with torchvision's networks and with the paper."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import torch
import torchvision
from torch import nn

from vggfeat import layers
from vggfeat.errors import LayerError
from vggfeat.layers import ARCHITECTURES, architecture

MODELS = list(ARCHITECTURES)
MINIATURES = {"vgg16-tiny": "vgg16"}


@pytest.fixture(scope="module", params=[name for name in MODELS if name not in MINIATURES])
def pair(request):
    with torch.device("meta"):
        return architecture(request.param), getattr(torchvision.models, request.param)()


@pytest.mark.parametrize("model", MINIATURES)
def test_a_miniature_is_its_original_with_a_quarter_of_the_channels(model):
    small, large = architecture(model), architecture(MINIATURES[model])
    assert small.names == large.names
    for ours, theirs in zip(small.layers, large.layers, strict=True):
        assert ours.module == theirs.module
        assert (ours.kind, ours.kernel, ours.stride) == (theirs.kind, theirs.kernel, theirs.stride)
        if ours.kind == "conv" or ours.name in ("fc6", "fc7"):
            assert 4 * ours.outputs == theirs.outputs
    assert small.output_shape("pool5") == (128, 2, 2)
    assert small.parameters == 2_700_696


def test_every_layer_is_the_torchvision_module_it_names(pair):
    table, network = pair
    kinds = {"conv": nn.Conv2d, "relu": nn.ReLU, "pool": nn.MaxPool2d, "linear": nn.Linear}
    kinds["bn"] = nn.BatchNorm2d
    named = [layer for layer in table.layers if layer.module]
    for layer in named:
        module = network.get_submodule(layer.module)
        assert isinstance(module, kinds[layer.kind]), layer.name
        assert sum(p.numel() for p in module.parameters()) == layer.parameters
        if layer.kind == "conv":
            assert (module.in_channels, module.out_channels) == (layer.inputs, layer.outputs)
            assert module.kernel_size == (layer.kernel,) * 2
            assert module.stride == (layer.stride,) * 2
            assert module.padding == (layer.padding,) * 2
        if layer.kind == "pool":
            assert (module.kernel_size, module.stride) == (layer.kernel, layer.stride)
    leaves = {
        name
        for name, module in network.named_modules()
        if isinstance(module, tuple(kinds.values()))
    }
    assert leaves == {layer.module for layer in named}, "no layer of torchvision's is left out"


def test_parameters_add_up_to_torchvisions(pair):
    table, network = pair
    assert table.parameters == sum(p.numel() for p in network.parameters())


def test_vgg16_has_the_papers_parameters_and_layer_names():
    table = architecture("vgg16")
    assert table.parameters == 138_357_544
    assert table.layer("fc6").parameters == 102_764_544
    expected = "conv1_1 relu1_1 conv1_2 relu1_2 pool1 conv2_1 relu2_1 conv2_2 relu2_2 pool2"
    assert " ".join(table.names[:10]) == expected
    expected = "conv5_3 relu5_3 pool5 flatten fc6 relu6 fc7 relu7 fc8 prob"
    assert " ".join(table.names[-10:]) == expected


@pytest.mark.parametrize("size", [(224, 224), (225, 301), (37, 64)])
def test_output_shapes_are_those_of_a_real_forward(pair, size):
    table, network = pair
    x = torch.empty(1, 3, *size, device="meta")
    seen = {}
    for layer in table.layers:
        if layer.module:
            network.get_submodule(layer.module).register_forward_hook(
                lambda _m, _i, out, name=layer.name: seen.update({name: tuple(out.shape[1:])})
            )
    network(x)
    for name, shape in seen.items():
        assert table.output_shape(name, *size) == shape


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("features.28", "conv5_3"),
        ("classifier.3", "fc7"),
        ("conv13", "conv5_3"),
        ("fc1", "fc6"),
        ("fc3", "fc8"),
        ("softmax", "prob"),
        (" RELU7 ", "relu7"),
    ],
)
def test_aliases_of_torchvision_and_of_the_slide_are_understood(alias, name):
    assert architecture("vgg16").layer(alias).name == name


@pytest.mark.parametrize(
    ("alias", "name", "told"),
    [
        ("block5_conv3", "relu5_3", "block5_conv3 is after its ReLU.*conv5_3 is the linear"),
        ("block5_pool", "pool5", ""),
        ("fc1", "fc6", "fc1 is fc6 here, the linear output.*Keras's fc1.*relu6"),
        ("FC2", "fc7", "fc2 is fc7 here, the linear output.*Keras's fc2.*relu7"),
        ("fc3", "fc8", ""),
        ("predictions", "prob", "after its softmax; fc8 is before it"),
    ],
)
def test_names_of_keras_are_understood_and_say_once_what_they_mean(caplog, alias, name, told):
    layers._tell.cache_clear()
    assert architecture("vgg16").layer(alias).name == name
    assert re.search(told, caplog.text) if told else not caplog.records
    caplog.clear()
    assert architecture("vgg16").layer(alias).name == name
    assert not caplog.records
    assert architecture("vgg16_bn").layer(alias).name == name


def test_no_alias_hides_a_canonical_name(pair):
    table, _ = pair
    for alias, name in table.aliases.items():
        assert alias not in table.names or alias == name


def test_an_unknown_layer_is_refused_with_the_nearest_names():
    with pytest.raises(LayerError, match=r"'conv5_4' for vgg16.*conv5_3.*vggfeat layers"):
        architecture("vgg16").layer("conv5_4")
    assert architecture("vgg19").layer("conv5_4").outputs == 512


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(LayerError, match=r"'vgg17'.*vgg16"):
        architecture("vgg17")


def test_an_input_too_small_for_a_layer_is_refused():
    with pytest.raises(LayerError, match="too small for pool5"):
        architecture("vgg16").output_shape("pool5", 31, 31)


def _cli(*args):
    return subprocess.run(
        [sys.executable, "-m", "vggfeat", *args], capture_output=True, text=True, check=False
    )


def test_layers_command_prints_the_table_with_its_sum():
    done = _cli("layers")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[-1].split() == ["all", "138,357,544"]
    conv = next(line for line in lines if line.startswith("conv4_2"))
    assert "512 x 28 x 28" in conv
    assert "relu4_2" in conv
    assert "2,359,808" in conv


def test_layers_command_prints_json():
    result = json.loads(_cli("layers", "--model", "vgg11", "--json").stdout)
    assert result["parameters"] == 132_863_336
    assert {"name": "relu7", "output": [4096]}.items() <= result["layers"][-3].items()
