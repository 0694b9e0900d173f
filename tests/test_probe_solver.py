"""Promises of the solver of linear probes: scikit-learn's answers, for all columns at once."""

from __future__ import annotations

import tracemalloc

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from test_probe import make_store
from threadpoolctl import threadpool_info

from vggfeat.errors import ProbeError
from vggfeat.labels import as_floats, from_signs, to_signs
from vggfeat.metrics import average_precision
from vggfeat.norms import unit_length
from vggfeat.probe import LinearProbe, evaluate, stratified_folds
from vggfeat.probe import train as train_probe
from vggfeat.probe.choosing import GRID, by_precision, by_recall, chosen, parts_of
from vggfeat.probe.split import rarest
from vggfeat.probe.targets import groups_of, multi_label, single_label
from vggfeat.probe.training import Training
from vggfeat.solver.conjugate import conjugate_gradients
from vggfeat.solver.deflation import Deflation
from vggfeat.solver.factors import CACHED_BYTES, Cholesky, Factors
from vggfeat.solver.losses import Logistic, Multinomial, SquaredHinge
from vggfeat.solver.newton import minimise
from vggfeat.solver.rows import Rows
from vggfeat.solver.spaces import Features, Gram, gram
from vggfeat.solver.systems import Systems
from vggfeat.store import FeatureStore

Array = npt.NDArray[np.float64]


def draw(n: int, d: int, classes: int, seed: int = 0, spread: float = 1.0) -> tuple[Array, Array]:
    """Draw rows of length 1 around a centre a class, of correlated features."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    mixing = rng.normal(size=(d, d)) / np.sqrt(np.arange(1, d + 1))[:, None]
    X = rng.normal(size=(classes, d))[y] + 3 * spread * rng.normal(size=(n, d)) @ mixing
    return unit_length(X), y


def svm(X: Array, y: Array, C: float, **options) -> Array:
    """Return scikit-learn's decision values."""
    dual = len(X) < X.shape[1]
    solver = LinearSVC(C=C, dual=dual, tol=1e-9, max_iter=200_000, random_state=0, **options)
    return solver.fit(X, y).decision_function(X)


def logreg(X: Array, y: Array, C: float, **options) -> Array:
    """Return scikit-learn's decision values, by a second-order method that goes to the end."""
    solver = LogisticRegression(C=C, solver="newton-cg", tol=1e-10, max_iter=1000, **options)
    return solver.fit(X, y).decision_function(X)


# Against scikit-learn

SHAPES = [(300, 20, 2), (300, 20, 5), (60, 150, 2), (60, 150, 4), (90, 90, 30)]


@pytest.mark.parametrize("C", [1e-4, 0.03, 1, 30])
@pytest.mark.parametrize("shape", SHAPES)
def test_decision_values_are_those_of_linear_svc(shape, C):
    X, y = draw(*shape)
    ours = LinearProbe(C=C, normalize=False).fit(X, y).decision_function(X)
    np.testing.assert_allclose(ours, svm(X, y, C), atol=2e-5)


@pytest.mark.parametrize("C", [1e-4, 0.03, 1, 30])
@pytest.mark.parametrize("shape", SHAPES[:-1])
def test_decision_values_are_those_of_logistic_regression(shape, C):
    X, y = draw(*shape)
    ours = LinearProbe("logreg", C=C, normalize=False).fit(X, y).decision_function(X)
    np.testing.assert_allclose(ours, logreg(X, y, C), atol=2e-5)


@pytest.mark.parametrize("classifier", ["svm", "logreg"])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("class_weight", ["balanced", {0: 5.0, 1: 0.2}])
def test_class_weights_are_those_of_scikit_learn(classifier, classes, class_weight):
    X, y = draw(120, 10, classes)
    X, y = X[y * np.arange(120) < 150], y[y * np.arange(120) < 150]
    ours = LinearProbe(classifier, C=2, normalize=False, class_weight=class_weight).fit(X, y)
    expected = (svm if classifier == "svm" else logreg)(X, y, 2, class_weight=class_weight)
    np.testing.assert_allclose(ours.decision_function(X), expected, atol=2e-5)


