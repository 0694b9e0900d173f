"""Few images a class: drawn fairly, tested on the same others, learnt from as documented."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess

import click
import commands
import numpy as np
import pytest
import store_rows
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import normalize
from test_evaluation import CLASSES, clusters, make_store

from vggfeat.cli import main
from vggfeat.errors import LayerError, ProbeError
from vggfeat.evaluation import LowShotScore, low_shot
from vggfeat.evaluation.layers import requested
from vggfeat.evaluation.layers.drawing import Draw
from vggfeat.probe import LinearProbe
from vggfeat.report import lowshot_figure
from vggfeat.report.score_axes import COLOURS
from vggfeat.store import FeatureStore


@given(st.lists(st.integers(4, 9), min_size=2, max_size=5), st.integers(0, 2**32))
def test_fewer_images_are_among_more_and_none_is_tested_on(sizes, seed):
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    draw = Draw.of(y, 3, seed)
    before: set[int] = set()
    for shots in (1, 2, 3):
        train = draw.train(shots)
        assert np.bincount(y[train]).tolist() == [shots] * len(sizes)
        assert train.tolist() == sorted(train)
        assert before < set(train.tolist())
        before = set(train.tolist())
        assert not before & set(draw.test.tolist())
    assert len(before) + len(draw.test) == len(y)


def test_every_image_of_a_class_is_drawn_as_often():
    y = np.repeat([0, 1], [4, 12])
    first = np.concatenate([Draw.of(y, 2, seed).train(1) for seed in range(1200)])
    counts = np.bincount(first, minlength=16)
    assert counts.sum() == 2400
    assert np.abs(counts[:4] - 300).max() < 75
    assert np.abs(counts[4:] - 100).max() < 50


@pytest.fixture
def layers():
    return {
        "pool5": clusters(60, 1.2, d=8, seed=1).reshape(60, 2, 2, 2),
        "relu7": clusters(60, 0.7),
    }


def test_scores_are_those_of_the_classifiers_on_the_drawn_images(tmp_path, layers):
    with FeatureStore(make_store(tmp_path / "s.h5", layers)) as store:
        classifiers = ("svm", "logreg", "mean", "nearest")
        result = low_shot(
            [store], ["relu7"], shots=[4, 1], classifiers=classifiers, repeats=2, seed=7
        )
    X, y = normalize(layers["relu7"]), np.arange(60) % 3
    draw = Draw.of(y, 4, (7, 1))  # the second repetition's
    found = {(score.classifier, score.shots): score for score in result.scores[0]}
    assert list(found) == [(classifier, shots) for classifier in classifiers for shots in (1, 4)]
    for (classifier, shots), score in found.items():
        train = draw.train(shots)
        model = {
            "svm": LinearProbe("svm", validation=4 if shots == 4 else 0.2, random_state=7),
            "logreg": LinearProbe("logreg", validation=4 if shots == 4 else 0.2, random_state=7),
            "mean": NearestCentroid(),
            "nearest": KNeighborsClassifier(1, metric="cosine"),
        }[classifier]
        if classifier == "mean" and shots == 1:  # scikit-learn's divides by no degree of freedom
            model = KNeighborsClassifier(1)
        named = model.fit(X[train], y[train]).predict(X[draw.test])
        assert score.recalls[1] == pytest.approx(balanced_accuracy_score(y[draw.test], named))
        assert score.accuracies[1] == pytest.approx(np.mean(named == y[draw.test]))
        assert score.mean_class_recall.mean == pytest.approx(np.mean(score.recalls))
        assert score.mean_class_recall.sd == pytest.approx(np.std(score.recalls, ddof=1))
    assert result.n_test == 60 - 3 * 4
    assert result.chance == 1 / 3


def test_more_images_help_and_more_repetitions_keep_the_first_ones(tmp_path, layers):
    with FeatureStore(make_store(tmp_path / "s.h5", layers)) as store:
        few = low_shot([store], ["relu7"], shots=[1, 8], classifiers=["mean"], repeats=4)
        many = low_shot([store], ["relu7"], shots=[1, 8], classifiers=["mean"], repeats=9)
        again = low_shot([store], ["relu7"], shots=[8, 1, 1], classifiers=["mean"], repeats=9)
        other = low_shot([store], ["relu7"], shots=[1, 8], classifiers=["mean"], repeats=9, seed=1)
    assert many == again
    assert many.scores != other.scores
    one, eight = many.scores[0]
    assert one.mean_class_recall.high < eight.mean_class_recall.low
    assert few.scores[0][0].recalls == one.recalls[:4]


def test_all_layers_and_stores_learn_from_the_same_images_in_whatever_order(tmp_path, layers):
    later = range(40, 60), range(60)
    same = {"relu6": layers["relu7"], "relu7": layers["relu7"]}
    paths = make_store(tmp_path / "a.h5", same), make_store(tmp_path / "b.h5", same, runs=later)
    with FeatureStore(paths[0]) as first, FeatureStore(paths[1]) as second:
        result = low_shot([first, second], shots=[2], classifiers=["nearest"], repeats=3)
    assert len({score.recalls for scores in result.scores for score in scores}) == 1
    assert [score.layer for score in result.scores[1]] == ["relu6", "relu7"]


def test_shots_that_the_smallest_class_cannot_give_are_left_out(tmp_path, layers):
    labels = {i: CLASSES[0 if i < 30 else 1 if i < 55 else 2] for i in range(60)}
    with FeatureStore(make_store(tmp_path / "s.h5", layers, labels)) as store:
        result = low_shot([store], ["relu7"], shots=[2, 4, 5, 8], classifiers=["mean"], repeats=2)
        assert (result.shots, result.too_many) == ((2, 4), (5, 8))
        assert result.smallest == ("owl", 5)
        assert result.n_test == 60 - 12
        with pytest.raises(
            ProbeError, match=r"'owl', has 5 images.*up to 4.*fewest requested are 8"
        ):
            low_shot([store], shots=[8])


def test_nothing_is_said_of_how_c_is_chosen_from_one_image_and_warnings_name_the_layer(
    tmp_path, layers, caplog
):
    from vggfeat.evaluation.layers.naming import naming

    with caplog.at_level(logging.INFO, "vggfeat"):
        with FeatureStore(make_store(tmp_path / "s.h5", layers)) as store:
            low_shot([store], ["relu7"], shots=[1], classifiers=["svm"], repeats=2)
        assert not caplog.records
        X, y = clusters(30, 2.0), np.arange(30) % 3
        with naming("relu7 of a.h5", quiet=True):
            LinearProbe("logreg", C=1e6, max_iter=1).fit(X, y)
        LinearProbe("logreg", C=1e6, max_iter=1).fit(X, y)
    named, plain = (record.getMessage() for record in caplog.records)
    assert named == f"relu7 of a.h5: {plain}"
    assert "did not settle" in plain


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"shots": []}, ProbeError, "from 1 on"),
        ({"shots": [0, 1]}, ProbeError, "from 1 on"),
        ({"classifiers": ["tree"]}, ProbeError, "known ones: svm, logreg, mean, nearest"),
        ({"classifiers": []}, ProbeError, "Classifiers are"),
        ({"repeats": 1}, ProbeError, "1 repetitions"),
        ({"layers": ["fc6"]}, LayerError, "no layer 'fc6'"),
    ],
)
def test_parameters_out_of_range_are_refused(tmp_path, layers, options, error, message):
    store = FeatureStore(make_store(tmp_path / "s.h5", layers))
    with store, pytest.raises(error, match=message):
        low_shot([store], **options)


def test_a_layer_larger_than_memory_is_refused_before_the_work(tmp_path, layers, monkeypatch):
    monkeypatch.setattr(requested, "available_memory", lambda: 100)
    store = FeatureStore(make_store(tmp_path / "s.h5", layers))
    with store, pytest.raises(ProbeError, match="does not fit into memory"):
        low_shot([store])


def curve(layer: str, level: float, classifier: str = "svm") -> list[LowShotScore]:
    values = [(level + 0.03 * i, level + 0.03 * i + 0.02) for i in range(3)]
    return [
        LowShotScore(layer, classifier, shots, pair, pair)  # type: ignore[arg-type]
        for shots, pair in zip((1, 4, 32), values, strict=True)
    ]


@pytest.mark.parametrize("dark", [False, True])
def test_the_picture_is_a_png_in_which_better_is_higher(dark):
    made = lowshot_figure({"$x_": curve("relu7", 0.8), "y": curve("relu7", 0.3)}, 0.1, dark=dark)
    with Image.open(io.BytesIO(made)) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    better, worse = COLOURS[dark][:2]

    def top(colour: str) -> int:
        line = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
        drawn = (np.abs(pixels - line).sum(axis=2) < 12)[150:]
        return int(np.flatnonzero(drawn.any(axis=1))[0])

    assert top(better) < top(worse)


def test_many_layers_are_thinned_to_the_best_and_none_is_refused():
    series = {"a": [one for i in range(9) for one in curve(f"relu{i}", i / 20)]}
    six = {"a": [one for i in range(3, 9) for one in curve(f"relu{i}", i / 20)]}
    with Image.open(io.BytesIO(lowshot_figure(series, 0.1))) as picture:
        many = picture.size
    with Image.open(io.BytesIO(lowshot_figure(six, 0.1))) as picture:
        assert picture.size == many, "the legend is as long"
    with pytest.raises(ValueError, match="one score or more"):
        lowshot_figure({"a": []}, 0.1)


def cli(*args: object) -> subprocess.CompletedProcess[str]:
    return commands.cli("lowshot", *args)


def test_the_command_prints_curves_draws_them_and_gives_the_same_as_json(tmp_path):
    one = store_rows.finished(tmp_path / "one.h5", 24)
    two = store_rows.finished(tmp_path / "two.h5", 24)
    picture = tmp_path / "x.png"
    options = "--shots", "4,1,8,99", "--classifier", "mean", "--repeats", "3"
    done = cli(one, two, *options, "--png", picture)
    assert done.returncode == 0, done.stderr
    assert "Left out: 8, 99 shots, since the smallest class, 'c0', has 8 images" in done.stderr
    assert "12 images to test, 3 classes; 3 repetitions, seed 0; guessing: 33.33%" in done.stdout
    told = json.loads(cli(one, *options, "--json").stdout)
    assert (told["shots"], told["left_out_shots"], told["n_test"]) == ([1, 4], [8, 99], 12)
    score = told["stores"][0]["scores"][-1]
    assert (score["layer"], score["shots"], score["classifier"]) == ("relu7", 4, "mean")
    assert len(score["recalls"]) == 3
    mean = score["mean_class_recall"]["mean"]
    assert re.search(rf"\(2\) relu7 +mean .* {100 * mean:.1f} ± [\d.]+\*?$", done.stdout, re.M)
    with Image.open(picture) as image:
        assert image.format == "PNG"


def test_what_cannot_be_drawn_is_refused_before_the_work(tmp_path):
    one = store_rows.finished(tmp_path / "one.h5", 12)
    done = cli(one, "--png", tmp_path / "nowhere" / "a.png")
    assert done.returncode == 1
    assert "does not exist" in done.stderr
    for wrong in (["--repeats", "1"], ["--shots", "x"], ["--classifier", "tree"], [str(one)]):
        with pytest.raises(click.UsageError):
            main.main(["lowshot", str(one), *wrong], standalone_mode=False)
