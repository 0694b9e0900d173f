"""Responses of brains and people predicted from layers."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass

import h5py
import numpy as np
import pytest
import scipy.io
from commands import cli
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, PredefinedSplit
from store_rows import made
from test_stacks import mat73

from vggfeat import FeatureStore
from vggfeat.encoding import Projection, Responses, averaged, encode, matched, read_responses
from vggfeat.errors import EncodingError
from vggfeat.labels import LabelRequest, NamesRequest
from vggfeat.store import SourcePlace, StoreWriter


@dataclass(frozen=True)
class Image:
    path: str
    size: int = 1
    mtime_ns: int = 1
    ctime_ns: int = 1
    digest: bytes = b""


def store_of(path, layers, names=None, *, spec="/photos", failed=(), splits=None, groups=None):
    """Make a store of given features, (n, d) each."""
    n = len(next(iter(layers.values())))
    names = [f"{at:04d}.png" for at in range(n)] if names is None else names
    with StoreWriter.open(
        path,
        entries=[Image(name) for name in names],
        shapes={layer: X.shape[1:] for layer, X in layers.items()},
        provenance=made(layers=dict.fromkeys(layers, "")),
        sources=[SourcePlace("", "/photos", spec)],
        labels=LabelRequest(
            splits=NamesRequest(from_source=splits, of_splits=True),
            groups=NamesRequest(from_source=groups),
        ),
    ) as store:
        done = [at for at in range(n) if at not in failed]
        store.write(done, {name: np.float32(X[done]) for name, X in layers.items()})
        for at in failed:
            store.fail(at, "broken")
    return path


@pytest.fixture(scope="module")
def world():
    """Two layers of 90 images, and responses of each; more features than images, and fewer."""
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(90, 150)) * np.arange(1, 151) ** -0.5
    narrow = np.maximum(rng.normal(size=(90, 12)), 0)
    Y = np.concatenate([wide[:, :4] * 2, narrow[:, :3]], axis=1)
    return {"fc6": wide, "fc7": narrow}, Y + rng.normal(size=Y.shape) * 0.4 + 7


@pytest.fixture(scope="module")
def store(world, tmp_path_factory):
    with FeatureStore(store_of(tmp_path_factory.mktemp("enc") / "s.h5", world[0])) as opened:
        yield opened


def pairs(n=90, folds=5):
    return list(KFold(folds, shuffle=True, random_state=3).split(np.empty((n, 0))))


def inner_parts(encoded_folds):
    held = np.full(len(encoded_folds.train), -1)
    for k, part in enumerate(encoded_folds.held_out):
        held[part] = k
    return PredefinedSplit(held)


# Equal to scikit-learn and himalaya


def test_scores_are_those_of_scikit_learn_in_nested_cross_validation(store, world):
    from vggfeat.encoding import folds_of

    layers, Y = world
    alphas = [0.3, 3, 30, 300]
    found = encode(store, Responses.of(Y), folds=pairs(), alphas=alphas, nulls=0, samples=0)
    folds = folds_of(store, np.arange(90), folds=pairs()).folds
    for one in found.layers:
        X = np.float32(layers[one.layer]).astype(np.float64)
        r2 = np.zeros((len(folds), Y.shape[1]))
        for k, fold in enumerate(folds):
            inner = np.zeros((len(alphas), Y.shape[1]))
            for train, held in inner_parts(fold).split():
                for a, alpha in enumerate(alphas):
                    fitted = Ridge(alpha).fit(X[fold.train][train], Y[fold.train][train])
                    said = fitted.predict(X[fold.train][held])
                    inner[a] += r2_score(Y[fold.train][held], said, multioutput="raw_values")
            chosen = np.array(alphas)[inner.argmax(axis=0)]
            np.testing.assert_allclose(one.alpha[k], chosen)
            said = Ridge(chosen).fit(X[fold.train], Y[fold.train]).predict(X[fold.test])
            r2[k] = r2_score(Y[fold.test], said, multioutput="raw_values")
        np.testing.assert_allclose(one.scores.r2, r2.mean(axis=0), atol=1e-5)


def test_scores_are_those_of_himalaya(store, world):
    pytest.importorskip("himalaya", reason="himalaya is in the extra `bench`")
    from himalaya.ridge import RidgeCV as TheirRidge

    from vggfeat.encoding import folds_of

    layers, Y = world
    alphas = np.array([0.3, 30, 3000])
    found = encode(store, Responses.of(Y), folds=pairs(), alphas=alphas, nulls=0)
    folds = folds_of(store, np.arange(90), folds=pairs()).folds
    for one in found.layers:
        X, r2, same = np.float32(layers[one.layer]), [], []
        for k, fold in enumerate(folds):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that another solver would be faster
                model = TheirRidge(alphas, fit_intercept=True, cv=inner_parts(fold))
                model.fit(X[fold.train], np.float32(Y[fold.train]))
            same.append(np.isclose(model.best_alphas_, one.alpha[k], rtol=1e-3))
            said = model.predict(X[fold.test])
            r2.append(r2_score(Y[fold.test], said, multioutput="raw_values"))
        # their inner folds share a mean, so that penalties that are about as good change places
        encoded = one.scores.r2 > 0.1
        assert np.mean(np.array(same)[:, encoded]) > 0.9
        everywhere = encoded & np.all(same, axis=0)
        assert everywhere.any()
        close = np.isclose(one.scores.r2, np.mean(r2, axis=0), rtol=0, atol=1e-4)
        assert close[everywhere].all()


def test_each_target_is_predicted_by_the_layer_that_its_training_images_chose(store, world):
    _, Y = world
    found = encode(store, Responses.of(Y), folds=pairs(), nulls=200)
    assert found.best.layer.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert (found.best.agreement == 1).all()
    for target, layer in enumerate(found.best.layer):
        assert found.best.scores.r2[target] == pytest.approx(found.layers[layer].scores.r2[target])
    assert (found.best.scores.p < 0.05).all()
    assert found.layers[0].scores.p[4:].min() > 0.05
    assert [one.chosen for one in found.layers] == pytest.approx([4 / 7, 3 / 7])


def test_test_images_have_no_part_in_any_choice(store, world):
    _, Y = world
    pair = pairs()[0]
    changed = Y.copy()
    changed[pair[1]] = np.random.default_rng(1).normal(size=changed[pair[1]].shape)
    one, other = (
        encode(store, Responses.of(values), folds=[pair], nulls=0, samples=0)
        for values in (Y, changed)
    )
    for a, b in zip(one.layers, other.layers, strict=True):
        assert np.array_equal(a.alpha, b.alpha)
        np.testing.assert_allclose(a.inner, b.inner, atol=1e-5)
    assert np.array_equal(one.best.layer, other.best.layer)
    assert not np.allclose(one.best.scores.r2, other.best.scores.r2)


def test_groups_are_on_one_side_of_everything(tmp_path, world):
    from vggfeat.encoding import folds_of

    layers, _ = world
    groups = {f"{at:04d}.png": f"g{at // 6}" for at in range(90)}
    path = store_of(tmp_path / "s.h5", layers, groups=groups)
    with FeatureStore(path) as opened:
        division = folds_of(opened, np.arange(90))
        of = np.arange(90) // 6
        for fold in division.folds:
            assert not set(of[fold.train]) & set(of[fold.test])
            for part in fold.held_out:
                rest = np.setdiff1d(np.arange(len(fold.train)), part)
                assert not set(of[fold.train][part]) & set(of[fold.train][rest])
        with pytest.raises(EncodingError, match=r"a group of .* on both sides"):
            folds_of(opened, np.arange(90), folds=pairs())
        with pytest.raises(EncodingError, match="15 groups cannot be divided into 16"):
            folds_of(opened, np.arange(90), folds=16)


def test_the_splits_of_a_store_are_taken(tmp_path, world):
    layers, Y = world
    splits = {f"{at:04d}.png": ("train", "val", "test")[at % 3] for at in range(90)}
    with FeatureStore(store_of(tmp_path / "s.h5", layers, splits=splits)) as opened:
        found = encode(opened, Responses.of(Y), nulls=0, samples=0, alphas=[1, 10])
        assert found.n_folds == 1
        assert "trained on train and val" in found.division
        kind = np.arange(90) % 3
        X = np.float32(layers["fc7"]).astype(np.float64)
        held = np.where(kind[kind < 2] == 1, 0, -1)
        for j in range(Y.shape[1]):
            theirs = RidgeCV([1, 10], cv=PredefinedSplit(held)).fit(X[kind < 2], Y[kind < 2, j])
            expected = r2_score(Y[kind == 2, j], theirs.predict(X[kind == 2]))
            assert found.layers[1].scores.r2[j] == pytest.approx(expected, abs=1e-5)


# Repeats


def test_noise_ceiling_is_that_of_the_natural_scenes_dataset(store):
    rng = np.random.default_rng(2)
    signal, t = rng.normal(size=(90, 400)), 400
    noise_sd = np.sqrt(2.0)
    trials = signal[:, None] + rng.normal(size=(90, 3, t)) * noise_sd
    values = trials.reshape(270, t)
    shown = np.repeat([f"{at:04d}.png" for at in range(90)], 3)
    responses = Responses.of(values, shown.tolist())
    means = averaged(responses, matched(store, responses))
    # Allen et al. 2022: variance of repeats, mean over images; what is left of all variance
    noise = trials.var(axis=1, ddof=1).mean(axis=0)
    total = values.var(axis=0, ddof=1)
    ncsnr = np.sqrt(np.maximum(total - noise, 0) / noise)
    np.testing.assert_allclose(means.ceiling(), ncsnr**2 / (ncsnr**2 + 1 / 3), atol=1e-6)
    assert means.ceiling().mean() == pytest.approx(1 / (1 + 2 / 3), abs=0.02)
    # 1 trial each of a third, 2 of another, 3 of the last: (A + B / 2 + C / 3) / (A + B + C)
    kept = np.arange(270)[np.tile([0, 1, 2], 90) <= np.repeat(np.arange(90) % 3, 3)]
    fewer = Responses.of(values[kept], shown[kept].tolist())
    uneven = averaged(fewer, matched(store, fewer))
    assert uneven.ceiling().mean() == pytest.approx(1 / (1 + 2 * 11 / 18), abs=0.03)
    np.testing.assert_allclose(
        uneven.mean + uneven.offset,
        [np.mean(trials[at, : at % 3 + 1], axis=0) for at in range(90)],
        atol=1e-5,
    )
    # The same of targets that were not measured in the other trials, beside one that was.
    gaps = values.copy()
    gaps[np.setdiff1d(np.arange(270), kept), 1:] = np.nan
    some = Responses.of(gaps, shown.tolist())
    unmeasured = averaged(some, matched(store, some))
    half = np.arange(0, 90, 2)
    for images in (None, half):
        ceiling = unmeasured.ceiling(images)
        np.testing.assert_allclose(ceiling[1:], uneven.ceiling(images)[1:], atol=1e-9)
        assert ceiling[0] == pytest.approx(means.ceiling(images)[0], abs=1e-9)


def test_split_half_reliability_is_corrected_for_the_length_of_halves(store):
    rng = np.random.default_rng(3)
    signal = rng.normal(size=(90, 1, 300))
    for repeats in (2, 3, 4):
        trials = signal + rng.normal(size=(90, repeats, 300))
        names = np.repeat([f"{at:04d}.png" for at in range(90)], repeats)
        responses = Responses.of(trials.reshape(-1, 300), names.tolist())
        means = averaged(responses, matched(store, responses))
        # of a mean of k trials, signal and noise being of variance 1
        assert means.reliability.mean() == pytest.approx(repeats / (repeats + 1), abs=0.015)
        if repeats == 3:  # of which each target was measured in two
            gaps = np.where(
                rng.permuted(np.tile([[0], [1], [2]], (90, 1, 300)), axis=1), trials, np.nan
            )
            responses = Responses.of(gaps.reshape(-1, 300), names.tolist())
            means = averaged(responses, matched(store, responses))
            assert means.reliability.mean() == pytest.approx(2 / 3, abs=0.015)
    two = trials[:, :2]
    responses = Responses.of(two.reshape(-1, 300), np.repeat(names[::4], 2).tolist())
    means = averaged(responses, matched(store, responses), splits=200)
    r = [np.corrcoef(two[:, 0, j], two[:, 1, j])[0, 1] for j in range(300)]
    # halves of one trial each: which is first changes no correlation much
    np.testing.assert_allclose(means.reliability, [2 * x / (1 + x) for x in r], atol=0.08)
    assert np.mean(means.reliability) == pytest.approx(
        np.mean([2 * x / (1 + x) for x in r]), abs=0.01
    )


def test_without_repeats_there_is_no_ceiling(store, world):
    found = encode(store, Responses.of(world[1]), nulls=0, samples=0)
    assert np.isnan(found.ceiling).all()
    assert np.isnan(found.reliability).all()
    assert found.to_json()["best"]["r2_of_ceiling"] is None


# Matching


def test_a_table_is_matched_by_paths_whatever_its_order(store, world, tmp_path):
    _, Y = world
    order = np.random.default_rng(4).permutation(90)
    lines = ["onset\tstim_file\tvoxel a\tvoxel b\ttrial_type"]
    for at in order:
        lines.append(f"{at}\tstimuli/{at:04d}.png\t{Y[at, 0]}\t{Y[at, 4]}\tgo")
    lines.append("99\tn/a\t0\t0\tblank")
    (tmp_path / "events.tsv").write_text("\n".join(lines))
    responses = read_responses(tmp_path / "events.tsv")
    assert responses.names == ("voxel a", "voxel b")
    images = matched(store, responses)
    assert images.blank == 1
    assert "without the leading folder 'stimuli'" in images.how
    means = averaged(responses, images)
    np.testing.assert_allclose(means.mean + means.offset, Y[:, [0, 4]], atol=1e-5)


@pytest.mark.parametrize("kind", ["npy", "h5", "mat", "mat 7.3"])
def test_arrays_are_read_as_their_programs_show_them(store, world, tmp_path, kind):
    _, Y = world
    order = np.random.default_rng(4).permutation(90)
    file = tmp_path / f"betas.{kind.partition(' ')[0]}"
    ids = tmp_path / "trials.npy"
    np.save(ids, order + 1)
    if kind == "npy":
        np.save(file, Y[order])
    elif kind == "h5":
        with h5py.File(file, "w") as h5:
            h5["betas"] = Y[order]
            h5["ids"] = order + 1
        ids = f"{file}#ids"
    elif kind == "mat":
        scipy.io.savemat(file, {"betas": Y[order], "ids": order[None] + 1.0})
        ids = f"{file}#ids"
    else:
        mat73(file, betas=Y[order], ids=order[:, None] + 1.0)
        ids = f"{file}#ids"
    given = f"{file}#betas" if kind in ("mat", "mat 7.3", "h5") else file
    responses = read_responses(given, ids)
    images = matched(store, responses)
    assert "the first one 1 ('0000.png')" in images.how
    means = averaged(responses, images)
    np.testing.assert_allclose(means.mean + means.offset, Y, atol=1e-5)
    responses.close()


def test_numbers_that_may_begin_at_0_or_1_are_refused(store, world):
    _, Y = world
    for low in (0, 1):
        numbers = np.arange(90) + low
        images = matched(store, Responses.of(Y, numbers))
        assert np.array_equal(images.image, np.arange(90))
    with pytest.raises(EncodingError, match=r"may be 0 or 1. Say which"):
        matched(store, Responses.of(Y[:50], np.arange(5, 55)))
    said = matched(store, Responses.of(Y[:50], np.arange(5, 55), first=1))
    assert said.rows.tolist() == list(range(4, 54))
    with pytest.raises(EncodingError, match="from 0 to 90"):
        matched(store, Responses.of(Y, np.arange(90) + (np.arange(90) > 40)))
    with pytest.raises(EncodingError, match="not among the 90"):
        matched(store, Responses.of(Y, np.arange(90) + 1, first=0))


def test_order_alone_is_taken_only_where_it_is_certain(world, tmp_path):
    layers, Y = world
    numbered = sorted(f"im{at}.png" for at in range(90))  # im0, im1, im10, im11, ...
    with FeatureStore(store_of(tmp_path / "a.h5", layers, numbered)) as opened:
        with pytest.raises(EncodingError, match=r"sorted by the alphabet \('im10.png' is row 2\)"):
            matched(opened, Responses.of(Y))
        with pytest.raises(EncodingError, match=r"80 rows and .* 90 images"):
            matched(opened, Responses.of(Y[:80]))
        with pytest.raises(EncodingError, match="90 images, 2 times as many: repeats, perhaps"):
            matched(opened, Responses.of(np.repeat(Y, 2, axis=0)))
    # a list is in the order that its author gave it
    path = store_of(tmp_path / "b.h5", layers, numbered, spec="/photos/stimuli.csv")
    with FeatureStore(path) as opened:
        images = matched(opened, Responses.of(Y))
        assert images.how == "by order alone: the first row is 'im0.png', the last 'im9.png'"


def test_images_that_failed_shift_no_row(world, tmp_path):
    layers, Y = world
    with FeatureStore(store_of(tmp_path / "s.h5", layers, failed=(3,))) as opened:
        with pytest.raises(
            EncodingError, match=r"1 of 90 trials .*'0003.png' \(without features\)"
        ):
            matched(opened, Responses.of(Y))
        with pytest.raises(EncodingError, match=r"89 rows and .* 90 images \(1 of them failed"):
            matched(opened, Responses.of(np.delete(Y, 3, axis=0)))
        responses = Responses.of(Y)
        images = matched(opened, responses, skip_missing=True)
        assert images.missing == 1
        means = averaged(responses, images)
        np.testing.assert_allclose(means.mean + means.offset, np.delete(Y, 3, axis=0), atol=1e-5)


def test_trials_of_images_that_are_not_there_are_an_error(store, world):
    _, Y = world
    names = [f"{at:04d}.png" for at in range(90)]
    names[7] = "other.png"
    with pytest.raises(EncodingError, match=r"1 of 90 trials .* 'other.png' .* --skip-missing"):
        matched(store, Responses.of(Y, names))
    assert matched(store, Responses.of(Y, names), skip_missing=True).without == 1


def test_targets_that_cannot_be_predicted_have_a_reason(store, world):
    _, Y = world
    Y = Y.copy()
    Y[:, 1], Y[:, 2] = np.nan, 5
    found = encode(store, Responses.of(Y), nulls=20)
    assert found.reasons == {1: "it was measured in no trial", 2: "it is constant"}
    assert np.isnan(found.best.scores.r2[[1, 2]]).all()
    assert np.isfinite(found.best.scores.r2[[0, 3, 4, 5, 6]]).all()
    assert found.best.layer[[1, 2]].tolist() == [-1, -1]
    Y[5, 0] = np.nan
    with pytest.raises(EncodingError, match=r"'0' is unknown \(NaN\) in all trials of 1 of 90"):
        encode(store, Responses.of(Y))
    Y[5, 0] = np.inf
    with pytest.raises(EncodingError, match="'0' is infinite"):
        encode(store, Responses.of(Y))


# Chance


def test_targets_without_relation_to_images_have_p_values_of_chance(tmp_path):
    """Folds share training images, so that a test that takes them as independent is too sure."""
    rng = np.random.default_rng(5)
    layers = {"fc6": rng.normal(size=(60, 20)), "fc7": rng.normal(size=(60, 80))}
    Y = rng.normal(size=(60, 400))
    with FeatureStore(store_of(tmp_path / "s.h5", layers)) as opened:
        found = encode(opened, Responses.of(Y), folds=3, inner=3, nulls=400, samples=0)
    for p in (found.best.scores.p, found.layers[0].scores.p, found.layers[1].scores.p):
        for level in (0.05, 0.2, 0.5):
            # both the targets and the nulls are 400: four standard errors of their difference
            error = np.sqrt(2 * level * (1 - level) / 400)
            assert abs(np.mean(p <= level) - level) < 4 * error
    assert (found.q < 0.05).mean() < 0.01


def test_groups_are_exchanged_as_wholes(tmp_path):
    """Images of a group are alike in features and in responses: chance, not encoding."""
    rng = np.random.default_rng(6)
    of = np.repeat(np.arange(24), 5)
    names = [f"{at:04d}.png" for at in range(120)]
    groups = {name: f"g{k}" for name, k in zip(names, of, strict=True)}
    X = rng.normal(size=(24, 10))[of] + 0.2 * rng.normal(size=(120, 10))
    Y = rng.normal(size=(24, 300))[of] + 0.2 * rng.normal(size=(120, 300))
    path = store_of(tmp_path / "s.h5", {"fc6": X}, names, groups=groups)
    with FeatureStore(path) as opened:
        found = encode(opened, Responses.of(Y, names), inner=3, nulls=300, samples=0)
    assert found.groups == 24
    assert np.mean(found.best.scores.p <= 0.05) < 0.05 + 4 * np.sqrt(2 * 0.05 * 0.95 / 300)


# All layers together, and long features


def test_banded_ridge_is_ridge_on_weighted_layers(store, world):
    from vggfeat.encoding import folds_of
    from vggfeat.encoding.bands import candidates

    layers, Y = world
    both = Y + layers["fc6"][:, [5]] + layers["fc7"][:, [4]]
    alphas = [0.01, 1, 100]
    found = encode(
        store, Responses.of(both), folds=pairs()[:2], alphas=alphas, banded=3, nulls=0, samples=0
    )
    weights = candidates(2, 3, 0)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    r2 = []
    for fold in folds_of(store, np.arange(90), folds=pairs()[:2]).folds:
        parts = []
        for X in layers.values():
            X = np.float32(X).astype(np.float64)
            X = X - X[fold.train].mean(axis=0)
            parts.append(X / np.sqrt((X[fold.train] ** 2).sum() / len(fold.train)))
        best, chosen = np.full(7, -np.inf), np.zeros((len(fold.test), 7))
        for row in weights:
            Z = np.hstack([np.sqrt(w) * X for w, X in zip(row, parts, strict=True)])
            for alpha in alphas:
                inner = np.zeros(7)
                for train, held in inner_parts(fold).split():
                    fitted = Ridge(alpha).fit(Z[fold.train][train], both[fold.train][train])
                    said = fitted.predict(Z[fold.train][held])
                    inner += r2_score(both[fold.train][held], said, multioutput="raw_values") / 5
                better = inner > best + 1e-9
                best[better] = inner[better]
                said = Ridge(alpha).fit(Z[fold.train], both[fold.train]).predict(Z[fold.test])
                chosen[:, better] = said[:, better]
        r2.append(r2_score(both[fold.test], chosen, multioutput="raw_values"))
    np.testing.assert_allclose(found.banded.scores.r2, np.mean(r2, axis=0), atol=1e-4)
    assert found.banded.scores.r2.mean() > found.best.scores.r2.mean() + 0.1
    np.testing.assert_allclose(found.banded.parts.sum(axis=0), found.banded.scores.r2, atol=0.08)
    assert (found.banded.parts > 0.05).all()
    np.testing.assert_allclose(found.banded.weights.sum(axis=0), 1)


def test_projected_features_predict_almost_as_well(tmp_path):
    rng = np.random.default_rng(7)
    X = np.maximum(rng.normal(size=(80, 20)) @ rng.normal(size=(20, 6000)), 0)
    Y = X @ rng.normal(size=(6000, 5)) / 30
    with FeatureStore(store_of(tmp_path / "s.h5", {"pool5": X})) as opened:
        whole = encode(opened, Responses.of(Y), nulls=0, samples=0)
        less = encode(opened, Responses.of(Y), nulls=0, samples=0, projection=Projection(None, 0.2))
        again = encode(
            opened, Responses.of(Y), nulls=0, samples=0, projection=Projection(None, 0.2)
        )
        few = encode(opened, Responses.of(Y), nulls=0, samples=0, projection=Projection(40))
    from sklearn.random_projection import johnson_lindenstrauss_min_dim

    used = johnson_lindenstrauss_min_dim(80, eps=0.2)
    assert (less.layers[0].dimension, less.layers[0].used) == (6000, used)
    assert less.distortion == 0.2
    assert np.isinf(few.distortion)  # nothing is promised of so few
    assert np.array_equal(less.layers[0].scores.r2, again.layers[0].scores.r2)
    assert np.abs(less.layers[0].scores.r2 - whole.layers[0].scores.r2).max() < 0.1


@pytest.mark.parametrize("n", [100, 10_000])
def test_the_distortion_of_a_projection_is_the_one_that_asks_for_its_size(n):
    for distortion in (0.1, 0.3, 0.8):
        size = Projection(None, distortion).size(n)
        assert Projection(size).bound(n) == pytest.approx(distortion, rel=1e-2)


# The command


@pytest.fixture
def files(world, tmp_path):
    layers, Y = world
    store_of(tmp_path / "s.h5", layers)
    rng = np.random.default_rng(8)
    names = np.repeat([f"{at:04d}.png" for at in range(90)], 2)
    values = np.repeat(Y, 2, axis=0) + 0.3 * rng.normal(size=(180, 7))
    head = "path," + ",".join(f"v{at}" for at in range(7))
    lines = [f"{n}," + ",".join(map(repr, v.tolist())) for n, v in zip(names, values, strict=True)]
    (tmp_path / "r.csv").write_text("\n".join([head, *lines]))
    return tmp_path


def test_the_command_prints_writes_and_draws(files):
    done = cli(
        "encode", files / "s.h5", files / "r.csv", "--folds", 3, "--nulls", 50, "--banded", 2,
        "--out", files / "o.csv", "--png", files / "o.png",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "90 images (180 trials, 2 each), 7 targets" in done.stdout
    assert "matched by paths" in done.stdout
    assert "median noise ceiling of R2" in done.stdout
    assert "all layers together (banded, 5 sets of weights)" in done.stdout
    lines = (files / "o.csv").read_text().splitlines()
    assert len(lines) == 8
    assert lines[0].startswith("target,best_layer,agreement,r2,r,p,q,ceiling,reliability,r2_banded")
    assert lines[1].startswith("v0,fc6,")
    assert (files / "o.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_gives_json_and_arrays(files):
    given = ("encode", files / "s.h5", files / "r.csv", "--folds", 3, "--nulls", 20, "--json")
    whole = json.loads(cli(*given).stdout)
    assert [one["layer"] for one in whole["layers"]] == ["fc6", "fc7"]
    assert whole["targets"][0]["target"] == "v0"
    assert whole["targets"][0]["best_layer"] == "fc6"
    short = json.loads(cli(*given, "--out", files / "o.npz", "--columns", "v1,v5").stdout)
    assert "targets" not in short
    with np.load(files / "o.npz") as arrays:
        assert arrays["target"].tolist() == ["v1", "v5"]
        assert arrays["r2"].shape == (2,)
        assert short["best"]["r2"] == pytest.approx(arrays["r2"].mean())


def test_the_command_refuses_with_a_remedy(files):
    for given, text in [
        (("--columns", "v9"), "has no column 'v9'"),
        (("--layers", "pool9"), "has no layer 'pool9'"),
        (("--layers", "fc6", "--banded", "2"), "Banded ridge is of several layers"),
        (("--images", files / "r.csv"), "names its images itself"),
        (("--folds", "80"), "cannot be divided into 80 parts"),
        (("--png", files / "o.jpg"), "no kind of picture"),
    ]:
        done = cli("encode", files / "s.h5", files / "r.csv", *given)
        assert done.returncode == 1, done.stdout
        assert text in done.stderr
        assert "Traceback" not in done.stderr
    for given in (("--out", "o.txt"), ("--project", "auto:2"), ("--project", "none")):
        assert cli("encode", files / "s.h5", files / "r.csv", *given).returncode == 2
