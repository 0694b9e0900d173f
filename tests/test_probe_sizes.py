"""Promises of the solver of probes where features say nothing, or where classes are many."""

from __future__ import annotations

import logging
import re
import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from test_probe_solver import draw, excess

from vggfeat.probe import LinearProbe
from vggfeat.solver.rows import Rows
from vggfeat.solver.spaces import Features
from vggfeat.solver.systems import Systems

Array = npt.NDArray[np.float64]

SOLUTIONS = 13  # nine values of C, and four on the way to the last


def steps(caplog: pytest.LogCaptureFixture) -> list[int]:
    """Return the Newton steps of each solution."""
    found = [re.search(r"(\d+) Newton steps$", one) for one in caplog.messages]
    return [int(match[1]) for match in found if match]


def level(present: int, absent: int, length: float, C: float) -> float:
    """Return the decision value where all rows are one row: J is a parabola of it.

    |w|^2 + b^2 is least for a value f where (w, b) is along (x, 1): f^2 / (|x|^2 + 1). Its scale is
    that of rows whose mean squared length is 1, or of zeros.
    """
    return 2 * C * (present - absent) / (1 / (length + 1) + 2 * C * (present + absent))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("d", [5, 70])  # fewer features than rows, or more
@pytest.mark.parametrize("value", [0.0, 1.0, 0.3, np.float32(0.1)])
def test_features_that_say_nothing_end_at_once_with_the_commonest_class(
    value, d, normalize, caplog
):
    caplog.set_level(logging.DEBUG, "vggfeat.probe")
    X, y = np.full((90, d), value), np.arange(90) % 9 % 4  # 30, 20, 20, 20
    probe = LinearProbe(normalize=normalize).fit(X, y)
    counts, taken = np.bincount(y), steps(caplog)
    assert len(taken) == SOLUTIONS
    assert sum(taken) <= 2 * SOLUTIONS
    square = 1.0 if normalize or not value else d * float(value) ** 2
    assert pytest.approx(1 / square, rel=1e-5) == probe.C_
    expected = [level(k, 90 - k, float(value != 0), 1.0) for k in counts]
    np.testing.assert_allclose(probe.decision_function(X), np.tile(expected, (90, 1)), atol=1e-6)
    assert (probe.predict(X) == 0).all()


@pytest.mark.parametrize("d", [5, 70])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_logistic_regression_of_rows_that_are_all_alike_gives_the_shares_of_classes(
    d, kind, caplog
):
    caplog.set_level(logging.DEBUG, "vggfeat.probe")
    X, y = np.full((90, d), 0.3, kind), np.arange(90) % 9 % 4
    probe = LinearProbe("logreg").fit(X, y)
    assert sum(steps(caplog)) <= 4 * SOLUTIONS
    shares = np.bincount(y) / 90
    np.testing.assert_allclose(probe.predict_proba(X), np.tile(shares, (90, 1)), atol=1e-6)


@pytest.mark.parametrize("d", [20, 150])
@pytest.mark.parametrize("odd", ["repeated", "contrary", "some zeros", "class of one"])
def test_odd_rows_take_few_steps_to_the_minimum(odd, d, caplog):
    caplog.set_level(logging.DEBUG, "vggfeat.probe")
    X, y = draw(120, d, 4)
    if odd in ("repeated", "contrary"):
        X = np.tile(X[:12], (10, 1))
        y = np.random.default_rng(0).permutation(y) if odd == "contrary" else np.tile(y[:12], 10)
    elif odd == "some zeros":
        X[::7] = 0
    else:
        y[5] = 4
    LinearProbe(normalize=False).fit(X, y)
    assert sum(steps(caplog)) <= 10 * SOLUTIONS
    assert max(steps(caplog)) < 40
    length = np.sqrt((X**2).sum(axis=1).mean())
    assert excess(LinearProbe(C=1, normalize=False).fit(X / length, y), X / length, y) < 1e-6


@pytest.mark.parametrize("classifier", ["svm", "logreg"])
@pytest.mark.parametrize("labels", ["one", "several"])
@pytest.mark.parametrize("shape", [(60, 12), (45, 40)])
def test_blocks_of_columns_change_no_answer(shape, labels, classifier, monkeypatch):
    X, y = draw(*shape, 5)
    if labels == "several":
        y = np.eye(5)[y]
        y[3, 1] = np.nan
    whole = LinearProbe(classifier, calibrate=True).fit(X, y)
    # two classes at a time
    arrays = 8 * 24 * (shape[0] + max(shape))
    monkeypatch.setattr("vggfeat.probe.training.COLUMN_BYTES", 2 * arrays)
    parts = LinearProbe(classifier, calibrate=True).fit(X, y)
    np.testing.assert_array_equal(parts.C_, whole.C_)
    np.testing.assert_allclose(parts.decision_function(X), whole.decision_function(X), atol=1e-6)
    if classifier == "svm":
        np.testing.assert_allclose(parts.predict_proba(X), whole.predict_proba(X), atol=1e-4)


def test_memory_does_not_grow_with_the_number_of_classes(monkeypatch):
    monkeypatch.setattr("vggfeat.probe.training.COLUMN_BYTES", 2 << 20)
    monkeypatch.setattr("vggfeat.solver.factors.CACHED_BYTES", 1 << 20)
    monkeypatch.setattr("vggfeat.solver.spaces.BLOCK_BYTES", 0)  # keep no inner products
    n = 600
    X = np.random.default_rng(0).normal(size=(n, 8))
    LinearProbe(C=1).fit(X, np.arange(n) % 60)  # imports what it needs
    taken = {}
    for K in (60, 300):
        tracemalloc.start()
        try:
            LinearProbe(C=1).fit(X, np.arange(n) % K)
            taken[K] = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert taken[300] <= taken[60] + 4 * 300 * 8 * 8 + (2 << 20)
    assert taken[300] - taken[60] < 8 * n * 300 * 2  # two numbers for each row and class


@pytest.mark.parametrize("working", [np.float32, np.float64])
def test_inner_products_are_kept_where_they_are_few(working):
    X, _ = draw(50, 6, 2)
    space = Features(Rows(X), X.mean(axis=0), penalised=True, working=working)
    centred = np.column_stack([X - X.mean(axis=0), np.ones(50)])
    rows, others = np.array([3, 7, 20]), np.array([7, 9])
    expected = centred[rows] @ centred[others].T
    np.testing.assert_allclose(space.block(rows, others, working), expected, atol=1e-6)
    np.testing.assert_allclose(space.moments(), centred.T @ centred, atol=1e-4)
    values = Systems(space).deflation.values
    np.testing.assert_allclose(values, np.linalg.eigvalsh(centred.T @ centred)[::-1], rtol=1e-4)
