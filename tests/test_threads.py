"""Threads and processes that share an object get the numbers that one alone gets, bit for bit."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest
import sklearn.base
from conftest import draw
from PIL import Image
from threadpoolctl import threadpool_info, threadpool_limits

from vggfeat import FeatureExtractor, FeatureStore, LinearProbe, SimilarityIndex
from vggfeat.engine import processor
from vggfeat.queries import ImageSearch
from vggfeat.shared import SharedSetting
from vggfeat.sklearn import VGGFeatures
from vggfeat.thread_pools import blas_threads, one_blas_thread, one_thread

Rows = dict[str, np.ndarray]

needs_winograd = pytest.mark.skipif(bool(processor.unsuited()), reason=processor.unsuited() or "-")
ENGINES = ["torch", pytest.param("winograd", marks=needs_winograd)]
VIEWS = [{}, {"view": "dense", "scales": (64,), "flip": True}]
LAYERS = "conv1_2:max,relu1_2,conv3_1:gem,pool5,fc6,relu7"


def extractor(engine: str = "torch", **options: Any) -> FeatureExtractor:
    given = {"weights": "random:0", "layers": LAYERS, "device": "cpu", "engine": engine}
    return FeatureExtractor("vgg16-tiny", workers=1, **{**given, **options})


def images(number: int, count: int = 2) -> list[Image.Image]:
    """Draw images that differ from thread to thread, in size, too."""
    return [draw(70 + 9 * number, 66 + 5 * number, 10 * number + i) for i in range(count)]


def side_by_side(calls: Sequence[Callable[[], None]], rounds: int = 1) -> None:
    """Run calls in a thread each, all beginning at once, again and again; raise what they raise."""
    barrier = threading.Barrier(len(calls))
    errors: list[BaseException] = []

    def work(call: Callable[[], None]) -> None:
        try:
            for _ in range(rounds):
                barrier.wait()
                call()
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def check_same(ours: Rows, theirs: Rows) -> None:
    assert list(ours) == list(theirs)
    for name, rows in theirs.items():
        assert ours[name].tobytes() == rows.tobytes(), name


@pytest.mark.parametrize("options", VIEWS, ids=["center", "dense"])
@pytest.mark.parametrize("engine", ENGINES)
def test_threads_that_share_an_extractor_get_their_own_rows(engine, options):
    shared, alone = extractor(engine, **options), extractor(engine, **options)
    own = [images(number, 1 + number) for number in range(3)]
    expected = [alone(mine) for mine in own]

    def calls(number: int) -> Callable[[], None]:
        return lambda: check_same(shared(own[number]), expected[number])

    side_by_side([calls(number) for number in range(3)], rounds=3)


@pytest.mark.parametrize("engine", ENGINES)
def test_threads_with_extractors_of_their_own_do_not_disturb_each_other(engine):
    own = [images(number, 1 + number) for number in range(2)]
    some = [extractor(engine), extractor(engine, layers="relu1_1:none,conv5_3:gem")]
    expected = [one(mine) for one, mine in zip(some, own, strict=True)]

    def calls(number: int) -> Callable[[], None]:
        return lambda: check_same(some[number](own[number]), expected[number])

    side_by_side([calls(0), calls(1)], rounds=5)


def test_a_network_is_built_once_for_all_threads():
    shared = extractor()
    networks: list[object] = []
    side_by_side([lambda: networks.append(shared.network)] * 4)
    assert len({id(network) for network in networks}) == 1


@needs_winograd
def test_an_engine_that_is_chosen_while_others_run_changes_rows_by_rounding_alone():
    own = images(1)
    expected = extractor("torch")(own)
    for _ in range(3):
        shared = extractor("auto")
        _ = shared.network

        def call(shared: FeatureExtractor = shared) -> None:
            for _ in range(4):
                for name, rows in shared(own).items():
                    error = np.linalg.norm(rows - expected[name]) / np.linalg.norm(expected[name])
                    assert error < 1e-5, name

        side_by_side([call, call, lambda shared=shared: shared.hint_workload(10**9)])
        assert shared.network.engine.name == "winograd"


def test_a_setting_of_the_process_is_brought_back_by_the_last_that_needs_it():
    value = ["before"]

    def change() -> Callable[[], None]:
        found, value[0] = value[0], "changed"
        return lambda: value.__setitem__(0, found)

    setting = SharedSetting(change)
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with setting():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with setting():
        thread.start()
        inside.wait()
    assert value == ["changed"]  # the other thread came later and still needs it
    leave.set()
    thread.join()
    assert value == ["before"]


def test_jobs_of_one_thread_each_leave_the_blas_as_they_found_it():
    inside, leave = threading.Event(), threading.Event()
    seen = []

    def draw_a_map() -> None:
        with one_thread():
            inside.set()
            leave.wait()
            seen.append(blas_threads())

    thread = threading.Thread(target=draw_a_map)
    with threadpool_limits(limits=2, user_api="blas"):
        with one_blas_thread():  # as the probe's solver does
            assert blas_threads() == 1
            thread.start()
            inside.wait()
        leave.set()
        thread.join()
        assert seen == [1]  # still, when the solver was done
        assert blas_threads() == 2


# Stores, indexes, searches, probes


def test_threads_may_read_one_store(scenes_store):
    with FeatureStore(scenes_store) as store:
        expected = {layer: store[layer][:] for layer in store.layers}
        paths = list(store.paths)
    with FeatureStore(scenes_store) as store:

        def read(layer: str) -> None:
            assert list(store.paths) == paths
            assert store[layer][3:40].tobytes() == expected[layer][3:40].tobytes()
            rows, X = store.matrix(layer)
            assert X.tobytes() == expected[layer][rows].reshape(len(rows), -1).tobytes()

        side_by_side([lambda layer=layer: read(layer) for layer in store.layers], rounds=10)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "IVF4,Flat"])
def test_threads_may_search_one_index(scenes_store, tmp_path, kind):
    with FeatureStore(scenes_store) as store:
        index = SimilarityIndex.build(store, "pool5", path=tmp_path / "s.index", kind=kind)
        X = store["pool5"][:]
    few = index.select(paths=["china/*"])
    expected = [index.search(X[i::3], 5) for i in range(3)]
    narrow = index.search(X, 5, within=few)

    def search(number: int) -> None:
        assert index.search(X[number::3], 5) == expected[number]
        assert index.search(X, 5, within=few) == narrow

    side_by_side([lambda number=number: search(number) for number in range(3)], rounds=5)


def test_threads_may_ask_one_search_for_images(scenes, scenes_store, tmp_path):
    with FeatureStore(scenes_store) as store:
        SimilarityIndex.build(store, "pool5", path=tmp_path / "s.index")
    search = ImageSearch(SimilarityIndex.open(tmp_path / "s.index"), device="cpu")
    paths = sorted(scenes.rglob("*.jpg"))[::12]
    expected = [search.features([path])[0] for path in paths]

    def ask(number: int) -> None:
        X, _, failures = search.features([paths[number]])
        assert not failures
        assert X.tobytes() == expected[number].tobytes()

    side_by_side([lambda number=number: ask(number) for number in range(len(paths))], rounds=3)


def test_threads_may_train_probes_of_their_own_and_share_one_that_is_trained():
    def blas() -> list[int]:
        return [part["num_threads"] for part in threadpool_info() if part["user_api"] == "blas"]

    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    X = rng.normal(size=(3, 30))[y] + rng.normal(size=(120, 30))
    alone = LinearProbe().fit(X, y)
    expected, before = alone.decision_function(X), blas()

    def train() -> None:
        found = LinearProbe().fit(X, y).decision_function(X)
        np.testing.assert_allclose(found, expected, atol=1e-8)
        assert alone.predict(X).tolist() == expected.argmax(axis=1).tolist()

    side_by_side([train] * 3, rounds=3)
    assert blas() == before


# Copies, for other processes and later


@pytest.mark.parametrize("engine", ENGINES)
def test_a_used_extractor_pickles_without_its_network(engine):
    used = extractor(engine)
    own = images(0)
    expected = used(own)
    told = pickle.dumps(used)
    assert len(told) < 2000
    for copied in (pickle.loads(told), copy.deepcopy(used), copy.copy(used)):
        assert copied == used
        check_same(copied(own), expected)
        assert copied.network is not used.network
    check_same(used(own), expected)


def test_a_used_extractor_and_transformer_can_be_sent_to_a_spawned_process():
    used = extractor()
    transformer = VGGFeatures("relu7", model="vgg16-tiny", weights="random:0", device="cpu")
    pixels = [np.asarray(image) for image in images(0)]
    expected = used(pixels) | {"transformed": transformer.fit(pixels).transform(pixels)}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        results = pool.submit(used, pixels).result()
        results["transformed"] = pool.submit(transformer.transform, pixels).result()
    for name, rows in expected.items():  # it may have another number of threads
        np.testing.assert_allclose(results[name], rows, rtol=1e-5, atol=1e-6 * np.abs(rows).max())


def test_used_estimators_pickle_and_clone():
    own = images(0)
    used = VGGFeatures("relu7", model="vgg16-tiny", weights="random:0", device="cpu").fit(own)
    expected = used.transform(own)
    again = pickle.loads(pickle.dumps(used))
    assert again.transform(own).tobytes() == expected.tobytes()
    cloned = sklearn.base.clone(used)
    assert not hasattr(cloned, "extractor_")
    assert cloned.fit(own).transform(own).tobytes() == expected.tobytes()
    probe = LinearProbe(C=1.0).fit(np.eye(4, 6), [0, 1, 0, 1])
    copied = pickle.loads(pickle.dumps(probe))
    assert (copied.coef_ == probe.coef_).all()