def test_longer_rows_take_an_intercept_as_long():
    X, y = draw(100, 12, 3)
    length = np.sqrt(((7 * X) ** 2).sum(axis=1).mean())
    ours = LinearProbe(C=0.02, normalize=False).fit(7 * X, y).decision_function(7 * X)
    expected = svm(7 * X, y, 0.02, intercept_scaling=length)
    np.testing.assert_allclose(ours, expected, atol=2e-5)


@pytest.mark.parametrize("shape", [(200, 8, 2), (40, 80, 3)])
def test_repeated_rows_and_features_change_no_answer(shape):
    X, y = draw(*shape)
    X, y = np.hstack([X, X])[np.r_[: len(X), : len(X)]], np.r_[y, y]
    ours = LinearProbe(C=1, normalize=False).fit(X, y).decision_function(X)
    np.testing.assert_allclose(ours, svm(X, y, 1, intercept_scaling=np.sqrt(2)), atol=2e-5)


# Where scikit-learn's solvers take too long, the condition for a minimum is checked itself


def excess(probe: LinearProbe, X: Array, y: Array) -> float:
    """Return by how much the next exact Newton step would change a decision value at most."""
    f = probe.decision_function(X).reshape(len(X), -1)
    signs = np.where(y[:, None] == np.arange(f.shape[1]), 1, -1)
    signs = 2 * y[:, None] - 1 if f.shape[1] == 1 else signs
    pulls = 2 * probe.C_ * signs * np.maximum(1 - signs * f, 0)
    w = np.column_stack([probe.coef_, probe.intercept_])
    rows = np.column_stack([X, np.ones(len(X))])
    changes = []
    for k, gradient in enumerate(w - pulls.T @ rows):
        active = rows[signs[:, k] * f[:, k] < 1]
        hessian = np.eye(rows.shape[1]) + 2 * probe.C_ * active.T @ active
        changes.append(np.abs(rows @ np.linalg.solve(hessian, gradient)).max())
    return float(max(changes))


@pytest.mark.parametrize("C", [1e-8, 1e3, 1e7])
@pytest.mark.parametrize(
    ("shape", "spread"), [((80, 30, 3), 0.01), ((80, 30, 2), 3), ((50, 200, 5), 1)]
)
def test_extreme_c_and_separable_classes_are_solved(shape, spread, C, caplog):
    X, y = draw(*shape, spread=spread)
    assert excess(LinearProbe(C=C, normalize=False).fit(X, y), X, y) < 1e-6
    assert "did not settle" not in caplog.text


@settings(deadline=None, max_examples=40)
@example(n=26, d=3, classes=3, log_C=4.0, copies=2, seed=0)  # single precision does not suffice
@given(
    n=st.integers(4, 60),
    d=st.integers(1, 60),
    classes=st.integers(2, 4),
    log_C=st.floats(-4, 4),
    copies=st.integers(1, 2),
    seed=st.integers(0, 10**6),
)
def test_the_gradient_vanishes(n, d, classes, log_C, copies, seed):
    X, y = draw(n, d, classes, seed)
    X, y = np.tile(X, (copies, 1)), np.tile(y, copies)
    assert (
        excess(LinearProbe(C=10**log_C, normalize=False, random_state=seed).fit(X, y), X, y) < 1e-6
    )


# Its ways agree


def spaces(X: Array, penalised: bool, working: type) -> list[Gram | Features]:
    rows, mean = Rows(X), np.zeros(X.shape[1]) if penalised else X.mean(axis=0)
    return [
        Gram(
            gram(rows, centred=not penalised),
            np.arange(len(X)),
            penalised=penalised,
            working=working,
        ),
        Features(rows, mean, penalised=penalised, working=working),
    ]


