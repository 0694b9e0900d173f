"""Promises of the similarity index: brute force's answers, always the same, under right names."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import faiss
import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from index_rows import PROVENANCE, Floats, index_of, make_store

from vggfeat.errors import LayerError, SearchError, StoreError, StoreMismatchError
from vggfeat.index import METRICS, LeftOut, Metric, SimilarityIndex, structures
from vggfeat.provenance import FeatureConfig
from vggfeat.store import FeatureStore


def brute_force(X: Floats, query: Floats, metric: Metric) -> npt.NDArray[np.float64]:
    """Score every row of `X`, the nearer the larger."""
    a, b = np.float64(X), np.float64(query)
    if metric == "l2":
        return -np.linalg.norm(a - b, axis=1)
    products = a @ b
    return products if metric == "ip" else products / np.linalg.norm(a, axis=1) / np.linalg.norm(b)


@pytest.fixture
def X() -> Floats:
    """Draw sixty non-negative vectors, as after a ReLU."""
    return np.float32(np.abs(np.random.default_rng(0).normal(size=(60, 8))))


@pytest.fixture
def store_path(tmp_path: Path, X: Floats) -> Path:
    """Make a store with labels for the first fifty rows."""
    labels = {i: (("ant", "bee")[i % 2],) for i in range(50)}
    return make_store(tmp_path / "s.h5", X, labels)


# Answers


@settings(deadline=None)
@given(data=st.data(), metric=st.sampled_from(METRICS), k=st.integers(1, 40))
def test_answers_are_those_of_brute_force_with_ties_by_row(data, metric, k):
    # Few different small integers: many ties, and sums that float32 holds exactly.
    shape = data.draw(st.tuples(st.integers(1, 30), st.integers(1, 6)))
    numbers = st.integers(-2, 2).map(float)
    X = data.draw(hnp.arrays(np.float32, shape, elements=numbers))
    queries = data.draw(hnp.arrays(np.float32, (3, shape[1]), elements=numbers))
    if metric == "cosine":
        X[~X.any(axis=1)] = queries[~queries.any(axis=1)] = 1
    for query, answer in zip(queries, index_of(X, metric).search(queries, k), strict=True):
        scores = np.float32(brute_force(X, query, metric))
        if metric == "cosine":
            scores = np.round(scores, 5)
        expected = np.lexsort((np.arange(len(X)), -scores))[:k]
        sign = -1 if metric == "l2" else 1
        np.testing.assert_allclose([sign * n.score for n in answer], scores[expected], atol=1e-5)
        assert [n.rank for n in answer] == list(range(1, min(k, len(X)) + 1))
        if metric == "cosine":  # directions such as (1, 1) and (2, 2) tie but for rounding
            assert {n.row // 2 for n in answer} <= set(
                np.flatnonzero(scores >= scores[expected[-1]])
            )
        else:
            assert [n.row // 2 for n in answer] == list(expected)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("offset", [0, 100])
def test_answers_are_right_where_float32_sums_are_not(metric, offset):
    # With the offset all vectors nearly agree: what differs drowns in the rounding of the sums.
    rng = np.random.default_rng(1)
    X = np.float32(rng.normal(size=(400, 512)) + offset)
    queries = X[:40] + np.float32(0.01)
    index = index_of(X, metric)
    for i, answer in enumerate(index.search(queries, 10)):
        scores = brute_force(X, queries[i], metric)
        kth = np.sort(scores)[-10]
        assert all(scores[n.row // 2] >= kth - 2e-7 * abs(kth) for n in answer)
        assert answer[0].row == 2 * i or metric == "ip"


@pytest.mark.parametrize("metric", METRICS)
def test_an_answer_is_the_same_alone_and_in_a_crowd(metric, X):
    copies = np.concatenate([X, X, X])
    index = index_of(copies, metric)
    together = index.search(copies, 20)
    assert [index.search(query, 20)[0] for query in copies] == together
    for answer in together:
        assert answer == sorted(
            answer, key=lambda n: ((n.score if metric == "l2" else -n.score), n.row)
        )


def test_of_many_equal_images_the_first_rows_are_named():
    index = index_of(np.ones((500, 5), np.float32), "cosine")
    assert [n.row for n in index.search(np.ones(5), 7)[0]] == [0, 2, 4, 6, 8, 10, 12]


def test_a_cosine_stays_within_one_and_is_one_for_the_image_itself():
    X = np.float32(np.random.default_rng(2).normal(size=(50, 300)))
    answers = index_of(X, "cosine").search(1000 * X, 50)
    assert all(answer[0].score == 1 for answer in answers)
    assert all(-1 <= n.score <= 1 for answer in answers for n in answer)


def test_asking_for_more_than_there_is_gives_all_there_is(X):
    for metric in METRICS:
        index = index_of(X[:5], metric)
        assert sorted(n.row for n in index.search(X[7], 100)[0]) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(
    ("query", "k", "reason"),
    [
        (np.ones(7), 1, r"\(7,\).*\(q, 8\)"),
        (np.ones((1, 2, 8)), 1, r"\(1, 2, 8\).*\(q, 8\)"),
        (np.stack([np.ones(8), np.full(8, np.nan)]), 1, r"Query 1 .*NaN"),
        (np.full(8, np.inf), 1, r"Query 0 .*infinite"),
        (np.zeros(8), 1, r"Query 0 is all zeros"),
        (np.ones(8), 0, r"k is 0.*at least 1"),
    ],
)
def test_a_query_without_an_answer_is_refused(X, query, k, reason):
    with pytest.raises(SearchError, match=reason):
        index_of(X, "cosine").search(query, k)


def test_numbers_beyond_float32_are_refused_and_do_not_come_out_as_nan(X):
    with pytest.raises(SearchError, match="too large"):
        index_of(X * np.float32(1e20), "l2").search(np.ones(8), 3)
    assert index_of(X * np.float32(1e30), "cosine").search(X[3] * 1e30, 1)[0][0].row == 6
    assert index_of(X, "cosine").search(np.empty((0, 8)), 3) == []


# Building


@pytest.mark.parametrize("layer", ["relu7", "fc2", "pool5"])
def test_a_store_is_indexed_under_its_rows_paths_and_labels(tmp_path, X, layer):
    labels = {i: (("ant", "bee")[i % 2],) for i in range(50)}
    path = make_store(tmp_path / "s.h5", X, labels, left_out=(0, 31))
    if layer == "fc2":
        with FeatureStore(path) as store, pytest.raises(LayerError):
            SimilarityIndex.build(store, layer)
        return
    with FeatureStore(path) as store:
        index = SimilarityIndex.build(store, layer)
        assert len(index) == 58
        for row in (1, 30, 32, 59):
            best = index.search(X[row], 3)[0][0]
            assert (best.row, best.path, best.score) == (row, f"{row:05d}.jpg", 1.0)
            assert best.label == ("" if row >= 50 else ("ant", "bee")[row % 2])
    info = index.info()
    assert (info.images, info.dimension, info.labelled, info.left_out.not_done) == (58, 8, 48, 2)
    assert (info.layer, info.metric, info.model, info.source) == (
        (layer, "cosine", "vgg16", "/photos")
    )
    assert json.loads(json.dumps(info.to_json()))["left_out"] == {
        "not_done": 2,
        "not_finite": 0,
        "zero": 0,
    }


def test_images_of_several_labels_show_them_all(tmp_path, X):
    path = make_store(tmp_path / "s.h5", X, {0: ("ant", "bee"), 1: ("bee",)})
    with FeatureStore(path) as store:
        index = SimilarityIndex.build(store, "relu7")
    assert [index.search(X[i], 1)[0][0].label for i in range(3)] == ["ant|bee", "bee", ""]


def test_a_label_is_found_in_whichever_form_its_accents_are_typed(tmp_path, X):
    composed, apart = (unicodedata.normalize(form, "fée") for form in ("NFC", "NFD"))
    path = make_store(tmp_path / "s.h5", X, {0: (apart, "bee"), 1: (composed,)})
    with FeatureStore(path) as store:
        index = SimilarityIndex.build(store, "relu7")
    for typed in (composed, apart):
        found = index.search(X[0], 5, within=index.select(labels=[typed]))[0]
        assert {n.row for n in found} == {0, 1}


def test_rows_that_cannot_be_compared_are_left_out_and_counted(tmp_path, X):
    X[3] = X[4] = 0
    path = make_store(tmp_path / "s.h5", X)
    with h5py.File(path, "r+") as file:  # as a damaged disk would
        file["features/relu7"][7, 1] = np.nan
        file["features/relu7"][8, 0] = np.inf
    with FeatureStore(path) as store:
        cosine = SimilarityIndex.build(store, "relu7")
        l2 = SimilarityIndex.build(store, "relu7", metric="l2")
    assert cosine.info().left_out == LeftOut(not_done=0, not_finite=2, zero=2)
    assert l2.info().left_out == LeftOut(not_done=0, not_finite=2, zero=0)
    found = {n.row for n in cosine.search(X[0], 100)[0]}
    assert found == set(range(60)) - {3, 4, 7, 8}
    assert [n.row for n in l2.search(np.zeros(8), 2)[0]] == [3, 4]


def test_nothing_to_index_is_an_error_with_its_reasons(tmp_path, X):
    path = make_store(tmp_path / "s.h5", np.zeros_like(X), left_out=(1,))
    with FeatureStore(path) as store:
        with pytest.raises(SearchError, match=r"1 are not done, 0 hold NaN.*59 are all zeros"):
            SimilarityIndex.build(store, "relu7")
        with pytest.raises(SearchError, match=r"'hamming'.*cosine, l2, ip"):
            SimilarityIndex.build(store, "relu7", metric="hamming")


# Files


@pytest.fixture(params=["flat", "IVF4,SQ8"])
def saved(request, store_path: Path, tmp_path: Path) -> Path:
    """Save an index of the store."""
    with FeatureStore(store_path) as store:
        SimilarityIndex.build(store, "relu7", path=tmp_path / "s.index", kind=request.param)
    return tmp_path / "s.index"


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_saved_index_answers_the_same_and_the_folder_can_be_moved(saved, tmp_path, X):
    index = SimilarityIndex.open(saved)
    answers = index.search(X, 60)
    index.save(tmp_path / "copy.index")
    (tmp_path / "copy.index").rename(tmp_path / "moved")
    moved = SimilarityIndex.open(tmp_path / "moved")
    assert moved.search(X, 60) == answers
    assert moved.provenance == index.provenance
    assert moved.provenance.config.layers == {"relu7": ""}
    moved.verify()


def test_more_neighbours_than_there_are_images_are_all_of_them(saved, X):
    index = SimilarityIndex.open(saved)
    (found,) = index.search(X[:1], 10**9)
    assert len(found) == len(index)
    assert index.nearest(X[:2], 10**9)[0].shape == (2, len(index))


@pytest.mark.parametrize("kind", ["ivfpq", "OPQ4,IVF2,PQ4"])
def test_faiss_prints_nothing_where_images_are_few(store_path, tmp_path, kind, capfd):
    with FeatureStore(store_path) as store:
        SimilarityIndex.build(store, "relu7", path=tmp_path / "s.index", kind=kind)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["OPQ4,IVF2,PQ4", "HNSW8,PQ4", "PQ4"])
def test_codes_are_not_put_in_an_order_that_no_search_uses(kind):
    trained = faiss.index_factory(8, kind)
    structures.train(trained, np.random.default_rng(0).normal(size=(256, 8)).astype(np.float32))
    inner = structures.core(trained)
    storage = faiss.downcast_index(inner.storage) if kind.startswith("HNSW") else inner
    assert not storage.do_polysemous_training


def test_an_index_without_a_path_is_forgotten_with_its_files(store_path):
    with FeatureStore(store_path) as store:
        index = SimilarityIndex.build(store, "relu7")
    folder = index.folder
    assert (folder / "index.h5").is_file()
    del index
    assert not folder.exists()


def test_numpy_h5py_and_faiss_read_the_files_without_us(saved, X):
    with h5py.File(saved / "index.h5") as file:
        assert file.attrs["format"] == "vggfeat-index"
        about = json.loads(file["about"][:].tobytes())
        ends, row = file["path_ends"][:], file["row"][:]
        paths = file["path_bytes"][:].tobytes().decode()
    vectors = np.fromfile(saved / about["files"]["vectors"], "<f4").reshape(-1, 8)
    position = row.tolist().index(5)
    np.testing.assert_allclose(vectors[position], X[5] / np.linalg.norm(X[5]), atol=1e-6)
    assert paths[ends[position] - 9 : ends[position]] == "00005.jpg"
    if about["files"]["faiss"]:
        plain = faiss.read_index(str(saved / about["files"]["faiss"]))
        plain.nprobe = 4
        assert plain.search(vectors[[position]], 1)[1] == position


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_survives_the_disk(tmp_path, X, metric):
    index = index_of(X, metric)
    index.save(tmp_path / "x.index")
    assert SimilarityIndex.open(tmp_path / "x.index").search(X, 5) == index.search(X, 5)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign", "missing"])
@pytest.mark.parametrize("kind", ["index.h5", "vectors", "faiss"])
def test_damage_to_any_file_is_found(saved, damage, kind):
    for path in saved.glob(f"{kind}*"):
        content = bytearray(path.read_bytes())
        if damage == "flip":
            # Of the catalogue, a letter of a path.
            at = content.find(b"00007.jpg") if kind == "index.h5" else len(content) // 2
            content[at + 4] ^= 1
        elif damage == "cut":
            content = content[:-100]
        else:
            content = bytearray() if damage == "empty" else bytearray(b"\xff\xd8\xff a photo")
        path.write_bytes(content)
        if damage == "missing":
            path.unlink()
        with pytest.raises(SearchError, match=r"anew|index build"):
            SimilarityIndex.open(saved)


def test_other_format_versions_are_refused_with_the_remedy(saved, tmp_path):
    for version, remedy in ((99, "Upgrade"), (1, "vggfeat index build")):
        with h5py.File(saved / "index.h5", "r+") as file:
            file.attrs["format_version"] = version
        with pytest.raises(SearchError, match=remedy):
            SimilarityIndex.open(saved)


def test_an_index_of_the_first_format_is_refused_and_can_be_built_over(store_path, tmp_path):
    path = tmp_path / "old.index"
    faiss.write_index(faiss.IndexIDMap2(faiss.IndexFlatIP(8)), str(path))
    with h5py.File(f"{path}.h5", "w") as file:
        file.attrs["format"], file.attrs["format_version"] = "vggfeat-index", 1
    with pytest.raises(SearchError, match=r"older vggfeat \(format 1\).*vggfeat index build"):
        SimilarityIndex.open(path)
    with FeatureStore(store_path) as store:
        SimilarityIndex.build(store, "relu7", path=path)
    assert len(SimilarityIndex.open(path)) == 60
    assert not Path(f"{path}.h5").exists()


def test_building_replaces_an_index_but_nothing_else(saved, store_path, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"a photo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "photo.jpg").write_bytes(b"a photo")
    before = store_path.read_bytes()
    with FeatureStore(store_path) as store:
        SimilarityIndex.build(store, "relu7", path=saved, metric="l2")
        for taken in ("photo.jpg", "s.h5", "folder"):
            with pytest.raises(SearchError, match="is no index; it stays"):
                SimilarityIndex.build(store, "relu7", path=tmp_path / taken)
        with pytest.raises(StoreError, match="does not exist"):
            SimilarityIndex.build(store, "relu7", path=tmp_path / "nowhere" / "x.index")
    assert SimilarityIndex.open(saved).metric == "l2"
    assert len(list(saved.iterdir())) == 2
    assert store_path.read_bytes() == before
    assert (tmp_path / "photo.jpg").read_bytes() == b"a photo"


def test_a_failure_in_the_middle_of_building_leaves_the_old_index(saved, store_path, tmp_path):
    before = files(saved)

    def fail(stage: str, _done: int, _total: int) -> None:
        if stage == "adding":
            raise KeyboardInterrupt

    with FeatureStore(store_path) as store, pytest.raises(KeyboardInterrupt):
        SimilarityIndex.build(store, "relu7", path=saved, kind="IVF2,SQ8", progress=fail)
    assert files(saved) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.h5", "s.index"]


def test_queries_made_in_another_way_are_refused_by_field(saved):
    index = SimilarityIndex.open(saved)
    index.check(PROVENANCE.config)
    other = FeatureConfig(
        **{**PROVENANCE.config.to_json(), "weights_sha256": "cd" * 32, "scales": ()}
    )
    with pytest.raises(StoreMismatchError, match=r"weights_sha256: 'abab.*not 'cdcd"):
        index.check(other)
    with pytest.raises(StoreMismatchError, match="index is of relu7, and only pool5"):
        index.check(PROVENANCE.config.for_layer("pool5"))


def test_the_module_is_quick_to_import():
    code = "import sys, vggfeat.index as _; sys.exit(bool({'faiss', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
