"""Probabilities: calibrated on rows held out, judged on the test part, kept, and predicted with."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import cli
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import brier_score_loss, log_loss
from sklearn.svm import LinearSVC
from test_divisions import D, made_store, three_classes

from vggfeat import LinearProbe
from vggfeat.errors import ProbeError
from vggfeat.metrics import expected_calibration_error, reliability
from vggfeat.norms import unit_length
from vggfeat.predictions import predict
from vggfeat.probe import SavedProbe, evaluate, train
from vggfeat.probe.calibration import Calibration
from vggfeat.probe.source_score import labels_of_source
from vggfeat.report.reliability import describe_reliability, reliability_figure
from vggfeat.store import FeatureStore

OLD = Path(__file__).parent / "data" / "probe-v1.h5"


def noisy(count: int, classes: int = 3, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    y = np.arange(count) % classes
    return rng.normal(size=(count, 8)) + 1.5 * np.eye(8)[y], y


# What is measured


def test_the_calibration_error_is_that_of_guo_et_al() -> None:
    # four answers: 0.9 and 0.95 (one right), 0.55 (right), 0.45 (wrong), each in 2 of 10 bins
    P = np.array([[0.9, 0.1], [0.05, 0.95], [0.55, 0.45], [0.55, 0.45]])
    found = reliability([0, 0, 0, 1], P, bins=10)
    # (0.8, 0.9]: |0.9 - 1| x 1, (0.9, 1]: |0.95 - 0| x 1, (0.5, 0.6]: |0.55 - 0.5| x 2
    assert found.ece == pytest.approx((0.1 + 0.95 + 2 * 0.05) / 4)
    assert found.counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 1, 1]
    assert expected_calibration_error([0, 0, 0, 1], P, bins=1) == pytest.approx(
        abs(np.mean([0.9, 0.95, 0.55, 0.55]) - 0.5)
    )
    assert found.log_loss == pytest.approx(log_loss([0, 0, 0, 1], P))
    assert found.brier == pytest.approx(2 * brier_score_loss([0, 0, 0, 1], P[:, 1]))


def test_each_class_of_several_counts_with_its_own_probability() -> None:
    y = np.array([[1.0, 0.0], [np.nan, 1.0]])
    P = np.array([[0.9, 0.2], [0.4, 0.8]])
    found = reliability(y, P, bins=10)
    assert found.n == 3, "one is unknown"
    # 0.2 and 0.8 lie in the bins that they limit
    assert found.ece == pytest.approx((0.1 + 0.2 + 0.2) / 3)
    assert found.brier == pytest.approx((0.01 + 0.04 + 0.04) / 3)
    assert found.log_loss == pytest.approx(-(math.log(0.9) + 2 * math.log(0.8)) / 3)


def test_what_chance_leaves_of_right_probabilities_is_about_what_is_said() -> None:
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.ones(4), size=400)
    errors, said = [], []
    for _ in range(60):
        y = (rng.random((400, 1)) > P.cumsum(axis=1)).sum(axis=1).clip(max=3)
        found = reliability(y, P)
        errors.append(found.ece)
        said.append(found.by_chance)
    assert np.mean(errors) == pytest.approx(np.mean(said), rel=0.1)


@pytest.mark.parametrize(
    ("y", "P"),
    [
        ([0, 1], [[0.5, 0.5]]),
        ([0, 2], [[0.5, 0.5]] * 2),
        ([0, 1], [[0.5, 0.6]] * 2),
        ([0, 1], [[0.5, math.nan]] * 2),
        ([[1, -1]], [[0.5, 0.5]]),
        ([[math.nan, math.nan]], [[0.5, 0.5]]),
    ],
)
def test_what_cannot_be_measured_is_refused(y: Any, P: Any) -> None:
    with pytest.raises(ProbeError):
        reliability(y, P)


# The calibration


def test_the_temperature_is_scikit_learns_on_the_same_rows() -> None:
    pytest.importorskip("sklearn", minversion="1.8", reason="has temperature scaling since 1.8")
    X, y = noisy(1500)
    train_rows, held, new = np.arange(400), np.arange(400, 1400), np.arange(1400, 1500)
    unit = unit_length(X)
    probe = LinearProbe(C=1.0, validation=[(train_rows, held)], calibrate=True)
    probe.fit(X[:1400], y[:1400])
    svm = LinearSVC(C=1.0, tol=1e-10, max_iter=100_000).fit(unit[train_rows], y[train_rows])
    method = CalibratedClassifierCV(FrozenEstimator(svm), method="temperature", ensemble=False)
    method.fit(unit[held], y[held])
    assert probe.calibration_ is not None
    # the same but for one row of chance among 1,001
    ours = Calibration(probe.calibration_.slope, np.zeros(1), False, 0)(
        svm.decision_function(unit[new])
    )
    np.testing.assert_allclose(ours, method.predict_proba(unit[new]), atol=2e-3)
    # the classifier itself is trained on all rows, and names what it named before
    plain = LinearProbe(C=1.0).fit(X[:1400], y[:1400])
    np.testing.assert_array_equal(probe.coef_, plain.coef_)
    P = probe.predict_proba(X[new])
    np.testing.assert_allclose(P.sum(axis=1), 1)
    np.testing.assert_array_equal(P.argmax(axis=1), plain.predict(X[new]))


def test_sigmoids_of_several_labels_are_scikit_learns_on_the_same_rows() -> None:
    X, _ = noisy(400, seed=1)
    y = (X[:, :3] + np.random.default_rng(2).normal(size=(400, 3)) > [0.5, 1, 2]).astype(float)
    fit, held = np.arange(300), np.arange(300, 400)
    y[held[:7], 1] = np.nan
    probe = LinearProbe(C=1.0, validation=[(fit, held)], calibrate=True).fit(X, y)
    unit = unit_length(X)
    assert probe.calibration_ is not None
    for k in range(3):
        svm = LinearSVC(C=1.0, tol=1e-10, max_iter=100_000).fit(unit[fit], y[fit, k])
        known = held[~np.isnan(y[held, k])]
        method = CalibratedClassifierCV(FrozenEstimator(svm), method="sigmoid", ensemble=False)
        method.fit(unit[known], y[known, k])
        f = np.zeros((len(X), 3))
        f[:, k] = svm.decision_function(unit)
        theirs = method.predict_proba(unit)[:, 1]
        np.testing.assert_allclose(probe.calibration_(f)[:, k], theirs, atol=1e-3)


def test_calibrated_is_better_than_too_sure() -> None:
    rng = np.random.default_rng(3)
    y = rng.integers(0, 5, 400)
    scores = 20 * (np.eye(5)[y] + rng.normal(size=(400, 5)))  # sure of all, right in a half
    learnt = Calibration.of_exclusive(scores[:200], y[:200])
    before = Calibration(np.ones(1), np.zeros(1), False, 0)(scores[200:])
    after = learnt(scores[200:])
    first, second = reliability(y[200:], before), reliability(y[200:], after)
    assert second.log_loss < first.log_loss / 3
    assert second.ece < first.ece / 3
    assert second.brier < first.brier


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_no_held_out_rows_make_it_certain_or_turn_it_round(data: st.DataObject) -> None:
    """Any scores give finite slopes, from 0 on; few rows that are all right no certainty."""
    n, K = data.draw(st.integers(1, 8)), data.draw(st.integers(2, 4))
    values = st.floats(-100, 100, allow_subnormal=False)
    scores = np.array(data.draw(st.lists(st.lists(values, min_size=K, max_size=K),
                                         min_size=n, max_size=n)))  # fmt: skip
    y = np.array(data.draw(st.lists(st.integers(0, K - 1), min_size=n, max_size=n)))
    one = Calibration.of_exclusive(scores, y)
    marks = st.sampled_from([0.0, 1.0, np.nan])
    shown = np.array(data.draw(st.lists(st.lists(marks, min_size=K, max_size=K),
                                        min_size=n, max_size=n)))  # fmt: skip
    several = Calibration.of_several(scores, shown)
    for made in (one, several):
        assert np.isfinite(made.slope).all()
        assert np.isfinite(made.offset).all()
        assert (made.slope >= 0).all()
        assert ((made(scores) >= 0) & (made(scores) <= 1)).all()
    np.testing.assert_allclose(one(scores).sum(axis=1), 1)


def test_ten_rows_all_right_do_not_make_it_certain() -> None:
    y = np.arange(10) % 2
    scores = np.eye(2)[y]
    P = Calibration.of_exclusive(scores, y)(scores)
    # the rule of succession: one row more, of which chance has a half
    assert P.max(axis=1) == pytest.approx(np.full(10, (10 + 0.5) / 11))


def test_groups_stay_whole_and_the_test_part_unseen_while_it_is_calibrated(tmp_path: Path) -> None:
    classes, rng = three_classes(120), np.random.default_rng(5)
    groups = [f"g{row // 6}" for row in range(120)]
    splits = ["train"] * 90 + ["test"] * 30
    X = rng.normal(size=(120, D)) + 1.2 * np.eye(D)[np.arange(120) % 3]
    path = made_store(tmp_path / "a.h5", classes, splits, groups, X)
    other = X.copy()
    other[90:] = rng.normal(size=(30, D))  # another test part
    changed = made_store(tmp_path / "b.h5", classes, splits, groups, other)
    slopes = []
    for store in (path, changed):
        with FeatureStore(store) as table:
            result = evaluate(table, "relu7", calibrate=True)
        assert result.calibration is not None
        assert result.calibration.n % 6 == 0, "whole groups"
        slopes.append(result.calibration.slope)
    np.testing.assert_array_equal(*slopes)


def test_folds_that_choose_c_all_calibrate() -> None:
    X, y = noisy(60)
    probe = LinearProbe(validation=4, calibrate=True).fit(X, y)
    assert probe.calibration_ is not None
    assert probe.calibration_.n == 60


def test_a_probe_without_rows_to_hold_out_says_so() -> None:
    probe = LinearProbe(calibrate=True).fit(np.eye(3), [0, 1, 2])
    assert probe.calibration_ is None
    with pytest.raises(ProbeError, match="no row could be held out"):
        probe.predict_proba(np.eye(3))


# Kept


@pytest.mark.parametrize("several", [False, True])
def test_saved_probes_give_the_same_probabilities(tmp_path: Path, several: bool) -> None:
    classes: list[Any] = three_classes(60)
    if several:
        classes = [(name,) if row % 4 else ("ape", "bee") for row, name in enumerate(classes)]
    with FeatureStore(made_store(tmp_path / "s.h5", classes)) as store:
        result = evaluate(store, "relu7", calibrate=True)
        saved = train(store, "relu7", held_out=result)
    saved.save(tmp_path / "s.probe")
    loaded = SavedProbe.load(tmp_path / "s.probe")
    X = np.random.default_rng(0).normal(size=(5, D))
    _, scores = loaded.predict(X)
    ours, theirs = saved.probabilities_of(scores), loaded.probabilities_of(scores)
    assert ours is not None
    assert theirs is not None
    np.testing.assert_array_equal(ours, theirs)
    assert loaded.held_out is not None
    assert loaded.held_out["reliability"]["n"] > 0
    if not several:
        np.testing.assert_allclose(theirs.sum(axis=1), 1)


def test_probes_of_before_still_predict(tmp_path: Path) -> None:
    old = SavedProbe.load(OLD)
    names, scores = old.predict(np.eye(D)[:3])
    assert names.tolist() == ["ape", "bee", "cat"]
    assert old.probabilities_of(scores) is None
    old.save(tmp_path / "again.probe")
    np.testing.assert_array_equal(SavedProbe.load(tmp_path / "again.probe").predict(np.eye(D))[1],
                                  old.predict(np.eye(D))[1])  # fmt: skip


@pytest.mark.parametrize(
    ("slope", "offset", "classifier"),
    [
        (-1.0, 0.0, "svm"),
        (math.nan, 0.0, "svm"),
        (1.0, 0.5, "svm"),
        (1.0, 0.0, "logreg"),
        ([1.0, 1.0], [0.0, 0.0], "svm"),
    ],
)
def test_calibrations_that_lie_are_refused_whatever_their_checksum(
    tmp_path: Path, slope: Any, offset: Any, classifier: Any
) -> None:
    saved = SavedProbe.load(OLD)
    saved.probe.classifier = classifier
    saved.probe.calibration_ = Calibration(np.atleast_1d(slope), np.atleast_1d(offset), False, 9)
    saved.save(tmp_path / "x.probe")
    with pytest.raises(ProbeError, match="damaged"):
        SavedProbe.load(tmp_path / "x.probe")


def test_a_calibration_that_was_changed_or_taken_out_is_noticed(tmp_path: Path) -> None:
    import h5py

    saved = SavedProbe.load(OLD)
    saved.probe.calibration_ = Calibration(np.ones(1), np.zeros(1), False, 9)
    for change in ("value", "taken", "count"):
        saved.save(tmp_path / "x.probe")
        SavedProbe.load(tmp_path / "x.probe")
        with h5py.File(tmp_path / "x.probe", "r+") as file:
            if change == "value":
                file["calibration"][0, 0] = 2
            elif change == "taken":
                del file["calibration"]
            else:
                file.attrs["n_calibration"] = np.int64(10)
        with pytest.raises(ProbeError, match="damaged"):
            SavedProbe.load(tmp_path / "x.probe")


# Through the commands

TINY = ["--model", "vgg16-tiny", "--weights", "random:0", "--layers", "pool1", "--device", "cpu"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make photos of three hues that noise mixes, a store of them and a probe."""
    folder = tmp_path_factory.mktemp("work")
    rng = np.random.default_rng(0)
    for number in range(48):
        kind = ("blue", "green", "red")[number % 3]
        pixels = rng.integers(0, 90, (64, 64, 3), np.uint8)
        pixels[..., ("red", "green", "blue").index(kind)] += 60
        if number % 8 == 7:  # shows another hue than it is said to
            pixels = pixels[..., [1, 2, 0]]
        place = folder / ("photos" if number < 36 else "new") / kind
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number:02d}.png")
    done = cli("extract", folder / "photos", folder / "s.h5", *TINY)
    assert done.returncode == 0, done.stderr
    done = cli("probe", folder / "s.h5", "--save", folder / "s.probe", "--json")
    assert done.returncode == 0, done.stderr
    (folder / "probe.json").write_text(done.stdout)
    return folder


