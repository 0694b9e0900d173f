"""How well layers account for target RDMs: scores, noise ceiling, and what differs from what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from vggfeat.errors import RepresentationError
from vggfeat.metrics import Correction, adjusted
from vggfeat.progress import Progress, silent
from vggfeat.representations.comparing import (
    Source,
    Title,
    conditions_of,
    groups_of,
    listed,
    number,
    sources_json,
    sources_of,
)
from vggfeat.representations.conditions import By
from vggfeat.representations.inference import (
    Over,
    Tested,
    Uncertainty,
    contrast,
    permutation_p,
    uncertainty,
)
from vggfeat.representations.rdms import RDMs
from vggfeat.representations.represented import How, Represented, represented, statistic
from vggfeat.showing import Drawn

if TYPE_CHECKING:
    from vggfeat.representations.matching import Item

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LayerFit:
    """How well a representation accounts for the targets.

    Attributes
    ----------
    title : Title
    value, low, high : float
        Mean similarity over targets, and its 95 % interval.
    each : ndarray of float64, shape (S,)
        For each target.
    p_above : float
        One-sided, from permutations of images: that it is above 0. NaN where not tested: where
        images are in groups, which may not be exchanged one by one.
    p_ceiling : float
        Two-sided, that it differs from the lower noise ceiling; NaN without one.
    """

    title: Title
    value: float
    low: float
    high: float
    each: Floats
    p_above: float
    p_ceiling: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two representations, and by how much one accounts for the targets better.

    Attributes
    ----------
    first, second : int
        Their positions.
    difference, low, high : float
        Of the first's value less the second's; its 95 % interval.
    p : float
        Two-sided, corrected.
    """

    first: int
    second: int
    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True, eq=False)
