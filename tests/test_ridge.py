"""Numbers as targets: ridge regression of many at once, and how well it predicts."""

from __future__ import annotations

import logging
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, PredefinedSplit, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from vggfeat import RidgeProbe
from vggfeat.errors import ProbeError
from vggfeat.metrics import fisher_interval, pearson_scores, r2_scores, score_targets
from vggfeat.solver.held_out import INVERTIBLE, FewRows, ManyRows, Targets
from vggfeat.solver.inverse import invert
from vggfeat.solver.ridge import MOST_PATTERNS, SMALLEST, fit_ridge
from vggfeat.solver.rows import Rows
from vggfeat.solver.spaces import gram

ALPHAS = np.logspace(-2, 4, 7)
NOISE = np.array([0.1, 1, 3, 10, 30])
SHAPES = [(60, 100), (60, 45), (100, 20)]  # few rows, few rows whose Gram matrix is singular, many


def problem(n, d, seed=0):
    """Draw features with a mean, and five targets of more and more noise, far from 0."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + 0.5
    Y = 0.3 * X @ rng.normal(size=(d, 5)) + rng.normal(size=(n, 5)) * NOISE + 2000
    return X, Y


def folds_of(n):
    return KFold(5, shuffle=True, random_state=1), np.arange(n)


# Equal to scikit-learn


@parametrize_with_checks([RidgeProbe(), RidgeProbe([0.1, 1, 10], cv="loo", standardize=True)])
def test_it_is_a_scikit_learn_regressor(estimator, check):
    check(estimator)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_each_target_has_what_scikit_learn_finds_for_it_alone(shape, dtype, intercept):
    X, Y = problem(*shape)
    Y -= 0 if intercept else 2000
    cv, _ = folds_of(len(X))
    ours = RidgeProbe(ALPHAS, cv=cv, fit_intercept=intercept).fit(X.astype(dtype), Y)
    assert ours.coef_.dtype == dtype
    for j in range(Y.shape[1]):
        search = GridSearchCV(Ridge(fit_intercept=intercept), {"alpha": ALPHAS}, cv=cv)
        search.fit(X, Y[:, j])
        assert ours.alpha_[j] == search.best_params_["alpha"]
        np.testing.assert_allclose(
            ours.scores_[:, j], search.cv_results_["mean_test_score"], atol=1e-4
        )
        np.testing.assert_allclose(ours.coef_[j], search.best_estimator_.coef_, atol=1e-5)
        np.testing.assert_allclose(ours.predict(X)[:, j], search.predict(X), atol=2e-3)
    assert len(set(ours.alpha_)) > 1


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_held_out_one_by_one_choose_what_ridgecv_does(shape):
    X, Y = problem(*shape)
    ours = RidgeProbe(ALPHAS, cv="loo").fit(X, Y)
    theirs = RidgeCV(ALPHAS, alpha_per_target=True).fit(X, Y)
    np.testing.assert_array_equal(ours.alpha_, theirs.alpha_)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-9)


def test_pearsons_r_may_choose():
    X, Y = problem(60, 100)
    cv, _ = folds_of(60)
    ours = RidgeProbe(ALPHAS, cv=cv, scoring="pearson").fit(X, Y)

    def r(ridge, rows, y):
        return pearsonr(ridge.predict(rows), y).statistic

    for j in range(Y.shape[1]):
        search = GridSearchCV(Ridge(), {"alpha": ALPHAS}, cv=cv, scoring=r).fit(X, Y[:, j])
        np.testing.assert_allclose(ours.scores_[:, j], search.cv_results_["mean_test_score"])
        assert ours.alpha_[j] == search.best_params_["alpha"]


def test_standardised_features_are_those_of_a_standard_scaler():
    X, Y = problem(60, 30)
    X *= np.geomspace(1e-3, 1e3, 30)
    X[:, 3] = 7
    ours = RidgeProbe(1.0, standardize=True).fit(X, Y)
    theirs = make_pipeline(StandardScaler(), Ridge(1.0)).fit(X, Y)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X))


def test_the_chosen_penalty_depends_on_no_unit():
    X, Y = problem(60, 30)
    ours = RidgeProbe().fit(X, Y)
    for scale in (2.0**-40, 2.0**40):
        scaled = RidgeProbe().fit(X * scale, Y)
        np.testing.assert_allclose(scaled.alpha_, ours.alpha_ * scale**2)
        np.testing.assert_allclose(scaled.predict(X * scale), ours.predict(X), rtol=1e-9)


def test_threads_train_one_each():
    X, Y = problem(60, 30)
    alone = RidgeProbe().fit(X, Y)
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda _: RidgeProbe().fit(X, Y), range(3)))
    for probe in together:
        np.testing.assert_allclose(probe.coef_, alone.coef_, rtol=1e-9)


# Parts


def test_no_group_is_on_both_sides_of_a_fold():
    X, Y = problem(60, 20)
    groups = np.repeat(np.arange(15), 4)
    X[:, 0] = groups  # what tells a group is not to be learnt
    Y[:, 0] = np.random.default_rng(0).normal(size=15)[groups]
    ours = RidgeProbe(ALPHAS, cv=5, random_state=3).fit(X, Y, groups=groups)
    cv = GroupKFold(5, shuffle=True, random_state=3)
    same = RidgeProbe(ALPHAS, cv=list(cv.split(X, groups=groups))).fit(X, Y)
    np.testing.assert_array_equal(ours.scores_, same.scores_)
    assert not np.allclose(ours.scores_, RidgeProbe(ALPHAS, random_state=3).fit(X, Y).scores_)
    with pytest.raises(ProbeError, match="parts groups"):
        RidgeProbe(cv="loo").fit(X, Y, groups=groups)


def test_one_part_that_validates_is_enough():
    X, Y = problem(60, 100)
    cv = PredefinedSplit(np.where(np.arange(60) < 40, -1, 0))
    ours = RidgeProbe(ALPHAS, cv=cv).fit(X, Y[:, 1])
    search = GridSearchCV(Ridge(), {"alpha": ALPHAS}, cv=cv).fit(X, Y[:, 1])
    assert ours.alpha_ == search.best_params_["alpha"]
    np.testing.assert_allclose(ours.best_score_, search.best_score_)


@pytest.mark.parametrize(
    ("cv", "match"),
    [
        (1, "cv is 1"),
        ("five", "cv is 'five'"),
        (ShuffleSplit(2, test_size=0.2, train_size=0.5), "must be in one of them"),
        ([(np.arange(60), np.arange(10))], "must be in one of them"),
    ],
)
def test_parts_that_are_none_are_refused(cv, match):
    with pytest.raises(ProbeError, match=match):
        RidgeProbe(cv=cv).fit(*problem(60, 10))


# Targets


def test_one_target_gives_numbers_and_a_column_gives_columns():
    X, Y = problem(60, 10)
    one, column = RidgeProbe().fit(X, Y[:, 0]), RidgeProbe().fit(X, Y[:, :1])
    assert isinstance(one.alpha_, float)
    assert one.coef_.shape == (10,)
    assert column.coef_.shape == (1, 10)
    np.testing.assert_array_equal(one.predict(X), column.predict(X)[:, 0])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_constant_target_is_predicted_exactly_and_has_no_score(shape, caplog):
    X, Y = problem(*shape)
    Y[:, 2] = 0.1
    ours = RidgeProbe(ALPHAS).fit(np.float32(X), Y)
    assert (ours.coef_[2] == 0).all()
    np.testing.assert_array_equal(ours.predict(X)[:, 2], 0.1)
    assert np.isnan(ours.best_score_[2])
    assert "1 of 5 targets are constant" in caplog.text
    assert np.isfinite(np.delete(ours.best_score_, 2)).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_unknown_numbers_leave_rows_out_of_their_target_alone(shape):
    X, Y = problem(*shape)
    Y[:7, 1] = Y[:7, 3] = Y[20:23, 4] = np.nan
    cv, every = folds_of(len(X))
    ours = RidgeProbe(ALPHAS, cv=cv).fit(X, Y)
    for j in range(5):
        known = np.isfinite(Y[:, j])
        fold = np.empty(len(X), int)
        for k, (_, held_out) in enumerate(cv.split(every)):
            fold[held_out] = k
        alone = RidgeProbe(ALPHAS, cv=PredefinedSplit(fold[known])).fit(X[known], Y[known, j])
        assert ours.alpha_[j] == alone.alpha_
        np.testing.assert_allclose(ours.scores_[:, j], alone.scores_)
        np.testing.assert_allclose(ours.coef_[j], alone.coef_, atol=1e-12)


def test_too_many_patterns_of_unknown_numbers_are_refused():
    X, Y = problem(60, 4)
    Y = np.tile(Y, 8)
    Y[np.arange(40), np.arange(40)] = np.nan
    with pytest.raises(ProbeError, match=rf"in 40 different sets.*{MOST_PATTERNS} are allowed"):
        RidgeProbe().fit(X, Y)
    Y[1:, 0] = np.nan
    with pytest.raises(ProbeError, match="Target 0 is known in 0 rows"):
        RidgeProbe().fit(X, Y[:, :1])


@pytest.mark.parametrize("alphas", [0, -1, [1, np.nan], "many", []])
def test_impossible_penalties_are_named(alphas):
    with pytest.raises(ProbeError, match="give numbers above 0"):
        RidgeProbe(alphas).fit(*problem(20, 4))


def test_penalties_that_rounding_decides_are_refused():
    X, Y = problem(20, 4)
    with pytest.raises(ProbeError, match="where rounding decides"):
        RidgeProbe(0.1 * SMALLEST * (X**2).sum()).fit(X, Y)
    wide = np.random.default_rng(0).normal(size=(20, 30))
    small = np.array([0.1, 1]) * INVERTIBLE * (wide**2).sum()
    RidgeProbe(small).fit(wide, Y)
    with pytest.raises(ProbeError, match="or hold out folds"):
        RidgeProbe(small, cv="loo").fit(wide, Y)


def test_the_end_of_a_grid_is_told(caplog):
    X, _ = problem(60, 10)
    with caplog.at_level(logging.WARNING):
        RidgeProbe([1e5, 1e6]).fit(X, X[:, 0] * 2, name="relu7")
    assert "relu7: 100 % of targets choose the smallest alpha, 1e+05" in caplog.text


# Rounding


def exact(X, Y, alphas, F, intercept):
    """Predict rows by a singular value decomposition of the others, for each alpha."""
    T = np.setdiff1d(np.arange(len(X)), F)
    mean, centre = (X[T].mean(axis=0), Y[T].mean(axis=0)) if intercept else (0, 0)
    U, s, V = np.linalg.svd(X[T] - mean, full_matrices=False)
    across, along = (X[F] - mean) @ V.T, U.T @ (Y[T] - centre)
    return [(across * (s / (s**2 + alpha))) @ along + centre for alpha in alphas]


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("shape", [(40, 60), (120, 90), (50, 49)])
def test_predictions_are_exact_down_to_the_smallest_penalty(shape, intercept):
    rng = np.random.default_rng(0)
    n, d = shape
    falling = np.arange(1, d + 1) ** -0.7
    X = np.maximum((rng.normal(size=shape) * falling) @ rng.normal(size=(d, d)), 0)
    X[:, 1] = X[:, 0]
    Y = rng.normal(size=(n, 3))
    targets = Targets(Y, Y.mean(axis=0) * intercept)
    parts = [np.arange(k, n, 4) for k in range(4)]
    shares = np.array([SMALLEST, 0.9 * INVERTIBLE, 1.1 * INVERTIBLE, 1e-3])
    rows, penalties = Rows(X), shares * (X**2).sum()
    truths = [exact(X, Y, penalties, F, intercept) for F in parts]
    both = {"intercept": intercept, "block": 2}
    for dtype, made in [
        (
            np.float64,
            FewRows(gram(rows, centred=intercept), targets, parts, dtype=np.float64, **both),
        ),
        (
            np.float32,
            FewRows(gram(rows, centred=intercept), targets, parts, dtype=np.float32, **both),
        ),
        (np.float64, ManyRows(rows, targets, parts, **both)),
    ]:
        for one in made(penalties):
            truth = truths[one.part][one.penalty][:, one.targets]
            off = one.predicted + targets.offset[one.targets] - truth
            size = np.linalg.norm(truth - targets.offset[one.targets], axis=0)
            bound = 5e-6 if dtype == np.float32 or shares[one.penalty] == SMALLEST else 2e-6
            assert (np.linalg.norm(off, axis=0) <= bound * size).all()


@pytest.mark.parametrize("n", [1, 160, 161, 700])
def test_the_inverse_is_one(n):
    A = np.random.default_rng(0).normal(size=(n, n + 5))
    A = A @ A.T + np.eye(n)
    inverse = invert(A.copy())
    np.testing.assert_allclose(inverse @ A, np.eye(n), atol=1e-9)
    np.testing.assert_allclose(inverse, inverse.T, atol=1e-12)
    with pytest.raises(np.linalg.LinAlgError):
        invert(-A)


def test_the_inverse_of_nearly_singular_matrices_is_as_good_as_lapacks():
    X = np.random.default_rng(0).normal(size=(500, 300)) * np.arange(1, 301) ** -0.7
    U, s, _ = np.linalg.svd(X)
    spectrum = np.append(s**2, np.zeros(200))
    for share in (1e-4, 1e-6, 1e-10):
        penalty = share * spectrum.sum()
        expected = (U / (spectrum + penalty)) @ U.T
        inverse = invert((U * (spectrum + penalty)) @ U.T)
        condition = 1 + spectrum[0] / penalty
        assert np.abs(inverse - expected).max() < 5e-15 * condition * np.abs(expected).max()


# Memory


@pytest.mark.parametrize("shape", [(200, 10), (40, 60)])
def test_rows_in_a_file_predict_what_rows_in_memory_do(shape, tmp_path, monkeypatch):
    monkeypatch.setattr("vggfeat.solver.rows.BLOCK_BYTES", 17 * 8 * shape[1])  # 17 rows a block
    X, Y = problem(*shape)
    X = np.float32(X)
    settings = {"normalize": True, "standardize": True}
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["X"] = X
        ours = RidgeProbe(**settings).fit_reader(file["X"], Y)
    expected = RidgeProbe(**settings).fit(X, Y)
    np.testing.assert_array_equal(ours.alpha_, expected.alpha_)
    np.testing.assert_allclose(ours.predict(X), expected.predict(X), rtol=1e-6)


@pytest.mark.parametrize(("n", "d", "t"), [(300, 250, 1500), (600, 100, 1500)])
def test_memory_is_bounded_whatever_the_number_of_targets(n, d, t, monkeypatch):
    rng = np.random.default_rng(0)
    B = 8 * d * 40
    monkeypatch.setattr("vggfeat.solver.rows.BLOCK_BYTES", B)
    X, Y = rng.standard_normal((n, d), np.float32), rng.standard_normal((n, t), np.float32)
    p, k, b, w = 3, 5, 100, 4
    parts = [np.arange(j, n, k) for j in range(k)]
    f = n // k
    tracemalloc.start()  # numpy tells it of each array
    try:
        found = fit_ridge(
            Rows(X), Y, n * np.array([0.1, 1, 10]), parts, r2_scores, dtype=np.float32, block=b
        )
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if 2 * n <= 3 * d:
        choosing = (21 + w) * n**2 + 16 * f * (n + f) + w * b * (4 * n + 6 * f)
    else:
        choosing = 8 * d * (f + 2 * t) + w * f * t + 37 * d**2 + 8 * b * (2 * d + 8 * f)
        choosing += B * t // d
    last = 8 * d * t + 21 * d**2 + 16 * b * d
    promised = max(choosing, last) + 4 * B + 8 * p * k * t
    result = found.coef.nbytes + 8 * t * (p + 2)
    small = 100 * t  # a few numbers a target
    assert taken <= promised + 2 * result + small
    assert promised < 4 * w * n * t * p  # predictions of all penalties for all rows


# Scores


def test_scores_of_targets_are_those_of_scikit_learn_and_scipy():
    X, Y = problem(60, 5)
    predicted = RidgeProbe(1.0).fit(X, Y).predict(X) + 3 * X[:, :1]
    found = score_targets(Y, predicted, samples=0)
    np.testing.assert_allclose(found.r2, r2_score(Y, predicted, multioutput="raw_values"))
    np.testing.assert_allclose(found.r, pearsonr(Y, predicted).statistic)
    np.testing.assert_allclose(r2_scores(Y, predicted), found.r2)
    np.testing.assert_allclose(pearson_scores(Y, predicted), found.r)
    low, high = fisher_interval(found.r, found.n, 0.9)
    expected = [pearsonr(Y[:, j], predicted[:, j]).confidence_interval(0.9) for j in range(5)]
    np.testing.assert_allclose(np.column_stack([low, high]), expected)
    assert np.isnan([found.r2_low, found.r_high]).all()


def test_the_bootstrap_draws_images_or_whole_groups():
    X, Y = problem(48, 5)
    predicted = RidgeProbe(1.0).fit(X, Y).predict(X)
    groups = np.random.default_rng(5).permutation(np.repeat(np.arange(12), 4))
    for units, members in ((48, np.arange(48)[:, None]), (12, None)):
        if members is None:
            members = np.argsort(groups, kind="stable").reshape(12, 4)
        found = score_targets(
            Y, predicted, samples=200, seed=7, groups=None if units == 48 else groups
        )
        drawn = np.random.default_rng(7).integers(units, size=(200, units))
        rows = [members[one].ravel() for one in drawn]
        r2 = [r2_score(Y[at], predicted[at], multioutput="raw_values") for at in rows]
        r = [pearsonr(Y[at], predicted[at]).statistic for at in rows]
        np.testing.assert_allclose(
            [found.r2_low, found.r2_high], np.quantile(r2, [0.025, 0.975], 0)
        )
        np.testing.assert_allclose([found.r_low, found.r_high], np.quantile(r, [0.025, 0.975], 0))


def test_rows_of_one_group_have_scores_but_no_interval():
    X, Y = problem(30, 5)
    predicted = RidgeProbe(1.0).fit(X, Y).predict(X)
    groups = np.repeat(["a", "b"], 15)
    Y[15:, 1] = np.nan
    found = score_targets(Y, predicted, groups=groups, samples=50)
    intervals = np.array([found.r2_low, found.r2_high, found.r_low, found.r_high])
    assert np.isnan(intervals).any(axis=0).tolist() == [False, True, False, False, False]
    assert np.isnan(intervals[:, 1]).all()
    assert np.isfinite([found.r2, found.r]).all()
    assert found.reasons == {1: "its rows are all of one group: there is no interval"}
    assert set(score_targets(Y, predicted, groups=["a"] * 30, samples=50).reasons) == set(range(5))


def test_scores_that_do_not_exist_say_why():
    X, Y = problem(30, 5)
    predicted = RidgeProbe(1.0).fit(X, Y).predict(X)
    Y[:, 0], predicted[:, 1], Y[1:, 2], Y[:4, 3] = 0.1, 0.3, np.nan, np.nan
    found = score_targets(Y, predicted, samples=50)
    assert found.reasons == {
        0: "the target is constant",
        1: "the prediction is constant: there is no r",
        2: "1 rows are known",
    }
    assert np.isnan([found.r2[0], found.r[0], found.r2[2], found.r[1], found.r_low[1]]).all()
    assert np.isfinite([found.r2[1], found.r2_low[1]]).all()
    assert found.r2[3] == pytest.approx(r2_score(Y[4:, 3], predicted[4:, 3]))
    assert found.n.tolist() == [30, 30, 1, 26, 30]
    assert np.isnan(r2_scores(Y[:, :1], predicted[:, :1]))
    assert np.isnan(pearson_scores(Y[:, 3:], np.full((30, 2), 0.1))).all()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"level": 1}, "level is 1"),
        ({"samples": -1}, "-1 samples"),
        ({"groups": [1, 2]}, "2 groups for 30 rows"),
    ],
)
def test_impossible_intervals_are_refused(settings, match):
    _, Y = problem(30, 5)
    with pytest.raises(ProbeError, match=match):
        score_targets(Y, Y, **settings)
    with pytest.raises(ProbeError, match="give both alike"):
        score_targets(Y, Y[:5])
