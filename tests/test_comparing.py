"""Layers, stores and RDMs of others are compared image by image, never by position."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import store_rows
from commands import cli
from PIL import Image
from scipy.io import savemat
from scipy.spatial.distance import pdist, squareform

from vggfeat.errors import RepresentationError
from vggfeat.labels import LabelRequest, NamesRequest
from vggfeat.representations import (
    compare,
    compare_to,
    linear_cka,
    rbf_cka,
    rdm,
    read_rdms,
    rsa,
)
from vggfeat.store import FeatureStore, StoreWriter

N = 24


def rows(seed: int, d: int = 10, n: int = N):
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(99).standard_normal((n, d))
    return (shared + rng.standard_normal((n, d))).astype(np.float32)


def make(path: Path, layers, names=None, digests=None, **options) -> Path:
    """Write a store whose image of a name has the row of its place in `names`."""
    count = len(next(iter(layers.values())))
    names = [f"{k:03d}.jpg" for k in range(count)] if names is None else names
    digests = digests or {}
    entries = sorted(
        (store_rows.Image(name, digest=digests.get(name, b"")) for name in names),
        key=lambda one: one.path,
    )
    place = {name: k for k, name in enumerate(names)}
    given = {"labels": {name: ("ab"[place[name] % 2],) for name in names}} | options
    with StoreWriter.open(
        path,
        entries=entries,
        shapes={layer: X.shape[1:] for layer, X in layers.items()},
        provenance=store_rows.made(layers=dict.fromkeys(layers, "avg")),
        **given,
    ) as writer:
        for row in writer.pending():
            k = place[writer.entry_path(row)]
            one = {layer: X[k : k + 1] for layer, X in layers.items()}
            writer.write([row], one, {row: entries[row]} if digests else None)
    return path


@pytest.fixture
def stores(tmp_path):
    a = make(tmp_path / "a.h5", {"pool5": rows(0), "relu7": rows(1, 40)})
    names = [f"{k:03d}.jpg" for k in range(N)]
    # The same images under the same paths, which come in another order of rows.
    order = np.random.default_rng(5).permutation(N)
    first = [names[k] for k in order[:10]]
    b = tmp_path / "b.h5"
    X = rows(2)
    for part in (first, names):
        with StoreWriter.open(
            b,
            entries=[store_rows.Image(name) for name in sorted(part)],
            shapes={"relu7": X.shape[1:]},
            provenance=store_rows.made(layers={"relu7": ""}),
            labels={},
        ) as writer:
            for row in writer.pending():
                writer.write([row], {"relu7": X[[names.index(writer.entry_path(row))]]})
    with FeatureStore(b) as opened:
        assert opened.paths.tolist() != names
    return a, b


def test_layers_of_stores_are_matched_by_path(stores):
    a, b = stores
    with FeatureStore(a) as one, FeatureStore(b) as other:
        found = compare([one, other])
        rbf = compare([one, other], similarity="rbf-cka", debiased=False)
        ranks = compare([one, other], similarity="spearman", dissimilarity="euclidean")
    assert [(t.source, t.layer) for t in found.titles] == [
        (0, "pool5"), (0, "relu7"), (1, "relu7")
    ]  # fmt: skip
    X = [rows(0), rows(1, 40), rows(2)]
    for i in range(3):
        for j in range(3):
            assert found.values[i, j] == pytest.approx(linear_cka(X[i], X[j]), abs=1e-6)
            assert rbf.values[i, j] == pytest.approx(rbf_cka(X[i], X[j], debiased=False), abs=1e-6)
            expected = rsa(pdist(X[i]), pdist(X[j]))
            assert ranks.values[i, j] == pytest.approx(expected, abs=1e-6)
    assert json.dumps(found.to_json(), allow_nan=False)


def test_stores_of_other_images_are_refused_or_intersected_by_request(tmp_path):
    a = make(tmp_path / "a.h5", {"relu7": rows(0)})
    names = [f"{k:03d}.jpg" for k in range(4, N)] + ["x.jpg"]
    X = np.vstack([rows(1)[4:], np.ones((1, 10))]).astype(np.float32)
    b = make(tmp_path / "b.h5", {"relu7": X}, names)
    with FeatureStore(a) as one, FeatureStore(b) as other:
        with pytest.raises(RepresentationError, match=r"24, 4 of .*21, 1 of .*--common"):
            compare([one, other])
        found = compare([one, other], common=True)
    assert found.images == 20
    assert [s.left_out for s in found.sources] == [4, 1]
    assert found.values[0, 1] == pytest.approx(linear_cka(rows(0)[4:], rows(1)[4:]), abs=1e-6)
    done = cli("compare", a, b)
    assert done.returncode == 1
    assert "--common" in done.stderr
    done = cli("compare", a, b, "--common")
    assert "4 left out that others lack" in done.stdout


def test_other_images_under_the_same_paths_are_refused(tmp_path):
    names = [f"{k:03d}.jpg" for k in range(N)]
    same = {name: bytes([k + 1] * 16) for k, name in enumerate(names)}
    a = make(tmp_path / "a.h5", {"relu7": rows(0)}, digests=same)
    b = make(tmp_path / "b.h5", {"relu7": rows(1)}, digests=same | {names[3]: bytes([99] * 16)})
    with (
        FeatureStore(a) as one,
        FeatureStore(b) as other,
        pytest.raises(RepresentationError, match=r"different images under one path.*'003.jpg'"),
    ):
        compare([one, other])


def test_rdms_without_names_are_refused_but_by_request(tmp_path):
    a = make(tmp_path / "a.h5", {"relu7": rows(0)})
    X = rows(1)
    np.save(tmp_path / "rdm.npy", squareform(pdist(X)))
    given = read_rdms(tmp_path / "rdm.npy")
    with FeatureStore(a) as one:
        with pytest.raises(RepresentationError, match="--same-order"):
            compare([one, given], similarity="spearman")
        found = compare(
            [one, given], similarity="spearman", dissimilarity="euclidean", same_order=True
        )
        np.save(tmp_path / "less.npy", squareform(pdist(X[1:])))
        with pytest.raises(RepresentationError, match="nobody knows which are which"):
            compare([one, read_rdms(tmp_path / "less.npy")], similarity="pearson", same_order=True)
        with pytest.raises(RepresentationError, match="CKA compares features"):
            compare([one, given], same_order=True)
    assert found.values[0, 1] == pytest.approx(rsa(pdist(rows(0)), pdist(X)), abs=1e-6)


def test_rdms_with_names_are_matched_in_any_order(tmp_path):
    a = make(tmp_path / "a.h5", {"relu7": rows(0)})
    X, order = rows(1), np.random.default_rng(3).permutation(N)
    names = [f"{k:03d}.jpg" for k in order]
    whole = squareform(pdist(X[order]))
    lines = [",".join(["", *names])]
    lines += [
        ",".join([name, *map(repr, row.tolist())]) for name, row in zip(names, whole, strict=True)
    ]
    (tmp_path / "rdm.csv").write_text("\n".join(lines))
    np.save(tmp_path / "rdm.npy", whole)
    (tmp_path / "rdm.npy.paths.csv").write_text("path\n" + "\n".join(names))
    expected = rsa(pdist(rows(0)), pdist(X))
    for name in ("rdm.csv", "rdm.npy"):
        with FeatureStore(a) as one:
            given = read_rdms(tmp_path / name)
            found = compare([one, given], similarity="spearman", dissimilarity="euclidean")
        assert found.values[0, 1] == pytest.approx(expected, abs=1e-6), name


def test_class_means_are_matched_by_class(tmp_path):
    names = [f"{k:03d}.jpg" for k in range(N)]
    labels = {name: ("abcd"[k % 4],) for k, name in enumerate(names)}
    a = make(tmp_path / "a.h5", {"relu7": rows(0)}, labels=labels)
    table = squareform([1.0, 2, 3, 4, 5, 6])[::-1, ::-1]
    lines = ["d,c,b,a"] + [",".join(map(str, row)) for row in table]
    (tmp_path / "rdm.csv").write_text("\n".join(lines))
    with FeatureStore(a) as one:
        given = read_rdms(tmp_path / "rdm.csv")
        found = compare([one, given], similarity="pearson", by="class")
        expected = rsa(rdm(one, by="class", dtype=float).values[0], [1.0, 2, 3, 4, 5, 6], "pearson")
    assert found.values[0, 1] == pytest.approx(expected, abs=1e-9)


def test_three_classes_have_scores_but_too_few_samples_for_intervals(tmp_path):
    names = [f"{k:03d}.jpg" for k in range(N)]
    labels = {name: ("abc"[k % 3],) for k, name in enumerate(names)}
    a = make(tmp_path / "a.h5", {"relu7": rows(0)}, labels=labels)
    (tmp_path / "rdm.csv").write_text("a,b,c\n0,1,2\n1,0,3\n2,3,0\n")
    with FeatureStore(a) as one:
        given = read_rdms(tmp_path / "rdm.csv")
        found = compare_to([one], given, by="class", bootstrap=10, permutations=5).layers[0]
        expected = compare([one, given], similarity="spearman", by="class").values[0, 1]
    assert found.value == pytest.approx(expected)
    assert np.isnan([found.low, found.high]).all()


def test_batches_and_samples_of_images_are_said(tmp_path):
    a = make(tmp_path / "a.h5", {"pool5": rows(0), "relu7": rows(1)})
    with FeatureStore(a) as one:
        whole, parts = compare([one]), compare([one], batch=8)
        sample = compare([one], max_images=12)
        with pytest.raises(RepresentationError, match="depends on the size of batches"):
            compare([one], batch=8, debiased=False)
        with pytest.raises(RepresentationError, match="--batch is for CKA"):
            compare([one], batch=8, similarity="tau-a")
    assert parts.settings["batch"] == 8
    assert parts.values[0, 1] == pytest.approx(whole.values[0, 1], abs=0.35)
    assert sample.images == 12
    assert [(s.conditions, s.left_out) for s in sample.sources] == [(N, 0)]


def test_intervals_hold_the_value_and_narrow_with_more_images(tmp_path):
    a = make(tmp_path / "a.h5", {"pool5": rows(0), "relu7": rows(1)})
    b = make(tmp_path / "b.h5", {"pool5": rows(0, n=96), "relu7": rows(1, n=96)})
    widths = []
    for path in (a, b):
        with FeatureStore(path) as one:
            found = compare([one], bootstrap=100)
        assert found.low[0, 1] < found.values[0, 1] < found.high[0, 1]
        widths.append(found.high[0, 1] - found.low[0, 1])
    assert widths[1] < widths[0]


def subjects(path: Path, count: int = 5) -> Path:
    """Write RDMs of subjects who see what relu7 sees, as MATLAB's users stack them."""
    rng = np.random.default_rng(7)
    shared = rows(1)
    each = [squareform(pdist(shared + 0.7 * rng.standard_normal(shared.shape)))
            for _ in range(count)]  # fmt: skip
    savemat(path, {"rdms": np.moveaxis(np.array(each), 0, 2)})
    return path


