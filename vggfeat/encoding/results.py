"""What encoding found, target by target and layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from vggfeat.metrics import adjusted
from vggfeat.showing import Drawn

Array = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """How well t targets are predicted for images that took no part in training.

    Attributes
    ----------
    r2, r : ndarray of float64, shape (t,)
        R2 and Pearson's correlation, the mean over folds of each; NaN for none.
    p : ndarray of float64, shape (t,)
        How often chance gives so large an r (:mod:`vggfeat.encoding.significance`); NaN where it
        was not asked.
    """

    r2: Array
    r: Array
    p: Array


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over targets with the standard interval of the bootstrap over test images.

    It is as wide as the samples' deviation says and lies about the value: samples of R2 are biased,
    since repeated images vary less (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993,
    chapter 13). It tells what other test images would change, not other training images or targets.

    Attributes
    ----------
    value, low, high : float
        NaN where there is none.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if not np.isfinite(self.value):
            return "-"
        ends = f" [{self.low:.3f}, {self.high:.3f}]" if np.isfinite(self.low) else ""
        return f"{self.value:.3f}{ends}"

    def to_json(self) -> dict[str, float | None]:
        """Return JSON-ready values."""
        return {name: number(getattr(self, name)) for name in ("value", "low", "high")}


@dataclass(frozen=True, slots=True, eq=False)
class LayerEncoding:
    """What a layer predicts.

    Attributes
    ----------
    layer : str
        Canonical name.
    dimension, used : int
        Length of its features, and of what a random projection left of them.
    scores : Scores
    inner : ndarray of float64, shape (t,)
        The score within the training images that layers are chosen by, the mean over folds.
    alpha : ndarray of float64, shape (k, t)
        The penalty of each fold and target.
    mean_r2, mean_r : Interval
        Over targets that have a score.
    behind : Interval
        How far the mean score (R2 or r, by which it was chosen) lies behind that of the layer that
        is best within the training images; 0 for that layer.
    p_behind : float
        How often chance sets the two so far apart, by the bootstrap, corrected by Holm over layers.
    chosen : float
        Share of targets whose best layer it is, of those predicted better than by chance
        (p < 0.05), or of all where that was not asked.
    seconds : float
    """

    layer: str
    dimension: int
    used: int
    scores: Scores
    inner: Array
    alpha: Array
    mean_r2: Interval
    mean_r: Interval
    behind: Interval
    p_behind: float
    chosen: float
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class BestLayers:
    """Each target by the layer that it chose within the training images of each fold.

    Attributes
    ----------
    layer : ndarray of int64, shape (t,)
        Which layer has the best mean score within the training images; -1 for none.
    agreement : ndarray of float64, shape (t,)
        Share of folds that chose it.
    scores : Scores
        Of each fold's own choice: the choice has seen no test image.
    """

    layer: Positions
    agreement: Array
    scores: Scores


@dataclass(frozen=True, slots=True, eq=False)
class Banded:
    """All layers together, each with a weight of its own (:mod:`vggfeat.encoding.bands`).

    Attributes
    ----------
    scores : Scores
        `p` is NaN.
    parts : ndarray of float64, shape (l, t)
        What each layer adds to R2; they sum to it, up to a fold's mean.
    weights : ndarray of float64, shape (l, t)
        The weights chosen, the mean over folds; they sum to 1.
    candidates : int
        How many sets of weights were tried.
    seconds : float
    """

    scores: Scores
    parts: Array
    weights: Array
    candidates: int
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Encoding(Drawn):
    """Responses of t targets predicted from the layers of a network.

    Attributes
    ----------
    names : tuple of str
        Of the targets.
    layers : tuple of LayerEncoding
        In the order they run.
    best : BestLayers
    banded : Banded or None
    ceiling, reliability : ndarray of float64, shape (t,)
        Noise ceiling of R2 of test images, and split-half reliability of mean responses
        (:mod:`vggfeat.encoding.averages`); NaN without repeats.
    reasons : dict of int to str
        Why targets, by their column, have no score.
    store, origin : str
        Where features and responses came from.
    matching, division : str
        How trials were matched to images, and how images were divided.
    n_images, n_trials : int
        That took part.
    repeats : (int, int)
        Fewest and most trials of an image.
    blank, missing, without : int
        See :class:`~vggfeat.encoding.matching.Matched`.
    n_folds : int
    groups : int or None
        How many groups images are of.
    nulls, samples, level, seed, scoring :
        What was asked for.
    distortion : float or None
        Largest error of squared distances that a random projection makes, as far as is promised.
    """

    shown_as: ClassVar = "encoding"
    names: tuple[str, ...]
    layers: tuple[LayerEncoding, ...]
    best: BestLayers
    banded: Banded | None
    ceiling: Array
    reliability: Array
    reasons: dict[int, str]
    store: str
    origin: str
    matching: str
    division: str
    n_images: int
    n_trials: int
    repeats: tuple[int, int]
    blank: int
    missing: int
    without: int
    n_folds: int
    groups: int | None
    nulls: int
    samples: int
    level: float
    seed: int
    scoring: str
    distortion: float | None

    @property
    def q(self) -> Array:
        """`p` of each target's best layers, adjusted by the false discovery rate, (t,)."""
        return adjusted(self.best.scores.p, "bh")

    def of_ceiling(self, scores: Scores, least: float = 0.1) -> Array:
        """Return R2 as a share of the noise ceiling, (t,); NaN where that is below `least`."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.ceiling >= least, scores.r2 / self.ceiling, np.nan)

    def columns(self) -> dict[str, list[str] | Array]:
        """Return all that is known of each target, by the name of a column."""
        best = self.best
        named = [self.layers[at].layer if at >= 0 else "" for at in best.layer.tolist()]
        found: dict[str, list[str] | Array] = {
            "target": list(self.names),
            "best_layer": named,
            "agreement": best.agreement,
            "r2": best.scores.r2,
            "r": best.scores.r,
            "p": best.scores.p,
            "q": self.q,
            "ceiling": self.ceiling,
            "reliability": self.reliability,
        }
        if self.banded is not None:
            found["r2_banded"], found["r_banded"] = self.banded.scores.r2, self.banded.scores.r
        for at, one in enumerate(self.layers):
            found[f"r2_{one.layer}"], found[f"r_{one.layer}"] = one.scores.r2, one.scores.r
            found[f"p_{one.layer}"] = one.scores.p
            if self.banded is not None:
                found[f"r2_banded_{one.layer}"] = self.banded.parts[at]
        found["reason"] = [self.reasons.get(at, "") for at in range(len(self.names))]
        return found

    def to_json(self, *, targets: bool = True) -> dict[str, Any]:
        """Return JSON-ready values; a number that there is not is null.

        Parameters
        ----------
        targets : bool
            Whether each target is told by itself.
        """
        told: dict[str, Any] = {
            "store": self.store, "responses": self.origin, "matching": self.matching,
            "division": self.division, "n_images": self.n_images, "n_trials": self.n_trials,
            "repeats": list(self.repeats), "blank_trials": self.blank,
            "missing_trials": self.missing, "images_without_responses": self.without,
            "n_folds": self.n_folds, "groups": self.groups, "n_targets": len(self.names),
            "scoring": self.scoring, "nulls": self.nulls, "samples": self.samples,
            "level": self.level, "seed": self.seed, "distortion": number(self.distortion),
            "best": self._means(self.best.scores),
            "layers": [
                {
                    "layer": one.layer, "dimension": one.dimension, "used": one.used,
                    "mean_r2": one.mean_r2.to_json(), "mean_r": one.mean_r.to_json(),
                    "behind": one.behind.to_json(), "p_behind": number(one.p_behind),
                    "chosen": number(one.chosen), **self._means(one.scores), "seconds": one.seconds,
                }
                for one in self.layers
            ],
            "banded": None
            if self.banded is None
            else {
                **self._means(self.banded.scores),
                "candidates": self.banded.candidates, "seconds": self.banded.seconds,
                "parts": {
                    one.layer: number(mean(self.banded.parts[at]))
                    for at, one in enumerate(self.layers)
                },
            },
            "median_ceiling": number(_median(self.ceiling)),
            "median_reliability": number(_median(self.reliability)),
        }  # fmt: skip
        if targets:
            columns = self.columns()
            told["targets"] = [
                {
                    name: values[at] if isinstance(values, list) else number(values[at])
                    for name, values in columns.items()
                }
                for at in range(len(self.names))
            ]
        return told

    def _means(self, scores: Scores) -> dict[str, float | int | None]:
        return {
            "r2": number(mean(scores.r2)),
            "r": number(mean(scores.r)),
            "r2_of_ceiling": number(mean(self.of_ceiling(scores))),
        }


def mean(values: Array) -> float:
    """Return the mean of what is finite; NaN where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def number(value: Any) -> float | None:
    """Return a number for JSON; None for what is not finite."""
    return None if value is None or not np.isfinite(value) else float(value)


def _median(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")
