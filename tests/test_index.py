"""Promises of the similarity index: brute force's answers, always the same, under right names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import faiss
import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vggfeat.errors import LayerError, SearchError, StoreError, StoreMismatchError
from vggfeat.index import METRICS, Catalogue, LeftOut, SimilarityIndex, exact
from vggfeat.preprocessing import TORCHVISION
from vggfeat.provenance import Deciding, Happened, Provenance, now
from vggfeat.store import FeatureStore, StoreWriter

PROVENANCE = Provenance(
    Deciding("vgg16", "ab" * 32, TORCHVISION.to_json(), "center", {"relu7": "", "pool5": "none"}),
    Happened("/photos", "random:0", "cpu", "float32", now()),
)
Floats = npt.NDArray[np.float32]


def make_store(
    path: Path,
    X: Floats,
    labels: Mapping[int, tuple[str, ...]] | None = None,
    left_out: tuple[int, ...] = (),
) -> Path:
    """Write a store with `X` as relu7 and maps of the same numbers as pool5."""
    maps = X.reshape(len(X), 2, 2, -1)
    entries = [SimpleNamespace(path=f"{i:05d}.jpg", size=1, mtime_ns=1) for i in range(len(X))]
    with StoreWriter.open(
        path,
        entries=entries,
        shapes={"relu7": X.shape[1:], "pool5": maps.shape[1:]},
        provenance=PROVENANCE,
        labels={entries[i].path: names for i, names in (labels or {}).items()},
    ) as writer:
        rows = np.array([i for i in range(len(X)) if i not in left_out])
        writer.write(rows, {"relu7": X[rows], "pool5": maps[rows]})
    return path


def index_of(X: Floats, metric: exact.Metric) -> SimilarityIndex:
    """Index the rows of an array under the numbers 0, 2, 4 and so on."""
    rows = 2 * np.arange(len(X))
    vectors = np.float64(X)
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    built = exact.build(
        [(rows, np.float32(vectors))], dimension=X.shape[1], count=len(X), metric=metric
    )
    paths = np.array([f"{row}.jpg" for row in rows], dtype=object)
    labels = np.array([""] * len(rows), dtype=object)
    longest = float(np.linalg.norm(vectors, axis=1).max())
    given = Provenance(PROVENANCE.deciding.for_layer("relu7"), PROVENANCE.happened)
    catalogue = Catalogue("relu7", metric, given, rows, paths, labels, longest, LeftOut(0, 0, 0))
    return SimilarityIndex(built, catalogue)


def brute_force(X: Floats, query: Floats, metric: exact.Metric) -> npt.NDArray[np.float64]:
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


@pytest.fixture
def saved(store_path: Path, tmp_path: Path) -> Path:
    """Save an index of the store."""
    with FeatureStore(store_path) as store:
        SimilarityIndex.build(store, "relu7").save(tmp_path / "s.index")
    return tmp_path / "s.index"


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


def test_building_takes_memory_for_one_matrix(tmp_path):
    code = """
import sys, numpy as np, faiss
from vggfeat.index import exact
def peak():
    text = open("/proc/self/status").read()
    return int(text.partition("VmHWM:")[2].split()[0]) / 1024
block = np.ones((1000, 4096), np.float32)
exact.build([(np.arange(10), block[:10])], dimension=4096, count=10, metric="cosine")
before = peak()
blocks = ((np.arange(i, i + 1000), block) for i in range(0, 9000, 1000))
exact.build(blocks, dimension=4096, count=9000, metric="cosine")
print(peak() - before)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from Linux's /proc")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.3 * 9000 * 4096 * 4 / 2**20


# Files


def test_a_loaded_index_answers_the_same(store_path, saved, X):
    with FeatureStore(store_path) as store:
        built = SimilarityIndex.build(store, "relu7")
    loaded = SimilarityIndex.load(saved)
    assert loaded.search(X, 60) == built.search(X, 60)
    assert loaded.info() == built.info()
    assert loaded.provenance == built.provenance
    assert loaded.provenance.deciding.layers == {"relu7": ""}


def test_faiss_and_h5py_read_the_files_without_us(saved, X):
    plain = faiss.read_index(str(saved))
    assert plain.search(X[[5]] / np.linalg.norm(X[5]), 1)[1] == 5
    with h5py.File(f"{saved}.h5") as file:
        assert file.attrs["format"] == "vggfeat-index"
        assert file["path"].asstr()[5] == "00005.jpg"
        assert list(file["row"][:3]) == [0, 1, 2]


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_survives_the_disk(tmp_path, X, metric):
    index = index_of(X, metric)
    index.save(tmp_path / "x.index")
    assert SimilarityIndex.load(tmp_path / "x.index").search(X, 5) == index.search(X, 5)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign"])