@pytest.mark.parametrize("penalised", [True, False])
@pytest.mark.parametrize("working", [np.float32, np.float64])
def test_rows_and_features_are_two_coordinates_of_the_same_functions(penalised, working):
    X, _ = draw(40, 15, 3)
    a, b = np.random.default_rng(1).normal(size=(2, 40, 2))
    seen = []
    for space in spaces(X, penalised, working):
        one, other = space.pull(a), space.pull(b)
        scores = space.scores(one)
        np.testing.assert_allclose(space.fast(one.astype(working)), scores, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(  # pull is the transpose of scores
            (space.dual(one, scores) * other).sum(), (scores * b).sum()
        )
        active = a > 0
        inside, rest = space.split(one, active)
        np.testing.assert_array_equal(inside[~active], 0)
        np.testing.assert_allclose(space.scores(space.pull(inside) + rest), scores, atol=1e-9)
        block = space.block(np.arange(7), np.arange(5, 20), np.float64)
        seen.append([scores, space.scores(space.regular(one)), block])
    for one, other in zip(*seen, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("classifier", ["svm", "logreg"])
@pytest.mark.parametrize("working", [np.float32, np.float64])
def test_both_coordinates_and_precisions_reach_the_same_minimum(classifier, classes, working):
    X, y = draw(70, 40, classes)
    targets = single_label(y, np.arange(classes), None)
    C = np.full(groups_of(targets, classifier), 5.0)
    loss = targets.loss(classifier, np.arange(70), C, slice(None))
    found = [
        minimise(Systems(space), loss, tolerance=1e-9, most_steps=50)
        for space in spaces(X, classifier == "svm", working)
    ]
    one, other = (solution.scores for solution in found)
    if targets.together and classifier == "logreg":  # what all classes have in common means nothing
        one, other = (f - f.mean(axis=1, keepdims=True) for f in (one, other))
    np.testing.assert_allclose(one, other, atol=1e-7)
    assert all(solution.change <= 1e-9 for solution in found)


@pytest.mark.parametrize("working", [np.float32, np.float64])
def test_a_factor_and_iterations_give_the_same_step(working):
    X, y = draw(80, 50, 2)
    signs = np.column_stack([2.0 * y - 1, 1 - 2.0 * y])
    loss = SquaredHinge(signs, np.full(signs.shape, 3.0))
    for space in spaces(X, True, working):
        deflation = Deflation(space)
        factors = Factors(space)
        V = np.zeros((space.dimension, 2))
        for _ in range(4):  # rows come and leave, so that the factor is bordered
            f = space.scores(V)
            g = (space.regular(V) + space.pull(loss.slope(f))).astype(working)
            curvature = loss.curvature(f, np.dtype(working))
            d, done = factors.step(np.arange(2), curvature, g)
            assert done.all()
            other = np.zeros_like(d)
            for _ in range(12):  # each leaves a twentieth
                Fd = space.fast(other)
                rest = g + space.regular(other) + space.pull(curvature(Fd))
                other = other + conjugate_gradients(space, curvature, rest, deflation, 1)[0]
            tolerance = 1e-3 if working == np.float32 else 1e-9
            np.testing.assert_allclose(
                space.scores(d.astype(float)), space.scores(other.astype(float)), atol=tolerance
            )
            V += d


def test_a_factor_that_has_overflowed_is_made_anew():
    X, y = draw(80, 50, 2)
    signs = np.column_stack([2.0 * y - 1, 1 - 2.0 * y])
    loss = SquaredHinge(signs, np.full(signs.shape, 3.0))
    (space, _) = spaces(X, True, np.float32)
    V = np.zeros((space.dimension, 2))
    worn, fresh = Factors(space), Factors(space)
    for factors in (worn, fresh):
        curvature = loss.curvature(space.scores(V), np.dtype(np.float32))
        g = (space.regular(V) + space.pull(loss.slope(space.scores(V)))).astype(np.float32)
        d, _ = factors.step(np.arange(2), curvature, g)
    V += d
    for factor in worn._cached.values():
        factor.cholesky.inverses[0][:] = np.inf
    f = space.scores(V)
    g = (space.regular(V) + space.pull(loss.slope(f))).astype(np.float32)
    curvature = loss.curvature(f, np.dtype(np.float32))
    with np.errstate(all="ignore"):
        steps = [factors.step(np.arange(2), curvature, g) for factors in (worn, fresh)]
    assert steps[0][1].all()
    np.testing.assert_allclose(steps[0][0], steps[1][0], rtol=1e-3, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_slope_and_curvature_are_derivatives(seed):
    rng = np.random.default_rng(seed)
    f, F = rng.normal(size=(2, 6, 6))
    signs, C = np.sign(rng.normal(size=(6, 6))), rng.random((6, 6))
    label = rng.integers(0, 3, 6)
    for loss in (SquaredHinge(signs, C), Logistic(signs, C), Multinomial(label, 3, C[:, :2])):
        step = 1e-6
        slope = (loss.slope(f + step * F) - loss.slope(f - step * F)) / (2 * step)
        if not isinstance(loss, SquaredHinge) or (np.abs(1 - signs * f) > 1e-4).all():
            curvature = loss.curvature(f, np.dtype(np.float64))
            np.testing.assert_allclose(curvature(F), slope, atol=1e-6)
            two = curvature.take(np.array([1]))(F[:, loss.width : 2 * loss.width])
            np.testing.assert_allclose(two, slope[:, loss.width : 2 * loss.width], atol=1e-6)


# Several labels


def several(n: int = 150, d: int = 12, K: int = 4) -> tuple[Array, Array]:
    """Draw rows, and an indicator matrix in which some entries are left out."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(n, d))
    y = (X @ rng.normal(size=(d, K)) + 2 * rng.normal(size=(n, K)) > 1).astype(float)
    y[rng.random((n, K)) < 0.1] = np.nan
    return unit_length(X), y


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("classifier", ["svm", "logreg"])
def test_each_label_is_a_classifier_of_its_own_without_its_ignored_rows(classifier, class_weight):
    X, y = several()
    C = [0.1, 1, 3, 20]
    probe = LinearProbe(classifier, C=C, class_weight=class_weight).fit(X, y)
    for k in range(4):
        known = ~np.isnan(y[:, k])
        one = LinearProbe(classifier, C=C[k], class_weight=class_weight)
        one.fit(X[known], y[known, k])
        np.testing.assert_allclose(
            probe.decision_function(X)[:, k], one.decision_function(X), atol=1e-6
        )
    np.testing.assert_array_equal(probe.predict(X), probe.decision_function(X) > 0)
    if classifier == "logreg":
        np.testing.assert_array_equal(probe.predict_proba(X) > 0.5, probe.predict(X) == 1)


def test_an_ignored_entry_decides_nothing_whatever_its_row_says():
    X, y = several()
    y[7] = np.nan
    before, fixed = LinearProbe().fit(X, y), LinearProbe(C=2).fit(X, y)
    X[7] = -X[7]
    np.testing.assert_allclose(LinearProbe(C=2).fit(X, y).coef_, fixed.coef_, atol=1e-6)
    np.testing.assert_allclose(LinearProbe().fit(X, y).C_, before.C_, rtol=1e-3)  # unit of C


def test_each_label_has_the_c_of_the_best_average_precision():
    X, y = several()
    targets = multi_label(y, None)
    training = Training(Rows(X), "svm", targets, seed=0, most_steps=100)
    parts = parts_of(rarest(targets.present), 3, 0)
    best = chosen(training, parts, by_precision(targets))
    values = np.array(GRID) / training.spread
    for k in range(4):
        table = []
        for train, held_out in parts:
            train, held_out = (rows[~np.isnan(y[rows, k])] for rows in (train, held_out))
            table.append(
                [
                    average_precision(
                        y[held_out, k] == 1,
                        LinearSVC(C=C, dual=False, tol=1e-9)
                        .fit(X[train], y[train, k])
                        .decision_function(X[held_out]),
                    )
                    for C in values
                ]
            )
        at = np.mean(table, axis=0)
        assert at[np.argmin(np.abs(values - best[k]))] == pytest.approx(at.max(), abs=1e-9)


def test_labels_of_voc_are_translated_and_never_taken_as_they_are():
    voc = np.array([[1, -1], [-1, 0], [0, 1], [-1, -1]])
    codes = from_signs(voc)
    assert codes.tolist() == [[1, 0], [0, -1], [-1, 1], [0, 0]]
    assert to_signs(codes).tolist() == voc.tolist()
    np.testing.assert_array_equal(as_floats(codes), [[1, 0], [0, np.nan], [np.nan, 1], [0, 0]])
    for wrong in (voc, codes):
        with pytest.raises(ProbeError, match=r"is -1.*as_floats.*from_signs"):
            LinearProbe().fit(np.eye(4), wrong)
    with pytest.raises(ValueError, match="other values"):
        from_signs([[2, 0]])


def test_a_label_that_cannot_be_learnt_is_named():
    y = np.array([[1, 0], [0, 0], [1, np.nan]])
    with pytest.raises(ProbeError, match="Class 1 is present in 0 rows"):
        LinearProbe().fit(np.eye(3), y)
    with pytest.raises(ProbeError, match="one a label"):
        LinearProbe(C=[1, 2, 3]).fit(np.eye(3), [[1, 0], [0, 1], [1, 1]])
    with pytest.raises(ProbeError, match="several labels take"):
        LinearProbe(C=1, class_weight={0: 2}).fit(np.eye(3), [[1, 0], [0, 1], [1, 1]])


# Choosing C


@pytest.mark.parametrize("classifier", ["svm", "logreg"])
@pytest.mark.parametrize("shape", [(150, 10, 3), (45, 90, 3), (100, 10, 2)])
def test_the_scores_that_choose_c_are_those_of_separate_solutions(classifier, shape):
    X, y = draw(*shape)
    classes = np.unique(y)
    targets = single_label(y, classes, None)
    training = Training(Rows(X), classifier, targets, seed=0, most_steps=100)
    kept = []

    class Kept:
        def __init__(self, rows, count):
            self.rows, self.own = rows, by_recall(y, classes)(rows, count)

        def add(self, stage, columns, f):
            kept.append((self.rows, f))
            self.own.add(stage, columns, f)

        def values(self):
            return self.own.values()

    parts = parts_of(y, 3, 0)
    values = np.array([0.1, 1, 10])
    assert training.choose(values, parts, Kept).shape == (3,)
    for i, (rows, f) in enumerate(kept):
        train = parts[i // 3][0]
        probe = LinearProbe(classifier, C=values[i % 3], normalize=False)
        if classifier == "svm":  # the intercept's weight depends on the rows' length: here 1
            probe.normalize = True
        expected = probe.fit(X[train], y[train]).decision_function(X[rows])
        np.testing.assert_allclose(f.reshape(expected.shape), expected, atol=1e-3)


def test_folds_hold_out_each_row_once_and_share_classes_out():
    y = np.repeat([0, 1, 2], [10, 4, 7])
    parts = stratified_folds(y, 3, seed=1)
    np.testing.assert_array_equal(np.sort(np.concatenate([b for _, b in parts])), np.arange(21))
    for train, held_out in parts:
        np.testing.assert_array_equal(np.sort(np.r_[train, held_out]), np.arange(21))
        assert all(abs((y[held_out] == k).sum() - (y == k).sum() / 3) < 1 for k in range(3))
    with pytest.raises(ProbeError, match="at least 2"):
        stratified_folds(y, 1)


@pytest.mark.parametrize("validation", [0.3, 3])
def test_c_is_chosen_by_share_or_folds_and_the_choice_repeats(validation):
    X, y = draw(120, 20, 3)
    one, two = (LinearProbe(validation=validation).fit(X, y) for _ in range(2))
    assert one.C_ == two.C_
    np.testing.assert_array_equal(one.coef_, two.coef_)


@pytest.mark.parametrize("validation", [0, 1, 1.5, -2])
def test_an_impossible_validation_is_named(validation):
    X, y = draw(20, 4, 2)
    with pytest.raises(ProbeError, match=f"validation is {validation}"):
        LinearProbe(validation=validation).fit(X, y)


# Rows that stay in a file


@pytest.mark.parametrize("shape", [(200, 10, 3), (40, 60, 3)])
@pytest.mark.parametrize("classifier", ["svm", "logreg"])
def test_rows_in_a_file_give_what_rows_in_memory_do(classifier, shape, tmp_path, monkeypatch):
    monkeypatch.setattr("vggfeat.solver.rows.BLOCK_BYTES", 17 * 8 * shape[1])  # 17 rows a block
    X, y = draw(*shape)
    X = np.float32(5 * X)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["X"] = X
        probe = LinearProbe(classifier).fit_reader(file["X"], y)
    expected = LinearProbe(classifier).fit(X, y)
    np.testing.assert_allclose(probe.C_, expected.C_, rtol=1e-6)
    np.testing.assert_allclose(probe.decision_function(X), expected.decision_function(X), atol=1e-4)


def test_rows_of_a_file_are_read_where_they_are_asked_for(tmp_path):
    X = np.arange(60.0).reshape(20, 3) + 1
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["X"] = X
        for chosen_rows in ([0, 1, 2], [3, 7, 19], [19], []):
            at = np.array(chosen_rows, int)
            rows = Rows(file["X"], at, unit=2.0)
            np.testing.assert_array_equal(rows.take(np.arange(len(at))), X[at] / 2)
            np.testing.assert_array_equal(
                np.vstack([np.empty((0, 3)), *(block for _, block in rows.blocks())]), X[at] / 2
            )


def bytes_promised(n: int, d: int, m: int, block: int) -> int:
    """Return what training on rows in a file takes at most, as `probe.training` writes it."""
    few = n <= 3 * d
    p = n if few else d
    threads = min(m, max(part["num_threads"] for part in threadpool_info()))
    block = max(block, 8 * d)
    taken = 5 * block + 8 * 8 * 144 * (n + p) + 8 * m * (24 * (n + p) + 4 * d)
    if few:
        return taken + 12 * n**2 + min(CACHED_BYTES, 8 * n**2 * m) + 16 * n**2 * threads
    return taken + threads * (CACHED_BYTES + 3 * block)


@pytest.mark.parametrize("classifier", ["svm", "logreg"])
def test_a_store_larger_than_memory_is_learnt_block_by_block(classifier, tmp_path, monkeypatch):
    block = 4 * 8 * 40_000  # four rows
    monkeypatch.setattr("vggfeat.solver.rows.BLOCK_BYTES", block)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 40_000), np.float32)
    X[:, :40] *= 8
    size = X.nbytes
    y = np.digitize(X[:, 0], [-4, 4])
    make_store(tmp_path / "s.h5", X, {i: (f"c{k}",) for i, k in enumerate(y)})
    promised = bytes_promised(*X.shape, 3, block)
    assert promised < 0.9 * size  # else keeping it would show nothing
    del X
    taken, probes = {}, {}
    with FeatureStore(tmp_path / "s.h5") as store:
        for name, memory in (("little", 1 << 20), ("much", 1 << 40)):
            tracemalloc.start()  # numpy tells it of each array
            try:
                saved = train_probe(store, "relu7", classifier=classifier, memory=memory)
                taken[name] = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            probes[name] = saved.probe
    assert taken["little"] <= promised
    assert taken["much"] >= size
    little, much = probes["little"].coef_, probes["much"].coef_
    np.testing.assert_allclose(little, much, atol=1e-6 * np.abs(much).max())


def test_rows_of_a_store_are_read_as_a_classifier_takes_them(tmp_path):
    X, y = draw(260, 20, 3)
    path = make_store(tmp_path / "s.h5", np.float32(X), {i: (f"c{k}",) for i, k in enumerate(y)})
    with FeatureStore(path) as store:
        little, much = (evaluate(store, "pool5", memory=memory) for memory in (1, 1 << 40))
    assert pytest.approx(much.C, rel=1e-6) == little.C
    np.testing.assert_allclose(
        [one.margin for one in little.predictions], [one.margin for one in much.predictions], 1e-4
    )


# What it tells meanwhile


@pytest.mark.parametrize("C", [None, 3.0])
@pytest.mark.parametrize("classifier", ["svm", "logreg"])
def test_progress_sums_to_the_whole(classifier, C):
    X, y = draw(60, 20, 3)
    shares: list[float] = []

    def told(_stage: str, more: float, total: float) -> None:
        assert total == 1
        shares.append(more)

    LinearProbe(classifier, C=C, validation=3).fit(X, y, progress=told)
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0


def test_features_that_did_not_settle_are_named(caplog):
    X, y = draw(90, 20, 3, spread=3)
    LinearProbe(C=1e6, max_iter=1).fit(X, y, name="relu7")
    assert "relu7: the svm did not settle" in caplog.text
    assert "lower C" in caplog.text


# A factor in blocks


@pytest.mark.parametrize("size", [1, 95, 96, 97, 300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_factor_in_blocks_is_the_cholesky_factor(size, dtype):
    rng = np.random.default_rng(size)
    A = rng.normal(size=(size, size + 5))
    A = (A @ A.T / size + np.eye(size)).astype(dtype)
    B = rng.normal(size=(size, 3)).astype(dtype)
    factor = Cholesky.of(A.copy())
    L = np.linalg.cholesky(A.astype(np.float64))
    tolerance = 1e-4 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(np.tril(factor.L), L, atol=tolerance)
    np.testing.assert_allclose(factor.forward(B), np.linalg.solve(L, B), atol=tolerance)
    np.testing.assert_allclose(
        factor.backward(B[:, 0]), np.linalg.solve(L.T, B[:, 0]), atol=tolerance
    )
    A[-1, -1] = -1
    with pytest.raises(np.linalg.LinAlgError):
        Cholesky.of(A)
