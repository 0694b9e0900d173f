"""Responses predicted from layers: what :func:`encode` does, step by step."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.encoding.averages import Averages, averaged
from vggfeat.encoding.bands import candidates, fit_banded
from vggfeat.encoding.features import Projection, products, projected
from vggfeat.encoding.folds import Fold, Folds, folds_of
from vggfeat.encoding.matching import Matched, matched
from vggfeat.encoding.regression import SCORES, Kernel, Scoring, fit_features, fit_kernel
from vggfeat.encoding.responses import Responses
from vggfeat.encoding.results import (
    Banded,
    BestLayers,
    Encoding,
    Interval,
    LayerEncoding,
    Scores,
    mean,
)
from vggfeat.encoding.significance import exchanged, p_values
from vggfeat.errors import EncodingError
from vggfeat.feature_table import requested_layers
from vggfeat.memory import available_memory
from vggfeat.metrics.certainty import check_level
from vggfeat.metrics.clusters import resampled
from vggfeat.metrics.multiplicity import holm
from vggfeat.metrics.regression import pearson_scores, r2_scores, sampled_scores
from vggfeat.probe.reading import LayerRows
from vggfeat.progress import Progress, silent
from vggfeat.thread_pools import one_blas_thread

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

Array = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]

_MANY = 3  # training images a feature from which features themselves are cheaper
_FEW = 640  # images
_SIGNIFICANT = 0.05
_NAMES = ("r2", "r")
_BLOCK = 512  # targets whose samples are held at a time
_log = logging.getLogger(__name__)


def encode(
    table: FeatureTable,
    responses: Responses,
    layers: Iterable[str] | None = None,
    *,
    folds: int | Iterable[tuple[Any, Any]] | None = None,
    inner: int = 5,
    alphas: Sequence[float] | None = None,
    scoring: Scoring = "r2",
    banded: int | None = None,
    projection: Projection | None = None,
    nulls: int = 1000,
    samples: int = 500,
    level: float = 0.95,
    skip_missing: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> Encoding:
    """Predict responses to images from each layer, by ridge regression on other images.

    Responses to repeats of an image are averaged. In each fold, every target chooses its penalty
    for each layer, and then its layer, by predicting parts of the training images; only then the
    fold's test images are looked at. Scores are means over folds.

    Parameters
    ----------
    table : FeatureTable
        Features of the images.
    responses : Responses
        From :func:`~vggfeat.encoding.read_responses` or :meth:`Responses.of`.
    layers : iterable of str, optional
        Names or aliases; all layers of the table by default. Maps are vectors.
    folds, inner :
        See :func:`~vggfeat.encoding.folds_of`: by default the table's splits, else five folds.
    alphas : sequence of float, optional
        Penalties to choose from, as scikit-learn's; by default
        :data:`~vggfeat.probe.ridge.GRID` times the training rows' mean squared distance from
        their mean. With `banded`, for the weighted sum, in that unit.
    scoring : {"r2", "pearson"}
        What penalties, weights and layers are chosen by.
    banded : int, optional
        Predict from all layers together, too, with so many sets of weights drawn to choose from
        (:mod:`vggfeat.encoding.bands`).
    projection : Projection, optional
        Project features that are longer at random (:mod:`vggfeat.encoding.features`).
    nulls : int
        Targets without any relation to images by which p-values are found
        (:mod:`vggfeat.encoding.significance`); 0 for none.
    samples : int
        Of the bootstrap over test images behind the intervals of layers' means; 0 for none.
    level : float
        Of these intervals.
    skip_missing : bool
        Leave out trials of images without features; by default they are an error.
    seed : int
        Of all that is drawn.
    progress : Progress
        Told shares of the work.

    Returns
    -------
    Encoding

    Raises
    ------
    EncodingError
        Responses do not fit the images; there are too few; a parameter is out of its range; or
        memory does not suffice.
    LayerError
        The table has no such layer.
    ProbeError
        Features are not finite.
    """
    if scoring not in SCORES:
        raise EncodingError(f"scoring is {scoring!r}; give one of {', '.join(SCORES)}.")
    if nulls < 0 or samples < 0 or (banded is not None and banded < 0):
        raise EncodingError(
            f"{nulls} nulls, {samples} samples, {banded} sets of weights; give 0 or more."
        )
    check_level(level)
    names = requested_layers(table, layers)
    if banded is not None and len(names) < 2:
        raise EncodingError(f"Banded ridge is of several layers, and {names[0]} is one alone.")
    images = matched(table, responses, skip_missing=skip_missing)
    # threads wait for one another longer than they work on few images
    with one_blas_thread() if len(images.rows) <= _FEW else nullcontext():
        return _encode(
            table, responses, names, images, folds, inner, alphas, scoring, banded, projection,
            nulls, samples, level, seed, progress,
        )  # fmt: skip


def _encode(
    table: FeatureTable,
    responses: Responses,
    names: Sequence[str],
    images: Matched,
    folds: int | Iterable[tuple[Any, Any]] | None,
    inner: int,
    alphas: Sequence[float] | None,
    scoring: Scoring,
    banded: int | None,
    projection: Projection | None,
    nulls: int,
    samples: int,
    level: float,
    seed: int,
    progress: Progress,
) -> Encoding:
    division = folds_of(table, images.rows, folds=folds, inner=inner, seed=seed)
    means = averaged(responses, images, seed=seed, progress=progress)
    usable = np.array([k for k in range(len(responses.names)) if k not in means.reasons], np.int64)
    if not len(usable):
        raise EncodingError(
            f"No target of {responses.origin} can be predicted, such as "
            f"{responses.names[0]!r}: {means.reasons[0]}."
        )
    rows, kept = images.rows[division.kept], division.kept
    _check_memory(table, names, len(rows), len(usable) + nulls, banded is not None, projection)
    Y = means.mean[np.ix_(kept, usable)]
    if nulls:
        drawn = exchanged(Y, np.arange(len(usable)), nulls, division.groups, seed)
        Y = np.concatenate([Y, drawn], axis=1)
    work = _Work(Y, len(usable), division, scoring, alphas, _samples(division, samples, seed))
    share = 1 / (len(names) + (0 if banded is None else len(names) + banded + 1))
    kernels: list[Array] = []
    for layer in names:
        began = perf_counter()
        X, dimension = projected(table, layer, rows, projection, seed)
        K = None
        if banded is not None or len(rows) <= _MANY * X.shape[1]:
            K = products(X)
        if banded is not None and K is not None:
            kernels.append(K)
        work.layer(layer, X, K, _part(progress, share / len(division.folds)))
        work.told[-1] |= {
            "dimension": dimension, "used": X.shape[1], "seconds": perf_counter() - began
        }  # fmt: skip
    tested = np.unique(np.concatenate([fold.test for fold in division.folds]))
    together = None
    if banded is not None:
        together = _banded(
            work, kernels, candidates(len(names), banded, seed), usable, len(responses.names),
            _part(progress, (1 - share * len(names)) / len(division.folds)),
        )  # fmt: skip
    distortion = None
    if projection is not None and any(told["used"] < told["dimension"] for told in work.told):
        distortion = projection.bound(len(rows))
    return Encoding(
        names=responses.names,
        layers=work.layers(means, usable, level),
        best=work.best(usable, len(responses.names)),
        banded=together,
        ceiling=means.ceiling(kept[tested]),
        reliability=means.reliability,
        reasons=_reasons(means, work, usable),
        store=str(table.path),
        origin=responses.origin,
        matching=images.how,
        division=division.how,
        n_images=len(rows),
        n_trials=int(means.repeats[kept].sum()),
        repeats=(int(means.repeats[kept].min()), int(means.repeats[kept].max())),
        blank=images.blank,
        missing=images.missing,
        without=images.without,
        n_folds=len(division.folds),
        groups=None if division.groups is None else len(np.unique(division.groups)),
        nulls=nulls,
        samples=samples,
        level=level,
        seed=seed,
        scoring=scoring,
        distortion=distortion,
    )


@dataclass
class _Best:
    """What each target's layer gave in a fold so far.

    Attributes
    ----------
    inner : ndarray of float64, shape (t,)
    layer : ndarray of int64, shape (t,)
    predicted : ndarray of float32, shape (f, t)
    """

    inner: Array
    layer: Positions
    predicted: Matrix


class _Work:
    """Scores of all layers, of targets and, behind them, of those that chance made."""

    def __init__(
        self,
        Y: Matrix,
        real: int,
        division: Folds,
        scoring: Scoring,
        alphas: Sequence[float] | None,
        samples: list[npt.NDArray[np.int64] | None],
    ) -> None:
        self.Y, self.real, self.folds = Y, real, division.folds
        self.scoring, self.alphas, self.samples = scoring, alphas, samples
        self.told: list[dict[str, Any]] = []
        t = Y.shape[1]
        self._best = [
            _Best(
                np.full(t, -np.inf),
                np.full(t, -1, np.int64),
                np.zeros((len(fold.test), t), np.float32),
            )
            for fold in self.folds
        ]

    def layer(self, name: str, X: Matrix | LayerRows, K: Array | None, progress: Progress) -> None:
        """Score a layer in each fold."""
        inner, alpha, scores, sampled = [], [], [], []
        for fold, best, counts in zip(self.folds, self._best, self.samples, strict=True):
            given: Any = {"alphas": self.alphas, "scoring": self.scoring, "progress": progress}
            if K is not None and len(fold.train) <= _MANY * X.shape[1]:
                fit = fit_kernel(Kernel(K, fold), self.Y, fold, **given)
            else:
                fit = fit_features(np.asarray(X[:]), self.Y, fold, **given)
            better = np.where(np.isfinite(fit.score), fit.score, -np.inf) > best.inner
            best.inner[better], best.layer[better] = fit.score[better], len(self.told)
            best.predicted[:, better] = fit.predicted[:, better]
            inner.append(fit.score)
            alpha.append(fit.alpha[: self.real])
            scores.append(self._scored(fold, fit.predicted))
            sampled.append(self._sampled(fold, fit.predicted, counts))
        self.told.append({
            "layer": name, "inner": _over_folds(inner), "alpha": np.stack(alpha),
            "r2": _over_folds([r2 for r2, _ in scores]), "r": _over_folds([r for _, r in scores]),
            "sampled": _over_folds(sampled) if sampled[0] is not None else None,
        })  # fmt: skip

    def layers(self, means: Averages, usable: Positions, level: float) -> tuple[LayerEncoding, ...]:
        """Return what was found of each layer."""
        from scipy.stats import norm

        count = len(means.offset)
        inner = [mean(told["inner"][: self.real]) for told in self.told]
        first = int(np.nanargmax(inner)) if np.isfinite(inner).any() else 0
        which = 0 if self.scoring == "r2" else 1
        z = float(norm.ppf((1 + level) / 2))
        values = [(mean(told["r2"][: self.real]), mean(told["r"][: self.real]))
                  for told in self.told]  # fmt: skip
        apart = [self._apart(told, self.told[first], which) for told in self.told]
        chances = [chance for at, (_, chance) in enumerate(apart) if at != first]
        p = holm(chances).tolist() if np.isfinite(chances).all() else [float("nan")] * len(chances)
        p.insert(first, 1.0)
        best = self._choice()[0][: self.real]
        if self.Y.shape[1] > self.real:  # of others the best layer is one by chance
            best = best[self._p(self._best_r()) < _SIGNIFICANT]
        made = []
        for at, told in enumerate(self.told):
            intervals = [_around(values[at][k], z * _deviation(told["sampled"], k)) for k in (0, 1)]
            difference = values[first][which] - values[at][which]
            made.append(
                LayerEncoding(
                    layer=told["layer"],
                    dimension=told["dimension"],
                    used=told["used"],
                    scores=Scores(
                        _spread(told["r2"][: self.real], usable, count),
                        _spread(told["r"][: self.real], usable, count),
                        _spread(self._p(told["r"]), usable, count),
                    ),
                    inner=_spread(told["inner"][: self.real], usable, count),
                    alpha=_spread(told["alpha"], usable, count),
                    mean_r2=intervals[0],
                    mean_r=intervals[1],
                    behind=_around(difference, z * apart[at][0]),
                    p_behind=p[at],
                    chosen=float(np.mean(best == at)) if len(best) else float("nan"),
                    seconds=told["seconds"],
                )
            )
        return tuple(made)

    def best(self, usable: Positions, count: int) -> BestLayers:
        """Return what each target's own layer predicts."""
        layer, agreement = self._choice()
        scores = [
            self._scored(fold, best.predicted)
            for fold, best in zip(self.folds, self._best, strict=True)
        ]
        r2, r = (_over_folds([pair[k] for pair in scores]) for k in (0, 1))
        chosen = np.full(count, -1, np.int64)
        chosen[usable] = layer[: self.real]
        return BestLayers(
            chosen,
            _spread(agreement[: self.real], usable, count),
            Scores(
                _spread(r2[: self.real], usable, count),
                _spread(r[: self.real], usable, count),
                _spread(self._p(r), usable, count),
            ),
        )

    def _best_r(self) -> Array:
        return _over_folds(
            [
                self._scored(fold, best.predicted)[1]
                for fold, best in zip(self.folds, self._best, strict=True)
            ]
        )

    def _choice(self) -> tuple[Positions, Array]:
        """Return each target's layer by its mean score within training images, -1 for none."""
        inner = np.stack([told["inner"] for told in self.told])
        filled = np.where(np.isfinite(inner), inner, -np.inf)
        layer = np.where(np.isfinite(inner).any(axis=0), filled.argmax(axis=0), -1)
        same = np.mean([best.layer == layer for best in self._best], axis=0)
        return layer, np.where(layer >= 0, same, np.nan)

    def _p(self, r: Array) -> Array:
        return p_values(r[: self.real], r[self.real :])

    def _scored(self, fold: Fold, predicted: Matrix) -> tuple[Array, Array]:
        truth = self.Y[fold.test]
        return r2_scores(truth, predicted), pearson_scores(truth, predicted)

    def _sampled(
        self, fold: Fold, predicted: Matrix, counts: npt.NDArray[np.int64] | None
    ) -> Array | None:
        """Return mean R2 and r over targets in each sample of a fold's test images, (2, s)."""
        if counts is None:
            return None
        total, known = np.zeros((2, len(counts))), np.zeros((2, len(counts)))
        for first in range(0, self.real, _BLOCK):
            where = slice(first, min(first + _BLOCK, self.real))
            both = sampled_scores(self.Y[fold.test, where], predicted[:, where], counts)
            for k, values in enumerate(both):
                finite = np.isfinite(values)
                total[k] += np.where(finite, values, 0).sum(axis=1)
                known[k] += finite.sum(axis=1)
        found = np.full(total.shape, np.nan)
        np.divide(total, known, out=found, where=known > 0)
        return found

    def _apart(
        self, told: dict[str, Any], first: dict[str, Any], which: int
    ) -> tuple[float, float]:
        """Return the deviation of how far a layer lies behind, and how often chance does it."""
        from scipy.stats import norm

        if told["sampled"] is None:
            return float("nan"), float("nan")
        deviation = _deviation(first["sampled"] - told["sampled"], which)
        off = abs(mean(first[_NAMES[which]][: self.real]) - mean(told[_NAMES[which]][: self.real]))
        if not deviation > 0:
            return deviation, float("nan") if np.isnan(deviation) else float(off == 0)
        return deviation, float(2 * norm.sf(off / deviation))


