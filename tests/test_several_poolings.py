"""Several poolings of one layer from one pass, each found by its name, everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import cli
from test_splits_of_stores import LAYOUT, image_folder

from vggfeat import FeatureExtractor
from vggfeat.errors import LayerError
from vggfeat.layers import architecture
from vggfeat.pooling import parse_layers
from vggfeat.store import FeatureStore

LAYERS = "relu5_3:gem,relu5_3:rmac,relu5_3:avg,pool5:spp:1,2,fc6"
TINY = ("--model", "vgg16-tiny", "--weights", "random:0")
NAMES = ("relu5_3:gem:3", "relu5_3:rmac:3", "relu5_3:avg", "pool5", "fc6")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folder(tmp_path_factory.mktemp("poolings") / "images", LAYOUT)


@pytest.fixture(scope="module")
def store(images: Path) -> Path:
    path = images.parent / "several.h5"
    made = cli("extract", images, path, *TINY, "--layers", LAYERS)
    assert made.returncode == 0, made.stderr
    return path


@pytest.mark.parametrize("engine", ["torch", "winograd"])
@pytest.mark.parametrize("view", [{}, {"view": "dense", "scales": (224, 256), "flip": True}])
def test_one_pass_gives_what_a_pass_for_each_pooling_gives(
    images: Path, engine: str, view: dict[str, object]
) -> None:
    if engine == "winograd":
        pytest.importorskip("numba", reason="the Winograd engine wants numba")
    paths = sorted(images.rglob("*.png"))[:3]
    options: dict[str, object] = {"weights": "random:0", "engine": engine, **view}
    together = FeatureExtractor("vgg16-tiny", layers=LAYERS, **options)(paths)  # type: ignore[arg-type]
    assert tuple(together) == NAMES
    for name, asked in zip(NAMES, (*NAMES[:3], "pool5:spp:1,2", "fc6"), strict=True):
        alone = FeatureExtractor("vgg16-tiny", layers=asked, **options)(paths)  # type: ignore[arg-type]
        (values,) = alone.values()
        assert np.array_equal(values, together[name]), name


def test_a_layer_of_one_pooling_keeps_its_plain_name() -> None:
    network = architecture("vgg16")
    assert parse_layers("relu5_3:gem,pool5", "avg", network) == {"relu5_3": "gem:3", "pool5": "avg"}
    several = parse_layers("pool5:max,relu5_3:gem,pool5:gem:2", "avg", network)
    assert several == {"relu5_3": "gem:3", "pool5:max": "max", "pool5:gem:2": "gem:2"}
    assert parse_layers("all,pool5:max,pool5:avg", "avg", network)["pool5:max"] == "max"
    for twice in ("pool5,pool5", "pool5:gem,pool5:gem:3", "relu7,fc7,relu7"):
        with pytest.raises(LayerError, match="twice"):
            parse_layers(twice, "avg", network)


def test_a_store_finds_poolings_by_their_names_and_refuses_to_guess(store: Path) -> None:
    with FeatureStore(store) as opened:
        assert opened.layers == NAMES
        assert opened.layer("relu5_3:gem") == "relu5_3:gem:3"
        assert opened.layer("relu5_3:rmac:3") == "relu5_3:rmac:3"
        assert opened.layer("pool5") == opened.layer("pool5:spp:1,2") == "pool5"
        assert "relu5_3:avg" in opened
        for name, why in (("relu5_3", "several poolings"), ("relu5_3:max", "has no layer")):
            with pytest.raises(LayerError, match=why):
                opened.layer(name)


def test_the_same_command_goes_on_and_others_are_refused(store: Path, images: Path) -> None:
    again = cli("extract", images, store, *TINY, "--layers", LAYERS, "--json")
    assert json.loads(again.stdout)["computed"] == 0
    other = cli("extract", images, store, *TINY, "--layers", "relu5_3:gem,pool5:spp:1,2,fc6")
    assert other.returncode == 1
    assert "relu5_3:rmac" in other.stderr


def test_sweeps_probes_and_exports_take_every_pooling(store: Path, tmp_path: Path) -> None:
    told = json.loads(cli("sweep", store, "--json", "--png", tmp_path / "s.png").stdout)
    assert [one["layer"] for one in told["stores"][0]["layers"]] == list(NAMES)
    one = json.loads(cli("sweep", store, "--layers", "relu5_3:gem,fc6", "--json").stdout)
    assert [s["layer"] for s in one["stores"][0]["layers"]] == ["relu5_3:gem:3", "fc6"]
    one = json.loads(cli("sweep", store, "--layers", "pool5:spp:1,2,fc6", "--json").stdout)
    assert [s["layer"] for s in one["stores"][0]["layers"]] == ["pool5", "fc6"]
    for rival in ("relu5_3:rmac", f"{store}:relu5_3:rmac", "fc6"):
        probed = cli("probe", store, "--layer", "relu5_3:gem", "--against", rival, "--json")
        assert probed.returncode == 0, probed.stderr
        told = json.loads(probed.stdout)["against"]
        assert told["layer"] == ("fc6" if rival == "fc6" else "relu5_3:rmac:3")
    ambiguous = cli("probe", store, "--layer", "relu5_3")
    assert ambiguous.returncode == 1
    assert "relu5_3:gem:3, relu5_3:rmac:3, relu5_3:avg" in ambiguous.stderr
    done = cli("export", store, tmp_path / "f.npy", "--layer", "relu5_3:rmac")
    assert done.returncode == 0, done.stderr
    with FeatureStore(store) as opened:
        assert np.array_equal(np.load(tmp_path / "f.npy"), opened["relu5_3:rmac"][:])
    assert cli("verify", store).returncode == 0


def test_a_kept_probe_takes_new_images_the_way_of_its_pooling(
    store: Path, images: Path, tmp_path: Path
) -> None:
    made = cli("probe", store, "--layer", "relu5_3:gem", "--save", tmp_path / "p.probe")
    assert made.returncode == 0, made.stderr
    predicted = cli("predict", tmp_path / "p.probe", images / "test", "--json")
    assert predicted.returncode == 0, predicted.stderr
    assert json.loads(predicted.stdout)["layer"] == "relu5_3"


def test_an_index_of_one_pooling_is_searched_and_grows(
    store: Path, images: Path, tmp_path: Path
) -> None:
    index = tmp_path / "i.index"
    built = cli("index", "build", store, index, "--layer", "relu5_3:rmac")
    assert built.returncode == 0, built.stderr
    photo = sorted(images.rglob("*.png"))[0]
    found = json.loads(cli("search", index, photo, "-k", "1", "--json").stdout)
    (hit,) = found["results"][0]["neighbours"]
    assert hit["path"] == str(photo.relative_to(images))
    assert hit["score"] == pytest.approx(1, abs=1e-5)
    added = cli("index", "add", index, store)
    assert added.returncode == 0, added.stderr
    single = tmp_path / "single.h5"
    assert cli("extract", images, single, *TINY, "--layers", "relu5_3:rmac").returncode == 0
    assert cli("index", "add", index, single).returncode == 0, "its plain name is the same thing"
    other = tmp_path / "other.h5"
    assert cli("extract", images, other, *TINY, "--layers", "relu5_3:max").returncode == 0
    refused = cli("index", "add", index, other)
    assert refused.returncode == 1
    assert "rmac" in refused.stderr


def test_another_store_with_one_of_the_poolings_can_be_tested_on(
    store: Path, images: Path, tmp_path: Path
) -> None:
    single = tmp_path / "single.h5"
    assert cli("extract", images, single, *TINY, "--layers", "relu5_3:gem").returncode == 0
    tested = cli("probe", store, "--layer", "relu5_3:gem", "--test", single)
    assert tested.returncode == 0, tested.stderr
    refused = cli("probe", store, "--layer", "relu5_3:avg", "--test", single)
    assert refused.returncode == 1
    assert "made in another way" in refused.stderr
