"""Layers and their poolings are read as asked, and pooled as defined."""

from __future__ import annotations

import itertools
import json
import math

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import draw
from hypothesis import given, settings
from hypothesis import strategies as st

from vggfeat import FeatureExtractor, pooling
from vggfeat.cli import main
from vggfeat.errors import LayerError
from vggfeat.layers import architecture
from vggfeat.pooling.regions import rmac_regions

VGG16 = architecture("vgg16")
TEXTS = [*pooling.POOLINGS, "gem:1", "gem:2.5", "gem:40", "rmac:1", "rmac:5", "spp:3", "spp:4+1"]


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


def test_each_layer_may_have_a_pooling_with_a_parameter():
    found = pooling.parse_layers("conv5_3:gem,pool5:gem:2.5,relu7,pool4:rmac:2", "spoc", VGG16)
    assert found == {"conv5_3": "gem:3", "pool5": "gem:2.5", "relu7": "", "pool4": "rmac:2"}


@pytest.mark.parametrize(
    "text",
    ["pool4:spp:1+2+4,pool5", "pool4:spp:1,2,4,pool5", "pool4:spp,pool5", "pool4:spp:1, 2,4,pool5"],
)
def test_levels_of_a_pyramid_are_told_from_layers(text):
    found = pooling.parse_layers(text, "spp:1,2,4", VGG16)
    assert found == {"pool4": "spp:1+2+4", "pool5": "spp:1+2+4"}


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("avg", "avg"),
        ("max", "max"),
        ("none", "none"),
        ("gem", "gem:3"),
        ("gem:3.0", "gem:3"),
        ("gem:3.1415926535897931", "gem:3.141592653589793"),
        ("GeM:1e-2", "gem:0.01"),
        ("rmac", "rmac:3"),
        ("spoc", "spoc"),
        ("crow", "crow"),
        ("spp", "spp:1+2+4"),
        ("spp:4,1", "spp:4+1"),
    ],
)
def test_what_means_the_same_has_one_canonical_text(written, canonical):
    assert pooling.canonical(written) == canonical
    assert pooling.canonical(canonical) == canonical
    assert pooling.read(written) == pooling.read(canonical)


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
        ("conv5_3:mean", "avg", r"Unknown pooling 'mean'.*avg, max, gem\[:P\], rmac\[:L\], spoc"),
        ("conv5_3:", "avg", "Unknown pooling ''"),
        ("conv5_3", "median", "Unknown pooling 'median'"),
        ("relu7:max", "avg", "'relu7:max': relu7 is a vector"),
        ("conv5_3,conv13:avg", "avg", "conv5_3 is asked for twice"),
        (" , ", "avg", "No layer was asked for"),
        ("conv9_9", "avg", "Unknown layer 'conv9_9'"),
        ("pool5", "avg:2", "avg takes no parameter, and '2' is given. Write avg alone"),
        ("pool5", "gem:0", "gem's P is '0'; give a finite number above 0, as in gem:3"),
        ("pool5:gem:-1", "avg", "gem's P is '-1'"),
        ("pool5:gem:nan", "avg", "gem's P is 'nan'"),
        ("pool5:gem:inf", "avg", "gem's P is 'inf'"),
        ("pool5:gem:", "avg", "gem's P is ''"),
        ("pool5:rmac:0", "avg", "rmac's L is '0'; give a whole number from 1 on, as in rmac:3"),
        ("pool5:rmac:2.5", "avg", "rmac's L is '2.5'"),
        ("pool5", "spp:1,0", "spp's levels are '1,0'; give whole numbers from 1 on, each once"),
        ("pool5", "spp:2,2", "spp's levels are '2,2'"),
        ("pool5:spp:1;2", "avg", "spp's levels are '1;2'"),
        ("all:mean", "avg", "Unknown pooling 'mean'"),
        ("all:", "avg", "Unknown pooling ''"),
        ("all,all:max", "avg", "'all' is asked for twice"),
        ("all,conv5_3,conv13", "avg", "conv5_3 is asked for twice"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_reason(layers, pool, message):
    with pytest.raises(LayerError, match=message):
        pooling.parse_layers(layers, pool, VGG16)


@pytest.mark.parametrize(("kind", "value"), [("GeM", 0.0), ("RMAC", 0), ("SpatialPyramid", ())])
def test_parameters_are_checked_in_python_too(kind, value):
    with pytest.raises(LayerError):
        getattr(pooling, kind)(value)


# One map (C, H, W) of float64 to its feature, written as loops from the papers' formulas.


def each_channel(one_channel):
    return lambda x, *parameter: np.array([one_channel(plane, *parameter) for plane in x])


@each_channel
def gem(plane, p=3.0):
    values = [max(float(v), 1e-6) for v in plane.flat]
    top = max(values)
    return top * (math.fsum((v / top) ** p for v in values) / len(values)) ** (1 / p)


@each_channel
def spoc(plane):
    height, width = plane.shape
    sigma = min(height / 2, width / 2) / 3
    total = 0.0
    for i, j in np.ndindex(height, width):
        squared = (i + 0.5 - height / 2) ** 2 + (j + 0.5 - width / 2) ** 2
        total += math.exp(-squared / (2 * sigma**2)) * plane[i, j]
    return total


def crow(x):
    x = np.where(x > 0, x, 0)
    channels, height, width = x.shape
    summed = {(i, j): sum(x[:, i, j]) for i, j in np.ndindex(height, width)}
    norm = math.sqrt(sum(s**2 for s in summed.values()))
    active = [sum(v > 0 for v in plane.flat) / (height * width) for plane in x]
    feature = []
    for k in range(channels):
        rarity = math.log((channels * 1e-6 + sum(active)) / (1e-6 + active[k]))
        terms = [math.sqrt(s / norm) * x[k][at] for at, s in summed.items() if norm]
        feature.append(rarity * sum(terms))
    return np.array(feature)


def rmac(x, levels=3):
    channels, height, width = x.shape
    short, long = min(height, width), max(height, width)
    if short == long:
        along = 1
    else:
        tried = range(2, 8 * long)
        missed = [abs(1 - (long - short) / (m - 1) / short - 0.4) for m in tried]
        along = next(m for m, miss in zip(tried, missed, strict=True) if miss < min(missed) + 1e-9)
    total = np.zeros(channels)
    for level in range(1, levels + 1):
        side = math.floor(2 * short / (level + 1))
        rows = level + (along - 1 if height > width else 0)
        columns = level + (along - 1 if width > height else 0)
        for a, b in np.ndindex(rows, columns) if side else ():
            top = math.floor(a * (height - side) / (rows - 1) + 1e-9) if rows > 1 else 0
            left = math.floor(b * (width - side) / (columns - 1) + 1e-9) if columns > 1 else 0
            region = x[:, top : top + side, left : left + side].reshape(channels, -1).max(axis=1)
            total += region / (np.sqrt(np.sum(region**2)) or 1)
    return total / (np.sqrt(np.sum(total**2)) or 1)


def spp(x, levels=(1, 2, 4)):
    channels, height, width = x.shape
    found = []
    for n in levels:
        for c, i, j in np.ndindex(channels, n, n):
            rows = slice(math.floor(i / n * height), math.ceil((i + 1) / n * height))
            columns = slice(math.floor(j / n * width), math.ceil((j + 1) / n * width))
            found.append(x[c, rows, columns].max())
    return np.array(found)


FORMULAS = {
    "avg": each_channel(np.mean),
    "max": each_channel(np.max),
    "none": lambda x: x,
    "gem": gem,
    "gem:1": lambda x: gem(x, 1.0),
    "gem:2.5": lambda x: gem(x, 2.5),
    "gem:40": lambda x: gem(x, 40.0),
    "rmac": rmac,
    "rmac:1": lambda x: rmac(x, 1),
    "rmac:5": lambda x: rmac(x, 5),
    "spoc": spoc,
    "crow": crow,
    "spp": spp,
    "spp:3": lambda x: spp(x, (3,)),
    "spp:4+1": lambda x: spp(x, (4, 1)),
}


def random_maps(shape, rectified=True, seed=0):
    """Maps as a ReLU leaves them, half of them zero, of the size of VGG's activations."""
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 30
    return maps.clamp(min=0) if rectified else maps


@pytest.mark.parametrize("text", TEXTS)
@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 6),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    rectified=st.booleans(),
    seed=st.integers(0, 99),
)
def test_pooling_is_what_the_formula_says_for_maps_of_any_size(
    text, channels, height, width, rectified, seed
):
    maps = random_maps((2, channels, height, width), rectified, seed)
    before = maps.clone()
    pooled = pooling.apply(maps, text)
    expected = np.stack([FORMULAS[text](x) for x in maps.double().numpy()])
    scale = np.abs(expected).max(initial=1e-30)
    np.testing.assert_allclose(pooled.numpy(), expected, rtol=1e-5, atol=1e-6 * scale)
    assert tuple(pooled.shape[1:]) == pooling.read(text).shape((channels, height, width))
    assert torch.equal(maps, before), "the activation is left as it was"


