"""Promises of an index that changes: after images came and went, brute force's answers still."""

from __future__ import annotations

import shutil
from fnmatch import fnmatchcase
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import BUSY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from index_rows import Floats, index_of, make_store

from vggfeat.errors import SearchError, StoreMismatchError
from vggfeat.index import AddReport, LeftOut, SimilarityIndex, searching, structures
from vggfeat.store import FeatureStore

KINDS = (
    *("flat", "IVF8,Flat", "IVF8,SQ8", "IVF8,PQ4x4fs", "IVF8,PQ4np", "HNSW16", "HNSW16,SQ8"),
    *("HNSW16,SQfp16", "PCA6,IVF8,SQ8", "IVF8_HNSW8,SQ8", "PQ4x4fs", "SQ8"),
)
BASE, ALL = 240, 300
FEW = 40
LABELS = ("ant", "bee", "cat")


def vectors() -> Floats:
    """Draw small integers, whose sums float32 holds exactly; every third vector has a twin."""
    X = np.random.default_rng(0).integers(-9, 9, size=(ALL, 8)).astype(np.float32)
    X[::3][1:] = X[::3][np.random.default_rng(1).integers(0, 20, len(X[::3]) - 1)]
    return X


X = vectors()


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make stores of the first images, of all, and of others."""
    folder = tmp_path_factory.mktemp("stores")
    labels = {i: (LABELS[i % 3],) for i in range(ALL)}
    make_store(folder / "base.h5", X[:BASE], {i: labels[i] for i in range(BASE)})
    make_store(folder / "all.h5", X, labels)
    changed = X.copy()
    changed[5] += 1
    make_store(folder / "changed.h5", changed, labels)
    return folder


CASES = [(kind, "l2") for kind in KINDS] + [(kind, "ip") for kind in KINDS[:7:2]]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def base(request, stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Index the first images by one kind."""
    path = tmp_path_factory.mktemp("base") / "photos.index"
    kind, metric = request.param
    with FeatureStore(stores / "base.h5") as store:
        SimilarityIndex.build(store, "relu7", path=path, kind=kind, metric=metric)
    return path


@pytest.fixture(autouse=True)
def _no_short_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "_FEW", 0)  # FAISS searches among few images, too


def exhaustive(index: SimilarityIndex) -> SimilarityIndex:
    """Let an approximate index visit everything, and compare most of what FAISS proposes."""
    searcher = index.searcher
    if searcher.structure is not None:
        _, most = structures.effort_limits(searcher.structure)
        coarse = not structures.lossless(searcher.structure)
        share = 0.95 if "PQ" in index.info().structure or "PCA" in index.info().structure else 0.5
        # Of few images, as they are left where nearly all were removed, all: of a handful, half is
        # no more than the rounding of codes and equally near vectors put out of order.
        candidates = max(FEW, int(len(index) * (share if coarse else 0.5)))
        index.searcher = searcher.set(most, candidates)
    return index


def unreached(index: SimilarityIndex, query: Floats) -> set[int]:
    """Say which images no search of a graph (HNSW) reaches from a query, however far it looks.

    FAISS prunes the links to a vector that has nearer neighbours, now and then all of them: 39 of
    2,400 such graphs of these vectors left out one vector or two.
    """
    structure = index.searcher.structure
    if structure is None or not index.info().structure.startswith("HNSW"):
        return set()
    everything = structures.parameters(structure, structure.ntotal)
    _, reached = structure.search(np.float32([query]), structure.ntotal, params=everything)
    lost = set(range(structure.ntotal)) - set(reached[0].tolist())
    assert len(lost) <= structure.ntotal * 0.02
    return {int(index.path(image_id)[:-4]) for image_id in lost}


