"""CKA and RSA are their formulae, and what rsatoolbox and thingsvision compute."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics.pairwise import rbf_kernel as sklearn_rbf

from vggfeat.errors import RepresentationError
from vggfeat.representations import (
    cka,
    hsic,
    linear_cka,
    minibatch_cka,
    rbf_cka,
    rsa,
)
from vggfeat.representations.cka import centred, linear_kernel, rbf_kernel
from vggfeat.representations.kernel_statistics import BiasedCKA, DebiasedCKA
from vggfeat.representations.statistics import Correlated, TauA


def kernels(count: int, n: int = 20, d: int = 6, seed: int = 0):
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((n, d))
    return [linear_kernel(base + rng.standard_normal((n, d))) for _ in range(count)]


def song(K, L):
    """The unbiased estimate as equation 5 of Song et al. 2012 writes it."""
    n, one = len(K), np.ones(len(K))
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    sums = one @ K @ one * (one @ L @ one) / ((n - 1) * (n - 2))
    return (np.trace(K @ L) + sums - 2 / (n - 2) * (one @ K @ L @ one)) / (n * (n - 3))


def gretton(K, L):
    n = len(K)
    H = np.eye(n) - 1 / n
    return np.trace(K @ H @ L @ H) / (n - 1) ** 2


def test_hsic_is_its_formula_and_does_not_depend_on_the_mean_of_features():
    K, L = kernels(2)
    assert hsic(K, L) == pytest.approx(song(K, L), rel=1e-10)
    assert hsic(K, L, debiased=False) == pytest.approx(gretton(K, L), rel=1e-10)
    shifted = K + np.arange(20) + np.arange(20)[:, None]
    assert hsic(shifted, L) == pytest.approx(hsic(K, L), rel=1e-9)


@pytest.mark.parametrize("debiased", [True, False])
def test_cka_of_the_same_features_is_1_and_rotations_and_scales_change_nothing(debiased):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((30, 50)), rng.standard_normal((30, 50))
    Q = np.linalg.qr(rng.standard_normal((50, 50)))[0]
    assert linear_cka(X, X, debiased=debiased) == pytest.approx(1, abs=1e-12)
    assert linear_cka(X, 3 * X @ Q + 5, debiased=debiased) == pytest.approx(1, abs=1e-9)
    assert rbf_cka(X, X @ Q, debiased=debiased) == pytest.approx(1, abs=1e-9)
    assert linear_cka(X, Y, debiased=debiased) == pytest.approx(
        linear_cka(X @ Q, Y, debiased=debiased), abs=1e-9
    )


@pytest.mark.parametrize("measure", [linear_cka, rbf_cka])
def test_debiased_cka_of_independent_features_is_near_0_where_biased_is_near_1(measure):
    rng = np.random.default_rng(1)
    n, d, draws = 40, 400, 30
    pairs = [(rng.standard_normal((n, d)), rng.standard_normal((n, d))) for _ in range(draws)]
    found = np.array([measure(X, Y) for X, Y in pairs])
    biased = [measure(X, Y, debiased=False) for X, Y in pairs[:3]]
    assert min(biased) > 0.85
    assert abs(found.mean()) < 4 * found.std(ddof=1) / np.sqrt(draws)
    # Of U-centred vectors of n (n - 3) / 2 free values each, the deviation of a cosine.
    assert np.abs(found).max() < 5 / np.sqrt(n * (n - 3) / 2)


def thingsvision(X, Y, kernel, unbiased):
    """CKA as thingsvision's CKANumPy defines it."""

    def gram(X):
        G = X @ X.T
        if kernel == "linear":
            return G
        squared = np.diag(G) - G + (np.diag(G) - G).T
        return np.exp(-0.5 * squared / np.median(squared[squared != 0]))

    def centring(K):
        n = len(K)
        if not unbiased:
            H = np.eye(n) - 1 / n
            return H @ K @ H
        K = K - np.diag(np.diag(K))
        means = K.sum(axis=0) / (n - 2)
        means -= means.sum() / (2 * (n - 1))
        K = K - means[:, None] - means
        return K - np.diag(np.diag(K))

    K, L = centring(gram(X)), centring(gram(Y))
    return (K * L).sum() / np.sqrt((K * K).sum() * (L * L).sum())


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_cka_is_that_of_thingsvision(kernel, unbiased):
    rng = np.random.default_rng(2)
    X = rng.standard_normal((25, 60))
    Y = X[:, :30] + rng.standard_normal((25, 30))
    ours = {"linear": linear_cka, "rbf": rbf_cka}[kernel](X, Y, debiased=unbiased)
    assert ours == pytest.approx(thingsvision(X, Y, kernel, unbiased), abs=1e-10)