@pytest.mark.parametrize("text", TEXTS)
def test_maps_that_are_zero_all_over_pool_to_nothing(text):
    pooled = pooling.apply(torch.zeros(2, 3, 5, 4), text)
    assert pooled.abs().max() <= 1.0001e-6, "gem's smallest value"


@pytest.mark.parametrize("text", [text for text in TEXTS if text not in ("rmac", "rmac:5")])
@pytest.mark.parametrize("mirrored", [3, 2])
def test_a_mirrored_square_map_pools_alike_but_for_the_places_kept(text, mirrored):
    # Not so R-MAC of several sizes, whose regions' places are rounded down.
    maps = random_maps((2, 4, 6, 6))
    ours, theirs = (pooling.apply(x, text) for x in (maps, maps.flip(mirrored)))
    if text.startswith(("spp", "none")):
        ours, theirs = (x.flatten(1).sort().values for x in (ours, theirs))
    torch.testing.assert_close(ours, theirs)


def test_generalised_mean_by_hand():
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 0.0]], [[-5.0, -1.0], [0.0, 0.0]]]])
    pooled = pooling.apply(maps, "gem")[0]
    assert pooled[0].item() == pytest.approx(((1 + 8 + 27) / 4) ** (1 / 3), rel=1e-6)
    assert pooled[1].item() == pytest.approx(1e-6), "negative values are raised to 1e-6"