def test_the_right_layer_is_found_beneath_the_ceiling(tmp_path):
    a = make(tmp_path / "a.h5", {"pool5": rows(0), "relu7": rows(1), "conv5_3": rows(3)})
    target = read_rdms(subjects(tmp_path / "s.mat"))
    assert target.titles == tuple(f"rdms {k}" for k in range(1, 6))
    with FeatureStore(a) as one:
        found = compare_to(
            [one], target, dissimilarity="euclidean", same_order=True, bootstrap=60,
            permutations=99,
        )  # fmt: skip
    best = found.layers[found.best]
    assert best.title.layer == "relu7"
    assert found.over == "both"
    assert best.p_above == pytest.approx(0.03)  # 0.01 of three
    assert found.ceiling[0] < found.ceiling[1]
    assert best.low < best.value < best.high
    assert all(p < 0.05 for k, p in enumerate(found.from_best()) if k != found.best)
    assert json.dumps(found.to_json(), allow_nan=False)


def test_groups_of_images_are_drawn_whole(tmp_path):
    names = [f"{k:03d}.jpg" for k in range(N)]
    groups = {name: f"g{k // 3}" for k, name in enumerate(names)}
    named = LabelRequest(groups=NamesRequest(from_source=groups))
    a = make(tmp_path / "a.h5", {"pool5": rows(0), "relu7": rows(1)}, labels=named)
    target = read_rdms(subjects(tmp_path / "s.mat", 1))
    with FeatureStore(a) as one:
        found = compare_to([one], target, same_order=True, bootstrap=30, permutations=10)
    assert found.units == 8
    assert np.isnan(found.layers[0].p_above)


