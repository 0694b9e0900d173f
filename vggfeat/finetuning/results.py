"""What fine-tuning came to, beside the linear probe on the same images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from vggfeat.finetuning.recipe import HEAD, Recipe
from vggfeat.labels import as_floats
from vggfeat.metrics import (
    Difference,
    Disagreement,
    SampledPrecision,
    Share,
    recall_interval,
)
from vggfeat.metrics.clusters import SAMPLES, resampled
from vggfeat.probe import MultiLabelResult, ProbeResult, RegressionResult
from vggfeat.showing import Drawn

Array = npt.NDArray[np.float64]
Result = ProbeResult | MultiLabelResult | RegressionResult

SURE = 0.05
"""p-value below which a difference is not put down to chance."""

_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Epoch:
    """What is told of an epoch.

    Attributes
    ----------
    number : int
        From 1 on; 0 is the linear probe, before any training.
    loss : float
        Mean over the training images as they were seen; NaN of epoch 0.
    score : float or None
        Of the validation images; None without such.
    rate : float
        Of the network's layers, at the end of the epoch.
    seconds : float
    images_per_second : float
    """

    number: int
    loss: float
    score: float | None
    rate: float
    seconds: float
    images_per_second: float

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        told: dict[str, Any] = asdict(self)
        return told | {"loss": self.loss if np.isfinite(self.loss) else None}


@dataclass(frozen=True, slots=True)
class Gain:
    """By how much fine-tuning is above the linear probe, on the same test images.

    Attributes
    ----------
    measure : str
        What is compared.
    difference, low, high : float
        Of that measure, with its 95 % interval over samples of the test images (a paired
        bootstrap, percentiles; whole groups are drawn where there are groups).
    p : float
        That chance alone sets them so far apart: McNemar's exact test of one class an image (of
        groups, by exchanging whole ones), else by the same samples.
    only_tuned, only_probe : int or None
        Images that only one of them names rightly, of one class an image.
    """

    measure: str
    difference: float
    low: float
    high: float
    p: float
    only_tuned: int | None = None
    only_probe: int | None = None

    @property
    def verdict(self) -> str:
        """Who wins: ``"tuned"``, ``"probe"``, or ``"nobody"`` where chance may explain it."""
        if self.p >= SURE or not self.difference:
            return "nobody"
        return "tuned" if self.difference > 0 else "probe"

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        names = ("measure", "difference", "low", "high", "p", "only_tuned", "only_probe")
        return {name: getattr(self, name) for name in names} | {"verdict": self.verdict}


@dataclass(frozen=True, slots=True, eq=False)
class FinetuneResult(Drawn):
    """What a run of :func:`vggfeat.finetune` made, and how good it is.

    Attributes
    ----------
    path : Path
        The weights that were written.
    model : str
    recipe : Recipe
        With the first layer that was trained.
    why : str
        Why training began there.
    kind, measure : str
        See :class:`~vggfeat.finetuning.tasks.Task`.
    tuned, probe : ProbeResult, MultiLabelResult or RegressionResult
        Scores of the fine-tuned network and of a linear probe on the same features before.
    gain : Gain
    epochs : list of Epoch
    best : int
        The epoch whose weights were kept.
    cached : int
        Bytes of maps on disk; 0 where there is no cache.
    seconds : dict of str to float
        What each stage of this run took.
    n_watch : int
        Images that chose the epoch.
    """

    shown_as: ClassVar = "finetune"
    path: Path
    model: str
    recipe: Recipe
    why: str
    kind: str
    measure: str
    tuned: Result
    probe: Result
    gain: Gain
    epochs: list[Epoch]
    best: int
    cached: int
    seconds: dict[str, float]
    n_watch: int

    @property
    def advice(self) -> str:
        """What to do with it, in a sentence or two."""
        what = "The head alone" if self.recipe.first == HEAD else "Fine-tuning"
        match self.gain.verdict:
            case "tuned":
                return f"{what} is better than the linear probe here, beyond chance: use it."
            case "probe":
                return (
                    f"{what} is worse than the linear probe here, beyond chance: use the probe, or "
                    "start at a deeper layer (--from), or give more images."
                )
            case _:
                return (
                    "Chance may explain the difference from the linear probe, which is simpler and "
                    "quicker: prefer the probe, or give more images."
                )

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "weights": str(self.path),
            "model": self.model,
            "recipe": self.recipe.to_json(),
            "why": self.why,
            "kind": self.kind,
            "measure": self.measure,
            "tuned": scores_json(self.tuned),
            "probe": scores_json(self.probe),
            "gain": self.gain.to_json(),
            "advice": self.advice,
            "epochs": [one.to_json() for one in self.epochs],
            "best_epoch": self.best,
            "cache_bytes": self.cached,
            "seconds": self.seconds,
            "n_validation": self.n_watch,
        }


def score_of(result: Result) -> float:
    """Return what matters most of a result: recall, average precision, or R2."""
    if isinstance(result, RegressionResult):
        return result.mean_r2
    return next(iter(result.measures.values()))


def interval_of(result: Result) -> Share | None:
    """Return that score with its interval over test images; None of several numbers."""
    if isinstance(result, ProbeResult):
        true, said = (
            [getattr(p, name) for p in result.predictions] for name in ("true", "predicted")
        )
        return recall_interval(true, said, groups=result.test_groups)
    if isinstance(result, MultiLabelResult):
        drawn = SampledPrecision.of(
            as_floats(result.y), result.scores, result.kind, result.test_groups, seed=result.seed
        )
        return drawn.interval()
    if len(result.names) > 1:
        return None
    scores = result.scores
    return Share(
        float(scores.r2[0]), float(scores.r2_low[0]), float(scores.r2_high[0]), _LEVEL,
        int(scores.n[0]),
    )  # fmt: skip


def scores_json(result: Result) -> dict[str, Any]:
    """Return a result's scores with the interval of what matters most, JSON-ready."""
    told = result.to_json()
    shown = interval_of(result)
    if shown is not None:
        told["interval"] = {"low": shown.low, "high": shown.high, "level": shown.level}
    return told


