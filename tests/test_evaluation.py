"""Every layer is judged on the same images, by a vote of true neighbours and by the probe."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import store_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from vggfeat import memory
from vggfeat.errors import LayerError, ProbeError
from vggfeat.evaluation import Comparison, LayerScore, compare, knn_accuracy, sweep
from vggfeat.evaluation.layers import nearest, requested
from vggfeat.metrics import compare_answers
from vggfeat.probe import LinearProbe, evaluate
from vggfeat.report import ordered_layers, sweep_figure
from vggfeat.report.score_axes import span
from vggfeat.store import FeatureStore, StoreWriter

Floats = npt.NDArray[np.float32]
CLASSES = ("cat", "dog", "owl")


def make_store(
    path: Path,
    layers: Mapping[str, Floats],
    labels: Mapping[int, str] | None = None,
    failed: Sequence[int] = (),
    runs: Sequence[Sequence[int]] = (),
) -> Path:
    """Write a store whose image i has the i-th row of each array, in one or more runs."""
    count = len(next(iter(layers.values())))
    named = {i: CLASSES[i % 3] for i in range(count)} if labels is None else labels
    pools = {layer: "none" if X.ndim > 2 else "avg" for layer, X in layers.items()}
    for images in runs or [range(count)]:
        with StoreWriter.open(
            path,
            entries=[store_rows.Image(f"{i:05d}.jpg") for i in images],
            shapes={layer: X.shape[1:] for layer, X in layers.items()},
            provenance=store_rows.made(layers=pools),
            labels={f"{i:05d}.jpg": (name,) for i, name in named.items()},
        ) as writer:
            for row in writer.pending():
                i = int(writer.entry_path(row)[:5])
                if i in failed:
                    writer.fail(row, "truncated")
                else:
                    writer.write([row], {layer: X[i : i + 1] for layer, X in layers.items()})
    return path


def clusters(count: int, spread: float, d: int = 8, seed: int = 0) -> Floats:
    """Draw rows around three far directions, row i around the (i % 3)-th."""
    rng = np.random.default_rng(seed)
    centres = np.eye(3, d)
    rows = centres[np.arange(count) % 3] + spread * rng.standard_normal((count, d))
    return np.asarray(rows, np.float32)


def slow_accuracy(
    X: npt.NDArray[Any], y: Sequence[int], Q: npt.NDArray[Any], true: Sequence[int], k: int
) -> float:
    """Vote as the definition says, one row and one pair at a time."""
    right = 0
    for query, wanted in zip(np.float64(Q), true, strict=True):
        pairs = []
        for row, vector in enumerate(np.float64(X)):
            lengths = np.sqrt((vector * vector).sum()) * np.sqrt((query * query).sum())
            cosine = (vector * query).sum() / lengths if lengths else 0
            pairs.append((-round(2**30 * cosine), row))
        voters = sorted(pairs)[:k]
        sums = dict.fromkeys(sorted(set(y)), 0)
        voices = dict.fromkeys(sums, 0)
        for negative, row in voters:
            voices[y[row]] += 1
            sums[y[row]] -= negative
        right += wanted == min(sums, key=lambda c: (-voices[c], -sums[c], c))
    return right / len(true)


@pytest.mark.parametrize(
    ("n", "m", "d", "k"), [(200, 90, 5, 1), (1500, 1100, 3, 7), (30, 9, 40, 5)]
)
def test_neighbours_vote_as_scikit_learn_s_do(n, m, d, k):
    rng = np.random.default_rng(n)
    X, Q = rng.standard_normal((n, d)).astype(np.float32), rng.standard_normal((m, d))
    y = (X[:, 0] > 0).astype(int)  # two classes and odd k: no vote ends in a tie
    true = (Q[:, 0] > 0).astype(int)
    expected = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(X, y).score(Q, true)
    assert 0.5 < expected < 1
    assert knn_accuracy(X, y, Q, true, k=k) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 12), st.integers(1, 40))
def test_votes_follow_the_definition_with_ties_of_every_kind(seed, n, k, m):
    rng = np.random.default_rng(seed)
    X, Q = rng.integers(-1, 2, (n, 3)), rng.integers(-1, 2, (m, 3))  # equal rows, zeros, ties
    y, true = rng.integers(0, 3, n).tolist(), rng.integers(0, 3, m).tolist()
    assert knn_accuracy(X, y, Q, true, k=k) == slow_accuracy(X, y, Q, true, k)


def test_small_blocks_give_the_same_answer(monkeypatch):
    rng = np.random.default_rng(3)
    X, Q = rng.integers(-2, 3, (83, 6)), rng.integers(-2, 3, (41, 6))
    y, true = rng.integers(0, 4, 83), rng.integers(0, 4, 41)
    whole = [knn_accuracy(X, y, Q, true, k=k) for k in (1, 5, 60)]
    monkeypatch.setattr(nearest, "_BLOCK", 7 * 6)
    assert [knn_accuracy(X, y, Q, true, k=k) for k in (1, 5, 60)] == whole


def test_a_tied_vote_goes_to_the_more_similar_class_and_then_to_the_lower_one():
    query = [[1.0, 0.0]]
    near, far = [1.0, 0.1], [1.0, 1.0]
    assert knn_accuracy([far, near], ["a", "b"], query, ["b"], k=2) == 1
    assert knn_accuracy([near, near], ["b", "a"], query, ["a"], k=2) == 1
    # One near voice against two far ones: the majority wins, however far.
    assert knn_accuracy([near, far, far], ["a", "b", "b"], query, ["b"], k=3) == 1


def test_of_equally_near_rows_the_first_ones_vote():
    X = np.ones((5000, 2), np.float32)
    y = np.r_[np.zeros(3), np.ones(4997)]
    assert knn_accuracy(X, y, X[:7], np.zeros(7), k=5) == 1
    assert knn_accuracy(X, y, X[:7], np.ones(7), k=7) == 1


def test_the_cosine_does_not_see_lengths_and_the_inner_product_does():
    X, y = [[10.0, 9.0], [1.0, 0.0]], [0, 1]
    assert knn_accuracy(X, y, [[1.0, 0.0]], [1], k=1) == 1
    assert knn_accuracy(X, y, [[1.0, 0.0]], [0], k=1, metric="ip") == 1
    assert knn_accuracy(np.array(X) * 1e200, y, [[1e-200, 0.0]], [1], k=1) == 1


def test_all_rows_vote_where_there_are_fewer_than_k():
    assert knn_accuracy([[1.0], [1.0], [-1.0]], [1, 1, 0], [[-1.0]], [1], k=50) == 1


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"k": 0}, ProbeError, "0 neighbours; give at least 1"),
        ({"X_test": np.ones((0, 2)), "y_test": []}, ProbeError, "rows to test on"),
        ({"X_train": np.ones((0, 2)), "y_train": []}, ProbeError, "rows to learn from"),
        ({"X_test": np.ones((1, 3))}, ValueError, "do not fit"),
        ({"y_train": [1]}, ValueError, "do not fit"),
        ({"X_test": [[1.0, np.nan]]}, ValueError, "not finite"),
        ({"X_train": [[1.0, np.inf], [0.0, 1.0]]}, ValueError, "not finite"),
        ({"X_train": [[1.7e308] * 2, [0.0, 1.0]]}, ValueError, "too large.*row 0"),
    ],
)
def test_what_cannot_be_voted_on_is_refused_with_a_reason(changes, error, message):
    given_: dict[str, Any] = {
        **{"X_train": np.eye(2), "y_train": [0, 1], "X_test": np.ones((1, 2)), "y_test": [1]},
        **changes,
    }
    with pytest.raises(error, match=message):
        knn_accuracy(**given_)


@pytest.fixture
def layers() -> dict[str, Floats]:
    return {
        "conv1_1": clusters(60, 0.9),
        "pool5": clusters(60, 0.5, d=12, seed=1).reshape(60, 3, 2, 2),
        "relu7": clusters(60, 0.1, seed=2),
    }


def test_a_sweep_scores_every_layer_as_the_probe_does(tmp_path, layers):
    with FeatureStore(make_store(tmp_path / "s.h5", layers)) as store:
        scores = sweep(store, seed=3)
        assert [score.layer for score in scores] == ["conv1_1", "pool5", "relu7"]
        assert [score.dimension for score in scores] == [8, 12, 8]
        for score in scores:
            alone = evaluate(store, score.layer, seed=3)
            assert score.accuracy == alone.accuracy
            assert score.mean_class_recall == pytest.approx(alone.mean_class_recall)
            assert (score.C, score.n_train, score.n_test) == (alone.C, alone.n_train, alone.n_test)
            assert score.seconds > 0
    assert scores[0].accuracy < scores[2].accuracy == 1
    assert scores[0].knn_accuracy < scores[2].knn_accuracy == 1


def test_all_layers_and_both_classifiers_see_the_same_split(tmp_path):
    """Images at right angles to one another: answers follow from the split alone."""
    X = np.eye(60, dtype=np.float32)
    same = {"conv1_1": X, "relu6": X.copy(), "relu7": X[:, ::-1].copy()}
    with FeatureStore(make_store(tmp_path / "s.h5", same)) as store:
        result = evaluate(store, "relu7", seed=5, train_per_class=7)
        test = sorted(int(one.path[:5]) for one in result.predictions)
        assert len(test) == 60 - 21
        train = np.setdiff1d(np.arange(60), test)
        y = np.arange(60) % 3
        expected = knn_accuracy(X[train], y[train], X[test], y[test], k=1)
        scores = sweep(store, seed=5, train_per_class=7, k=1)
        assert {score.knn_accuracy for score in scores} == {expected}
        assert {score.accuracy for score in scores} == {result.accuracy}
        assert {(score.n_train, score.n_test) for score in scores} == {(21, 39)}


def test_layers_are_chosen_by_name_or_alias_and_come_in_the_order_they_run(tmp_path, layers):
    with FeatureStore(make_store(tmp_path / "s.h5", layers)) as store:
        for asked in (["relu7", "conv1", "conv1_1"], "relu7, features.0"):
            assert [score.layer for score in sweep(store, asked)] == ["conv1_1", "relu7"]
        with pytest.raises(LayerError, match="no layer 'fc6'"):
            sweep(store, ["fc6"])
        with pytest.raises(LayerError, match=r"No layer was requested.*conv1_1, pool5, relu7"):
            sweep(store, [])


def test_a_layer_that_is_not_finite_is_left_out_with_a_warning(tmp_path, layers, caplog):
    with h5py.File(make_store(tmp_path / "s.h5", layers), "r+") as file:
        file["features/pool5"][4, 0, 1, 1] = np.inf
    with FeatureStore(tmp_path / "s.h5") as store:
        with caplog.at_level(logging.WARNING, "vggfeat"):
            assert [score.layer for score in sweep(store)] == ["conv1_1", "relu7"]
        assert "pool5 is left out" in caplog.text
        assert "'00004.jpg'" in caplog.text
        with pytest.raises(ProbeError, match=r"No layer of .* has finite features: pool5"):
            sweep(store, ["pool5"])


@pytest.mark.parametrize("value", [0.0, 2.5])
def test_a_constant_layer_is_scored_as_the_guess_it_is_with_a_warning(tmp_path, caplog, value):
    constant = np.full((60, 5), value, np.float32)
    made = make_store(tmp_path / "s.h5", {"relu6": constant, "relu7": clusters(60, 0.1)})
    with FeatureStore(made) as store, caplog.at_level(logging.WARNING, "vggfeat"):
        dead, alive = sweep(store)
    assert "relu6" in caplog.text
    assert "the same for all training images" in caplog.text
    assert dead.accuracy == dead.mean_class_recall == dead.knn_accuracy == pytest.approx(1 / 3)
    assert alive.accuracy == 1


def test_a_layer_larger_than_memory_is_refused_before_the_work(tmp_path, layers, monkeypatch):
    needed = 12 * (12 * 45 + 4 * 15)  # of pool5
    with FeatureStore(make_store(tmp_path / "s.h5", layers)) as store:
        monkeypatch.setattr(requested, "available_memory", lambda: needed)
        assert len(sweep(store)) == 3
        monkeypatch.setattr(requested, "available_memory", lambda: needed - 1)
        seen: list[str] = []
        with pytest.raises(ProbeError, match=r"pool5 .*60 images of 3 x 2 x 2.*--layers pool5:avg"):
            sweep(store, progress=lambda stage, *_: seen.append(stage))
        assert not seen
        assert len(sweep(store, ["conv1_1", "relu7"])) == 2


def test_memory_is_what_the_system_says(tmp_path, monkeypatch):
    (tmp_path / "free").write_text("MemTotal:  9000 kB\nMemAvailable:   3000 kB\n")
    (tmp_path / "limit").write_text("2048000\n")
    monkeypatch.setattr(memory, "_FREE", tmp_path / "free")
    monkeypatch.setattr(memory, "_LIMIT", tmp_path / "limit")
    assert memory.available_memory() == 2048000
    (tmp_path / "limit").write_text("max\n")
    assert memory.available_memory() == 3000 * 1024
    (tmp_path / "free").unlink()
    known = memory.available_memory()
    assert known is None or known > 1 << 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "0 neighbours"),
        ({"test_size": 1.0}, "test share is 1.0"),
        ({"train_per_class": 0}, "0 training images a class"),
        ({"classifier": "forest"}, "Unknown classifier 'forest'"),
    ],
)
def test_parameters_out_of_range_are_refused(tmp_path, layers, options, message):
    store = FeatureStore(make_store(tmp_path / "s.h5", layers))
    with store, pytest.raises(ProbeError, match=message):
        sweep(store, **options)


def test_stores_of_the_same_images_are_compared_on_the_same_split_in_whatever_order(tmp_path):
    X = {"relu7": clusters(60, 0.8)}
    later = range(40, 60), range(60)  # rows follow the order in which images came
    paths = make_store(tmp_path / "a.h5", X), make_store(tmp_path / "b.h5", X, runs=later)
    with FeatureStore(paths[0]) as first, FeatureStore(paths[1]) as second:
        assert first.paths.tolist() != second.paths.tolist()
        compared = compare([first, second])
        alone = sweep(second)
    (a,), (b,) = compared.scores
    assert replace(a, seconds=0) == replace(b, seconds=0)
    assert replace(b, seconds=0) != replace(alone[0], seconds=0), "its own order, another split"
    assert compared.classes == CLASSES
    assert compared.chance == compared.majority == pytest.approx(1 / 3)
    assert (compared.n_train, compared.n_test) == (45, 15)


def test_layers_are_told_apart_only_where_more_than_chance_differs(tmp_path):
    layers = {
        "conv1_1": clusters(150, 9, seed=1),
        "relu6": clusters(150, 0.25, seed=2),
        "relu7": clusters(150, 0.3, seed=3),
    }
    worse = layers | {"relu7": clusters(150, 9, seed=4)}
    paths = make_store(tmp_path / "a.h5", layers), make_store(tmp_path / "b.h5", worse)
    with FeatureStore(paths[0]) as first, FeatureStore(paths[1]) as second:
        compared = compare([first, second])
        answers = {
            layer: [one.predicted for one in evaluate(first, layer).predictions] for layer in layers
        }
        true = [one.true for one in evaluate(first, "relu7").predictions]
    pairs = {(pair.classifier, pair.layer): pair for pair in compared.from_best[0]}
    best = max(compared.scores[0], key=lambda score: score.accuracy).layer
    assert {layer for classifier, layer in pairs if classifier == "probe"} == layers.keys() - {best}
    assert pairs["probe", "conv1_1"].beyond_chance
    other = next(pair for (classifier, layer), pair in pairs.items() if layer != "conv1_1")
    assert not other.beyond_chance
    for pair in compared.from_best[0]:
        if pair.classifier == "probe":
            exact = compare_answers(true, answers[pair.layer], answers[pair.other])
            assert (pair.p, pair.difference) == (exact.p, exact.difference)
            assert (pair.only_layer, pair.only_other) == (exact.only_first, exact.only_second)
            assert pair.adjusted >= pair.p
    (between,) = compared.from_first
    told = {(pair.classifier, pair.layer): pair for pair in between}
    assert len(told) == 6
    assert told["probe", "relu6"].p == told["kNN", "relu6"].p == 1
    assert told["probe", "relu7"].beyond_chance
    assert told["probe", "relu7"].difference > 0.3


def test_a_probe_that_does_not_settle_says_in_which_layer(tmp_path, caplog, monkeypatch):
    module = "vggfeat.evaluation.layers.sweep"
    monkeypatch.setattr(sys.modules[module], "LinearProbe", partial(LinearProbe, max_iter=1))
    store = FeatureStore(make_store(tmp_path / "s.h5", {"relu7": clusters(60, 2.0)}))
    with store, caplog.at_level(logging.WARNING, "vggfeat"):
        sweep(store)
    (message,) = caplog.messages
    assert message.startswith(f"relu7 of {tmp_path / 's.h5'}: the svm did not settle")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"failed": [7]}, r"1 only in the first \(as '00007.jpg'\)"),
        ({"labels": {i: CLASSES[i % 2] for i in range(60)}}, r"of other classes \(as '00002.jpg'"),
    ],
)
def test_stores_of_differing_images_are_refused(tmp_path, layers, other, message):
    paths = make_store(tmp_path / "a.h5", layers), make_store(tmp_path / "b.h5", layers, **other)
    with FeatureStore(paths[0]) as first, FeatureStore(paths[1]) as second:
        with pytest.raises(ProbeError, match=message):
            compare([first, second])
        with pytest.raises(ProbeError, match=r"'?00002|only in the second"):
            compare([second, first])
    with pytest.raises(ProbeError, match="No store was given"):
        compare([])


def test_layers_of_several_networks_share_one_order():
    assert ordered_layers([["a", "b", "d"], ["b", "c", "d", "e"]]) == ["a", "b", "c", "d", "e"]
    assert ordered_layers([["b"], ["a", "b"], []]) == ["a", "b"]
    assert ordered_layers([]) == []


def scores(layers: Sequence[str], base: float = 0.5) -> list[LayerScore]:
    values = [min(base + 0.02 * i, 1) for i in range(len(layers))]
    return [
        LayerScore(layer, 64, value, value, value / 2, 30, 10, 1.0, 0.1)
        for layer, value in zip(layers, values, strict=True)
    ]


@pytest.mark.parametrize("dark", [False, True])
def test_the_picture_is_a_png_with_a_place_for_every_layer(dark):
    wide, narrow = scores(store_rows_layers()), scores(["relu7"])
    sizes = []
    for series in ({"all": wide, "$one_": narrow, "no": []}, {"x": narrow}):
        with Image.open(io.BytesIO(sweep_figure(series, 0.1, dark=dark))) as picture:
            picture.load()
            assert picture.format == "PNG"
            corner = picture.convert("L").getpixel((2, 2))
            assert (corner < 60) == dark
            sizes.append(picture.size)
    assert sizes[0][0] > sizes[1][0]


def store_rows_layers() -> list[str]:
    from vggfeat.layers import architecture

    return list(architecture("vgg16").names)


def test_a_higher_score_is_drawn_higher():
    def top(accuracy: float) -> int:
        score = replace(scores(["relu7"])[0], accuracy=accuracy, knn_accuracy=0)
        with Image.open(io.BytesIO(sweep_figure({"x": [score]}, 0.5))) as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        blue = (np.abs(pixels - (0x2B, 0x6D, 0x8C)).sum(axis=2) < 12)[200:]
        return int(np.flatnonzero(blue.any(axis=1))[0])

    assert top(0.9) < top(0.2)


def test_layers_that_are_close_are_told_apart_in_the_picture():
    series = {"x": [replace(score, knn_accuracy=score.accuracy) for score in close_scores()]}
    with Image.open(io.BytesIO(sweep_figure(series, 0.01))) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    blue = (np.abs(pixels - (0x2B, 0x6D, 0x8C)).sum(axis=2) < 12)[250:]
    rows = np.flatnonzero(blue.any(axis=1))
    assert rows[-1] - rows[0] > pixels.shape[0] / 4, "three points fill the height"


def close_scores() -> list[LayerScore]:
    first = scores(["relu5_3", "pool5"])
    return [replace(score, accuracy=0.9 + 0.03 * i) for i, score in enumerate(first)]


@given(
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=9),
    chance=st.floats(0.0005, 1),
)
def test_an_axis_of_scores_holds_them_all_and_has_few_marks(shares, chance):
    low, high, step = span(shares, chance)
    assert 0 <= low < high <= 100
    assert low - 1e-9 <= 100 * min(shares)
    assert 100 * max(shares) <= high + 1e-9
    assert low % step == 0
    assert len(range(low, high + 1, step)) <= 11


def test_an_axis_of_scores_reaches_down_to_guessing_where_that_is_near():
    assert span([0.7, 0.9], 0.6) == (55, 95, 5)
    assert span([0.91, 0.94], 0.01) == (90, 95, 1)
    assert span([0.1, 0.97], 0.01) == (0, 100, 20)
    assert span([1.0], 0.5) == (99, 100, 1)


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="one score or more"):
        sweep_figure({"x": []}, 0.1)


def test_a_comparison_knows_the_chance_of_guessing():
    four = Comparison(classes=tuple("abcd"), n_train=8, n_test=4, majority=0.5, scores=())
    assert four.chance == 0.25
