"""Scores are those of their definitions, and comparisons promise no more than they know."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    top_k_accuracy_score,
)

from vggfeat import metrics
from vggfeat.errors import ProbeError
from vggfeat.labels import as_floats, from_signs

CODES = st.sampled_from([1.0, 0.0, np.nan])
TIED = st.integers(-3, 3)
ENTRIES = st.lists(st.tuples(CODES, TIED), min_size=1, max_size=40).filter(
    lambda found: {1, 0} <= {y for y, _ in found}
)


def columns(entries):
    y, scores = zip(*entries, strict=True)
    return np.array(y), np.array(scores)


def by_definition(y, scores, kind):
    """Average precision in fractions, from the curve of precision and recall alone."""
    pairs = zip(y.tolist(), scores.tolist(), strict=True)
    entries = [(s, label) for label, s in pairs if not np.isnan(label)]
    total = sum(label == 1 for _, label in entries)
    curve = []
    for threshold in sorted({s for s, _ in entries}, reverse=True):
        ranked = [label for s, label in entries if s >= threshold]
        hits = ranked.count(1)
        curve.append((Fraction(hits, total), Fraction(hits, len(ranked))))

    def interpolated(recall):
        return max(precision for reached, precision in curve if reached >= recall)

    if kind == "11-point":
        return sum(interpolated(Fraction(i, 10)) for i in range(11)) / 11
    area, before = Fraction(0), Fraction(0)
    for recall, precision in curve:
        area += (recall - before) * (interpolated(recall) if kind == "all-point" else precision)
        before = recall
    return area


@pytest.mark.parametrize("kind", metrics.AP_KINDS)
@settings(deadline=None)
@given(entries=ENTRIES)
def test_average_precision_is_its_definition(kind, entries):
    y, scores = columns(entries)
    expected = float(by_definition(y, scores, kind))
    assert metrics.average_precision(y, scores, kind) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "every_point", "eleven_points", "step"),
    [
        ("+-+", 5 / 6, 28 / 33, 5 / 6),
        ("-++", 2 / 3, 2 / 3, 7 / 12),
        ("+", 1, 1, 1),
        ("++--", 1, 1, 1),
        ("-+", 1 / 2, 1 / 2, 1 / 2),
        ("+--+-", 3 / 4, (6 + 5 / 2) / 11, 3 / 4),
        # After three of ten the recall is 0.3 and the precision 1; from then on 10/11.
        ("+++-+++++++", 0.3 + 0.7 * 10 / 11, 114 / 121, None),
    ],
)
def test_average_precision_by_hand(labels, every_point, eleven_points, step):
    y = [1 if label == "+" else 0 for label in labels]
    scores = -np.arange(len(y))
    assert metrics.average_precision(y, scores) == pytest.approx(every_point)
    assert metrics.average_precision(y, scores, "11-point") == pytest.approx(eleven_points)
    if step is not None:
        assert metrics.average_precision(y, scores, "step") == pytest.approx(step)


@settings(deadline=None)
@given(entries=ENTRIES)
def test_average_precision_by_steps_is_scikit_learns(entries):
    y, scores = columns(entries)
    known = ~np.isnan(y)
    theirs = average_precision_score(y[known] == 1, scores[known])
    assert metrics.average_precision(y, scores, "step") == pytest.approx(theirs)


@pytest.mark.parametrize("kind", metrics.AP_KINDS)
@settings(deadline=None)
@given(entries=ENTRIES, shuffle=st.randoms(use_true_random=False))
def test_neither_order_nor_scale_nor_what_is_left_out_matters(kind, entries, shuffle):
    y, scores = columns(entries)
    expected = metrics.average_precision(y, scores, kind)
    others = list(entries)
    shuffle.shuffle(others)
    assert metrics.average_precision(*columns(others), kind) == expected
    assert metrics.average_precision(y, np.exp(scores / 2) - 7, kind) == expected
    known = ~np.isnan(y)
    assert metrics.average_precision(y[known], scores[known], kind) == expected
    assert metrics.average_precision(y[known] == 1, scores[known], kind) == expected
    if (~known).sum() <= (y == 0).sum():
        codes = np.where(known, y, -1).astype(np.int8)
        assert metrics.average_precision(codes, scores, kind) == expected


@pytest.mark.parametrize("kind", metrics.AP_KINDS)
@settings(deadline=None)
@given(present=st.integers(1, 30), absent=st.integers(0, 30))
def test_a_perfect_ranking_has_1_and_one_that_knows_nothing_the_share_of_images(
    kind, present, absent
):
    y = np.repeat([True, False], [present, absent])
    assert metrics.average_precision(y, y.astype(int), kind) == 1
    share = present / (present + absent)
    assert metrics.average_precision(y, np.zeros(len(y)), kind) == pytest.approx(share)


@settings(deadline=None)
@given(entries=ENTRIES)
def test_the_envelope_never_lowers_a_score(entries):
    y, scores = columns(entries)
    every_point = metrics.average_precision(y, scores)
    assert metrics.average_precision(y, scores, "step") <= every_point + 1e-12
    assert 0 < every_point <= 1


def test_scores_of_any_type_are_ranked_and_infinite_ones_tie():
    y = [1, 0, 1, 0]
    assert metrics.average_precision(y, [np.inf, np.inf, -np.inf, -np.inf]) == 0.5
    assert metrics.average_precision(y, np.array([9, 5, 7, 3], np.uint8)) == 1
    assert metrics.average_precision(y, np.array([True, False, True, False])) == 1
    assert metrics.average_precision(np.array(y, np.int8), np.float16([9, 5, 7, 3])) == 1


def test_mean_average_precision_is_the_mean_of_the_classes():
    rng = np.random.default_rng(0)
    y, scores = rng.choice([1, 0, np.nan], (50, 4)), rng.normal(size=(50, 4))
    each = [metrics.average_precision(y[:, k], scores[:, k], "11-point") for k in range(4)]
    np.testing.assert_array_equal(metrics.average_precisions(y, scores, "11-point"), each)
    mean = metrics.mean_average_precision(y, scores, "11-point")
    assert mean == pytest.approx(np.mean(each))


def test_a_class_without_images_has_no_average_precision():
    y = np.array([[1, 0, np.nan], [0, 0, np.nan]])
    found = metrics.average_precisions(y, np.zeros((2, 3)))
    np.testing.assert_array_equal(np.isnan(found), [False, True, True])
    with pytest.raises(ProbeError, match=r"in 2 of 3 classes \(columns 1, 2\).*Leave these"):
        metrics.mean_average_precision(y, np.zeros((2, 3)))
    with pytest.raises(ProbeError, match=r"None of 2 entries is present.*Leave the class out"):
        metrics.average_precision(y[:, 1], [0, 0])


@pytest.mark.parametrize(
    ("y", "scores", "kind", "message"),
    [
        ([1, -1, -1, 0], [1, 2, 3, 4], "all-point", "-1 2 times.*VOC's files.*from_signs"),
        ([1.0, -1.0], [1, 2], "all-point", "-1.0 is no label.*from_signs"),
        ([1, 2], [1, 2], "all-point", "2 is no label: give 1 present, 0 absent, NaN left out"),
        (["a", "b"], [1, 2], "all-point", "'a' is no label"),
        ([1, 0], [1, np.nan], "all-point", "NaN"),
        ([1, 0], ["1", "2"], "all-point", "no numbers"),
        ([1, 0], [1, 2, 3], "all-point", r"shape \(2,\) and scores \(3,\)"),
        ([[1, 0]], [[1, 2]], "all-point", r"shape \(1, 2\)"),
        ([1, 0], [1, 2], "10-point", "Unknown kind.*: all-point, 11-point"),
        ([], [], "all-point", "None of 0 entries is present"),
    ],
)
def test_what_has_no_average_precision_is_refused_with_a_reason(y, scores, kind, message):
    with pytest.raises(ProbeError, match=message):
        metrics.average_precision(y, scores, kind)


CLASSES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label")
@settings(deadline=None)
@given(pairs=CLASSES)
def test_accuracy_and_recall_are_scikit_learns_and_the_probes(pairs):
    y, predicted = columns(pairs)
    assert metrics.accuracy(y, predicted) == pytest.approx(np.mean(y == predicted))
    recall = metrics.mean_class_recall(y, predicted)
    assert recall == pytest.approx(balanced_accuracy_score(y, predicted))


def test_recall_by_hand():
    y, predicted = ["cat", "cat", "cat", "dog"], ["cat", "cat", "ape", "dog"]
    assert metrics.class_recalls(y, predicted).tolist() == [2 / 3, 1]
    assert metrics.mean_class_recall(y, predicted) == pytest.approx(5 / 6)
    assert metrics.accuracy(y, predicted) == 3 / 4


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_accuracy_is_scikit_learns_where_no_scores_are_equal(k):
    rng = np.random.default_rng(k)
    y, scores = rng.integers(6, size=200), rng.normal(size=(200, 6))
    theirs = top_k_accuracy_score(y, scores, k=k, labels=range(6))
    assert metrics.top_k_accuracy(y, scores, k) == pytest.approx(theirs)


def test_equal_scores_count_with_their_share_in_top_k():
    assert metrics.top_k_accuracy([2, 0], np.zeros((2, 4)), 1) == 1 / 4
    assert metrics.top_k_accuracy([2, 0], np.zeros((2, 4)), 4) == 1
    scores = [[3, 2, 2, 2]]  # one place is left for the three that are second
    assert metrics.top_k_accuracy([1], scores, 2) == pytest.approx(1 / 3)
    assert metrics.top_k_accuracy([0], scores, 1) == 1


@pytest.mark.parametrize(
    ("y", "scores", "k", "message"),
    [
        ([0], [[1, 2]], 3, "k is 3; give a number from 1 to 2"),
        ([0], [[1, 2]], 0, "k is 0"),
        ([2], [[1, 2]], 1, r"2..2 and scores have 2 columns"),
        ([-1], [[1, 2]], 1, r"-1..-1"),
        ([0], [[1, np.nan]], 1, "no score NaN"),
        ([0.0], [[1, 2]], 1, "whole numbers"),
        ([0, 1], [[1, 2]], 1, "a row of scores an image"),
        ([], np.zeros((0, 2)), 1, "at least one image"),
    ],
)
def test_what_has_no_top_k_is_refused_with_a_reason(y, scores, k, message):
    with pytest.raises(ProbeError, match=message):
        metrics.top_k_accuracy(y, scores, k)


@pytest.mark.parametrize(("y", "predicted"), [([], []), ([1], [1, 2]), ([[1]], [[1]])])
def test_answers_that_cannot_be_counted_are_refused(y, predicted):
    for score in (metrics.accuracy, metrics.mean_class_recall):
        with pytest.raises(ProbeError, match="one of each an image"):
            score(y, predicted)


@pytest.mark.parametrize(
    ("level", "freedom", "quantile"),
    [
        (0.95, 1, 12.706204736174659),  # tan(0.475 pi)
        (0.95, 2, 4.302652729749458),  # 0.95 sqrt(2 / (1 - 0.95 ** 2))
        (0.95, 4, 2.7764451051977908),
        (0.95, 9, 2.2621571627982036),
        (0.99, 7, 3.49948329735048),
        (0.90, 100, 1.6602343260853427),
        (0.68, 30, 1.0112157453924333),
    ],
)
def test_intervals_reach_as_far_as_students_quantiles(level, freedom, quantile):
    """The quantiles are of the closed form of Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    values = np.arange(freedom + 1.0)
    found = metrics.mean_interval(values, level)
    reach = quantile * values.std(ddof=1) / math.sqrt(freedom + 1)
    assert (found.high - found.low) / 2 == pytest.approx(reach, rel=1e-12)


