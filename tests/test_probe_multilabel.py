"""Promises of probes where images have several labels, and of those that compare and repeat."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from sklearn.svm import LinearSVC
from test_probe import PROVENANCE, blobs, make_store

from vggfeat.cli import run
from vggfeat.errors import ProbeError
from vggfeat.labels import FixedLabels, as_floats
from vggfeat.metrics import average_precision, mean_interval
from vggfeat.predictions import predict
from vggfeat.probe import (
    LinearProbe,
    MultiLabelResult,
    ProbeResult,
    RepeatedResult,
    SavedProbe,
    evaluate,
    stratified_split,
    train,
)
from vggfeat.probe.labelled import Labelled
from vggfeat.probe.split import rarest
from vggfeat.report import probe_page
from vggfeat.store import FeatureStore, StoreWriter

CLASSES = ("bus", "car", "dog", "person")


def scenes(n: int = 160, seed: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
    """Draw features (n, 8) and labels (n, 4): the last class is common, some are left out."""
    rng = np.random.default_rng(seed)
    y = np.where(rng.random((n, 4)) < (0.15, 0.2, 0.25, 0.6), 1, 0)
    X = (y > 0) @ rng.normal(size=(4, 8)) + 0.7 * rng.normal(size=(n, 8))
    y[rng.random((n, 4)) < 0.05] = -1
    y[0], y[1] = -1, 0  # of unknown classes, and of none
    return np.float32(X), y.astype(np.int8)


def several_store(
    path: Path,
    X: npt.NDArray[np.float32],
    y: npt.NDArray[np.int8],
    classes: tuple[str, ...] = CLASSES,
) -> Path:
    """Write a store with `X` as relu7, noisy maps of it as pool5, and labels `y`."""
    noisy = X + np.random.default_rng(9).normal(scale=1.5, size=X.shape).astype(np.float32)
    maps = noisy.reshape(len(X), 2, 2, -1)
    entries = [SimpleNamespace(path=f"{i:04d}.jpg", size=1, mtime_ns=1) for i in range(len(X))]
    names, unsure = (
        {
            entry.path: tuple(classes[k] for k in np.flatnonzero(row == value))
            for entry, row in zip(entries, y, strict=True)
            if (row >= 0).any()
        }
        for value in (1, -1)
    )
    with StoreWriter.open(
        path,
        entries=entries,
        shapes={"relu7": X.shape[1:], "pool5": maps.shape[1:]},
        provenance=PROVENANCE,
        labels=FixedLabels(names, classes, multi_label=True, unsure=unsure),
    ) as writer:
        writer.write(np.arange(len(X)), {"relu7": X, "pool5": maps})
    return path


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    return several_store(tmp_path / "s.h5", *scenes())


def scored(path: Path, layer: str = "relu7", **options) -> MultiLabelResult:
    with FeatureStore(path) as store:
        result = evaluate(store, layer, **options)
    assert isinstance(result, MultiLabelResult)
    return result


def test_a_score_is_the_average_precision_of_separate_svms(store_path):
    X, y = scenes()
    result = scored(store_path, C=2.0, seed=3)
    unit = X / np.linalg.norm(X.astype(float), axis=1, keepdims=True)
    test = np.array([int(path[:4]) for path in result.paths])
    train_rows = np.setdiff1d(np.arange(1, len(y)), test)  # the first is of unknown classes
    for k in range(4):
        known = train_rows[y[train_rows, k] >= 0]
        svm = LinearSVC(C=2.0, dual=False, tol=1e-10).fit(unit[known], y[known, k])
        expected = average_precision(as_floats(y[test, k]), svm.decision_function(unit[test]))
        assert result.average_precision[k] == pytest.approx(expected, abs=1e-9)
    assert result.mean_average_precision == pytest.approx(result.average_precision.mean())
    assert result.chance < result.mean_average_precision <= 1
    assert (result.n_train, result.left_out.unlabelled) == (len(train_rows), 1)


def test_both_kinds_of_average_precision_are_offered(store_path):
    one, other = scored(store_path, "pool5"), scored(store_path, "pool5", ap="11-point")
    assert one.C == other.C
    assert one.mean_average_precision != other.mean_average_precision
    expected = [
        average_precision(as_floats(other.y[:, k]), other.scores[:, k], "11-point")
        for k in range(4)
    ]
    np.testing.assert_allclose(other.average_precision, expected)


def test_each_class_is_in_both_parts_with_its_share(store_path):
    with FeatureStore(store_path) as store:
        data = Labelled.of(store, "relu7", multi_label=True)
    present = data.y == 1
    np.testing.assert_array_equal(
        rarest(np.array([[1, 1, 0], [0, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]], bool)),
        [0, 2, 0, 1, 3],
    )
    for seed in range(5):
        _, test = stratified_split(data.keys, seed=seed)
        shares = present[test].sum(axis=0) / present.sum(axis=0)
        np.testing.assert_allclose(shares, 0.25, atol=0.12)


def test_entries_that_are_left_out_decide_nothing(tmp_path):
    X, y = scenes()
    before = scored(several_store(tmp_path / "a.h5", X, y), C=1.0)
    test = [int(path[:4]) for path in before.paths]
    open_entries = [(i, k) for i in test for k in range(4) if y[i, k] == -1]
    assert open_entries
    place = {i: at for at, i in enumerate(test)}
    changed = before.scores.copy()
    for i, k in open_entries:
        changed[place[i], k] = 99
    after = replace(before, scores=changed)
    np.testing.assert_array_equal(after.average_precision, before.average_precision)


def test_mistakes_are_on_the_wrong_side_the_most_confident_first(store_path):
    for classifier, middle in (("svm", 0.0), ("logreg", 0.5)):
        result = scored(store_path, "pool5", classifier=classifier)
        place = {path: i for i, path in enumerate(result.paths)}
        assert len(result.mistakes) > 5
        for one in result.mistakes:
            i, k = place[one.path], result.classes.index(one.label)
            assert result.y[i, k] == (1 if one.present else 0)
            assert (result.scores[i, k] > middle) != one.present
            assert one.margin == pytest.approx(abs(result.scores[i, k] - middle))
        margins = [one.margin for one in result.mistakes]
        assert margins == sorted(margins, reverse=True)
        of_both = [result.mistakes_of("dog", present=shown) for shown in (True, False)]
        assert sum(map(len, of_both)) == sum(one.label == "dog" for one in result.mistakes)


def test_a_class_that_cannot_be_scored_is_left_out_and_named(tmp_path, caplog):
    X, y = scenes()
    everywhere = np.ones((len(y), 1), np.int8)
    nowhere = np.where(np.arange(len(y))[:, None] == 5, 1, 0)
    wide = np.hstack([y, everywhere, nowhere]).astype(np.int8)
    path = several_store(tmp_path / "s.h5", X, wide, (*CLASSES, "sky", "yeti"))
    result = scored(path)
    assert result.classes == CLASSES
    assert set(result.left_out.classes) == {"sky", "yeti"}
    assert "'sky'" in caplog.text
    with FeatureStore(path) as store:
        assert train(store, "relu7", held_out=result).classes == CLASSES
    with (
        FeatureStore(several_store(tmp_path / "t.h5", X, everywhere, ("sky",))) as store,
        pytest.raises(ProbeError, match="at least two classes"),
    ):
        evaluate(store, "relu7")


def test_results_are_json(store_path):
    result = scored(store_path)
    told = json.loads(json.dumps(result.to_json(predictions=True), allow_nan=False))
    assert told["mean_average_precision"] == result.mean_average_precision
    assert len(told["predictions"]) == result.n_test == told["n_test"]
    assert set(told["mistakes"]) == set(CLASSES)
    assert len(told["C"]) == 4


# On disk


@pytest.mark.parametrize("classifier", ["svm", "logreg"])
def test_a_loaded_probe_of_several_labels_says_the_same(store_path, tmp_path, classifier):
    result = scored(store_path, classifier=classifier)
    with FeatureStore(store_path) as store:
        saved = train(store, "relu7", classifier=classifier, held_out=result)
        X = store["relu7"][:]
    saved.save(tmp_path / "p.probe")
    loaded = SavedProbe.load(tmp_path / "p.probe")
    names, scores = loaded.predict(X)
    assert scores.tobytes() == saved.predict(X)[1].tobytes()
    np.testing.assert_array_equal(loaded.probe.C_, result.C)
    assert loaded.held_out == saved.held_out == result.to_json()
    least = 0 if classifier == "svm" else 0.5
    likely = loaded.probabilities_of(scores)
    assert likely is not None
    for shown, row, P in zip(names, scores, likely, strict=True):
        assert set(shown) == {CLASSES[k] for k in np.flatnonzero(row > least)}
        assert [*shown] == sorted(shown, key=lambda name: -P[CLASSES.index(name)])
    assert {len(shown) for shown in names} >= {0, 1, 2}
    with h5py.File(tmp_path / "p.probe", "r+") as file:
        assert file.attrs["format_version"] == 2
        file.attrs["C"] = file.attrs["C"][::-1]
    with pytest.raises(ProbeError, match="damaged"):
        SavedProbe.load(tmp_path / "p.probe")


def test_a_probe_of_one_label_keeps_the_first_version_of_its_file(tmp_path):
    X, y = blobs((9, 9))
    path = make_store(tmp_path / "s.h5", X, {i: (f"c{k}",) for i, k in enumerate(y)})
    with FeatureStore(path) as store:
        train(store, "relu7").save(tmp_path / "p.probe")
    with h5py.File(tmp_path / "p.probe") as file:
        assert file.attrs["format_version"] == 1
        assert file.attrs["C"].shape == ()


# Options, splits, comparisons


def test_balanced_classes_and_folds_reach_the_classifier(tmp_path):
    X, y = blobs((60, 12), spread=2)
    path = make_store(tmp_path / "s.h5", X, {i: (f"c{k}",) for i, k in enumerate(y)})
    with FeatureStore(path) as store:
        result = evaluate(store, "relu7", class_weight="balanced", validation=3, seed=4)
        train_rows, test_rows = stratified_split(y, seed=4)
        probe = LinearProbe(class_weight="balanced", validation=3, random_state=4)
        probe.fit(X[train_rows], y[train_rows])
        assert result.C == probe.C_
        assert result.accuracy == probe.score(X[test_rows], y[test_rows])
        assert result.to_json()["class_weight"] == "balanced"
        with pytest.raises(ProbeError, match="balanced"):
            train(store, "relu7", held_out=result)
        saved = train(store, "relu7", class_weight="balanced", held_out=result)
    assert saved.probe.C_ == result.C


def test_splits_are_summed_up_by_mean_and_interval(store_path):
    results = [scored(store_path, "pool5", C=1, seed=seed) for seed in range(4)]
    found = RepeatedResult(results).mean("mean_average_precision")
    values = [one.mean_average_precision for one in results]
    expected = mean_interval(values, test_to_train=results[0].n_test / results[0].n_train)
    assert found == expected
    assert found.low < np.mean(values) < found.high
    with pytest.raises(ProbeError, match="two or more"):
        RepeatedResult(results[:1]).mean("mean_average_precision")


def test_layers_are_compared_on_the_same_test_images(store_path, tmp_path):
    clear, noisy = scored(store_path), scored(store_path, "pool5")
    found = clear.against(noisy)
    assert found.difference == pytest.approx(
        clear.mean_average_precision - noisy.mean_average_precision
    )
    assert 0 < found.low < found.difference < found.high
    assert found.p < 0.05
    assert clear.against(clear).p == 1
    with pytest.raises(ProbeError, match="test images differ"):
        clear.against(scored(store_path, "pool5", seed=1))

    X, y = blobs((40, 40, 40), spread=1.2)
    labels = {i: (f"c{k}",) for i, k in enumerate(y)}
    with FeatureStore(make_store(tmp_path / "one.h5", X, labels)) as store:
        first = evaluate(store, "relu7")
    with FeatureStore(
        make_store(tmp_path / "two.h5", X[:, ::-1] * (np.arange(8) < 2), labels)
    ) as two:
        second = evaluate(two, "relu7")
    assert isinstance(first, ProbeResult)
    told = first.against(second)
    assert told.difference == pytest.approx(first.accuracy - second.accuracy)
    assert told.only_first > told.only_second


def test_a_page_shows_every_class_with_its_mistakes(store_path, tmp_path):
    result = scored(store_path, "pool5")
    page = probe_page(tmp_path / "p.html", result, store="s.h5").read_text()
    for name in CLASSES:
        assert f">{name}<" in page
    worst = result.mistakes[0]
    assert worst.path in page
    assert "All-point average precision" in page
    assert "the original could not be read" in page


# As a person types it


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """Make images with red, green and striped parts, a table of what they show, and a store."""
    folder = tmp_path_factory.mktemp("work")
    rng = np.random.default_rng(0)
    lines = ["path,label"]
    (folder / "photos").mkdir()
    for number in range(60):
        shown = [name for name in ("green", "red", "striped") if rng.random() < 0.5]
        pixels = rng.integers(0, 60, (96, 120, 3), np.uint8)
        if "red" in shown:
            pixels[:, :60, 0] += 180
        if "green" in shown:
            pixels[:, 60:, 1] += 180
        if "striped" in shown:
            pixels[:, ::8] = 255
        Image.fromarray(pixels).save(folder / "photos" / f"{number:02d}.jpg")
        lines.append(f"{number:02d}.jpg,{'|'.join(shown)}")
    (folder / "labels.csv").write_text("\n".join(lines))
    cli(
        "extract", folder / "photos", folder / "s.h5", "--labels", folder / "labels.csv",
        "--model", "vgg16-tiny", "--layers", "pool2,pool3", "--device", "cpu",
    )  # fmt: skip
    return folder


def cli(*args: object, status: int = 0) -> tuple[str, str]:
    """Run a command in this process; return what it printed on stdout and on stderr."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
        run([str(arg) for arg in args])
    assert left.value.code == status, err.getvalue()
    assert "Traceback" not in err.getvalue()
    return out.getvalue(), err.getvalue()