def _banded(
    work: _Work,
    kernels: Sequence[Array],
    weights: Array,
    usable: Positions,
    count: int,
    progress: Progress,
) -> Banded:
    """Predict targets from all layers together."""
    began = perf_counter()
    Y = work.Y[:, : work.real]
    r2, r, parts, chosen = [], [], [], []
    for fold in work.folds:
        fit = fit_banded(
            kernels, Y, fold, weights,
            alphas=work.alphas, scoring=work.scoring, progress=progress,
        )  # fmt: skip
        truth = Y[fold.test]
        predicted = fit.parts.sum(axis=0) + fit.offset.astype(np.float32)
        r2.append(r2_scores(truth, predicted))
        r.append(pearson_scores(truth, predicted))
        centred = truth - truth.mean(axis=0)
        total = np.sum(centred**2, axis=0, dtype=np.float64)
        rest = 2 * centred - (predicted - truth.mean(axis=0))
        added = np.stack([np.sum(part * rest, axis=0, dtype=np.float64) for part in fit.parts])
        parts.append(np.divide(added, total, out=np.full(added.shape, np.nan), where=total > 0))
        chosen.append(fit.weights)
    scores = Scores(
        _spread(_over_folds(r2), usable, count),
        _spread(_over_folds(r), usable, count),
        np.full(count, np.nan),
    )
    return Banded(
        scores,
        _spread(_over_folds(parts), usable, count),
        _spread(_over_folds(chosen), usable, count),
        len(weights),
        perf_counter() - began,
    )


