"""Layers scored where images have several labels, and where classes are of unequal size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import cli
from PIL import Image
from sklearn.metrics import average_precision_score
from test_divisions import made_store
from test_evaluation import clusters, make_store
from test_probe_multilabel import CLASSES, scenes, several_store

from vggfeat.errors import ProbeError
from vggfeat.evaluation import (
    LayerPrecision,
    RankingsVersus,
    compare,
    knn_answers,
    knn_scores,
    low_shot,
    score_neighbours,
    sweep,
)
from vggfeat.evaluation.layers.drawing import DrawOfSeveral
from vggfeat.evaluation.layers.few import folds_of
from vggfeat.labels import as_floats
from vggfeat.metrics import SampledPrecision
from vggfeat.norms import unit_length
from vggfeat.probe import LinearProbe, evaluate
from vggfeat.probe.division import Division, divided
from vggfeat.store import FeatureStore


@pytest.fixture(scope="module")
def store_path(tmp_path_factory) -> Path:
    return several_store(tmp_path_factory.mktemp("several") / "s.h5", *scenes())


def shares_by_hand(X, Y, X_test, k, temperature=None):
    """Score by nearest neighbours, image by image and class by class."""
    unit, unit_test = (unit_length(M.astype(float)) for M in (X, X_test))
    scores = np.empty((len(X_test), Y.shape[1]))
    for i, cosines in enumerate(unit_test @ unit.T):
        near = np.argsort(-cosines, kind="stable")[:k]
        voice = np.ones(k) if temperature is None else np.exp(cosines[near] / temperature)
        for c in range(Y.shape[1]):
            known = Y[near, c] >= 0
            if known.any():
                scores[i, c] = voice[known & (Y[near, c] == 1)].sum() / voice[known].sum()
            else:
                scores[i, c] = np.mean(Y[Y[:, c] >= 0, c])
    return scores


def precision_by_hand(Y, scores) -> float:
    """Return scikit-learn's mean average precision, entries of -1 left out."""
    columns = ((Y[:, c] >= 0, c) for c in range(Y.shape[1]))
    each = [average_precision_score(Y[known, c], scores[known, c]) for known, c in columns]
    return float(np.mean(each))


def parts(path: Path, seed: int):
    """Return features, labels, training and test rows as the probe divides them."""
    with FeatureStore(path) as store:
        data, division = divided(store, "relu7", seed=seed, multi_label=True)
        X = store.matrix("relu7", data.rows)[1]
    return X, data.y, division.train, division.test


def test_a_sweep_of_several_labels_has_the_probe_s_precision_and_that_of_neighbours(store_path):
    with FeatureStore(store_path) as store:
        scores = sweep(store, k=5, seed=2, ap="step")
        probes = {layer: evaluate(store, layer, seed=2, ap="step") for layer in store.layers}
    assert [score.layer for score in scores] == ["pool5", "relu7"]
    for score in scores:
        assert isinstance(score, LayerPrecision)
        probe = probes[score.layer]
        assert score.mean_average_precision == pytest.approx(probe.mean_average_precision)
        assert pytest.approx(probe.C) == score.C
        assert (score.n_train, score.n_test) == (probe.n_train, probe.n_test)
    X, y, train, test = parts(store_path, 2)
    by_hand = shares_by_hand(X[train], y[train], X[test], 5)
    expected = precision_by_hand(y[test], by_hand)
    assert scores[1].knn_mean_average_precision == pytest.approx(expected)
    assert scores[1].knn_mean_average_precision != scores[0].knn_mean_average_precision


