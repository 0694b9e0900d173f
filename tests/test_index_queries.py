"""Promises of queries made of several vectors, against the formulas of the papers."""

from __future__ import annotations

import numpy as np
import pytest
from index_rows import index_of, make_store

from vggfeat.errors import SearchError
from vggfeat.index import Expansion, SimilarityIndex
from vggfeat.store import FeatureStore

X = np.float32(np.random.default_rng(0).normal(size=(200, 16)) + 0.4)
U = np.float64(X) / np.linalg.norm(X, axis=1, keepdims=True)


def unit(vector):
    return vector / np.linalg.norm(vector)


def rows(answer):
    return [one.row // 2 for one in answer]


def nearest(query, k=10):
    return list(np.argsort(-(U @ query), kind="stable")[:k])


def test_examples_are_averaged_each_with_the_same_weight():
    index = index_of(X, "cosine")
    query = index.query(np.stack([X[3], 1000 * X[8]]))
    np.testing.assert_allclose(query[0], unit(U[3] + U[8]), atol=1e-6)
    found, expected = rows(index.search(query, prepared=True)[0]), nearest(U[3] + U[8])
    assert set(found[:2]) == {3, 8}  # both are as near
    assert found[2:] == expected[2:]


def test_counterexamples_push_the_answers_away():
    index = index_of(X, "cosine")
    query = index.query(X[3], X[[8, 9]])
    np.testing.assert_allclose(query[0], unit(0.75 * U[3] - 0.15 * (U[8] + U[9]) / 2), atol=1e-12)
    with pytest.raises(SearchError, match="cancel one another"):
        index.query(np.stack([X[3], -X[3]]))


@pytest.mark.parametrize("kind", ["flat", "IVF4,SQ8"])
def test_indexed_images_are_queries_and_left_out_of_the_results(kind):
    index = index_of(X, "cosine", kind=kind)
    ids = index.ids_of(["6.jpg", "16.jpg"]).tolist()  # rows 3 and 8
    query = index.query(index.vectors_of(ids[:1]), index.vectors_of(ids[1:]), prepared=True)
    expected = [row for row in nearest(0.75 * U[3] - 0.15 * U[8], 12) if row not in (3, 8)][:10]
    (answer,) = index.search(query, 10, exclude=ids, prepared=True)
    assert rows(answer) == expected
    assert [one.rank for one in answer] == list(range(1, 11))
    assert len(index.search(query, 10**6, exclude=ids, prepared=True)[0]) == 198
    index.remove(["6.jpg"])
    for unknown in (ids[0], 200, -1):
        with pytest.raises(SearchError, match=rf"no image {unknown} in the index"):
            index.vectors_of([unknown])


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_an_expanded_query_is_the_weighted_mean_of_itself_and_its_neighbours(alpha):
    index = index_of(X, "cosine")
    query = unit(np.random.default_rng(1).normal(size=16) + 0.4)
    first = nearest(query, 5)
    expected = query + sum(max(0, U[i] @ query) ** alpha * U[i] for i in first)
    (answer,) = index.search(query, 10, expand=Expansion(5, alpha))
    assert rows(answer) == nearest(expected)
    np.testing.assert_allclose(
        [one.score for one in answer], U[nearest(expected)] @ unit(expected), atol=1e-6
    )
    index.remove([f"{2 * i}.jpg" for i in first])
    (answer,) = index.search(query, 5, expand=Expansion(5, alpha))
    assert not set(first) & set(rows(answer))


def test_expansions_are_written_as_numbers_with_an_alpha():
    assert Expansion.parse("10") == Expansion(10)
    assert str(Expansion.parse(" 10:3 ")) == "10:3"
    for text in ("", "x", "0", "5:-1", "1:2:3", "-4"):
        with pytest.raises(SearchError, match=r"10:3"):
            Expansion.parse(text)
    with pytest.raises(SearchError, match="for the cosine"):
        index_of(X, "l2").search(X[0], expand=Expansion(3))


@pytest.mark.parametrize("kind", ["flat", "IVF4,SQ8"])
def test_augmented_vectors_are_means_of_their_neighbours(tmp_path, kind):
    with FeatureStore(make_store(tmp_path / "s.h5", X)) as store:
        index = SimilarityIndex.build(
            store, "relu7", kind=kind, augment=Expansion(3, 2.0), recall=1, path=tmp_path / "i"
        )
        for row in (0, 77, 199):
            near = nearest(U[row], 4)
            assert near[0] == row
            expected = unit(U[row] + sum(max(0, U[row] @ U[i]) ** 2 * U[i] for i in near[1:]))
            (image_id,) = index.ids_of([f"{row:05d}.jpg"])
            np.testing.assert_allclose(index.vectors[image_id], expected, atol=1e-5)
        assert index.info().augmented == "3:2"
        assert len(list((tmp_path / "i").iterdir())) == (2 if kind == "flat" else 3)
        with pytest.raises(SearchError, match="is augmented"):
            index.add(store)
        with pytest.raises(SearchError, match="augmented index cannot be merged"):
            SimilarityIndex.merge([index])
        with pytest.raises(SearchError, match="for the cosine, not l2"):
            SimilarityIndex.build(store, "relu7", metric="l2", augment=Expansion(3))


def test_more_candidates_compared_find_more():
    rng = np.random.default_rng(0)
    many = np.float32(rng.normal(size=(4000, 32)))
    index = index_of(many, "cosine", "IVF16,PQ8x4fs")
    index.searcher = index.searcher.set(16, 10)
    exact = index_of(many, "cosine").nearest(many[:100])[0]
    # The same image may be under another id there: compare rows.

    def recall(**options):
        found = index.nearest(many[:100], **options)[0]
        ours, theirs = index.catalogue.rows.row[found], 2 * exact
        return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(ours, theirs, strict=True)])

    assert recall() < 0.6
    assert recall(rerank=100) > recall() + 0.2
    assert recall(rerank=4000) == 1


@pytest.mark.parametrize("kind", ["flat", "IVF4,SQ8"])
def test_prepared_queries_are_taken_in_any_order_of_memory_and_in_no_other_shape(kind):
    index = index_of(X, "cosine", kind=kind)
    ready = index.prepared(X[:5])
    ids, scores = index.nearest(ready, 3, prepared=True)
    for same in (np.asfortranarray(ready), np.repeat(ready, 2, axis=1)[:, ::2]):
        again = index.nearest(same, 3, prepared=True)
        np.testing.assert_array_equal(again[0], ids)
        np.testing.assert_array_equal(again[1], scores)
    for wrong in (ready[:, :7], ready[0], np.hstack([ready, ready])):
        with pytest.raises(SearchError, match=r"have the shape \(q, 16\) here"):
            index.nearest(wrong, 3, prepared=True)