def test_rbf_kernels_go_by_the_median_distance():
    X = np.random.default_rng(3).standard_normal((30, 5))
    median = np.median(pdist(X, "sqeuclidean"))
    expected = sklearn_rbf(X, gamma=1 / (2 * 0.25 * median))
    assert rbf_kernel(X, 0.5) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(RepresentationError, match="median distance"):
        rbf_kernel(np.zeros((6, 2)))


def test_biased_cka_of_distances_is_rsatoolbox_s_whitened_cosine():
    toolbox = pytest.importorskip("rsatoolbox", reason="rsatoolbox is not installed")
    rng = np.random.default_rng(4)
    X, Y = rng.standard_normal((18, 7)), rng.standard_normal((18, 9))
    rdms = [toolbox.rdm.RDMs(pdist(one, "sqeuclidean")[None]) for one in (X, Y)]
    expected = toolbox.rdm.compare(*rdms, "cosine_cov")[0, 0]
    assert linear_cka(X, Y, debiased=False) == pytest.approx(expected, abs=1e-10)


def test_batches_give_the_same_as_the_whole_on_average():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((240, 10))
    Y = X + rng.standard_normal((240, 10))

    def of(size, order):
        parts = [order[k : k + size] for k in range(0, 240, size)]
        return minibatch_cka([linear_kernel(X[p]), linear_kernel(Y[p])] for p in parts)

    whole, _ = of(240, np.arange(240))
    assert whole[0, 1] == pytest.approx(linear_cka(X, Y), abs=1e-12)
    found = [of(20, rng.permutation(240))[0][0, 1] for _ in range(60)]
    error = np.std(found, ddof=1) / np.sqrt(60)
    assert np.mean(found) == pytest.approx(whole[0, 1], abs=5 * error)
    assert error < 0.02
    biased = linear_cka(X[:20], Y[:20], debiased=False)
    assert biased > whole[0, 1] + 0.05  # what batches of the biased estimate would give


def test_features_that_do_not_vary_have_no_cka():
    X = np.random.default_rng(6).standard_normal((10, 3))
    assert np.isnan(linear_cka(X, np.full((10, 4), 0.1)))
    assert np.isnan(cka(np.ones((10, 10)), linear_kernel(X)))
    with pytest.raises(RepresentationError, match="takes 4 or more"):
        linear_cka(X[:3], X[:3])
    with pytest.raises(RepresentationError, match="same n images"):
        linear_cka(X, X[:5])


@pytest.mark.parametrize("ties", [False, True])
def test_rsa_is_scipy_s_and_rsatoolbox_s(ties):
    rng = np.random.default_rng(7)
    a, b = rng.random(190), rng.random(190)
    if ties:
        a, b = np.round(a, 1), np.round(b, 1)
    assert rsa(a, b, "pearson") == pytest.approx(stats.pearsonr(a, b)[0], abs=1e-12)
    assert rsa(a, b) == pytest.approx(stats.spearmanr(a, b)[0], abs=1e-12)
    pairs = itertools.combinations(range(190), 2)
    signs = [np.sign(a[i] - a[j]) * np.sign(b[i] - b[j]) for i, j in pairs]
    assert rsa(a, b, "tau-a") == pytest.approx(np.mean(signs), abs=1e-12)
    assert rsa(squareform(a), squareform(b)) == rsa(a, b)
    toolbox = pytest.importorskip("rsatoolbox", reason="rsatoolbox is not installed")
    rdms = [toolbox.rdm.RDMs(one[None]) for one in (a, b)]
    for ours, theirs in (("pearson", "corr"), ("spearman", "spearman"), ("tau-a", "tau-a")):
        expected = toolbox.rdm.compare(*rdms, theirs)[0, 0]
        assert rsa(a, b, ours) == pytest.approx(expected, abs=1e-10)