def test_an_interval_over_splits_by_hand():
    found = metrics.mean_interval([0.90, 0.92, 0.94])
    assert (found.mean, found.sd) == pytest.approx((0.92, 0.02))
    reach = 4.302653 * 0.02 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.92 - reach, 0.92 + reach))
    assert (found.n, found.level) == (3, 0.95)
    overlapping = metrics.mean_interval([0.90, 0.92, 0.94], test_to_train=50 / 30)
    assert overlapping.high - 0.92 == pytest.approx(4.302653 * 0.02 * math.sqrt(1 / 3 + 5 / 3))


def test_an_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [metrics.mean_interval(rng.normal(7, 2, size=4), 0.8) for _ in range(2000)]
    share = np.mean([interval.low <= 7 <= interval.high for interval in found])
    assert share == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([0.9], {}, "two or more"),
        ([0.9, np.nan], {}, "two or more"),
        ([0.9, 0.8], {"level": 95}, "The level is 95; give a number above 0 and below 1"),
        ([0.9, 0.8], {"test_to_train": -1}, "test_to_train is -1"),
    ],
)
def test_an_interval_that_means_nothing_is_refused(values, options, message):
    with pytest.raises(ProbeError, match=message):
        metrics.mean_interval(values, **options)


def even_odds(one: int, other: int) -> float:
    """Return twice the chance that fair coins fall as unevenly, in whole numbers."""
    n, fewer = one + other, min(one, other)
    ways, tail = 1, 0
    for k in range(fewer + 1):
        tail += ways
        ways = ways * (n - k) // (k + 1)
    return min(1.0, float(Fraction(2 * tail, 2**n)))