def test_probe_tells_how_far_its_probabilities_can_be_believed(work: Path) -> None:
    told = json.loads((work / "probe.json").read_text())
    assert told["reliability"]["n"] == told["n_test"]
    assert sum(one["n"] for one in told["reliability"]["bins"]) == told["n_test"]
    assert told["calibration"]["n"] > 0
    assert all(0 < one["probability"] <= 1 for one in told["mistakes"])
    shown = cli("probe", work / "s.h5").stdout
    assert "calibration error" in shown
    assert "temperature" in shown
    shown = cli("probe", work / "s.h5", "--classifier", "logreg").stdout
    assert "calibration error" in shown
    assert "temperature" not in shown


def test_the_page_shows_in_light_and_dark_how_far_they_can_be_believed(work: Path) -> None:
    store = made_store(
        work / "page.h5", three_classes(60), groups=[f"g{k // 2}" for k in range(60)]
    )
    for options, words in (
        (("s.h5",), ("The probabilities were calibrated on", "95 % interval")),
        (("s.h5", "--classifier", "logreg"), ("95 % interval",)),
        ((store, "--validation", 3), ("if images of a group did not depend on one another",)),
    ):
        done = cli("probe", work / options[0], *options[1:], "--html", work / "page.html")
        assert done.returncode == 0, done.stderr
        page = (work / "page.html").read_text()
        _, _, section = page.partition("How far its probabilities can be believed")
        section = section[: section.index("</section>")]
        for word in words:
            assert word in section
        light, dark = (
            one.group(1)
            for one in re.finditer(r'src(?:set)?="data:image/png;base64,([^"]+)"', section)
        )
        assert light != dark
        assert "Expected calibration error" in section
        assert re.search(r'alt="Reliability of \d+ probabilities: expected calibration', section)
        assert section.count("<tr>") > 1, "the same in numbers"