def test_differences_between_layers_are_the_paired_bootstrap_s(store_path):
    with FeatureStore(store_path) as store:
        compared = compare([store], k=5, seed=2, ap="11-point")
        first, second = (evaluate(store, name, seed=2, ap="11-point") for name in store.layers)
    pairs = {pair.classifier: pair for pair in compared.from_best[0]}
    assert set(pairs) == {"probe", "kNN"}
    probe = pairs["probe"]
    assert isinstance(probe, RankingsVersus)
    results = {first.layer: first, second.layer: second}
    expected = results[probe.layer].against(results[probe.other])
    for name in ("difference", "low", "high", "p"):
        assert getattr(probe, name) == pytest.approx(getattr(expected, name)), name
    assert probe.adjusted == probe.p, "one pair alone"
    assert compared.chance == pytest.approx(first.chance)
    assert compared.majority is None
    told = compared.to_json()
    assert (told["ap"], told["multi_label"], told["majority"]) == ("11-point", True, None)
    assert set(told["stores"][0]["from_best"][0]) == {
        "judge", "layer", "other", "difference", "low", "high", "p", "adjusted",
    }  # fmt: skip


def test_neighbours_score_a_class_by_the_voices_that_show_it(store_path):
    X, y, train, test = parts(store_path, 0)
    for temperature in (None, 0.1):
        found = knn_scores(
            X[train], as_floats(y[train]), X[test], k=[1, 7], temperature=temperature
        )
        for at, k in enumerate((1, 7)):
            expected = shares_by_hand(X[train], y[train], X[test], k, temperature)
            np.testing.assert_allclose(found[at], expected, atol=1e-7)  # cosines in steps of 1e-9
    with FeatureStore(store_path) as store:
        scored = score_neighbours([store], ["relu7"], k=[7], leave_one_out=True, ap="step")
    [[score]] = scored.scores
    alone = [
        shares_by_hand(np.delete(X, i, 0), np.delete(y, i, 0), X[i : i + 1], 7)[0]
        for i in range(len(X))
    ]
    share = score.mean_average_precision
    assert share.value == pytest.approx(precision_by_hand(y, np.array(alone)))
    assert share.low < share.value < share.high
    assert (share.n, scored.n_train) == (len(X), len(X) - 1)


def test_rankings_of_copies_in_groups_are_as_sure_as_those_of_single_images():
    rng = np.random.default_rng(1)
    y, scores = rng.integers(0, 2, (40, 3)), rng.normal(size=(40, 3))
    rows = np.repeat(np.arange(40), 4)
    single = SampledPrecision.of(y, scores, samples=300).interval()
    grouped = SampledPrecision.of(y[rows], scores[rows], groups=rows, samples=300).interval()
    loose = SampledPrecision.of(y[rows], scores[rows], samples=300).interval()
    assert (grouped.value, grouped.low, grouped.high) == pytest.approx(
        (single.value, single.low, single.high)
    )
    assert grouped.high - grouped.low > 1.5 * (loose.high - loose.low)


def test_an_interval_of_average_precision_holds_the_score_that_it_is_of():
    rng = np.random.default_rng(0)
    y = (rng.random((600, 40)) < 0.02).astype(float)
    sampled = SampledPrecision.of(y, rng.normal(size=y.shape) + y, samples=200)
    share = sampled.interval()
    assert np.mean(sampled.samples > share.value) > 0.7, "samples hold images several times"
    assert share.value - share.low == pytest.approx(share.high - share.value)
    assert share.high - share.value == pytest.approx(1.959964 * np.std(sampled.samples))


def test_scores_on_different_samples_are_not_compared():
    y, scores = np.eye(6)[:, :2], np.random.default_rng(0).normal(size=(6, 2))
    with pytest.raises(ProbeError, match="different samples"):
        SampledPrecision.of(y, scores).against(SampledPrecision.of(y, scores, seed=1))


