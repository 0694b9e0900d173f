"""Activations, their gradients and the layers to train are those of torchvision's modules."""

from __future__ import annotations

import copy
import functools
import json

import numpy as np
import pytest
import torch
from conftest import draw
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import vgg

from vggfeat import FeatureExtractor, pooling
from vggfeat.engine import processor
from vggfeat.errors import ImageError, LayerError
from vggfeat.layers import ARCHITECTURES, Architecture
from vggfeat.network import Network, Tail
from vggfeat.weights import PREPROCESSING_KEY, resolve, shapes

SMALL = Architecture("small", (1, 1, 2, 2, 3), (16, 16, 16, 32, 32), 64, 10, input_size=64, grid=2)
NORMED = Architecture(
    "small_bn", (1, 2, 1, 1, 1), (4, 6, 8, 8, 8), 16, 5, input_size=64, grid=2, batch_norm=True
)
HEAD = ("fc6", "relu6", "fc7", "relu7", "fc8", "prob")
SIZES = {False: (70, 99), True: (97, 131)}  # by dense


def same(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    assert ours.shape == theirs.shape
    assert ours.dtype == torch.float32
    assert (ours - theirs).norm() <= tolerance * theirs.norm()
    assert theirs.norm() > 0


def images(count: int, dense: bool = False) -> np.ndarray:
    return np.stack([np.asarray(draw(*SIZES[dense], seed)) for seed in range(count)])


@functools.cache
def network(engine: str = "torch", table: Architecture = SMALL) -> Network:
    weights, layers = resolve("random:0", table), dict.fromkeys(table.names, "")
    return Network.load(table, weights, layers, "cpu", engine=engine)


def theirs(table: Architecture = SMALL) -> dict[str, nn.Module]:
    """Return torchvision's modules by our names, with the same weights and nothing in place."""
    plan: list[int | str] = []
    for count, width in zip(table.convolutions, table.widths, strict=True):
        plan += [*[width] * count, "M"]
    with torch.device("meta"):  # its fully connected layers are of the usual size
        model = vgg.VGG(nn.Sequential(), init_weights=False).eval()
    model.features = vgg.make_layers(plan, batch_norm=table.batch_norm).eval()
    model.avgpool = nn.AdaptiveAvgPool2d(table.grid)
    sides = (table.widths[-1] * table.grid**2, table.units, table.units, table.classes)
    for at, inputs, outputs in zip((0, 3, 6), sides, sides[1:], strict=False):
        model.classifier[at] = nn.Linear(inputs, outputs)
    state = resolve("random:0", table).load(table, list(shapes(table)))
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    own = {layer.name: model.get_submodule(layer.module) for layer in table.layers if layer.module}
    own |= {"flatten": nn.Sequential(model.avgpool, nn.Flatten()), "prob": nn.Softmax(1)}
    return {name: own[name] for name in table.names}


def run(modules: dict[str, nn.Module], x: Tensor, *, dense: bool = False) -> dict[str, Tensor]:
    """Run modules one by one; dense: the linear ones as convolutions made by hand."""
    found = {}
    for name, module in modules.items():
        if dense and name == "flatten":
            continue
        if dense and isinstance(module, nn.Linear):
            grid = SMALL.grid if name == "fc6" else 1
            kernels = module.weight.view(len(module.weight), -1, grid, grid)
            x = nn.functional.conv2d(x, kernels, module.bias)
        else:
            x = module(x)
        found[name] = x
    return found


@pytest.fixture(params=[False, True], ids=["plain", "dense"])
def dense(request) -> bool:
    return request.param


def names(dense: bool) -> list[str]:
    return [name for name in SMALL.names if not (dense and name == "flatten")]


ENGINES = [
    "torch",
    pytest.param(
        "winograd",
        marks=pytest.mark.skipif(bool(processor.unsuited()), reason=processor.unsuited() or "-"),
    ),
]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_layers_activation_is_torchvisions_and_dense_those_of_convolutions(engine, dense):
    pixels = images(3, dense)
    loaded = network(engine)
    ours = loaded.activations(pixels, names(dense), dense=dense)
    assert list(ours) == names(dense)
    with torch.no_grad():
        expected = run(theirs(), loaded.normalised(pixels), dense=dense)
    for name, value in ours.items():
        same(value, expected[name])
    assert ours["conv5_3"].min() < 0
    assert ours["fc7"].min() < 0
    assert ours["fc6"].shape[2:] == ((3, 2) if dense else ())


def test_a_run_from_the_maps_of_any_layer_gives_the_whole_runs_bits(dense):
    pixels, loaded = images(2, dense), network()
    whole = loaded.activations(pixels, names(dense), dense=dense)
    before = loaded.normalised(pixels)
    for at, name in enumerate(names(dense)):
        copied = before.clone(memory_format=torch.contiguous_format)  # as from a file
        later = loaded.activations(copied, names(dense)[at:], start=name, dense=dense)
        assert list(later) == names(dense)[at:]
        for layer, value in later.items():
            assert torch.equal(value, whole[layer]), (name, layer)
        assert torch.equal(copied, before), "what was given is left as it was"
        before = whole[name]


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_a_run_from_the_maps_of_the_fast_engine_agrees_with_its_whole_run(engine, dense):
    pixels, loaded = images(2, dense), network(engine)
    assert loaded.modules["conv5_1"].weight.is_meta, "the engine has the weights"
    whole = loaded.activations(pixels, names(dense), dense=dense)
    later = loaded.activations(whole["pool4"], ["relu5_3", "fc7"], start="conv5_1", dense=dense)
    for name, value in later.items():
        same(value, whole[name])
    shared = loaded.engine._plain()._modules["fc6"]
    assert shared is loaded.modules["fc6"], "what the engine left is not read again"


@pytest.mark.parametrize("engine", ENGINES)
def test_gradients_to_pixels_and_middle_layers_are_those_of_autograd(engine, dense):
    loaded = network(engine)
    pixels = loaded.normalised(images(2, dense))
    ours_in, theirs_in = pixels.clone().requires_grad_(), pixels.clone().requires_grad_()
    layers = ["conv2_1", "pool4", "relu5_3", "fc6", "fc8", "prob"]
    with torch.no_grad():  # the caller's own setting does not matter
        ours = loaded.activations(ours_in, layers, dense=dense, gradients=True)
    expected = run(theirs(), theirs_in, dense=dense)
    for score in ("fc8", "prob"):  # the second backward runs over the same graph
        goals = ["conv2_1", "relu5_3", "fc6"]
        mine, other = (
            torch.autograd.grad(
                found[score][:, 3].sum(), [x, *(found[name] for name in goals)], retain_graph=True
            )
            for found, x in ((ours, ours_in), (expected, theirs_in))
        )
        for left, right in zip(mine, other, strict=True):
            same(left, right)
    assert not any(value.requires_grad for value in loaded.modules.parameters())


def test_gradients_of_images_and_from_cached_maps_reach_what_grad_cam_needs(dense):
    loaded, pixels = network(), images(2, dense)
    whole = loaded.activations(pixels, ["relu5_3", "fc8"], dense=dense, gradients=True)
    (expected,) = torch.autograd.grad(whole["fc8"][:, 7].sum(), whole["relu5_3"])
    with torch.inference_mode():
        maps = loaded.activations(pixels, ["relu5_3"], dense=dense)["relu5_3"]
        assert not maps.requires_grad
    maps.requires_grad_()
    later = loaded.activations(maps, ["fc8"], start="pool5", dense=dense, gradients=True)
    (found,) = torch.autograd.grad(later["fc8"][:, 7].sum(), maps)
    same(found, expected, 1e-6)
    frozen = loaded.activations(maps, ["fc8"], start="pool5", dense=dense)["fc8"]
    assert not frozen.requires_grad


def test_gradients_flow_in_reduced_precision_too():
    weights, layers = resolve("random:0", SMALL), {"relu5_3": "", "fc8": ""}
    rough = Network.load(SMALL, weights, layers, "cpu", "bfloat16")
    gradients = []
    for loaded in (network(), rough):
        found = loaded.activations(images(1), layers, gradients=True)
        gradients += torch.autograd.grad(found["fc8"][:, 3].sum(), found["relu5_3"])
    same(gradients[1], gradients[0], 0.3)  # with 8 bits some ReLUs and maxima fall the other way


@pytest.mark.parametrize("engine", ENGINES)
def test_a_tail_trains_as_torchvisions_modules_do(engine, dense):
    loaded = network(engine)
    maps = loaded.activations(images(4, dense), ["pool4"], dense=dense)["pool4"]
    before = loaded.activations(maps, ["fc8"], start="conv5_1", dense=dense)["fc8"]
    tail, modules = loaded.tail("conv5_1", "fc8"), theirs()
    assert isinstance(tail, Tail)
    assert not tail.training
    later = {name: modules[name] for name in tail.layers}
    own = dict(tail.named_parameters())
    assert list(own) == [
        f"{n}.{kind}" for n, m in later.items() for kind in dict(m.named_parameters())
    ]
    optimisers = [
        torch.optim.SGD(values, 0.05, momentum=0.9)
        for values in (tail.parameters(), nn.ModuleDict(later).parameters())
    ]
    classes = torch.tensor([1, 5, 9, 5])
    for _ in range(2):
        results = tail(maps, dense=dense), run(later, maps, dense=dense)["fc8"]
        same(*results)
        for optimiser, result in zip(optimisers, results, strict=True):
            optimiser.zero_grad()
            scores = result.mean((2, 3)) if dense else result
            nn.functional.cross_entropy(scores, classes).backward()
        for name, value in own.items():
            layer, _, kind = name.partition(".")
            same(value.grad, getattr(later[layer], kind).grad, 1e-4)
        for optimiser in optimisers:
            optimiser.step()
    same(tail(maps, dense=dense), run(later, maps, dense=dense)["fc8"], 1e-4)
    after = loaded.activations(maps, ["fc8"], start="conv5_1", dense=dense)["fc8"]
    assert torch.equal(after, before), "the network is as it was"


@pytest.mark.parametrize("table", [SMALL, NORMED], ids=["plain", "normalised"])
def test_a_trained_tail_saves_back_into_weights_that_extract(table, tmp_path, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, table.name, table)
    loaded = network("torch", table)
    tail = loaded.tail("conv4_1")
    with torch.no_grad():
        for value in tail.parameters():
            value.add_(0.01 * torch.ones_like(value))
    state = tail.whole_state()
    assert set(state) == set(shapes(table))
    original = loaded.weights.load(table, list(state))
    changed = {name for name in state if not torch.equal(state[name], original[name])}
    assert changed == {n for n in tail.torchvision_state() if "running" not in n}
    said = {PREPROCESSING_KEY: json.dumps(loaded.preprocessing.to_json())}
    save_file(state, tmp_path / "trained.safetensors", metadata=said)
    weights = resolve(str(tmp_path / "trained.safetensors"), table)
    assert weights.preprocessing == loaded.preprocessing
    again = Network.load(table, weights, dict.fromkeys(table.names, ""), "cpu")
    pixels = images(2)
    whole = again.activations(pixels, ["pool3", "relu5_1", "fc8"])
    own = tail.activations(whole["pool3"], ["relu5_1", "fc8"])
    for name, value in own.items():
        same(value.detach(), whole[name])
    second = loaded.tail("conv4_1")
    second.load_state_dict(tail.state_dict())
    assert torch.equal(second(whole["pool3"]), tail(whole["pool3"]))
    assert torch.equal(copy.deepcopy(tail)(whole["pool3"]), tail(whole["pool3"]))


def test_batch_normalisation_learns_in_a_tail_and_runs_start_at_its_convolution():
    loaded, modules = network("torch", NORMED), theirs(NORMED)
    pixels = images(3)
    whole = loaded.activations(pixels)
    expected = run(modules, loaded.normalised(pixels))
    for name, value in whole.items():
        same(value, expected[name].detach())
    later = loaded.activations(whole["relu2_1"], ["conv2_2", "fc8"], start="conv2_2")
    for name, value in later.items():
        assert torch.equal(value, whole[name])
    few = Network.load(NORMED, loaded.weights, {"fc8": ""}, "cpu")
    later = few.activations(whole["relu2_1"], ["fc8"], start="conv2_2")["fc8"]
    assert torch.equal(later, whole["fc8"]), "also where the convolution itself is not built"
    tail = loaded.tail("conv2_2", "relu5_1").train()
    theirs_later = nn.ModuleDict({name: modules[name] for name in tail.layers}).train()
    same(
        tail(whole["relu2_1"]).detach(),
        run(dict(theirs_later.items()), whole["relu2_1"])["relu5_1"].detach(),
    )
    for name, value in tail.named_buffers():
        layer, _, kind = name.partition(".")
        torch.testing.assert_close(value, getattr(theirs_later[layer], kind))
    with pytest.raises(LayerError, match="Start at conv2_2"):
        loaded.activations(whole["conv2_2"], ["fc8"], start="bn2_2")
    with pytest.raises(LayerError, match=r"conv2_2 is not built.*when the network is loaded"):
        few.activations(pixels, ["conv2_2"])


def test_features_are_pooled_activations_put_together_by_the_view():
    layers = "conv2_1:gem,pool5:max,relu7,prob"
    for options in ({}, {"view": "dense", "scales": (64, 90), "flip": True}):
        extractor = FeatureExtractor(
            "vgg16-tiny", weights="random:0", layers=layers, device="cpu", **options
        )
        image = draw(70, 80)
        found, features = extractor.activations(image), extractor(image)
        assert len(found) == extractor.resolved_view.count
        for name, pool in extractor.poolings.items():
            rows = [one[name][None] for one in found]
            if rows[0].ndim == 4:
                rows = [pooling.apply(row, pool or "avg") for row in rows]
            combined = extractor.resolved_view.combined(torch.cat(rows))
            same(combined[0], torch.from_numpy(features[name][0]), 1e-6)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"layers": ["conv4_9"]}, "Unknown layer 'conv4_9'"),
        ({"layers": ["fc6"]}, "fc6 is not built; conv1_1 to pool5 are. Ask for it when"),
        ({"layers": []}, "Name at least one, such as pool5"),
        ({"start": "conv5_1", "layers": ["pool4"]}, "pool4 comes before conv5_1.*start at pool4"),
        ({"start": "conv5_1"}, "Images go into conv1_1, not conv5_1"),
        ({"inputs": torch.zeros(1, 64, 4, 4), "start": "conv5_1"}, "takes pool4, .*32, H, W"),
        ({"inputs": torch.zeros(1, 32), "start": "conv5_1"}, r"\(B, 32, H, W\), not \(1, 32\)"),
        ({"inputs": torch.zeros(1, 3, 64, 64).byte()}, "normalised pixels, floating-point .*uint8"),
        ({"inputs": torch.zeros(0, 3, 64, 64)}, "not .0, 3, 64, 64"),
    ],
)
def test_what_cannot_run_is_refused_with_what_would(how, message):
    loaded = Network.load(
        SMALL, resolve("random:0", SMALL), {"conv5_3": "avg", "pool5": "avg"}, "cpu"
    )
    with pytest.raises(LayerError, match=message):
        loaded.activations(**{"inputs": images(1), "layers": ["pool5"], **how})


def test_dense_and_plain_maps_are_not_mistaken_for_each_other():
    loaded = network()
    maps, rows = torch.ones(1, 64, 2, 2), torch.ones(1, 64)
    with pytest.raises(LayerError, match="with the same `dense`"):
        loaded.activations(maps, ["fc7"], start="fc7")
    with pytest.raises(LayerError, match="with the same `dense`"):
        loaded.activations(rows, ["fc7"], start="fc7", dense=True)
    with pytest.raises(LayerError, match="A dense run has no flatten"):
        loaded.activations(images(1), ["flatten"], dense=True)
    with pytest.raises(LayerError, match="1 x 2 is smaller than the 2 x 2"):
        loaded.activations(np.zeros((1, 40, 90, 3), np.uint8), ["fc6"], dense=True)
    with pytest.raises(LayerError, match="conv5_3 comes before fc6"):
        loaded.tail("fc6", "conv5_3")
    with pytest.raises(ImageError, match="one size at a time"):
        loaded.activations([images(1)[0], images(1, True)[0]], ["pool1"])
    with pytest.raises(ImageError, match="uint8 arrays"):
        loaded.activations(images(1) / 255, ["pool1"])