@settings(deadline=None)
@given(one=st.integers(0, 60), other=st.integers(0, 60))
def test_paired_answers_are_judged_by_the_binomial_test(one, other):
    y = np.zeros(one + other + 5)
    first, second = y.copy(), y.copy()
    second[:one] = 1
    first[one : one + other] = 1
    first[-1] = second[-1] = 1  # both wrong: tells nothing
    found = metrics.compare_answers(y, first, second)
    assert (found.only_first, found.only_second) == (one, other)
    assert found.difference == pytest.approx(
        metrics.accuracy(y, first) - metrics.accuracy(y, second)
    )
    assert found.p == pytest.approx(even_odds(one, other), abs=1e-12)


def test_many_disagreements_are_no_trouble():
    y = np.zeros(10_000)
    first, second = y.copy(), y.copy()
    first[:4_000], second[4_000:7_900] = 1, 1
    expected = even_odds(3_900, 4_000)
    assert metrics.compare_answers(y, first, second).p == pytest.approx(expected, abs=1e-12)


def multi_label(n=120, classes=3, seed=0):
    """Labels, scores that know a little, scores that know more, and others that know as much."""
    rng = np.random.default_rng(seed)
    signs = rng.choice([1, -1, -1, 0], (n, classes))
    weak, strong, alike = (signs * help_ + rng.normal(size=signs.shape) for help_ in (0.3, 2, 2))
    return as_floats(from_signs(signs)), weak, strong, alike


