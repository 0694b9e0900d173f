"""Divisions: a table's own splits are taken, groups stay whole, copies across a split are said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from commands import cli
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from store_rows import Image, writer

from vggfeat import LinearProbe
from vggfeat.errors import ProbeError
from vggfeat.evaluation import compare, low_shot
from vggfeat.evaluation.layers.drawing import Draw
from vggfeat.labels import FixedLabels, LabelRequest, NamesRequest
from vggfeat.metrics import accuracy_interval, compare_answers, compare_rankings
from vggfeat.metrics.clusters import exchange_p, numbered
from vggfeat.norms import unit_length
from vggfeat.preprocessing import TORCHVISION
from vggfeat.probe import evaluate, stratified_split, train
from vggfeat.probe.division import divided
from vggfeat.probe.grouping import grouped_folds, grouped_split
from vggfeat.provenance import FeatureConfig, Provenance, RunInfo, now
from vggfeat.store import FeatureStore

D = 12


def made_store(
    path: Path,
    classes: Sequence[Any],
    splits: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    X: npt.NDArray[Any] | None = None,
    seed: int = 0,
    weights: str = "ab" * 32,
) -> Path:
    """Write a store of a layer whose classes are clusters; several an image are tuples."""
    count = len(classes)
    names = sorted({name for own in classes for name in ([own] if isinstance(own, str) else own)})
    rng = np.random.default_rng(seed)
    if X is None:
        X = rng.normal(size=(count, D))
        for row, own in enumerate(classes):
            for name in [own] if isinstance(own, str) else own:
                X[row, names.index(name)] += 2
    paths = [f"{seed}-{row:04d}.jpg" for row in range(count)]
    several = any(not isinstance(own, str) for own in classes)
    labels = {
        p: (own,) if isinstance(own, str) else tuple(own)
        for p, own in zip(paths, classes, strict=True)
    }
    wanted = LabelRequest(
        from_source=FixedLabels(labels, tuple(names), multi_label=True) if several else labels,
        splits=NamesRequest(
            from_source={p: s for p, s in zip(paths, splits, strict=True) if s} if splits else None,
            of_splits=True,
        ),
        groups=NamesRequest(
            from_source={p: g for p, g in zip(paths, groups, strict=True) if g} if groups else None
        ),
    )
    shapes: dict[str, tuple[int, ...]] = {"relu7": (D,)}
    provenance = Provenance(
        FeatureConfig("vgg16", weights, TORCHVISION.to_json(), "center", {"relu7": ""}),
        RunInfo("/photos", "random:0", "cpu", "float32", now()),
    )
    with writer(
        path, entries=[Image(p) for p in paths], labels=wanted, shapes=shapes, provenance=provenance
    ) as store:
        store.write(store.pending(), {"relu7": X.astype(np.float32)})
    return path


def three_classes(count: int = 90) -> list[str]:
    return [("ape", "bee", "cat")[row % 3] for row in range(count)]


def official(count: int = 90) -> list[str]:
    return ["train"] * (count // 2) + ["val"] * (count // 6) + ["test"] * (count // 3)


@pytest.mark.parametrize("classifier", ["svm", "logreg"])
def test_a_stores_own_splits_train_choose_and_test_as_scikit_learn_would(
    tmp_path: Path, classifier: Any
) -> None:
    path = made_store(tmp_path / "s.h5", three_classes(), official())
    with FeatureStore(path) as store:
        result = evaluate(store, "relu7", classifier=classifier)
        X, y = store.xy("relu7")
    X = unit_length(X.astype(np.float64))
    assert (result.n_train, result.n_test) == (60, 30)
    assert result.division is not None
    assert result.division.splits == ("train", "val", "test")
    learns, held = np.arange(45), np.arange(45, 60)

    def sklearn(C: float, rows: npt.NDArray[np.int64]) -> Any:
        if classifier == "svm":
            return LinearSVC(C=C, tol=1e-10, dual=True, max_iter=100_000).fit(X[rows], y[rows])
        return LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(X[rows], y[rows])

    # val chose C: it scores best there, of all that were tried
    probe = LinearProbe(classifier, validation=[(learns, held)]).fit(X[:60], y[:60])
    assert pytest.approx(result.C, rel=1e-5) == probe.C_  # type: ignore[arg-type]
    ours = probe.decision_function(X[60:])
    theirs = sklearn(probe.C_, np.arange(60)).decision_function(X[60:])
    if classifier == "logreg":  # equal up to a constant a row
        ours, theirs = (f - f.mean(axis=1, keepdims=True) for f in (ours, theirs))
    assert np.abs(ours - theirs).max() < 1e-3
    said = [p.predicted for p in result.predictions]  # type: ignore[union-attr]
    assert said == [("ape", "bee", "cat")[k] for k in theirs.argmax(axis=1)]


def test_an_official_split_of_several_labels_is_scored_on_its_test_part(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    classes = [tuple(n for n in ("ape", "bee", "cat") if rng.random() < 0.4) for _ in range(90)]
    path = made_store(tmp_path / "s.h5", classes, official())
    with FeatureStore(path) as store:
        result = evaluate(store, "relu7")
        X, y = store.xy("relu7")
    assert (result.n_train, result.n_test) == (60, 30)
    X = unit_length(X.astype(np.float64))
    for k, C in enumerate(result.C):  # type: ignore[arg-type]
        svm = LinearSVC(C=C, tol=1e-10, dual=True, max_iter=100_000).fit(X[:60], y[:60, k])
        ours = result.scores[:, k]  # type: ignore[union-attr]
        assert np.abs(svm.decision_function(X[60:]) - ours).max() < 1e-3


def test_shares_and_numbers_that_are_asked_for_draw_whatever_the_splits_say(tmp_path: Path) -> None:
    path = made_store(tmp_path / "s.h5", three_classes(), official())
    with FeatureStore(path) as store:
        assert evaluate(store, "relu7", test_size=0.5).n_test == 45
        assert evaluate(store, "relu7", train_per_class=10).n_train == 30
    told = json.loads(cli("probe", path, "--splits", 3, "--json").stdout)
    assert [one["n_test"] for one in told["splits"]] == [24, 24, 24]


def test_commands_say_that_they_went_by_the_splits(tmp_path: Path) -> None:
    path = made_store(tmp_path / "s.h5", three_classes(), official())
    quick = {"lowshot": ("--repeats", 2, "--shots", "1,2")}
    for verb in ("probe", "sweep", "knn", "lowshot"):
        result = cli(verb, path, *quick.get(verb, ()))
        assert result.returncode == 0, result.stderr
        assert "by the store's splits" in result.stdout, verb
        division = json.loads(cli(verb, path, "--json", *quick.get(verb, ())).stdout)["division"]
        assert (division["how"], division["splits"]) == ("splits", ["train", "val", "test"])
    assert "60 images vote, 30 are named" in cli("knn", path).stdout


def test_without_a_test_split_val_is_tested_on_and_others_are_left_out(tmp_path: Path) -> None:
    splits = ["train"] * 45 + ["val"] * 30 + ["extra"] * 15
    with FeatureStore(made_store(tmp_path / "s.h5", three_classes(), splits)) as store:
        result = evaluate(store, "relu7")
    assert result.division is not None
    assert result.division.splits == ("train", "val")
    assert (result.n_train, result.n_test, result.left_out.other_split) == (45, 30, 15)


def test_classes_of_one_split_alone_are_counted_out_or_never_tested(tmp_path: Path) -> None:
    classes = [*three_classes(60), "only trained", *three_classes(29), *(["only tested"] * 2)]
    splits = ["train"] * 61 + ["test"] * 31
    with FeatureStore(made_store(tmp_path / "s.h5", classes, splits)) as store:
        result = evaluate(store, "relu7")
    assert result.classes == ("ape", "bee", "cat", "only trained")
    assert (result.n_train, result.n_test, result.left_out.unseen) == (61, 29, 2)
    assert np.isfinite(result.mean_class_recall)  # type: ignore[union-attr]
    assert result.to_json()["recall"][-1] is None


def test_a_kept_probe_has_never_seen_the_test_split(tmp_path: Path) -> None:
    path = made_store(tmp_path / "s.h5", three_classes(), official())
    with FeatureStore(path) as store:
        scored = evaluate(store, "relu7")
        assert train(store, "relu7", held_out=scored).n_train == 60
        drawn = evaluate(store, "relu7", test_size=0.25)
        assert train(store, "relu7", held_out=drawn).n_train == 90


def test_another_store_can_be_tested_on(tmp_path: Path) -> None:
    first = made_store(tmp_path / "a.h5", three_classes(60))
    second = made_store(tmp_path / "b.h5", [*three_classes(30), "dog"], seed=1)
    told = json.loads(cli("probe", first, "--test", second, "--json").stdout)
    assert (told["n_train"], told["n_test"]) == (60, 30)
    assert (told["division"]["how"], told["division"]["test_store"]) == ("store", str(second))
    assert told["left_out"]["unseen"] == 1
    with FeatureStore(first) as one, FeatureStore(second) as other:
        X, y = one.xy("relu7")
        probe = LinearProbe(C=told["C"]).fit(X, y)
        X, y = other.xy("relu7")
        right = [other.classes[k] for k in y[:30]] == np.array(one.classes)[probe.predict(X[:30])]
    assert told["accuracy"] == pytest.approx(np.mean(right))
    assert "tested on" in cli("probe", first, "--test", second).stdout


def test_groups_of_one_name_in_both_stores_are_said(tmp_path: Path) -> None:
    groups = [f"p{row // 6}" for row in range(60)]
    first = made_store(tmp_path / "a.h5", three_classes(60), groups=groups)
    second = made_store(tmp_path / "b.h5", three_classes(30), groups=groups[:30], seed=1)
    assert "5 groups" in cli("probe", first, "--test", second).stderr
    table = tmp_path / "n.csv"
    lines = [
        f"{seed}-{row:04d}.jpg,{row % 7}" for seed, n in ((0, 60), (1, 30)) for row in range(n)
    ]
    table.write_text("\n".join(["path,age", *lines]))
    ridge = cli("probe", first, "--classifier", "ridge", "--targets", table, "--test", second)
    assert "5 groups" in ridge.stderr
    assert "intervals of the bootstrap over groups" in ridge.stdout


def test_a_store_that_was_made_otherwise_is_no_test(tmp_path: Path) -> None:
    first = made_store(tmp_path / "a.h5", three_classes(30))
    second = made_store(tmp_path / "b.h5", three_classes(30), weights="cd" * 32)
    refused = cli("probe", first, "--test", second)
    assert refused.returncode == 1
    assert "weights_sha256" in refused.stderr


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=30, max_size=80),
    st.sampled_from([0.1, 0.2, 0.25, 0.4, 0.5]),
    st.integers(0, 5),
)
def test_no_group_is_on_both_sides_and_every_class_is_learnt(
    rows: list[tuple[int, int]], share: float, seed: int
) -> None:
    y, groups = (np.array(column) for column in zip(*rows, strict=True))
    if len(np.unique(groups)) < 2:
        return
    try:
        first, second = grouped_split(y, groups, test_size=share, seed=seed)
    except ProbeError:
        # A class of one group may be learnt from in no division that tests anything.
        assert min(len(np.unique(groups[y == k])) for k in np.unique(y)) < 3
        return
    assert not set(groups[first]) & set(groups[second])
    assert set(y[first]) == set(y)
    assert sorted([*first, *second]) == list(range(len(y)))
    for learns, held in grouped_folds(y, groups, 3, seed=seed):
        assert not set(groups[learns]) & set(groups[held])


def test_groups_are_whole_in_every_division_and_in_the_choice_of_C(tmp_path: Path) -> None:
    groups = [f"p{row // 6}" for row in range(90)]
    path = made_store(tmp_path / "s.h5", three_classes(), groups=groups)
    with FeatureStore(path) as store:
        result = evaluate(store, "relu7")
        assert result.division is not None
        whole = result.division
        assert whole.groups is not None
        assert not set(whole.groups[whole.train]) & set(whole.groups[whole.test])
        assert result.test_groups is not None
        assert 0.15 < result.n_test / 90 < 0.35
        with pytest.raises(ProbeError, match=r"groups of .* apart"):
            evaluate(store, "relu7", train_per_class=5)
    assert "15 groups, none on both sides" in cli("probe", path).stdout
    assert "would let others of its group vote" in cli("knn", path, "--leave-one-out").stderr
    shots = json.loads(cli("lowshot", path, "--shots", "2", "--repeats", "2", "--json").stdout)
    assert shots["n_test"] <= 90 - 6


def test_a_test_part_of_one_group_is_refused_before_layers_are_compared(tmp_path: Path) -> None:
    groups = ["one patient" if row >= 60 else f"p{row}" for row in range(90)]
    path = made_store(tmp_path / "s.h5", three_classes(), official(), groups)
    other = made_store(tmp_path / "other.h5", three_classes(), official(), groups)
    with FeatureStore(path) as first, FeatureStore(other) as second:
        assert len(compare([first]).scores[0]) == 1, "a single layer is compared with none"
        done: list[str] = []
        with pytest.raises(ProbeError, match=r"of one group.*two groups or more"):
            compare([first, second], progress=lambda stage, *_: done.append(stage))
    assert not done


def test_few_shots_of_groups_say_what_is_left_to_test_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    classes = ["ape"] * 20 + ["bee"] * 20 + ["cat"] * 9
    groups = [*map(str, range(40)), *["x"] * 2, *["y"] * 7]
    with FeatureStore(made_store(tmp_path / "s.h5", classes, groups=groups)) as store:
        data, division = divided(store, "relu7")
        draws = [Draw.of(data.y, 2, (0, number), division) for number in range(6)]
        result = low_shot([store], shots=[2], classifiers=["mean"], repeats=6)
    sizes = [len(draw.test) for draw in draws]
    assert len(set(sizes)) > 1
    assert result.n_test == round(np.mean(sizes))
    lacking = sum(2 not in data.y[draw.test] for draw in draws)
    assert f"In {lacking} of 6 repetitions a class has no image left" in caplog.text


def test_stores_of_other_splits_or_groups_are_not_said_to_have_other_images(tmp_path: Path) -> None:
    more = ["train"] * 45 + ["extra"] * 15 + ["test"] * 30
    paths = [
        made_store(tmp_path / "official.h5", three_classes(), official()),
        made_store(tmp_path / "more.h5", three_classes(), more),
        made_store(tmp_path / "none.h5", three_classes()),
        made_store(tmp_path / "grouped.h5", three_classes(),
                   groups=["c" if row % 3 == 2 else str(row) for row in range(90)]),
    ]  # fmt: skip
    for one, other, why in (
        (0, 1, r"their splits differ: 15 images .*0045.jpg': val, extra\).*--split"),
        (1, 2, r"their splits differ: 15 images .*0045.jpg': extra, none\).*--split"),
        (2, 3, r"their groups differ: 30 images .*0002.jpg': none, c\).*--group-by"),
    ):
        with (
            FeatureStore(paths[one]) as first,
            FeatureStore(paths[other]) as second,
            pytest.raises(ProbeError, match=why),
        ):
            compare([first, second])
    with FeatureStore(paths[0]) as first, FeatureStore(paths[1]) as second:
        assert compare([first, second], test_size=0.5).n_test == 45


def test_splits_that_cut_a_group_apart_are_refused(tmp_path: Path) -> None:
    groups = [f"p{row // 6}" for row in range(90)]
    groups[88] = "p0"
    path = made_store(tmp_path / "s.h5", three_classes(), official(), groups)
    refused = cli("probe", path)
    assert refused.returncode == 1
    assert "'p0'" in refused.stderr
    assert "--test-size" in refused.stderr
    assert cli("probe", path, "--test-size", "0.25").returncode == 0


def test_the_same_image_on_both_sides_is_said_and_grouping_mends_the_score(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    X = np.repeat(rng.normal(size=(60, D)), 3, axis=0)  # labels are chance: only copies help
    X += rng.normal(size=X.shape) * 1e-3
    classes = np.repeat(rng.choice(["ape", "bee"], 60), 3).tolist()
    groups = [f"scene {row // 3}" for row in range(180)]
    apart = made_store(tmp_path / "apart.h5", classes, X=X)
    whole = made_store(tmp_path / "whole.h5", classes, groups=groups, X=X)
    scores, leaks = [], []
    for path in (apart, whole):
        told = json.loads(cli("probe", path, "--classifier", "svm", "--json").stdout)
        scores.append(told["accuracy"])
        leaks.append(told["leak"]["near_identical"] / told["n_test"])
    assert leaks[0] > 0.8
    assert leaks[1] == 0
    assert scores[0] > scores[1]
    warned = cli("probe", apart).stdout
    assert "near-identical" in warned
    assert "near-identical" in cli("probe", apart, "--splits", "2").stdout

    assert "--group-by" in warned
    assert "warning" not in cli("probe", whole).stdout


def test_near_copies_are_counted_among_the_images_that_were_compared(monkeypatch) -> None:
    from vggfeat.probe import leaks

    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 4))
    digests = np.zeros((3000, 16), np.uint8)
    digests[:, :2] = np.arange(3000, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    digests[:, 2] = 1
    paths = np.array([f"{i}.jpg" for i in range(3000)], object)
    monkeypatch.setattr(leaks, "_MOST_WORK", 1.0)  # as if there were very many
    found = leaks.find_leak(X, X, (paths, digests), (paths, digests))
    assert (found.looked_at, found.tested) == (1000, 3000)
    assert (found.near_identical, found.same_bytes) == (1000, 3000)


def test_a_number_of_training_images_that_some_class_lacks_is_refused(tmp_path: Path) -> None:
    classes = ["ape"] * 20 + ["bee"] * 5
    path = made_store(tmp_path / "s.h5", classes)
    for verb in ("probe", "sweep", "knn"):
        refused = cli(verb, path, "--train-per-class", 5)
        assert refused.returncode == 1, verb
        assert "1 of 2 classes" in refused.stderr
        assert "at most 4" in refused.stderr
    with pytest.raises(ProbeError, match="at most 4"):
        stratified_split(np.array(classes), train_per_class=7)
    assert cli("probe", path, "--train-per-class", 4).returncode == 0


def test_exchanging_images_one_by_one_is_mcnemars_exact_test() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=14)
    first, second = (np.where(rng.random(14) < 0.6, y, 3) for _ in range(2))
    exact = compare_answers(y, first, second)
    assert compare_answers(y, first, second, np.arange(14)).p == pytest.approx(exact.p)


def test_images_that_come_in_groups_are_worth_less() -> None:
    rng = np.random.default_rng(1)
    right = np.repeat(rng.random(20) < 0.7, 10)  # a group is right or wrong as a whole
    y, said = np.ones(200), np.where(right, 1, 0)
    groups = np.repeat(np.arange(20), 10)
    alone, together = accuracy_interval(y, said), accuracy_interval(y, said, groups=groups)
    assert alone.value == together.value
    assert together.high - together.low > 2 * (alone.high - alone.low)
    differences = np.where(np.repeat(np.arange(20) < 12, 10), 1, -1)
    assert exchange_p(differences, numbered(groups, 200)) > 0.3
    assert exchange_p(differences, np.arange(200)) < 0.01
    scores = np.where(right, 0.9, 0.1)[:, None]
    labels = np.tile([1.0, 0.0], 100)[:, None]
    one = compare_rankings(labels, scores, scores[::-1], groups=groups)
    assert one.samples > 900
    with pytest.raises(ProbeError, match="of one group"):
        accuracy_interval(y, said, groups=np.zeros(200))


def test_scores_of_classes_are_scikit_learns(tmp_path: Path) -> None:
    from sklearn.metrics import f1_score, precision_recall_fscore_support

    rng = np.random.default_rng(7)
    X = rng.normal(size=(120, D))
    with FeatureStore(made_store(tmp_path / "s.h5", three_classes(120), X=X)) as store:
        result = evaluate(store, "relu7")
    true, said = zip(*((p.true, p.predicted) for p in result.predictions), strict=True)  # type: ignore[union-attr]
    theirs = precision_recall_fscore_support(true, said, zero_division=0)
    told = result.to_json()
    for name, values in zip(("precision", "recall", "f1", "support"), theirs, strict=True):
        assert told[name] == pytest.approx(values.tolist()), name
    assert told["macro_f1"] == pytest.approx(f1_score(true, said, average="macro"))
    assert told["accuracy"] == pytest.approx(f1_score(true, said, average="micro"))

    classes = [tuple(n for n in ("ape", "bee", "cat") if rng.random() < 0.4) for _ in range(120)]
    with FeatureStore(made_store(tmp_path / "m.h5", classes, seed=2)) as store:
        several = evaluate(store, "relu7")
    said_ = several.scores > 0  # type: ignore[union-attr]
    told = several.to_json()
    for name in ("macro", "micro"):
        assert told[f"{name}_f1"] == pytest.approx(f1_score(several.y, said_, average=name))  # type: ignore[union-attr]
