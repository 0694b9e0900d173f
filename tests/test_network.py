"""Captured activations are the network's own, whatever is asked for together with them."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
import torchvision
from conftest import draw, peak_bytes
from torch import nn

from vggfeat.devices import resolve_device
from vggfeat.errors import DeviceError
from vggfeat.layers import Architecture, architecture
from vggfeat.network import Network, build
from vggfeat.network.modules import run_modules
from vggfeat.pooling import parse_layers
from vggfeat.preprocessing import Preprocessing
from vggfeat.weights import names, resolve, seeded, shapes

VGG16, TINY = architecture("vgg16"), architecture("vgg16-tiny")
ASKED = "conv1_1,conv3_2,relu3_3,conv5_3,relu5_3,pool5,flatten,fc6,relu6,fc7,relu7,fc8,prob"


def batch(count: int) -> np.ndarray:
    return np.stack([np.asarray(draw(224, 224, seed)) for seed in range(count)])


def reference(
    network: Architecture, spec: str, images: np.ndarray, deepest: str = "prob"
) -> dict[str, torch.Tensor]:
    """Run torchvision's own forward, default layout, no in-place ReLUs, with hooks that clone."""
    with torch.device("meta"):  # given its tensors, not made to be overwritten
        model = getattr(torchvision.models, network.name)(weights=None).eval()
    tensors = resolve(spec, network).load(network, names(network.upto([deepest])))
    model.load_state_dict(tensors, strict=deepest == "prob", assign=True)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    seen: dict[str, torch.Tensor] = {}
    for layer in network.layers:
        if layer.module:
            model.get_submodule(layer.module).register_forward_hook(
                lambda _m, _i, out, name=layer.name: seen.update({name: out.clone()})
            )
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    x = torchvision.transforms.functional.normalize(x, mean, std)
    with torch.inference_mode():
        if deepest != "prob":
            last = int(network.layer(deepest).module.removeprefix("features."))
            model.features[: last + 1](x)
            return seen
        seen["prob"] = model(x).softmax(1)
    seen["flatten"] = seen["pool5"].flatten(1)
    return seen


@pytest.fixture(scope="module")
def loaded():
    return Network.load(VGG16, resolve("random:0", VGG16), parse_layers(ASKED, "none", VGG16))


def test_every_layer_equals_an_independent_forward_of_torchvision(loaded):
    images = batch(2)
    ours, theirs = loaded.features(images), reference(VGG16, "random:0", images)
    assert list(ours) == ASKED.split(",")
    for name, value in ours.items():
        error = (value - theirs[name]).norm() / theirs[name].norm()
        assert error < 1e-5, name
    for name in ("conv1_1", "conv3_2", "conv5_3", "fc6", "fc7"):
        assert ours[name].min() < 0, f"{name} is the linear output"
    for name in ("relu3_3", "relu5_3", "relu6", "relu7"):
        assert ours[name].min() == 0, f"{name} is rectified"


def test_a_layer_is_the_same_alone_and_in_company():
    images, weights = batch(1), resolve("random:0", TINY)
    together = Network.load(TINY, weights, parse_layers(ASKED, "none", TINY)).features(images)
    for name in ("conv3_2", "conv5_3", "relu5_3", "fc7"):
        alone = Network.load(TINY, weights, parse_layers(name, "none", TINY))
        assert list(alone.modules)[-1] == name, "nothing deeper is built"
        assert torch.equal(alone.features(images)[name], together[name])