def check(index: SimilarityIndex, alive: set[int], query: Floats, k: int, **chosen: list[str]):
    """Compare an answer with brute force, ties by row.

    What a graph does not reach may be missing, and nothing else.
    """
    numbers = np.array(sorted(alive), np.int64)
    if "labels" in chosen:
        numbers = numbers[[LABELS[i % 3] in chosen["labels"] for i in numbers]]
    if "paths" in chosen:
        numbers = numbers[[fnmatchcase(f"{i:05d}.jpg", chosen["paths"][0]) for i in numbers]]
    within = index.select(**chosen) if chosen else None
    if within is not None:
        assert len(within) == len(numbers)
    (answer,) = index.search(query, k, within=within)
    found = {one.path for one in answer}
    lost = {i for i in unreached(index, query) if f"{i:05d}.jpg" not in found}
    numbers = numbers[[i not in lost for i in numbers.tolist()]]
    if index.metric == "ip":
        scores = X[numbers] @ query
    else:
        scores = np.sqrt(((X[numbers] - query) ** 2).sum(axis=1))
    first = np.lexsort((numbers, -scores if index.metric == "ip" else scores))[:k]
    assert [one.path for one in answer] == [f"{i:05d}.jpg" for i in numbers[first]]
    np.testing.assert_allclose([one.score for one in answer], scores[first], rtol=1e-6)


