"""Numbers as targets: read by path, predicted, drawn, kept, and scored honestly."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from commands import cli
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold
from test_divisions import D, made_store, official, three_classes

from vggfeat.errors import ProbeError
from vggfeat.probe import SavedRidge, evaluate_numbers, numbers_of_file, numbers_of_labels
from vggfeat.probe.numbers import look_like_numbers
from vggfeat.store import FeatureStore

N = 90


@pytest.fixture
def features() -> npt.NDArray[np.float32]:
    return np.random.default_rng(11).normal(size=(N, D)).astype(np.float32)


@pytest.fixture
def ages(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(12)
    return 40 + features.astype(np.float64) @ rng.normal(size=D) + rng.normal(size=N)


def table_of(folder: Path, columns: dict[str, Any], order: Any = range(N)) -> Path:
    """Write a table of the images that `made_store` writes, in any order."""
    path = folder / "numbers.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", *columns])
        for row in order:
            rows.writerow([f"0-{row:04d}.jpg", *(values[row] for values in columns.values())])
    return path


def test_numbers_of_a_table_are_predicted_as_scikit_learn_does(
    tmp_path: Path, features: Any, ages: Any
) -> None:
    store = made_store(tmp_path / "s.h5", three_classes(N), official(N), X=features)
    order = np.random.default_rng(0).permutation(N)
    table = table_of(tmp_path, {"age": ages, "noise": np.cos(np.arange(N) ** 2)}, order)
    told = json.loads(
        cli("probe", store, "--classifier", "ridge", "--targets", table, "--json").stdout
    )
    assert (told["n_train"], told["n_test"], told["unmatched"]) == (60, 30, 0)
    assert [one["name"] for one in told["targets"]] == ["age", "noise"]
    age = told["targets"][0]
    ours = Ridge(age["alpha"]).fit(features[:60].astype(np.float64), ages[:60])
    assert age["r2"] == pytest.approx(r2_score(ages[60:], ours.predict(features[60:])), abs=1e-4)
    assert age["r2"] > 0.5 > told["targets"][1]["r2"]
    assert age["r2_low"] < age["r2"] < age["r2_high"]
    text = cli(
        "probe", store, "--classifier", "ridge", "--targets", table, "--columns", "age"
    ).stdout
    assert "by the store's splits" in text
    assert "noise" not in text


def test_penalties_are_chosen_on_the_same_folds_as_RidgeCV(
    tmp_path: Path, features: Any, ages: Any
) -> None:
    store = made_store(tmp_path / "s.h5", three_classes(N), X=features)
    alphas = [0.1, 1.0, 10.0, 100.0]
    with FeatureStore(store) as opened:
        numbers = numbers_of_file(opened, table_of(tmp_path, {"age": ages}))
        result = evaluate_numbers(opened, "relu7", numbers, alphas=alphas, test_size=0.25)
        train, test = result.division.train, result.division.test
    folds = KFold(5, shuffle=True, random_state=0)
    X = features.astype(np.float64)
    theirs = RidgeCV(alphas, cv=folds, scoring="r2").fit(X[train], ages[train])
    assert result.alpha.tolist() == [theirs.alpha_]
    assert result.scores.r2[0] == pytest.approx(theirs.score(X[test], ages[test]), abs=1e-4)


def test_labels_that_are_numbers_can_be_predicted_and_are_noticed(
    tmp_path: Path, features: Any, ages: Any
) -> None:
    store = made_store(tmp_path / "s.h5", [f"{age:.1f}" for age in ages], X=features)
    told = json.loads(cli("probe", store, "--classifier", "ridge", "--json").stdout)
    assert told["targets"][0]["r2"] > 0.5
    assert look_like_numbers([f"{age:.1f}" for age in ages], N)
    assert not look_like_numbers([str(k) for k in range(10)], 1000)
    assert not look_like_numbers(["cat", "dog"] * 5, 12)
    twice = made_store(tmp_path / "t.h5", [f"{20 + row // 2}" for row in range(N)], X=features)
    assert "--classifier ridge predicts numbers" in cli("probe", twice).stdout
    classes = made_store(tmp_path / "c.h5", three_classes(N), X=features)
    refused = cli("probe", classes, "--classifier", "ridge")
    assert refused.returncode == 1
    assert "'ape'" in refused.stderr
    assert "--targets" in refused.stderr


def test_an_array_goes_with_the_list_beside_it_or_with_all_rows(
    tmp_path: Path, features: Any
) -> None:
    store = made_store(tmp_path / "s.h5", three_classes(N), X=features)
    responses = np.random.default_rng(1).normal(size=(N, 40)).astype(np.float32)
    np.save(tmp_path / "voxels.npy", responses)
    with FeatureStore(store) as opened:
        whole = numbers_of_file(opened, tmp_path / "voxels.npy")
        assert whole.values.dtype == np.float32
        assert np.array_equal(whole.values, responses)
        some = np.random.default_rng(2).permutation(N)[:50]
        np.save(tmp_path / "voxels.npy", responses[some])
        with pytest.raises(ProbeError, match=r"voxels\.paths\.csv"):
            numbers_of_file(opened, tmp_path / "voxels.npy")
        (tmp_path / "voxels.txt").write_text("".join(f"0-{row:04d}.jpg\n" for row in some))
        listed = numbers_of_file(opened, tmp_path / "voxels.npy")
    assert listed.rows.tolist() == sorted(some.tolist())
    assert np.array_equal(listed.values, responses[np.sort(some)])


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"age": ["old"] * N}, [], "No column"),
        ({"age": ["1", "old"] * (N // 2)}, ["--columns", "age"], "'old' in the column 'age'"),
        ({"age": [1] * N}, ["--columns", "size"], "no column 'size'"),
        ({"age": ["inf"] * N}, [], "No column"),
    ],
)
def test_what_is_no_number_is_refused_with_its_place(
    tmp_path: Path, features: Any, columns: Any, options: list[str], message: str
) -> None:
    store = made_store(tmp_path / "s.h5", three_classes(N), X=features)
    table = table_of(tmp_path, columns)
    refused = cli("probe", store, "--classifier", "ridge", "--targets", table, *options)
    assert refused.returncode == 1
    assert message in refused.stderr


def test_unknown_numbers_are_left_out_of_their_target(
    tmp_path: Path, features: Any, ages: Any
) -> None:
    store = made_store(tmp_path / "s.h5", three_classes(N), X=features)
    unknown = ("", "NaN", "n/a")
    known = [f"{age}" if row % 3 else unknown[row % 9 // 3] for row, age in enumerate(ages)]
    nothing = [""] * N
    table = table_of(tmp_path, {"age": known, "both": ages})
    with FeatureStore(store) as opened:
        numbers = numbers_of_file(opened, table)
        assert int(np.isnan(numbers.values[:, 0]).sum()) == N // 3
        result = evaluate_numbers(opened, "relu7", numbers)
        assert result.scores.n[0] < result.scores.n[1] == result.n_test
        with pytest.raises(ProbeError, match=r"No column|no number"):
            numbers_of_file(opened, table_of(tmp_path, {"age": nothing}))


def test_columns_of_0_and_1_are_numbers_beside_others(
    tmp_path: Path, features: Any, ages: Any
) -> None:
    store = made_store(tmp_path / "s.h5", three_classes(N), X=features)
    sex, smoker = [row % 2 for row in range(N)], ["1", "0", ""] * (N // 3)
    table = table_of(tmp_path, {"age": ages, "sex": sex, "smoker": smoker})
    with FeatureStore(store) as opened:
        every = numbers_of_file(opened, table)
        assert sorted(every.names) == ["age", "sex", "smoker"]
        one = numbers_of_file(opened, table, ["smoker"])
        assert np.array_equal(one.values[:, 0], [1, 0] * (N // 3), equal_nan=True)
        assert len(one.rows) == 2 * N // 3, "rows of nothing that is known are left out"


def test_no_group_is_on_both_sides_where_numbers_are_predicted(
    tmp_path: Path, features: Any, ages: Any
) -> None:
    groups = [f"p{row // 6}" for row in range(N)]
    store = made_store(tmp_path / "s.h5", three_classes(N), groups=groups, X=features)
    with FeatureStore(store) as opened:
        numbers = numbers_of_file(opened, table_of(tmp_path, {"age": ages}))
        result = evaluate_numbers(opened, "relu7", numbers)
    division = result.division
    assert division.groups is not None
    assert not set(division.groups[division.train]) & set(division.groups[division.test])
    assert result.scores.groups == len(set(division.groups[division.test].tolist()))


def test_a_kept_probe_predicts_new_images_and_has_not_seen_the_test_split(tmp_path: Path) -> None:
    from test_splits_of_stores import EXTRACT, LAYOUT, image_folder

    images = image_folder(tmp_path / "images", LAYOUT)
    assert cli("extract", images, tmp_path / "s.h5", *EXTRACT).returncode == 0
    paths = sorted(path.relative_to(images) for path in images.rglob("*.png"))
    table = tmp_path / "ages.csv"
    table.write_text("path,age\n" + "".join(f"{p},{20 + at}\n" for at, p in enumerate(paths)))
    made = cli("probe", tmp_path / "s.h5", "--classifier", "ridge", "--targets", table,
               "--save", tmp_path / "ages.probe", "--html", tmp_path / "p.html",
               "--png", tmp_path / "p.png")  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    assert "Ridge regression" in (tmp_path / "p.html").read_text()
    saved = SavedRidge.load(tmp_path / "ages.probe")
    assert (saved.names, saved.n_train) == (("age",), 7)
    told = json.loads(cli("predict", tmp_path / "ages.probe", images / "test", "--json").stdout)
    with FeatureStore(tmp_path / "s.h5") as store:
        for one in told["images"]:
            _, X = store.matrix("pool5", [store.row(f"test/{one['path']}")])
            assert one["values"]["age"] == pytest.approx(float(saved.predict(X)[0, 0]), rel=1e-4)
    assert len(told["images"]) == 3
    assert "age" in cli("predict", tmp_path / "ages.probe", images / "test").stdout


@pytest.mark.parametrize("lie", ["shape", "nan", "checksum", "newer", "short"])
def test_probes_of_numbers_that_lie_are_refused(
    tmp_path: Path, features: Any, ages: Any, lie: str
) -> None:
    store = made_store(tmp_path / "s.h5", three_classes(N), X=features)
    path = tmp_path / "a.probe"
    table = table_of(tmp_path, {"age": ages})
    made = cli("probe", store, "--classifier", "ridge", "--targets", table, "--save", path)
    assert made.returncode == 0, made.stderr
    SavedRidge.load(path)
    if lie == "short":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        with h5py.File(path, "r+") as file:
            if lie == "shape":
                del file["intercept"]
                file["intercept"] = np.zeros(3)
            elif lie == "newer":
                file.attrs["format_version"] = 9
            else:
                file["coef"][0, 0] = np.nan if lie == "nan" else 7
    with pytest.raises(ProbeError, match=r"damaged|newer"):
        SavedRidge.load(path)


def test_options_of_classes_have_no_place_with_numbers(tmp_path: Path, features: Any) -> None:
    store = made_store(tmp_path / "s.h5", three_classes(N), X=features)
    for option in (["--train-per-class", "3"], ["--splits", "3"], ["-C", "1"]):
        refused = cli("probe", store, "--classifier", "ridge", *option)
        assert refused.returncode == 2, option
        assert "no effect" in refused.stderr
    assert cli("probe", store, "--standardize").returncode == 2


def test_labels_of_several_or_none_are_no_numbers(tmp_path: Path, features: Any) -> None:
    several = made_store(tmp_path / "m.h5", [("ape",), ("bee", "cat")] * (N // 2), X=features)
    with FeatureStore(several) as opened, pytest.raises(ProbeError, match="several labels"):
        numbers_of_labels(opened)