@pytest.mark.parametrize("kind", metrics.AP_KINDS)
def test_a_bootstrap_scores_the_samples_it_draws(kind):
    y, weak, strong, _ = multi_label(25)
    weak = np.round(weak)  # with ties
    found = metrics.compare_rankings(y, strong, weak, kind, samples=60, level=0.9, seed=3)
    draws = np.random.default_rng(3).integers(25, size=(60, 25))
    differences = []
    for rows in draws:
        ours, theirs = (metrics.average_precisions(y[rows], s[rows], kind) for s in (strong, weak))
        differences.append(np.nanmean(ours) - np.nanmean(theirs))
    low, high = np.quantile(differences, [0.05, 0.95])
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.first == metrics.mean_average_precision(y, strong, kind)
    assert found.difference == found.first - found.second
    assert found.low < found.difference < found.high


def test_a_bootstrap_tells_better_rankings_from_others_of_the_same_worth():
    y, weak, strong, alike = multi_label()
    better = metrics.compare_rankings(y, strong, weak, samples=400)
    assert better.low > 0
    assert better.p == pytest.approx(2 / 401), "the smallest that 400 samples can tell"
    same = metrics.compare_rankings(y, strong, alike, samples=400)
    assert same.low < 0 < same.high
    assert same.p > 0.05
    nothing = metrics.compare_rankings(y, strong, np.exp(strong), samples=50)
    assert (nothing.difference, nothing.low, nothing.high, nothing.p) == (0, 0, 0, 1)


def test_a_bootstrap_is_repeatable_and_turns_with_its_methods():
    y, weak, strong, _ = multi_label()
    found = metrics.compare_rankings(y, strong, weak, samples=50, seed=1)
    assert metrics.compare_rankings(y, strong, weak, samples=50, seed=1) == found
    assert metrics.compare_rankings(y, strong, weak, samples=50, seed=2) != found
    turned = metrics.compare_rankings(y, weak, strong, samples=50, seed=1)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    assert replace(turned, first=0, second=0, difference=0, low=0, high=0) == replace(
        found, first=0, second=0, difference=0, low=0, high=0
    )


