"""Tests of layers are wrong as often as they say, and ceilings are those of rsatoolbox."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist

from vggfeat.errors import ProbeError, RepresentationError
from vggfeat.metrics import adjusted, benjamini_hochberg, holm
from vggfeat.representations.cka import linear_kernel
from vggfeat.representations.inference import (
    contrast,
    permutation_p,
    scores,
    uncertainty,
)
from vggfeat.representations.kernel_statistics import DebiasedCKA
from vggfeat.representations.statistics import Correlated, TauA

FIRST_LESS_SECOND = np.array([1.0, -1, 0])


def drawn(rng, n, targets=1, signal=1.0, noise=(1.0, 1.0)):
    """Draw two models and targets that share a signal; models differ in how noisy they are."""
    signals = signal * rng.standard_normal((n, 6))
    rows = [signals + s * rng.standard_normal((n, 6)) for s in noise]
    return rows + [signals + rng.standard_normal((n, 6)) for _ in range(targets)]


def statistic(rows, kind="pearson"):
    if kind == "cka":
        return DebiasedCKA([linear_kernel(one) for one in rows])
    return Correlated(np.stack([pdist(one) for one in rows]), ranked=kind == "spearman")


def difference_p(rows, kind, over, seed, samples=40):
    spread = uncertainty(statistic(rows, kind), 2, over=over, samples=samples, seed=seed)
    values = spread.observed.values
    return contrast(spread, FIRST_LESS_SECOND, float(values[0] - values[1])).p


def most_false(count, rate=0.05):
    """Above how many of `count` tests at such a rate lie in one of a thousand."""
    return stats.binom.ppf(0.999, count, rate)


@pytest.mark.parametrize("kind", ["pearson", "cka"])
def test_equally_good_layers_are_told_apart_no_more_often_than_said(kind):
    rng, sims = np.random.default_rng(0), 60
    p = [difference_p(drawn(rng, 16), kind, "images", k) for k in range(sims)]
    assert np.sum(np.array(p) < 0.05) <= most_false(sims)
    assert np.sum(np.array(p) < 0.5) >= sims / 5  # nor is nothing ever found
    better = [difference_p(drawn(rng, 40, noise=(0.2, 4.0)), kind, "images", k) for k in range(3)]
    assert np.max(better) < 0.05


def test_the_same_holds_for_other_images_and_subjects_at_once():
    rng, sims = np.random.default_rng(1), 30
    p = [difference_p(drawn(rng, 16, targets=5), "pearson", "both", k) for k in range(sims)]
    assert np.sum(np.array(p) < 0.05) <= most_false(sims)


def test_the_same_holds_for_other_subjects():
    rng, sims, p = np.random.default_rng(2), 200, []
    swap = np.arange(20) ^ 1  # each two images in each other's place
    for _ in range(sims):
        model = rng.standard_normal((20, 4))
        # What is like the one is as much like the other with its images swapped.
        targets = [model + rng.standard_normal((20, 4)) for _ in range(8)]
        targets = [one[swap] if rng.random() < 0.5 else one for one in targets]
        rows = statistic([model, model[swap], *targets])
        spread = uncertainty(rows, 2, over="subjects", samples=2)
        values = spread.observed.values
        p.append(contrast(spread, FIRST_LESS_SECOND, float(values[0] - values[1])).p)
    assert stats.binom.ppf(0.001, sims, 0.05) <= np.sum(np.array(p) < 0.05) <= most_false(sims)


@pytest.mark.parametrize("kind", ["pearson", "spearman", "cka"])
def test_what_has_nothing_to_do_with_the_target_seldom_seems_to(kind):
    rng, sims = np.random.default_rng(3), 100
    p = []
    for k in range(sims):
        rows = statistic([rng.standard_normal((12, 4)) for _ in range(2)], kind)
        p.append(permutation_p(rows, 1, permutations=39, seed=k)[0])
    low, high = stats.binom.ppf([0.001, 0.999], sims, 0.1)
    assert low <= np.sum(np.array(p) <= 0.1) <= high
    related = statistic(drawn(rng, 30, signal=3.0)[1:], kind)
    assert permutation_p(related, 1, permutations=99)[0] == 0.01


def test_the_variance_over_images_is_that_of_other_images():
    rng, values, variances = np.random.default_rng(4), [], []
    for k in range(200):
        rows = statistic(drawn(rng, 16))
        values.append(scores(rows, 2).values[0])
        if k < 30:
            spread = uncertainty(rows, 2, over="images", samples=60, seed=k)
            variances.append(spread.variance(np.array([1.0, 0, 0])))
    truth = np.var(values, ddof=1)
    # Three standard errors of either: of a variance 2 / (n - 1), and of the mean of estimates.
    error = 3 * np.sqrt(2 / 199 * truth**2 + np.var(variances) / 30)
    assert np.mean(variances) == pytest.approx(truth, abs=error)


@pytest.mark.parametrize("kind", ["corr", "spearman", "tau-a"])
def test_noise_ceilings_are_those_of_rsatoolbox(kind):
    toolbox = pytest.importorskip("rsatoolbox", reason="rsatoolbox is not installed")
    from rsatoolbox.inference import boot_noise_ceiling

    rng = np.random.default_rng(5)
    V = np.stack([pdist(one) for one in drawn(rng, 15, targets=5)])
    rows = TauA(V) if kind == "tau-a" else Correlated(V, ranked=kind == "spearman")
    found = scores(rows, 2)
    with np.errstate(all="ignore"), pytest.warns() if kind == "tau-a" else _nothing():
        low, high = boot_noise_ceiling(toolbox.rdm.RDMs(V[2:]), method=kind)
    assert found.lower.mean() == pytest.approx(low, abs=1e-10)
    assert found.upper.mean() == pytest.approx(high, abs=1e-10)
    expected = toolbox.rdm.compare(*(toolbox.rdm.RDMs(v) for v in (V[:2], V[2:])), kind)
    assert found.similarity == pytest.approx(expected, abs=1e-10)


def _nothing():
    from contextlib import nullcontext

    return nullcontext()


def test_tests_over_subjects_are_those_of_rsatoolbox():
    toolbox = pytest.importorskip("rsatoolbox", reason="rsatoolbox is not installed")
    from rsatoolbox.inference import eval_fixed

    rng = np.random.default_rng(6)
    V = np.stack([pdist(one) for one in drawn(rng, 15, targets=7, noise=(0.7, 1.4))])
    spread = uncertainty(Correlated(V, ranked=False), 2, over="subjects", samples=2)
    values = spread.observed.values
    models = [toolbox.model.ModelFixed(str(k), toolbox.rdm.RDMs(V[[k]])) for k in range(2)]
    theirs = eval_fixed(models, toolbox.rdm.RDMs(V[2:]), method="corr")
    expected = theirs.test_pairwise()[0, 1]
    ours = contrast(spread, FIRST_LESS_SECOND, float(values[0] - values[1]))
    assert ours.p == pytest.approx(expected, rel=1e-9)
    own = spread.observed.similarity
    assert ours.p == pytest.approx(stats.ttest_rel(own[0], own[1]).pvalue, rel=1e-9)


def test_one_target_tells_nothing_of_other_subjects():
    rows = statistic(drawn(np.random.default_rng(7), 10))
    with pytest.raises(RepresentationError, match="--over images"):
        uncertainty(rows, 2, over="both", samples=10)


def test_whole_groups_of_images_count_as_one():
    rng = np.random.default_rng(8)
    rows = [np.repeat(one, 4, axis=0) for one in drawn(rng, 12)]
    rows = [one + 0.01 * rng.standard_normal(one.shape) for one in rows]
    groups = np.repeat(np.arange(12), 4)
    alone = uncertainty(statistic(rows), 2, over="images", samples=60)
    whole = uncertainty(statistic(rows), 2, over="images", samples=60, groups=groups)
    assert (alone.freedom, whole.freedom) == (47, 11)
    assert whole.variance(np.array([1.0, 0, 0])) > 2 * alone.variance(np.array([1.0, 0, 0]))


def test_benjamini_and_hochberg_s_correction_is_scipy_s():
    p = np.random.default_rng(9).random(40) ** 3
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p), rel=1e-12)
    with_gap = np.array([0.01, np.nan, 0.04])
    assert adjusted(with_gap, "holm")[[0, 2]] == pytest.approx(holm([0.01, 0.04]))
    assert adjusted(with_gap, "bh")[2] == 0.04
    assert np.isnan(adjusted(with_gap, "bh")[1])
    assert adjusted(with_gap, "none")[0] == 0.01
    assert len(adjusted([], "holm")) == 0
    with pytest.raises(ProbeError, match=r"0\.\.1"):
        benjamini_hochberg([1.5])
    with pytest.raises(ProbeError, match="holm"):
        adjusted([0.5], "bonferroni")