class Fits(Drawn):
    """How well representations account for targets.

    All p-values are corrected, those of each of the three tests among themselves.

    Attributes
    ----------
    sources : tuple of Source
        The last holds the targets.
    targets : tuple of str
    layers : tuple of LayerFit
    pairs : tuple of Pair
        Each two layers.
    ceiling : tuple of float, or None
        Lower and upper noise ceiling; None of one target.
    images : int
    by : str
    over : str
        What else could have been drawn: ``"images"``, ``"subjects"`` or ``"both"``.
    units : int
        Images, or groups of images, that count as one.
    correction : str
    how : How
    settings : dict
    """

    shown_as: ClassVar = "fits"
    sources: tuple[Source, ...]
    targets: tuple[str, ...]
    layers: tuple[LayerFit, ...]
    pairs: tuple[Pair, ...]
    ceiling: tuple[float, float] | None
    images: int
    by: str
    over: str
    units: int
    correction: str
    how: How
    settings: dict[str, Any]

    @property
    def best(self) -> int:
        """Position of the highest score."""
        values = [one.value for one in self.layers]
        return int(np.nanargmax(values)) if np.isfinite(values).any() else 0

    def from_best(self) -> list[float]:
        """Return for each layer the corrected p-value of its difference from the best; 1 there."""
        best = self.best
        found = [1.0] * len(self.layers)
        for pair in self.pairs:
            if best in (pair.first, pair.second):
                found[pair.second if pair.first == best else pair.first] = pair.p
        return found

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values; null where not defined or not tested."""
        return {
            **self.how.to_json(),
            **self.settings,
            "by": self.by,
            "conditions": self.images,
            "over": self.over,
            "units": self.units,
            "correction": self.correction,
            "sources": [sources_json(one) for one in self.sources],
            "targets": list(self.targets),
            "noise_ceiling": None if self.ceiling is None else listed(np.array(self.ceiling)),
            "layers": [
                {
                    "source": one.title.source + 1, "layer": one.title.layer,
                    "value": number(one.value), "low": number(one.low), "high": number(one.high),
                    "each": listed(one.each), "p_above_zero": number(one.p_above),
                    "p_ceiling": number(one.p_ceiling),
                }
                for one in self.layers
            ],
            "pairs": [
                {
                    "first": one.first + 1, "second": one.second + 1,
                    "difference": number(one.difference), "low": number(one.low),
                    "high": number(one.high), "p": number(one.p),
                }
                for one in self.pairs
            ],
        }  # fmt: skip


def compare_to(
    items: Sequence[Item],
    target: Item,
    layers: str | Iterable[str] | None = None,
    *,
    target_layer: str | None = None,
    similarity: str = "spearman",
    dissimilarity: str = "correlation",
    debiased: bool = True,
    bandwidth: float = 1.0,
    by: By = "image",
    common: bool = False,
    same_order: bool = False,
    max_images: int | None = None,
    over: Over | None = None,
    bootstrap: int = 1000,
    permutations: int = 1000,
    correction: Correction = "holm",
    folds: int = 2,
    seed: int = 0,
    progress: Progress = silent,
) -> Fits:
    """Say how well representations account for targets, and which does better than which.

    Parameters
    ----------
    items, layers, similarity, dissimilarity, debiased, bandwidth, by, common, same_order, \
    max_images :
        As for :func:`~vggfeat.representations.compare`.
    target : FeatureTable or RDMs
        RDMs of one or several subjects, or a layer of a store.
    target_layer : str, optional
        Of a target that is a store; may be left out where that has one layer.
    over : {"images", "subjects", "both"}, optional
        What intervals and tests generalise to: other images, by a bootstrap; other subjects, by
        their variance (paired t tests); or both, the default where there are several targets
        (:class:`~vggfeat.representations.Uncertainty`). Of one target it is images.
    bootstrap : int
        Samples of images, at least 2.
    permutations : int
        Orders of images, by which scores are tested against 0; 0 for no test.
    correction : {"holm", "bh", "none"}
        For tests of several layers: Holm's, or Benjamini and Hochberg's.

    Returns
    -------
    Fits

    Raises
    ------
    RepresentationError
        As of :func:`~vggfeat.representations.compare`; the target store has several layers; or
        `over` is subjects, of one target.
    """
    how = How(similarity, dissimilarity, debiased, bandwidth, folds, seed)
    how.check()
    if bootstrap < 2:
        raise RepresentationError(f"--bootstrap {bootstrap}; tests take 2 samples or more.")
    every = [*items, target]
    found = conditions_of(every, by, common, same_order, max_images, seed)
    models = represented(every, layers, found, range(len(items)))
    targets = represented(every, target_layer, found, [len(items)])
    if not models:
        raise RepresentationError("Nothing was given to compare with the target. Name a store.")
    if len(targets) > 1 and not isinstance(target, RDMs):
        raise RepresentationError(
            f"{target.path} has several layers; choose the target with --to-layer: "
            f"{', '.join(one.title for one in targets)}."
        )
    what = statistic([*models, *targets], how, len(found), progress)
    groups = groups_of(every, found)
    several = len(targets) > 1
    spread = uncertainty(
        what, len(models), over=over or ("both" if several else "images"), samples=bootstrap,
        seed=seed, groups=groups, progress=progress,
    )  # fmt: skip
    if permutations and groups is None:
        p_above = permutation_p(
            what, len(models), permutations=permutations, seed=seed, progress=progress
        )
    else:
        p_above = np.full(len(models), np.nan)
    fits, pairs = _tests(spread, models, p_above, correction)
    observed = spread.observed
    ceiling = None
    if observed.lower is not None and observed.upper is not None:
        ceiling = (float(observed.lower.mean()), float(observed.upper.mean()))
    return Fits(
        sources_of(every, found),
        tuple(one.title for one in targets),
        fits,
        pairs,
        ceiling,
        len(found),
        by,
        spread.over,
        spread.units,
        correction,
        how,
        {"seed": seed, "bootstrap": bootstrap, "permutations": permutations},
    )


def _tests(
    spread: Uncertainty, models: Sequence[Represented], p_above: Floats, correction: Correction
) -> tuple[tuple[LayerFit, ...], tuple[Pair, ...]]:
    observed, count = spread.observed, len(models)
    values = observed.values
    unit = np.eye(count + 1)
    own = [contrast(spread, unit[k], float(values[k])) for k in range(count)]
    ceilings = np.full(count, np.nan)
    if observed.lower is not None:
        level = float(observed.lower.mean())
        ceilings = np.array(
            [
                contrast(spread, unit[k] - unit[count], float(values[k]) - level).p
                for k in range(count)
            ]
        )
    ceilings, above = adjusted(ceilings, correction), adjusted(p_above, correction)
    fits = tuple(
        LayerFit(
            Title(one.source, one.title), float(values[k]), own[k].low, own[k].high,
            observed.similarity[k], float(above[k]), float(ceilings[k]),
        )
        for k, one in enumerate(models)
    )  # fmt: skip
    between: list[tuple[int, int, Tested]] = [
        (i, j, contrast(spread, unit[i] - unit[j], float(values[i] - values[j])))
        for i in range(count)
        for j in range(i + 1, count)
    ]
    p: Floats = adjusted([one.p for _, _, one in between], correction)
    pairs = tuple(
        Pair(i, j, one.value, one.low, one.high, float(corrected))
        for (i, j, one), corrected in zip(between, p, strict=True)
    )
    return fits, pairs