def _samples(division: Folds, samples: int, seed: int) -> list[npt.NDArray[np.int64] | None]:
    """Draw the test images of each fold with replacement, whole groups of them; None for none."""
    drawn: list[npt.NDArray[np.int64] | None] = []
    for at, fold in enumerate(division.folds):
        of = None
        if division.groups is not None:
            of = np.unique(division.groups[fold.test], return_inverse=True)[1].astype(np.int64)
        if not samples or (of is not None and of.max() < 1):
            drawn.append(None)
            continue
        drawn.append(np.concatenate([*resampled(len(fold.test), samples, seed + at, of)]))
    if any(one is None for one in drawn):
        if samples:
            _log.warning(
                "A fold tests images of one group alone: means of layers have no interval. Give "
                "fewer folds than groups."
            )
        return [None] * len(drawn)
    return drawn


def _over_folds(values: Sequence[Any]) -> Array:
    """Return the mean over folds of what is finite; NaN where nothing is."""
    stacked = np.stack(values)
    known = np.isfinite(stacked)
    total = np.where(known, stacked, 0).sum(axis=0)
    found = np.full(total.shape, np.nan)
    np.divide(total, known.sum(axis=0), out=found, where=known.any(axis=0))
    return found


def _spread(values: Array, usable: Positions, count: int) -> Array:
    """Put values of usable targets, along the last axis, among all of them."""
    found = np.full((*values.shape[:-1], count), np.nan)
    found[..., usable] = values
    return found