def test_the_command_compares_and_draws(stores, tmp_path):
    a, b = stores
    picture = tmp_path / "m.png"
    done = cli("compare", a, b, "--picture", picture, "--bootstrap", "20")
    assert done.returncode == 0, done.stderr
    assert "debiased CKA, linear kernel, 24 images" in done.stdout
    assert "(1) pool5" in done.stdout
    told = json.loads(cli("compare", a, "--json", "--similarity", "tau-a").stdout)
    assert told["similarity"] == "tau-a"
    assert told["values"][0][0] == 1
    subjects(tmp_path / "s.mat")
    scored = cli(
        "compare", a, "--to", tmp_path / "s.mat", "--same-order", "--bootstrap", "20",
        "--permutations", "20", "--picture", tmp_path / "f.png",
    )  # fmt: skip
    assert scored.returncode == 0, scored.stderr
    assert "noise ceiling" in scored.stdout
    one = cli("compare", a, "--layers", "pool5", "--to", b, "--bootstrap", "20", "--json")
    assert json.loads(one.stdout)["similarity"] == "cka"
    for file in (picture, tmp_path / "f.png"):
        with Image.open(file) as image:
            assert image.width > 800
    assert cli("compare", a, "--over", "images").returncode == 2
    assert cli("compare", b).returncode == 1  # one representation


