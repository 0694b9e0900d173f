"""Neighbours vote as their definitions say, over stores of any size, and the command shows it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import click
import commands
import h5py
import numpy as np
import pytest
import store_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from test_evaluation import clusters, make_store

from vggfeat.cli import main
from vggfeat.errors import LayerError, ProbeError
from vggfeat.evaluation import (
    compare,
    knn_answers,
    low_shot,
    score_neighbours,
)
from vggfeat.evaluation.layers import nearest
from vggfeat.probe import evaluate, reading
from vggfeat.store import FeatureStore


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_several_k_and_both_distances_answer_as_scikit_learn(metric):
    rng = np.random.default_rng(0)
    X, Q = rng.standard_normal((700, 6)), rng.standard_normal((90, 6))
    y = np.where(X[:, 0] + X[:, 1] > 0, "sea", "land")  # two classes, odd k: no tie
    named = knn_answers(X.astype(np.float32), y, Q, k=[5, 1, 31], metric=metric)
    for k, answers in zip([5, 1, 31], named, strict=True):
        theirs = KNeighborsClassifier(k, metric=metric, algorithm="brute").fit(
            X.astype(np.float32), y
        )
        assert answers.tolist() == theirs.predict(Q).tolist()


def test_a_far_offset_does_not_blur_euclidean_distances():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((300, 4))
    y = (X[:, 0] > 0).astype(int)
    near = knn_answers(X, y, X[:50] + 0.01, k=[3], metric="l2")
    far = knn_answers(X + 1e5, y, X[:50] + 0.01 + 1e5, k=[3], metric="l2")
    assert near.tolist() == far.tolist()


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_leave_one_out_names_each_row_by_all_others(metric):
    rng = np.random.default_rng(2)
    X = rng.standard_normal((120, 3))
    y = (X[:, 0] > 0).astype(int)
    (one, seven) = knn_answers(X, y, k=[1, 7], metric=metric)
    for row in range(120):
        others = np.delete(np.arange(120), row)
        for k, answers in ((1, one), (7, seven)):
            model = KNeighborsClassifier(k, metric=metric, algorithm="brute")
            assert answers[row] == model.fit(X[others], y[others]).predict(X[[row]])[0]


def test_a_row_never_votes_for_itself_however_many_are_like_it():
    X = np.ones((6, 2))
    y = [0, 1, 1, 1, 1, 1]
    assert knn_answers(X, y, k=[1]).tolist() == [[1, 0, 0, 0, 0, 0]]
    assert knn_answers(X, y, k=[99]).tolist() == [[1] * 6]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 45), st.floats(0.02, 3))
def test_weighted_votes_are_their_formula(seed, n, k, temperature):
    rng = np.random.default_rng(seed)
    X, Q = rng.standard_normal((n, 3)), rng.standard_normal((4, 3))
    y = rng.integers(0, 3, n)
    (named,) = knn_answers(X, y, Q, k=[k], temperature=temperature)
    unit, asked = (V / np.linalg.norm(V, axis=1, keepdims=True) for V in (X, Q))
    for query, answer in zip(asked, named, strict=True):
        cosines = unit @ query
        voters = np.argsort(-cosines)[:k]
        weights = np.exp((cosines[voters] - 1) / temperature)
        sums = [weights[y[voters] == c].sum() for c in range(3)]
        assert sums[answer] == pytest.approx(max(sums), rel=1e-6)


def test_a_low_temperature_is_the_nearest_row_and_a_high_one_the_majority():
    X, y = [[1.0, 0.0], [1.0, 0.5], [1.0, 0.6]], ["near", "far", "far"]
    query = [[1.0, 0.1]]
    assert knn_answers(X, y, query, k=[3], temperature=1e-9).tolist() == [["near"]]
    assert knn_answers(X, y, query, k=[3], temperature=1e9).tolist() == [["far"]]


@pytest.mark.parametrize("metric", nearest.METRICS)
def test_rows_in_a_file_and_in_small_blocks_give_the_same_answer(tmp_path, metric, monkeypatch):
    rng = np.random.default_rng(3)
    X, Q = rng.integers(-2, 3, (83, 6)), rng.integers(-2, 3, (41, 6))
    y = rng.integers(0, 4, 83)
    whole = [knn_answers(X, y, test, k=[1, 9], metric=metric).tolist() for test in (Q, None)]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["train"], file["test"] = X, Q
        monkeypatch.setattr(nearest, "_BLOCK", 7 * 6)
        for test, expected in zip((file["test"], None), whole, strict=True):
            assert knn_answers(file["train"], y, test, k=[1, 9], metric=metric).tolist() == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": []}, "0 neighbours"),
        ({"k": [3, 0]}, "0 neighbours"),
        ({"metric": "manhattan"}, "Unknown metric 'manhattan'. Known ones: cosine, l2"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": 0.1, "metric": "ip"}, "with the metric ip"),
        ({"X_train": np.ones((1, 2)), "y_train": [1]}, "rows to learn from"),
    ],
)
def test_parameters_out_of_range_are_refused(options, message):
    with pytest.raises(ProbeError, match=message):
        knn_answers(**{"X_train": np.eye(2), "y_train": [0, 1], **options})


@pytest.fixture
def store(tmp_path) -> Path:
    layers = {
        "pool5": clusters(60, 0.5, d=12, seed=1).reshape(60, 3, 2, 2),
        "relu7": clusters(60, 0.6, seed=2),
    }
    return make_store(tmp_path / "s.h5", layers, failed=[7])


def test_a_store_s_scores_are_those_of_its_rows_on_the_probe_s_split(store):
    with FeatureStore(store) as opened:
        found = score_neighbours([opened], k=[1, 5], seed=4)
        result = evaluate(opened, "relu7", seed=4)
        rows, X = opened.matrix("relu7")
        y = opened.labels[:][rows]
        paths = opened.paths[rows].tolist()
    assert [(s.layer, s.k, s.dimension) for s in found.scores[0]] == [
        ("pool5", 1, 12), ("pool5", 5, 12), ("relu7", 1, 8), ("relu7", 5, 8),
    ]  # fmt: skip
    test = np.isin(paths, [one.path for one in result.predictions])
    model = KNeighborsClassifier(1, metric="cosine").fit(X[~test], y[~test])
    named = model.predict(X[test])
    score = found.scores[0][2]
    assert score.accuracy.value == pytest.approx(np.mean(named == y[test]))
    assert score.mean_class_recall.value == pytest.approx(balanced_accuracy_score(y[test], named))
    assert score.accuracy.low < score.accuracy.value < score.accuracy.high
    assert (found.n_train, found.n_test) == (result.n_train, result.n_test)
    assert found.majority == result.majority


def test_more_neighbours_than_there_are_count_as_all_of_them(store):
    with FeatureStore(store) as opened:
        found = score_neighbours([opened], ["relu7"], k=[1, 58, 2000], leave_one_out=True)
    assert [score.k for score in found.scores[0]] == [1, 58], "58 others, whatever is requested"


def test_leave_one_out_takes_all_images_and_draws_nothing(store):
    with FeatureStore(store) as opened:
        found = score_neighbours([opened], ["relu7"], k=[1], leave_one_out=True, seed=1)
        other = score_neighbours([opened], ["relu7"], k=[1], leave_one_out=True, seed=2)
        rows, X = opened.matrix("relu7")
        y = opened.labels[:][rows]
    assert found.scores == other.scores
    assert (found.n_train, found.n_test) == (58, 59)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    similar = unit @ unit.T
    np.fill_diagonal(similar, -2)
    assert found.scores[0][0].accuracy.value == np.mean(y[similar.argmax(axis=1)] == y)


def test_a_layer_larger_than_memory_is_read_from_its_file_with_the_same_scores(
    tmp_path, store, monkeypatch
):
    later = range(40, 60), range(60)
    layers = {"pool5": clusters(60, 0.5, d=12, seed=1).reshape(60, 3, 2, 2)}
    shuffled = make_store(tmp_path / "b.h5", layers, runs=later, failed=[7])
    with FeatureStore(store) as first, FeatureStore(shuffled) as second:
        ours = score_neighbours([first, second], ["pool5"], k=[1, 5])
        told: list[tuple[str, float, float]] = []
        monkeypatch.setattr(reading, "available_memory", lambda: 1)
        monkeypatch.setattr(nearest, "_BLOCK", 12 * 8)
        theirs = score_neighbours(
            [first, second], ["pool5"], k=[1, 5], progress=lambda *a: told.append(a)
        )
    assert ours.scores == theirs.scores
    assert ours.scores[0] == ours.scores[1]
    assert sum(count for _, count, _ in told) == 2 * ours.n_test
    assert {total for _, _, total in told} == {2 * ours.n_test}


def test_a_damaged_layer_is_left_out_and_unknown_ones_are_refused(store, caplog):
    with h5py.File(store, "r+") as file:
        file["features/pool5"][3] = np.nan
    with FeatureStore(store) as opened:
        found = score_neighbours([opened], k=[1])
        assert [score.layer for score in found.scores[0]] == ["relu7"]
        assert "pool5 is left out" in caplog.text
        with pytest.raises(ProbeError, match="has finite features: pool5"):
            score_neighbours([opened], ["pool5"])
        with pytest.raises(LayerError, match="no layer 'fc8'"):
            score_neighbours([opened], ["fc8"])
        with pytest.raises(ProbeError, match="0 neighbours"):
            score_neighbours([opened], k=[0])


def test_a_store_in_which_every_image_shows_all_labels_is_refused(tmp_path):
    labels = {image.path: ("a", "b") for image in store_rows.images(9)}
    with store_rows.writer(tmp_path / "s.h5", 9, labels=labels) as writer:
        store_rows.fill(writer)
    for judge in (score_neighbours, low_shot, compare):
        store = FeatureStore(tmp_path / "s.h5")
        with store, pytest.raises(ProbeError, match="there is 0 of 2 among 9 done"):
            judge([store])


def cli(*args: object) -> subprocess.CompletedProcess[str]:
    return commands.cli("knn", *args)


def test_the_command_prints_a_line_a_layer_and_the_same_as_json(tmp_path):
    one = store_rows.finished(tmp_path / "one.h5", 24)
    two = store_rows.finished(tmp_path / "two.h5", 24)
    done = cli(one, two, "-k", "5,1", "--leave-one-out")
    assert done.returncode == 0, done.stderr
    assert "24 images, each named by the 23 others, 3 classes; cosine" in done.stdout
    header = next(line for line in done.stdout.splitlines() if line.startswith("layer"))
    assert header.split() == ["layer", "dimension", "k=1", "k=5", "best", "accuracy", "recall"]
    row = re.search(r"\(2\) relu7 +64 +([\d.]+)%", done.stdout)
    told = json.loads(cli(one, "-k", "5,1", "--leave-one-out", "--json").stdout)
    assert (told["k"], told["leave_one_out"], told["n_test"]) == ([1, 5], True, 24)
    assert "seed" not in told
    score = told["stores"][0]["layers"][2]
    assert (score["layer"], score["k"]) == ("relu7", 1)
    assert row is not None
    assert float(row[1]) == round(100 * score["accuracy"]["value"], 2)
    assert score["accuracy"]["low"] <= score["accuracy"]["value"] <= score["accuracy"]["high"]


def test_options_without_effect_and_senseless_numbers_are_wrong_usage(tmp_path):
    one = store_rows.finished(tmp_path / "one.h5", 12)
    for arguments, message in (
        ([one, "--leave-one-out", "--seed", "1"], "--seed has no effect with --leave-one-out"),
        ([one, "-k", "0"], "no list of whole numbers from 1 on"),
        ([one, one], "named twice"),
    ):
        with pytest.raises(click.UsageError, match=message):
            main.main(["knn", *map(str, arguments)], standalone_mode=False)
    done = cli(one, "--temperature", "1", "--metric", "l2")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