@settings(max_examples=10, suppress_health_check=[*BUSY, HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_after_adding_removing_and_compacting_answers_are_those_of_brute_force(
    base: Path, stores: Path, tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "photos.index"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(base, path)
    index, alive, by_hand = SimilarityIndex.open(path), set(range(BASE)), set[int]()
    verbs = ["add", "add again", "remove", "compact"]
    for verb in data.draw(st.lists(st.sampled_from(verbs), max_size=5)):
        if verb.startswith("add"):
            again = verb == "add again"
            by_hand -= by_hand if again else set()
            with FeatureStore(stores / "all.h5") as store:
                report = index.add(store, again=again)
            new = set(range(ALL)) - by_hand - alive
            out = len(by_hand)
            assert report == AddReport(len(new), 0, len(alive), LeftOut(), excluded=out)
            alive |= new
        elif verb == "remove":
            numbers = data.draw(st.sets(st.sampled_from(sorted(alive)), max_size=60))
            assert index.remove([f"{i:05d}.jpg" for i in sorted(numbers)]) == len(numbers)
            alive -= numbers
            by_hand |= numbers
        else:
            gone = len(index.catalogue.rows) - len(alive)
            assert index.compact() == gone
        assert len(index) == len(alive)
        assert index.info().excluded == len(by_hand)
    exhaustive(index)
    query = data.draw(st.lists(st.integers(-9, 9), min_size=8, max_size=8))
    k = data.draw(st.integers(1, 20))
    check(index, alive, np.float32(query), k)
    check(index, alive, np.float32(query), k, labels=["ant", "cat"])
    check(index, alive, np.float32(query), k, paths=["*[37].jpg"])
    check(index, alive, np.float32(query), k, paths=["*[2-9].jpg"], labels=["bee"])
    assert SimilarityIndex.open(path).catalogue.rows.removed.sum() == len(index.vectors) - len(
        alive
    )


def test_equally_near_images_come_in_the_order_of_their_runs_and_rows(
    stores: Path, tmp_path: Path
) -> None:
    """Taken again from a store of another run, an image comes after its twins of the first."""
    shutil.copy(stores / "all.h5", tmp_path / "later.h5")
    with h5py.File(tmp_path / "later.h5", "r+") as file:
        runs = file["runs"][:]
        file["runs"][...] = [bytes(run).replace(b"T01:00:00", b"T02:00:00") for run in runs]
    twins = [i for i in range(BASE) if (X[i] == X[96]).all()]
    assert twins.index(96) not in (0, len(twins) - 1)
    for store, expected in (
        (stores / "all.h5", twins),
        (tmp_path / "later.h5", [i for i in twins if i != 96] + [96]),
    ):
        with FeatureStore(stores / "base.h5") as first, FeatureStore(store) as second:
            index = SimilarityIndex.build(first, "relu7", metric="l2")
            index.remove(["00096.jpg"])
            index.add(second, again=True)
        found = [int(one.path[:5]) for one in index.search(X[96], len(twins) + 4)[0]]
        assert [i for i in found if i in twins] == expected


def test_when_nearly_all_are_removed_answers_are_those_of_brute_force(
    base: Path, tmp_path: Path
) -> None:
    shutil.copytree(base, tmp_path / "i")
    index, alive = SimilarityIndex.open(tmp_path / "i"), set(range(BASE))
    rng = np.random.default_rng(0)
    for left in (FEW + 5, 16, 8, 4):
        gone = rng.choice(sorted(alive), len(alive) - left, replace=False).tolist()
        index.remove([f"{i:05d}.jpg" for i in gone])
        alive -= set(gone)
        exhaustive(index)
        for query in rng.integers(-9, 10, (10, 8)).astype(np.float32):
            check(index, alive, query, int(rng.integers(1, 21)))


def test_a_filter_of_few_gives_k_results_whatever_the_kind(base: Path) -> None:
    index = SimilarityIndex.open(base)
    index.searcher = index.searcher.set(1, 10)  # far too little for this
    within = index.select(paths=["*[37].jpg"], labels=["bee"])
    for query in X[:20]:
        (answer,) = index.search(query, 12, within=within)
        assert len(answer) == 12
        assert all(one.label == "bee" and one.path[4] in "37" for one in answer)


def test_an_image_that_has_changed_is_replaced(base: Path, stores: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "i")
    index = SimilarityIndex.open(tmp_path / "i")
    with FeatureStore(stores / "changed.h5") as store:
        assert index.add(store) == AddReport(ALL - BASE, 1, BASE - 1, LeftOut())
        assert index.add(store) == AddReport(0, 0, ALL, LeftOut())
    assert len(index) == ALL
    (image_id,) = index.ids_of(["00005.jpg"])
    np.testing.assert_array_equal(index.vectors[image_id], X[5] + 1)
    answers = exhaustive(index).search(X[5] + 1, 40)[0]
    assert [one.id for one in answers if one.path == "00005.jpg"] in ([image_id], [])


def test_an_image_removed_by_hand_stays_out_changed_or_moved_until_it_is_taken_again(
    stores: Path, tmp_path: Path
) -> None:
    with FeatureStore(stores / "base.h5") as store:
        SimilarityIndex.build(store, "relu7", path=tmp_path / "i")
    index = SimilarityIndex.open(tmp_path / "i")
    index.remove(["00005.jpg", "00006.jpg"])
    index.compact()
    with FeatureStore(stores / "changed.h5") as store:
        assert index.add(store).excluded == 2
    moved = shutil.copy(stores / "all.h5", tmp_path / "moved.h5")
    with h5py.File(moved, "r+") as file:  # 6 goes where 9 was, which has left
        file["images/path"][6], file["images/path"][9] = "00009.jpg", "left.jpg"
        file["images/present"][9] = 0
    with FeatureStore(moved) as store:
        report = index.add(store)
        assert (report.gone, report.excluded) == (1, 2)
        assert SimilarityIndex.open(tmp_path / "i").catalogue.excluded.path == (
            *("00005.jpg", "00009.jpg"),
        )
        assert index.add(store, again=True).added == 2
    assert (len(index), index.info().excluded) == (ALL - 1, 0)


def test_an_image_that_can_no_longer_be_compared_leaves(stores: Path, tmp_path: Path) -> None:
    zero = X.copy()
    zero[5] = 0
    with FeatureStore(stores / "all.h5") as store:
        index = SimilarityIndex.build(store, "relu7")
    with FeatureStore(make_store(tmp_path / "zero.h5", zero)) as store:
        assert index.add(store) == AddReport(0, 0, ALL - 1, LeftOut(zero=1))
    assert len(index) == ALL - 1
    with pytest.raises(SearchError, match="no image"):
        index.ids_of(["00005.jpg"])


def test_a_selection_is_of_one_state_of_the_index(stores: Path) -> None:
    with FeatureStore(stores / "base.h5") as store:
        index = SimilarityIndex.build(store, "relu7")
    within = index.select(labels=["ant"])
    with FeatureStore(stores / "all.h5") as store:
        index.add(store)
    with pytest.raises(SearchError, match="select again"):
        index.search(X[1], within=within)


def test_merged_indexes_answer_as_one_of_all_images(stores: Path, tmp_path: Path) -> None:
    with FeatureStore(stores / "base.h5") as first, FeatureStore(stores / "changed.h5") as second:
        one = SimilarityIndex.build(first, "relu7", metric="l2", kind="IVF8,SQ8")
        two = SimilarityIndex.build(second, "relu7", metric="l2")
    one.remove(["00007.jpg"])
    merged = SimilarityIndex.merge([one, two], path=tmp_path / "all.index")
    assert (len(merged), merged.info().structure) == (ALL - 1, "IVF8,SQ8")
    # Of an image in both, the earlier index's is taken; one removed there by hand, from none.
    alive = set(range(ALL)) - {7}
    check(exhaustive(merged), alive, X[5], 15)
    check(merged, alive, X[7], 15, labels=["bee"])
    flat = SimilarityIndex.merge([merged], path=tmp_path / "all.index", kind="flat")
    check(flat, alive, X[7], 15)
    with FeatureStore(stores / "changed.h5") as store:
        assert flat.add(store).excluded == 1


def test_what_was_made_otherwise_is_neither_added_nor_merged(stores: Path, tmp_path: Path) -> None:
    with FeatureStore(stores / "base.h5") as store:
        index = SimilarityIndex.build(store, "relu7")
        others = {
            "metric: cosine, not l2": SimilarityIndex.build(store, "relu7", metric="l2"),
            "whitening: None, not": SimilarityIndex.build(store, "relu7", whitening=4),
        }
        maps = SimilarityIndex.build(store, "pool5")
    for reason, other in others.items():
        with pytest.raises(SearchError, match=reason):
            SimilarityIndex.merge([index, other])
    with pytest.raises(StoreMismatchError, match="only pool5 is given"):
        SimilarityIndex.merge([index, maps])
    with pytest.raises(SearchError, match="give one or more"):
        SimilarityIndex.merge([])


def test_paths_that_are_not_there_are_named_and_nothing_is_removed(base: Path) -> None:
    index = SimilarityIndex.open(base)
    with pytest.raises(SearchError, match=r"no image '00005\.jpeg'.*mean '00005\.jpg'"):
        index.remove(["00001.jpg", "00005.jpeg"])
    assert len(index) == BASE
    with pytest.raises(SearchError, match=r"label 'dog'.*ant, bee, cat"):
        index.select(labels=["dog"])


def test_all_images_may_go_and_others_come(stores: Path, tmp_path: Path) -> None:
    with FeatureStore(stores / "base.h5") as store:
        index = SimilarityIndex.build(store, "relu7", path=tmp_path / "i", kind="IVF4,SQ8")
        index.remove([index.path(one) for one in index.ids])
        assert index.search(X[0], 3) == [[]]
        with pytest.raises(SearchError, match="no image left"):
            index.compact()
        assert index.add(store) == AddReport(0, 0, 0, LeftOut(), excluded=BASE)
        assert index.add(store, again=True).added == BASE
        assert index.compact() == BASE
    assert index.search(X[1], 1)[0][0].path == "00001.jpg"


@pytest.mark.parametrize("kind", ["flat", "IVF8,PQ4x4fs", "HNSW8,SQ8"])
@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_range_search_finds_all_that_is_near_enough(kind, metric) -> None:
    index = exhaustive(index_of(X[X.any(axis=1)], metric, kind))
    bounds = {"cosine": 0.6, "l2": 9.0, "ip": 90.0}
    found = index.range_search(X[1:20], bounds[metric])
    for query, (ids, scores) in zip(X[1:20], found, strict=True):
        every = index.searcher._exact(index.prepared(query), len(index), None)
        near = every[1][0] <= 9 if metric == "l2" else every[1][0] >= bounds[metric]
        assert set(ids) == set(every[0][0][near])
        assert len(scores) == len(ids)