def test_splits_and_groups_of_a_store_hold_for_several_labels_too(tmp_path):
    rng = np.random.default_rng(3)
    classes = [tuple(n for n in "abc" if rng.random() < 0.45) for _ in range(120)]
    splits = ["train"] * 60 + ["val"] * 20 + ["test"] * 38 + ["", "other"]
    groups = [f"g{row // 2}" for row in range(120)]
    path = made_store(tmp_path / "s.h5", classes, splits, groups)
    with FeatureStore(path) as store:
        [[score]] = compare([store], k=4).scores
        scored = score_neighbours([store], k=[4])
        few = low_shot([store], shots=[2], classifiers=["mean"], repeats=2)
        probe = evaluate(store, "relu7")
        again = low_shot([store], shots=[2], classifiers=["mean"], repeats=2)
        X = store.matrix("relu7")[1]
    assert score.mean_average_precision == pytest.approx(probe.measures["mean_average_precision"])
    assert pytest.approx(probe.C) == score.C
    assert (score.n_train, score.n_test, few.n_test, scored.n_test) == (80, 38, 38, 38)
    y = np.array([[name in own for name in "abc"] for own in classes], int)
    votes = shares_by_hand(X[:80], y[:80], X[80:118], 4)
    share = scored.scores[0][0].mean_average_precision
    sampled = SampledPrecision.of(y[80:118], votes, groups=groups[80:118])
    assert share == sampled.interval()
    assert again == few
    for shown in (scored, few):
        assert shown.to_json()["division"]["splits"] == ["train", "val", "test"]
    with FeatureStore(path) as store, pytest.raises(ProbeError, match="would let others of its"):
        score_neighbours([store], leave_one_out=True)


@pytest.mark.parametrize("seed", range(4))
def test_every_class_learns_from_as_many_images_that_show_it(seed):
    _, y = scenes(seed=seed)
    pool = np.arange(0, 160, 2)
    draw = DrawOfSeveral.of(y, 5, (seed, 1), Division(pool, pool + 1, np.arange(0), None))
    before: set[int] = set()
    for shots in (1, 2, 5):
        rows, target = draw.train(shots), draw.target(y, shots)
        assert before < set(rows.tolist()) <= set(pool.tolist())
        before = set(rows.tolist())
        assert (target == 1).sum(axis=0).tolist() == [shots] * 4
        assert (target == 0).sum(axis=0).min() >= shots
        assert (target[y[rows] == 0] == 0).all()
        assert np.isnan(target[y[rows] == -1]).all()
        further = (y[rows] == 1) & (target != 1)
        assert np.isnan(target[further]).all(), "more images of a class are left out of it"
    assert len(before) < 5 * 4 * 2
    folds = folds_of(draw.target(y, 5) == 1, 5)
    shown = [(draw.target(y, 5)[test] == 1).sum(axis=0) for _, test in folds]
    assert np.sum(shown, axis=0).tolist() == [5] * 4
    assert np.mean(np.array(shown) == 1) > 0.7, "nearly one of each class in each fold"


def test_low_shot_scores_of_several_labels_are_those_of_the_drawn_images(store_path):
    names = ("svm", "mean", "nearest")
    options = {"shots": [3, 1], "classifiers": names, "repeats": 2, "seed": 4, "ap": "step"}
    with FeatureStore(store_path) as store:
        result = low_shot([store], ["relu7"], **options)
        balanced = low_shot([store], ["relu7"], class_weight="balanced", **options)
    X, y, train, test = parts(store_path, 4)
    X = unit_length(X)

    draw = DrawOfSeveral.of(y, 3, (4, 1), Division(train, test, np.arange(0), None))
    rows, target = draw.train(3), draw.target(y, 3)
    cosines = X[test].astype(float) @ X[rows].T.astype(float)
    scores = {"nearest": np.empty((len(test), 4)), "mean": np.empty((len(test), 4))}
    for k in range(4):
        shown, absent = target[:, k] == 1, target[:, k] == 0
        scores["nearest"][:, k] = cosines[:, shown].max(axis=1) - cosines[:, absent].max(axis=1)
        far = [
            np.square(X[test] - X[rows][of].astype(float).mean(axis=0)).sum(axis=1)
            for of in (absent, shown)
        ]
        scores["mean"][:, k] = far[0] - far[1]
    probe = LinearProbe(validation=folds_of(target == 1, 3), random_state=4)
    scores["svm"] = probe.fit(X[rows], target).class_scores(X[test])
    found = {(one.classifier, one.shots): one.precisions[1] for one in result.scores[0]}
    for name, expected in scores.items():
        by_hand = precision_by_hand(y[test], expected)
        assert found[name, 3] == pytest.approx(by_hand), name
    weighed = LinearProbe(
        validation=folds_of(target == 1, 3), class_weight="balanced", random_state=4
    ).fit(X[rows], target)
    even = {(one.classifier, one.shots): one.precisions[1] for one in balanced.scores[0]}
    by_hand = precision_by_hand(y[test], weighed.class_scores(X[test]))
    assert even["svm", 3] == pytest.approx(by_hand)
    assert even["mean", 3] == found["mean", 3]
    assert (result.n_test, result.shots) == (len(test), (1, 3))
    assert result.n_train[0] < result.n_train[1] <= 24
    assert result.division is not None


