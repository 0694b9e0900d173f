"""Promises of the linear probe: honest scores, choices that repeat, files that can be trusted."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from vggfeat.errors import LayerError, ProbeError, StoreError, StoreMismatchError
from vggfeat.preprocessing import TORCHVISION
from vggfeat.probe import LinearProbe, SavedProbe, evaluate, stratified_split, train
from vggfeat.provenance import FeatureConfig, Provenance, RunInfo, now
from vggfeat.store import FeatureStore, StoreWriter

PROVENANCE = Provenance(
    FeatureConfig(
        "vgg16", "ab" * 32, TORCHVISION.to_json(), "center", {"relu7": "", "pool5": "none"}
    ),
    RunInfo("/photos", "random:0", "cpu", "float32", now()),
)


def blobs(
    sizes: tuple[int, ...], d: int = 8, spread: float = 0.3
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Draw rows around one centre a class."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(len(sizes)), sizes)
    centres = rng.normal(size=(len(sizes), d))
    return np.float32(centres[y] + spread * rng.normal(size=(len(y), d))), y


def make_store(
    path: Path,
    X: npt.NDArray[np.float32],
    labels: Mapping[int, tuple[str, ...]],
    pending: tuple[int, ...] = (),
    failed: tuple[int, ...] = (),
) -> Path:
    """Write a store with `X` as relu7 and maps of the same numbers as pool5."""
    maps = X.reshape(len(X), 2, 2, -1)
    entries = [SimpleNamespace(path=f"{i:04d}.jpg", size=1, mtime_ns=1) for i in range(len(X))]
    with StoreWriter.open(
        path,
        entries=entries,
        shapes={"relu7": X.shape[1:], "pool5": maps.shape[1:]},
        provenance=PROVENANCE,
        labels={entries[i].path: names for i, names in labels.items()},
    ) as writer:
        rows = np.array([i for i in range(len(X)) if i not in (*pending, *failed)])
        writer.write(rows, {"relu7": X[rows], "pool5": maps[rows]})
        for row in failed:
            writer.fail(row, "truncated")
    return path


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """Make a store of three classes in uneven numbers, its rows shuffled."""
    X, y = blobs((40, 20, 12))
    order = np.random.default_rng(1).permutation(len(y))
    names = np.array(["ant", "bee", "cat"])[y[order]]
    return make_store(
        tmp_path / "s.h5", X[order], {i: (str(name),) for i, name in enumerate(names)}
    )


# The classifier


@parametrize_with_checks([LinearProbe(), LinearProbe("logreg"), LinearProbe(C=1, normalize=False)])
def test_it_is_a_scikit_learn_classifier(estimator, check):
    check(estimator)


def test_it_is_the_svm_of_scikit_learn_on_rows_of_length_one():
    X, y = blobs((30, 30, 30), spread=1)
    unit = X / np.linalg.norm(X.astype(float), axis=1, keepdims=True)
    expected = LinearSVC(C=2.0, dual="auto", tol=1e-9, max_iter=100_000).fit(unit, y)
    ours = LinearProbe(C=2.0).fit(X, y)
    np.testing.assert_allclose(ours.coef_, expected.coef_, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ours.predict(X), expected.predict(unit))


def test_real_digits_are_told_apart_and_the_choice_of_c_repeats():
    X, y = load_digits(return_X_y=True)
    train_rows, test_rows = stratified_split(y, seed=3)
    first, second = (
        LinearProbe(random_state=1).fit(X[train_rows], y[train_rows]) for _ in range(2)
    )
    assert first.score(X[test_rows], y[test_rows]) > 0.93
    assert first.C_ == second.C_
    np.testing.assert_array_equal(first.coef_, second.coef_)


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**-10, 8.0, 2.0**60])
def test_the_unit_of_features_changes_nothing_when_normalised(scale):
    X, y = blobs((10, 10), spread=1)
    one, other = LinearProbe().fit(X, y), LinearProbe().fit(X * scale, y)
    assert one.C_ == other.C_
    np.testing.assert_array_equal(one.coef_, other.coef_)


@pytest.mark.parametrize("scale", [1e-3, 30.0])
def test_the_choice_of_c_follows_the_unit_of_features_otherwise(scale):
    X, y = blobs((20, 20, 20), spread=1)
    one, other = (LinearProbe(normalize=False).fit(X * unit, y) for unit in (1, scale))
    np.testing.assert_allclose(other.C_, one.C_ / scale**2, rtol=1e-4)
    np.testing.assert_array_equal(one.predict(X), other.predict(X * scale))


def test_rows_of_zeros_are_classified_without_nan():
    X, y = blobs((10, 10))
    X[3] = 0
    for classifier in ("svm", "logreg"):
        assert np.isfinite(LinearProbe(classifier).fit(X, y).decision_function(X)).all()


def test_nan_is_refused():
    X, y = blobs((5, 5))
    probe = LinearProbe(C=1).fit(X, y)
    X[2, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        LinearProbe().fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        probe.predict(X)


@pytest.mark.parametrize("sizes", [(1, 1), (1, 1, 1), (1, 9), (2, 1, 1)])
def test_classes_of_one_image_can_still_be_learnt(sizes):
    X, y = blobs(sizes, spread=0.01)
    np.testing.assert_array_equal(LinearProbe().fit(X, y).predict(X), y)


def test_one_class_is_an_error_that_names_it():
    with pytest.raises(ProbeError, match=r"two classes or more.*'cat'"):
        LinearProbe().fit(np.eye(3), ["cat"] * 3)


@pytest.mark.parametrize("wrong", [{"classifier": "tree"}, {"C": 0}, {"C": -1}, {"C": "big"}])
def test_wrong_parameters_are_named(wrong):
    X, y = blobs((5, 5))
    with pytest.raises(ProbeError, match=str(next(iter(wrong.values())))):
        LinearProbe(**wrong).fit(X, y)


def test_only_logistic_regression_has_probabilities():
    assert not hasattr(LinearProbe(), "predict_proba")
    for sizes in ((9, 9), (9, 9, 9)):
        X, y = blobs(sizes, spread=1)
        probe = LinearProbe("logreg").fit(X, y)
        probabilities = probe.predict_proba(X)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        np.testing.assert_array_equal(
            probe.classes_[probabilities.argmax(axis=1)], probe.predict(X)
        )


def test_a_solver_that_did_not_settle_is_reported_with_the_remedy(caplog):
    X, y = blobs((30, 30, 30), spread=3)
    LinearProbe("logreg", C=1e6, max_iter=2).fit(X, y)
    assert "raise max_iter" in caplog.text


# The split


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=6),
    st.floats(0.01, 0.99),
    st.one_of(st.none(), st.integers(1, 15)),
    st.integers(0, 99),
)
def test_every_class_of_two_is_in_both_parts(sizes, share, per_class, seed):
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    if per_class and min(sizes) <= per_class:
        with pytest.raises(ProbeError, match="Take at most"):
            stratified_split(y, train_per_class=per_class)
        return
    one, two = stratified_split(y, test_size=share, train_per_class=per_class, seed=seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([one, two])), np.arange(len(y)))
    for k, size in enumerate(sizes):
        n_train = int((y[one] == k).sum())
        assert n_train == 1 if size == 1 else 1 <= n_train < size
        if per_class:
            assert n_train == per_class
    again = stratified_split(y, test_size=share, train_per_class=per_class, seed=seed)
    np.testing.assert_array_equal(again[1], two)


@pytest.mark.parametrize("wrong", [{"test_size": 0}, {"test_size": 1.5}, {"train_per_class": 0}])
def test_an_impossible_split_is_refused(wrong):
    with pytest.raises(ProbeError, match="give"):
        stratified_split([0, 0, 1, 1], **wrong)


# On a store


def test_a_score_adds_up(store_path):
    with FeatureStore(store_path) as store:
        result = evaluate(store, "relu7", seed=2)
    assert result.layer == "relu7"
    assert result.classes == ("ant", "bee", "cat")
    assert (result.n_train, result.n_test) == (54, 18)
    np.testing.assert_array_equal(result.confusion.sum(axis=1), [10, 5, 3])
    right = [p.true == p.predicted for p in result.predictions]
    assert result.accuracy == np.mean(right)
    assert result.mean_class_recall == pytest.approx(
        np.mean([result.confusion[k, k] / n for k, n in enumerate((10, 5, 3))])
    )
    assert result.majority == pytest.approx(10 / 18)
    assert result.chance == pytest.approx(1 / 3)
    assert len(result.mistakes) == 18 - sum(right)
    assert json.loads(json.dumps(result.to_json(predictions=True), allow_nan=False))


def test_the_most_confident_mistake_comes_first(tmp_path):
    X, y = blobs((40, 40, 40), spread=2)
    path = make_store(tmp_path / "s.h5", X, {i: (f"c{k}",) for i, k in enumerate(y)})
    with FeatureStore(path) as store:
        result = evaluate(store, "relu7")
    margins = [mistake.margin for mistake in result.mistakes]
    assert len(margins) > 3
    assert margins == sorted(margins, reverse=True)
    assert min(margins) >= 0


def test_the_test_part_decides_nothing(tmp_path):
    X, y = blobs((30, 30), spread=1)
    labels = {i: (f"c{k}",) for i, k in enumerate(y)}
    with FeatureStore(make_store(tmp_path / "a.h5", X, labels)) as store:
        before = evaluate(store, "relu7")
    tested = [int(p.path[:4]) for p in before.predictions]
    X[tested] = np.random.default_rng(5).normal(size=(len(tested), X.shape[1]))
    with FeatureStore(make_store(tmp_path / "b.h5", X, labels)) as store:
        after = evaluate(store, "relu7")
    assert after.C == before.C
    assert [p.path for p in after.predictions] == [p.path for p in before.predictions]
    assert after.accuracy < before.accuracy


def test_rows_without_features_labels_or_company_are_left_out_and_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    X, y = blobs((10, 10, 1))
    labels = {i: (("ant", "bee", "lone")[k],) for i, k in enumerate(y) if i != 4}
    path = make_store(tmp_path / "s.h5", X, labels, pending=(0, 19), failed=(7,))
    with FeatureStore(path) as store:
        result = evaluate(store, "relu7")
        saved = train(store, "relu7")
    assert (result.left_out.not_done, result.left_out.unlabelled, result.left_out.alone) == (
        3,
        1,
        1,
    )
    assert result.n_train + result.n_test == 21 - 5
    assert saved.classes == result.classes == ("ant", "bee")
    assert saved.n_train == 16
    assert "'lone'" in caplog.text


def test_maps_are_read_as_vectors_and_aliases_are_understood(store_path):
    with FeatureStore(store_path) as store:
        vectors, maps = evaluate(store, "classifier.4"), evaluate(store, "pool5")
        assert (vectors.layer, maps.layer) == ("relu7", "pool5")
        np.testing.assert_array_equal(vectors.confusion, maps.confusion)
        with pytest.raises(LayerError, match="fc8"):
            evaluate(store, "fc8")


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({}, "sub-folder a class.*--labels FILE"),
        (dict.fromkeys(range(8), ("ant",)), "only 'ant'"),
        ({0: ("ant",), 1: ("bee",)}, "none among its 2 done and labelled"),
        ({0: ("ant", "bee"), 1: ("bee",)}, "at least two classes that some images show"),
    ],
)
def test_a_store_that_cannot_train_says_why(tmp_path, labels, reason):
    X, _ = blobs((4, 4))
    with (
        FeatureStore(make_store(tmp_path / "s.h5", X, labels)) as store,
        pytest.raises(ProbeError, match=reason),
    ):
        evaluate(store, "relu7")


def test_damaged_features_are_refused_by_path(store_path):
    with h5py.File(store_path, "r+") as file:
        file["features/relu7"][5, 2] = np.nan
    with FeatureStore(store_path) as store, pytest.raises(ProbeError, match=r"'0005.jpg'.*verify"):
        train(store, "relu7")


# On disk


@pytest.fixture
def saved(store_path: Path) -> SavedProbe:
    """Train a probe on the store, with its score."""
    with FeatureStore(store_path) as store:
        return train(store, "relu7", held_out=evaluate(store, "relu7"))


@pytest.mark.parametrize("classifier", ["svm", "logreg"])
@pytest.mark.parametrize("sizes", [(6, 6), (6, 6, 6)])
def test_a_loaded_probe_decides_the_same_to_the_last_bit(tmp_path, classifier, sizes):
    X, y = blobs(sizes, spread=1)
    path = make_store(tmp_path / "s.h5", X, {i: (f"käfer {k}",) for i, k in enumerate(y)})
    with FeatureStore(path) as store:
        saved = train(store, "relu7", classifier=classifier)
    saved.save(tmp_path / "p.probe")
    loaded = SavedProbe.load(tmp_path / "p.probe")
    names, scores = loaded.predict(X)
    np.testing.assert_array_equal(names, saved.predict(X)[0])
    assert scores.tobytes() == saved.predict(X)[1].tobytes()
    assert scores.shape == (len(X), len(sizes))
    assert set(names) <= {f"käfer {k}" for k in y}
    assert (names == [f"käfer {k}" for k in y]).mean() > 0.8
    assert loaded.probe.C_ == saved.probe.C_
    assert len(loaded.predict(X[:0])[0]) == 0


def test_a_probe_carries_its_score_and_where_it_comes_from(saved, tmp_path):
    saved.save(tmp_path / "p.probe")
    loaded = SavedProbe.load(tmp_path / "p.probe")
    assert loaded.held_out == saved.held_out
    assert loaded.held_out["C"] == loaded.probe.C_
    assert loaded.provenance.config.layers == {"relu7": ""}
    assert loaded.n_train == 72
    with h5py.File(tmp_path / "p.probe") as file:  # plain h5py reads it
        assert file.attrs["format"] == "vggfeat-probe"
        assert file["coef"].shape == (3, 8)
        assert list(file["classes"].asstr()[:]) == ["ant", "bee", "cat"]


def test_a_score_of_something_else_is_not_kept(store_path):
    with FeatureStore(store_path) as store:
        score = evaluate(store, "relu7", classifier="logreg")
        with pytest.raises(ProbeError, match=r"logreg.*svm"):
            train(store, "relu7", held_out=score)


def test_features_made_in_another_way_are_refused_by_field(saved):
    config = PROVENANCE.config
    saved.check(config)
    other = FeatureConfig(**{**config.to_json(), "view": "squash", "scales": ()})
    with pytest.raises(StoreMismatchError, match="view: 'center', not 'squash'"):
        saved.check(other)
    with pytest.raises(StoreMismatchError, match="probe is of relu7, and only pool5"):
        saved.check(config.for_layer("pool5"))


def test_wrong_queries_are_refused_with_both_shapes(saved):
    with pytest.raises(ProbeError, match=r"\(2, 7\).*\(n, 8\)"):
        saved.predict(np.zeros((2, 7)))
    with pytest.raises(ProbeError, match=r"NaN.*row 1"):
        saved.predict(np.array([[0.0] * 8, [np.nan] * 8]))


@pytest.mark.parametrize(
    "damage", ["flip", "cut", "coef", "attribute", "newer", "foreign", "empty"]
)
def test_a_damaged_or_foreign_file_is_refused_with_a_remedy(saved, tmp_path, damage):
    path = tmp_path / "p.probe"
    saved.save(path)
    if damage == "flip":
        content = bytearray(path.read_bytes())
        at = content.find(saved.probe.coef_.tobytes())
        content[at + 20] ^= 1
        path.write_bytes(content)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-300])
    elif damage == "foreign":
        path.write_bytes(b"\xff\xd8\xff a photo")
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        with h5py.File(path, "r+") as file:
            if damage == "coef":
                del file["coef"]
            elif damage == "attribute":
                file.attrs["C"] = 3.0
            else:
                file.attrs["format_version"] = 99
    remedy = "Upgrade" if damage == "newer" else r"Copy it again|--save PROBE"
    with pytest.raises(ProbeError, match=remedy):
        SavedProbe.load(path)
    with pytest.raises(ProbeError, match="not a file"):
        SavedProbe.load(tmp_path / "missing")


def test_saving_replaces_a_probe_but_no_other_file(saved, tmp_path):
    saved.save(tmp_path / "p.probe")
    saved.save(tmp_path / "p.probe")
    (tmp_path / "photo.jpg").write_bytes(b"a photo")
    for other in ("photo.jpg", "s.h5"):
        before = (tmp_path / other).read_bytes()
        with pytest.raises(ProbeError, match="it stays"):
            saved.save(tmp_path / other)
        assert (tmp_path / other).read_bytes() == before
    with pytest.raises(StoreError, match="does not exist"):
        saved.save(tmp_path / "nowhere" / "p.probe")


def test_a_failure_while_saving_leaves_the_old_probe(saved, tmp_path):
    path = tmp_path / "p.probe"
    saved.save(path)
    before = path.read_bytes()
    broken = SavedProbe(
        saved.probe, ("a\0", "b", "c"), "relu7", saved.provenance, 1, {"x": object()}
    )
    with pytest.raises(TypeError):
        broken.save(path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.probe", "s.h5"]


def test_probing_needs_no_torch():
    code = "import sys, vggfeat.probe; sys.exit('torch' in sys.modules or 'faiss' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
