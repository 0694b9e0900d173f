"""Promises of PCA-whitening: all directions weigh the same, as the paper has it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from index_rows import make_store
from sklearn.decomposition import PCA

from vggfeat.errors import StoreMismatchError, WhiteningError
from vggfeat.index import SimilarityIndex, learn_whitening
from vggfeat.store import FeatureStore
from vggfeat.whitening import Whitening, learn

X = np.float32(np.random.default_rng(0).gamma(0.6, size=(400, 12)) * np.arange(1, 13))


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("dimension", [1, 5, 12])
def test_it_is_scikit_learns_pca_between_two_normalisations(dimension):
    ours = learn(np.array_split(X, 7), dimension, shrinkage=0)
    theirs = PCA(dimension, whiten=True, svd_solver="full").fit(unit(np.float64(X)))
    expected = unit(theirs.transform(unit(np.float64(X))))
    found = ours(X)
    assert found.shape == (400, dimension)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.abs(found @ found.T), np.abs(expected @ expected.T), atol=1e-5)
    assert ours.explained == pytest.approx(theirs.explained_variance_ratio_.sum())
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_whitened_directions_do_not_correlate():
    learnt = learn([X])
    turned = (unit(np.float64(X)) - learnt.mean) @ learnt.projection
    np.testing.assert_allclose(np.cov(turned.T), np.eye(12), atol=1e-3)


def test_blocks_and_their_order_do_not_matter():
    whole = learn([X], 4)
    parts = learn(reversed(np.array_split(X, 9)), 4)
    np.testing.assert_allclose(parts(X), whole(X), atol=1e-5)


def test_vectors_without_a_direction_are_left_out_of_learning_and_give_zeros():
    some = np.concatenate([X, np.zeros((3, 12)), np.full((1, 12), np.nan)])
    learnt = learn([some], 4)
    assert learnt.count == 400
    found = learnt(np.stack([np.zeros(12), learnt.mean / np.linalg.norm(learnt.mean)]))
    assert (found[0] == 0).all()
    same = np.ones((5, 12)) + np.eye(12)[:5] * 1e-3
    direction = learn([same], 1)
    assert np.isfinite(direction(same)).all()


def test_directions_that_hardly_vary_are_not_blown_up():
    flat = X.copy()
    flat[:, 3] = 1e-9 * np.random.default_rng(1).normal(size=400)
    noisy = flat.copy()
    noisy[:, 3] *= -1
    learnt = learn([flat])
    np.testing.assert_allclose(learnt(flat), learnt(noisy), atol=1e-3)


@pytest.mark.parametrize("dimension", [0, 13, 400])
def test_more_directions_than_there_are_is_an_error(dimension):
    with pytest.raises(WhiteningError, match=rf"{dimension} directions.*1 to 12"):
        learn([X], dimension)
    with pytest.raises(WhiteningError, match="1 to 3"):
        learn([X[:4]], 4)


def test_a_saved_whitening_is_plain_arrays_and_the_same(tmp_path):
    learnt = learn([X], 5, made={"layer": "relu7"})
    learnt.save(tmp_path / "w.npz")
    loaded = Whitening.load(tmp_path / "w.npz")
    assert loaded.sha256 == learnt.sha256
    assert (loaded(X) == learnt(X)).all()
    assert (loaded.count, loaded.made) == (400, {"layer": "relu7"})
    with np.load(tmp_path / "w.npz", allow_pickle=False) as file:
        assert file["projection"].shape == (12, 5)
        assert json.loads(file["header"].tobytes())["format"] == "vggfeat-whitening"


def test_other_files_and_damage_are_refused(tmp_path):
    path = tmp_path / "w.npz"
    with pytest.raises(WhiteningError, match="vggfeat whiten STORE"):
        Whitening.load(path)
    learn([X], 5).save(path)
    whole = path.read_bytes()
    for content in (b"", b"a photo", whole[:-40], whole[:300]):
        path.write_bytes(content)
        with pytest.raises(WhiteningError, match="no whitening, or damaged"):
            Whitening.load(path)
    np.savez(path, mean=np.ones(3))
    with pytest.raises(WhiteningError, match="no whitening"):
        Whitening.load(path)


def test_an_index_whitens_its_vectors_and_its_queries_alike(tmp_path):
    with FeatureStore(make_store(tmp_path / "s.h5", X)) as store:
        index = SimilarityIndex.build(store, "relu7", whitening=5, path=tmp_path / "i")
        learnt = learn_whitening(store, "relu7", 5)
        given = SimilarityIndex.build(store, "relu7", whitening=learnt)
        plain = SimilarityIndex.build(store, "relu7")
    expected = learnt(X) @ learnt(X[[7]])[0]
    for one in (SimilarityIndex.open(tmp_path / "i"), given):
        assert (one.dimension, one.width) == (5, 12)
        (answer,) = one.search(X[7], 400)
        np.testing.assert_allclose([n.score for n in answer], np.sort(expected)[::-1], atol=1e-5)
        assert answer[0].row == 7
    assert index.info().whitening["sha256"] == learnt.sha256
    assert plain.info().whitening is None
    assert [n.row for n in plain.search(X[7], 9)[0]] != [n.row for n in index.search(X[7], 9)[0]]


def test_a_whitening_of_features_made_otherwise_is_refused(tmp_path):
    with FeatureStore(make_store(tmp_path / "s.h5", X)) as store:
        other = learn_whitening(store, "pool5", 5)
        with pytest.raises(StoreMismatchError, match="layer: 'pool5', not 'relu7'"):
            SimilarityIndex.build(store, "relu7", whitening=other)
        with pytest.raises(WhiteningError, match=r"of 3 numbers; relu7 of .* has 12"):
            SimilarityIndex.build(store, "relu7", whitening=learn([X[:, :3]]))
        free = learn([X], 3)  # of arrays, of which nothing is known
        assert SimilarityIndex.build(store, "relu7", whitening=free).dimension == 3
