"""What similarities to a target are worth: intervals, noise ceilings, tests.

Scores of L representations for S targets (subjects' RDMs, say) are similarities, averaged over
targets. How sure they are is told by their variance over other images, over other subjects, or
both; tests are Student's t, as in rsatoolbox (Schütt et al., "Statistical inference on
representational geometries", eLife 12, 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from vggfeat.errors import RepresentationError
from vggfeat.progress import Progress, silent
from vggfeat.representations.resampling import Resampled, corrected_variance, resample
from vggfeat.representations.statistics import Correlated, Statistic, TauA, compared

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

Over = Literal["images", "subjects", "both"]
OVER: tuple[Over, ...] = get_args(Over)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Similarities of L representations to S targets, and the targets' noise ceiling.

    Attributes
    ----------
    similarity : ndarray of float64, shape (L, S)
    lower, upper : ndarray of float64, shape (S,), or None
        How well the mean of the other targets, and of all, does for each target: no model of what
        subjects share is expected below the one or above the other (Nili et al. 2014). None of one
        target, and of CKA.
    """

    similarity: Floats
    lower: Floats | None = None
    upper: Floats | None = None

    @property
    def values(self) -> Floats:
        """Mean similarity of each representation, (L,)."""
        return np.asarray(self.similarity.mean(axis=1))


def scores(
    statistic: Statistic, models: int, counts: Counts | None = None, *, upper: bool = True
) -> Scores:
    """Return the scores of the first `models` representations for the others, on a sample.

    The mean of targets is that which does best on them: of standardised dissimilarities for
    Pearson's correlation, of ranks for Spearman's and Kendall's (``pool_rdm`` of rsatoolbox).
    """
    targets = list(range(models, len(statistic.V)))
    if len(targets) < 2 or not isinstance(statistic, Correlated | TauA):
        return Scores(statistic.similarities(counts, targets)[:models])
    similarity, values, weights = statistic.with_values(counts, targets)
    similarity = similarity[:models]
    kind = "tau-a" if isinstance(statistic, TauA) else "spearman" if statistic.ranked else "pearson"
    pooled = _standardised(values, weights) if kind == "pearson" else values
    total = pooled.sum(axis=0)
    low = [compared(total - one, v, weights, kind) for one, v in zip(pooled, values, strict=True)]
    high = [compared(total, v, weights, kind) for v in values] if upper else None
    return Scores(similarity, np.array(low), None if high is None else np.array(high))


def _standardised(values: Floats, weights: Counts | None) -> Floats:
    w = np.ones(values.shape[1]) if weights is None else weights.astype(np.float64)
    w /= w.sum()
    centred = values - (values @ w)[:, None]
    return np.asarray(centred / np.sqrt((centred * centred) @ w)[:, None])


