"""RDMs are what SciPy, rsatoolbox and plain sums make of features, to the error that is stated."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from commands import cli
from PIL import Image
from scipy.spatial.distance import pdist, squareform
from sklearn.covariance import ledoit_wolf_shrinkage
from test_evaluation import CLASSES, make_store

from vggfeat.errors import LayerError, RepresentationError
from vggfeat.representations import crossnobis, rdm, read_rdms, save_rdms
from vggfeat.representations.covariance import shrinkage
from vggfeat.representations.crossnobis import drawn_folds
from vggfeat.representations.distances import (
    NEAR,
    condensed,
    condition_count,
    pairs_before,
    square,
    squared_distances,
)
from vggfeat.representations.measures import of_squared, prepared
from vggfeat.store import FeatureStore


def features(n: int = 45, d: int = 30, seed: int = 0):
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((n, d)) @ rng.standard_normal((d, d))
    return (mixed + 3).astype(np.float32)


def dissimilarities(X, measure, block=None, **options):
    made = of_squared(measure, X.shape[1])
    strips = squared_distances(prepared(X, measure, **options), block)
    return np.concatenate([condensed(made(strip)) for _, strip in strips])


def store(tmp_path: Path, X=None, layer="relu7", **options):
    X = features() if X is None else X
    return FeatureStore(make_store(tmp_path / "store.h5", {layer: X}, **options))


@pytest.mark.parametrize("block", [None, 7, 45])
@pytest.mark.parametrize("measure", ["correlation", "cosine", "euclidean"])
def test_distances_are_those_of_scipy(measure, block):
    X = features()
    expected = pdist(X.astype(np.float64), measure)
    assert dissimilarities(X, measure, block) == pytest.approx(expected, rel=1e-12, abs=1e-14)


def exact(X, measure):
    """Compute distances as their definitions say, with 64 bits of mantissa."""
    rows = X.astype(np.longdouble)
    if measure == "correlation":
        rows = rows - rows.mean(axis=1, keepdims=True)
    if measure != "euclidean":
        rows = rows / np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    first, second = np.triu_indices(len(rows), 1)
    squared = ((rows[first] - rows[second]) ** 2).sum(axis=1)
    return np.sqrt(squared) if measure == "euclidean" else squared / 2


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="long doubles are no longer here")
@pytest.mark.parametrize("measure", ["correlation", "cosine", "euclidean"])
def test_the_stated_error_holds_for_images_that_are_nearly_alike(tmp_path, measure):
    rng = np.random.default_rng(1)
    d = 512
    X = (100 + rng.standard_normal((8, d))).astype(np.float32)  # far from 0, near one another
    for k, size in enumerate([1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2]):
        near = X[k] * (1 + size * rng.standard_normal(d))
        X = np.vstack([X, near.astype(np.float32)])
    expected = exact(X, measure)
    with store(tmp_path, X) as opened:
        found = rdm(opened, measure=measure).values[0]
    bound = 2.0**-24 + 2 * (d + 4) * 2.0**-53 / NEAR
    assert found.dtype == np.float32
    assert expected.min() < 1e-5 * expected.max() or measure == "euclidean"
    assert np.abs(found / expected - 1).max() <= bound


def test_float32_sums_would_not_do(tmp_path):
    rng = np.random.default_rng(2)
    X = (1 + 1e-3 * rng.standard_normal((20, 300))).astype(np.float32)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    plain = 1 - (unit @ unit.T)[np.triu_indices(20, 1)]
    expected = pdist(X.astype(np.float64), "cosine")
    assert np.abs(plain / expected - 1).max() > 1e-2  # what is avoided
    assert dissimilarities(X, "cosine") == pytest.approx(expected, rel=1e-6)


def test_equal_images_are_at_0_and_order_does_not_matter():
    X = features(30)
    X[7] = X[21]
    for measure in ("correlation", "cosine", "euclidean", "squared-euclidean"):
        whole = square(dissimilarities(X, measure, block=8))
        assert whole[7, 21] == 0
        assert (whole >= 0).all()
        order = np.random.default_rng(0).permutation(30)
        again = square(dissimilarities(X[order], measure, block=8))
        assert again == pytest.approx(whole[np.ix_(order, order)], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("n", "d"), [(60, 20), (25, 70)])
def test_shrinkage_is_that_of_scikit_learn(n, d):
    R = features(n, d).astype(np.float64)
    R -= R.mean(axis=0)
    assert shrinkage(R) == pytest.approx(ledoit_wolf_shrinkage(R, assume_centered=True), rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [(60, 20), (25, 70)])
def test_mahalanobis_distances_are_their_formula(n, d):
    X = features(n, d).astype(np.float64)
    R = X - X.mean(axis=0)
    S, w = R.T @ R / n, shrinkage(R)
    covariance = ((1 - w) * S + w * np.trace(S) / d * np.eye(d)) * n / (n - 1)
    expected = pdist(X, "mahalanobis", VI=np.linalg.inv(covariance)) ** 2 / d
    assert dissimilarities(X, "mahalanobis") == pytest.approx(expected, rel=1e-9)


def test_rdms_are_those_of_rsatoolbox(tmp_path):
    toolbox = pytest.importorskip("rsatoolbox", reason="rsatoolbox is not installed")
    from rsatoolbox.data.noise import prec_from_residuals

    X = features(48)
    labels = [CLASSES[i % 3] for i in range(48)]
    data = toolbox.data.Dataset(X.astype(np.float64), obs_descriptors={"class": labels})
    with store(tmp_path, X) as opened:
        for ours, theirs in (("correlation", "correlation"), ("squared-euclidean", "euclidean")):
            expected = toolbox.rdm.calc_rdm(data, theirs).dissimilarities[0]
            assert rdm(opened, measure=ours).values[0] == pytest.approx(expected, rel=1e-6)
            expected = toolbox.rdm.calc_rdm(data, theirs, "class").dissimilarities[0]
            found = rdm(opened, measure=ours, by="class")
            assert found.names == CLASSES
            assert found.values[0] == pytest.approx(expected, rel=1e-6)
        wide = X.astype(np.float64)
        precision = prec_from_residuals(wide - wide.mean(axis=0), method="shrinkage_eye")
        expected = toolbox.rdm.calc_rdm(data, "mahalanobis", noise=precision).dissimilarities[0]
        assert rdm(opened, measure="mahalanobis").values[0] == pytest.approx(expected, rel=1e-6)
        classes = np.arange(48) % 3
        means = np.stack([wide[classes == k].mean(axis=0) for k in range(3)])
        residuals = wide - means[classes]
        precision = prec_from_residuals(residuals, dof=45, method="shrinkage_eye")
        expected = toolbox.rdm.calc_rdm(data, "mahalanobis", "class", precision).dissimilarities[0]
        found = rdm(opened, measure="mahalanobis", by="class").values[0]
        assert found == pytest.approx(expected, rel=1e-6)
        folds = drawn_folds(classes, 4, seed=5)
        data.obs_descriptors["fold"] = folds
        expected = toolbox.rdm.calc_rdm(
            data, "crossnobis", "class", precision, cv_descriptor="fold"
        ).dissimilarities[0]
        found = rdm(opened, measure="crossnobis", by="class", folds=4, seed=5).values[0]
        assert found == pytest.approx(expected, rel=1e-6)


def test_crossnobis_is_0_on_average_where_classes_do_not_differ():
    rng = np.random.default_rng(3)
    classes = np.arange(40) % 2
    found = np.array(
        [
            crossnobis(rng.standard_normal((40, 5)), classes, drawn_folds(classes, 2, k))[0]
            for k in range(200)
        ]
    )
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(len(found))
    assert (found < 0).any()


def test_rsatoolbox_reads_what_is_written(tmp_path):
    toolbox = pytest.importorskip("rsatoolbox", reason="rsatoolbox is not installed")
    X = {"pool5": features(20), "relu7": features(20, 12, seed=1)}
    path = make_store(tmp_path / "s.h5", X)
    with FeatureStore(path) as opened:
        save_rdms(opened, tmp_path / "rdms.h5")
        own = rdm(opened)
        save_rdms(opened, tmp_path / "square.h5", form="square", dtype=np.float64)
    for name in ("rdms.h5", "square.h5"):
        theirs = toolbox.rdm.load_rdm(str(tmp_path / name))
        assert theirs.dissimilarities == pytest.approx(own.values, rel=1e-6)
        assert theirs.dissimilarity_measure == "correlation"
        assert list(theirs.rdm_descriptors["layer"]) == ["pool5", "relu7"]
        assert list(theirs.pattern_descriptors["path"]) == [f"{i:05d}.jpg" for i in range(20)]
        assert list(theirs.pattern_descriptors["class"]) == [CLASSES[i % 3] for i in range(20)]
        again = read_rdms(tmp_path / name)
        assert again.names == own.names
        assert again.titles == own.titles
        assert (again.measure, again.by, again.classes) == ("correlation", "image", own.classes)
        assert again.values == pytest.approx(own.values, rel=1e-6)
    theirs.save(str(tmp_path / "theirs.h5"))
    assert read_rdms(tmp_path / "theirs.h5").names == own.names


def test_npy_files_hold_what_they_say_and_name_their_rows(tmp_path):
    X = {"pool5": features(20), "relu7": features(20, 12, seed=1)}
    with FeatureStore(make_store(tmp_path / "s.h5", X)) as opened:
        save_rdms(opened, tmp_path / "all.npy")
        save_rdms(opened, tmp_path / "one.npy", "relu7", form="square", by="class")
        own, classes = rdm(opened), rdm(opened, "relu7", by="class")
    assert np.load(tmp_path / "all.npy").tobytes() == own.values.tobytes()
    assert np.load(tmp_path / "one.npy").tolist() == classes.square().tolist()
    assert read_rdms(tmp_path / "all.npy").names == own.names
    assert read_rdms(tmp_path / "one.npy").names == CLASSES
    with (
        pytest.raises(RepresentationError, match="is there already"),
        FeatureStore(tmp_path / "s.h5") as opened,
    ):
        save_rdms(opened, tmp_path / "all.npy")


def test_a_file_that_could_not_be_finished_is_not_there(tmp_path):
    X = features(20)
    X[4] = 1  # no correlation
    with (
        store(tmp_path, X) as opened,
        pytest.raises(RepresentationError, match=r"All features of '00004.jpg' are equal"),
    ):
        save_rdms(opened, tmp_path / "rdms.npy")
    assert {one.name for one in tmp_path.iterdir()} == {"store.h5"}


def test_what_cannot_be_computed_is_refused_with_a_remedy(tmp_path):
    path = make_store(tmp_path / "damaged.h5", {"relu7": features(12)})
    with h5py.File(path, "r+") as file:
        file["features/relu7"][3, 2] = np.nan
    with FeatureStore(path) as opened:
        with pytest.raises(RepresentationError, match=r"not finite, of 1 images .*00003"):
            rdm(opened)
        with pytest.raises(RepresentationError, match="Known are correlation"):
            rdm(opened, measure="cosinus")
        with pytest.raises(RepresentationError, match="--by class"):
            rdm(opened, measure="crossnobis")
        with pytest.raises(LayerError):
            rdm(opened, "fc6")
    bare = make_store(tmp_path / "bare.h5", {"relu7": features(6)}, labels={})
    with (
        FeatureStore(bare) as opened,
        pytest.raises(RepresentationError, match="Take --by image"),
    ):
        rdm(opened, by="class")


def test_pairs_are_where_scipy_has_them():
    n = 9
    whole = np.arange(n * n).reshape(n, n)
    flat = squareform(whole + whole.T - 2 * np.diag(np.diag(whole)), checks=False)
    assert condition_count(len(flat)) == n
    assert condition_count(len(flat) + 1) is None
    assert square(flat).tolist() == squareform(flat).tolist()
    assert [pairs_before(k, n) for k in (0, 1, n - 1)] == [0, n - 1, len(flat)]


def test_the_command_writes_rdms_and_a_picture(tmp_path):
    X = {"pool5": features(24), "relu7": features(24, 12, seed=1)}
    path = make_store(tmp_path / "s.h5", X, failed=[5])
    picture = tmp_path / "rdms.png"
    done = cli("rdm", path, tmp_path / "rdms.h5", "--picture", picture, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["layers"] == ["pool5", "relu7"]
    assert (told["conditions"], told["shape"]) == (23, [253])
    with Image.open(picture) as image:
        assert image.width > 1000
    again = cli("rdm", path, tmp_path / "rdms.h5")
    assert again.returncode == 1
    assert "--overwrite" in again.stderr
    shown = cli("rdm", path, tmp_path / "c.npy", "--by", "class", "--layers", "relu7")
    assert shown.returncode == 0
    assert "correlation distances, float32" in shown.stdout
    assert cli("rdm", path, tmp_path / "rdms.txt").returncode == 1
