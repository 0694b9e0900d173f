"""Cached features: each image computed once, never taken for those of other images or settings."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import draw, settle
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from torch import from_numpy

from vggfeat import FeatureExtractor, FeatureStore, LinearProbe
from vggfeat.errors import ImageError, StoreError
from vggfeat.extract import caching
from vggfeat.locking import WriterLock
from vggfeat.sklearn import VGGFeatures
from vggfeat.sources import base


def features(cache: Path | None, layer: str = "pool2", **options: Any) -> VGGFeatures:
    given = {"model": "vgg16-tiny", "device": "cpu", "cache": cache, **options}
    return VGGFeatures(layer, **given)


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    """Write sixteen pictures of two kinds."""
    (tmp_path / "images").mkdir()
    paths = [tmp_path / "images" / f"{number:02d}.png" for number in range(16)]
    for number, path in enumerate(paths):
        draw(70, 66, seed=number % 2 + 10 * number).save(path)
    settle(paths[-1])
    return paths


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """List the image files that are opened; they are opened truly."""
    names: list[str] = []
    true = base.open_regular

    def noted(path: Path) -> Any:
        names.append(str(path))
        return true(path)

    monkeypatch.setattr(base, "open_regular", noted)
    return names


def stored(cache: Path) -> dict[str, bytes]:
    """Return the stores' bytes, which any run that computes something would change."""
    return {path.name: path.read_bytes() for path in cache.glob("*.h5")}


def test_cached_features_are_the_same_and_each_image_is_decoded_once(tmp_path, pictures, opened):
    plain = features(None).fit_transform(pictures)
    opened.clear()
    cached = features(tmp_path / "cache").fit(pictures)
    first = cached.transform(pictures[:5])
    assert len(opened) == 5
    mixed = [*pictures[::-1], pictures[3], str(pictures[0])]
    assert np.array_equal(cached.transform(mixed), np.concatenate([plain[::-1], plain[[3, 0]]]))
    assert sorted(opened) == sorted(map(str, pictures))
    assert np.array_equal(first, plain[:5])
    opened.clear()
    assert np.array_equal(clone(cached).fit_transform(pictures), plain)
    assert not opened
    (store,) = (tmp_path / "cache").glob("*.h5")
    assert store.name.startswith("vgg16-tiny-pool2-")
    with FeatureStore(store) as opened:
        assert opened.counts() == {"done": 16, "failed": 0, "pending": 0}
        assert opened.paths[0] == str(pictures[0])
        assert opened.verify().ok


def test_a_grid_search_over_layers_decodes_each_image_once_a_layer(tmp_path, pictures, opened):
    classes = np.arange(16) % 2
    grid = {"vgg__layer": ["pool1", "pool3:max"], "probe__C": [0.1, 10.0]}
    for jobs in (1, 2):
        pipeline = Pipeline([("vgg", features(tmp_path / "cache")), ("probe", LinearProbe())])
        search = GridSearchCV(pipeline, grid, cv=2, n_jobs=jobs, error_score="raise")
        search.fit(pictures, classes)
        if jobs == 1:
            assert sorted(opened) == sorted(map(str, [*pictures, *pictures]))
            assert not set(Path(tmp_path / "cache").glob(".*.tmp"))
            expected = search.cv_results_["mean_test_score"]
            kept = stored(tmp_path / "cache")
        assert search.cv_results_["mean_test_score"].tolist() == expected.tolist()
    assert stored(tmp_path / "cache") == kept
    assert len(kept) == 2


def test_parallel_searches_fill_one_cache_without_harm(tmp_path, pictures):
    classes = np.arange(16) % 2
    scores = []
    for cache, jobs in ((None, 1), (tmp_path / "cache", 2)):
        pipeline = Pipeline([("vgg", features(cache)), ("probe", LinearProbe(C=1.0))])
        search = GridSearchCV(
            pipeline, {"vgg__layer": ["pool2", "relu7"]}, cv=4, n_jobs=jobs, error_score="raise"
        )
        scores.append(search.fit(pictures, classes).cv_results_["mean_test_score"].tolist())
    assert scores[0] == scores[1]
    for store in (tmp_path / "cache").glob("*.h5"):
        with FeatureStore(store) as opened:
            assert opened.counts()["done"] == len(opened) == 16
            assert opened.verify().ok


def test_another_setting_never_takes_the_features_of_this_one(tmp_path, pictures):
    cache = tmp_path / "cache"
    settings: list[dict[str, Any]] = [
        {}, {"layer": "pool3"}, {"pool": "max"}, {"layer": "pool2:gem"}, {"weights": "random:1"},
        {"view": "squash"}, {"flip": True}, {"precision": "bfloat16"}, {"model": "vgg16"},
    ]  # fmt: skip
    for number, options in enumerate(settings, start=1):
        given = {"weights": "random:0", **options}
        ours = features(cache, **given).fit_transform(pictures[:2])
        assert np.array_equal(ours, features(None, **given).fit_transform(pictures[:2]))
        assert len(list(cache.glob("*.h5"))) == number
    # What does not decide the numbers makes no other store.
    features(cache, weights="random:0", batch_size=1).fit_transform(pictures[:2])
    assert len(list(cache.glob("*.h5"))) == len(settings)


def test_a_store_that_is_not_what_its_name_says_is_refused(tmp_path, pictures):
    one = features(tmp_path / "a", weights="random:0").fit(pictures)
    one.transform(pictures[:1])
    (store,) = (tmp_path / "a").glob("*.h5")
    other = features(tmp_path / "a", weights="random:1").fit(pictures)
    other.transform(pictures[:1])
    (theirs,) = set((tmp_path / "a").glob("*.h5")) - {store}
    store.replace(theirs)
    with pytest.raises(StoreError, match=r"made in another way.*weights_sha256.*Remove it"):
        other.transform(pictures[:1])


