"""The next run into a store needs no option of the first, and contradicts none."""

from __future__ import annotations

import json

import pytest
from commands import cli
from conftest import draw

from vggfeat import FeatureExtractor, FeatureStore
from vggfeat.errors import StoreMismatchError

# None of these is what the program takes by default.
OPTIONS = (
    *("--model", "vgg16-tiny", "--weights", "random:3", "--layers", "conv1_2:max,pool2:gem,pool2"),
    *("--view", "dense", "--scales", "64,80", "--flip", "--dtype", "float16"),
    *("--truncated", "accept", "--value-range", "minmax", "--scale", "1/255", "--mean", "0.5"),
)


@pytest.mark.parametrize("name", ["photos.h5", "photos.store"])
def test_an_existing_store_gives_all_options_that_are_left_out(photos, tmp_path, name):
    store = tmp_path / name
    assert cli("extract", photos, store, *OPTIONS, "--device", "cpu").returncode == 0
    with FeatureStore(store) as before:
        config = before.provenance.config
    draw(120, 90, seed=99).save(photos / "cat" / "new.jpg")
    done = cli("extract", photos, store, "--json", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["computed"] == 1
    (line,) = (one for one in done.stderr.splitlines() if one.startswith("Continuing as "))
    for word in (*OPTIONS[:2], "random:3", "conv1_2:max,pool2:gem:3,pool2", "dense", "64,80"):
        assert word in line.split()
    assert line.endswith("minmax, with its preprocessing")
    with FeatureStore(store) as after:
        assert after.provenance.config == config
        assert all(after.done)
    again = cli("extract", photos, store, *OPTIONS)
    assert "Nothing to do in this run." in again.stdout
    assert "Continuing" not in again.stderr, "nothing was left out"


@pytest.fixture(scope="module")
def tiny(twelve_photos, tmp_path_factory):
    """Extract a store whose settings no test changes."""
    store = tmp_path_factory.mktemp("tiny") / "tiny.h5"
    extractor = FeatureExtractor("vgg16-tiny", layers="pool4:max,relu7", device="cpu")
    extractor.extract(twelve_photos, store, progress=False)
    return store


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--layers", "pool5"), "layers pool4:max,relu7, not pool5:avg."),
        (("--model", "vgg16"), "model vgg16-tiny, not vgg16."),
        (("--view", "squash", "--flip"), "view center, not squash; flip off, not on."),
        (("--weights", "random"), "weights builtin, not random."),
        (("--pool", "avg"), "layers pool4:max,relu7, not pool4:avg,relu7."),
        (("--dtype", "float16"), "dtype float32, not float16."),
        (("--value-range", "0:4095"), "value range full, not 0:4095."),
        (("--preprocessing", "caffe"), "preprocessing: "),
    ],
)
def test_another_value_than_the_store_has_is_refused_in_words(twelve_photos, tiny, given, said):
    content = tiny.read_bytes()
    done = cli("extract", twelve_photos, tiny, *given)
    assert done.returncode == 1
    assert said in done.stderr
    assert not set("{}[]") & set(done.stderr), "no notation of Python's"
    assert "--overwrite" in done.stderr
    assert tiny.read_bytes() == content


@pytest.mark.parametrize(
    "given",
    [
        ("--layers", "pool4,relu7"),  # its pooling is the store's
        ("--layers", "relu7,features.23:max"),
        ("--pool", "max"),
        ("--weights", "builtin", "--view", "center"),
    ],
)
def test_the_same_values_in_other_words_go_on(twelve_photos, tiny, given):
    done = cli("extract", twelve_photos, tiny, *given)
    assert "Nothing to do in this run." in done.stdout, done.stderr


def test_a_store_begun_anew_takes_nothing_from_the_old_one(photos, tmp_path):
    store = tmp_path / "s.h5"
    made = ("--model", "vgg16-tiny", "--layers", "pool1", "--view", "squash", "--device", "cpu")
    assert cli("extract", photos, store, *made).returncode == 0
    done = cli("extract", photos, store, "--overwrite", *made[:4], "--device", "cpu")
    assert "Continuing" not in done.stderr
    with FeatureStore(store) as now:
        assert now.provenance.config.view == "center"


def test_weights_that_are_no_longer_where_they_were_are_named_with_the_remedy(tmp_path, photos):
    weights = tmp_path / "mine.safetensors"
    builtin = FeatureExtractor("vgg16-tiny").resolved_weights.path
    weights.write_bytes(builtin.read_bytes())
    store, moved = tmp_path / "s.h5", tmp_path / "moved.safetensors"
    options = ("--model", "vgg16-tiny", "--weights", weights, "--layers", "pool1")
    assert cli("extract", photos, store, *options).returncode == 0
    weights.rename(moved)
    done = cli("extract", photos, store)
    assert done.returncode == 1
    assert f"{weights}, and there is no such file now" in done.stderr
    assert "--weights FILE" in done.stderr
    assert "Nothing to do" in cli("extract", photos, store, "--weights", moved).stdout


def test_python_goes_on_with_a_store_alike(tiny, twelve_photos):
    extractor = FeatureExtractor.for_store(tiny, device="cpu")
    assert (extractor.model, extractor.device) == ("vgg16-tiny", "cpu")
    assert extractor.extract(twelve_photos, tiny, progress=False).tried == 0
    with pytest.raises(StoreMismatchError, match="layers pool4:max,relu7, not fc6"):
        FeatureExtractor.for_store(tiny, layers="fc6")


def test_an_index_that_is_built_anew_keeps_its_layer_and_metric(tiny, tmp_path):
    folder = tmp_path / "photos.index"
    refused = cli("index", "build", tiny, folder)
    assert refused.returncode == 1
    assert "choose one with --layer: pool4, relu7" in refused.stderr
    given = ("--layer", "pool4", "--metric", "l2")
    assert cli("index", "build", tiny, folder, *given).returncode == 0
    done = cli("index", "build", tiny, folder, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["layer"], told["metric"]) == ("pool4", "l2")
    assert "was built: --layer pool4 --metric l2" in done.stderr
    other = json.loads(cli("index", "build", tiny, folder, "--metric", "ip", "--json", "-q").stdout)
    assert (other["layer"], other["metric"]) == ("pool4", "ip")