def test_stores_of_the_same_labels_are_compared_in_one_order_and_others_refused(tmp_path):
    X, y = scenes(80)
    one = several_store(tmp_path / "a.h5", X, y)
    turned = [3, 1, 0, 2]
    two = several_store(
        tmp_path / "b.h5", X, y[:, turned], classes=tuple(CLASSES[k] for k in turned)
    )
    changed = y.copy()
    row = int(np.flatnonzero(y[:, 2] == 0)[5])
    changed[row, 2] = 1
    three = several_store(tmp_path / "c.h5", X, changed)
    with FeatureStore(one) as first, FeatureStore(two) as second, FeatureStore(three) as third:
        compared = compare([first, second], ["relu7"], k=3)
        ours, theirs = (scores[0] for scores in compared.scores)
        assert ours.by("probe") == theirs.by("probe")
        assert ours.by("kNN") == theirs.by("kNN")
        with pytest.raises(ProbeError, match=rf"1 of other classes \(as '{row:04d}.jpg'.*dog"):
            compare([first, third])


# Classes of unequal size


def test_balanced_votes_count_by_the_size_of_classes():
    X = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [1.0, 0.25], [1.0, -0.3]])
    y = np.array(["common", "common", "common", "common", "rare"])
    query = np.array([[1.0, 0.0]])
    assert knn_answers(X, y, query, k=[5]).item() == "common"
    assert knn_answers(X, y, query, k=[4]).item() == "common"
    # Four of four voices against one of one: the nearer ones in the mean win.
    assert knn_answers(X, y, query, k=[5], class_weight="balanced").item() == "common"
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 5)), np.repeat([0, 1, 2], [40, 15, 5])
    X_test = rng.normal(size=(30, 5))
    for temperature in (None, 0.2):
        (named,) = knn_answers(
            X, y, X_test, k=[9], temperature=temperature, class_weight="balanced"
        )
        unit, unit_test = unit_length(X), unit_length(X_test)
        for i, cosines in enumerate(unit_test @ unit.T):
            near = np.argsort(-cosines)[:9]
            voice = np.ones(9) if temperature is None else np.exp(cosines[near] / temperature)
            votes = [voice[y[near] == k].sum() / np.sum(y == k) for k in range(3)]
            sums = [cosines[near][y[near] == k].sum() for k in range(3)]
            best = [k for k in range(3) if votes[k] == max(votes)]
            assert named[i] == max(best, key=lambda k: sums[k] / np.sum(y == k))
        assert (named == 2).sum() > (knn_answers(X, y, X_test, k=[9]) == 2).sum()


