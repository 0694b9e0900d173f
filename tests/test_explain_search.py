"""Maps of what two images have in common sum to the similarity, and point to what is shared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import cli
from PIL import Image
from sklearn.datasets import load_sample_images

from vggfeat import FeatureExtractor, FeatureStore, SimilarityIndex
from vggfeat.analysis import rank_correlation
from vggfeat.explain import SimilarityMaps
from vggfeat.regions import Region

LAYERS = ("relu5_3:avg", "relu5_3:gem", "relu5_3:rmac", "relu6")


@pytest.fixture(scope="module")
def store(scenes, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "scenes.h5"
    extractor = FeatureExtractor(
        "vgg16-tiny", layers=LAYERS, view="dense", scales=(96,), flip=True, device="cpu"
    )
    extractor.extract(scenes, path, progress=False)
    return path


@pytest.fixture(scope="module")
def index(store, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "scenes.index"
    with FeatureStore(store) as opened:
        SimilarityIndex.build(opened, "relu5_3:gem", path=path)
    return path


def maps_of(store: Path, layer: str, **options) -> SimilarityMaps:
    with FeatureStore(store) as opened:
        index = SimilarityIndex.build(opened, layer, **options)
    return SimilarityMaps(FeatureExtractor.like(index.provenance, device="cpu"), index)


@pytest.mark.parametrize(
    ("layer", "options"),
    [
        ("relu5_3:avg", {}),
        ("relu5_3:gem", {"whitening": 8}),
        ("relu5_3:rmac", {}),
        ("relu5_3:avg", {"metric": "ip"}),
        ("relu5_3:gem", {"metric": "l2"}),
    ],
)
def test_maps_of_both_images_sum_to_their_similarity(layer, options, store, scenes):
    maps = maps_of(store, layer, **options)
    query = maps.seen(scenes / "flower" / "01.jpg")
    other = maps.seen(scenes / "china" / "04.jpg")
    pair = maps.pair(query, other)
    (found,) = maps.index.search(query.feature[None], 48)
    (told,) = [one for one in found if one.path == "china/04.jpg"]
    size = abs(pair.score)
    if options.get("metric") == "l2":
        assert maps.measure == "inner product"
        expected = float(query.feature @ other.feature)
    else:
        expected = told.score
    assert pair.score == pytest.approx(expected, rel=1e-5)
    for one, constant in zip((pair.query, pair.image), pair.constants, strict=True):
        assert one.total + constant == pytest.approx(pair.score, abs=1e-5 * max(1, size))
    assert any(pair.constants) == ("whitening" in options)
    common, constant = maps.common(query, [one.id for one in found[:5]])
    if maps.measure == "cosine":
        mean = np.mean([one.score for one in found[:5]])
        assert common.total + constant == pytest.approx(mean, abs=1e-5)


def test_an_image_shares_with_a_part_of_it_that_part(store, tmp_path):
    maps = maps_of(store, "relu5_3:gem")
    china, flower = map(Image.fromarray, load_sample_images().images)
    both = Image.new("RGB", (400, 200), "grey")
    both.paste(china.resize((200, 200)), (0, 0))
    both.paste(flower.resize((200, 200)), (200, 0))
    whole = maps.seen(both)
    left = Region(0, 0, 200, 200)
    shares = [
        maps.pair(whole, maps.seen(photo.resize((200, 200)))).query.share_within(left)
        for photo in (china, flower)
    ]
    assert shares[0] > 0.55
    assert shares[1] < shares[0] - 0.2
    boxed = maps.seen(both, Region(200, 0, 200, 200))
    found = maps.pair(boxed, maps.seen(flower)).query
    assert found.size == (400, 200)
    assert not found.seen[:, :127].any()
    assert found.share_within(Region(200, 0, 200, 200)) == pytest.approx(1)


def test_fully_connected_layers_are_compared_by_gradients_which_weights_change(store, scenes):
    maps = maps_of(store, "relu6")
    assert not maps.exact
    query, other = (maps.seen(scenes / "flower" / f"0{number}.jpg") for number in (1, 2))
    pair = maps.pair(query, other)
    assert np.isnan(pair.constants[0])
    assert pair.query.favour > 0
    assert pair.query.against == 0
    stranger = maps.pair(query, maps.seen(scenes / "china" / "02.jpg")).query
    assert rank_correlation(pair.query, stranger) < rank_correlation(pair.query, pair.query)


def test_the_command_shows_where_a_query_and_its_neighbours_are_alike(index, scenes, tmp_path):
    page, query = tmp_path / "found.html", scenes / "flower" / "03.jpg"
    args = ("search", index, query, "-k", 3, "--device", "cpu", "--maps")
    done = cli(*args, "--html", page, "--json")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    told = result["maps"]
    assert told["exact"]
    for one, pair in zip(result["neighbours"], told["pairs"], strict=True):
        assert pair["query"]["total"] == pytest.approx(one["score"], abs=1e-5)
        assert pair["image"]["total"] == pytest.approx(one["score"], abs=1e-5)
    text = page.read_text(encoding="utf-8")
    assert text.count('class="mat partner"') == 3
    assert f"--box {told['common']['box']}" in text
    assert "<script" not in text
    shown = cli(*args)
    assert f"--box {told['common']['box']}" in shown.stdout
    box = cli("search", index, query, "-k", 3, "--device", "cpu", "--box", told["common"]["box"])
    assert box.returncode == 0
    plain = cli("search", index, query, "-k", 3, "--device", "cpu", "--html", page)
    assert plain.returncode == 0
    assert 'class="mat partner"' not in page.read_text(encoding="utf-8")


def test_a_neighbour_that_is_gone_takes_no_map_from_the_others(store, scenes, tmp_path):
    gone = tmp_path / "scenes"
    for kind in ("flower", "china"):
        (gone / kind).mkdir(parents=True)
        for file in (scenes / kind).glob("0*.jpg"):
            (gone / kind / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "a.index"
    with FeatureStore(store) as opened:
        SimilarityIndex.build(opened, "relu5_3:avg", path=path)
    query = scenes / "flower" / "03.jpg"
    (gone / "flower" / "03.jpg").unlink()
    source = SimilarityIndex.open(path).sources[0]
    done = cli(
        "search", path, query, "-k", 2, "--maps", "--json", "--device", "cpu",
        "--root", f"{source}={gone}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pairs = json.loads(done.stdout)["results"][0]["maps"]["pairs"]
    assert pairs[0] is None


def test_plot_draws_a_class_and_a_neighbour(index, scenes, tmp_path):
    image = scenes / "china" / "01.jpg"
    out = tmp_path / "alike.png"
    done = cli("plot", "--image", image, "--index", index, "--device", "cpu", out)
    assert done.returncode == 0, done.stderr
    assert "cosine 1.0000" in done.stdout
    pixels = np.asarray(Image.open(out).convert("RGB"), np.int64)
    assert (pixels[..., 0] - pixels[..., 2] > 100).any()  # orange
    named = cli(
        "plot", "--image", image, "--index", index, "--neighbour", "flower/02.jpg", "--device",
        "cpu", "--json", out,
    )  # fmt: skip
    assert json.loads(named.stdout)["neighbour"] == "flower/02.jpg"
    far = cli("plot", "--image", image, "--index", index, "--neighbour", 99, "--device", "cpu", out)
    assert (far.returncode, "There is no neighbour 99" in far.stderr) == (1, True)
    why = tmp_path / "why.svg"
    network = cli(
        "plot", "--image", image, "--model", "vgg16-tiny", "--class", "bee", "--class", "nail",
        "--dark", "--device", "cpu", why,
    )  # fmt: skip
    assert network.returncode == 0, network.stderr
    assert "bee" in network.stdout
    assert why.read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--class", "bee", "out.png"), "needs an --image"),
        (("--image", "a.jpg", "--class", "bee", "--layer", "pool5", "out.png"), "--layer is not"),
        (("--image", "a.jpg", "--index", "i", "--channels", "3", "out.png"), "--channels is for"),
        (("--image", "a.jpg", "--probe", "p", "--view", "squash", "out.png"), "--view has no"),
    ],
)
def test_plot_refuses_what_does_not_go_together(args, message):
    done = cli("plot", *args)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