def test_the_picture_is_right_side_up_and_of_the_numbers() -> None:
    """Too sure: the bars end below the diagonal, and what is missing is hatched above them."""
    y = np.arange(200) % 10 > 0  # right in 10 %
    P = np.column_stack([np.full(200, 0.9), np.full(200, 0.1)])
    found = reliability(y.astype(int), P)
    text = describe_reliability(found)
    assert "expected calibration error 80.0 %" in text
    assert "of 200 between 86.7 % and 93.3 %, 10.0 % are right, where 90.0 % is said" in text
    light, dark = (reliability_figure(found, dark=each) for each in (False, True))
    shades = [np.asarray(Image.open(io.BytesIO(one)).convert("L"), int) for one in (light, dark)]
    assert shades[0].mean() > 200 > 60 > shades[1].mean()


def test_predict_tells_every_class_and_scores_what_is_labelled(work: Path) -> None:
    told = json.loads(cli("predict", work / "s.probe", work / "new", "--json").stdout)
    assert len(told["images"]) == 12
    for one in told["images"]:
        P = one["probabilities"]
        assert set(P) == {"blue", "green", "red"}
        assert sum(P.values()) == pytest.approx(1)
        assert max(P, key=lambda name: P[name]) == one["label"]
        assert P[one["label"]] == one["probability"]
    right = [one["path"].startswith(one["label"]) for one in told["images"]]
    score = told["score"]
    assert (score["n"], score["labels_from"], score["of_unknown_classes"]) == (12, "folder:1", 0)
    assert score["accuracy"] == pytest.approx(np.mean(right))
    assert 0.5 < score["accuracy"] <= 1
    assert score["reliability"]["n"] == 12

    (top,) = json.loads(
        cli("predict", work / "s.probe", next((work / "new" / "red").iterdir()),
            "--top", 1, "--json").stdout
    )["images"]  # fmt: skip
    assert list(top["probabilities"]) == [top["label"]]
    shown = cli("predict", work / "s.probe", work / "new", "--top", 2).stdout
    assert "probability" in shown
    assert f"accuracy: {score['accuracy']:.2%}" in shown
    assert "margin" not in shown