def test_samples_without_any_image_of_a_class_are_left_out():
    y = np.full((8, 1), 0)
    y[3] = 1
    rng = np.random.default_rng(0)
    found = metrics.compare_rankings(y, rng.normal(size=y.shape), rng.normal(size=y.shape))
    assert 500 < found.samples < 800, "an image is in 1 - (7/8)**8, about 66 %, of the samples"


@pytest.mark.parametrize(
    ("options", "message"),
    [({"samples": 0}, "0 samples were requested"), ({"level": 1}, "The level is 1")],
)
def test_a_bootstrap_that_means_nothing_is_refused(options, message):
    y, weak, strong, _ = multi_label()
    with pytest.raises(ProbeError, match=message):
        metrics.compare_rankings(y, weak, strong, **options)


def test_scores_need_no_network_nor_learning_library():
    code = "import sys, vggfeat.metrics; print({'torch', 'sklearn', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)],
)
def test_a_share_s_interval_is_wilson_s(right, n, low, high):
    """The last two are worked in Newcombe, Statistics in Medicine 17 (1998), table I."""
    assert metrics.wilson(right, n) == pytest.approx((low, high), abs=5e-5)
    z = NormalDist().inv_cdf(0.95)  # (right / n - p) ** 2 = z ** 2 p (1 - p) / n, in p
    roots = np.roots([n + z * z, -(2 * right + z * z), right * right / n])
    assert metrics.wilson(right, n, 0.9) == pytest.approx(sorted(roots), abs=1e-12)


def test_accuracy_and_recall_come_with_their_intervals():
    y = np.repeat([0, 1, 2], [10, 20, 40])
    told = y.copy()
    told[[0, 1, 12, 13, 14, 30, 31]] = 3
    share = metrics.accuracy_interval(y, told)
    assert (share.value, share.n, share.level) == (63 / 70, 70, 0.95)
    assert (share.low, share.high) == metrics.wilson(63, 70)
    recall = metrics.recall_interval(y, told, 0.8)
    limits = [metrics.wilson(right, n, 0.8) for right, n in ((8, 10), (17, 20), (38, 40))]
    rates = [8 / 10, 17 / 20, 38 / 40]
    below = math.sqrt(sum((r - low) ** 2 for r, (low, _) in zip(rates, limits, strict=True))) / 3
    above = math.sqrt(sum((high - r) ** 2 for r, (_, high) in zip(rates, limits, strict=True))) / 3
    assert recall.value == pytest.approx(np.mean(rates))
    assert (recall.low, recall.high) == pytest.approx((recall.value - below, recall.value + above))
    # Of one class it is the class's own, and where all is right it ends at 1.
    one = metrics.recall_interval([5] * 9, [5] * 9)
    assert (one.low, one.high) == pytest.approx(metrics.wilson(9, 9))


def test_intervals_of_mean_recall_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    rates, counts = np.array([0.95, 0.7, 0.5, 0.9]), np.array([12, 30, 8, 20])
    y = np.repeat(np.arange(4), counts)
    held = 0
    for _ in range(400):
        told = np.where(rng.random(len(y)) < rates[y], y, -1)
        share = metrics.recall_interval(y, told, 0.9)
        held += share.low <= rates.mean() <= share.high
    assert 0.85 < held / 400 < 0.95


def test_several_tests_raise_p_values_as_holm_says():
    assert metrics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert metrics.holm([0.9, 0.8]).tolist() == [1, 1]
    assert metrics.holm([0.02]).tolist() == [0.02]
    assert metrics.holm([]).tolist() == []
    for wrong in ([1.2], [-0.1], [math.nan], [[0.1]]):
        with pytest.raises(ProbeError, match="p-values"):
            metrics.holm(wrong)


@pytest.mark.parametrize(
    ("right", "n", "level"), [(3, 2, 0.9), (-1, 2, 0.9), (0, 0, 0.9), (1, 2, 1)]
)
def test_senseless_shares_are_refused(right, n, level):
    with pytest.raises(ProbeError, match=r"answers are right|level"):
        metrics.wilson(right, n, level)