def test_generalised_mean_lies_between_average_and_maximum_and_never_overflows():
    maps = random_maps((4, 8, 14, 14)) * 1e6
    texts = ["avg", "gem:1", "gem:2", "gem:10", "gem:1000", "gem:1e300", "max"]
    pooled = [pooling.apply(maps, text) for text in texts]
    for lower, higher in itertools.pairwise(pooled):
        assert (higher >= lower * (1 - 1e-5)).all()
    torch.testing.assert_close(pooled[0], pooled[1])
    torch.testing.assert_close(pooled[-2], pooled[-1])


def test_centring_prior_by_hand():
    maps = torch.zeros(1, 3, 3, 3)
    maps[0, 0, 1, 1], maps[0, 1, 1, 2], maps[0, 2, 0, 0] = 1, 1, 1  # middle, edge, corner
    expected = [1, math.exp(-2), math.exp(-4)]  # sigma is half a cell
    np.testing.assert_allclose(pooling.apply(maps, "spoc")[0], expected, rtol=1e-6)


def test_cross_dimensional_weights_by_hand():
    # Channel 0 is active everywhere, channel 1 in one place of two: the sums are 3 and 4, their
    # length is 5, and the shares 1 and 1/2.
    maps = torch.tensor([[[[3.0, 2.0]], [[0.0, 2.0]]]])
    here, there = math.sqrt(3 / 5), math.sqrt(4 / 5)
    expected = [math.log(1.5) * (3 * here + 2 * there), math.log(3) * 2 * there]
    np.testing.assert_allclose(pooling.apply(maps, "crow")[0], expected, rtol=1e-5)


def test_rare_channels_of_a_linear_layer_weigh_as_after_its_relu():
    maps = random_maps((3, 5, 6, 7), rectified=False)
    assert torch.equal(pooling.apply(maps, "crow"), pooling.apply(maps.clamp(min=0), "crow"))