def test_predict_scores_a_list_and_says_which_classes_it_does_not_know(work: Path) -> None:
    (work / "list.csv").write_text(
        "path,label,split\nnew/red/38.png,red,train\nnew/green/37.png,green,test\n"
        "new/blue/36.png,mauve,test\nnew/blue/39.png,,test\n"
    )
    found = predict(work / "s.probe", work / "list.csv")
    assert found.score is not None
    assert (found.score.n, found.score.unknown, found.score.unlabelled) == (2, 1, 1)
    assert found.score.unknown_classes == ("mauve",)
    assert found.score.measures["accuracy"] == 1
    shown = cli("predict", work / "s.probe", work / "list.csv").stdout
    assert "does not know: 1 images (mauve), not counted" in shown
    assert "without a label: 1 images" in shown
    (work / "strange.csv").write_text("path,label\nnew/red/38.png,mauve\n")
    done = cli("predict", work / "s.probe", work / "strange.csv")
    assert done.returncode == 0
    assert "No score: the images' classes, such as 'mauve', are none of the probe's" in done.stderr


def test_predict_of_an_svm_without_calibration_has_scores_and_margins(work: Path) -> None:
    with FeatureStore(work / "s.h5") as store:
        train(store, "pool1", calibrate=False).save(work / "plain.probe")
    image = next((work / "new" / "red").iterdir())
    (one,) = json.loads(cli("predict", work / "plain.probe", image, "--json").stdout)["images"]
    assert set(one["scores"]) == {"blue", "green", "red"}
    assert "probabilities" not in one
    assert "margin" in cli("predict", work / "plain.probe", image).stdout