def test_probe_and_predict_several_labels(work):
    shown, _ = cli("probe", work / "s.h5", "--layer", "pool2", "--save", work / "a.probe")
    assert "mean average precision" in shown
    assert "all-point" in shown
    told = json.loads(cli("predict", work / "a.probe", work / "photos", "--json")[0])
    again = predict(work / "a.probe", work / "photos")
    assert {"probe": str(work / "a.probe"), **again.to_json()} == told, "the command, in Python"
    truth = dict(line.split(",") for line in (work / "labels.csv").read_text().splitlines())
    known = [one for one in told["images"] if truth[one["path"]]]  # no label: unknown
    right = [sorted(one["labels"]) == truth[one["path"]].split("|") for one in known]
    assert np.mean(right) > 0.8
    assert set(told["images"][0]["scores"]) == {"green", "red", "striped"}
    shown, _ = cli("predict", work / "a.probe", work / "photos" / "03.jpg")
    assert "03.jpg" in shown


def test_probe_repeats_compares_and_takes_every_option(work):
    args = ["probe", work / "s.h5", "--layer", "pool2"]
    options = ["--classifier", "logreg", "--class-weight", "balanced", "--validation", "3"]
    told = json.loads(cli(*args, *options, "--splits", "3", "--ap", "11-point", "--json")[0])
    assert [one["seed"] for one in told["splits"]] == [0, 1, 2]
    assert told["splits"][0]["ap"] == "11-point"
    assert told["splits"][0]["validation"] == 3
    summary = told["mean"]["mean_average_precision"]
    assert summary["low"] <= summary["mean"] <= summary["high"]
    shown, _ = cli(*args, "-C", "1", "--against", "pool3", "--html", work / "p.html")
    assert "against pool3" in shown
    assert "p = " in shown
    assert (work / "p.html").exists()
    told = json.loads(cli(*args, "-C", "1", "--against", f"{work / 's.h5'}:pool2", "--json")[0])
    assert told["against"]["difference"] == 0


@pytest.mark.parametrize(
    ("args", "status", "reason"),
    [
        (["--validation", "1.5"], 2, "share above 0"),
        (["--against", "fc9"], 1, "no layer 'fc9'"),
        (["--against", "no.h5:pool2"], 1, "There is no store at no.h5"),
        (["--against", "pool3", "--splits", "2"], 2, "leave out --splits"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(work, args, status, reason):
    out, err = cli("probe", work / "s.h5", "--layer", "pool2", *args, status=status)
    assert reason in err
    assert not out