def test_rsa_refuses_what_it_cannot_compare():
    with pytest.raises(RepresentationError, match="10 and 6 pairs"):
        rsa(np.arange(10.0), np.arange(6.0))
    with pytest.raises(RepresentationError, match="not finite"):
        rsa([1, np.nan, 2], [1.0, 2, 3])
    with pytest.raises(RepresentationError, match="Known are pearson"):
        rsa([1.0, 2, 3], [1.0, 2, 3], "kendall")
    assert np.isnan(rsa(np.ones(6), np.arange(6.0)))
    assert rsa(np.ones(6), np.arange(6.0), "tau-a") == 0


COUNTS = np.array([2, 1, 0, 1, 3, 1, 1, 0, 0, 1, 4, 1])


def distances(count: int, n: int = 12, *, rounded: bool = False):
    rng = np.random.default_rng(8)
    found = np.stack([pdist(rng.standard_normal((n, 3))) for _ in range(count)])
    return np.round(found, 0) if rounded else found


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("kind", ["corr", "spearman", "tau-a"])
def test_rsa_of_a_sample_is_that_of_rsatoolbox(kind, rounded):
    toolbox = pytest.importorskip("rsatoolbox", reason="rsatoolbox is not installed")
    V = distances(4, rounded=rounded)
    taken = np.repeat(np.arange(12), COUNTS)
    whole = np.stack([squareform(row) for row in V])[:, taken][:, :, taken]
    whole[:, taken[:, None] == taken] = np.nan  # an image and itself
    upper = np.triu_indices(len(taken), 1)
    sample = toolbox.rdm.RDMs(whole[:, upper[0], upper[1]])
    expected = toolbox.rdm.compare(sample, sample, kind)
    ours = TauA(V) if kind == "tau-a" else Correlated(V, ranked=kind == "spearman")
    assert ours.similarities(COUNTS) == pytest.approx(expected, abs=1e-10)
    assert ours.similarities(COUNTS, [1, 3]) == pytest.approx(expected[:, [1, 3]], abs=1e-10)


def test_debiased_cka_of_a_sample_averages_over_different_images_alone():
    K, L = (centred(one, debiased=True) for one in kernels(2, n=7))
    w = np.array([2, 1, 0, 1, 3, 1, 1])

    def mean(size, value):
        weights = values = 0.0
        for chosen in itertools.permutations(range(7), size):
            weight = np.prod(w[list(chosen)])
            weights, values = weights + weight, values + weight * value(*chosen)
        return values / weights

    def expected(A, B):
        both = mean(2, lambda i, j: A[i, j] * B[i, j])
        apart = mean(4, lambda i, j, p, q: A[i, j] * B[p, q])
        return both + apart - 2 * mean(3, lambda i, j, p: A[i, j] * B[i, p])

    found = DebiasedCKA([K, L]).similarities(w)[0, 1]
    scale = np.sqrt(expected(K, K) * expected(L, L))
    assert found == pytest.approx(expected(K, L) / scale, abs=1e-10)


def test_cka_of_all_images_is_the_same_by_either_way():
    Ks = kernels(3)
    ones = np.ones(20, np.int64)
    for made, debiased in ((DebiasedCKA, True), (BiasedCKA, False)):
        one = made(Ks)
        expected = [[cka(K, L, debiased=debiased) for L in Ks] for K in Ks]
        assert one.similarities() == pytest.approx(np.array(expected), abs=1e-10)
        assert one.similarities(ones) == pytest.approx(np.array(expected), abs=1e-10)


@pytest.mark.parametrize("kind", ["pearson", "spearman", "tau-a", "cka", "biased"])
def test_permuted_images_are_those_of_permuted_matrices(kind):
    order = np.random.default_rng(9).permutation(12)
    V = distances(3, rounded=True)
    moved = np.stack([V[0], V[1], squareform(squareform(V[2])[np.ix_(order, order)])])
    Ks = kernels(3, n=12)
    Ms = [Ks[0], Ks[1], Ks[2][np.ix_(order, order)]]
    made = {
        "pearson": lambda v, _: Correlated(v, ranked=False),
        "spearman": lambda v, _: Correlated(v, ranked=True),
        "tau-a": lambda v, _: TauA(v),
        "cka": lambda _, k: DebiasedCKA(k),
        "biased": lambda _, k: BiasedCKA(k),
    }[kind]
    found = made(V, Ks).permuted(order, [2])[:2]
    assert found == pytest.approx(made(moved, Ms).similarities(None, [2])[:2], abs=1e-10)