def test_predict_of_several_labels_scores_by_average_precision(work: Path) -> None:
    parity = ("even", "odd")
    lines = [
        f"{path.relative_to(work / 'photos')},{path.parent.name}|{parity[int(path.stem) % 2]}"
        for path in sorted((work / "photos").rglob("*.png"))
    ]
    (work / "several.csv").write_text("path,labels\n" + "\n".join(lines) + "\n")
    args = [*TINY, "--labels", work / "several.csv"]
    assert cli("extract", work / "photos", work / "m.h5", *args).returncode == 0
    done = cli("probe", work / "m.h5", "--save", work / "m.probe", "--html", work / "m.html")
    assert done.returncode == 0, done.stderr
    assert "a sigmoid a class" in done.stdout
    assert "Each class of each image counts" in (work / "m.html").read_text()
    (work / "photos" / "list.csv").write_text("path,labels\n" + "\n".join(lines) + "\n")
    told = json.loads(cli("predict", work / "m.probe", work / "photos/list.csv", "--json").stdout)
    assert set(told["score"]) >= {"mean_average_precision", "reliability"}
    assert told["score"]["mean_average_precision"] > 0.6
    assert told["score"]["reliability"]["n"] == 36 * 5
    (work / "photos" / "list.csv").unlink()
    for one in told["images"]:
        assert all(0 <= value <= 1 for value in one["probabilities"].values())
        assert set(one["scores"]) == set(one["probabilities"])
    folders = predict(work / "m.probe", work / "new")
    assert folders.score is None, "a folder says one class, and nothing of others"
    assert "several labels" in folders.unscored


def test_folders_are_labels_where_they_are_called_as_classes() -> None:
    classes = ["ape", "bee"]
    deep = ["test/ape/1.jpg", "val/bee/2.jpg", "val/wasp/3.jpg"]
    labels, where = labels_of_source(deep, None, classes) or ({}, "")
    assert where == "folder:2"
    assert labels["val/wasp/3.jpg"] == ("wasp",)
    assert labels_of_source(["2024/1.jpg", "2.jpg"], None, classes) is None
    assert labels_of_source(["ape/1.jpg"], {"ape/1.jpg": ("bee",)}, classes) == (
        {"ape/1.jpg": ("bee",)},
        "source",
    )
    assert labels_of_source(["ape/1.jpg"], {}, classes) is None