def gain_of(tuned: Result, probe: Result, groups: npt.NDArray[np.int64] | None) -> Gain:
    """Compare two scores of the same test images.

    Parameters
    ----------
    tuned, probe : ProbeResult, MultiLabelResult or RegressionResult
        Of one kind.
    groups : ndarray of int64, shape (n,), or None
        The groups of the test images.

    Raises
    ------
    ProbeError
        The test images differ.
    """
    if isinstance(tuned, MultiLabelResult) and isinstance(probe, MultiLabelResult):
        found: Difference = tuned.against(probe)
        return Gain("mean average precision", found.difference, found.low, found.high, found.p)
    if isinstance(tuned, RegressionResult) and isinstance(probe, RegressionResult):
        return _of_numbers(tuned, probe, groups)
    assert isinstance(tuned, ProbeResult)
    assert isinstance(probe, ProbeResult)
    answers: Disagreement = tuned.against(probe)
    true = np.unique([p.true for p in tuned.predictions], return_inverse=True)[1]
    right = [
        np.array([p.true == p.predicted for p in one.predictions], np.float64)
        for one in (tuned, probe)
    ]
    of = np.eye(true.max() + 1)[true]  # (n, K)

    def difference(counts: npt.NDArray[np.int64]) -> Array:
        sizes = counts @ of
        more = (counts * (right[0] - right[1])) @ of
        each = np.where(sizes > 0, more / np.maximum(sizes, 1), np.nan)
        return np.asarray(np.nanmean(each, axis=1))

    value, low, high, _ = _sampled(difference, len(true), groups)
    return Gain(
        "mean class recall", value, low, high, answers.p, answers.only_first, answers.only_second
    )


def _of_numbers(
    tuned: RegressionResult, probe: RegressionResult, groups: npt.NDArray[np.int64] | None
) -> Gain:
    known = np.isfinite(tuned.y)
    truth = np.where(known, tuned.y, 0.0)
    better = np.where(known, (truth - probe.predicted) ** 2 - (truth - tuned.predicted) ** 2, 0.0)

    def difference(counts: npt.NDArray[np.int64]) -> Array:
        n = counts @ known
        mean = counts @ truth / np.maximum(n, 1)
        spread = counts @ truth**2 - n * mean**2
        each = np.where(
            spread > 1e-12, counts @ better / np.where(spread > 1e-12, spread, 1), np.nan
        )
        return np.asarray(np.nanmean(each, axis=1))

    value, low, high, p = _sampled(difference, len(truth), groups)
    return Gain("mean R2", value, low, high, p)


def _sampled(
    statistic: Any, count: int, groups: npt.NDArray[np.int64] | None
) -> tuple[float, float, float, float]:
    """Return a paired difference, its percentile interval, and a two-sided p-value."""
    of = None if groups is None else np.unique(groups, return_inverse=True)[1]
    value = float(statistic(np.ones((1, count), np.int64))[0])
    values = np.concatenate([statistic(counts) for counts in resampled(count, SAMPLES, 0, of)])
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    beyond = 1 + min(int((values <= 0).sum()), int((values >= 0).sum()))
    return value, float(low), float(high), min(1.0, 2 * beyond / (len(values) + 1))