def test_a_changed_file_is_computed_anew(tmp_path, pictures, opened):
    cached = features(tmp_path / "cache").fit(pictures)
    before = cached.transform(pictures)
    draw(70, 66, seed=99).save(pictures[4])
    opened.clear()
    after = cached.transform(pictures)
    assert set(opened) == {str(pictures[4])}, "to look at its bytes, and to decode it"
    same = np.arange(16) != 4
    assert np.array_equal(after[same], before[same])
    assert np.array_equal(after[[4]], features(None).fit_transform([pictures[4]]))
    pictures[4].unlink()
    with pytest.raises(ImageError, match=r"04\.png: no such file"):
        cached.transform(pictures)
    draw(70, 66, seed=99).save(pictures[4])
    assert np.array_equal(cached.transform(pictures), after)


def test_images_in_memory_are_known_by_their_pixels(tmp_path, pictures, monkeypatch):
    arrays = np.stack([np.asarray(draw(70, 66, seed=seed)) for seed in range(4)])
    cached = features(tmp_path / "cache").fit(arrays)
    expected = features(None).fit_transform(arrays)
    assert np.array_equal(cached.transform(arrays), expected)
    tensors = from_numpy(arrays).permute(0, 3, 1, 2)  # (n, H, W, C) -> (n, C, H, W)
    with monkeypatch.context() as patch:
        patch.setattr(FeatureExtractor, "network", property(lambda _: pytest.fail("computed")))
        assert np.array_equal(cached.transform(tensors), expected)
        assert np.array_equal(cached.transform([draw(70, 66, seed=2)]), expected[[2]])
        with pytest.raises(ImageError, match="image 1: Got an array of float64"):
            cached.transform([arrays[0], np.zeros((8, 8))])
    arrays[1, 20:40, 20:40] ^= 255
    changed = cached.transform([arrays[1], pictures[0]])
    assert np.array_equal(changed, features(None).fit_transform([arrays[1], pictures[0]]))
    assert not np.array_equal(changed[0], expected[1])


def test_a_bad_image_is_named_and_the_others_are_kept(tmp_path, pictures, opened):
    pictures[2].write_bytes(b"not an image")
    cached = features(tmp_path / "cache").fit(pictures)
    for _ in range(2):
        with pytest.raises(ImageError, match=r"02\.png: not an image"):
            cached.transform(pictures)
    opened.clear()
    assert len(cached.transform(pictures[3:])) == 13
    assert not opened


def test_nothing_to_transform_gives_no_row(tmp_path):
    for cache in (None, tmp_path / "cache"):
        assert features(cache, "pool3:none").fit([]).transform([]).shape == (0, 64 * 64)


def test_a_damaged_row_is_never_taken(tmp_path, pictures, caplog):
    cached = features(tmp_path / "cache").fit(pictures)
    expected = cached.transform(pictures)
    (store,) = (tmp_path / "cache").glob("*.h5")
    with h5py.File(store, "r+") as file:
        file["features/pool2"][5, 0] += 1
    with caplog.at_level(logging.WARNING, "vggfeat"):
        assert np.array_equal(cached.transform(pictures), expected)
    assert "holds damaged rows" in caplog.text


def test_a_folder_that_cannot_be_is_refused(tmp_path, pictures):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        features(tmp_path / "file").fit_transform(pictures)


def test_who_finds_a_writer_at_work_waits_for_it_and_works_alone_if_it_hangs(
    tmp_path, pictures, monkeypatch, caplog
):
    cached = features(tmp_path / "cache").fit(pictures)
    expected = cached.transform(pictures[:8])
    (store,) = (tmp_path / "cache").glob("*.h5")
    lock = WriterLock(store).acquire()
    assert np.array_equal(cached.transform(pictures[:8]), expected), "reading needs no lock"
    monkeypatch.setattr(caching, "_PATIENCE", 0.3)
    with caplog.at_level(logging.WARNING, "vggfeat"):
        alone = cached.transform(pictures)
    assert "is locked" in caplog.text
    assert np.array_equal(alone[:8], expected)
    monkeypatch.setattr(caching, "_PATIENCE", 60.0)
    monkeypatch.setattr(caching, "_PAUSE", 0.01)
    waiting = threading.Timer(0.3, lock.release)
    waiting.start()
    assert np.array_equal(cached.transform(pictures), alone)
    waiting.join()
    with FeatureStore(store) as held:
        assert held.counts()["done"] == 16


def test_a_fitted_transformer_is_pickled_without_its_network(tmp_path, pictures):
    transformer = features(tmp_path / "cache", "relu7").fit(pictures)
    expected = transformer.transform(pictures)
    packed = pickle.dumps(transformer)
    assert len(packed) < 20_000
    before = stored(tmp_path / "cache")
    assert np.array_equal(pickle.loads(packed).transform(pictures), expected)
    assert stored(tmp_path / "cache") == before


def test_a_cache_filled_by_one_program_serves_another(tmp_path, pictures):
    features(tmp_path / "cache").fit_transform(pictures)
    before = stored(tmp_path / "cache")
    code = (
        "import sys, pathlib\nfrom vggfeat.sklearn import VGGFeatures\n"
        "vgg = VGGFeatures('pool2', model='vgg16-tiny', device='cpu', cache=sys.argv[1])\n"
        "print(vgg.fit_transform(sys.argv[2:]).shape, 'torch' in sys.modules)"
    )
    names = [os.path.relpath(path, tmp_path) for path in pictures]
    done = subprocess.run(
        [sys.executable, "-c", code, "cache", *names],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout.split(")")[0] == "(16, 32", done.stderr
    assert stored(tmp_path / "cache") == before