@dataclass(frozen=True, slots=True, eq=False)
class Uncertainty:
    """How scores, and contrasts of them, vary over other images and subjects.

    Attributes
    ----------
    observed : Scores
        On all images.
    resampled : Resampled or None
        (L + 1, S) scores; the last is the lower ceiling. None where images are not resampled.
    units : int
        Images, or groups of them.
    over : str
        ``"images"``, ``"subjects"`` or ``"both"``.
    """

    observed: Scores
    resampled: Resampled | None
    units: int
    over: Over

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the t distribution: the smaller number of units, less 1."""
        subjects = int(self.observed.similarity.shape[1])
        if self.over == "images":
            return self.units - 1
        return (subjects if self.over == "subjects" else min(self.units, subjects)) - 1

    def variance(self, weights: Floats) -> float:
        """Return the variance of a contrast of the L scores and the lower ceiling, (L + 1,).

        With the covariance C of S subjects' values over other images (:class:`Resampled`), that of
        their mean is v = 1'C1 / S², and what images do to subjects differently adds x = (tr C -
        S v) / (S (S - 1)) to the variance v_s of the mean over subjects as well as to v. Over both
        it is therefore v_s + v - x, as Schütt et al. 2023 have it, not below either. The lower
        ceiling's means of subjects are those of all subjects given.
        """
        lower = self.observed.lower
        count = self.observed.similarity.shape[1]
        ceiling = np.full(count, np.nan) if lower is None else lower
        used = weights != 0
        each = weights[used] @ np.vstack([self.observed.similarity, ceiling])[used]  # (S,)
        own = float(each.var(ddof=1)) / count if count > 1 else 0.0
        if self.over == "subjects":
            return own
        assert self.resampled is not None
        corrected, jackknife = self.resampled.covariance(weights)
        images = corrected_variance(float(corrected.mean()), float(jackknife.mean()))
        if self.over == "images" or not np.isfinite(images):
            return images
        apart = (float(np.trace(corrected)) - count * images) / (count * (count - 1))
        return float(max(own + images - max(apart, 0.0), own, images))


def uncertainty(
    statistic: Statistic,
    models: int,
    *,
    over: Over,
    samples: int,
    seed: int = 0,
    groups: Counts | None = None,
    progress: Progress = silent,
) -> Uncertainty:
    """Score representations, and see how scores vary.

    Parameters
    ----------
    statistic : Statistic
        L representations, then S targets.
    models : int
        L.
    over : {"images", "subjects", "both"}
        What other images, other subjects, or both would change.
    samples : int
        Of images.
    groups : ndarray of int64, shape (n,), optional
        The group of each image; whole groups are drawn.
    """
    observed = scores(statistic, models)
    subjects = observed.similarity.shape[1]
    if over not in OVER:
        raise RepresentationError(f"Unknown --over {over!r}. Known are {', '.join(OVER)}.")
    if over != "images" and subjects < 2:
        raise RepresentationError(
            f"There is {subjects} target, which tells nothing of other subjects. Take --over "
            "images, or give the RDMs of several subjects."
        )
    units = statistic.n if groups is None else int(groups.max()) + 1
    if over == "subjects":
        return Uncertainty(observed, None, units, over)

    def on(counts: Counts) -> Floats:
        found = scores(statistic, models, counts, upper=False)
        lower = np.full(subjects, np.nan) if found.lower is None else found.lower
        return np.vstack([found.similarity, lower])

    again = resample(statistic.n, on, samples=samples, seed=seed, groups=groups, progress=progress)
    return Uncertainty(observed, again, units, over)


@dataclass(frozen=True, slots=True)
class Tested:
    """A difference, its interval, and how often chance alone would set it as far from 0.

    Attributes
    ----------
    value, low, high : float
    p : float
        Two-sided; NaN where there is no variance to tell it from.
    """

    value: float
    low: float
    high: float
    p: float


def contrast(found: Uncertainty, weights: Floats, value: float) -> Tested:
    """Test a contrast against 0 by Student's t, two-sided, with its 95 % interval."""
    from scipy.stats import t

    variance, freedom = found.variance(weights), found.freedom
    if not np.isfinite(variance) or freedom < 1 or not np.isfinite(value):
        return Tested(value, float("nan"), float("nan"), float("nan"))
    error = float(np.sqrt(max(variance, 0.0)))
    reach = float(t.ppf(0.975, freedom)) * error
    if error == 0:
        return Tested(value, value, value, 1.0 if value == 0 else 0.0)
    p = 2 * float(t.sf(abs(value) / error, freedom))
    return Tested(value, value - reach, value + reach, p)


def permutation_p(
    statistic: Statistic,
    models: int,
    *,
    permutations: int,
    seed: int = 0,
    progress: Progress = silent,
) -> Floats:
    """Return how often scores as high come about where images have nothing to do with one another.

    The images of the targets are put in another order, all in the same one; the share of orders
    with a score as high, the given one among them, is the one-sided p-value of each representation
    (Mantel, "The detection of disease clustering", Cancer Research 27, 1967). It is exact where the
    images of representations and targets may be exchanged.

    Returns
    -------
    ndarray of float64, shape (L,)
        Not below 1 / (`permutations` + 1); NaN where the score is not defined.
    """
    rng = np.random.default_rng(seed)
    targets = list(range(models, len(statistic.V)))
    observed = statistic.similarities(None, targets)[:models].mean(axis=1)
    beyond = np.ones(models)
    for _ in range(permutations):
        order = rng.permutation(statistic.n)
        found = statistic.permuted(order, targets)[:models].mean(axis=1)
        beyond += found >= observed - 1e-12
        progress("permutations", 1, permutations)
    return np.where(np.isfinite(observed), beyond / (permutations + 1), np.nan)