@pytest.mark.parametrize(
    ("size", "levels", "expected"),
    [
        ((7, 7), 1, [(7, [0], [0])]),
        ((7, 7), 3, [(7, [0], [0]), (4, [0, 3], [0, 3]), (3, [0, 2, 4], [0, 2, 4])]),
        # 6 x 9: two squares side by side overlap by 50 %, three by 75 %
        ((6, 9), 2, [(6, [0], [0, 3]), (4, [0, 2], [0, 2, 5])]),
        # 10 x 16: two overlap by exactly 40 %
        ((16, 10), 1, [(10, [0, 6], [0])]),
        # 2 x 20: 17 squares overlap by 43.75 %, 16 by exactly 40 %
        ((2, 20), 1, [(2, [0], [i * 18 // 15 for i in range(16)])]),
        ((1, 1), 3, [(1, [0], [0])]),
        ((2, 2), 3, [(2, [0], [0]), (1, [0, 1], [0, 1]), (1, [0, 0, 1], [0, 0, 1])]),
    ],
)
def test_regions_by_hand(size, levels, expected):
    assert list(rmac_regions(*size, levels)) == expected


@settings(deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), levels=st.integers(1, 6))
def test_regions_lie_within_the_map_and_those_of_the_largest_size_cover_it(height, width, levels):
    regions = list(rmac_regions(height, width, levels))
    for side, tops, lefts in regions:
        assert (tops[0], lefts[0]) == (0, 0)
        assert (tops[-1] + side, lefts[-1] + side) in {(height, width), (side, side)}
    side, tops, lefts = regions[0]
    assert side == min(height, width)
    assert {top + i for top in tops for i in range(side)} == set(range(height))
    assert {left + i for left in lefts for i in range(side)} == set(range(width))


def test_regional_maxima_by_hand():
    # The whole and its four cells: (3, 4) twice becomes (0.6, 0.8), and (0, 2) becomes (0, 1).
    maps = torch.tensor([[[[3.0, 0.0], [0.0, 0.0]], [[4.0, 2.0], [0.0, 0.0]]]])
    expected = np.array([1.2, 2.6]) / math.hypot(1.2, 2.6)
    np.testing.assert_allclose(pooling.apply(maps, "rmac:2")[0], expected, rtol=1e-6)
    lengths = pooling.apply(random_maps((5, 16, 7, 9)), "rmac").norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(5))


def test_a_spatial_pyramid_by_hand():
    maps = torch.arange(9.0).reshape(1, 1, 3, 3)
    assert pooling.apply(maps, "spp:1,2")[0].tolist() == [8, 4, 5, 7, 8]
    channels = torch.cat([maps, maps + 10], dim=1)
    assert pooling.apply(channels, "spp:2")[0].tolist() == [4, 5, 7, 8, 14, 15, 17, 18]


@pytest.mark.parametrize("text", TEXTS)
def test_pooling_makes_nothing_on_another_device_than_the_maps(text):
    # Tensors of the meta device cannot be mixed with those that a pooling made on the CPU.
    maps = torch.empty(2, 4, 7, 5, device="meta", dtype=torch.bfloat16)
    pooled = pooling.apply(maps, text)
    assert pooled.device.type == "meta"
    assert pooled.dtype == torch.float32


@pytest.mark.parametrize("text", TEXTS)
def test_memory_layout_and_batch_do_not_matter(text):
    maps = random_maps((5, 8, 7, 6))
    whole = pooling.apply(maps, text)
    torch.testing.assert_close(
        pooling.apply(maps.to(memory_format=torch.channels_last), text), whole
    )
    torch.testing.assert_close(pooling.apply(maps[2:3], text), whole[2:3])


def test_half_precision_activations_are_pooled_in_float32():
    maps = torch.full((1, 2, 64, 64), 6.0, dtype=torch.float16)
    maps[0, 0, 0, 0] = 60000
    pooled = pooling.apply(maps, "avg")
    assert pooled.dtype == torch.float32
    assert pooled[0, 0].item() == pytest.approx((60000 + 4095 * 6) / 4096)
    assert pooling.apply(maps, "gem:4")[0, 0].item() == pytest.approx(60000 / 8, rel=1e-4)


@pytest.mark.parametrize("text", TEXTS)
def test_the_announced_shape_is_the_real_one(text):
    shape = pooling.feature_shape(VGG16, "pool5", text)
    assert tuple(pooling.apply(torch.zeros(2, 512, 7, 7), text).shape[1:]) == shape
    assert pooling.feature_shape(VGG16, "relu7", "") == (4096,)
    assert pooling.feature_shape(VGG16, "pool5", "spp") == (512 * 21,)


TINY = ["--model", "vgg16-tiny", "--weights", "random:0", "--device", "cpu"]


@pytest.fixture
def three(tmp_path):
    """A folder of three JPEGs."""
    folder = tmp_path / "three"
    folder.mkdir()
    for number in range(3):
        draw(90 + 20 * number, 80, number).save(folder / f"{number}.jpg")
    return folder


def extract(source, store, *options):
    return CliRunner().invoke(main, ["extract", str(source), str(store), *TINY, *options])


def test_a_store_of_generalised_means_holds_them_and_says_so(three, tmp_path):
    store = tmp_path / "s.h5"
    layers = "conv5_3,relu5_3:gem:2.5,pool4:spp:1,2,pool3:none,relu7"
    done = extract(three, store, "--layers", layers, "--pool", "gem")
    assert done.exit_code == 0, done.output
    extractor = FeatureExtractor(
        "vgg16-tiny", weights="random:0", layers="conv5_3,relu5_3,pool4", pool="none", device="cpu"
    )
    maps = extractor(sorted(three.iterdir()))
    formulas = {"conv5_3": gem, "relu5_3": lambda x: gem(x, 2.5), "pool4": lambda x: spp(x, (1, 2))}
    with h5py.File(store) as file:
        for layer, formula in formulas.items():
            expected = np.stack([formula(x) for x in maps[layer].astype(float)])
            np.testing.assert_allclose(file["features"][layer][:], expected, rtol=1e-4, atol=1e-9)
        stored = json.loads(file.attrs["provenance"])["deciding"]["layers"]
    assert stored == {
        "pool3": "none",
        "pool4": "spp:1+2",
        "conv5_3": "gem:3",
        "relu5_3": "gem:2.5",
        "relu7": "",
    }


def test_resuming_goes_by_a_poolings_value_not_by_its_spelling(three, tmp_path):
    store = tmp_path / "s.h5"
    assert extract(three, store, "--layers", "pool5", "--pool", "gem").exit_code == 0
    again = extract(three, store, "--layers", "pool5:gem:3.0")
    assert again.exit_code == 0, again.output
    assert "Nothing to do" in again.output
    other = extract(three, store, "--layers", "pool5", "--pool", "gem:4")
    assert other.exit_code == 1
    assert "gem:3" in str(other.exception)
    assert "gem:4" in str(other.exception)


def test_the_extractor_of_a_store_pools_as_the_store_was_pooled(three, tmp_path):
    extractor = FeatureExtractor(
        "vgg16-tiny", weights="random:0", layers="pool5:spp:2,1,pool4:crow,relu5_3:rmac:2"
    )
    extractor.extract(three, tmp_path / "s.h5")
    from vggfeat import FeatureStore

    with FeatureStore(tmp_path / "s.h5") as store:
        again = FeatureExtractor.like(store.provenance)
        assert again.config == extractor.config
        found = again(sorted(three.iterdir()))
        for layer in store.layers:
            np.testing.assert_allclose(found[layer], store[layer][:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pool", ["median", "gem:0", "spp:1,x", "avg:3"])
def test_a_wrong_pooling_is_wrong_usage(three, tmp_path, pool):
    done = extract(three, tmp_path / "s.h5", "--layers", "pool5", "--pool", pool)
    assert done.exit_code == 2
    assert "--pool" in done.output
    assert not (tmp_path / "s.h5").exists()


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("size", [(7, 7), (5, 9), (1, 1)])
def test_contributions_of_positions_sum_to_the_weighted_feature(text, size):
    rng = torch.Generator().manual_seed(len(text))
    maps = torch.randn(3, 6, *size, generator=rng, dtype=torch.float64).clamp(min=-0.5)
    maps[1] = maps[1].clamp(min=0)  # rectified, with equal maxima
    maps[2] = 0
    chosen = pooling.read(text)
    features = chosen(maps).flatten(1)
    weights = torch.randn(features.shape[1], generator=rng, dtype=torch.float64)
    found = chosen.contributions(maps, weights)
    assert found.shape == (3, *size)
    torch.testing.assert_close(found.sum((1, 2)), features @ weights, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("text", TEXTS)
def test_a_position_that_alone_is_active_has_all_contributions(text):
    maps = torch.zeros(1, 4, 6, 8, dtype=torch.float64)
    maps[0, :, 4, 1] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    chosen = pooling.read(text)
    shape = chosen.shape(tuple(maps.shape[1:]))
    found = chosen.contributions(maps, torch.ones(math.prod(shape), dtype=torch.float64))[0]
    assert found[4, 1] > 0
    assert float(found[4, 1]) == pytest.approx(float(found.sum()), rel=1e-4)