@pytest.mark.parametrize("ending", ["", ".h5"])
def test_damage_to_either_file_is_found(saved, damage, ending):
    path = Path(f"{saved}{ending}")
    content = bytearray(path.read_bytes())
    if damage == "flip":
        # Of the catalogue, a letter of a path.
        at = content.find(b"00007.jpg") if ending else len(content) // 2
        content[at + 4] ^= 1
    elif damage == "cut":
        content = content[:-100]
    else:
        content = bytearray() if damage == "empty" else bytearray(b"\xff\xd8\xff a photo")
    path.write_bytes(content)
    with pytest.raises(SearchError, match=r"anew|index build"):
        SimilarityIndex.load(saved)


@pytest.mark.parametrize("ending", ["", ".h5"])
def test_a_missing_half_is_named(saved, ending):
    Path(f"{saved}{ending}").unlink()
    with pytest.raises(SearchError, match=rf"s.index{ending} is missing.*Copy both"):
        SimilarityIndex.load(saved)


def test_halves_of_two_indexes_are_not_taken_for_one(saved, tmp_path, X):
    index_of(X, "cosine").save(tmp_path / "other.index")
    saved.write_bytes((tmp_path / "other.index").read_bytes())
    with pytest.raises(SearchError, match=r"not the file that s\.index\.h5 was written with"):
        SimilarityIndex.load(saved)


def test_a_newer_format_asks_for_an_upgrade(saved):
    with h5py.File(f"{saved}.h5", "r+") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(SearchError, match="Upgrade"):
        SimilarityIndex.load(saved)


def test_saving_replaces_an_index_but_no_other_file(saved, store_path, tmp_path, X):
    index = index_of(X, "l2")
    index.save(saved)
    assert SimilarityIndex.load(saved).metric == "l2"
    (tmp_path / "photo.jpg").write_bytes(b"a photo")
    for taken in ("photo.jpg", "s.h5", "s"):  # the catalogue of "s" would be the store
        before = store_path.read_bytes(), (tmp_path / "photo.jpg").read_bytes()
        with pytest.raises(SearchError, match="is no index; it stays"):
            index.save(tmp_path / taken)
        assert before == (store_path.read_bytes(), (tmp_path / "photo.jpg").read_bytes())
    with pytest.raises(StoreError, match="does not exist"):
        index.save(tmp_path / "nowhere" / "x.index")


def test_a_failure_in_the_middle_of_saving_leaves_the_old_pair(saved, tmp_path, X):
    before = [Path(f"{saved}{ending}").read_bytes() for ending in ("", ".h5")]
    broken = index_of(X, "cosine")
    broken.catalogue.paths[30] = object()  # the FAISS file is written by then
    with pytest.raises(TypeError):
        broken.save(saved)
    assert [Path(f"{saved}{ending}").read_bytes() for ending in ("", ".h5")] == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.h5", "s.index", "s.index.h5"]
    SimilarityIndex.load(saved)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_kill_while_saving_never_leaves_a_pair_that_lies(saved, X):
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np, test_index
first, second = (test_index.index_of(np.float32(np.eye(8)[order]) + 1, "cosine")
                 for order in (np.arange(8), np.arange(8)[::-1]))
print("ready", flush=True)
while True:
    first.save({str(saved)!r})
    second.save({str(saved)!r})
"""
    rng, whole = np.random.default_rng(0), 0
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(float(rng.uniform(0.01, 0.2)))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        try:
            loaded = SimilarityIndex.load(saved)
        except SearchError as error:
            assert "not the file that" in str(error)  # noqa: PT017
            continue
        whole += 1
        assert len(loaded) in (8, 60)
    assert whole >= 3
    index_of(X, "cosine").save(saved)
    leftovers = [p.name for p in saved.parent.iterdir() if p.suffix in (".tmp", ".lock")]
    assert leftovers == []


def test_queries_made_in_another_way_are_refused_by_field(saved):
    index = SimilarityIndex.load(saved)
    index.check(PROVENANCE.deciding)
    other = Deciding(**{**PROVENANCE.deciding.to_json(), "weights_sha256": "cd" * 32, "scales": ()})
    with pytest.raises(StoreMismatchError, match=r"weights_sha256: 'abab.*not 'cdcd"):
        index.check(other)
    with pytest.raises(StoreMismatchError, match="index is of relu7, and only pool5"):
        index.check(PROVENANCE.deciding.for_layer("pool5"))


def test_the_module_is_quick_to_import():
    code = "import sys, vggfeat.index as _; sys.exit(bool({'faiss', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