def _deviation(sampled: Array | None, which: int) -> float:
    """Return the standard deviation of samples; NaN where there are none."""
    values = np.empty(0) if sampled is None else sampled[which][np.isfinite(sampled[which])]
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _around(value: float, off: float) -> Interval:
    return Interval(value, value - off, value + off)


def _reasons(means: Averages, work: _Work, usable: Positions) -> dict[int, str]:
    reasons = dict(means.reasons)
    for at, target in enumerate(usable.tolist()):
        if all(not np.isfinite(told["r2"][at]) for told in work.told):
            reasons[target] = "it is constant in each fold's test images"
    return reasons


def _part(progress: Progress, share: float) -> Progress:
    return lambda _stage, more, _total: progress("encoding", more * share, 1)


def _check_memory(
    table: FeatureTable,
    layers: Sequence[str],
    n: int,
    t: int,
    banded: bool,
    projection: Projection | None,
) -> None:
    """Refuse what surely does not fit: targets with predictions, and products of images."""
    free = available_memory()
    if free is None:
        return
    lengths = [table.dimension(layer) for layer in layers]
    if projection is not None:
        lengths = [min(length, projection.size(n)) for length in lengths]
    longest, squares = max(lengths), 0
    if banded or n <= _MANY * longest:
        squares = 40 + 8 * (3 * len(layers) if banded else 0)
    # features themselves are held three times
    short = max((length for length in lengths if n > _MANY * length), default=0)
    needed = max(squares * n * n, 12 * n * short) + 16 * n * t
    if needed > free:
        raise EncodingError(
            f"{n:,} images of {t:,} targets take some {needed / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} are free. Encode fewer targets or layers at a time"
            + (", extract layers pooled, or project them (--project)." if squares else ".")
        )