REFUSED = {
    "not symmetric": np.arange(16.0).reshape(4, 4),
    "give 1 less each": 1 - squareform(np.full(6, 0.5)),
    "not finite": np.where(np.eye(4), 0, np.nan),
    "holds float64 of shape": np.zeros((4, 5)),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_no_rdm_is_refused_with_the_reason(tmp_path, reason):
    np.save(tmp_path / "x.npy", REFUSED[reason])
    with pytest.raises(RepresentationError, match=reason):
        read_rdms(tmp_path / "x.npy")


def test_files_of_strangers_run_nothing_and_end_in_a_reason(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([print, 1], object), allow_pickle=True)
    whole = squareform(np.arange(1.0, 7))
    np.save(tmp_path / "short.npy", whole)
    data = (tmp_path / "short.npy").read_bytes()
    (tmp_path / "short.npy").write_bytes(data[:-8])
    (tmp_path / "words.csv").write_text("a,b,c\n0,x,1\nx,0,1\n1,1,0\n")
    (tmp_path / "twice.csv").write_text("a,a,c\n0,2,1\n2,0,1\n1,1,0\n")
    (tmp_path / "other.csv").write_text(",a,b,c\na,0,2,1\nc,2,0,1\nb,1,1,0\n")
    (tmp_path / "wide.csv").write_text("0,1\n1,0\n2,2\n")
    (tmp_path / "x.pkl").write_bytes(b"")
    (tmp_path / "x.h5").write_bytes(b"nonsense")
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["dissimilarities"] = h5py.SoftLink("/elsewhere")
    savemat(tmp_path / "two.mat", {"a": whole, "b": whole})
    for name in (
        *("objects.npy", "short.npy", "words.csv", "twice.csv", "other.csv", "wide.csv"),
        *("x.pkl", "x.h5", "y.h5", "two.mat", "missing.npy", "x.txt"),
    ):
        with pytest.raises(RepresentationError) as caught:
            read_rdms(tmp_path / name)
        assert str(caught.value).endswith("."), name
        assert len(str(caught.value)) > 30, name
    assert len(read_rdms(f"{tmp_path / 'two.mat'}#b")) == 1


def test_pairs_of_several_subjects_are_read_whichever_way_they_lie(tmp_path):
    V = np.random.default_rng(0).random((5, 190))  # five are the pairs of no number
    for name, values in (("a", V), ("b", V.T)):
        np.save(tmp_path / f"{name}.npy", values)
        savemat(tmp_path / f"{name}.mat", {"rdms": values})
        for ending in ("npy", "mat"):
            assert read_rdms(tmp_path / f"{name}.{ending}").values.tolist() == V.tolist()
    np.save(tmp_path / "c.npy", V[[0, 1, 2, 3, 4, 0]].T)  # or 190 RDMs of four conditions
    with pytest.raises(RepresentationError, match="Save it transposed"):
        read_rdms(tmp_path / "c.npy")