def test_a_balanced_sweep_has_the_balanced_probe_s_scores_and_votes(tmp_path):
    labels = {i: "cat" if i < 40 else "dog" if i < 52 else "owl" for i in range(60)}
    path = make_store(tmp_path / "s.h5", {"relu7": clusters(60, 2.0)}, labels)
    with FeatureStore(path) as store:
        compared = compare([store], class_weight="balanced", k=9)
        probe = evaluate(store, "relu7", class_weight="balanced")
        plain = evaluate(store, "relu7")
        votes = score_neighbours([store], k=[9], class_weight="balanced")
    [[score]] = compared.scores
    assert score.accuracy == probe.accuracy
    assert score.mean_class_recall == probe.mean_class_recall != plain.mean_class_recall
    assert score.knn_accuracy == votes.scores[0][0].accuracy.value
    assert compared.majority == votes.majority == probe.majority == pytest.approx(10 / 15)
    assert compared.to_json()["class_weight"] == votes.to_json()["class_weight"] == "balanced"


def test_weights_that_have_no_effect_are_refused(tmp_path, store_path):
    path = make_store(tmp_path / "s.h5", {"relu7": clusters(60, 1.0)})
    with FeatureStore(path) as store, pytest.raises(ProbeError, match="as many images to learn"):
        low_shot([store], class_weight="balanced")
    with FeatureStore(store_path) as store:
        with pytest.raises(ProbeError, match="ranking stays the same"):
            score_neighbours([store], class_weight="balanced")
        with pytest.raises(ProbeError, match=r"no effect on mean\. .*svm, logreg"):
            low_shot([store], classifiers=["mean"], class_weight="balanced")


# The commands


def test_the_commands_print_precisions_and_the_same_as_json(tmp_path, store_path):
    done = cli("sweep", store_path, "-k", "5", "--ap", "11-point", "--png", tmp_path / "s.png")
    assert done.returncode == 0, done.stderr
    told = json.loads(cli("sweep", store_path, "-k", "5", "--ap", "11-point", "--json").stdout)
    assert f"average precision: 11-point; scores that tell nothing: {told['chance']:.2%}" in (
        done.stdout
    )
    assert "(paired bootstrap, Holm over layers, p >= 0.05)" in done.stdout
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    assert lines["layer"][3:] == ["mAP", "kNN", "C", "seconds"]
    for score in told["stores"][0]["layers"]:
        printed = [value.rstrip("%*~") for value in lines[score["layer"]][3:5]]
        names = "mean_average_precision", "knn_mean_average_precision"
        assert printed == [f"{100 * score[name]:.2f}" for name in names]

    done = cli("knn", store_path, "-k", "1,5")
    assert done.returncode == 0, done.stderr
    told = json.loads(cli("knn", store_path, "-k", "1,5", "--json").stdout)
    share = max(
        (one["mean_average_precision"] for one in told["stores"][0]["layers"]),
        key=lambda one: one["value"],
    )
    low, value, high = (f"{100 * share[name]:.1f}" for name in ("low", "value", "high"))
    assert f"{value} [{low}, {high}]" in done.stdout
    assert cli("knn", store_path, "--class-weight", "balanced").returncode == 1

    options = "--shots", "1,2,60", "--repeats", "2", "--layers", "relu7", "--classifier", "mean"
    done = cli("lowshot", store_path, *options, "--png", tmp_path / "l.png")
    assert done.returncode == 0, done.stderr
    assert "60 shots, since the smallest class, 'bus', is shown by" in done.stderr
    told = json.loads(cli("lowshot", store_path, *options, "--json").stdout)
    mean = told["stores"][0]["scores"][1]["mean_average_precision"]["mean"]
    assert f" {100 * mean:.1f} ± " in done.stdout
    first, second = (f"{count:.0f}" for count in told["n_train"])
    assert f"images to learn from, of 119, by shots: {first} for 1, {second} for 2" in done.stdout
    assert "mean average precision in %" in done.stdout
    for name in ("s.png", "l.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.format == "PNG"


def test_the_commonest_class_stands_beside_repeated_accuracies(tmp_path):
    path = make_store(tmp_path / "s.h5", {"relu7": clusters(60, 1.0)})
    done = cli("probe", path, "--splits", "2")
    assert "always the commonest class: 33.33% of accuracy" in done.stdout