def test_an_images_features_do_not_depend_on_its_batch(loaded):
    images = batch(3)
    whole = loaded.features(images)
    for i in (0, 2):
        single = loaded.features(images[i : i + 1])
        for name in whole:
            torch.testing.assert_close(single[name][0], whole[name][i], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("model", ["vgg11", "vgg13", "vgg19"])
def test_other_networks_are_built_right(model):
    table = architecture(model)
    layers = "conv1_1,relu2_2,conv5_2" if model != "vgg11" else "conv1_1,relu2_1,conv5_2"
    network = Network.load(table, resolve("random:1", table), parse_layers(layers, "avg", table))
    images = batch(1)
    theirs = reference(table, "random:1", images, "conv5_2")
    for name, value in network.features(images).items():
        expected = theirs[name].mean((2, 3))
        assert (value - expected).norm() / expected.norm() < 1e-5


def test_what_is_kept_is_never_overwritten_later():
    modules = build(VGG16, resolve("random:0", VGG16), {"relu1_2": ""})
    kept: dict[str, torch.Tensor] = {}
    copies: dict[str, torch.Tensor] = {}

    def keep(name, activation):
        kept[name] = activation
        copies[name] = activation.clone()
        return activation

    names = ["conv1_1", "relu1_1", "conv1_2", "relu1_2"]
    with torch.inference_mode():
        listeners = {name: functools.partial(keep, name) for name in names}
        run_modules(modules, list(modules), torch.randn(1, 3, 16, 16), listeners)
    for name in names:
        assert torch.equal(kept[name], copies[name])
    assert (kept["conv1_2"] < 0).any()


def test_batch_out_of_memory_is_retried_in_halves(monkeypatch):
    network = Network.load(VGG16, resolve("random", VGG16), parse_layers("relu1_1", "avg", VGG16))
    images = batch(7)
    expected = network.features(images)["relu1_1"]

    class Small(type(network)):
        def features(self, images, **how):
            if len(images) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().features(images, **how)

    small = Small(**vars(network))
    assert torch.equal(small.features_with_oom_retry(images)["relu1_1"], expected)
    mirrored = small.features_with_oom_retry(images, flip=True)["relu1_1"]
    assert torch.equal(mirrored[::2], expected), "each is followed by its mirror image's"
    assert torch.equal(mirrored[1::2], network.features(images[:, :, ::-1].copy())["relu1_1"])


def test_bgr_weights_see_blue_first():
    caffe = Preprocessing(
        channels="BGR", scale=1.0, mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0)
    )
    network = Network.load(VGG16, resolve("random", VGG16), parse_layers("relu1_1", "avg", VGG16))
    image = batch(1)
    x = Network(**{**vars(network), "preprocessing": caffe}).normalised(image)
    expected = image[0, 5, 7, ::-1].astype(np.float32) - np.float32(caffe.mean)
    np.testing.assert_allclose(x[0, :, 5, 7].numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precisions_stay_near_float32(precision):
    layers = parse_layers("relu2_2", "avg", VGG16)
    weights = resolve("random", VGG16)
    exact = Network.load(VGG16, weights, layers, "cpu").features(batch(2))["relu2_2"]
    rough = Network.load(VGG16, weights, layers, "cpu", precision).features(batch(2))["relu2_2"]
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).norm() / exact.norm() < 0.02


def test_an_unavailable_device_is_refused_with_what_there_is():
    with pytest.raises(DeviceError, match=r"'cuda:99' is not available. This machine has: cpu"):
        resolve_device("cuda:99")
    with pytest.raises(DeviceError, match="tpu"):
        resolve_device("tpu")
    assert resolve_device("cpu").type == "cpu"


def test_conv5_3_alone_allocates_no_fully_connected_layers():
    weights, layers = resolve("random", VGG16), parse_layers("conv5_3", "avg", VGG16)
    needed = [4 * math.prod(shapes(VGG16)[name]) for name in names(VGG16.upto(layers))]
    modules, peak = peak_bytes(lambda: build(VGG16, weights, layers))
    assert list(modules)[-1] == "conv5_3"
    head = 4 * math.prod(shapes(VGG16)["classifier.6.weight"])  # of its matrices the smallest
    assert sum(needed) <= peak < sum(needed) + seeded.WORKING_BYTES + head
    network = Network.load(VGG16, weights, layers, "cpu")
    kept = {value.untyped_storage().data_ptr(): value for value in network.modules.parameters()}
    assert sum(value.untyped_storage().nbytes() for value in kept.values()) == sum(needed)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_gives_the_cpus_numbers():
    images = batch(4)
    layers = parse_layers("conv1_1,conv5_3,fc7,relu7", "none", VGG16)
    weights = resolve("random:0", VGG16)
    cpu = Network.load(VGG16, weights, layers, "cpu").features(images)
    gpu = Network.load(VGG16, weights, layers, "cuda").features(images)
    for name, value in cpu.items():
        assert (gpu[name].cpu() - value).norm() / value.norm() < 1e-5, name
