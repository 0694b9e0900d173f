"""Batch normalisation is folded exactly, and asking for a layer changes no other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from conftest import draw
from torch import nn

from vggfeat.errors import WeightsError
from vggfeat.layers import Architecture, architecture
from vggfeat.network import Network, build
from vggfeat.network.folding import Aside, folded
from vggfeat.pooling import parse_layers
from vggfeat.weights import imagenet, resolve, shapes

SMALL = Architecture(
    "vgg16_bn",
    (2, 2, 3, 3, 3),
    widths=(8, 12, 16, 24, 24),
    units=32,
    classes=10,
    input_size=64,
    grid=2,
    batch_norm=True,
)


@pytest.fixture(scope="module")
def state():
    generator = torch.Generator().manual_seed(4)
    made = {}
    for name, shape in shapes(SMALL).items():
        tensor = torch.randn(shape, generator=generator) * 0.3
        made[name] = tensor.abs() + 0.05 if name.endswith("running_var") else tensor
    return made


@pytest.fixture(scope="module")
def file(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("bn") / "bn.pth"
    counters = {
        name.replace("running_var", "num_batches_tracked"): torch.tensor(9)
        for name in state
        if name.endswith("running_var")
    }
    torch.save(state | counters, path)
    return path


def images(count: int = 2) -> np.ndarray:
    return np.stack([np.asarray(draw(64, 64, seed)) for seed in range(count)])


def activations(path, layers: str, seen=None) -> dict[str, torch.Tensor]:
    asked = parse_layers(layers, "none", SMALL)
    return Network.load(SMALL, resolve(str(path), SMALL), asked, "cpu").features(images())


def reference(state) -> dict[str, torch.Tensor]:
    """Run torchvision's layers, unfolded, in float64."""
    plan = []
    for width, count in zip(SMALL.widths, SMALL.convolutions, strict=True):
        plan += [*[width] * count, "M"]
    body = torchvision.models.vgg.make_layers(plan, batch_norm=True)
    own = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
    missing = body.load_state_dict(own, strict=False).missing_keys
    assert all(name.endswith("num_batches_tracked") for name in missing)
    body.double().eval()
    mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    x = torch.from_numpy(images()).permute(0, 3, 1, 2).double() / 255
    x = torchvision.transforms.functional.normalize(x, mean, std)
    names = {layer.module: layer.name for layer in SMALL.layers}
    seen = {}
    with torch.inference_mode():
        for number, module in enumerate(body):
            if isinstance(module, nn.ReLU):
                module.inplace = False
            x = module(x)
            seen[names[f"features.{number}"]] = x
    return seen


EVERY = ",".join(layer.name for layer in SMALL.layers if layer.spatial)


def test_every_layer_equals_torchvisions_unfolded_network(file, state):
    ours, theirs = activations(file, EVERY), reference(state)
    assert list(ours) == list(theirs)
    for name, expected in theirs.items():
        assert (ours[name] - expected).norm() / expected.norm() < 1e-5, name


def test_a_layers_values_do_not_depend_on_what_else_is_asked_for(file):
    together = activations(file, EVERY + ",fc7,prob")
    for name in ("conv1_1", "conv3_2", "bn3_2", "relu3_2", "conv5_3", "bn5_3", "pool5", "fc7"):
        assert torch.equal(activations(file, name)[name], together[name]), name
    some = activations(file, "conv1_2,bn4_1,relu5_3")
    assert all(torch.equal(value, together[name]) for name, value in some.items())


def test_conv_is_the_linear_output_before_normalisation_and_relu_after(file):
    found = activations(file, "conv4_1,bn4_1,relu4_1")
    assert torch.equal(found["bn4_1"].relu(), found["relu4_1"])
    assert not torch.allclose(found["conv4_1"], found["bn4_1"], rtol=0.1)
    assert found["bn4_1"].min() < 0


def test_the_folded_network_has_the_plain_networks_modules_and_no_more(file):
    weights = resolve(str(file), SMALL)
    modules = build(SMALL, weights, {"relu5_3": ""})
    kinds = [type(module) for module in modules.values()]
    assert kinds.count(nn.Conv2d) == 13
    assert nn.BatchNorm2d not in kinds
    assert Aside not in kinds
    beside = build(SMALL, weights, {"conv5_2": "", "relu5_3": ""})
    assert [name for name, module in beside.items() if isinstance(module, Aside)] == ["conv5_2"]


def test_folding_is_exact_but_for_one_rounding():
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(7, 9, 3).double()
    norm = nn.BatchNorm2d(9).double().eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        tensor.data.normal_(generator=generator)
    norm.running_var.uniform_(1e-3, 3, generator=generator)
    one = folded(conv.state_dict(), norm.state_dict())
    x = torch.randn(2, 7, 20, 20, generator=generator).double()
    expected = norm(conv(x))
    found = nn.functional.conv2d(x, one["weight"], one["bias"])
    assert (found - expected).abs().max() / expected.abs().max() < 1e-14


@pytest.mark.parametrize("model", ["vgg11_bn", "vgg16_bn"])
def test_networks_with_and_without_normalisation_are_not_taken_for_each_other(model, tmp_path):
    plain, normalised = architecture(model.removesuffix("_bn")), architecture(model)
    for own, other in ((plain, normalised), (normalised, plain)):
        body = {
            name: torch.zeros(shape)
            for name, shape in shapes(own).items()
            if name.startswith("features")
        }
        torch.save(body, tmp_path / "body.pth")
        with pytest.raises(WeightsError, match=rf"give --model {own.name}\."):
            resolve(str(tmp_path / "body.pth"), other).load(other, ["features.0.weight"])


def test_random_weights_keep_the_scale_of_activations_through_normalisation():
    network = architecture("vgg11_bn")
    layers = parse_layers("conv1_1,bn1_1,bn5_2", "none", network)
    loaded = Network.load(network, resolve("random:0", network), layers, "cpu")
    picture = np.asarray(draw(224, 224))[None]
    found = {name: value.std().item() for name, value in loaded.features(picture).items()}
    assert 0.2 < found["bn5_2"] / found["bn1_1"] < 5


def test_torchvision_has_every_network_with_normalisation():
    assert {f"vgg{depth}_bn" for depth in (11, 13, 16, 19)} <= set(imagenet.FILES)
